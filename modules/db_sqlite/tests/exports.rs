//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use tandem_engine::catalogue::Modules;
use tandem_engine::endpoint::{Endpoint, SqliteOptions};
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules =
    &[&tandem_engine::core::CORE, &tandem_proto_udp::MODULE, &tandem_db_sqlite::MODULE];

fn try_node(settings: &str) -> Result<TestNode, String> {
    let head =
        "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\nloadmodule \"db_sqlite.so\"\n";
    TestNode::try_new(&format!("{head}{settings}\nroute {{ exit; }}"), MODULES)
}

fn options(settings: &str) -> SqliteOptions {
    let node = try_node(settings).unwrap_or_else(|e| panic!("{e}"));
    let mut endpoints = node.node().loaded().flat_map(|(_, _, m)| m.endpoints());
    match endpoints.next() {
        Some(Endpoint::Sqlite(options)) => options,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_db_sqlite::MODULE,
        &[
            ("param alloc_limit", || {
                let settings = "modparam(\"db_sqlite\", \"alloc_limit\", 20)";
                assert_eq!(options(settings).busy_timeout_ms, options("").busy_timeout_ms);
                let params = tandem_db_sqlite::MODULE.params.iter();
                assert!(params.filter(|p| p.moot.is_some()).any(|p| p.name == "alloc_limit"));
            }),
            ("param busy_timeout", waiting),
            ("param exec_pragma", pragmas),
            ("param load_extension", extensions),
        ],
    );
}

fn waiting() {
    assert_eq!(options("").busy_timeout_ms, 500);
    assert_eq!(options("modparam(\"db_sqlite\", \"busy_timeout\", 70)").busy_timeout_ms, 70);
}

fn pragmas() {
    let two = "modparam(\"db_sqlite\", \"exec_pragma\", \"cache_size=10\")\n\
               modparam(\"db_sqlite\", \"exec_pragma\", \"synchronous = OFF\")";
    let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
    assert_eq!(options(two).pragmas, [pair("cache_size", "10"), pair("synchronous", "OFF")]);
    let errors = try_node("modparam(\"db_sqlite\", \"exec_pragma\", \"nothing\")").err().unwrap();
    assert!(errors.contains("a pragma is written"), "{errors}");
}

fn extensions() {
    let line = |text: &str| format!("modparam(\"db_sqlite\", \"load_extension\", \"{text}\")\n");
    let two = line("/usr/lib/x.so; sqlite3_x_init") + &line("pcre");
    let wanted = [
        ("/usr/lib/x.so".to_owned(), Some("sqlite3_x_init".to_owned())),
        ("pcre".to_owned(), None),
    ];
    assert_eq!(options(&two).extensions, wanted);
    assert_eq!(options("").extensions, []);
    for wrong in ["", ";x", "x.so;", "x.so;no entry"] {
        let errors = try_node(&line(wrong)).err().unwrap();
        assert!(errors.contains("an extension is written"), "{wrong}: {errors}");
    }
}
