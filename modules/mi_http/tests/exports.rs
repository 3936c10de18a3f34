//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use tandem_engine::catalogue::Modules;
use tandem_engine::endpoint::{Endpoint, HttpPage, HttpServes};
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_httpd::MODULE,
    &tandem_mi_http::MODULE,
];

fn page(setting: &str) -> Result<HttpPage, String> {
    let head = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\nloadmodule \"httpd.so\"\n\
        loadmodule \"mi_http.so\"\n";
    let node = TestNode::try_new(&format!("{head}{setting}\nroute {{ exit; }}"), MODULES)?;
    let mut endpoints = node.node().loaded().flat_map(|(_, _, m)| m.endpoints());
    match endpoints.next() {
        Some(Endpoint::Http(mut options)) => Ok(options.pages.remove(0)),
        other => panic!("{other:?}"),
    }
}

/// Accepted, and nothing comes of it.
fn moot(name: &str, value: &str) {
    let setting = format!("modparam(\"mi_http\", \"{name}\", {value})");
    assert_eq!(page(&setting).unwrap(), page("").unwrap());
    let row = tandem_mi_http::MODULE.params.iter().find(|p| p.name == name);
    assert!(row.unwrap().moot.is_some(), "{name}");
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_mi_http::MODULE,
        &[
            ("param root", || {
                assert_eq!(page("").unwrap().root, "mi");
                assert_eq!(page("modparam(\"mi_http\", \"root\", \"/rpc\")").unwrap().root, "rpc");
                let bad = page("modparam(\"mi_http\", \"root\", \"a b\")").unwrap_err();
                assert!(bad.contains("not one part of a path"), "{bad}");
            }),
            ("param trace_destination", || moot("trace_destination", "\"h\"")),
            ("param trace_bwlist", || moot("trace_bwlist", "\"b: ps\"")),
            ("param pretty_printing", || {
                assert_eq!(page("").unwrap().serves, HttpServes::Mi { pretty: false });
                let pretty = page("modparam(\"mi_http\", \"pretty_printing\", 1)").unwrap();
                assert_eq!(pretty.serves, HttpServes::Mi { pretty: true });
            }),
        ],
    );
}

#[test]
fn the_listener_has_to_be_loaded() {
    let script = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
        loadmodule \"mi_http.so\"\nroute { exit; }";
    assert!(TestNode::try_new(script, MODULES).err().unwrap().contains("httpd"));
}
