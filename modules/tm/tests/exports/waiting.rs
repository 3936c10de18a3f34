//! Branches that come later.

use tandem_engine::testing::Check;

use crate::common::*;

pub(super) const CHECKS: &[Check] = &[
    ("function t_wait_for_new_branches", wait),
    ("function t_wait_no_more_branches", no_more),
    ("function t_inject_branches", inject),
];

/// INVITEs wait; the onreply route of the first branch injects a second one.
fn script(count: &str, flags: &str) -> String {
    format!(
        "route {{ if ($rm == \"CANCEL\") {{ t_relay(); exit; }} t_on_failure(\"f\"); \
         t_on_reply(\"r\"); t_wait_for_new_branches({count}); xlog(\"rc $rc\"); t_relay(); }} \
         onreply_route[r] {{ if ($rs == 183) {{ $ru = \"sip:bob@127.0.0.3\"; \
         t_inject_branches(\"msg\", \"{flags}\"); xlog(\"injected $rc\"); }} }} \
         failure_route[f] {{ xlog(\"failed $T_reply_code $(tm.branch.type[0])\"); }}"
    )
}

fn wait() {
    let mut node = node_with("modparam(\"tm\", \"fr_inv_timeout\", 60)", &script("", ""));
    let forwarded = start_call(&mut node);
    assert!(logged(&mut node, "rc 1"));
    node.udp(CALLEE, &reply_to(&forwarded, 486, ""));
    assert_eq!(codes(&mut node), [] as [u16; 0], "the phony branch keeps it open");
    node.advance_ms(59_000);
    assert!(!node.logs().iter().any(|(_, l)| l.contains("failed")));
    node.advance_ms(2_000);
    assert!(logged(&mut node, "failed 486 phony"), "the real result is the better one");
    assert_eq!(codes(&mut node)[0], 486);

    // A caller who gives up while only the phony branch is left.
    let mut node = self::node(
        "route { if ($rm == \"CANCEL\") { t_relay(); exit; } t_wait_for_new_branches(); }",
    );
    node.udp(CALLER, &invite());
    node.udp(CALLER, &request("CANCEL", "a", ""));
    assert_eq!(codes(&mut node), [100, 200, 487]);
}

fn inject() {
    for (count, flags, closed) in [("1", "", true), ("", "last", true), ("2", "", false)] {
        let mut node = node(&script(count, flags));
        let forwarded = start_call(&mut node);
        node.udp(CALLEE, &reply_to(&forwarded, 183, ""));
        assert!(logged(&mut node, "injected 1"));
        let second = sent_to(&mut node, SECOND).remove(0);
        assert!(header(&second, "Via").ends_with(".2"), "after the phony branch and the first");
        node.udp(CALLEE, &reply_to(&forwarded, 486, ""));
        node.udp(SECOND, &reply_to(&second, 404, ""));
        let codes = codes(&mut node);
        assert_eq!(codes.last() == Some(&404), closed, "{count} {flags} {codes:?}");
    }
    // The branches that are there may be cancelled first.
    let mut node = node(&script("1", "cancel"));
    let forwarded = start_call(&mut node);
    node.udp(CALLEE, &reply_to(&forwarded, 183, ""));
    let lines = sent_lines(&mut node);
    assert!(lines.iter().any(|l| l.starts_with(&format!("{CALLEE} CANCEL"))), "{lines:?}");
    assert!(lines.iter().any(|l| l.starts_with(&format!("{SECOND} INVITE"))), "{lines:?}");
}

fn no_more() {
    let routes = "route { t_on_reply(\"r\"); t_wait_for_new_branches(); t_relay(); } \
                  onreply_route[r] { if ($rs == 486) { t_wait_no_more_branches(); \
                  xlog(\"rc $rc\"); } }";
    let mut node = node(routes);
    let forwarded = start_call(&mut node);
    node.udp(CALLEE, &reply_to(&forwarded, 486, ""));
    assert!(logged(&mut node, "rc 1"));
    assert_eq!(codes(&mut node), [486]);

    let mut node = self::node(&routes.replace("t_wait_for_new_branches();", ""));
    let forwarded = start_call(&mut node);
    node.udp(CALLEE, &reply_to(&forwarded, 486, ""));
    assert!(logged(&mut node, "rc -1"), "nothing is waited for");
}

#[test]
fn an_unfit_request_is_not_sent_by_a_branch_that_comes_later() {
    let params = "modparam(\"tm\", \"fr_inv_timeout\", 10)\nloadmodule \"move.so\"";
    let routes = "route { $var(rc) = sipmsg_validate(); t_on_failure(\"f\"); \
                  t_wait_for_new_branches(); } \
                  failure_route[f] { xlog(\"failed\"); $du = \"sip:127.0.0.3\"; t_relay(); }";
    for (header, sends) in [("Call-ID:", true), ("X-Id:", false)] {
        let mut here = node_with(params, routes);
        here.udp(CALLER, &invite().replace("Call-ID:", header));
        // Also where another node goes on.
        let mut there = node_with(params, routes);
        assert!(moving::copy(&mut here, &mut there));
        for mut node in [here, there] {
            node.advance_ms(12_000);
            assert!(logged(&mut node, "failed"), "{header}");
            assert_eq!(!sent_to(&mut node, SECOND).is_empty(), sends, "{header}");
        }
    }
}
