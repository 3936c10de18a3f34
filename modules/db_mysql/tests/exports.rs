//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use tandem_engine::catalogue::Modules;
use tandem_engine::effect::{DatabaseId, DbNews, Input};
use tandem_engine::endpoint::{Endpoint, SqlServerOptions};
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_db_mysql::MODULE,
    &tandem_usrloc::MODULE,
];

fn try_node(settings: &str) -> Result<TestNode, String> {
    let head = "log_level=4\nsocket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
                loadmodule \"db_mysql.so\"\nloadmodule \"usrloc.so\"\n\
                modparam(\"usrloc\", \"working_mode_preset\", \"single-instance-sql-write-back\")\n\
                modparam(\"usrloc\", \"db_url\", \"mysql://u:secret@127.0.0.1/x\")\n";
    let routes = "route { exit; }\n\
                  event_route[E_MYSQL_CONNECTION] { xlog(\"#$param(url) $param(status)\\n\"); }";
    TestNode::try_new(&format!("{head}{settings}\n{routes}"), MODULES)
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
    format!("modparam(\"db_mysql\", \"{name}\", {value})\n")
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_db_mysql::MODULE,
        &[
            ("param timeout_interval", || {
                assert_eq!(options("").timeout_ms, 2_000);
                assert_eq!(options(&set("timeout_interval", 7)).timeout_ms, 7_000);
                assert!(try_node(&set("timeout_interval", 0)).is_err());
            }),
            ("param exec_query_threshold", || {
                assert_eq!(options("").slow_us, 0);
                assert_eq!(options(&set("exec_query_threshold", 500)).slow_us, 500);
            }),
            ("param max_db_retries", || {
                assert_eq!(options("").connects_max, 4);
                assert_eq!(options(&set("max_db_retries", 0)).connects_max, 1);
            }),
            ("param use_tls", || {
                assert!(!options("").tls && options(&set("use_tls", 1)).tls);
            }),
            ("param max_db_queries", || {
                assert_eq!(options("").attempts_max, 2);
                assert_eq!(options(&set("max_db_queries", 5)).attempts_max, 5);
            }),
            ("param ps_max_col_size", || {
                let params = tandem_db_mysql::MODULE.params;
                assert!(params.iter().any(|p| p.name == "ps_max_col_size" && p.moot.is_some()));
                assert!(try_node(&set("ps_max_col_size", 9)).is_ok());
            }),
            ("event E_MYSQL_CONNECTION", a_server_that_comes_and_goes_is_told),
        ],
    );
}

fn a_server_that_comes_and_goes_is_told() {
    let mut node = try_node("").unwrap();
    let database = DatabaseId(0);
    node.logs();
    let all = [
        DbNews::Connected,
        DbNews::Lost { why: "gone".into() },
        DbNews::Slow { us: 9, sql: "SELECT".into() },
    ];
    for news in all {
        node.step(Input::DbNews { database, news });
    }
    let said: Vec<String> = node.logs().into_iter().map(|l| l.1).collect();
    let events: Vec<&String> = said.iter().filter(|l| l.starts_with('#')).collect();
    let url = "mysql://u:***@127.0.0.1/x";
    assert_eq!(events, [&format!("#{url} connected"), &format!("#{url} disconnected")]);
    assert!(said.iter().any(|l| l.contains("is lost (gone)")), "{said:?}");
    assert!(said.iter().any(|l| l.contains("took 9 us: SELECT")), "{said:?}");
    assert!(said.iter().all(|l| !l.contains("secret")));
}

#[test]
fn what_follows_the_name_of_a_database_is_judged_with_the_script() {
    let url = |options: &str| {
        try_node(&format!("modparam(\"usrloc\", \"db_url\", \"mysql://u@h/x?{options}\")"))
    };
    assert!(url("tls_domain=d&tls_ca=/etc/ca.pem").is_ok());
    let errors = url("tls_domian=d").err().unwrap();
    assert!(errors.contains("tls_domian=d") && errors.contains("tls_domain=NAME"), "{errors}");
}
