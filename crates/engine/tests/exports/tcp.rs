//! Connections: globals, functions and commands.

use bytes::Bytes;
use serde_json::json;
use tandem_engine::effect::Input;
use tandem_engine::stream::{StreamId, StreamInput, StreamSettings};
use tandem_engine::testing::{Check, TestNode};

use super::{HEAD, MODULES, REQUEST, ask};

const CONN: StreamId = StreamId(1 << 63);

/// A node with a TCP socket and one connection.
fn connected(globals: &str, route: &str) -> TestNode {
    let tcp = "loadmodule \"proto_tcp.so\"\nsocket=tcp:127.0.0.1:5060\n";
    let script = format!("{HEAD}{tcp}{globals}\nroute {{ {route} }}");
    let mut node = TestNode::try_new(&script, MODULES).unwrap_or_else(|e| panic!("{e}"));
    let (peer, local) = ("127.0.0.9:40000".parse().unwrap(), "127.0.0.1:5060".parse().unwrap());
    node.step(Input::Stream(StreamInput::Accepted { conn: CONN, peer, local }));
    node
}

fn request(node: &mut TestNode) {
    let text = REQUEST.replace("SIP/2.0/UDP", "SIP/2.0/TCP").replace('\n', "\r\n");
    let bytes = Bytes::from(text);
    node.step(Input::Stream(StreamInput::Data { conn: CONN, bytes }));
}

fn settings(globals: &str) -> StreamSettings {
    connected(globals, "exit;").node().streams.settings.clone()
}

fn alias_port(node: &TestNode) -> u16 {
    node.node().streams.list()[0].alias_port
}

pub(super) const CHECKS: &[Check] = &[
    ("param tcp_accept_aliases", || {
        assert!(!settings("").accept_aliases && settings("tcp_accept_aliases=yes").accept_aliases);
    }),
    ("param tcp_connect_timeout", || {
        assert_eq!(settings("").connect_timeout_ms, 100);
        assert_eq!(settings("tcp_connect_timeout=700").connect_timeout_ms, 700);
    }),
    ("param tcp_connection_lifetime", || {
        let mut node = connected("tcp_connection_lifetime=5", "exit;");
        node.advance_ms(5_100);
        assert_eq!(node.closed, [CONN]);
    }),
    ("param tcp_keepalive", || {
        assert!(settings("").keepalive && !settings("tcp_keepalive=no").keepalive);
    }),
    ("param tcp_keepcount", || {
        assert_eq!(settings("tcp_keepcount=3").keep_count, Some(3));
    }),
    ("param tcp_keepidle", || {
        assert_eq!(settings("tcp_keepidle=30").keep_idle_s, Some(30));
    }),
    ("param tcp_keepinterval", || {
        assert_eq!(settings("tcp_keepinterval=10").keep_interval_s, Some(10));
    }),
    ("param tcp_max_connections", || {
        assert_eq!(settings("tcp_max_connections=9").connections_max, 9);
    }),
    ("param tcp_max_msg_time", || {
        let mut node = connected("tcp_max_msg_time=2", "exit;");
        let bytes = Bytes::from_static(b"OPTIONS");
        node.step(Input::Stream(StreamInput::Data { conn: CONN, bytes }));
        node.advance_ms(2_100);
        assert_eq!(node.closed, [CONN]);
    }),
    ("param tcp_no_new_conn_bflag", || {
        let route = "setbflag(\"OLD\"); exit;";
        assert_eq!(settings("").no_new_conn, 0);
        let with = connected("tcp_no_new_conn_bflag=OLD", route);
        assert_ne!(with.node().streams.settings.no_new_conn, 0);
    }),
    ("param tcp_no_new_conn_rplflag", || {
        let node = connected("tcp_no_new_conn_rplflag=OLD", "setflag(\"OLD\");");
        let streams = &node.node().streams;
        let (mask, socket) = (streams.settings.no_new_conn_reply, streams.list()[0].socket);
        let may = |flags, to: &str| streams.may_reply(flags, socket, to.parse().unwrap());
        assert!(mask != 0 && may(mask, "127.0.0.9:40000"));
        assert!(!may(mask, "127.0.0.8:5060") && may(0, "127.0.0.8:5060"));
    }),
    ("param tcp_socket_backlog", || {
        assert_eq!(settings("tcp_socket_backlog=33").backlog, 33);
    }),
    ("function force_tcp_alias", || {
        for (call, port) in [("force_tcp_alias();", 5999), ("force_tcp_alias(5070);", 5070)] {
            let mut node = connected("", call);
            assert_eq!(alias_port(&node), 40_000);
            request(&mut node);
            assert_eq!(alias_port(&node), port);
        }
    }),
    ("function tcp_close_conn", || {
        let text = "if (!tcp_close_conn(\"1.2.3.4:5\")) tcp_close_conn(\"tcp:127.0.0.9:40000\");";
        let mut node = connected("", text);
        request(&mut node);
        assert_eq!(node.closed, [CONN]);
    }),
    ("mi tcp:list", || {
        let mut node = connected("", "exit;");
        let listed = ask(&mut node, "tcp:list", json!(null));
        let row = &listed["Connections"][0];
        assert_eq!((&row["ID"], &row["Type"]), (&json!(1), &json!("tcp")));
        assert_eq!(
            (&row["Remote"], &row["Alias port"]),
            (&json!("127.0.0.9:40000"), &json!(40000))
        );
        assert_eq!(ask(&mut node, "list_tcp_conns", json!(["x"]))["message"], "Bad protocol");
    }),
    ("mi tcp:close", || {
        let mut node = connected("", "exit;");
        let bad = ask(&mut node, "tcp:close", json!(["127.0.0.9:1"]));
        assert_eq!(bad["message"], "Bad tcp connection");
        assert_eq!(ask(&mut node, "tcp:close", json!(["127.0.0.9:40000"])), "OK");
        assert_eq!(node.closed, [CONN]);
    }),
];

/// The event of a connection that has ended.
pub(super) fn ended() {
    let line = "xlog(\"L_NOTICE\", \"$param(src_ip):$param(src_port) $param(proto)\");";
    let route = format!("exit; }}\nevent_route[E_CORE_TCP_DISCONNECT] {{ {line}");
    let mut node = connected("", &route);
    node.logs();
    node.step(Input::Stream(StreamInput::Closed { conn: CONN }));
    assert_eq!(node.logs().pop().unwrap().1, "127.0.0.9:40000 tcp");
}
