//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use tandem_engine::catalogue::Modules;
use tandem_engine::sockets::Proto;
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules =
    &[&tandem_engine::core::CORE, &tandem_proto_udp::MODULE, &tandem_proto_bin::MODULE];

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_proto_bin::MODULE,
        &[
            ("param bin_port", a_socket_without_a_port_gets_it),
            ("param bin_send_timeout", || moot("bin_send_timeout")),
            ("param bin_async", || moot("bin_async")),
            ("param bin_async_local_write_timeout", || moot("bin_async_local_write_timeout")),
            ("param bin_async_max_postponed_chunks", || moot("bin_async_max_postponed_chunks")),
            ("param bin_max_msg_chunks", || moot("bin_max_msg_chunks")),
        ],
    );
}

/// Accepted, and nothing comes of it.
fn moot(name: &str) {
    let script = format!(
        "socket=udp:127.0.0.1:5060\nsocket=bin:127.0.0.1\nloadmodule \"proto_udp.so\"\n\
         loadmodule \"proto_bin.so\"\nmodparam(\"proto_bin\", \"{name}\", 7)\n\
         route {{ exit; }}"
    );
    TestNode::new(&script, MODULES);
    let row = tandem_proto_bin::MODULE.params.iter().find(|p| p.name == name);
    assert!(row.unwrap().moot.is_some(), "{name}");
}

fn a_socket_without_a_port_gets_it() {
    for (setting, port) in [("", 5555), ("modparam(\"proto_bin\", \"bin_port\", 5566)", 5566)] {
        let script = format!(
            "socket=udp:127.0.0.1:5060\nsocket=bin:127.0.0.1\nloadmodule \"proto_udp.so\"\n\
             loadmodule \"proto_bin.so\"\n{setting}\nroute {{ exit; }}"
        );
        let node = TestNode::new(&script, MODULES);
        let sockets = &node.node().sockets;
        let ports: Vec<u16> = sockets.of(Proto::Bin).map(|(_, s)| s.addr.port()).collect();
        assert_eq!(ports, [port]);
    }
}
