//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use tandem_engine::catalogue::Modules;
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_tm::MODULE,
    &tandem_sipmsgops::MODULE,
    &tandem_textops::MODULE,
];
const HEAD: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
     loadmodule \"tm.so\"\nloadmodule \"sipmsgops.so\"\nloadmodule \"textops.so\"\n";
const REQUEST: &str = "MESSAGE sip:bob@127.0.0.1;x=1 SIP/2.0\n\
     Via: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKx\nFrom: <sip:f@127.0.0.9>;tag=f\n\
     To: <sip:a@127.0.0.1>\nCall-ID: c\nCSeq: 1 MESSAGE\nX-One: alpha\nX-Two: alpha\n\
     Content-Type: text/plain\nContent-Length: 23\n\none alpha\ntwo alpha\nx";

/// The message as it is relayed after some statements, and what was logged.
fn run(statements: &str) -> (String, Vec<String>) {
    let route = format!("route {{ {statements}; $du = \"sip:127.0.0.8\"; t_relay(); }}");
    let mut node = TestNode::new(&format!("{HEAD}{route}"), MODULES);
    node.udp("127.0.0.9:5060", REQUEST);
    let sent = node.sent().into_iter().map(|(_, text)| text);
    let relayed = sent.into_iter().find(|text| text.starts_with("MESSAGE")).unwrap();
    (relayed, node.logs().into_iter().map(|(_, text)| text).collect())
}

fn relayed(statements: &str) -> String {
    run(statements).0
}

/// The code that a call returns.
fn code(call: &str) -> String {
    run(&format!("{call}; xlog(\"L_NOTICE\", \"$rc\")")).1.pop().unwrap()
}

fn body(text: &str) -> &str {
    text.split_once("\r\n\r\n").unwrap().1
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_textops::MODULE,
        &[
            ("function search", search),
            ("function search_body", search_body),
            ("function search_append", search_append),
            ("function search_append_body", search_append),
            ("function replace", replace),
            ("function replace_body", replace_body),
            ("function replace_all", replace),
            ("function replace_body_all", replace_body),
            ("function replace_body_atonce", replace_body),
            ("function subst", subst),
            ("function subst_uri", subst_uri),
            ("function subst_user", subst_uri),
            ("function subst_body", subst),
        ],
    );
}

fn search() {
    assert_eq!(code("search(\"^x-one: ALPHA\")"), "1", "lines, and no case");
    assert_eq!(code("search(\"^MESSAGE sip:bob\")"), "1", "the first line, too");
    assert_eq!(code("search(\"X-One.*X-Two\")"), "-1", "a dot stops at the line's end");
    assert_eq!(code("search(\"$rU@\")"), "1", "a computed expression");
    assert_eq!(code("$var(re) = \"(\"; search($var(re))"), "-1");
}

fn search_body() {
    assert_eq!(code("search_body(\"^two\")"), "1");
    assert_eq!(code("search_body(\"x-one\")"), "-1");
}

fn search_append() {
    let text = relayed("search_append(\"X-One: al\", \"**\")");
    assert!(text.contains("\r\nX-One: al**pha\r\nX-Two: alpha\r\n"), "{text}");
    let text = relayed("search_append_body(\"one\", \"$rU\")");
    assert!(body(&text).starts_with("onebob alpha\r\n"), "{text}");
    assert!(text.contains("Content-Length: 26\r\n"), "{text}");
    assert_eq!(code("search_append(\"nosuch\", \"x\")"), "-1");
    assert_eq!(code("search_append_body(\"X-One\", \"x\")"), "-1");
}

fn replace() {
    let text = relayed("replace(\"alpha\", \"b\")");
    assert!(text.contains("X-One: b\r\nX-Two: alpha\r\n") && body(&text).contains("alpha"));
    let text = relayed("replace_all(\"alpha\", \"b\")");
    assert!(text.contains("X-One: b\r\nX-Two: b\r\n"), "{text}");
    assert_eq!(body(&text), "one b\r\ntwo b\r\nx");
    assert!(text.contains("Content-Length: 15\r\n"), "{text}");
    assert_eq!(code("replace(\"sip:bob\", \"x\")"), "-1", "not the first line");
    assert_eq!(code("replace_all(\"nosuch\", \"x\")"), "-1");
    // Goes together with other changes of the same message.
    let text =
        relayed("remove_hf(\"X-Two\"); replace_all(\"alpha\", \"b\"); append_hf(\"A: 1\\r\\n\")");
    assert!(text.contains("X-One: b\r\n") && text.contains("\r\nA: 1\r\n"), "{text}");
}

fn replace_body() {
    assert_eq!(body(&relayed("replace_body(\"alpha\", \"b\")")), "one b\r\ntwo alpha\r\nx");
    assert_eq!(
        body(&relayed("replace_body_all(\"^(one|two)\", \"b\")")),
        "b alpha\r\nb alpha\r\nx"
    );
    assert_eq!(code("replace_body_all(\"one.*two\", \"b\")"), "-1");
    assert_eq!(body(&relayed("replace_body_atonce(\"one.*two\", \"b\")")), "b alpha\r\nx");
    assert_eq!(code("replace_body_atonce(\"^two\", \"b\")"), "-1");
    assert_eq!(code("replace_body(\"nosuch\", \"b\")"), "-1");
}

fn subst() {
    let text = relayed("subst(\"/^X-(One|Two): (alpha)/Y-\\1: \\2 $rU \\0/g\")");
    assert!(text.contains("\r\nY-One: alpha bob X-One: alpha\r\n"), "{text}");
    assert!(text.contains("\r\nY-Two: alpha bob X-Two: alpha\r\n"), "{text}");
    // As with POSIX, a line ends before its LF, and its CR belongs to it.
    let text = relayed("subst(\"/^X-One:(.*)$/Y-One:\\1/\")");
    assert!(text.contains("\r\nY-One: alpha\r\nX-Two: alpha\r\n"), "{text}");
    assert_eq!(code("subst(\"/x-one/y/\")"), "-1", "case counts without the flag");
    assert_eq!(code("subst(\"/x-one/y/i\")"), "1");
    assert_eq!(body(&relayed("subst_body(\"|alpha|beta|\")")), "one beta\r\ntwo alpha\r\nx");
    assert_eq!(code("subst_body(\"/nosuch/x/\")"), "-1");
    let wrong = format!("{HEAD}route {{ subst(\"/a/b\"); }}");
    let errors = TestNode::try_new(&wrong, MODULES).err().unwrap();
    assert!(errors.contains("a delimiter is missing"), "{errors}");
}

fn subst_uri() {
    let uri = |call: &str| run(&format!("{call}; xlog(\"L_NOTICE\", \"$rc $ru\")")).1.remove(0);
    assert_eq!(
        uri("subst_uri(\"/^sip:([a-z]+)@(.*)$/sip:+49\\1@\\2;y/\")"),
        "1 sip:+49bob@127.0.0.1;x=1;y"
    );
    assert_eq!(uri("subst_uri(\"/nosuch/x/\")"), "-1 sip:bob@127.0.0.1;x=1");
    assert_eq!(uri("subst_user(\"/b/$var(none)d/g\")"), "1 sip:dod@127.0.0.1;x=1");
    assert_eq!(uri("subst_user(\"/^bob$/al/\")"), "1 sip:al@127.0.0.1;x=1");
    assert_eq!(uri("subst_user(\"/127/x/\")"), "-1 sip:bob@127.0.0.1;x=1");
}
