//! Every entry of the export table, with a test that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "what is not as expected fails the test")]

use crate::common;

use common::*;
use tandem_engine::testing::{Check, cover};
use tandem_tm::MODULE as TM;

#[path = "exports/branches.rs"]
mod branches;
#[path = "exports/commands.rs"]
mod commands;
#[path = "exports/local.rs"]
mod local;
#[path = "exports/settings.rs"]
mod settings;
#[path = "exports/waiting.rs"]
mod waiting;

const PARAMS: &[Check] = &[
    ("param fr_timeout", fr_timeout),
    ("param fr_inv_timeout", fr_inv_timeout),
    ("param wt_timer", wt_timer),
    ("param T1_timer", t1_timer),
    ("param T2_timer", t2_timer),
    ("param restart_fr_on_each_reply", restart_fr_on_each_reply),
    ("param auto_100trying", auto_100trying),
    ("param disable_6xx_block", disable_6xx_block),
    ("param onreply_avp_mode", onreply_avp_mode),
    ("param minor_branch_flag", minor_branch_flag),
    ("param enable_stats", enable_stats),
];

const FUNCTIONS: &[Check] = &[
    ("function t_newtran", t_newtran),
    ("function t_reply", t_reply),
    ("function t_relay", t_relay_flags),
    ("function t_on_failure", t_on_failure),
    ("function t_on_reply", t_on_reply),
    ("function t_on_branch", t_on_branch),
    ("function t_check_status", t_check_status),
    ("function t_check_trans", t_check_trans),
    ("function t_was_cancelled", t_was_cancelled),
    ("function t_local_replied", t_local_replied),
    ("function t_flush_flags", t_flush_flags),
];

const VARIABLES: &[Check] = &[
    ("variable T_branch_idx", branch_variables),
    ("variable T_reply_code", t_check_status),
    ("variable T_ruri", branch_variables),
    ("variable T_fr_timeout", timeout_variables),
    ("variable T_fr_inv_timeout", timeout_variables),
    ("variable T_id", transaction_id),
];

const STATISTICS: &[Check] = &[
    ("statistic received_replies", reply_counters),
    ("statistic relayed_replies", reply_counters),
    ("statistic local_replies", reply_counters),
    ("statistic UAS_transactions", class_counters),
    ("statistic 2xx_transactions", class_counters),
    ("statistic 3xx_transactions", class_counters),
    ("statistic 4xx_transactions", class_counters),
    ("statistic 5xx_transactions", class_counters),
    ("statistic 6xx_transactions", class_counters),
    ("statistic inuse_transactions", wt_timer),
    ("statistic retransmission_req_T1_1", retransmission_counters),
    ("statistic retransmission_req_T1_2", retransmission_counters),
    ("statistic retransmission_req_T1_3", retransmission_counters),
    ("statistic retransmission_req_T2", retransmission_counters),
    ("statistic retransmission_rpl_T2", reply_retransmission_counter),
    ("statistic timeout_finalresponse", fr_timeout),
    ("statistic timeout_finalresponse_inv", fr_inv_timeout),
    ("statistic dropped_events", overflow_counter),
];

#[test]
fn every_entry_has_a_check_and_every_check_passes() {
    let all = [
        PARAMS,
        FUNCTIONS,
        VARIABLES,
        STATISTICS,
        local::CHECKS,
        branches::CHECKS,
        waiting::CHECKS,
        commands::CHECKS,
        settings::CHECKS,
    ];
    cover(&TM, &all.concat());
}

#[test]
fn parameters_that_make_no_sense_are_refused() {
    for (name, value) in [("fr_timeout", 0), ("T1_timer", -1), ("T2_timer", 100)] {
        let script = format!(
            "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\nloadmodule \"tm.so\"\n\
             modparam(\"tm\", \"{name}\", {value})\nroute {{ exit; }}"
        );
        let errors = tandem_engine::testing::TestNode::try_new(&script, MODULES).err().unwrap();
        assert!(errors.contains(name) || errors.contains("time"), "{errors}");
    }
}

const PLAIN: &str = "route { t_relay(); }";

fn with(name: &str, value: i32, routes: &str) -> tandem_engine::testing::TestNode {
    node_with(&format!("modparam(\"tm\", \"{name}\", {value})"), routes)
}

fn fr_timeout() {
    waits_for_a_final_reply("fr_timeout");
    // The name of the versions before 2.
    waits_for_a_final_reply("fr_timer");
}

fn waits_for_a_final_reply(param: &str) {
    let mut node = with(param, 2, PLAIN);
    start_call(&mut node);
    node.advance_ms(2_100);
    assert_eq!(codes(&mut node), [408]);
    assert_eq!(stat(&mut node, "timeout_finalresponse"), 1);
}

fn fr_inv_timeout() {
    waits_while_it_rings("fr_inv_timeout");
    waits_while_it_rings("fr_inv_timer");
}

fn waits_while_it_rings(param: &str) {
    let mut node = with(param, 3, PLAIN);
    let forwarded = start_call(&mut node);
    node.udp(CALLEE, &reply_to(&forwarded, 180, ""));
    node.advance_ms(3_100);
    assert_eq!(codes(&mut node), [180, 408]);
    assert_eq!(stat(&mut node, "timeout_finalresponse_inv"), 1);
}

fn wt_timer() {
    for (seconds, left) in [(1, 0), (9, 1)] {
        let mut node = with("wt_timer", seconds, "route { t_reply(200, \"OK\"); }");
        node.udp(CALLER, &request("OPTIONS", "a", ""));
        assert_eq!(stat(&mut node, "inuse_transactions"), 1);
        node.advance_ms(2_000);
        assert_eq!(stat(&mut node, "inuse_transactions"), left);
    }
}

fn t1_timer() {
    let mut node = with("T1_timer", 100, PLAIN);
    start_call(&mut node);
    node.advance_ms(150);
    assert_eq!(sent_to(&mut node, CALLEE).len(), 1);
}

fn t2_timer() {
    let mut node = with("T2_timer", 500, PLAIN);
    start_call(&mut node);
    node.advance_ms(2_600);
    assert_eq!(sent_to(&mut node, CALLEE).len(), 5);
}

fn restart_fr_on_each_reply() {
    for (value, expected) in [(0, vec![180, 183, 408]), (1, vec![180, 183])] {
        let params = format!(
            "modparam(\"tm\", \"fr_inv_timeout\", 3)\n\
             modparam(\"tm\", \"restart_fr_on_each_reply\", {value})"
        );
        let mut node = node_with(&params, PLAIN);
        let forwarded = start_call(&mut node);
        node.udp(CALLEE, &reply_to(&forwarded, 180, ""));
        node.advance_ms(2_000);
        node.udp(CALLEE, &reply_to(&forwarded, 183, ""));
        node.advance_ms(2_000);
        // The 408 is repeated until its ACK.
        let mut codes = codes(&mut node);
        codes.dedup();
        assert_eq!(codes, expected);
    }
}

fn auto_100trying() {
    let mut node = with("auto_100trying", 0, PLAIN);
    node.udp(CALLER, &invite());
    assert_eq!(codes(&mut node), [] as [u16; 0]);
}

const FORK: &str = "route { append_msg_branch(\"sip:bob@127.0.0.3\"); t_relay(); }";

fn disable_6xx_block() {
    for (value, expected) in [(0, vec![100, 603]), (1, vec![100])] {
        let mut node = with("disable_6xx_block", value, FORK);
        node.udp(CALLER, &invite());
        let sent = node.sent();
        let mut got: Vec<u16> = vec![100];
        node.udp(CALLEE, &reply_to(&sent[1].1, 603, ""));
        got.extend(codes(&mut node));
        assert_eq!(got, expected);
    }
}

fn onreply_avp_mode() {
    for (value, text) in [(0, "in reply <null>"), (1, "in reply kept")] {
        let routes = "route { $avp(x) = \"kept\"; t_on_reply(\"r\"); t_on_failure(\"f\"); \
                              t_relay(); } \
                      onreply_route[r] { xlog(\"in reply $avp(x)\"); } \
                      failure_route[f] { xlog(\"in failure $avp(x)\"); }";
        let mut node = with("onreply_avp_mode", value, routes);
        let forwarded = start_call(&mut node);
        node.udp(CALLEE, &reply_to(&forwarded, 404, ""));
        let logs: Vec<String> = node.logs().into_iter().map(|(_, line)| line).collect();
        assert!(logs.iter().any(|l| l.contains(text)), "{logs:?}");
        assert!(logs.iter().any(|l| l.contains("in failure kept")), "{logs:?}");
    }
}

fn minor_branch_flag() {
    let routes = "route { t_on_branch(\"b\"); append_msg_branch(\"sip:bob@127.0.0.3\"); \
                  t_relay(); } \
                  branch_route[b] { if ($rd == \"127.0.0.3\") { setbflag(fax); } }";
    for (params, expected) in
        [("modparam(\"tm\", \"minor_branch_flag\", \"fax\")", vec![486]), ("", vec![])]
    {
        let mut node = node_with(params, routes);
        node.udp(CALLER, &invite());
        let sent = node.sent();
        node.udp(CALLEE, &reply_to(&sent[1].1, 486, ""));
        assert_eq!(codes(&mut node), expected);
    }
}

fn enable_stats() {
    let mut node = with("enable_stats", 0, PLAIN);
    start_call(&mut node);
    assert_eq!(stat(&mut node, "UAS_transactions"), 0);
}

fn t_newtran() {
    let mut node = node("route { t_newtran(); xlog(\"rc $rc\"); t_newtran(); xlog(\"rc $rc\"); }");
    node.udp(CALLER, &invite());
    assert!(logged(&mut node, "rc 1"));
    assert_eq!(codes(&mut node), [100]);
    node.udp(CALLER, &invite());
    assert_eq!(codes(&mut node), [100], "the retransmission is answered");
    assert!(!node.logs().iter().any(|(_, l)| l.contains("rc")), "and the script stops");
}

fn t_reply() {
    let mut node = node(
        "route { t_reply(486, \"Busy\"); xlog(\"rc $rc\"); t_reply(404, \"No\"); \
              xlog(\"again $rc\"); }",
    );
    node.udp(CALLER, &invite());
    let logs: Vec<String> = node.logs().into_iter().map(|(_, line)| line).collect();
    assert!(["rc 1", "again -1"].iter().all(|w| logs.iter().any(|l| l.contains(w))), "{logs:?}");
    let replies = sent_to(&mut node, CALLER);
    let first: Vec<&str> = replies.iter().map(|r| r.lines().next().unwrap()).collect();
    assert_eq!(first, ["SIP/2.0 100 Giving it a try", "SIP/2.0 486 Busy"]);
    assert!(header(&replies[1], "To").contains(";tag="));
}

fn t_relay_flags() {
    let unsendable = |flags: &str| {
        let mut node = node(&format!(
            "route {{ $ru = \"sip:b@no.such.host\"; t_relay({flags}); xlog(\"rc $rc\"); }}"
        ));
        node.udp(CALLER, &invite());
        codes(&mut node)
    };
    assert_eq!(unsendable(""), [100, 476]);
    assert_eq!(unsendable("\"no-auto-477\""), [100]);

    let mut proxied = node("route { t_relay(, \"127.0.0.7:5099\"); }");
    proxied.udp(CALLER, &invite());
    assert_eq!(sent_to(&mut proxied, "127.0.0.7:5099").len(), 1);

    for (flags, reason) in [
        ("", "Reason: SIP;cause=487;text=\"ORIGINATOR_CANCEL\""),
        ("\"pass-reason-hdr\"", "Reason: Q.850;cause=16"),
    ] {
        let mut node = node(&format!("route {{ t_relay({flags}); }}"));
        let forwarded = start_call(&mut node);
        node.udp(CALLEE, &reply_to(&forwarded, 180, ""));
        node.udp(CALLER, &request("CANCEL", "a", "Reason: Q.850;cause=16\n"));
        let sent = sent_to(&mut node, CALLEE);
        assert_eq!(header(&sent[0], "Reason"), reason);
    }

    for (flags, cancels) in [("", 1), ("\"allow-no-cancel\"", 0)] {
        let routes = FORK.replace("t_relay()", &format!("t_relay({flags})"));
        let mut node = node(&routes);
        node.udp(CALLER, &request("INVITE", "a", "Request-Disposition: no-cancel\n"));
        let sent = node.sent();
        node.udp(SECOND, &reply_to(&sent[2].1, 180, ""));
        node.udp(CALLEE, &reply_to(&sent[1].1, 200, ""));
        assert_eq!(sent_to(&mut node, SECOND).len(), cancels);
    }
}

fn t_on_failure() {
    let mut node = node(
        "route { t_on_failure(\"f\"); t_relay(); } \
         failure_route[f] { xlog(\"failed with $T_reply_code $(<reply>rr)\"); \
                            $ru = \"sip:bob@127.0.0.3\"; t_relay(); }",
    );
    let forwarded = start_call(&mut node);
    node.udp(CALLEE, &reply_to(&forwarded, 404, ""));
    assert!(logged(&mut node, "failed with 404 Text404"));
    let again = sent_to(&mut node, SECOND).remove(0);
    assert!(header(&again, "Via").ends_with(".1"));
    // The route was cleared before it ran.
    node.udp(SECOND, &reply_to(&again, 486, ""));
    assert_eq!(codes(&mut node), [486]);
}

fn t_on_reply() {
    let mut node = node(
        "route { $rU = \"new\"; t_on_reply(\"r\"); t_on_branch(\"b\"); t_relay(); } \
         branch_route[b] { t_on_reply(\"own\"); } \
         onreply_route[own] { xlog(\"own $rs\"); } \
         onreply_route[r] { xlog(\"shared $rs $(<request>rm) $(<request>rU) $rU\"); if ($rs == 183) { drop; } }",
    );
    let forwarded = start_call(&mut node);
    node.udp(CALLEE, &reply_to(&forwarded, 183, ""));
    let logs: Vec<String> = node.logs().into_iter().map(|(_, line)| line).collect();
    let order: Vec<&String> =
        logs.iter().filter(|l| l.contains("own") || l.contains("shared")).collect();
    assert!(
        order[0].contains("own 183") && order[1].contains("shared 183 INVITE new <null>"),
        "{logs:?}"
    );
    assert_eq!(codes(&mut node), [] as [u16; 0], "drop keeps the provisional");
    node.udp(CALLEE, &reply_to(&forwarded, 200, ""));
    assert_eq!(codes(&mut node), [200]);
}

fn t_on_branch() {
    let mut node = node(
        "route { t_on_branch(\"b\"); append_msg_branch(\"sip:bob@127.0.0.3\"); t_relay(); } \
         branch_route[b] { if ($rd == \"127.0.0.2\") { drop; } $rU = \"carol\"; }",
    );
    node.udp(CALLER, &invite());
    let lines = sent_lines(&mut node);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[1], format!("{SECOND} INVITE sip:carol@127.0.0.3 SIP/2.0"));
}

fn t_check_status() {
    let mut node = node(
        "route { t_newtran(); t_reply(183, \"P\"); \
                 if (t_check_status(\"^18\")) { xlog(\"request $T_reply_code\"); } \
                 t_on_reply(\"r\"); t_on_failure(\"f\"); t_relay(); } \
         onreply_route[r] { if (t_check_status(\"48[0-9]\")) { xlog(\"reply $T_reply_code\"); } } \
         failure_route[f] { if (t_check_status(\"486\")) { xlog(\"winner $T_reply_code\"); } \
                            if (t_check_status(\"404\")) { xlog(\"wrong\"); } }",
    );
    let forwarded = start_call(&mut node);
    node.udp(CALLEE, &reply_to(&forwarded, 486, ""));
    let logs = node.logs().into_iter().map(|(_, l)| l).collect::<Vec<_>>().join("\n");
    for text in ["request 183", "reply 486", "winner 486"] {
        assert!(logs.contains(text), "{text}: {logs}");
    }
    assert!(!logs.contains("wrong"));
}

fn t_check_trans() {
    let mut node = node(
        "route { t_check_trans(); xlog(\"$rm rc $rc\"); if ($rm == \"INVITE\") { t_relay(); } }",
    );
    let forwarded = start_call(&mut node);
    assert!(logged(&mut node, "INVITE rc -1"));
    node.udp(CALLER, &request("CANCEL", "a", ""));
    assert!(logged(&mut node, "CANCEL rc 1"));
    node.udp(CALLER, &request("CANCEL", "unknown", ""));
    assert!(logged(&mut node, "CANCEL rc -1"));
    node.udp(CALLER, &invite());
    assert!(!node.logs().iter().any(|(_, l)| l.contains("rc")), "a retransmission ends the script");
    node.udp(CALLEE, &reply_to(&forwarded, 200, ""));
    node.udp(CALLER, &request("ACK", "a", ""));
    assert!(logged(&mut node, "ACK rc -2"));
    // Mostly it has a branch of its own.
    let from_end_to_end = request("ACK", "b", "").replace("c-b", "c-a");
    node.udp(CALLER, &from_end_to_end);
    assert!(logged(&mut node, "ACK rc -2"));
    node.udp(CALLER, &from_end_to_end.replace("CSeq: 1", "CSeq: 2"));
    assert!(logged(&mut node, "ACK rc -1"));
}

fn t_was_cancelled() {
    let routes = "route { t_on_failure(\"f\"); t_relay(); } failure_route[f] { \
                  if (t_was_cancelled()) { xlog(\"cancelled\"); } else { xlog(\"not so\"); } }";
    for (cancel, text) in [(true, "cancelled"), (false, "not so")] {
        let mut node = node(routes);
        let forwarded = start_call(&mut node);
        if cancel {
            node.udp(CALLER, &request("CANCEL", "a", ""));
        }
        node.udp(CALLEE, &reply_to(&forwarded, 487, ""));
        assert!(logged(&mut node, text));
    }
}

fn t_local_replied() {
    let routes = "route { t_on_failure(\"f\"); t_relay(); } failure_route[f] { \
                  if (t_local_replied(\"all\")) { xlog(\"all\"); } \
                  if (t_local_replied(\"branch\")) { xlog(\"branch\"); } \
                  if (t_local_replied(\"last\")) { xlog(\"last\"); } xlog(\"end\"); }";
    // (reply of the callee, whether it takes too long then, what is said)
    let cases = [
        (None, true, vec!["all", "branch", "last", "end"]),
        (Some(180), true, vec!["last", "end"]),
        (Some(404), false, vec!["end"]),
    ];
    for (code, late, expected) in cases {
        let mut node = node(routes);
        let forwarded = start_call(&mut node);
        node.logs();
        if let Some(code) = code {
            node.udp(CALLEE, &reply_to(&forwarded, code, ""));
        }
        if late {
            node.advance_ms(120_100);
        }
        let logs: Vec<String> = node.logs().into_iter().map(|(_, line)| line).collect();
        let found: Vec<&str> = ["all", "branch", "last", "end"]
            .into_iter()
            .filter(|word| logs.iter().any(|line| line.trim() == *word))
            .collect();
        assert_eq!(found, expected, "{code:?}");
    }
}

fn t_flush_flags() {
    for (flush, text) in [("t_flush_flags();", "flag 1"), ("", "flag -1")] {
        let mut node = node(&format!(
            "route {{ t_on_failure(\"f\"); t_relay(); setflag(late); {flush} }} \
             failure_route[f] {{ isflagset(late); xlog(\"flag $rc\"); }}"
        ));
        let forwarded = start_call(&mut node);
        node.udp(CALLEE, &reply_to(&forwarded, 404, ""));
        assert!(logged(&mut node, text));
    }
}

fn branch_variables() {
    let mut node = node(
        "route { t_on_branch(\"b\"); t_on_reply(\"r\"); t_on_failure(\"f\"); \
                 append_msg_branch(\"sip:bob@127.0.0.3\"); \
                 xlog(\"request $T_branch_idx\"); t_relay(); } \
         branch_route[b] { xlog(\"branch $T_branch_idx $T_ruri\"); } \
         onreply_route[r] { xlog(\"reply $T_branch_idx $T_ruri\"); } \
         failure_route[f] { xlog(\"failure $T_branch_idx $T_ruri\"); }",
    );
    node.udp(CALLER, &invite());
    let sent = node.sent();
    node.udp(SECOND, &reply_to(&sent[2].1, 404, ""));
    node.udp(CALLEE, &reply_to(&sent[1].1, 503, ""));
    let logs = node.logs().into_iter().map(|(_, l)| l).collect::<Vec<_>>().join("\n");
    for text in [
        "request <null>",
        "branch 0 sip:bob@127.0.0.2:5060",
        "branch 1 sip:bob@127.0.0.3",
        "reply 1 sip:bob@127.0.0.3",
        "failure 1 sip:bob@127.0.0.3",
    ] {
        assert!(logs.contains(text), "{text}: {logs}");
    }
}

fn timeout_variables() {
    let mut before = node("route { xlog(\"was $T_fr_timeout\"); $T_fr_timeout = 2; t_relay(); }");
    start_call(&mut before);
    assert!(logged(&mut before, "was 30"));
    before.advance_ms(2_100);
    assert_eq!(codes(&mut before), [408]);

    let mut after = node(
        "route { t_newtran(); $T_fr_inv_timeout = 3; xlog(\"is $T_fr_inv_timeout\"); t_relay(); }",
    );
    let forwarded = start_call(&mut after);
    assert!(logged(&mut after, "is 3"));
    after.udp(CALLEE, &reply_to(&forwarded, 180, ""));
    after.advance_ms(3_100);
    assert_eq!(codes(&mut after), [180, 408]);

    // Where a reply is looked at, what it starts is meant.
    let mut ringing = node(
        "route { t_on_reply(\"r\"); t_relay(); } \
         onreply_route[r] { if ($rs == 180) $T_fr_inv_timeout = 2; }",
    );
    let forwarded = start_call(&mut ringing);
    ringing.udp(CALLEE, &reply_to(&forwarded, 180, ""));
    ringing.advance_ms(2_100);
    assert_eq!(codes(&mut ringing), [180, 408]);
}

fn transaction_id() {
    let mut node = node("route { xlog(\"<$T_id>\"); t_relay(); xlog(\"id=$T_id;\"); }");
    let forwarded = start_call(&mut node);
    let logs = node.logs().into_iter().map(|(_, l)| l).collect::<Vec<_>>().join("\n");
    assert!(logs.contains("<<null>>"), "{logs}");
    let id = logs.split("id=").nth(1).and_then(|rest| rest.split(';').next()).unwrap();
    assert!(header(&forwarded, "Via").contains(&format!("z9hG4bK{id}.0")), "{id}");
}

fn reply_counters() {
    let mut node = node(PLAIN);
    let forwarded = start_call(&mut node);
    assert_eq!(stat(&mut node, "local_replies"), 1);
    node.udp(CALLEE, &reply_to(&forwarded, 180, ""));
    node.udp(CALLEE, &reply_to(&forwarded, 200, ""));
    assert_eq!(stat(&mut node, "received_replies"), 2);
    assert_eq!(stat(&mut node, "relayed_replies"), 2);
    assert_eq!(stat(&mut node, "local_replies"), 1);
}

fn class_counters() {
    for (code, class) in [(200, "2xx"), (302, "3xx"), (404, "4xx"), (501, "5xx"), (603, "6xx")] {
        let mut node = node(&format!("route {{ t_reply({code}, \"x\"); }}"));
        node.udp(CALLER, &request("OPTIONS", "a", ""));
        for other in ["2xx", "3xx", "4xx", "5xx", "6xx"] {
            let expected = u64::from(other == class);
            assert_eq!(stat(&mut node, &format!("{other}_transactions")), expected);
        }
        assert_eq!(stat(&mut node, "UAS_transactions"), 1);
    }
}

fn retransmission_counters() {
    let mut node = node(PLAIN);
    start_call(&mut node);
    node.advance_ms(12_000);
    let names = ["T1_1", "T1_2", "T1_3", "T2"];
    let counts = names.map(|name| stat(&mut node, &format!("retransmission_req_{name}")));
    assert_eq!(counts, [1, 1, 1, 2]);
}

fn reply_retransmission_counter() {
    let mut node = node("route { t_reply(404, \"x\"); }");
    node.udp(CALLER, &invite());
    node.advance_ms(1_600);
    assert_eq!(stat(&mut node, "retransmission_rpl_T2"), 2);
}

fn overflow_counter() {
    let mut node =
        node("route { t_on_reply(\"r\"); t_relay(); } onreply_route[r] { wait_10_s(); }");
    let forwarded = start_call(&mut node);
    for _ in 0..40 {
        node.udp(CALLEE, &reply_to(&forwarded, 180, ""));
    }
    // One runs, 32 wait.
    assert_eq!(stat(&mut node, "dropped_events"), 7);
}
