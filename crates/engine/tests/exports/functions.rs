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
    ("function append_msg_branch", || {
        flag("", "append_msg_branch(\"sip:b@b\", \"0.5\")", "set");
        flag("", "append_msg_branch(\"nonsense\")", "not");
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
             raise_event(\"E_MINE\", $avp(n), $avp(v)); raise_event(\"E_MINE\", $avp(v)); }
             event_route[E_MINE] { xlog(\"L_NOTICE\", \"$param(a) $param(b) $param(1)\");";
        let mut node = node("", route);
        node.udp(PHONE, REQUEST);
        let lines: Vec<String> = node.logs().into_iter().map(|l| l.1).collect();
        assert_eq!(lines, ["1 2 1", "<null> <null> 1"]);
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
