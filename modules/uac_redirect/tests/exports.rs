//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use tandem_engine::catalogue::Modules;
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_sl::MODULE,
    &tandem_tm::MODULE,
    &tandem_uac_redirect::MODULE,
];
const MODULE_LINES: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
     loadmodule \"sl.so\"\nloadmodule \"tm.so\"\nloadmodule \"uac_redirect.so\"\n";
const INVITE: &str = "INVITE sip:bob@127.0.0.2 SIP/2.0\n\
    Via: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKa\nFrom: <sip:a@a>;tag=f\nTo: <sip:b@b>\n\
    Call-ID: c\nCSeq: 1 INVITE\nContent-Length: 0\n\n";

/// Where the call goes after a 302 with three contacts.
fn followed(params: &str, lines: &str) -> Vec<String> {
    let script = format!(
        "{MODULE_LINES}{params}route {{ t_on_failure(\"f\"); t_relay(); }} \
         failure_route[f] {{ {lines} t_relay(); }}"
    );
    let mut node = TestNode::new(&script, MODULES);
    node.udp("127.0.0.9:5060", INVITE);
    let sent = node.sent().into_iter().find(|(_, text)| text.starts_with("INVITE")).unwrap().1;
    let via = sent.lines().find(|line| line.starts_with("Via")).unwrap();
    node.udp(
        "127.0.0.2:5060",
        &format!(
            "SIP/2.0 302 x\n{via}\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKa\n\
             From: <sip:a@a>;tag=f\nTo: <sip:b@b>;tag=t\nCall-ID: c\nCSeq: 1 INVITE\n\
             Contact: <sip:low@127.0.0.3>;q=0.1, <sip:high@127.0.0.4>;q=0.9, <mailto:x@y>\n\
             Contact: <sip:mid@127.0.0.5>;q=0.5\nContent-Length: 0\n\n"
        ),
    );
    let invites = node.sent().into_iter().filter(|(_, text)| text.starts_with("INVITE"));
    invites.map(|(_, text)| text.split(['@', ':']).nth(1).unwrap().to_owned()).collect()
}

fn set(name: &str, value: &str) -> String {
    format!("modparam(\"uac_redirect\", \"{name}\", \"{value}\")\n")
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_uac_redirect::MODULE,
        &[
            ("param deny_filter", filters),
            ("param accept_filter", filters),
            ("param default_filter", filters),
            ("function set_deny_filter", own_filters),
            ("function set_accept_filter", own_filters),
            ("function get_redirects", redirects),
        ],
    );
}

fn redirects() {
    assert_eq!(followed("", "get_redirects();"), ["high", "mid", "low"]);
    assert_eq!(followed("", "get_redirects(2);"), ["high", "mid"]);
    assert_eq!(followed("", "get_redirects(2, 1);"), ["high"]);
    let script = format!("{MODULE_LINES}route {{ get_redirects(); }}");
    assert!(TestNode::try_new(&script, MODULES).is_err());
}

fn filters() {
    let get = "get_redirects();";
    assert_eq!(followed(&set("deny_filter", "high|low"), get), ["mid"]);
    let both = format!("{}{}", set("deny_filter", "high|low"), set("accept_filter", "^sip:HIGH"));
    assert_eq!(followed(&both, get), ["high", "mid"]);
    let only = format!("{}{}", set("default_filter", "deny"), set("accept_filter", "mid"));
    assert_eq!(followed(&only, get), ["mid"]);
    for wrong in [set("deny_filter", "("), set("default_filter", "perhaps")] {
        let script = format!("{MODULE_LINES}{wrong}route {{ exit; }}");
        assert!(TestNode::try_new(&script, MODULES).is_err());
    }
}

fn own_filters() {
    let get = |line: &str| format!("{line} get_redirects();");
    assert_eq!(followed("", &get("set_deny_filter(\"mid\", \"\");")), ["high", "low"]);
    let deny = set("deny_filter", "high");
    let reset = get("set_deny_filter(\"mid\", \"reset_default\");");
    assert_eq!(followed(&deny, &reset), ["high", "low"]);
    let added = get("set_deny_filter(\"mid\", \"\"); set_deny_filter(\"low\", \"reset_added\");");
    assert_eq!(followed(&deny, &added), ["mid"]);
    let accept = get("set_accept_filter(\"high\", \"\");");
    assert_eq!(followed(&deny, &accept), ["high", "mid", "low"]);
    let script = format!(
        "{MODULE_LINES}route {{ exit; }} failure_route[f] {{ \
        set_accept_filter(\"x\", \"never\"); }}"
    );
    assert!(TestNode::try_new(&script, MODULES).err().unwrap().contains("never"));
}
