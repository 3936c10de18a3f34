//! A node with UDP and TCP sockets, and phones at the other end of its connections.

#![allow(dead_code, reason = "each test uses a part")]

use bytes::Bytes;
use tandem_engine::catalogue::Modules;
use tandem_engine::effect::Input;
use tandem_engine::sockets::HostAddress;
use tandem_engine::stream::{StreamId, StreamInput};
use tandem_engine::testing::TestNode;

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_proto_tcp::MODULE,
    &tandem_sl::MODULE,
    &tandem_signaling::MODULE,
    &tandem_tm::MODULE,
    &tandem_rr::MODULE,
    &tandem_usrloc::MODULE,
    &tandem_registrar::MODULE,
];

const HEAD: &str = "socket=udp:127.0.0.1:5060\nsocket=tcp:127.0.0.1:5060\n\
    loadmodule \"proto_udp.so\"\nloadmodule \"proto_tcp.so\"\nloadmodule \"sl.so\"\n\
    loadmodule \"signaling.so\"\nloadmodule \"tm.so\"\nloadmodule \"rr.so\"\n\
    loadmodule \"usrloc.so\"\nloadmodule \"registrar.so\"\n";

const ROUTES: &str = "route {\n if (is_method(\"OPTIONS\")) { sl_send_reply(200, \"OK\"); exit; }\n\
    if (is_method(\"REGISTER\")) { save(\"location\"); exit; }\n\
    if (has_totag()) { loose_route(); t_relay(); exit; }\n\
    record_route();\n if ($rU == \"bob\") lookup(\"location\");\n t_relay();\n}\n";

pub(crate) const OPTIONS: &str = "OPTIONS sip:127.0.0.1 SIP/2.0\r\n\
    Via: SIP/2.0/TCP 127.0.0.9:5062;branch=z9hG4bKo\r\nFrom: <sip:a@a>;tag=f\r\nTo: <sip:a@a>\r\n\
    Call-ID: o\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";

fn routes() -> String {
    let routes = ROUTES.replace("is_method(\"OPTIONS\")", "$rm == \"OPTIONS\"");
    let routes = routes.replace("is_method(\"REGISTER\")", "$rm == \"REGISTER\"");
    routes.replace("has_totag()", "$tt != null")
}

pub(crate) struct Node {
    pub(crate) test: TestNode,
    accepted: u64,
}

impl Node {
    pub(crate) fn new(settings: &str) -> Self {
        let test = TestNode::new(&format!("{HEAD}{settings}\n{}", routes()), MODULES);
        Self { test, accepted: 1 << 63 }
    }

    /// The same with sockets on every address of the host, which has these, all of one network.
    pub(crate) fn on_every_address(settings: &str, ips: &[&str]) -> Self {
        let head = HEAD.replace(":127.0.0.1:", ":0.0.0.0:");
        let test = TestNode::new(&format!("{head}{settings}\n{}", routes()), MODULES);
        let mut node = Self { test, accepted: 1 << 63 };
        let each = ips.iter().enumerate().map(|(n, ip)| HostAddress {
            ip: ip.parse().expect("address"),
            prefix_bits: if n == 0 { 24 } else { 32 },
            interface: 0,
            is_default: n == 0,
        });
        node.test.step(Input::Host(each.collect()));
        node
    }

    /// A phone connects to the first TCP socket.
    pub(crate) fn connect(&mut self, from: &str) -> StreamId {
        self.connect_to("127.0.0.1:5060", from)
    }

    /// A phone connects to an address of the host.
    pub(crate) fn connect_to(&mut self, own: &str, from: &str) -> StreamId {
        let conn = StreamId(self.accepted);
        self.accepted += 1;
        let (peer, local) = (from.parse().expect("peer"), own.parse().expect("own"));
        self.stream(StreamInput::Accepted { conn, peer, local });
        conn
    }

    pub(crate) fn stream(&mut self, event: StreamInput) {
        self.test.step(Input::Stream(event));
    }

    pub(crate) fn data(&mut self, conn: StreamId, text: &str) {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        self.stream(StreamInput::Data { conn, bytes });
    }

    /// What was written since the last call, with the connections.
    pub(crate) fn written(&mut self) -> Vec<(StreamId, String)> {
        std::mem::take(&mut self.test.written)
    }
}
