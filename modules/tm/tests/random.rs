//! Whatever comes in whatever order: nothing panics, and every transaction ends.

use crate::common;

use std::collections::BTreeMap;

use common::*;
use proptest::prelude::*;

const SCRIPT: &str = "route { if ($rm == \"CANCEL\") { if (t_check_trans()) { t_relay(); } exit; } \
    t_check_trans(); \
    if ($rm == \"MESSAGE\") { $ru = \"sip:bob@one.test\"; } \
    if ($ci == \"c-x2\") { t_wait_for_new_branches(2); } \
    if ($rm == \"OPTIONS\") { t_newtran(); exit; } if ($rm == \"INFO\") { t_reply(200, \"OK\"); } \
    t_on_failure(\"f\"); t_on_reply(\"r\"); t_on_branch(\"b\"); \
    append_msg_branch(\"sip:bob@127.0.0.3\"); t_relay(); } \
    branch_route[b] { if ($T_branch_idx == 5) { drop; } } \
    onreply_route[r] { if ($rs == 181) { drop; } if ($rs == 183) { wait_10_s(); } \
    if ($rs == 182) { $ru = \"sip:bob@two.test:5060\"; t_inject_branches(\"msg\", \"cancel\"); } \
    if ($rs == 184) { t_cancel_branch(\"o\"); } if ($rs == 185) { t_wait_no_more_branches(); } } \
    failure_route[f] { if (t_was_cancelled()) { exit; } \
    if (t_check_status(\"486\")) { wait_10_s(); $ru = \"sip:bob@127.0.0.4\"; t_relay(); } \
    if (t_check_status(\"404\")) { t_on_failure(\"f\"); $rU = \"x\"; t_relay(); } \
    if (t_check_status(\"302\")) { $ru = \"sip:bob@two.test:5060\"; t_relay(); } \
    if (t_check_status(\"480\")) { t_reply(600, \"No\"); } }";

#[derive(Clone, Debug)]
enum Step {
    Request(&'static str, u8),
    Reply(usize, u16),
    Pass(u64),
    SendFails,
    /// The DNS falls silent, or answers again.
    Dns(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let methods = vec!["INVITE", "CANCEL", "ACK", "BYE", "OPTIONS", "INFO", "MESSAGE"];
    let codes =
        vec![100, 180, 181, 182, 183, 184, 185, 200, 302, 401, 404, 408, 480, 486, 487, 503, 600];
    prop_oneof![
        4 => (prop::sample::select(methods), 0u8..3).prop_map(|(m, b)| Step::Request(m, b)),
        6 => (0usize..64, prop::sample::select(codes)).prop_map(|(n, c)| Step::Reply(n, c)),
        3 => (1u64..20_000).prop_map(Step::Pass),
        1 => Just(Step::SendFails),
        1 => any::<bool>().prop_map(Step::Dns),
    ]
}

/// A request gets one final answer; it may come again, and a 2xx to INVITE may follow.
fn check_answers(
    answers: &mut BTreeMap<String, String>,
    sent: &[(std::net::SocketAddr, String)],
) -> Result<(), TestCaseError> {
    for (to, text) in sent {
        let code = text.strip_prefix("SIP/2.0 ").and_then(|rest| rest.split(' ').next());
        let Some(code) = code.filter(|code| !code.starts_with('1')) else { continue };
        if to.to_string() != CALLER {
            continue;
        }
        let (via, cseq) = (header(text, "Via"), header(text, "CSeq"));
        let key = format!("{via} {cseq}");
        let first = answers.entry(key).or_insert_with(|| code.to_owned());
        let another = cseq.ends_with("INVITE") && code.starts_with('2');
        prop_assert!(first == code || another, "{} then {}", first, code);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_transaction_ends(steps in prop::collection::vec(step(), 1..60)) {
        // What no transaction knows goes on by its Vias, and is no answer of this node.
        let mut node = node_with("disable_stateless_fwd=1", SCRIPT);
        let mut seen: Vec<(String, String)> = Vec::new();
        let mut answers = BTreeMap::new();
        node.host("one.test", &["127.0.0.2", "127.0.0.3"]);
        node.host("two.test", &["127.0.0.4"]);
        for step in steps {
            match step {
                Step::Request(method, branch) => {
                    let before = stat(&mut node, "UAS_transactions");
                    node.udp(CALLER, &request(method, &format!("x{branch}"), ""));
                    if stat(&mut node, "UAS_transactions") > before {
                        // The one before has ended: this is a new request.
                        let same = format!("z9hG4bKx{branch}");
                        answers.retain(|key: &String, _| {
                            !(key.contains(&same) && key.ends_with(method))
                        });
                    }
                }
                Step::Reply(n, code) if !seen.is_empty() => {
                    let (from, text) = seen[n % seen.len()].clone();
                    node.udp(&from, &reply_to(&text, code, ""));
                }
                Step::Reply(..) => {}
                Step::Pass(ms) => node.advance_ms(ms),
                Step::Dns(silent) => {
                    node.dns_silent = silent;
                    if !silent {
                        node.answer_names();
                    }
                }
                Step::SendFails => {
                    let ticket = node.last_ticket();
                    let error = tandem_engine::effect::SendError::Refused;
                    node.step(tandem_engine::effect::Input::SendFailed { ticket, error });
                }
            }
            let sent = node.sent();
            check_answers(&mut answers, &sent)?;
            seen.extend(
                sent.into_iter()
                    .filter(|(_, text)| !text.starts_with("SIP/2.0") && !text.starts_with("ACK"))
                    .map(|(to, text)| (to.to_string(), text)),
            );
        }
        node.advance_ms(600_000);
        check_answers(&mut answers, &node.sent())?;
        prop_assert_eq!(node.node().dns.sizes().0, 0);
        prop_assert_eq!(stat(&mut node, "inuse_transactions"), 0);
    }
}
