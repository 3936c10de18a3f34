//! Functions of the core.

use tandem_engine::testing::Check;

use super::{PHONE, REQUEST, flag, node, target};

pub(super) const CHECKS: &[Check] = &[
    ("function setflag", || flag("setflag(\"F\");", "isflagset(\"F\")", "set")),
    ("function resetflag", || {
        flag("setflag(\"F\"); resetflag(\"F\");", "isflagset(\"F\")", "not");
    }),
    ("function isflagset", || flag("setflag(\"G\");", "isflagset(\"F\")", "not")),
    ("function setbflag", || flag("setbflag(\"F\");", "isbflagset(\"F\")", "set")),
    ("function resetbflag", || {
        flag("setbflag(\"F\"); resetbflag(\"F\");", "isbflagset(\"F\")", "not");
    }),
    ("function isbflagset", || flag("setbflag(\"G\");", "isbflagset(\"F\")", "not")),
    ("function sethost", || target("sethost(\"h.org\");", "$ru", "sip:bob@h.org:5070;x=1")),
    ("function sethostport", || target("sethostport(\"h:1\");", "$ru", "sip:bob@h:1;x=1")),
    ("function setuser", || target("setuser(\"u\");", "$ru", "sip:u@example.org:5070;x=1")),
    ("function setport", || target("setport(\"9\");", "$ru", "sip:bob@example.org:9;x=1")),
    ("function seturi", || target("seturi(\"sip:z@z\");", "$ru", "sip:z@z")),
    ("function prefix", || target("prefix(\"00\");", "$rU", "00bob")),
    ("function strip", || target("strip(1);", "$rU", "ob")),
    ("function strip_tail", || target("strip_tail(1);", "$rU", "bo")),
    ("function revert_uri", || target("setuser(\"u\"); revert_uri();", "$rU", "bob")),
    ("function setdsturi", || target("setdsturi(\"sip:d\");", "$du", "sip:d")),
    ("function resetdsturi", || target("setdsturi(\"sip:d\"); resetdsturi();", "$du", "<null>")),
    ("function isdsturiset", || flag("setdsturi(\"sip:d\");", "isdsturiset()", "set")),
    ("function setuserpass", || {
        target("setuserpass(\"p\");", "$ru", "sip:bob:p@example.org:5070;x=1");
    }),
    ("function append_msg_branch", || {
        flag("", "append_msg_branch(\"sip:b@b\", \"0.5\")", "set");
        flag("", "append_msg_branch(\"nonsense\")", "not");
        let add = "$du = \"sip:d\"; append_msg_branch(\"sip:b@b\", , \"inherite\");";
        target(add, "$(msg.branch.duri[1])", "sip:d");
    }),
    ("function append_branch_old", || {
        let add = "$du = \"sip:d\"; append_branch_old(); append_branch(\"sip:b@b\", \"0.5\");";
        let all = "sip:bob@example.org:5070;x=1, sip:bob@example.org:5070;x=1, sip:b@b";
        target(add, "$(msg.branch.uri[*])", all);
        target(add, "$(msg.branch.duri[1]) $(msg.branch.q[2])", "sip:d 500");
    }),
    ("function remove_msg_branch", || {
        let add = "$branch = \"sip:a@a\"; $branch = \"sip:b@b\"; remove_msg_branch(0);";
        target(add, "$(branch(uri)[*])", "sip:b@b");
        flag("", "remove_msg_branch(0)", "not");
    }),
    ("function move_msg_branch", || {
        let add = "$ru = \"sip:r@r\"; $branch = \"sip:a@a\"; $branch = \"sip:b@b\";";
        let is = |call: &str, all: &str| {
            target(&format!("{add} {call}"), "$(msg.branch.uri[*])", all);
        };
        is("move_msg_branch(1);", "sip:b@b, sip:a@a");
        is("move_msg_branch(1, 0, \"keep\");", "sip:r@r, sip:b@b, sip:b@b");
        is("move_msg_branch(, 1, \"keep\");", "sip:r@r, sip:a@a, sip:r@r");
        flag(add, "move_msg_branch(7)", "not");
    }),
    ("function swap_msg_branches", || {
        let add = "$ru = \"sip:r@r\"; $branch = \"sip:a@a\"; swap_msg_branches(0);";
        target(add, "$(msg.branch.uri[*])", "sip:a@a, sip:r@r");
    }),
    ("function serialize_branches", serial),
    ("function next_branches", serial),
    ("function forward", || {
        let mut node = node("", "$du = \"sip:127.0.0.8\"; forward();");
        node.udp(PHONE, REQUEST);
        node.udp(PHONE, REQUEST);
        let sent = node.sent();
        assert_eq!(sent[0].0.to_string(), "127.0.0.8:5060");
        assert!(sent[0].1.contains("\r\nVia: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bK"));
        assert_eq!(sent[0], sent[1], "a retransmission has the same branch");
        flag("", "forward(\"udp:127.0.0.7:9\")", "set");
        flag("", "forward(\"nowhere.invalid\")", "not");
    }),
    ("function send", || {
        let mut node = node("", "send(\"udp:127.0.0.7:9\", \"X-A: 1\\r\\n\");");
        node.udp(PHONE, REQUEST);
        let sent = node.sent();
        assert_eq!(sent[0].0.to_string(), "127.0.0.7:9");
        assert_eq!(sent[0].1.matches("Via:").count(), 1, "none of ours");
        assert!(sent[0].1.contains("\r\nX-A: 1\r\n"));
        flag("", "send(\"127.0.0.7\", \"X-A: 1\")", "not");
    }),
    ("function add_local_rport", || via("add_local_rport();", ";rport\r\n")),
    ("function set_advertised_address", || {
        via("set_advertised_address(\"me.org\");", "UDP me.org:5060;");
        flag("", "set_advertised_address(\"a b\")", "not");
    }),
    ("function set_advertised_port", || {
        via("set_advertised_port(\"5099\");", "UDP 127.0.0.1:5099;");
        flag("", "set_advertised_port(\"0\")", "not");
    }),
    ("function set_via_handling", || via("set_via_handling(\"add-local-rport\");", ";rport\r\n")),
    ("function pv_printf", || target("pv_printf($var(x), \"<$fU>\");", "$var(x)", "<al>")),
    ("function avp_print", || {
        let mut node = node("log_level=3", "$avp(a) = \"x\"; $avp(b) = 2; avp_print();");
        node.udp(PHONE, REQUEST);
        let lines: Vec<String> = node.logs().into_iter().map(|l| l.1).collect();
        assert_eq!(lines, ["AVP b = 2", "AVP a = x"]);
    }),
    ("function construct_uri", || {
        let call = "construct_uri(\"sip\", \"u\", \"d.org\", \"9\", \"a=b\", $var(u));";
        target(call, "$var(u)", "sip:u@d.org:9;a=b");
        flag("", "construct_uri(\"sip\", , \"d e\", , , $var(u))", "not");
    }),
    ("function get_timestamp", || {
        target("get_timestamp($var(s), $var(u));", "$var(s) $var(u)", "1800000000 0");
    }),
    ("function force_rport", || {
        for (route, port) in [("", 5999), ("force_rport();", 5062)] {
            let mut node = node("", &format!("{route} sl_send_reply(200, \"OK\");"));
            node.udp(PHONE, REQUEST);
            assert_eq!(node.sent()[0].0.port(), port);
        }
    }),
    ("function force_send_socket", || {
        flag("", "force_send_socket(\"udp:127.0.0.1:5060\")", "set");
        flag("", "force_send_socket(\"udp:127.0.0.1:1\")", "not");
    }),
    ("function is_myself", || {
        flag("", "is_myself(\"sip.example.org\")", "set");
        flag("", "is_myself(\"127.0.0.1\", 5060)", "set");
        flag("", "is_myself(\"example.org\")", "not");
    }),
    ("function raise_event", || {
        let route = "$avp(n) = \"a\"; $avp(n) = \"b\"; $avp(v) = 1; $avp(v) = 2; \
             raise_event(\"E_MINE\", $avp(n), $avp(v)); raise_event(\"E_MINE\", $avp(v)); \
             raise_event(\"E_MINE\", , $avp(v)); }
             event_route[E_MINE] { xlog(\"L_NOTICE\", \"$param(a) $param(b) $param(1)\");";
        let mut node = node("", route);
        node.udp(PHONE, REQUEST);
        let lines: Vec<String> = node.logs().into_iter().map(|l| l.1).collect();
        assert_eq!(lines, ["1 2 1", "<null> <null> 1", "<null> <null> 1"]);
        flag("$avp(n) = \"a\";", "raise_event(\"E_X\", $avp(n), $avp(v))", "not");
    }),
    ("function subscribe_event", || {
        // What succeeds is checked beside the module that carries events out.
        flag("", "subscribe_event(\"E_X\", \"udp:127.0.0.1:9\")", "not");
    }),
    ("function sr_check_status", || {
        flag("", "sr_check_status(\"core\")", "set");
        flag("", "sr_check_status(\"core\", \"nosuch\")", "not");
    }),
];

/// Sends a request on and looks at our Via.
fn via(statement: &str, expected: &str) {
    let mut node = node("", &format!("{statement} forward(\"127.0.0.8\");"));
    node.udp(PHONE, REQUEST);
    let sent = node.sent().pop().unwrap().1;
    let line = sent.lines().find(|l| l.starts_with("Via:")).unwrap().to_owned() + "\r\n";
    assert!(line.contains(expected), "{line}");
    let shown = line.split(' ').nth(2).unwrap().split(';').next().unwrap();
    let reply = format!(
        "SIP/2.0 200 OK\n{}Via: SIP/2.0/UDP 127.0.0.9:5999;branch=z9hG4bKx\nFrom: <sip:a@a>;tag=f\n\
         To: <sip:b@b>;tag=t\nCall-ID: c\nCSeq: 1 MESSAGE\nContent-Length: 0\n\n",
        line.replace("\r\n", "\n")
    );
    node.udp("127.0.0.8:5060", &reply);
    assert_eq!(node.sent().len(), 1, "the reply to {shown} is known as ours");
}

fn serial() {
    let route = "$ru = \"sip:a@a\"; $ru_q = 500; append_msg_branch(\"sip:b@b\", \"0.9\");
        append_msg_branch(\"sip:c@c\", \"0.5\"); append_msg_branch(\"sip:d@d\", \"0.1\");
        serialize_branches(1);
        while (next_branches()) { xlog(\"L_NOTICE\", \"$rc $(msg.branch.uri[*])\"); }";
    let mut node = node("", route);
    node.udp(PHONE, REQUEST);
    let lines: Vec<String> = node.logs().into_iter().map(|l| l.1).collect();
    assert_eq!(lines, ["1 sip:b@b", "1 sip:a@a, sip:c@c", "2 sip:d@d"]);
}
