//! Whatever comes in whatever order: nothing panics, and every transaction ends.

mod common;

use common::*;
use proptest::prelude::*;

const SCRIPT: &str = "route { t_check_trans(); if ($rm == \"CANCEL\") { t_relay(); exit; } \
    if ($rm == \"OPTIONS\") { t_newtran(); exit; } if ($rm == \"INFO\") { t_reply(200, \"OK\"); } \
    t_on_failure(\"f\"); t_on_reply(\"r\"); t_on_branch(\"b\"); \
    append_msg_branch(\"sip:bob@127.0.0.3\"); t_relay(); } \
    branch_route[b] { if ($T_branch_idx == 5) { drop; } } \
    onreply_route[r] { if ($rs == 181) { drop; } if ($rs == 183) { wait_10_s(); } } \
    failure_route[f] { if (t_was_cancelled()) { exit; } \
    if (t_check_status(\"486\")) { wait_10_s(); $ru = \"sip:bob@127.0.0.4\"; t_relay(); } \
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
    let methods = vec!["INVITE", "CANCEL", "ACK", "BYE", "OPTIONS", "INFO", "MESSAGE"];
    let codes = vec![100, 180, 181, 183, 200, 302, 401, 404, 408, 480, 486, 487, 503, 600];
    prop_oneof![
        4 => (prop::sample::select(methods), 0u8..3).prop_map(|(m, b)| Step::Request(m, b)),
        6 => (0usize..64, prop::sample::select(codes)).prop_map(|(n, c)| Step::Reply(n, c)),
        3 => (1u64..20_000).prop_map(Step::Pass),
        1 => Just(Step::SendFails),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_transaction_ends(steps in prop::collection::vec(step(), 1..60)) {
        let mut node = node(SCRIPT);
        let mut seen: Vec<(String, String)> = Vec::new();
        for step in steps {
            match step {
                Step::Request(method, branch) => {
                    node.udp(CALLER, &request(method, &format!("x{branch}"), ""));
                }
                Step::Reply(n, code) if !seen.is_empty() => {
                    let (from, text) = seen[n % seen.len()].clone();
                    node.udp(&from, &reply_to(&text, code, ""));
                }
                Step::Reply(..) => {}
                Step::Pass(ms) => node.advance_ms(ms),
                Step::SendFails => {
                    let ticket = node.last_ticket();
                    let error = tandem_engine::effect::SendError::Refused;
                    node.step(tandem_engine::effect::Input::SendFailed { ticket, error });
                }
            }
            let sent = node.sent();
            seen.extend(
                sent.into_iter()
                    .filter(|(_, text)| !text.starts_with("SIP/2.0") && !text.starts_with("ACK"))
                    .map(|(to, text)| (to.to_string(), text)),
            );
        }
        node.advance_ms(600_000);
        prop_assert_eq!(stat(&mut node, "inuse_transactions"), 0);
    }
}
