//! Messages of our own: replies, the ACK of one hop, CANCEL.

#![allow(clippy::unwrap_used)] // helpers of tests

use bytes::Bytes;
use proptest::prelude::*;
use tandem_sip::*;

const INVITE: &str = "INVITE sip:bob@h SIP/2.0\r\n\
    Via: SIP/2.0/UDP p;branch=z9hG4bK1;rport, SIP/2.0/UDP q;branch=z9hG4bK2\r\n\
    v: SIP/2.0/UDP r\r\n\
    Record-Route: <sip:p;lr>\r\n\
    Route: <sip:next;lr>, <sip:later;lr>\r\n\
    f: \"A\"\r\n <sip:a@h>;tag=1\r\n\
    To: <sip:bob@h>\r\n\
    Call-ID: c@h\r\n\
    CSeq: 7 INVITE\r\n\
    Timestamp: 54\r\n\
    Contact: <sip:a@10.0.0.1>\r\n\
    Content-Length: 0\r\n\r\n";

fn parse(text: impl Into<Vec<u8>>) -> Message {
    Message::parse(Bytes::from(text.into())).unwrap()
}

fn reply(req: &Message, code: u16, reason: &str, options: &ReplyOptions<'_>) -> String {
    String::from_utf8(build_reply(req, code, reason.as_bytes(), options)).unwrap()
}

#[test]
fn a_reply_copies_what_the_rfc_says() {
    let options = ReplyOptions {
        to_tag: Some(b"t1"),
        extra_headers: &[b"Contact: <sip:bob@x>\r\n"],
        body: Some((b"application/sdp", b"v=0\r\n")),
        server: Some(b"Tandem"),
        received: None,
    };
    let expected = "SIP/2.0 200 OK\r\n\
        Via: SIP/2.0/UDP p;branch=z9hG4bK1;rport, SIP/2.0/UDP q;branch=z9hG4bK2\r\n\
        v: SIP/2.0/UDP r\r\n\
        Record-Route: <sip:p;lr>\r\n\
        f: \"A\"\r\n <sip:a@h>;tag=1\r\n\
        To: <sip:bob@h>;tag=t1\r\n\
        Call-ID: c@h\r\n\
        CSeq: 7 INVITE\r\n\
        Server: Tandem\r\n\
        Contact: <sip:bob@x>\r\n\
        Content-Type: application/sdp\r\n\
        Content-Length: 5\r\n\r\n\
        v=0\r\n";
    let req = parse(INVITE);
    assert_eq!(reply(&req, 200, "OK", &options), expected);
    assert_eq!(parse(expected).validate(), Ok(()));
}

#[test]
fn a_100_has_the_timestamp_and_no_tag() {
    let options = ReplyOptions { to_tag: Some(b"t1"), ..Default::default() };
    let text = reply(&parse(INVITE), 100, "Giving it a try", &options);
    assert!(text.starts_with("SIP/2.0 100 Giving it a try\r\n"));
    assert!(text.contains("Timestamp: 54\r\n") && text.contains("To: <sip:bob@h>\r\n"));
    assert!(!text.contains("Record-Route"));
}

#[test]
fn the_route_back_is_only_in_replies_that_make_dialogs() {
    let options = ReplyOptions::default();
    let req = parse(INVITE);
    assert!(reply(&req, 180, "Ringing", &options).contains("Record-Route: <sip:p;lr>\r\n"));
    assert!(!reply(&req, 404, "Not Found", &options).contains("Record-Route"));
    let options_req = parse(INVITE.replace("INVITE", "OPTIONS"));
    assert!(!reply(&options_req, 200, "OK", &options).contains("Record-Route"));
}

#[test]
fn a_tag_that_is_there_stays() {
    let req = parse(INVITE.replace("To: <sip:bob@h>", "To: <sip:bob@h>;tag=old"));
    let options = ReplyOptions { to_tag: Some(b"new"), ..Default::default() };
    let text = reply(&req, 200, "OK", &options);
    assert!(text.contains("To: <sip:bob@h>;tag=old\r\n") && !text.contains("new"));
}

#[test]
fn the_source_is_noted_in_the_topmost_via_alone() {
    let ip = "192.0.2.9".parse().unwrap();
    let received = Some(Received { ip, port: 99, add_rport: false });
    let options = ReplyOptions { received, ..Default::default() };
    let text = reply(&parse(INVITE), 404, "Not Found", &options);
    let expected = "Via: SIP/2.0/UDP p;branch=z9hG4bK1;rport=99;received=192.0.2.9, \
        SIP/2.0/UDP q;branch=z9hG4bK2\r\nv: SIP/2.0/UDP r\r\nf: ";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn a_faulty_request_is_answered_with_what_it_has() {
    let req = parse("INVITE sip:x SIP/2.0\r\nVia: nonsense\r\nCSeq: x\r\n\r\n");
    let fault = req.validate().unwrap_err();
    let ip = "192.0.2.9".parse().unwrap();
    let received = Some(Received { ip, port: 1, add_rport: true });
    let options = ReplyOptions { to_tag: Some(b"t"), received, ..Default::default() };
    let text = reply(&req, fault.status(), &fault.to_string(), &options);
    let expected = "SIP/2.0 400 Missing From header\r\nVia: nonsense\r\nCSeq: x\r\n\
        Content-Length: 0\r\n\r\n";
    assert_eq!(text, expected);
}

#[test]
fn a_reason_cannot_smuggle_headers_in() {
    let text = reply(&parse(INVITE), 404, "No\r\nEvil: 1", &ReplyOptions::default());
    assert!(text.starts_with("SIP/2.0 404 No  Evil: 1\r\nVia: "));
}

#[test]
fn lines_that_ended_with_lf_end_with_crlf_in_replies() {
    let text = reply(&parse(INVITE.replace("\r\n", "\n")), 200, "OK", &ReplyOptions::default());
    assert!(text.contains("Call-ID: c@h\r\nCSeq: 7 INVITE\r\n"));
}

#[test]
fn extra_header_lines_get_the_line_end_they_lack() {
    let options = ReplyOptions { extra_headers: &[b"X: 1"], ..Default::default() };
    let text = reply(&parse(INVITE), 404, "Not Found", &options);
    assert!(text.ends_with("\r\nX: 1\r\nContent-Length: 0\r\n\r\n"));
}

#[test]
fn the_ack_of_a_hop_has_the_via_of_the_invite_and_the_to_of_the_reply() {
    let invite = parse(INVITE);
    let options = ReplyOptions { to_tag: Some(b"far"), ..Default::default() };
    let busy = parse(reply(&invite, 486, "Busy Here", &options));
    let ack = build_ack(&invite, &busy, b"").unwrap();
    let expected = "ACK sip:bob@h SIP/2.0\r\n\
        Via: SIP/2.0/UDP p;branch=z9hG4bK1;rport\r\n\
        Route: <sip:next;lr>, <sip:later;lr>\r\n\
        Max-Forwards: 70\r\n\
        f: \"A\"\r\n <sip:a@h>;tag=1\r\n\
        To: <sip:bob@h>;tag=far\r\n\
        Call-ID: c@h\r\n\
        CSeq: 7 ACK\r\n\
        Content-Length: 0\r\n\r\n";
    assert_eq!(String::from_utf8(ack.clone()).unwrap(), expected);
    assert_eq!(parse(ack).validate(), Ok(()));
}

#[test]
fn a_cancel_has_the_via_and_the_to_of_the_request() {
    let cancel = build_cancel(&parse(INVITE), b"Reason: SIP;cause=200\r\n").unwrap();
    let expected = "CANCEL sip:bob@h SIP/2.0\r\n\
        Via: SIP/2.0/UDP p;branch=z9hG4bK1;rport\r\n\
        Route: <sip:next;lr>, <sip:later;lr>\r\n\
        Max-Forwards: 70\r\n\
        f: \"A\"\r\n <sip:a@h>;tag=1\r\n\
        To: <sip:bob@h>\r\n\
        Call-ID: c@h\r\n\
        CSeq: 7 CANCEL\r\n\
        Reason: SIP;cause=200\r\n\
        Content-Length: 0\r\n\r\n";
    assert_eq!(String::from_utf8(cancel).unwrap(), expected);
}

#[test]
fn without_what_they_follow_from_nothing_is_built() {
    let bare = parse("INVITE sip:x SIP/2.0\r\n\r\n");
    assert_eq!(build_cancel(&bare, b""), Err(ValueError::Missing));
    let no_to = parse("SIP/2.0 486 Busy\r\n\r\n");
    assert_eq!(build_ack(&parse(INVITE), &no_to, b""), Err(ValueError::Missing));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_reply_is_read_with_the_views_of_its_request(
        code in 100..700u16, reason in "[ -~]{0,20}", tag in "[a-z0-9]{1,9}", body in "[a-z]{0,30}",
        ip: std::net::IpAddr, port in 1u16..,
    ) {
        let req = parse(INVITE);
        let options = ReplyOptions {
            to_tag: Some(tag.as_bytes()),
            extra_headers: &[],
            body: Some((b"text/plain", body.as_bytes())),
            server: None,
            received: Some(Received { ip, port, add_rport: false }),
        };
        let msg = parse(build_reply(&req, code, reason.as_bytes(), &options));
        prop_assert_eq!(msg.validate(), Ok(()));
        prop_assert_eq!((msg.status(), msg.body()), (code, body.as_bytes()));
        prop_assert_eq!((msg.cseq(), msg.call_id()), (req.cseq(), req.call_id()));
        prop_assert_eq!(msg.from_tag(), req.from_tag());
        prop_assert_eq!(msg.to_tag(), (code != 100).then_some(tag.as_bytes()));
        prop_assert_eq!(msg.vias().count(), req.vias().count());
        let via = msg.top_via().unwrap();
        prop_assert_eq!(via.rport, Rport::Port(port));
        prop_assert_eq!(via.received_ip(), Some(ip.to_canonical()));
    }
}
