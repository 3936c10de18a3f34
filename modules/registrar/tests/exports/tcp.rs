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

/// A REGISTER of a user over a connection that registrations keep.
fn register(user: &str, cseq: u32, expires_s: u32) -> bytes::Bytes {
    let text = format!(
        "REGISTER sip:a SIP/2.0\r\nVia: SIP/2.0/TCP 10.0.0.9;branch=z9hG4bK{user}{cseq}\r\n\
         From: <sip:{user}@a>;tag=f\r\nTo: <sip:{user}@a>\r\nCall-ID: {user}\r\n\
         CSeq: {cseq} REGISTER\r\nContact: <sip:{user}@10.0.0.9;transport=tcp>\r\n\
         Expires: {expires_s}\r\nContent-Length: 0\r\n\r\n"
    );
    text.into()
}

#[test]
fn a_connection_is_kept_no_longer_than_its_registrations() {
    // (user, CSeq, expires), and when the connection ends.
    for (registers, ends_s) in [
        (&[("al", 1, 3600), ("al", 2, 0)][..], 5),
        (&[("al", 1, 3600), ("al", 2, 60)], 70),
        (&[("al", 1, 60), ("al", 2, 3600)], 3610),
        (&[("al", 1, 3600), ("bo", 1, 60), ("al", 2, 0)], 70),
        (&[("al", 1, 60), ("bo", 1, 3600), ("al", 2, 0), ("bo", 2, 0)], 5),
    ] {
        let setup = "loadmodule \"proto_tcp.so\"\nsocket=tcp:127.0.0.1:5060\n\
            tcp_connection_lifetime=5\n\
            modparam(\"registrar\", \"tcp_persistent_flag\", \"KEEP\")\n";
        let body = "setflag(\"KEEP\"); save(\"location\");";
        let mut node = TestNode::new(&script(setup, body), MODULES);
        let conn = StreamId(1 << 63);
        let (peer, local) = ("10.0.0.9:4000".parse().unwrap(), "127.0.0.1:5060".parse().unwrap());
        node.step(Input::Stream(StreamInput::Accepted { conn, peer, local }));
        for (user, cseq, expires_s) in registers {
            let bytes = register(user, *cseq, *expires_s);
            node.step(Input::Stream(StreamInput::Data { conn, bytes }));
        }
        assert!(node.written.iter().all(|(_, m)| m.starts_with("SIP/2.0 200")));
        node.advance_ms(ends_s * 1_000 - 500);
        assert!(node.closed.is_empty(), "{registers:?}");
        node.advance_ms(1_000);
        assert_eq!(node.closed, [conn], "{registers:?}");
    }
}

/// A REGISTER of one of the user's phones through a proxy.
fn through_proxy(phone: &str, cseq: u32, expires_s: u32) -> bytes::Bytes {
    let text = format!(
        "REGISTER sip:a SIP/2.0\r\nVia: SIP/2.0/TCP 10.0.0.9;branch=z9hG4bKp{phone}{cseq}\r\n\
         Via: SIP/2.0/UDP {phone};branch=z9hG4bK{phone}{cseq}\r\n\
         From: <sip:al@a>;tag=f\r\nTo: <sip:al@a>\r\nCall-ID: {phone}\r\n\
         CSeq: {cseq} REGISTER\r\nContact: <sip:al@{phone}>\r\n\
         Expires: {expires_s}\r\nContent-Length: 0\r\n\r\n"
    );
    text.into()
}

#[test]
fn phones_of_one_user_behind_a_proxy_keep_its_connection_each_for_itself() {
    let (one, two) = ("10.1.0.1", "10.1.0.2");
    for (registers, ends_s) in [
        (&[(one, 1, 3600), (two, 1, 60)][..], 3610),
        (&[(one, 1, 3600), (two, 1, 60), (two, 2, 0)], 3610),
        (&[(one, 1, 3600), (two, 1, 60), (one, 2, 0)], 70),
        (&[(one, 1, 3600), (two, 1, 3600), (two, 2, 0), (one, 2, 60)], 70),
        (&[(one, 1, 3600), (two, 1, 60), (one, 2, 0), (two, 2, 0)], 5),
        (&[(one, 1, 3600), (one, 2, 0)], 5),
    ] {
        let setup = "loadmodule \"proto_tcp.so\"\nsocket=tcp:127.0.0.1:5060\n\
            tcp_connection_lifetime=5\n\
            modparam(\"registrar\", \"tcp_persistent_flag\", \"KEEP\")\n";
        let body = "setflag(\"KEEP\"); save(\"location\");";
        let mut node = TestNode::new(&script(setup, body), MODULES);
        let conn = StreamId(1 << 63);
        let (peer, local) = ("10.0.0.9:4000".parse().unwrap(), "127.0.0.1:5060".parse().unwrap());
        node.step(Input::Stream(StreamInput::Accepted { conn, peer, local }));
        for (phone, cseq, expires_s) in registers {
            let bytes = through_proxy(phone, *cseq, *expires_s);
            node.step(Input::Stream(StreamInput::Data { conn, bytes }));
        }
        assert!(node.written.iter().all(|(_, m)| m.starts_with("SIP/2.0 200")));
        node.advance_ms(ends_s * 1_000 - 500);
        assert!(node.closed.is_empty(), "{registers:?}");
        node.advance_ms(1_000);
        assert_eq!(node.closed, [conn], "{registers:?}");
    }
}
