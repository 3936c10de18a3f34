//! Single branches: cancelled, found, shown.

use tandem_engine::testing::Check;

use crate::common::*;

pub(super) const CHECKS: &[Check] = &[
    ("function t_cancel_branch", cancel_branch),
    ("function t_get_branch_idx_by_attr", by_attr),
    ("function t_add_hdrs", add_headers),
    ("function t_add_cancel_reason", cancel_reason),
    ("variable bavp", bavp),
    ("variable T_branch_last_reply_code", shown),
    ("variable tm.branch.uri", shown),
    ("variable tm.branch.duri", shown),
    ("variable tm.branch.path", shown),
    ("variable tm.branch.q", shown),
    ("variable tm.branch.flags", shown),
    ("variable tm.branch.socket", shown),
    ("variable tm.branch.flag", shown),
    ("variable tm.branch.attr", by_attr),
    ("variable tm.branch.last_received", shown),
    ("variable tm.branch.type", shown),
];

fn cancel_branch() {
    for (flags, cancelled) in [("", vec![CALLEE]), ("a", vec![CALLEE, SECOND]), ("o", vec![SECOND])]
    {
        let mut node = node(&format!(
            "route {{ t_on_reply(\"r\"); append_msg_branch(\"sip:bob@127.0.0.3\"); t_relay(); }} \
             onreply_route[r] {{ if ($rs == 183) {{ t_cancel_branch(\"{flags}\"); }} }}"
        ));
        node.udp(CALLER, &invite());
        let sent = node.sent();
        node.udp(SECOND, &reply_to(&sent[2].1, 180, ""));
        node.udp(CALLEE, &reply_to(&sent[1].1, 180, ""));
        node.udp(CALLEE, &reply_to(&sent[1].1, 183, ""));
        let mut got: Vec<String> = node
            .sent()
            .iter()
            .filter(|(_, text)| text.starts_with("CANCEL"))
            .map(|(to, _)| to.to_string())
            .collect();
        got.sort();
        assert_eq!(got, cancelled, "{flags}");
    }
}

fn by_attr() {
    let mut node = node(
        "route { t_on_branch(\"b\"); t_on_failure(\"f\"); \
                 append_msg_branch(\"sip:bob@127.0.0.3\"); t_relay(); } \
         branch_route[b] { if ($rd == \"127.0.0.3\") { $msg.branch.attr(kind) = \"pstn\"; } } \
         failure_route[f] { $(tm.branch.attr(seen)[1]) = 7; \
           if (t_get_branch_idx_by_attr(\"kind\", \"pstn\", , $var(i))) { xlog(\"at $var(i)\"); } \
           if (t_get_branch_idx_by_attr(\"seen\", , 7, $var(i))) { xlog(\"seen $var(i)\"); } \
           if (!t_get_branch_idx_by_attr(\"kind\", \"pstn\", , $var(i), 2)) { xlog(\"no more\"); } \
           xlog(\"attr $(tm.branch.attr(kind)[1]) $(tm.branch.attr(kind)[0])\"); }",
    );
    node.udp(CALLER, &invite());
    let sent = node.sent();
    node.udp(CALLEE, &reply_to(&sent[1].1, 486, ""));
    node.udp(SECOND, &reply_to(&sent[2].1, 486, ""));
    let logs = node.logs().into_iter().map(|(_, l)| l).collect::<Vec<_>>().join("\n");
    for text in ["at 1", "seen 1", "no more", "attr pstn <null>"] {
        assert!(logs.contains(text), "{text}: {logs}");
    }
}

fn add_headers() {
    for begin in ["", "t_newtran();"] {
        let mut node = node(&format!(
            "route {{ {begin} t_add_hdrs(\"X-Extra: 1\"); t_on_failure(\"f\"); t_relay(); }} \
             failure_route[f] {{ $ru = \"sip:bob@127.0.0.3\"; t_relay(); }}"
        ));
        let first = start_call(&mut node);
        assert_eq!(header(&first, "X-Extra"), "X-Extra: 1");
        node.udp(CALLEE, &reply_to(&first, 486, ""));
        let second = sent_to(&mut node, SECOND).remove(0);
        assert_eq!(second.matches("X-Extra: 1").count(), 1);
    }
}

fn cancel_reason() {
    let mut node = node(
        "route { if ($rm == \"CANCEL\") { t_relay(); exit; } \
         t_add_cancel_reason(\"Reason: SIP;cause=200;text=\\\"mine\\\"\"); t_relay(); }",
    );
    let forwarded = start_call(&mut node);
    node.udp(CALLEE, &reply_to(&forwarded, 180, ""));
    node.udp(CALLER, &request("CANCEL", "a", ""));
    let sent = sent_to(&mut node, CALLEE).remove(0);
    assert_eq!(header(&sent, "Reason"), "Reason: SIP;cause=200;text=\"mine\"");
}

fn bavp() {
    let mut node = node(
        "route { t_on_branch(\"b\"); t_on_reply(\"r\"); t_on_failure(\"f\"); \
                 append_msg_branch(\"sip:bob@127.0.0.3\"); t_relay(); } \
         branch_route[b] { $bavp(who) = $rd; } \
         onreply_route[r] { xlog(\"reply of $bavp(who)\"); $bavp(code) = $rs; } \
         failure_route[f] { xlog(\"failed $bavp(who) $bavp(code)\"); }",
    );
    node.udp(CALLER, &invite());
    let sent = node.sent();
    node.udp(CALLEE, &reply_to(&sent[1].1, 503, ""));
    node.udp(SECOND, &reply_to(&sent[2].1, 486, ""));
    let logs = node.logs().into_iter().map(|(_, l)| l).collect::<Vec<_>>().join("\n");
    for text in ["reply of 127.0.0.2", "reply of 127.0.0.3", "failed 127.0.0.3 486"] {
        assert!(logs.contains(text), "{text}: {logs}");
    }
}

fn shown() {
    let mut node = node(
        "route { t_on_branch(\"b\"); t_on_reply(\"r\"); t_on_failure(\"f\"); $ru_q = 500; \
                 $du = \"sip:127.0.0.2:5060\"; append_msg_branch(\"sip:bob@127.0.0.3\"); \
                 t_relay(); } \
         branch_route[b] { if ($rd == \"127.0.0.3\") { setbflag(nat); } } \
         onreply_route[r] { xlog(\"here $tm.branch.uri $tm.branch.duri $tm.branch.last_received\"); \
           xlog(\"other $(tm.branch.uri[1]) <$(tm.branch.flags[1])> $(tm.branch.flag(nat)[1])\"); \
           $(tm.branch.flag(nat)[1]) = 0; \
           xlog(\"flag $(tm.branch.flag(nat)[1]) $(tm.branch.last_received[1])\"); } \
         failure_route[f] { \
           xlog(\"codes $(T_branch_last_reply_code[0]) $(T_branch_last_reply_code[1])\"); \
           xlog(\"heard $(tm.branch.last_received[0]) $(tm.branch.last_received[1])\"); \
           xlog(\"q $(tm.branch.q[0]) path $(tm.branch.path[0]) $(tm.branch.socket[0])\"); \
           xlog(\"type $(tm.branch.type[-1]) $(tm.branch.type[5])\"); }",
    );
    node.udp(CALLER, &invite());
    let sent = node.sent();
    let first = sent.iter().find(|(to, _)| to.to_string() == CALLEE).unwrap().1.clone();
    node.udp(CALLEE, &reply_to(&first, 486, ""));
    node.advance_ms(30_100);
    let logs = node.logs().into_iter().map(|(_, l)| l).collect::<Vec<_>>().join("\n");
    for text in [
        "here sip:bob@127.0.0.2:5060 sip:127.0.0.2:5060 <null>",
        "other sip:bob@127.0.0.3 <nat> 1",
        "flag 0 <null>",
        "codes 486 408",
        "heard 486 <null>",
        "q 500 path <null> udp:127.0.0.1:5060",
        "type normal <null>",
    ] {
        assert!(logs.contains(text), "{text}: {logs}");
    }
}

#[test]
fn a_star_lists_every_branch() {
    let mut node = node(&format!(
        "route {{ append_msg_branch(\"sip:bob@{SECOND}\"); t_on_failure(\"f\"); t_relay(); }} \
         failure_route[f] {{ xlog(\"all $(tm.branch.uri[*]) $(tm.branch.last_received[*])\"); \
           xlog(\"codes $(T_branch_last_reply_code[*])\"); }}"
    ));
    let forwarded = start_call(&mut node);
    let second = forwarded.replace(".0\n", ".1\n").replace(".0\r\n", ".1\r\n");
    node.udp(CALLEE, &reply_to(&forwarded, 404, ""));
    node.udp(SECOND, &reply_to(&second, 486, ""));
    let logs: Vec<String> = node.logs().into_iter().map(|(_, line)| line).collect();
    let all = format!("all sip:bob@{CALLEE}, sip:bob@{SECOND} 404, 486");
    assert!(logs.contains(&all) && logs.contains(&"codes 404, 486".to_owned()), "{logs:#?}");
}

#[test]
fn a_branch_route_sees_and_changes_its_own_branch() {
    let mut node = node(
        "route { setbflag(nat); t_on_branch(\"b\"); t_on_reply(\"r\"); t_relay(); } \
         branch_route[b] { xlog(\"own $tm.branch.uri $(tm.branch.flag(nat))\"); \
           $tm.branch.flag(nat) = 0; $tm.branch.attr(kind) = \"made\"; } \
         onreply_route[r] { xlog(\"then $(tm.branch.flag(nat)) $(tm.branch.attr(kind))\"); }",
    );
    let forwarded = start_call(&mut node);
    node.udp(CALLEE, &reply_to(&forwarded, 180, ""));
    let logs: Vec<String> = node.logs().into_iter().map(|(_, line)| line).collect();
    let own = format!("own sip:bob@{CALLEE} 1");
    assert!(logs.contains(&own) && logs.contains(&"then 0 made".to_owned()), "{logs:#?}");
}
