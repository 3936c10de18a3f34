//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use crate::common;

use common::{Node, OPTIONS};
use serde_json::{Value as Json, json};
use tandem_engine::testing::cover;

fn with(name: &str, value: &str) -> Node {
    Node::new(&format!("modparam(\"proto_tcp\", \"{name}\", {value})"))
}

/// Accepted, and nothing comes of it.
fn moot(name: &str, value: &str) {
    with(name, value);
    let row = tandem_proto_tcp::MODULE.params.iter().find(|p| p.name == name);
    assert!(row.unwrap().moot.is_some(), "{name}");
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_proto_tcp::MODULE,
        &[
            ("param tcp_port", || {
                let port = |node: &Node| node.test.node().sockets.named("tcp:127.0.0.2:5099");
                assert!(port(&Node::new("socket=tcp:127.0.0.2")).is_none());
                let more = "modparam(\"proto_tcp\", \"tcp_port\", 5099)\nsocket=tcp:127.0.0.2";
                assert!(port(&Node::new(more)).is_some());
            }),
            ("param tcp_crlf_pingpong", || {
                for (value, answers) in [("1", 1), ("0", 0)] {
                    let mut node = with("tcp_crlf_pingpong", value);
                    let phone = node.connect("127.0.0.9:40000");
                    node.data(phone, "\r\n\r\n");
                    assert_eq!(node.test.written.len(), answers);
                }
            }),
            ("param tcp_crlf_drop", || {
                let mut node = with("tcp_crlf_drop", "1");
                let phone = node.connect("127.0.0.9:40000");
                node.data(phone, "\r\n\r\n");
                assert!(node.test.written.is_empty());
            }),
            ("param tcp_max_msg_chunks", || {
                for (value, closed) in [("0", 0), ("2", 1)] {
                    let mut node = with("tcp_max_msg_chunks", value);
                    let phone = node.connect("127.0.0.9:40000");
                    OPTIONS.split_inclusive("\r\n").take(3).for_each(|l| node.data(phone, l));
                    assert_eq!(node.test.closed.len(), closed);
                }
            }),
            ("param tcp_async_max_postponed_chunks", || {
                let node = with("tcp_async_max_postponed_chunks", "7");
                assert_eq!(node.test.node().streams.settings.proto.writes_max, 7);
            }),
            ("param tcp_send_timeout", || moot("tcp_send_timeout", "100")),
            ("param tcp_async", || moot("tcp_async", "1")),
            ("param tcp_async_local_write_timeout", || {
                moot("tcp_async_local_write_timeout", "10");
            }),
            ("mi proto_tcp:trace", || {
                let mut node = Node::new("");
                let mut ask = |params: Json| node.test.mi("tcp_trace", params)["result"].clone();
                assert_eq!(ask(Json::Null), json!({"TCP tracing": "off"}));
                assert_eq!(ask(json!(["on"])), "OK");
                assert_eq!(ask(Json::Null), json!({"TCP tracing": "on"}));
                let said = node.test.logs().pop().unwrap().1;
                assert!(said.contains("nothing is traced"), "{said}");
                assert_eq!(node.test.mi("proto_tcp:trace", json!(["off"]))["result"], "OK");
                let wrong = node.test.mi("proto_tcp:trace", json!(["loud"]));
                assert_eq!(wrong["error"]["code"], -32602);
            }),
            ("param trace_destination", || moot("trace_destination", "\"hep\"")),
            ("param trace_on", || moot("trace_on", "1")),
            ("param trace_filter_route", || moot("trace_filter_route", "\"x\"")),
        ],
    );
}
