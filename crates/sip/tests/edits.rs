//! Editing messages: what is not named stays, and edits that meet resolve by their rules.

#![allow(clippy::unwrap_used)] // helpers of tests

use bytes::Bytes;
use proptest::prelude::*;
use tandem_sip::*;

const INVITE: &str = "INVITE sip:bob@h SIP/2.0\r\n\
    Via: SIP/2.0/UDP a;branch=z9hG4bK1\r\n\
    v : SIP/2.0/UDP b;branch=z9hG4bK2 ,  SIP/2.0/UDP c\r\n\
    From: <sip:a@h>;tag=1\r\n\
    To: <sip:bob@h>\r\n\
    Call-ID:  odd   spacing\t\r\n\
    CSeq: 1 INVITE\r\n\
    Content-Type: application/sdp\r\n\
    Content-Length: 4\r\n\
    \r\n\
    v=0\n";

fn parse(text: &str) -> Message {
    Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn written(msg: &Message, edits: &Edits) -> String {
    let mut out = Vec::new();
    write(msg, edits, &mut out);
    String::from_utf8(out).unwrap()
}

/// The message with one part exchanged.
fn with(from: &str, to: &str) -> String {
    assert!(INVITE.contains(from));
    INVITE.replacen(from, to, 1)
}

#[test]
fn without_edits_the_message_leaves_as_it_came() {
    let msg = parse(INVITE);
    assert!(Edits::new().is_empty());
    assert_eq!(written(&msg, &Edits::new()), INVITE);
}

#[test]
fn headers_are_added_in_front_and_behind() {
    let msg = parse(INVITE);
    let mut edits = Edits::new();
    edits.append_header(&msg, "A: 1\r\n");
    edits.append_header(&msg, "B: 2\r\n");
    edits.prepend_header(&msg, "C: 3\r\n");
    edits.prepend_header(&msg, "D: 4\r\n");
    let expected = with("Via: SIP/2.0/UDP a", "D: 4\r\nC: 3\r\nVia: SIP/2.0/UDP a")
        .replace("Length: 4\r\n", "Length: 4\r\nA: 1\r\nB: 2\r\n");
    assert_eq!(written(&msg, &edits), expected);
    assert_eq!(edits.len(), 4);
}

#[test]
fn the_first_line_can_be_written_anew() {
    let msg = parse(INVITE);
    let mut edits = Edits::new();
    edits.set_request_uri(&msg, "sip:carol@x");
    assert_eq!(written(&msg, &edits), with("sip:bob@h SIP", "sip:carol@x SIP"));
    edits.set_request_uri(&msg, "sip:dave@x");
    assert_eq!(written(&msg, &edits), with("sip:bob@h SIP", "sip:dave@x SIP"));
    edits.set_first_line(&msg, "OPTIONS sip:h SIP/2.0");
    assert_eq!(written(&msg, &edits), with("INVITE sip:bob@h SIP/2.0", "OPTIONS sip:h SIP/2.0"));
}

#[test]
fn of_overlapping_edits_the_later_wins() {
    let msg = parse(INVITE);
    let to = msg.header(HeaderName::To).unwrap();
    let mut edits = Edits::new();
    edits.replace(to.value_span(), "lost");
    edits.insert_after(to.value_span().start + 3, "lost");
    edits.remove(to.span());
    edits.insert_after(to.value_span().start, "lost");
    edits.insert_before(to.span().start, "X: 1\r\n");
    edits.insert_after(to.span().end, "Y: 1\r\n");
    assert_eq!(written(&msg, &edits), with("To: <sip:bob@h>\r\n", "X: 1\r\nY: 1\r\n"));
    edits.replace(to.value_span(), "<sip:won@h>");
    let expected = with("To: <sip:bob@h>\r\n", "X: 1\r\nTo: <sip:won@h>\r\nY: 1\r\n");
    assert_eq!(written(&msg, &edits), expected);
}

#[test]
fn edits_that_would_break_the_frame_are_not_applied() {
    let msg = parse(INVITE);
    let (end, len) = (msg.headers_end(), msg.as_bytes().len() as u32);
    let mut edits = Edits::new();
    edits.remove(Span::new(end - 2, end + 1));
    edits.insert_after(end + 1, "x");
    edits.replace(Span::new(len, len + 5), "x");
    edits.insert_after(len + 1, "x");
    assert_eq!(written(&msg, &edits), INVITE);
    edits.set_request_uri(&parse("SIP/2.0 200 OK\r\n\r\n"), "sip:x");
    assert_eq!(written(&msg, &edits), INVITE);
}

#[test]
fn content_length_follows_the_body() {
    let msg = parse(INVITE);
    let body = msg.body_span();
    let mut edits = Edits::new();
    edits.insert_after(body.start, "more ");
    edits.replace(Span::new(body.start, body.start + 1), "");
    let expected = with("v=0\n", "more =0\n").replace("Length: 4", "Length: 8");
    assert_eq!(written(&msg, &edits), expected);
    edits.set_body("text/plain", "0123456789");
    let expected = with("v=0\n", "0123456789")
        .replace("Length: 4", "Length: 10")
        .replace("application/sdp", "text/plain");
    assert_eq!(written(&msg, &edits), expected);
    assert_eq!(edits.body().map(|b| &b[..]), Some(&b"0123456789"[..]));
}

#[test]
fn a_body_comes_with_its_headers_and_goes_with_them() {
    let bare = "SIP/2.0 200 OK\r\nTo: x\r\n\r\n";
    let msg = parse(bare);
    let mut edits = Edits::new();
    edits.set_body("text/plain", "hi");
    edits.set_body("text/html", "hey");
    let expected =
        "SIP/2.0 200 OK\r\nTo: x\r\nContent-Type: text/html\r\nContent-Length: 3\r\n\r\nhey";
    assert_eq!(written(&msg, &edits), expected);

    let msg = parse(expected);
    let mut edits = Edits::new();
    edits.remove_body();
    let expected = "SIP/2.0 200 OK\r\nTo: x\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(written(&msg, &edits), expected);
}

#[test]
fn a_removed_content_length_comes_back_when_the_body_changes() {
    let msg = parse(INVITE);
    let mut edits = Edits::new();
    edits.remove(msg.header(HeaderName::ContentLength).unwrap().span());
    edits.append_header(&msg, "X: 1\r\n");
    edits.insert_after(msg.body_span().end, "s=-\n");
    let expected = with("Content-Length: 4\r\n", "X: 1\r\nContent-Length: 8\r\n")
        .replace("v=0\n", "v=0\ns=-\n");
    assert_eq!(written(&msg, &edits), expected);
}

#[test]
fn our_via_goes_on_top_of_all_vias() {
    let msg = parse(INVITE);
    let mut edits = Edits::new();
    let line = |port, host: &'static [u8]| {
        let branch = b"z9hG4bKd8f1.0";
        ViaLine { transport: Transport::Tcp, host, port, branch, params: b";i=7" }.to_bytes()
    };
    add_via(&msg, &mut edits, line(Some(5070), b"[::1]"));
    add_via(&msg, &mut edits, line(None, b"top"));
    let top = "Via: SIP/2.0/TCP top;branch=z9hG4bKd8f1.0;i=7\r\n";
    let below = "Via: SIP/2.0/TCP [::1]:5070;branch=z9hG4bKd8f1.0;i=7\r\n";
    let out = written(&msg, &edits);
    assert_eq!(out, with("Via: ", &format!("{top}{below}Via: ")));
    assert_eq!(parse(&out).top_via().map(|v| v.host), Ok(&b"top"[..]));
}

#[test]
fn the_topmost_via_value_is_taken_off_one_by_one() {
    let mut text = INVITE.to_owned();
    for left in
        ["v : SIP/2.0/UDP b;branch=z9hG4bK2 ,  SIP/2.0/UDP c\r\n", "v : SIP/2.0/UDP c\r\n", ""]
    {
        let msg = parse(&text);
        let mut edits = Edits::new();
        assert!(remove_top_via(&msg, &mut edits));
        text = written(&msg, &edits);
        assert!(text.starts_with(&format!("INVITE sip:bob@h SIP/2.0\r\n{left}From: ")), "{text}");
    }
    assert!(!remove_top_via(&parse(&text), &mut Edits::new()));
}

fn marked(via: &str, ip: &str, port: u16, add_rport: bool) -> String {
    let msg = parse(&format!("OPTIONS sip:h SIP/2.0\r\nVia: {via}\r\n\r\n"));
    let mut edits = Edits::new();
    let source = Received { ip: ip.parse().unwrap(), port, add_rport };
    let changed = mark_received(&msg, &mut edits, &source).unwrap();
    assert_eq!(changed, !edits.is_empty());
    let out = written(&msg, &edits);
    let via = out.split("Via: ").nth(1).unwrap();
    via.trim_end_matches("\r\n").to_owned()
}

#[test]
fn the_source_is_noted_where_the_via_does_not_say_it() {
    let u = "SIP/2.0/UDP";
    let same = |via: &str| assert_eq!(marked(via, "192.0.2.1", 5060, false), via);
    same("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1");
    same("SIP/2.0/UDP 192.0.2.1;rport=5060;received=192.0.2.1");
    let mark = |via: &str| marked(&format!("{u} {via}"), "192.0.2.9", 99, false);
    assert_eq!(mark("h;branch=b"), format!("{u} h;branch=b;received=192.0.2.9"));
    assert_eq!(mark("192.0.2.1"), format!("{u} 192.0.2.1;received=192.0.2.9"));
    assert_eq!(
        mark("192.0.2.9;rport;branch=b , SIP/2.0/UDP x"),
        format!("{u} 192.0.2.9;rport=99;branch=b;received=192.0.2.9 , SIP/2.0/UDP x")
    );
    assert_eq!(
        mark("192.0.2.9;received=203.0.113.5;rport=1"),
        format!("{u} 192.0.2.9;received=192.0.2.9;rport=99")
    );
}

#[test]
fn the_port_is_noted_if_the_script_wants_it() {
    let out = marked("SIP/2.0/UDP [::1]", "::1", 99, true);
    assert_eq!(out, "SIP/2.0/UDP [::1];received=::1;rport=99");
    let out = marked("SIP/2.0/UDP 192.0.2.1", "::ffff:192.0.2.1", 99, false);
    assert_eq!(out, "SIP/2.0/UDP 192.0.2.1");
}

/// One call of the interface.
#[derive(Clone, Debug)]
enum Op {
    Replace(u32, u32, String),
    Before(u32, String),
    After(u32, String),
}

/// An edit that survived: start, end, order among insertions at one place, text.
type Kept = (u32, u32, i64, String);

/// The rules of `Edits`, in the simplest way that can be written down.
fn resolve(ops: &[Op]) -> Vec<Kept> {
    let mut kept: Vec<Kept> = Vec::new();
    for (i, op) in ops.iter().enumerate() {
        let (start, end, order, text) = match op {
            Op::Replace(s, e, t) if s < e => (*s, *e, 0, t),
            Op::Replace(s, _, t) | Op::After(s, t) => (*s, *s, i as i64 + 1, t),
            Op::Before(s, t) => (*s, *s, -(i as i64) - 1, t),
        };
        if start < end {
            kept.retain(
                |(s, e, ..)| {
                    if s == e { *s <= start || *s >= end } else { *e <= start || *s >= end }
                },
            );
        } else if text.is_empty() || kept.iter().any(|(s, e, ..)| *s < start && start < *e) {
            continue;
        }
        kept.push((start, end, order, text.clone()));
    }
    kept
}

/// Writes byte by byte.
fn reference(msg: &Message, ops: &[Op]) -> Vec<u8> {
    let len = msg.as_bytes().len() as u32;
    let body = msg.body_span().start;
    let fits = |k: &Kept| k.1 <= len && (k.1 <= msg.headers_end() || k.0 >= body);
    let in_body = |k: &&Kept| k.0 >= body && fits(k);
    let kept = resolve(ops);
    let mut ops = ops.to_vec();
    if kept.iter().filter(in_body).count() > 0 {
        let grown: i64 = kept
            .iter()
            .filter(in_body)
            .map(|(s, e, _, text)| text.len() as i64 - i64::from(e - s))
            .sum();
        let length = msg.body().len() as i64 + grown;
        let header = msg.header(HeaderName::ContentLength).unwrap();
        let line = header.span();
        let touched = kept.iter().any(|(s, e, ..)| {
            if s == e { line.start < *s && *s < line.end } else { *s < line.end && *e > line.start }
        });
        if touched {
            ops.push(Op::Replace(line.start, line.end, String::new()));
            ops.push(Op::After(msg.headers_end(), format!("Content-Length: {length}\r\n")));
        } else {
            let value = header.value_span();
            ops.push(Op::Replace(value.start, value.end, length.to_string()));
        }
    }
    let kept: Vec<Kept> = resolve(&ops).into_iter().filter(fits).collect();
    let mut out = Vec::new();
    let mut at = 0;
    while at <= len {
        let mut here: Vec<&Kept> = kept.iter().filter(|k| k.0 == at && k.1 == at).collect();
        here.sort_by_key(|k| k.2);
        here.iter().for_each(|k| out.extend(k.3.bytes()));
        if let Some((_, end, _, text)) = kept.iter().find(|k| k.0 == at && k.1 > at) {
            out.extend(text.bytes());
            at = *end;
        } else {
            out.extend(msg.as_bytes().get(at as usize));
            at += 1;
        }
    }
    out
}

fn op() -> impl Strategy<Value = Op> {
    let len = INVITE.len() as u32;
    let text = || "[A-Z]{0,4}";
    // Most edits near the end, where headers, empty line and body meet.
    let offset = || prop_oneof![0..len + 4, len - 40..len + 4];
    prop_oneof![
        (offset(), 0..12u32, text()).prop_map(|(s, n, t)| Op::Replace(s, s + n, t)),
        (offset(), text()).prop_map(|(s, t)| Op::Before(s, t)),
        (offset(), text()).prop_map(|(s, t)| Op::After(s, t)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: 2000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_edits_equal_the_naive_reference(ops in proptest::collection::vec(op(), 0..12)) {
        let msg = parse(INVITE);
        let mut edits = Edits::new();
        for op in &ops {
            match op.clone() {
                Op::Replace(s, e, t) => edits.replace(Span::new(s, e), t),
                Op::Before(s, t) => edits.insert_before(s, t),
                Op::After(s, t) => edits.insert_after(s, t),
            }
        }
        let mut out = b"kept".to_vec();
        write(&msg, &edits, &mut out);
        let expected = reference(&msg, &ops);
        prop_assert_eq!(String::from_utf8_lossy(&out[4..]), String::from_utf8_lossy(&expected));
    }

    #[test]
    fn untouched_headers_are_read_back_the_same(
        name in "X-[a-z]{1,6}",
        value in "[a-z][a-z ,;]{0,10}[a-z]",
        uri in "sip:[a-z]{1,5}@[a-z]{1,5}",
        body in "[a-z]{0,20}",
    ) {
        let msg = parse(INVITE);
        let mut edits = Edits::new();
        edits.append_header(&msg, format!("{name}: {value}\r\n"));
        edits.set_request_uri(&msg, uri.clone());
        edits.set_body("text/plain", body.clone());
        let out = parse(&written(&msg, &edits));
        prop_assert_eq!(out.validate(), Ok(()));
        prop_assert_eq!(out.request_uri(), uri.as_bytes());
        prop_assert_eq!(out.header_by_text(name.as_bytes()).unwrap().value(), value.as_bytes());
        prop_assert_eq!(out.body(), body.as_bytes());
        prop_assert_eq!(out.content_length(), Ok(Some(body.len() as u32)));
        for name in [HeaderName::Via, HeaderName::From, HeaderName::To, HeaderName::CallId] {
            let expected = msg.headers(name).map(|h| h.line());
            prop_assert!(out.headers(name).map(|h| h.line()).eq(expected));
        }
    }
}
