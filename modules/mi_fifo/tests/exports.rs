//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::path::Path;

use tandem_engine::catalogue::Modules;
use tandem_engine::endpoint::{Endpoint, FifoOptions, Owner};
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules =
    &[&tandem_engine::core::CORE, &tandem_proto_udp::MODULE, &tandem_mi_fifo::MODULE];

fn try_node(setting: &str) -> Result<TestNode, String> {
    let head =
        "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\nloadmodule \"mi_fifo.so\"\n";
    TestNode::try_new(&format!("{head}{setting}\nroute {{ exit; }}"), MODULES)
}

fn options(param: &str, value: &str) -> FifoOptions {
    let setting = if param.is_empty() {
        String::new()
    } else {
        format!("modparam(\"mi_fifo\", \"{param}\", {value})")
    };
    let node = try_node(&setting).unwrap_or_else(|e| panic!("{e}"));
    let mut endpoints = node.node().loaded().flat_map(|(_, _, m)| m.endpoints());
    match endpoints.next() {
        Some(Endpoint::Fifo(options)) => options,
        other => panic!("{other:?}"),
    }
}

/// Accepted, and nothing comes of it.
fn moot(name: &str, value: &str) {
    assert_eq!(options(name, value), options("", ""));
    let row = tandem_mi_fifo::MODULE.params.iter().find(|p| p.name == name);
    assert!(row.unwrap().moot.is_some(), "{name}");
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_mi_fifo::MODULE,
        &[
            ("param fifo_name", || {
                assert_eq!(options("", "").path, Path::new("/tmp/opensips_fifo"));
                assert_eq!(options("fifo_name", "\"/run/f\"").path, Path::new("/run/f"));
            }),
            ("param fifo_mode", || {
                assert_eq!(options("", "").mode, 0o660);
                assert_eq!(options("fifo_mode", "0600").mode, 0o600);
                let errors = try_node("modparam(\"mi_fifo\", \"fifo_mode\", 01777)").err().unwrap();
                assert!(errors.contains("permissions go from 0 to 0777"), "{errors}");
            }),
            ("param fifo_group", || {
                assert_eq!(options("fifo_group", "7").group, Some(Owner::Id(7)));
            }),
            ("param fifo_user", || {
                assert_eq!(options("fifo_user", "\"sip\"").user, Some(Owner::Name("sip".into())));
            }),
            ("param reply_dir", || {
                assert_eq!(options("reply_dir", "\"/run/r\"").reply_dir, Path::new("/run/r"));
            }),
            ("param trace_destination", || moot("trace_destination", "\"h\"")),
            ("param trace_bwlist", || moot("trace_bwlist", "\"b: ps\"")),
            ("param pretty_printing", || {
                assert!(!options("", "").pretty && options("pretty_printing", "1").pretty);
            }),
        ],
    );
}
