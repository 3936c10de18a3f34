//! Registrations over connections.

use tandem_engine::effect::Input;
use tandem_engine::stream::{StreamId, StreamInput};
use tandem_engine::testing::TestNode;

use super::common::{MODULES, script};

pub(super) fn a_flag_keeps_the_connection() {
    let register = "REGISTER sip:a SIP/2.0\r\nVia: SIP/2.0/TCP 10.0.0.9;branch=z9hG4bKx\r\n\
        From: <sip:al@a>;tag=f\r\nTo: <sip:al@a>\r\nCall-ID: x\r\nCSeq: 1 REGISTER\r\n\
        Contact: <sip:al@10.0.0.9;transport=tcp>\r\nExpires: 60\r\nContent-Length: 0\r\n\r\n";
    for (flag, ends_s) in [("KEEP", 70), ("OTHER", 5)] {
        let setup = "loadmodule \"proto_tcp.so\"\nsocket=tcp:127.0.0.1:5060\n\
            tcp_connection_lifetime=5\n\
            modparam(\"registrar\", \"tcp_persistent_flag\", \"KEEP\")\n";
        let body = format!(
            "setflag(\"{flag}\"); if (isflagset(\"KEEP\")) xlog(\"kept\"); save(\"location\");"
        );
        let mut node = TestNode::new(&script(setup, &body), MODULES);
        let conn = StreamId(1 << 63);
        let (peer, local) = ("10.0.0.9:4000".parse().unwrap(), "127.0.0.1:5060".parse().unwrap());
        node.step(Input::Stream(StreamInput::Accepted { conn, peer, local }));
        let bytes = bytes::Bytes::from_static(register.as_bytes());
        node.step(Input::Stream(StreamInput::Data { conn, bytes }));
        assert!(node.written[0].1.starts_with("SIP/2.0 200"), "{:?}", node.written);
        node.advance_ms(ends_s * 1_000 - 500);
        assert!(node.closed.is_empty(), "{flag}");
        node.advance_ms(1_000);
        assert_eq!(node.closed, [conn], "{flag}");
    }
}
