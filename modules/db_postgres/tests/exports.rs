//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use tandem_engine::catalogue::Modules;
use tandem_engine::effect::{DatabaseId, DbNews, Input};
use tandem_engine::endpoint::{Endpoint, SqlServerOptions};
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_db_postgres::MODULE,
    &tandem_usrloc::MODULE,
];

fn try_node(settings: &str) -> Result<TestNode, String> {
    let head = "log_level=4\nsocket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
                loadmodule \"db_postgres.so\"\nloadmodule \"usrloc.so\"\n\
                modparam(\"usrloc\", \"working_mode_preset\", \"single-instance-sql-write-back\")\n\
                modparam(\"usrloc\", \"db_url\", \"postgres://u:secret@127.0.0.1/x\")\n";
    TestNode::try_new(&format!("{head}{settings}\nroute {{ exit; }}"), MODULES)
}

fn options(settings: &str) -> SqlServerOptions {
    let node = try_node(settings).unwrap_or_else(|e| panic!("{e}"));
    let mut endpoints = node.node().loaded().flat_map(|(_, _, m)| m.endpoints());
    match endpoints.next() {
        Some(Endpoint::SqlServer(options)) => options,
        other => panic!("{other:?}"),
    }
}

fn set(name: &str, value: i64) -> String {
    format!("modparam(\"db_postgres\", \"{name}\", {value})\n")
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_db_postgres::MODULE,
        &[
            ("param timeout", || {
                assert_eq!(options("").timeout_ms, 5_000);
                assert_eq!(options(&set("timeout", 7)).timeout_ms, 7_000);
                assert!(try_node(&set("timeout", 0)).is_err());
            }),
            ("param exec_query_threshold", || {
                assert_eq!(options("").slow_us, 0);
                assert_eq!(options(&set("exec_query_threshold", 500)).slow_us, 500);
            }),
            ("param use_tls", || {
                assert!(!options("").tls && options(&set("use_tls", 1)).tls);
            }),
            ("param max_db_queries", || {
                assert_eq!(options("").attempts_max, 2);
                assert_eq!(options(&set("max_db_queries", 5)).attempts_max, 5);
            }),
        ],
    );
}

#[test]
fn a_server_that_is_lost_is_told_once_without_its_password() {
    let mut node = try_node("").unwrap();
    node.logs();
    let news = DbNews::Lost { why: "gone".into() };
    node.step(Input::DbNews { database: DatabaseId(0), news });
    let said: Vec<String> = node.logs().into_iter().map(|l| l.1).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("postgres://u:***@127.0.0.1/x is lost (gone)"), "{said:?}");
}
