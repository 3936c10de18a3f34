//! What transactions cost in memory, and that they give it back.
//!
//! `TANDEM_SOAK=400000` makes the soak one of a million transactions: a call is one of the caller
//! and one of the callee, and two more when it is cancelled. Resident memory is what is measured.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use crate::common;

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use common::{CALLEE, CALLER, MODULES};
use serde_json::json;
use tandem_engine::testing::TestNode;

/// Calls of the soak, unless the environment says otherwise.
const SOAK: usize = 8_000;
/// Calls that are held at once.
const HELD: usize = 5_000;
/// Milliseconds from one call of the soak to the next: some thousand transactions are there at any
/// time, the same number from the first minute to the last.
const PACE_MS: u64 = 10;
/// Bytes that a waiting call, which is two transactions, may cost beside its request.
const BYTES_MAX: usize = 6_000;

const SCRIPT: &str = "socket=udp:127.0.0.1:5060\nlog_level=1\nloadmodule \"proto_udp.so\"\n\
    loadmodule \"tm.so\"\nloadmodule \"signaling.so\"\nloadmodule \"sipmsgops.so\"\n\
    route { if (is_method(\"ACK\")) { t_relay(); exit; } t_relay(); }";

/// Memory is the process's: one test at a time measures it.
static MEASURES: Mutex<()> = Mutex::new(());

fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// An INVITE as phones send it, with a body.
fn invite(n: usize) -> Bytes {
    let body = "v=0\r\no=- 1 1 IN IP4 127.0.0.9\r\ns=-\r\nc=IN IP4 127.0.0.9\r\nt=0 0\r\n\
        m=audio 4000 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
        a=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n";
    Bytes::from(format!(
        "INVITE sip:bob@{CALLEE} SIP/2.0\r\nVia: SIP/2.0/UDP {CALLER};rport;branch=z9hG4bKi{n}\r\n\
         Max-Forwards: 70\r\nFrom: \"Alice\" <sip:alice@example.org>;tag=f{n}\r\n\
         To: <sip:bob@example.org>\r\nCall-ID: call-{n}@127.0.0.9\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:alice@{CALLER}>\r\nUser-Agent: Phone/1.0\r\nAllow: INVITE, ACK, CANCEL, BYE\
         \r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

/// A reply of the callee to what was forwarded.
fn reply(forwarded: &str, code: u16) -> Bytes {
    let mut text = format!("SIP/2.0 {code} Reply\r\n");
    for line in forwarded.lines() {
        let lower = line.to_ascii_lowercase();
        if lower.starts_with("to:") {
            text += &format!("{line};tag=t\r\n");
        } else if ["via:", "from:", "call-id:", "cseq:"].iter().any(|h| lower.starts_with(h)) {
            text += &format!("{line}\r\n");
        }
    }
    Bytes::from(text + "Content-Length: 0\r\n\r\n")
}

/// What went to the callee of what the node has sent; the rest is forgotten.
fn forwarded(node: &mut TestNode, method: &str) -> Vec<String> {
    let callee = CALLEE.parse().unwrap();
    let sent = node.sent().into_iter();
    sent.filter(|(to, text)| *to == callee && text.starts_with(method)).map(|s| s.1).collect()
}

fn in_use(node: &mut TestNode) -> u64 {
    let answer = node.mi("get_statistics", json!([["tm:inuse_transactions"]]));
    answer["result"]["tm:inuse_transactions"].as_u64().unwrap()
}

#[test]
fn a_waiting_call_costs_little_more_than_its_message() {
    let _alone = MEASURES.lock().unwrap_or_else(PoisonError::into_inner);
    let mut node = TestNode::new(SCRIPT, MODULES);
    // What is needed once is there before.
    hold(&mut node, 0..1_000);
    let before = resident();
    hold(&mut node, 1_000..1_000 + HELD);
    let each = (resident() - before) / HELD;
    let message = invite(5_000).len();
    eprintln!("{each} bytes a call, of which {message} are the message");
    assert_eq!(in_use(&mut node), 1_000 + HELD as u64);
    assert!(each < message + BYTES_MAX, "{each} bytes with a message of {message}");
}

/// Calls that ring and nobody answers.
fn hold(node: &mut TestNode, calls: std::ops::Range<usize>) {
    for n in calls {
        node.raw_udp(CALLER, invite(n));
        for text in forwarded(node, "INVITE") {
            node.raw_udp(CALLEE, reply(&text, 180));
        }
        node.sent();
    }
}

#[test]
fn after_a_soak_memory_is_where_it_was() {
    let _alone = MEASURES.lock().unwrap_or_else(PoisonError::into_inner);
    let wanted = std::env::var("TANDEM_SOAK").ok().and_then(|n| n.parse().ok()).unwrap_or(SOAK);
    let mut node = TestNode::new(SCRIPT, MODULES);
    let mut next = 0;
    let mut run = |node: &mut TestNode, count: usize| {
        calls(node, next..next + count);
        next += count;
        // The last timer of the last call has fired, and some.
        node.advance_ms(200_000);
    };
    run(&mut node, wanted.min(40_000) / 2);
    let before = resident();
    run(&mut node, wanted - wanted.min(40_000) / 2);
    let after = resident();
    eprintln!("{} KiB before, {} KiB after {wanted} calls", before >> 10, after >> 10);
    assert_eq!(in_use(&mut node), 0, "no transaction has outlived its timers");
    assert!(after < before + (4 << 20), "{before} bytes before, {after} after");
}

/// A third of the calls is answered, one rejected, one cancelled; time goes on between them.
fn calls(node: &mut TestNode, numbers: std::ops::Range<usize>) {
    for n in numbers {
        node.raw_udp(CALLER, invite(n));
        let sent = forwarded(node, "INVITE");
        let [text] = sent.as_slice() else { panic!("{} INVITEs were forwarded", sent.len()) };
        node.raw_udp(CALLEE, reply(text, 180));
        match n % 3 {
            0 => node.raw_udp(CALLEE, reply(text, 200)),
            1 => {
                node.raw_udp(CALLEE, reply(text, 486));
                node.raw_udp(CALLER, follow(n, "ACK"));
            }
            _ => cancelled(node, n, text),
        }
        node.sent();
        node.advance_ms(PACE_MS);
    }
}

fn cancelled(node: &mut TestNode, n: usize, text: &str) {
    node.raw_udp(CALLER, follow(n, "CANCEL"));
    for cancel in forwarded(node, "CANCEL") {
        node.raw_udp(CALLEE, reply(&cancel, 200));
    }
    node.raw_udp(CALLEE, reply(text, 487));
    node.raw_udp(CALLER, follow(n, "ACK"));
}

/// A request of the caller in the transaction of its INVITE.
fn follow(n: usize, method: &str) -> Bytes {
    Bytes::from(format!(
        "{method} sip:bob@{CALLEE} SIP/2.0\r\nVia: SIP/2.0/UDP {CALLER};rport;branch=z9hG4bKi{n}\
         \r\nMax-Forwards: 70\r\nFrom: \"Alice\" <sip:alice@example.org>;tag=f{n}\r\n\
         To: <sip:bob@example.org>{}\r\nCall-ID: call-{n}@127.0.0.9\r\nCSeq: 1 {method}\r\n\
         Content-Length: 0\r\n\r\n",
        if method == "ACK" { ";tag=t" } else { "" }
    ))
}
