//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use tandem_engine::catalogue::Modules;
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules =
    &[&tandem_engine::core::CORE, &tandem_proto_udp::MODULE, &tandem_maxfwd::MODULE];

fn said(settings: &str, expression: &str, header: &str) -> String {
    let head = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\nloadmodule \"maxfwd.so\"\n";
    let route = format!("route {{ {expression}; xlog(\"L_NOTICE\", \"$rc\"); }}");
    let mut node = TestNode::new(&format!("{head}{settings}\n{route}"), MODULES);
    let request = format!(
        "OPTIONS sip:a@127.0.0.1 SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKx\n\
         From: <sip:f@127.0.0.9>;tag=f\nTo: <sip:a@127.0.0.1>\nCall-ID: c\nCSeq: 1 OPTIONS\n\
         {header}Content-Length: 0\n\n"
    );
    node.udp("127.0.0.9:5060", &request);
    node.logs().pop().unwrap().1
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_maxfwd::MODULE,
        &[
            ("param max_limit", a_limit_out_of_range_is_refused),
            ("function mf_process_maxfwd_header", one_is_taken_off_or_the_header_added),
            ("function is_maxfwd_lt", it_is_compared),
        ],
    );
}

fn a_limit_out_of_range_is_refused() {
    let script = |limit: i32| {
        format!(
            "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\nloadmodule \"maxfwd.so\"\n\
             modparam(\"maxfwd\", \"max_limit\", {limit})\nroute {{ exit; }}"
        )
    };
    assert!(TestNode::try_new(&script(70), MODULES).is_ok());
    let errors = TestNode::try_new(&script(0), MODULES).err().unwrap();
    assert!(errors.contains("a hop limit goes from 1 to 256"), "{errors}");
}

fn one_is_taken_off_or_the_header_added() {
    let process = |header: &str| said("", "mf_process_maxfwd_header(10)", header);
    assert_eq!(process("Max-Forwards: 70\n"), "1");
    assert_eq!(process(""), "2");
    assert_eq!(process("Max-Forwards: 0\n"), "-1");
}

fn it_is_compared() {
    let lower = |header: &str| said("", "is_maxfwd_lt(10)", header);
    assert_eq!(lower("Max-Forwards: 9\n"), "1");
    assert_eq!(lower("Max-Forwards: 10\n"), "-1");
    assert_eq!(lower(""), "-2");
}
