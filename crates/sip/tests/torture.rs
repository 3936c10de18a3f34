//! The test messages of RFC 4475 and RFC 5118, byte for byte. Each test is named after the file
//! and says what this layer must make of it.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use tandem_sip::*;

fn data(dir: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(dir)
}

fn read(dir: &str, file: &str) -> Bytes {
    fs::read(data(dir).join(format!("{file}.dat"))).unwrap().into()
}

fn parse(file: &str) -> Message {
    Message::parse(read("rfc4475", file)).unwrap()
}

fn valid(file: &str) -> Message {
    let msg = parse(file);
    assert_eq!(msg.validate(), Ok(()), "{file}");
    msg
}

fn fault(file: &str) -> Invalid {
    parse(file).validate().unwrap_err()
}

fn ipv6(file: &str) -> Message {
    Message::parse(read("rfc5118", file)).unwrap()
}

#[test]
fn every_message_is_read_answered_and_written_without_panic() {
    let mut seen = 0;
    for dir in ["rfc4475", "rfc5118"] {
        for entry in fs::read_dir(data(dir)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|e| e != "dat") {
                continue;
            }
            seen += 1;
            let bytes = Bytes::from(fs::read(path).unwrap());
            let Ok(msg) = Message::parse(bytes.clone()) else { continue };
            let mut out = Vec::new();
            write(&msg, &Edits::new(), &mut out);
            assert_eq!(out, msg.as_bytes());
            assert!(bytes.starts_with(&out));
            let status = msg.validate().err().map_or(200, |e| e.status());
            let reply = build_reply(&msg, status, b"Judged", &ReplyOptions::default());
            assert_eq!(Message::parse(reply.into()).unwrap().status(), status);
        }
    }
    assert_eq!(seen, 61);
}

#[test]
fn wsinv_whitespace_and_folding_everywhere() {
    let msg = valid("wsinv");
    assert_eq!(msg.to_tag(), Some(&b"1918181833n"[..]));
    assert_eq!(msg.from_tag(), Some(&b"98asjd8"[..]));
    assert_eq!(&*msg.from().unwrap().display_text(), br#"J Rosenberg \""#);
    assert_eq!(msg.max_forwards(), Ok(Some(68)));
    assert_eq!(msg.cseq().unwrap().number, 9);
    let vias: Vec<_> = msg.vias().map(Result::unwrap).collect();
    assert_eq!(vias.len(), 3);
    assert_eq!(vias[0].branch, Some(&b"390skdjuw"[..]));
    assert_eq!(vias[1].transport, Some(Transport::Tcp));
    assert_eq!(vias[1].branch, Some(&b"z9hG4bK9ikj8"[..]));
    assert_eq!(vias[2].host, b"192.168.255.111");
    assert_eq!(vias[2].branch, Some(&b"z9hG4bK30239"[..]));
    let list = msg.contact_list().unwrap();
    assert_eq!(list.contacts()[0].q(), Ok(Some(330)));
    assert_eq!(list.contacts()[0].params().value(b"newparam"), Some(&b"newvalue"[..]));
    let route = msg.routes().next().unwrap().unwrap();
    assert!(route.parse_uri().unwrap().is_loose_router());
    let new_fangled = msg.header_by_text(b"newfangledheader").unwrap();
    assert_eq!(&*new_fangled.unfolded(), b"newfangled value continued newfangled value");
    assert_eq!(msg.header(HeaderName::Subject).unwrap().value(), b"");
}

#[test]
fn intmeth_wide_range_of_characters() {
    let msg = valid("intmeth");
    assert_eq!(msg.method(), Method::Other);
    assert_eq!(msg.method_bytes(), b"!interesting-Method0123456789_*+`.%indeed'~");
    let uri = msg.parse_request_uri().unwrap();
    assert_eq!(uri.host, b"example.com");
    assert_eq!(uri.password, Some(&b"&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"[..]));
    assert_eq!(msg.to().unwrap().display, b"\"BEL:\\\x07 NUL:\\\x00 DEL:\\\x7f\"");
    assert!(msg.from_tag().unwrap().starts_with(b"_token~1'+`*%!-."));
}

#[test]
fn esc01_escapes_are_taken_and_the_user_is_not_a_uri() {
    let msg = valid("esc01");
    let uri = msg.parse_request_uri().unwrap();
    assert_eq!((uri.scheme, uri.host), (Scheme::Sip, &b"example.net"[..]));
    assert_eq!(&*unescape(uri.user.unwrap()), b"sips:user@example.com");
    let contact = msg.contact_list().unwrap().contacts()[0];
    let other = Uri::parse(b"sip:caller@host5.example.net;lr;name=value%41").unwrap();
    assert_eq!(contact.addr.parse_uri().unwrap().host, other.host);
}

#[test]
fn escnull_escaped_nulls_stay_escaped() {
    let msg = valid("escnull");
    let list = msg.contact_list().unwrap();
    assert_eq!(list.contacts().len(), 2);
    let user = list.contacts()[1].addr.parse_uri().unwrap().user.unwrap();
    assert_eq!((user, &*unescape(user)), (&b"%00%00"[..], &b"\0\0"[..]));
}

#[test]
fn esc02_percent_in_tokens_is_no_escape() {
    let msg = valid("esc02");
    assert_eq!(msg.method_bytes(), b"RE%47IST%45R");
    assert_eq!(msg.method(), Method::Other);
    assert_eq!(msg.top_via().unwrap().branch, Some(&b"z9hG4bK209%fzsnel234"[..]));
    assert_eq!(msg.contact_list().unwrap().contacts().len(), 2);
    assert_eq!(&*msg.to().unwrap().display_text(), b"%Z%45");
}

#[test]
fn lwsdisp_no_space_between_display_name_and_bracket() {
    let msg = valid("lwsdisp");
    assert_eq!(msg.from().unwrap().display, b"caller");
    assert_eq!(msg.from_tag(), Some(&b"323"[..]));
}

#[test]
fn longreq_long_values_and_many_vias() {
    let msg = valid("longreq");
    assert_eq!(msg.vias().filter(Result::is_ok).count(), 34);
    assert_eq!(msg.top_via().unwrap().host, b"sip33.example.com");
    assert_eq!(msg.content_length(), Ok(Some(150)));
    assert_eq!(msg.body().len(), 150);
}

#[test]
fn dblreq_bytes_behind_the_body_are_cut() {
    let msg = valid("dblreq");
    assert_eq!(msg.method(), Method::Register);
    assert!(msg.body().is_empty());
    assert!(msg.as_bytes().ends_with(b"Content-Length: 0\r\n\r\n"));
}

#[test]
fn semiuri_semicolon_in_the_user_part() {
    let msg = valid("semiuri");
    let uri = msg.parse_request_uri().unwrap();
    assert_eq!(&*unescape(uri.user.unwrap()), b"user;par=u@example.net");
    assert_eq!(msg.values(HeaderName::Accept).count(), 6);
}

#[test]
fn transports_known_and_unknown() {
    let msg = valid("transports");
    let transports: Vec<_> = msg.vias().map(|v| v.unwrap().transport).collect();
    assert_eq!(
        transports,
        [
            Some(Transport::Udp),
            Some(Transport::Sctp),
            Some(Transport::Tls),
            None,
            Some(Transport::Tcp)
        ]
    );
}

#[test]
fn mpart01_binary_body_is_whole() {
    let msg = valid("mpart01");
    assert_eq!(msg.method(), Method::Message);
    assert_eq!(msg.content_length().unwrap(), Some(msg.body_span().len()));
    assert!(msg.body().ends_with(b"--7a9cbec02ceef655--\r\n"));
}

#[test]
fn unreason_and_noreason_replies() {
    let msg = valid("unreason");
    assert_eq!((msg.is_request(), msg.status(), msg.method()), (false, 200, Method::Invite));
    assert!(msg.reason().starts_with(b"= 2**3 * 5**2 \xd0\xbd"));
    let msg = valid("noreason");
    assert_eq!((msg.status(), msg.reason()), (100, &b""[..]));
}

#[test]
fn badinv01_separators_without_values_are_skipped() {
    let msg = parse("badinv01");
    assert_eq!(msg.top_via().unwrap().host, b"192.0.2.15");
    assert!(msg.vias().nth(1).unwrap().is_err());
}

#[test]
fn clerr_announces_more_than_there_is() {
    assert_eq!(fault("clerr"), Invalid::BodyTooShort { announced: 9999, present: 154 });
}

#[test]
fn ncl_negative_content_length() {
    assert_eq!(fault("ncl"), Invalid::Header(HeaderName::ContentLength, ValueError::Number));
}

#[test]
fn scalar02_and_scalarlg_numbers_out_of_range() {
    assert_eq!(fault("scalar02"), Invalid::Header(HeaderName::CSeq, ValueError::Number));
    let msg = parse("scalar02");
    assert_eq!(msg.expires(), Err(ValueError::Number));
    assert_eq!(msg.contact_list().unwrap().contacts()[0].expires(), Err(ValueError::Number));
    assert_eq!(fault("scalarlg"), Invalid::Header(HeaderName::CSeq, ValueError::Number));
}

#[test]
fn quotbal_unbalanced_quote_in_to() {
    assert_eq!(fault("quotbal"), Invalid::Header(HeaderName::To, ValueError::Quote));
}

#[test]
fn ltgtruri_and_lwsruri_malformed_request_uris() {
    assert!(matches!(fault("ltgtruri"), Invalid::RequestUri(_)));
    assert_eq!(fault("lwsruri"), Invalid::RequestUri(UriError::Character));
    assert_eq!(fault("lwsruri").status(), 400);
}

#[test]
fn lwsstart_and_trws_extra_spaces_in_the_first_line() {
    assert_eq!(valid("lwsstart").request_uri(), b"sip:user@example.com");
    assert_eq!(valid("trws").request_uri(), b"sip:remote-target@example.com");
}

#[test]
fn escruri_headers_in_the_request_uri_are_seen() {
    let msg = valid("escruri");
    let uri = msg.parse_request_uri().unwrap();
    assert_eq!(uri.headers, Some(&b"Route=%3Csip:example.com%3E"[..]));
}

#[test]
fn baddate_is_left_to_whom_it_concerns() {
    valid("baddate");
}

#[test]
fn regbadct_bare_contact_with_headers() {
    let msg = valid("regbadct");
    assert_eq!(msg.contact_list().err(), Some(ValueError::BareUri));
    let list = valid("regescrt");
    let uri = list.contact_list().unwrap().contacts()[0].addr.parse_uri().unwrap();
    assert_eq!(uri.headers, Some(&b"Route=%3Csip:sip.example.com%3E"[..]));
}

#[test]
fn badaspec_spaces_inside_brackets_are_cut() {
    assert_eq!(valid("badaspec").to().unwrap().uri, b"sip:t.watson@example.org");
}

#[test]
fn baddn_comma_in_an_unquoted_display_name_is_forgiven() {
    // The file lacks the empty line, without which a message may have been cut anywhere.
    let bytes = read("rfc4475", "baddn");
    let error = Message::parse(bytes.clone()).unwrap_err();
    assert_eq!(error.kind, ParseErrorKind::Unfinished);
    let msg = Message::parse([&bytes[..], b"\r\n"].concat().into()).unwrap();
    assert_eq!(msg.validate(), Ok(()));
    assert_eq!(msg.from().unwrap().display, b"Bell, Alexander");
    assert_eq!(msg.from_tag(), Some(&b"43"[..]));
}

#[test]
fn badvers_gets_505() {
    assert_eq!(fault("badvers"), Invalid::Version);
    assert_eq!(fault("badvers").status(), 505);
}

#[test]
fn mismatch_between_method_and_cseq() {
    assert_eq!(fault("mismatch01"), Invalid::CSeqMethod(Method::Invite));
    assert_eq!(fault("mismatch02"), Invalid::CSeqMethod(Method::Invite));
}

#[test]
fn bigcode_status_that_is_no_status() {
    let error = Message::parse(read("rfc4475", "bigcode")).unwrap_err();
    assert_eq!(error.kind, ParseErrorKind::StatusCode);
}

#[test]
fn badbranch_and_inv2543_do_not_identify_a_transaction() {
    assert!(!valid("badbranch").top_via().unwrap().has_rfc3261_branch());
    let msg = valid("inv2543");
    assert_eq!(msg.top_via().unwrap().branch, None);
    assert_eq!((msg.from_tag(), msg.content_length()), (None, Ok(None)));
    assert!(msg.body().starts_with(b"v=0\r\n"));
}

#[test]
fn insuf_lacks_mandatory_headers() {
    assert!(matches!(fault("insuf"), Invalid::Missing(_)));
}

#[test]
fn unknown_schemes_are_left_to_routing() {
    for file in ["unkscm", "novelsc"] {
        assert_eq!(valid(file).parse_request_uri().unwrap().scheme, Scheme::Other);
    }
    let msg = valid("unksm2");
    assert_eq!(msg.to().unwrap().parse_uri().unwrap().scheme_bytes, b"isbn");
    assert_eq!(msg.contact_list().unwrap().contacts()[0].uri(), b"name:John_Smith");
}

#[test]
fn bext01_lists_of_option_tags() {
    let msg = valid("bext01");
    assert!(msg.has_token(HeaderName::ProxyRequire, b"nordoanyproxiessupportthis"));
    assert!(!msg.has_token(HeaderName::ProxyRequire, b"path"));
}

#[test]
fn messages_that_only_a_user_agent_would_refuse() {
    for file in ["invut", "regaut01", "sdp01", "bcast", "zeromf"] {
        valid(file);
    }
    assert_eq!(valid("zeromf").max_forwards(), Ok(Some(0)));
}

#[test]
fn multi01_and_mcl01_repeat_single_headers() {
    assert!(matches!(fault("multi01"), Invalid::Repeated(_)));
    assert_eq!(fault("mcl01"), Invalid::Repeated(HeaderName::ContentLength));
}

#[test]
fn cparam_parameter_of_the_header_or_of_the_uri() {
    let msg = valid("cparam01");
    let contact = msg.contact_list().unwrap().contacts()[0];
    assert_eq!(contact.params().get(b"unknownparam"), Some(None));
    assert_eq!(contact.addr.parse_uri().unwrap().param(b"unknownparam"), None);
    let msg = valid("cparam02");
    let contact = msg.contact_list().unwrap().contacts()[0];
    assert_eq!(contact.params().get(b"unknownparam"), None);
    assert_eq!(contact.addr.parse_uri().unwrap().param(b"unknownparam"), Some(None));
}

#[test]
fn ipv6_references_in_uri_and_via() {
    let msg = ipv6("ipv6-good");
    assert_eq!(msg.validate(), Ok(()));
    assert_eq!(msg.parse_request_uri().unwrap().host_bare(), b"2001:db8::10");
    assert_eq!(msg.top_via().unwrap().host_ip(), "2001:db8::9:1".parse().ok());
}

#[test]
fn ipv6_without_brackets_is_refused() {
    assert_eq!(ipv6("ipv6-bad").validate(), Err(Invalid::RequestUri(UriError::Port)));
}

#[test]
fn ipv6_port_inside_and_outside_of_the_brackets() {
    let msg = ipv6("port-ambiguous");
    let uri = msg.parse_request_uri().unwrap();
    assert_eq!((uri.host, uri.port), (&b"[2001:db8::10:5070]"[..], None));
    let msg = ipv6("port-unambiguous");
    let uri = msg.parse_request_uri().unwrap();
    assert_eq!((uri.host, uri.port), (&b"[2001:db8::10]"[..], Some(5070)));
}

#[test]
fn ipv6_received_with_and_without_brackets() {
    for file in ["via-received-param-no-delim", "via-received-param-with-delim"] {
        let msg = ipv6(file);
        assert_eq!(msg.validate(), Ok(()));
        assert_eq!(msg.top_via().unwrap().received_ip(), "2001:db8::9:255".parse().ok());
    }
}

#[test]
fn ipv6_mixed_with_ipv4() {
    let msg = ipv6("mult-ip-in-header");
    assert_eq!(msg.vias().filter(Result::is_ok).count(), 3);
    let msg = ipv6("ipv4-mapped-ipv6");
    assert_eq!(msg.validate(), Ok(()));
    assert_eq!(msg.top_via().unwrap().port, Some(19823));
    assert_eq!(msg.top_via().unwrap().host_ip(), "::ffff:192.0.2.10".parse().ok());
    for file in ["ipv6-in-sdp", "mult-ip-in-sdp"] {
        assert_eq!(ipv6(file).validate(), Ok(()));
    }
}

#[test]
fn ipv6_three_colons_are_no_address() {
    assert_eq!(ipv6("ipv6-correct-abnf-2-colons").validate(), Ok(()));
    let fault = ipv6("ipv6-bug-abnf-3-colons").validate();
    assert_eq!(fault, Err(Invalid::RequestUri(UriError::Host)));
}
