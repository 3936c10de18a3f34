//! Reading messages: what is tolerated, what is refused, what is found where.

#![allow(clippy::unwrap_used)] // helpers of tests

use bytes::Bytes;
use proptest::prelude::*;
use tandem_sip::*;

const REGISTER: &str = "REGISTER sip:example.com SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.4:5062;branch=z9hG4bKnashds7;rport\r\n\
    Max-Forwards: 70\r\n\
    From: \"Bob\" <sip:bob@example.com>;tag=456248\r\n\
    To: Bob <sip:bob@example.com>\r\n\
    Call-ID: 843817637684230@998sdasdh09\r\n\
    CSeq: 1826 REGISTER\r\n\
    Contact: <sip:bob@192.0.2.4:5062>;q=0.7, \"B, C\" <sip:b@h;x=\",\">\r\n\
    Contact: <sip:bob@192.0.2.5>\r\n\
    X-Own: one\r\n\
    x-own: two\r\n\
    Expires: 7200\r\n\
    User-Agent: Phone 1.0\r\n\
    Content-Length: 0\r\n\r\n";

fn parse(text: &str) -> Message {
    Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn refuse(text: impl Into<Vec<u8>>) -> (ParseErrorKind, u32) {
    let error = Message::parse(Bytes::from(text.into())).unwrap_err();
    (error.kind, error.offset)
}

/// A request with the given lines behind the mandatory headers.
fn with(lines: &str, body: &str) -> Message {
    parse(&format!(
        "INVITE sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKa\r\nFrom: <sip:a@h>;tag=1\r\n\
         To: <sip:b@h>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n{lines}\r\n{body}"
    ))
}

#[test]
fn a_register_is_read() {
    let msg = parse(REGISTER);
    assert_eq!(msg.validate(), Ok(()));
    assert!(msg.is_request() && !msg.is_reply());
    assert_eq!((msg.method(), msg.method_bytes()), (Method::Register, &b"REGISTER"[..]));
    assert_eq!((msg.request_uri(), msg.status()), (&b"sip:example.com"[..], 0));
    assert_eq!(msg.first_line(), b"REGISTER sip:example.com SIP/2.0");
    assert_eq!(msg.call_id(), Some(&b"843817637684230@998sdasdh09"[..]));
    assert_eq!((msg.from_tag(), msg.to_tag()), (Some(&b"456248"[..]), None));
    assert_eq!(msg.cseq().map(|c| (c.number, c.method)), Ok((1826, Method::Register)));
    assert_eq!((msg.expires(), msg.max_forwards()), (Ok(Some(7200)), Ok(Some(70))));
    assert_eq!(msg.user_agent(), Some(&b"Phone 1.0"[..]));
    assert_eq!(msg.top_via().map(|v| v.rport), Ok(Rport::Empty));
    let list = msg.contact_list().unwrap();
    let uris: Vec<_> = list.contacts().iter().map(Contact::uri).collect();
    assert_eq!(uris, [&b"sip:bob@192.0.2.4:5062"[..], b"sip:b@h;x=\",\"", b"sip:bob@192.0.2.5"]);
    assert_eq!(msg.all_headers().count(), 13);
    assert_eq!(msg.body(), b"");
}

#[test]
fn unknown_headers_are_found_by_text_and_known_ones_too() {
    let msg = parse(REGISTER);
    let own: Vec<_> = msg.headers_by_text(b"X-OWN").map(|h| h.value()).collect();
    assert_eq!(own, [b"one", b"two"]);
    assert_eq!(msg.header_by_text(b"X-Own").map(|h| h.name_bytes()), Some(&b"X-Own"[..]));
    assert_eq!(msg.header_by_text(b"m").map(|h| h.name()), Some(HeaderName::Contact));
    assert_eq!(msg.header_by_text(b"X-Other").map(|h| h.value()), None);
    assert_eq!(msg.headers(HeaderName::Other).count(), 2);
    assert_eq!(msg.headers(HeaderName::Route).count(), 0);
}

#[test]
fn spans_say_where_things_are() {
    let msg = parse(REGISTER);
    let header = msg.header(HeaderName::Expires).unwrap();
    assert_eq!(msg.slice(header.span()), b"Expires: 7200\r\n");
    assert_eq!(msg.slice(header.value_span()), b"7200");
    assert_eq!(header.line(), b"Expires: 7200");
    for value in msg.values(HeaderName::Contact) {
        assert_eq!(msg.slice(value.span), value.bytes);
        assert_eq!(msg.span_of(value.bytes), Some(value.span));
    }
    let host = msg.top_via().unwrap().host;
    assert_eq!(msg.slice(msg.span_of(host).unwrap()), b"192.0.2.4");
    assert_eq!(msg.span_of(b"elsewhere"), None);
    assert_eq!(msg.slice(Span::new(msg.headers_end(), msg.body_span().start)), b"\r\n");
    assert_eq!(msg.slice(msg.request_uri_span()), b"sip:example.com");
}

#[test]
fn line_ends_of_lf_alone_and_line_ends_before_the_message_are_tolerated() {
    let msg = parse(&format!("\r\n\n{}", REGISTER.replace("\r\n", "\n")));
    assert_eq!(msg.validate(), Ok(()));
    assert_eq!(msg.first_line(), b"REGISTER sip:example.com SIP/2.0");
    assert!(msg.as_bytes().starts_with(b"REGISTER"));
    assert_eq!(msg.all_headers().count(), 13);
}

#[test]
fn a_header_without_a_value_keeps_its_place() {
    let msg = with("Subject:\r\nAllow: \r\n \r\nX: 1\r\n", "");
    assert_eq!(msg.header(HeaderName::Subject).unwrap().value(), b"");
    let allow = msg.header(HeaderName::Allow).unwrap();
    assert_eq!((allow.value(), &*allow.unfolded()), (&b""[..], &b""[..]));
    assert_eq!(allow.values().count(), 0);
    let span = msg.header(HeaderName::Subject).unwrap().value_span();
    assert!(span.is_empty());
    assert_eq!(msg.slice(Span::new(span.start - 1, span.end)), b":");
    assert_eq!(msg.header_by_text(b"x").unwrap().value(), b"1");
}

#[test]
fn a_body_longer_than_announced_is_cut() {
    let msg = with("l: 3\r\n", "abcdef");
    assert_eq!((msg.body(), msg.validate()), (&b"abc"[..], Ok(())));
    assert!(msg.as_bytes().ends_with(b"\r\n\r\nabc"));
    let msg = with("", "abcdef");
    assert_eq!((msg.body(), msg.validate()), (&b"abcdef"[..], Ok(())));
}

#[test]
fn a_body_shorter_than_announced_is_kept_and_refused_by_validation() {
    let msg = with("Content-Length: 9\r\n", "abc");
    assert_eq!(msg.body(), b"abc");
    let fault = msg.validate().unwrap_err();
    assert_eq!(fault, Invalid::BodyTooShort { announced: 9, present: 3 });
    assert_eq!(fault.status(), 400);
    assert_eq!(fault.to_string(), "Content-Length is 9, the body has 3 bytes");
}

#[test]
fn bytes_that_cannot_be_answered_are_refused_with_their_place() {
    use ParseErrorKind::*;
    assert_eq!(refuse("\r\n\r\n"), (Empty, 0));
    assert_eq!(refuse(""), (Empty, 0));
    assert_eq!(refuse([0, 0, 0, 0]).0, Unfinished);
    assert_eq!(refuse("\0\0\0\0\r\n\r\n"), (FirstLine, 0));
    assert_eq!(refuse("GET / HTTP/1.1\r\n\r\n"), (FirstLine, 0));
    assert_eq!(refuse("INVITE SIP/2.0\r\n\r\n"), (FirstLine, 0));
    assert_eq!(refuse("IN(VITE sip:a SIP/2.0\r\n\r\n"), (FirstLine, 0));
    assert_eq!(refuse("\r\nSIP/2.0 99 x\r\n\r\n"), (StatusCode, 10));
    assert_eq!(refuse("SIP/2.0 0200 x\r\n\r\n").0, StatusCode);
    assert_eq!(refuse("SIP/2.0 200 OK\r\nno colon\r\n\r\n"), (NoColon, 16));
    assert_eq!(refuse("SIP/2.0 200 OK\r\nto\r\n :x\r\n\r\n"), (HeaderName, 16));
    assert_eq!(refuse("SIP/2.0 200 OK\r\n folded: x\r\n\r\n"), (HeaderName, 16));
    assert_eq!(refuse("SIP/2.0 200 OK\r\n: x\r\n\r\n"), (HeaderName, 16));
    assert_eq!(refuse("SIP/2.0 200 OK\r\nTo: x\r\n"), (Unfinished, 23));
    assert_eq!(refuse("SIP/2.0 200 OK\r\nTo: x"), (Unfinished, 21));
}

#[test]
fn a_parse_error_reads_as_a_sentence() {
    let error = Message::parse(Bytes::from_static(b"SIP/2.0 99 x\r\n\r\n")).unwrap_err();
    let text = "the status code is not a number from 100 to 699 (at byte 8)";
    assert_eq!(error.to_string(), text);
}

#[test]
fn too_many_and_too_long_headers_are_refused() {
    let many = |n| format!("SIP/2.0 200 OK\r\n{}\r\n", "X: y\r\n".repeat(n));
    assert_eq!(parse(&many(255)).all_headers().count(), 255);
    assert_eq!(refuse(many(256)).0, ParseErrorKind::TooManyHeaders);
    let long = |n| format!("SIP/2.0 200 OK\r\nX:{}\r\n\r\n", "y".repeat(n));
    assert_eq!(parse(&long(32_764)).all_headers().count(), 1);
    assert_eq!(refuse(long(32_765)).0, ParseErrorKind::HeaderTooLong);
    let folds = format!("SIP/2.0 200 OK\r\nX:{}\r\n\r\n", "\r\n y".repeat(10_000));
    assert_eq!(refuse(folds).0, ParseErrorKind::HeaderTooLong);
    let line = format!("INVITE sip:{} SIP/2.0\r\n\r\n", "y".repeat(40_000));
    assert_eq!(refuse(line).0, ParseErrorKind::HeaderTooLong);
    let body = format!("SIP/2.0 200 OK\r\n\r\n{}", "y".repeat(65_518));
    assert_eq!(refuse(body.as_str()).0, ParseErrorKind::MessageTooLong);
    assert_eq!(parse(body.get(..65_535).unwrap()).body().len(), 65_517);
}

#[test]
fn the_last_allowed_header_is_found_by_name() {
    let text = format!("SIP/2.0 200 OK\r\n{}Call-ID: x\r\n\r\n", "X: y\r\n".repeat(254));
    assert_eq!(parse(&text).call_id(), Some(&b"x"[..]));
}

#[test]
fn validation_names_what_is_wrong() {
    let invite = |from: &str, to: &str| {
        let msg = with("", "");
        let text = String::from_utf8(msg.as_bytes().to_vec()).unwrap().replacen(from, to, 1);
        parse(&text).validate()
    };
    use HeaderName::*;
    assert_eq!(invite("", ""), Ok(()));
    assert_eq!(invite("SIP/2.0", "SIP/3.0"), Err(Invalid::Version));
    for (name, line) in [(Via, "Via:"), (From, "From:"), (To, "To:"), (CSeq, "CSeq:")] {
        assert_eq!(invite(line, "X:"), Err(Invalid::Missing(name)));
    }
    assert_eq!(invite("Call-ID:", "X:"), Err(Invalid::Missing(CallId)));
    assert_eq!(invite("Call-ID: c", "Call-ID:"), Err(Invalid::Header(CallId, ValueError::Empty)));
    assert_eq!(invite("To:", "f: x\r\nTo:"), Err(Invalid::Repeated(From)));
    assert_eq!(invite("To:", "Contact: x\r\nContact: y\r\nTo:"), Ok(()));
    assert_eq!(invite("1 INVITE", "1 ACK"), Err(Invalid::CSeqMethod(Method::Ack)));
    assert_eq!(invite("1 INVITE", "x INVITE"), Err(Invalid::Header(CSeq, ValueError::Number)));
    assert_eq!(invite("sip:b@h", "sip:b@"), Err(Invalid::RequestUri(UriError::Host)));
    assert_eq!(invite("UDP h", "UDP"), Err(Invalid::Header(Via, ValueError::SentBy)));
    assert_eq!(Invalid::Missing(CallId).to_string(), "Missing Call-ID header");
    let bad = Invalid::Header(To, ValueError::Quote);
    assert_eq!(bad.to_string(), "Bad To header: a quote is not closed");
}

#[test]
fn a_message_can_be_shared_between_threads() {
    fn check<T: Send + Sync + Clone + 'static>(_: &T) {}
    check(&parse(REGISTER));
    check(&Edits::new());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_refused_or_read_without_panic(bytes: Vec<u8>) {
        exercise(bytes);
    }

    #[test]
    fn damaged_messages_are_refused_or_read_without_panic(
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        end in any::<prop::sample::Index>(),
    ) {
        let mut bytes = REGISTER.as_bytes().to_vec();
        for (at, byte) in cuts {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(end.index(REGISTER.len() * 2));
        exercise(bytes);
    }

    #[test]
    fn lines_of_separators_are_read_without_panic(
        lines in proptest::collection::vec(
            "(Via|m|To|CSeq|l|From)? ?:?[ ,;<>\"\\\\=a:/\r\n\t]{0,12}",
            0..6,
        ),
    ) {
        exercise(format!("INVITE sip:a@b SIP/2.0\r\n{}\r\n\r\n", lines.join("\r\n")).into_bytes());
    }
}

/// Asks for everything a message can be asked for, and checks what must always hold.
fn exercise(bytes: Vec<u8>) {
    let Ok(msg) = Message::parse(Bytes::from(bytes)) else { return };
    let _ = (msg.validate(), msg.reason(), msg.method_bytes(), msg.from().is_ok());
    let _ = (msg.contact_list().is_ok(), msg.parse_request_uri().is_ok(), msg.expires());
    let mut end = msg.headers_start();
    for header in msg.all_headers() {
        assert_eq!(header.span().start, end);
        end = header.span().end;
        assert_eq!(msg.slice(header.value_span()), header.value());
        assert!(header.unfolded().len() <= header.value().len());
        for value in header.values() {
            assert_eq!(msg.slice(value.span), value.bytes);
            let _ = (Via::parse(value.bytes).is_ok(), NameAddr::parse(value.bytes).is_ok());
        }
    }
    assert_eq!(end, msg.headers_end());
    let mut edits = Edits::new();
    remove_top_via(&msg, &mut edits);
    let received = Received { ip: [127, 0, 0, 1].into(), port: 9, add_rport: true };
    let _ = mark_received(&msg, &mut Edits::new(), &received);
    let mut out = Vec::new();
    write(&msg, &edits, &mut out);
    let options =
        ReplyOptions { to_tag: Some(b"t"), received: Some(received), ..Default::default() };
    let reply = build_reply(&msg, 404, b"Not Found", &options);
    assert!(Message::parse(reply.into()).is_ok());
    let _ = (build_cancel(&msg, b"").is_ok(), build_ack(&msg, &msg, b"").is_ok());
}
