//! Requests of the node itself, and copies.

use tandem_engine::testing::Check;

use crate::common::*;

pub(super) const CHECKS: &[Check] = &[
    ("function t_new_request", new_request),
    ("statistic UAC_transactions", new_request),
    ("function t_replicate", replicate),
    ("param local_request_route", local_request_route),
    ("param local_reply_route", local_reply_route),
];

const NEW: &str = "route { t_new_request(\"MESSAGE\", \"sip:carol@127.0.0.3\", \
    \"Bob sip:bob@h\", \"sip:carol@h\", \"text/plain Hello Carol\", \"mine\"); \
    xlog(\"rc $rc\"); } \
    local_route { t_on_reply(\"r\"); append_hf(\"X-Local: $rm $avp(uac_ctx)\\r\\n\"); } \
    onreply_route[r] { xlog(\"answer $rs for $avp(uac_ctx)\"); }";

fn new_request() {
    let mut node = node(NEW);
    node.udp(CALLER, &request("OPTIONS", "a", ""));
    assert!(logged(&mut node, "rc 1"));
    let sent = sent_to(&mut node, SECOND).remove(0);
    assert!(sent.starts_with("MESSAGE sip:carol@127.0.0.3 SIP/2.0\r\n"), "{sent}");
    assert!(header(&sent, "From").starts_with("From: \"Bob\" <sip:bob@h>;tag="));
    assert_eq!(header(&sent, "To"), "To: <sip:carol@h>");
    assert_eq!(header(&sent, "Content-Type"), "Content-Type: text/plain");
    assert_eq!(header(&sent, "X-Local"), "X-Local: MESSAGE mine");
    assert!(header(&sent, "Call-ID").ends_with("@127.0.0.1"));
    assert!(sent.ends_with("\r\n\r\nHello Carol"));
    assert_eq!(sent.matches("Via:").count(), 1);
    assert_eq!(stat(&mut node, "UAC_transactions"), 1);
    node.advance_ms(600);
    assert_eq!(sent_to(&mut node, SECOND).len(), 1, "it is sent again");
    node.udp(SECOND, &reply_to(&sent, 200, ""));
    assert!(logged(&mut node, "answer 200 for mine"));
    node.advance_ms(40_000);
    assert!(node.sent().is_empty());
    assert_eq!(stat(&mut node, "inuse_transactions"), 0);

    for wrong in [
        "\"ME SSAGE\", \"sip:c@h\", \"sip:b@h\", \"sip:c@h\"",
        "\"MESSAGE\", \"nobody\", \"sip:b@h\", \"sip:c@h\"",
        "\"MESSAGE\", \"sip:c@h\", \"bob\", \"sip:c@h\"",
        "\"MESSAGE\", \"sip:c@h\", \"sip:b@h\", \"sip:c@h\", \"bodywithouttype\"",
    ] {
        let mut node =
            self::node(&format!("route {{ t_new_request({wrong}); xlog(\"rc $rc\"); }}"));
        node.udp(CALLER, &request("OPTIONS", "a", ""));
        assert!(logged(&mut node, "rc -1"), "{wrong}");
    }
}

fn replicate() {
    let mut node = node("route { t_replicate(\"sip:127.0.0.3:5099\"); t_reply(200, \"OK\"); }");
    node.udp(CALLER, &request("REGISTER", "a", ""));
    let sent = node.sent();
    let copy = &sent.iter().find(|(to, _)| to.to_string() == "127.0.0.3:5099").unwrap().1;
    assert!(copy.starts_with(&format!("REGISTER sip:bob@{CALLEE} SIP/2.0")));
    assert!(sent.iter().any(|(_, text)| text.starts_with("SIP/2.0 200")));
    node.udp("127.0.0.3:5099", &reply_to(copy, 500, ""));
    assert_eq!(codes(&mut node), [] as [u16; 0], "what becomes of the copy is nobody's affair");
    node.udp(CALLER, &request("REGISTER", "a", ""));
    assert_eq!(sent_lines(&mut node), [format!("{CALLER} SIP/2.0 200 OK")], "one copy only");
}

fn local_request_route() {
    let routes = format!("{NEW} route[mark] {{ append_hf(\"X-Mark: yes\\r\\n\"); }}");
    for (params, marks) in [("modparam(\"tm\", \"local_request_route\", \"mark\")", 1), ("", 0)] {
        let mut node = node_with(params, &routes);
        node.udp(CALLER, &request("OPTIONS", "a", ""));
        let sent = sent_to(&mut node, SECOND).remove(0);
        assert_eq!(sent.matches("X-Mark: yes").count(), marks);
        assert_eq!(sent.matches("X-Local").count(), 1);
    }
    let script = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\nloadmodule \"tm.so\"\n\
                  modparam(\"tm\", \"local_request_route\", \"none\")\nroute { exit; }";
    let errors = tandem_engine::testing::TestNode::try_new(script, MODULES).err().unwrap();
    assert!(errors.contains("there is no route[none]"), "{errors}");
}

fn local_reply_route() {
    let routes = "route { if ($rm == \"OPTIONS\") { t_reply(404, \"Nothing\"); } \
                  else { $T_fr_timeout = 2; t_relay(); } } \
                  route[mark] { append_hf(\"X-Own: $rs of $(<request>rm)\\r\\n\"); }";
    for (params, marks) in [("modparam(\"tm\", \"local_reply_route\", \"mark\")", 1), ("", 0)] {
        let mut node = node_with(params, routes);
        node.udp(CALLER, &request("OPTIONS", "a", ""));
        let reply = sent_to(&mut node, CALLER).remove(0);
        assert_eq!(reply.matches("X-Own: 404 of OPTIONS").count(), marks, "{reply}");
        node.udp(CALLER, &request("MESSAGE", "b", ""));
        node.advance_ms(2_100);
        let reply = sent_to(&mut node, CALLER).remove(0);
        assert_eq!(reply.matches("X-Own: 408 of MESSAGE").count(), marks, "{reply}");
    }
}
