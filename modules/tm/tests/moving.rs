//! A transaction goes on on another node as if nothing had happened.

use crate::common;

use common::*;
use proptest::prelude::*;
use tandem_engine::testing::TestNode;

const SCRIPT: &str = "route { if ($rm == \"CANCEL\") { if (t_check_trans()) { t_relay(); } exit; } \
    t_check_trans(); $avp(kept) = $ci; $T_fr_timeout = 7; \
    if ($rm == \"OPTIONS\") { t_newtran(); exit; } if ($rm == \"INFO\") { t_reply(200, \"OK\"); } \
    if ($rm == \"MESSAGE\") { $ru = \"sip:bob@one.test\"; } \
    if ($ci == \"c-x2\") { t_wait_for_new_branches(2); } \
    t_add_hdrs(\"X-Mine: $ci\\r\\n\"); t_add_cancel_reason(\"Reason: SIP;cause=200\\r\\n\"); \
    t_on_failure(\"f\"); t_on_reply(\"r\"); t_on_branch(\"b\"); \
    append_msg_branch(\"sip:bob@127.0.0.3\"); t_relay(\"pass-reason-hdr\"); } \
    branch_route[b] { $bavp(mine) = $T_branch_idx; t_on_reply(\"own\"); } \
    onreply_route[own] { xlog(\"own $bavp(mine) $rs\"); } \
    onreply_route[r] { if ($rs == 181) { drop; } if ($rs == 184) { t_cancel_branch(\"o\"); } \
    if ($rs == 185) { t_wait_no_more_branches(); } } \
    failure_route[f] { xlog(\"failed $T_reply_code $avp(kept)\"); \
    if (t_was_cancelled()) { exit; } \
    if (t_check_status(\"486\")) { $ru = \"sip:bob@127.0.0.4\"; t_relay(); } \
    if (t_check_status(\"404\")) { t_on_failure(\"f\"); $rU = \"x\"; t_relay(); } \
    if (t_check_status(\"480\")) { t_reply(600, \"No\"); } }";

#[derive(Clone, Debug)]
enum Step {
    Request(&'static str, u8),
    Reply(usize, u16),
    Pass(u64),
    SendFails,
}

fn step() -> impl Strategy<Value = Step> {
    let methods = vec!["INVITE", "CANCEL", "ACK", "OPTIONS", "INFO", "MESSAGE"];
    let codes =
        vec![100, 180, 181, 183, 184, 185, 200, 302, 401, 404, 408, 480, 486, 487, 503, 600];
    prop_oneof![
        4 => (prop::sample::select(methods), 0u8..3).prop_map(|(m, b)| Step::Request(m, b)),
        6 => (0usize..64, prop::sample::select(codes)).prop_map(|(n, c)| Step::Reply(n, c)),
        3 => (1u64..20_000).prop_map(Step::Pass),
        1 => Just(Step::SendFails),
    ]
}

fn fresh() -> TestNode {
    let setup = "disable_stateless_fwd=1\nloadmodule \"move.so\"";
    let mut node = node_with(setup, SCRIPT);
    node.host("one.test", &["127.0.0.2", "127.0.0.3"]);
    node
}

fn carry_out(node: &mut TestNode, step: &Step, seen: &[(String, String)], ticket: u64) {
    match step {
        Step::Request(method, branch) => {
            let reason = "Reason: SIP;cause=486\n";
            node.udp(CALLER, &request(method, &format!("x{branch}"), reason));
        }
        Step::Reply(n, code) if !seen.is_empty() => {
            let (from, text) = &seen[n % seen.len()];
            node.udp(from, &reply_to(text, *code, ""));
        }
        Step::Reply(..) => {}
        Step::Pass(ms) => node.advance_ms(*ms),
        Step::SendFails => {
            let error = tandem_engine::effect::SendError::Refused;
            node.step(tandem_engine::effect::Input::SendFailed { ticket, error });
        }
    }
}

/// What left, and what the routes said, in any order: wheels of different nodes may tick the
/// timers of one moment in another one.
fn told(node: &mut TestNode) -> Told {
    let sent = node.sent();
    let mut sent: Vec<_> =
        sent.into_iter().map(|(to, text)| (to.to_string(), without_own_tag(text))).collect();
    sent.sort();
    let logs = node.logs().into_iter().map(|(_, text)| text);
    let mut logs: Vec<_> =
        logs.filter(|t| t.starts_with("own ") || t.starts_with("failed ")).collect();
    logs.sort();
    (sent, logs)
}

type Told = (Vec<(String, String)>, Vec<String>);

/// What only one of two nodes said.
fn differences(one: &Told, two: &Told) -> Vec<String> {
    let lines = |told: &Told| {
        let sent = told.0.iter().map(|(to, text)| format!("{to} {text}"));
        sent.chain(told.1.iter().cloned()).collect::<Vec<_>>()
    };
    let (mut first, mut second) = (lines(one), lines(two));
    first.retain(|line| match second.iter().position(|other| other == line) {
        Some(at) => {
            second.remove(at);
            false
        }
        None => true,
    });
    let only = |name: &str, lines: Vec<String>| {
        lines.into_iter().map(|line| format!("{name}: {line}")).collect::<Vec<_>>()
    };
    [only("original", first), only("restored", second)].concat()
}

/// The tag of a reply that a node makes is its own matter.
fn without_own_tag(text: String) -> String {
    let line = text.lines().find(|l| text.starts_with("SIP/2.0") && l.starts_with("To:"));
    let tag = line.and_then(|line| line.split(";tag=").nth(1)).filter(|tag| tag.len() == 16);
    match tag {
        Some(tag) => text.replace(&format!(";tag={tag}"), ""),
        None => text.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn the_restored_transaction_does_what_the_original_does(
        before in prop::collection::vec(step(), 1..20),
        after in prop::collection::vec(step(), 1..40),
    ) {
        let mut stays = fresh();
        let mut seen: Vec<(String, String)> = Vec::new();
        let note = |seen: &mut Vec<(String, String)>, sent: &[(String, String)]| {
            let requests = sent.iter().filter(|(_, text)| {
                !text.starts_with("SIP/2.0") && !text.starts_with("ACK")
            });
            seen.extend(requests.cloned());
        };
        for step in &before {
            let ticket = stays.last_ticket();
            carry_out(&mut stays, step, &seen, ticket);
            let (sent, _) = told(&mut stays);
            note(&mut seen, &sent);
        }
        let mut moves = fresh();
        let past_ms = (stays.now().mono_ns - moves.now().mono_ns) / 1_000_000;
        moves.advance_ms(past_ms);
        prop_assume!(moving::copy(&mut stays, &mut moves));
        told(&mut moves);
        prop_assert_eq!(stat(&mut stays, "inuse_transactions"), stat(&mut moves, "inuse_transactions"));
        let new = |step: &Step| match step {
            // Nodes name new transactions as chance wants.
            Step::Request(method, _) => matches!(*method, "CANCEL" | "ACK"),
            _ => true,
        };
        for step in after.iter().filter(|step| new(step)) {
            // Names of transactions are the same on both.
            let ticket = stays.last_ticket();
            carry_out(&mut stays, step, &seen, ticket);
            carry_out(&mut moves, step, &seen, ticket);
            let (expected, found) = (told(&mut stays), told(&mut moves));
            let differences = differences(&expected, &found);
            prop_assert!(differences.is_empty(), "after {:?}: {:#?}", step, differences);
            note(&mut seen, &expected.0);
        }
        for node in [&mut stays, &mut moves] {
            node.advance_ms(600_000);
            prop_assert_eq!(stat(node, "inuse_transactions"), 0);
        }
        let differences = differences(&told(&mut stays), &told(&mut moves));
        prop_assert!(differences.is_empty(), "in the end: {:#?}", differences);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// What a peer tells may be anything: it is refused, or is a transaction that ends.
    #[test]
    fn no_bytes_of_a_peer_panic_or_stay_for_ever(
        cut in 0..4_000usize, places in prop::collection::vec((0..4_000usize, any::<u8>()), 0..6)
    ) {
        let (mut first, mut second) = (fresh(), fresh());
        first.udp(CALLER, &request("INVITE", "x0", ""));
        let mut bytes = moving::bytes(&mut first).remove(0).to_vec();
        let len = bytes.len();
        places.into_iter().for_each(|(at, byte)| bytes[at % len] = byte);
        bytes.truncate(len - cut % len.min(40) * usize::from(cut % 3 == 0));
        moving::offer(&mut second, bytes.into());
        second.udp(CALLER, &request("CANCEL", "x0", ""));
        second.advance_ms(4 * 3_600_000);
        prop_assert_eq!(stat(&mut second, "inuse_transactions"), 0);
    }
}

#[test]
fn a_retransmission_finds_the_transaction_on_its_new_node() {
    let (mut first, mut second) = (fresh(), fresh());
    first.udp(CALLER, &request("INVITE", "x0", ""));
    let sent = sent_to(&mut first, CALLEE).remove(0);
    assert!(moving::copy(&mut first, &mut second));
    second.sent();
    second.udp(CALLER, &request("INVITE", "x0", ""));
    assert_eq!(sent_lines(&mut second), [format!("{CALLER} SIP/2.0 100 Giving it a try")]);
    second.udp(CALLEE, &reply_to(&sent, 200, ""));
    assert_eq!(codes(&mut second), [200]);
    second.advance_ms(600_000);
    assert_eq!(stat(&mut second, "inuse_transactions"), 0);
}

/// As the property above, with each byte in turn: a field that is not known is left out, a number
/// is another one.
#[test]
fn no_byte_of_a_peer_makes_a_transaction_that_stays() {
    let mut first = fresh();
    first.udp(CALLER, &request("INVITE", "x0", ""));
    let bytes = moving::bytes(&mut first).remove(0);
    let mut stay = Vec::new();
    for at in 0..bytes.len() {
        for byte in [0, bytes[at] ^ 1, bytes[at] ^ 2] {
            let mut second = fresh();
            let mut changed = bytes.to_vec();
            changed[at] = byte;
            moving::offer(&mut second, changed.into());
            second.advance_ms(4 * 3_600_000);
            if stat(&mut second, "inuse_transactions") != 0 {
                stay.push((at, bytes[at], byte));
            }
        }
    }
    assert!(stay.is_empty(), "place, byte, instead: {stay:?} of {}", bytes.len());
}
