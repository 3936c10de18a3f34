//! Requests on their way, replies on their way back.

use crate::common;

use common::*;

const PLAIN: &str = "route { t_relay(); }";
const SL: &str = "loadmodule \"sl.so\"";

#[test]
fn an_invite_gets_100_and_goes_on_with_our_via_on_top() {
    let mut node = node(PLAIN);
    node.udp(CALLER, &invite());
    let sent = node.sent();
    assert_eq!(
        lines(&sent),
        [
            format!("{CALLER} SIP/2.0 100 Giving it a try"),
            format!("{CALLEE} INVITE sip:bob@{CALLEE} SIP/2.0")
        ]
    );
    let vias: Vec<&str> = sent[1].1.lines().filter(|l| l.starts_with("Via:")).collect();
    assert_eq!(vias.len(), 2);
    assert!(vias[0].starts_with("Via: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bK"), "{}", vias[0]);
    assert!(vias[0].ends_with(".0"));
}

#[test]
fn replies_come_back_without_our_via_and_100_stays_here() {
    let mut node = node(PLAIN);
    let forwarded = start_call(&mut node);
    node.udp(CALLEE, &reply_to(&forwarded, 100, ""));
    assert_eq!(codes(&mut node), [] as [u16; 0]);
    node.udp(CALLEE, &reply_to(&forwarded, 180, ""));
    node.udp(CALLEE, &reply_to(&forwarded, 200, ""));
    let replies = sent_to(&mut node, CALLER);
    assert_eq!(replies.len(), 2);
    assert_eq!(replies[1].lines().filter(|l| l.starts_with("Via:")).count(), 1);
    assert!(header(&replies[1], "Via").contains("z9hG4bKa"));
    // RFC 6026: a retransmitted 200 passes as well.
    node.udp(CALLEE, &reply_to(&forwarded, 200, ""));
    assert_eq!(codes(&mut node), [200]);
}

#[test]
fn a_negative_reply_is_acked_here_and_repeated_until_the_callers_ack() {
    let mut node = node(PLAIN);
    let forwarded = start_call(&mut node);
    node.udp(CALLEE, &reply_to(&forwarded, 404, ""));
    let sent = node.sent();
    assert_eq!(
        lines(&sent),
        [format!("{CALLEE} ACK sip:bob@{CALLEE} SIP/2.0"), format!("{CALLER} SIP/2.0 404 Text404")]
    );
    assert_eq!(header(&sent[0].1, "Via"), header(&forwarded, "Via"));
    node.advance_ms(1_600);
    assert_eq!(codes(&mut node), [404, 404]);
    node.udp(CALLER, &request("ACK", "a", ""));
    node.advance_ms(4_000);
    assert_eq!(sent_lines(&mut node), [] as [String; 0]);
    assert_eq!(stat(&mut node, "retransmission_rpl_T2"), 2);
    assert_eq!(stat(&mut node, "4xx_transactions"), 1);
}

#[test]
fn a_retransmitted_request_gets_the_last_reply_again_and_runs_no_further() {
    let mut node = node("route { t_relay(); xlog(\"after $rm\"); }");
    start_call(&mut node);
    node.logs();
    node.udp(CALLER, &invite());
    assert_eq!(sent_lines(&mut node), [format!("{CALLER} SIP/2.0 100 Giving it a try")]);
    assert!(!node.logs().iter().any(|(_, line)| line.contains("after")));
}

#[test]
fn the_ack_to_a_2xx_is_forwarded_without_state() {
    let mut node = node(PLAIN);
    let forwarded = start_call(&mut node);
    node.udp(CALLEE, &reply_to(&forwarded, 200, ""));
    node.sent();
    let ack = request("ACK", "other", "").replace("c-other", "c-a");
    node.udp(CALLER, &ack);
    node.udp(CALLER, &ack);
    let acks = sent_to(&mut node, CALLEE);
    assert_eq!(acks.len(), 2);
    assert_eq!(header(&acks[0], "Via"), header(&acks[1], "Via"), "the same for each copy");
    assert_eq!(stat(&mut node, "inuse_transactions"), 1);
    // Even with the branch of the INVITE.
    node.udp(CALLER, &request("ACK", "a", ""));
    assert_eq!(sent_to(&mut node, CALLEE).len(), 1);
}

/// `loose_route()` follows it, if the script wants that.
#[test]
fn a_strangers_route_does_not_choose_where_his_request_goes() {
    for route in ["Route: <sip:127.0.0.9:5099;lr>\n", "Route: nonsense\n"] {
        for script in [PLAIN, "route { forward(); }"] {
            let mut node = node(script);
            node.udp(CALLER, &request("INVITE", "a", route));
            assert_eq!(sent_to(&mut node, CALLEE).len(), 1, "{script} {route}");
        }
    }
}

#[test]
fn the_first_2xx_cancels_the_branches_that_ring() {
    let mut node = node("route { append_msg_branch(\"sip:bob@127.0.0.3\"); t_relay(); }");
    node.udp(CALLER, &invite());
    let sent = node.sent();
    let (first, second) = (sent[1].1.clone(), sent[2].1.clone());
    assert!(header(&second, "Via").ends_with(".1"));
    node.udp(SECOND, &reply_to(&second, 180, ""));
    node.udp(CALLEE, &reply_to(&first, 200, ""));
    let sent = node.sent();
    let cancel = sent.iter().find(|(_, text)| text.starts_with("CANCEL")).unwrap();
    assert_eq!(cancel.0.to_string(), SECOND);
    let reason = "Reason: SIP ;cause=200 ;text=\"Call completed elsewhere\"";
    assert_eq!(header(&cancel.1, "Reason"), reason);
    assert_eq!(header(&cancel.1, "Via"), header(&second, "Via"));
}

#[test]
fn the_best_negative_reply_wins_and_challenges_are_merged() {
    let mut node = node("route { append_msg_branch(\"sip:bob@127.0.0.3\"); t_relay(); }");
    node.udp(CALLER, &invite());
    let sent = node.sent();
    node.udp(CALLEE, &reply_to(&sent[1].1, 407, "Proxy-Authenticate: Digest realm=\"one\"\n"));
    node.udp(SECOND, &reply_to(&sent[2].1, 401, "WWW-Authenticate: Digest realm=\"two\"\n"));
    let replies = sent_to(&mut node, CALLER);
    assert_eq!(replies.len(), 1);
    assert!(replies[0].starts_with("SIP/2.0 401"));
    assert!(replies[0].contains("realm=\"one\"") && replies[0].contains("realm=\"two\""));
}

#[test]
fn a_failure_route_sees_the_challenges_of_all_branches() {
    let mut node = node(
        "route { append_msg_branch(\"sip:bob@127.0.0.3\"); t_on_failure(\"f\"); t_relay(); } \
         failure_route[f] { xlog(\"$T_reply_code $(<reply>hdr(WWW-Authenticate)) \
         $(<reply>hdr(Proxy-Authenticate))\"); }",
    );
    node.udp(CALLER, &invite());
    let sent = node.sent();
    node.udp(CALLEE, &reply_to(&sent[1].1, 407, "Proxy-Authenticate: Digest realm=\"one\"\n"));
    node.udp(SECOND, &reply_to(&sent[2].1, 401, "WWW-Authenticate: Digest realm=\"two\"\n"));
    assert!(logged(&mut node, "401 Digest realm=\"two\" Digest realm=\"one\""));
    let replies = sent_to(&mut node, CALLER);
    assert_eq!(replies[0].matches("realm=").count(), 2, "each once: {}", replies[0]);
}

#[test]
fn a_503_goes_upstream_as_500() {
    let mut node = node(PLAIN);
    let forwarded = start_call(&mut node);
    node.udp(CALLEE, &reply_to(&forwarded, 503, ""));
    assert_eq!(codes(&mut node), [500]);
}

#[test]
fn a_cancel_is_answered_here_and_sent_to_the_branch_that_rings() {
    let mut node = node("route { if (t_check_trans()) { t_relay(); exit; } t_relay(); }");
    let forwarded = start_call(&mut node);
    node.udp(CALLEE, &reply_to(&forwarded, 180, ""));
    node.sent();
    node.udp(CALLER, &request("CANCEL", "a", "Reason: Q.850;cause=16\n"));
    let sent = node.sent();
    assert_eq!(
        lines(&sent),
        [
            format!("{CALLER} SIP/2.0 200 canceling"),
            format!("{CALLEE} CANCEL sip:bob@{CALLEE} SIP/2.0")
        ]
    );
    let reason = "Reason: SIP;cause=487;text=\"ORIGINATOR_CANCEL\"";
    assert_eq!(header(&sent[1].1, "Reason"), reason);
    node.udp(CALLEE, &reply_to(&sent[1].1, 200, ""));
    node.udp(CALLEE, &reply_to(&forwarded, 487, ""));
    assert_eq!(codes(&mut node), [487]);
    node.advance_ms(3_000);
    let cancels = sent_to(&mut node, CALLEE);
    assert!(cancels.is_empty(), "the answered CANCEL is not sent again");
}

#[test]
fn a_cancel_before_any_branch_ends_the_call_with_487() {
    let mut node = node(
        "route { if (t_check_trans()) { t_relay(); exit; } t_newtran(); t_reply(180, \"R\"); }",
    );
    node.udp(CALLER, &invite());
    node.sent();
    node.udp(CALLER, &request("CANCEL", "a", ""));
    assert_eq!(codes(&mut node), [200, 487]);
}

/// `sl` takes in the ACKs to replies without a transaction. What a transaction answered of itself
/// has the same tag, and its ACK ends its repetitions.
#[test]
fn an_answer_of_the_node_is_not_repeated_after_its_ack_beside_sl() {
    let routes = "route { if (t_check_trans()) { t_relay(); exit; } t_newtran(); \
                  if ($rU == \"bob\") { t_reply(486, \"Busy\"); } else { t_relay(); } }";
    let mut node = node_with("loadmodule \"sl.so\"", routes);
    let ack = |answer: &str, uri: &str| {
        let plain = request("ACK", "a", "").replace("sip:bob@127.0.0.2:5060", uri);
        plain.replace("To: <sip:bob@h>", header(answer, "To"))
    };
    node.udp(CALLER, &invite());
    let answer = sent_to(&mut node, CALLER).remove(1);
    assert!(answer.starts_with("SIP/2.0 486"), "{answer}");
    node.udp(CALLER, &ack(&answer, "sip:bob@127.0.0.2:5060"));
    node.advance_ms(20_000);
    assert_eq!(codes(&mut node), [] as [u16; 0]);
    assert_eq!(stat(&mut node, "inuse_transactions"), 0);

    // Nobody answers, and the node does after its time.
    let carol = "sip:carol@127.0.0.2:5060";
    node.udp(CALLER, &invite().replace("sip:bob@127.0.0.2:5060", carol));
    node.advance_ms(30_100);
    let answer = sent_to(&mut node, CALLER).pop().unwrap();
    assert!(answer.starts_with("SIP/2.0 408"), "{answer}");
    node.udp(CALLER, &ack(&answer, carol));
    node.advance_ms(20_000);
    assert_eq!(codes(&mut node), [] as [u16; 0]);
    assert_eq!(stat(&mut node, "inuse_transactions"), 0);
}

#[test]
fn no_reply_ends_with_408_and_a_ringing_phone_is_cancelled() {
    let mut node = node(PLAIN);
    start_call(&mut node);
    node.advance_ms(30_100);
    assert_eq!(codes(&mut node).last(), Some(&408));
    assert_eq!(stat(&mut node, "timeout_finalresponse"), 1);

    let forwarded = {
        node.udp(CALLER, &request("INVITE", "b", ""));
        sent_to(&mut node, CALLEE).remove(0)
    };
    node.udp(CALLEE, &reply_to(&forwarded, 180, ""));
    node.sent();
    node.advance_ms(120_100);
    let sent = node.sent();
    let cancel = sent.iter().find(|(_, text)| text.starts_with("CANCEL")).unwrap();
    assert_eq!(header(&cancel.1, "Reason"), "Reason: SIP;cause=480;text=\"NO_ANSWER\"");
    assert!(lines(&sent).contains(&format!("{CALLER} SIP/2.0 408 Request Timeout")));
    assert_eq!(stat(&mut node, "timeout_finalresponse_inv"), 1);
}

#[test]
fn every_transaction_ends_whatever_became_of_it() {
    let mut node = node("route { if ($rm == \"OPTIONS\") { t_newtran(); exit; } t_relay(); }");
    node.udp(CALLER, &request("OPTIONS", "left", ""));
    let forwarded = start_call(&mut node);
    node.udp(CALLEE, &reply_to(&forwarded, 486, ""));
    node.udp(CALLER, &request("MESSAGE", "silent", ""));
    node.udp(CALLER, &request("INVITE", "cancelled", ""));
    node.udp(CALLER, &request("CANCEL", "cancelled", ""));
    assert_eq!(stat(&mut node, "inuse_transactions"), 4);
    node.advance_ms(200_000);
    assert_eq!(stat(&mut node, "inuse_transactions"), 0);
}

#[test]
fn what_cannot_be_sent_is_answered_and_the_script_ends() {
    for (uri, line) in [
        ("sip:bob@no.such.host", "476 Unresolvable destination (476/TM)"),
        ("nonsense", "475 Bad URI (475/TM)"),
        ("tel:+123", "475 Bad URI (475/TM)"),
        ("mailto:bob@h", "416 Unsupported URI Scheme"),
        ("sip:bob@127.0.0.2;transport=tcp", "477 Send failed (477/TM)"),
    ] {
        let mut node = node(&format!("route {{ $ru = \"{uri}\"; t_relay(); xlog(\"went on\"); }}"));
        node.udp(CALLER, &invite());
        let last = sent_lines(&mut node).pop().unwrap();
        assert_eq!(last, format!("{CALLER} SIP/2.0 {line}"));
        assert!(!node.logs().iter().any(|(_, line)| line.contains("went on")));
    }
}

#[test]
fn a_transaction_made_before_leaves_the_answer_to_the_script() {
    let mut node = node(
        "route { t_newtran(); $ru = \"sip:bob@no.such.host\"; t_relay(); xlog(\"rc $rc\"); \
         t_reply(404, \"Nowhere\"); }",
    );
    node.udp(CALLER, &invite());
    assert!(logged(&mut node, "rc -4"));
    assert_eq!(codes(&mut node), [100, 404]);
}

#[test]
fn a_send_error_fails_the_branch_but_a_lost_address_does_not() {
    use tandem_engine::effect::{Input, SendError};
    let mut node = node(
        "route { t_on_failure(\"f\"); t_relay(); } \
         failure_route[f] { xlog(\"code $T_reply_code\"); }",
    );
    node.udp(CALLER, &invite());
    let ticket = node.last_ticket();
    node.sent();
    node.step(Input::SendFailed { ticket, error: SendError::NotHolder });
    assert_eq!(sent_lines(&mut node), [] as [String; 0]);
    node.step(Input::SendFailed { ticket, error: SendError::Refused });
    assert!(logged(&mut node, "code 477"));
    assert_eq!(sent_lines(&mut node), [format!("{CALLER} SIP/2.0 477 Send failed (477/TM)")]);
}

#[test]
fn a_reply_with_a_made_up_branch_matches_nothing() {
    let mut node = node(PLAIN);
    let forwarded = start_call(&mut node);
    let via = header(&forwarded, "Via").to_owned();
    let label = via.split('.').rev().nth(1).unwrap();
    let forged = reply_to(&forwarded, 200, "").replace(label, "1234567812345678");
    node.udp(SECOND, &forged);
    // It passes by its Vias, as any proxy would let it, but the transaction has not heard it.
    node.sent();
    node.advance_ms(600);
    assert_eq!(sent_to(&mut node, CALLEE).len(), 1, "the INVITE is still retransmitted");
}

#[test]
fn an_error_is_answered_with_what_it_was_and_once() {
    let first_lines = |route: &str| {
        let routes = format!("route {{ {route} sl_reply_error(); xlog(\"rc $rc\"); }}");
        let mut node = node_with(SL, &routes);
        node.udp(CALLER, &invite());
        assert!(logged(&mut node, "rc 1"), "{route}");
        let replies = sent_to(&mut node, CALLER);
        let lines = replies.iter().map(|r| r.lines().next().unwrap_or_default().to_owned());
        let lines: Vec<String> = lines.filter(|line| !line.contains(" 100 ")).collect();
        // Whoever asks again gets the same once more.
        node.udp(CALLER, &invite());
        let again = sent_to(&mut node, CALLER);
        assert_eq!(again.first().and_then(|r| r.lines().next()), lines.last().map(|l| &**l));
        lines
    };
    let failed = |what: &str| vec![format!("SIP/2.0 {what}")];
    let named = "$ru = \"sip:b@no.such.host\";";
    let filtered = "$ru = \"sip:b@127.0.0.7;transport=sctp\";";
    let kept = "t_relay(\"no-auto-477\");";
    assert_eq!(
        first_lines(&format!("{named} {kept}")),
        failed("476 Unresolvable destination (476/TM)")
    );
    assert_eq!(
        first_lines(&format!("t_newtran(); {named} t_relay();")),
        failed("476 Unresolvable destination (476/TM)")
    );
    assert_eq!(first_lines(&format!("{filtered} {kept}")), failed("477 Send failed (477/TM)"));
    assert_eq!(first_lines("t_newtran(); t_reply(486, \"Busy\");"), failed("486 Busy"));
    assert_eq!(first_lines("t_newtran();"), failed("500 Server Internal Error"));
    // What failed before is forgotten when the request has left.
    assert_eq!(
        first_lines(&format!("$var(to) = $ru; {named} {kept} $ru = $var(to); t_relay();")),
        failed("500 Server Internal Error")
    );
}

#[test]
fn an_answer_without_state_is_the_only_one() {
    let routes = "route { sl_send_reply(404, \"No\"); sl_reply_error(); xlog(\"rc $rc\"); }";
    let mut node = node_with(SL, routes);
    node.udp(CALLER, &invite());
    assert_eq!(codes(&mut node), [404]);
    assert!(logged(&mut node, "rc 1"));
    let answer = node.mi("get_statistics", serde_json::json!([["sl:"]]));
    let counts = (&answer["result"]["sl:sent_replies"], &answer["result"]["sl:sent_err_replies"]);
    assert_eq!(counts, (&1.into(), &0.into()), "{answer}");
}
