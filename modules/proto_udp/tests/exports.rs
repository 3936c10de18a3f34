//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use tandem_engine::catalogue::Modules;
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules = &[&tandem_engine::core::CORE, &tandem_proto_udp::MODULE];

#[test]
fn every_entry_has_a_check() {
    cover(&tandem_proto_udp::MODULE, &[("param udp_port", a_socket_without_a_port_gets_it)]);
}

fn a_socket_without_a_port_gets_it() {
    for (setting, port) in [("", 5060), ("modparam(\"proto_udp\", \"udp_port\", 5080)", 5080)] {
        let script = format!(
            "socket=udp:127.0.0.1\nloadmodule \"proto_udp.so\"\n{setting}\nroute {{ exit; }}"
        );
        let node = TestNode::new(&script, MODULES);
        let ports: Vec<u16> = node.node().sockets.iter().map(|(_, s)| s.addr.port()).collect();
        assert_eq!(ports, [port]);
    }
}

#[test]
fn a_udp_socket_without_the_module_is_refused() {
    let errors = TestNode::try_new("socket=udp:127.0.0.1:5060\nroute { exit; }", MODULES).err();
    assert!(errors.unwrap().contains("a `udp` socket needs the module proto_udp"));
}
