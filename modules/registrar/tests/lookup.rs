//! What `lookup()` and its relatives promise beyond their parameters.

#![allow(clippy::unwrap_used)]

use crate::common;

use common::*;
use serde_json::json;
use tandem_engine::testing::TestNode;

/// A node that saves with `save_flags`, and looks alice up with `flags`, saying what it found.
fn finder(setup: &str, save_flags: &str, flags: &str) -> TestNode {
    let body = format!(
        "if ($rm == \"REGISTER\") {{ setbflag(\"NAT\"); $avp(attr) = $hdr(X-Attr); \
         $avp(rcv) = $hdr(X-Rcv); save(\"location\", \"{save_flags}\"); }}\n\
         else {{ lookup(\"location\", \"{flags}\"); \
         xlog(\"rc=$rc ru=$ru du=$du attr=$avp(attr) nat=$bf\\n\"); probe(); }}"
    );
    let body = body.replace("$bf", "$var(nat)").replace(
        "xlog(\"rc=",
        "$var(rc) = $rc; $var(nat) = 0; if (isbflagset(\"NAT\")) $var(nat) = 1; xlog(\"rc=",
    );
    let setup = format!(
        "modparam(\"usrloc\", \"nat_bflag\", \"NAT\")\n\
         modparam(\"registrar\", \"received_avp\", \"$avp(rcv)\")\n\
         modparam(\"registrar\", \"attr_avp\", \"$avp(attr)\")\n{setup}"
    );
    node(&setup, &body.replace("rc=$rc ", "rc=$var(rc) "))
}

fn found(node: &mut TestNode) -> String {
    node.logs();
    node.udp(PHONE, &invite(""));
    let logs = node.logs();
    let lines: Vec<&str> = logs.iter().map(|(_, l)| l.trim()).collect();
    lines.join(" ")
}

#[test]
fn a_contact_is_reached_over_its_path_else_where_it_came_from() {
    let rcv = "X-Rcv: sip:10.0.0.9:5070\n";
    let path = "Path: <sip:10.0.0.7;lr>, <sip:10.0.0.8;lr>\n";
    let contact = "Contact: <sip:a@192.168.1.2>\n";
    for (lines, du) in [
        (contact.to_owned(), "du=<null>"),
        (format!("{rcv}{contact}"), "du=sip:10.0.0.9:5070"),
        (format!("{path}{contact}"), "du=sip:10.0.0.7;lr"),
        (format!("{rcv}{path}{contact}"), "du=sip:10.0.0.7;lr"),
    ] {
        let mut node = finder("", "path-lazy", "");
        ask(&mut node, &register("c", 1, &lines));
        let line = found(&mut node);
        assert!(line.contains(du) && line.contains("ru=sip:a@192.168.1.2"), "{lines}{line}");
        assert!(line.contains("nat=1"), "branch flags come back: {line}");
    }
}

#[test]
fn attr_and_flags_are_those_of_the_best_contact() {
    let mut node = finder("", "", "");
    ask(&mut node, &register("c", 1, "X-Attr: one\nContact: <sip:1@10.0.0.9>;q=0.3\n"));
    ask(&mut node, &register("d", 1, "X-Attr: two\nContact: <sip:2@10.0.0.9>;q=0.8\n"));
    let line = found(&mut node);
    assert!(line.contains("ru=sip:2@10.0.0.9") && line.contains("attr=two"), "{line}");
    assert!(line.contains("br=sip:1@10.0.0.9"), "{line}");
}

#[test]
fn contacts_are_tried_by_q_or_newest_first() {
    let newest = "modparam(\"usrloc\", \"desc_time_order\", 1)";
    for (setup, order) in [("", "ru=sip:2@h du"), (newest, "ru=sip:3@h du")] {
        let mut node = finder(setup, "", "");
        for (n, q) in [(1, "0.2"), (2, "0.9"), (3, "0.5")] {
            ask(
                &mut node,
                &register(&format!("c{n}"), 1, &format!("Contact: <sip:{n}@h>;q={q}\n")),
            );
            node.advance_ms(1100);
        }
        let line = found(&mut node);
        assert!(line.contains(order), "{setup}: {line}");
        let rest = if setup.is_empty() { "br=sip:3@h,sip:1@h" } else { "br=sip:2@h,sip:1@h" };
        assert!(line.contains(rest), "{setup}: {line}");
    }
}

#[test]
fn codes_say_what_there_was() {
    let mut node = finder("", "", "method-filtering");
    assert!(found(&mut node).contains("rc=-1"));
    ask(&mut node, &register("c", 1, "Allow: MESSAGE\nContact: <sip:1@h>;expires=60\n"));
    assert!(found(&mut node).contains("rc=-2"));
    ask(&mut node, &register("d", 1, "Allow: INVITE, BYE\nContact: <sip:2@h>;expires=60\n"));
    let line = found(&mut node);
    assert!(line.contains("rc=1") && line.contains("ru=sip:2@h"), "{line}");
    ask(&mut node, &register("e", 1, "Contact: <sip:3@h>;q=1;expires=60\n"));
    assert!(found(&mut node).contains("ru=sip:3@h"), "without Allow every method is allowed");
    node.advance_ms(60_000);
    assert!(found(&mut node).contains("rc=-1"), "what has ended is not there");
}

#[test]
fn filters_by_user_agent_are_expressions() {
    for (flags, expected) in [
        ("ua-filtering=^Phone-[0-9]+$$", "ru=sip:2@h"),
        ("ua-filtering=^phone-[0-9]+$$", "rc=-1"),
        ("ua-filtering=^phone-[0-9]+$$, case-insensitive", "ru=sip:2@h"),
        ("ua-filtering=^(soft|web)phone$$, extended-regexp", "ru=sip:1@h"),
        ("u/softphone/", "ru=sip:1@h"),
        ("global", "rc=1"),
    ] {
        let mut node = finder("", "", flags);
        ask(&mut node, &register("c", 1, "User-Agent: softphone\nContact: <sip:1@h>\n"));
        ask(&mut node, &register("d", 1, "User-Agent: Phone-7\nContact: <sip:2@h>;q=0.9\n"));
        assert!(found(&mut node).contains(expected), "{flags}: {}", found(&mut node));
    }
}

#[test]
fn every_letter_of_lookup_means_what_its_name_does() {
    for (letter, name) in [
        ("b", "no-branches"),
        ("B", "to-branches-only"),
        ("r", "branch"),
        ("m", "method-filtering"),
        ("u/beta/i", "ua-filtering=beta,case-insensitive"),
        ("u/Bet./e", "ua-filtering=Bet.,extended-regexp"),
        ("g", "global"),
        ("y5", "max-ping-latency=5"),
        ("Y", "sort-by-latency"),
    ] {
        let outcome = |flags: &str| {
            let mut node = finder("", "", flags);
            let one = "User-Agent: Alpha\nAllow: INVITE\nContact: <sip:1@h>;q=0.2\n";
            let two = "User-Agent: Beta\nAllow: MESSAGE\nContact: <sip:2@h>;q=0.9\n";
            ask(&mut node, &register("c", 1, one));
            ask(&mut node, &register("d", 1, two));
            found(&mut node)
        };
        assert_eq!(outcome(letter), outcome(name), "{letter}");
    }
}

#[test]
fn a_socket_of_a_contact_is_kept_as_it_came_and_used_where_it_is_known() {
    let header = "modparam(\"registrar\", \"sock_hdr_name\", \"X-Socket\")";
    let mut node = finder(header, "socket-header", "");
    let lines = "X-Socket: udp:192.0.2.1:5060\nContact: <sip:a@10.0.0.9>\n";
    ask(&mut node, &register("c", 1, lines));
    assert_eq!(contacts(&mut node)[0]["Socket"], json!("udp:127.0.0.1:5060"));
    assert!(found(&mut node).contains("rc=1"));
}
