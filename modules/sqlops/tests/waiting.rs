//! A database that never answers: who asks it waits, and nobody else does.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use tandem_db::memory::MemoryDb;
use tandem_engine::catalogue::Modules;
use tandem_engine::testing::TestNode;

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_db_sqlite::MODULE,
    &tandem_sl::MODULE,
    &tandem_tm::MODULE,
    &tandem_sqlops::MODULE,
];
const SCRIPT: &str = "socket=udp:127.0.0.1:5060\nlog_level=1\nloadmodule \"proto_udp.so\"\n\
     loadmodule \"db_sqlite.so\"\nloadmodule \"sl.so\"\nloadmodule \"tm.so\"\n\
     loadmodule \"sqlops.so\"\nmodparam(\"sqlops\", \"db_url\", \"sqlite:///tmp/x.db\")\n\
     route {\n\
       if ($rU == \"ask\") { sql_query_one(\"SELECT domain FROM domain\", \"$avp(x)\"); }\n\
       if ($rU == \"keep\") { async(sql_query_one(\"SELECT domain FROM domain\", \"$avp(x)\"), \
         answered, 5); }\n\
       sl_send_reply(200, \"OK\");\n\
     }\n\
     route[answered] { t_reply(480, \"$rc\"); }";

fn options(user: &str, n: usize) -> String {
    format!(
        "OPTIONS sip:{user}@uri.test SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9:5060;branch=z9hG4bK{n}\n\
         Max-Forwards: 70\nFrom: <sip:f@from.test>;tag=f\nTo: <sip:a@to.test>\nCall-ID: c{n}\n\
         CSeq: 1 OPTIONS\nContent-Length: 0\n\n"
    )
}

fn node() -> TestNode {
    TestNode::with_slow_database(
        SCRIPT,
        MODULES,
        MemoryDb::with_tables(tandem_db::schema::tables()),
    )
}

/// Scripts that wait at once.
const WAITING: usize = 10_000;

#[test]
fn ten_thousand_scripts_wait_and_all_others_go_on() {
    let mut node = node();
    for n in 0..WAITING {
        node.udp("127.0.0.9:5060", &options("ask", n));
    }
    assert!(node.sent().is_empty(), "nobody has an answer");
    for n in 0..100 {
        node.udp("127.0.0.9:5060", &options("now", WAITING + n));
        assert_eq!(node.sent().len(), 1, "who asks nothing is served at once");
    }
    assert_eq!(node.answer_queries(), WAITING);
    assert_eq!(node.sent().len(), WAITING, "each script has gone on where it was");
}

#[test]
fn a_database_that_never_answers_costs_who_asked_it_his_time_and_no_more() {
    let mut node = node();
    node.udp("127.0.0.9:5060", &options("keep", 1));
    node.udp("127.0.0.9:5060", &options("now", 2));
    assert_eq!(node.sent().len(), 1);
    node.advance_ms(4_900);
    assert!(node.sent().is_empty());
    node.advance_ms(200);
    let sent = node.sent();
    assert!(sent[0].1.starts_with("SIP/2.0 480 -2"), "{sent:?}");
    // An answer that comes after all changes nothing any more.
    node.answer_queries();
    assert!(node.sent().is_empty());
}
