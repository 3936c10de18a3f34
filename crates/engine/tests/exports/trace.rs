//! Runs that say what they do; bonds; load balancers in front of the node.

use bytes::Bytes;
use tandem_engine::effect::Input;
use tandem_engine::stream::{StreamId, StreamInput};
use tandem_engine::testing::{Check, TestNode};

use super::{HEAD, MODULES, PHONE, REQUEST, node, said, try_node};

pub(super) const CHECKS: &[Check] = &[
    ("function script_trace", || {
        let route = "\n$var(n) = 0;\nscript_trace(2, \"$rm n=$var(n)\", \"me\");\n\
            if (is_myself(\"x.invalid\"))\n    exit;\nelse\n    $var(n) = 1;\nroute(more);\n\
            script_trace();\n$var(n) = 2;\n}\nroute[more] {\nforce_rport();";
        let mut node = node("", route);
        node.udp(PHONE, REQUEST);
        let told: Vec<_> = node.logs().into_iter().map(|(_, l)| l).collect();
        let expected = [
            "[line 10][me][core if] -> (MESSAGE n=0)",
            "[line 10][me][core is_myself] -> (MESSAGE n=0)",
            "[line 13][me][assign equal] -> (MESSAGE n=0)",
            "[line 14][me][core route] -> (MESSAGE n=1)",
            "[line 19][me][core force_rport] -> (MESSAGE n=1)",
            "[line 15][me][core script_trace] -> (MESSAGE n=1)",
        ];
        assert_eq!(told, expected);
        let mut quiet = super::node("log_level = 1", route);
        quiet.udp(PHONE, REQUEST);
        assert!(quiet.logs().is_empty(), "lines above log_level are not written");
        let mut ends = super::node("", "if ($fU == \"al\") script_trace(2, \"x\"); exit;");
        ends.udp(PHONE, REQUEST);
        assert_eq!(ends.logs().len(), 1);
        ends.udp(PHONE, &REQUEST.replace("sip:al@", "sip:bo@"));
        assert!(ends.logs().is_empty(), "a trace ends with its run");
    }),
    ("function socket_belongs_to_bond", || {
        let bond = "socket=udp:127.0.0.2:5062\nsocket=bond:pair { \"udp:127.0.0.1:5060\" , \
            \"udp:127.0.0.2:5062\" }\nsocket=bond:one { \"udp:127.0.0.2:5062\" }";
        let call = |socket: &str, name: &str| {
            let text = format!(
                "socket_belongs_to_bond(\"{socket}\", \"{name}\"); \
                xlog(\"L_NOTICE\", \"$rc\");"
            );
            let mut node = node(bond, &text);
            node.udp(PHONE, REQUEST);
            node.logs().pop().unwrap().1
        };
        assert_eq!(call("$socket_in", "pair"), "1");
        assert_eq!(call("lan", "bond:pair"), "1");
        assert_eq!(call("$socket_in", "one"), "-1");
        assert_eq!(call("udp:9.9.9.9:1", "pair"), "-1");
        assert_eq!(call("$socket_in", "none"), "-1");
        let unknown = try_node("socket=bond:x { \"udp:9.9.9.9:5060\" }", "exit;").err().unwrap();
        assert!(unknown.contains("is no socket of the script"), "{unknown}");
        let mut first =
            node(bond, "$socket_out = \"bond:one\"; xlog(\"L_NOTICE\", \"$socket_out\");");
        first.udp(PHONE, REQUEST);
        assert_eq!(first.logs().pop().unwrap().1, "udp:127.0.0.2:5062");
    }),
    ("variable proxy_protocol", || {
        assert_eq!(said("", "$proxy_protocol(src_ip)"), "<null>");
        let header = "PROXY TCP4 192.0.2.1 198.51.100.1 40001 5060\r\n";
        let text = REQUEST.replace('\n', "\r\n");
        let both = format!("{header}{text}{text}");
        let spoken = "# 192.0.2.1:40001 198.51.100.1:5060 INET";
        // In pieces, and for every message of the connection.
        for cut in [1, 20, header.len(), header.len() + 9] {
            let mut node = balanced("tcp", "allow_proxy_protocol");
            stream(&mut node, &both[..cut]);
            stream(&mut node, &both[cut..]);
            assert_eq!(lines(&mut node), [spoken, spoken], "cut at {cut}");
        }
        let mut node = balanced("tcp", "allow_proxy_protocol");
        stream(&mut node, &text);
        assert_eq!(lines(&mut node), ["# <null>:<null> <null>:<null> <null>"]);
        // A keepalive first gets its pong, also alone; what follows is read as before.
        for before in ["\r\n\r\n", "\r\n", "\r\n\r\n\r\n\r\n\r\n"] {
            for cut in [before.len(), before.len() + 3] {
                let mut node = balanced("tcp", "allow_proxy_protocol");
                let all = format!("{before}{both}");
                stream(&mut node, &all[..cut]);
                let pongs = usize::from(before.len() >= 4);
                assert_eq!(node.written.len(), pongs, "{before:?}, cut at {cut}");
                stream(&mut node, &all[cut..]);
                assert_eq!(lines(&mut node), [spoken, spoken], "{before:?}, cut at {cut}");
            }
        }
        let mut node = balanced("tcp", "allow_proxy_protocol");
        stream(&mut node, "PROXY TCP4 x y 1 2\r\n");
        assert_eq!(node.closed, [CONN], "what only looks like a header ends the connection");
        let mut node = balanced("tcp", "");
        stream(&mut node, &both);
        assert!(lines(&mut node).is_empty(), "unasked, a header is no SIP");
        let error = try_balanced("udp", "proxy_protocol").err().unwrap();
        assert!(error.contains("over connections only"), "{error}");
        let mut node = balanced("udp", "allow_proxy");
        node.raw_udp(PHONE, Bytes::from(format!("{header}{text}")));
        assert_eq!(lines(&mut node), [spoken]);
        // What was said before something unreadable is true of nobody else.
        node.raw_udp(PHONE, Bytes::from(format!("{header}MESSAGE, or what looks like it\r\n\r\n")));
        node.raw_udp(PHONE, Bytes::from(text.clone()));
        assert_eq!(lines(&mut node), ["# <null>:<null> <null>:<null> <null>"]);
        // What the node opens itself begins with its own ends.
        let mut node = balanced("tcp", "send_proxy_protocol");
        let (to, local) = ("127.0.0.8:5060", "127.0.0.1:41000".parse().unwrap());
        node.udp(PHONE, &REQUEST.replace("sip:bob@example.org:5070;x=1", &format!("sip:{to}")));
        let (conn, _) = node.connects[0];
        node.step(Input::Stream(StreamInput::Connected { conn, local }));
        let first = "PROXY TCP4 127.0.0.1 127.0.0.8 41000 5060\r\n";
        assert_eq!(node.written[0], (conn, first.to_owned()));
        assert!(node.written[1].1.starts_with("MESSAGE "));
    }),
];

const CONN: StreamId = StreamId(1 << 63);

/// A node behind a load balancer that says who spoke; what comes by UDP goes on over TCP.
fn try_balanced(proto: &str, option: &str) -> Result<TestNode, String> {
    let modules = HEAD.lines().skip(1).collect::<Vec<_>>().join("\n");
    let other = if proto == "tcp" { "udp" } else { "tcp" };
    let line = "# $proxy_protocol(src_ip):$proxy_protocol(src_port) \
        $proxy_protocol(dst_ip):$proxy_protocol(dst_port) $proxy_protocol(af)";
    let route = format!(
        "xlog(\"L_NOTICE\", \"{line}\"); if ($rd == \"127.0.0.8\") \
         forward(\"tcp:127.0.0.8:5060\");"
    );
    let sockets = format!("socket={proto}:127.0.0.1:5060 {option}\nsocket={other}:127.0.0.1:5060");
    let script = format!("{sockets}\n{modules}\nloadmodule \"proto_tcp.so\"\nroute {{ {route} }}");
    let mut node = TestNode::try_new(&script, MODULES)?;
    let (peer, local) = ("127.0.0.9:40000".parse().unwrap(), "127.0.0.1:5060".parse().unwrap());
    node.step(Input::Stream(StreamInput::Accepted { conn: CONN, peer, local }));
    node.logs();
    Ok(node)
}

fn balanced(proto: &str, option: &str) -> TestNode {
    try_balanced(proto, option).unwrap_or_else(|e| panic!("{e}"))
}

fn stream(node: &mut TestNode, text: &str) {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    node.step(Input::Stream(StreamInput::Data { conn: CONN, bytes }));
}

fn lines(node: &mut TestNode) -> Vec<String> {
    let logs = node.logs().into_iter().map(|(_, l)| l);
    logs.filter(|l| l.starts_with('#')).collect()
}
