//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::path::PathBuf;

use tandem_engine::catalogue::Modules;
use tandem_engine::endpoint::{Endpoint, MiDatagramOptions, MiSocket, Owner};
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules =
    &[&tandem_engine::core::CORE, &tandem_proto_udp::MODULE, &tandem_mi_datagram::MODULE];

fn with(settings: &[(&str, &str)]) -> Result<MiDatagramOptions, String> {
    let mut script = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
        loadmodule \"mi_datagram.so\"\n"
        .to_owned();
    for (name, value) in settings {
        script += &format!("modparam(\"mi_datagram\", \"{name}\", {value})\n");
    }
    let node = TestNode::try_new(&format!("{script}route {{ exit; }}"), MODULES)?;
    let mut endpoints = node.node().loaded().flat_map(|(_, _, m)| m.endpoints());
    match endpoints.next() {
        Some(Endpoint::MiDatagram(options)) => Ok(options),
        other => panic!("{other:?}"),
    }
}

/// The options with a socket and one more setting.
fn options(name: &str, value: &str) -> MiDatagramOptions {
    with(&[("socket_name", "\"/run/mi\""), (name, value)]).unwrap_or_else(|e| panic!("{e}"))
}

fn unix(name: &str, value: &str) -> (u32, Option<Owner>, Option<Owner>) {
    match options(name, value).socket {
        MiSocket::Unix { mode, user, group, .. } => (mode, user, group),
        other => panic!("{other:?}"),
    }
}

/// Accepted, and nothing comes of it.
fn moot(name: &str, value: &str) {
    assert_eq!(options(name, value), options("pretty_printing", "0"));
    let row = tandem_mi_datagram::MODULE.params.iter().find(|p| p.name == name);
    assert!(row.unwrap().moot.is_some(), "{name}");
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_mi_datagram::MODULE,
        &[
            ("param children_count", || moot("children_count", "3")),
            ("param trace_destination", || moot("trace_destination", "\"h\"")),
            ("param trace_bwlist", || moot("trace_bwlist", "\"b: ps\"")),
            ("param socket_name", || {
                let socket = |name: &str| with(&[("socket_name", name)]).map(|o| o.socket);
                let at = |name: &str| match socket(name).unwrap() {
                    MiSocket::Unix { path, .. } => path,
                    other => panic!("{other:?}"),
                };
                assert_eq!(at("\"/run/mi\""), PathBuf::from("/run/mi"));
                assert_eq!(at("\"unix:/run/mi\""), PathBuf::from("/run/mi"));
                let udp = MiSocket::Udp("127.0.0.1:8080".parse().unwrap());
                assert_eq!(socket("\"udp:127.0.0.1:8080\"").unwrap(), udp);
                assert!(socket("\"mi\"").unwrap_err().contains("names no socket"));
                assert!(with(&[]).unwrap_err().contains("socket_name is missing"));
            }),
            ("param socket_timeout", || {
                assert_eq!(options("socket_timeout", "50").send_timeout_ms, 50);
            }),
            ("param socket_buf_size", || {
                assert_eq!(options("socket_buf_size", "4096").bytes_max, 4096);
            }),
            ("param unix_socket_mode", || {
                assert_eq!(unix("unix_socket_mode", "0600").0, 0o600);
            }),
            ("param unix_socket_group", || {
                assert_eq!(unix("unix_socket_group", "7").2, Some(Owner::Id(7)));
            }),
            ("param unix_socket_user", || {
                assert_eq!(unix("unix_socket_user", "\"a\"").1, Some(Owner::Name("a".into())));
            }),
            ("param pretty_printing", || {
                assert!(!options("pretty_printing", "0").pretty);
                assert!(options("pretty_printing", "1").pretty);
            }),
        ],
    );
}
