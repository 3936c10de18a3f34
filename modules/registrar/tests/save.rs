//! What `save()` promises beyond its parameters: atomicity, order, letters of older versions.

#![allow(clippy::unwrap_used)]

use crate::common;

use common::*;
use serde_json::json;

const SAVE: &str = "save(\"location\");";

#[test]
fn a_register_of_several_contacts_is_carried_out_whole_or_not_at_all() {
    let mut node = node("modparam(\"registrar\", \"max_contacts\", 2)", SAVE);
    ask(&mut node, &register("c", 1, "Contact: <sip:a@10.0.0.9>\n"));
    let two = "Contact: <sip:b@10.0.0.9>, <sip:c@10.0.0.9>\n";
    assert_eq!(code(&ask(&mut node, &register("c", 2, two))), 503);
    let swap = "Contact: <sip:a@10.0.0.9>;expires=0, <sip:b@10.0.0.9>, <sip:c@10.0.0.9>\n";
    assert_eq!(code(&ask(&mut node, &register("c", 3, swap))), 200, "one goes, two come");
    let bad = "Contact: <sip:d@10.0.0.9>;expires=0, <sip:b@10.0.0.9>;expires=0, <sip:c@10>;q=9\n";
    assert_eq!(code(&ask(&mut node, &register("c", 4, bad))), 400);
    let old = "Contact: <sip:b@10.0.0.9>;expires=0, <sip:c@10.0.0.9>\n";
    assert_eq!(code(&ask(&mut node, &register("c", 2, old))), 400, "CSeq of before");
    let left: Vec<_> = contacts(&mut node).iter().map(|c| c["Contact"].clone()).collect();
    assert_eq!(left, [json!("sip:b@10.0.0.9"), json!("sip:c@10.0.0.9")]);
}

#[test]
fn a_query_changes_nothing_and_lists_by_q() {
    let mut node = node("", SAVE);
    ask(&mut node, &register("c", 1, "Contact: <sip:a@10.0.0.9>;q=0.1\n"));
    let both = "<sip:b@10.0.0.9>;q=0.9;expires=3600, <sip:a@10.0.0.9>;q=0.1;expires=3600";
    let reply = ask(&mut node, &register("d", 1, "Contact: <sip:b@10.0.0.9>;q=0.9\n"));
    assert_eq!(header(&reply, "Contact"), Some(both));
    let reply = ask(&mut node, &register("e", 1, ""));
    assert_eq!((code(&reply), header(&reply, "Contact")), (200, Some(both)));
    assert_eq!(contacts(&mut node).len(), 2);
}

#[test]
fn a_refusal_is_the_only_answer() {
    let bad = register("c", 1, "Contact: <sip:a@10.0.0.9>;q=9\n");
    for (flags, said) in [("", "P-Registrar-Error"), ("no-reply", "SIP/2.0 400 ")] {
        let route = format!("if (!save(\"location\", \"{flags}\")) sl_reply_error();");
        let mut node = node("", &route);
        node.udp(PHONE, &bad);
        let sent = node.sent();
        let [(_, reply)] = sent.as_slice() else { panic!("`{flags}`: {sent:?}") };
        assert!(code(reply) == 400 && reply.contains(said), "`{flags}`: {reply}");
    }
}

#[test]
fn what_a_register_requires_and_nobody_does_refuses_it() {
    let mut node = node("", SAVE);
    let lines = "Require: path, foo\nRequire: bar\nContact: <sip:a@10.0.0.9>\n";
    let reply = ask(&mut node, &register("c", 1, lines));
    assert_eq!((code(&reply), header(&reply, "Unsupported")), (420, Some("foo, bar")));
    assert!(contacts(&mut node).is_empty());
    let lines = "Require: path, gruu\nContact: <sip:a@10.0.0.9>\n";
    assert_eq!(code(&ask(&mut node, &register("c", 2, lines))), 200);
}

#[test]
fn lifetimes_that_cannot_be_read_are_the_default_one() {
    for lines in [
        "Expires: soon\nContact: <sip:a@10.0.0.9>\n",
        "Contact: <sip:a@10.0.0.9>;expires=\n",
        "Expires: 100\nContact: <sip:a@10.0.0.9>;expires=x\n",
    ] {
        let mut node = node("modparam(\"registrar\", \"default_expires\", 777)", SAVE);
        assert_eq!(code(&ask(&mut node, &register("c", 1, lines))), 200, "{lines}");
        assert_eq!(contacts(&mut node)[0]["Expires"], json!(777), "{lines}");
    }
}

#[test]
fn a_star_removes_all_and_only_with_expires_0_and_alone() {
    let mut node = node("", SAVE);
    let three = "Contact: <sip:a@10.0.0.9>, <sip:b@10.0.0.9>, <sip:c@10.0.0.9>\n";
    ask(&mut node, &register("c", 1, three));
    for (cseq, lines) in [
        (2, "Contact: *\n"),
        (3, "Contact: *\nExpires: 60\n"),
        (4, "Contact: *, <sip:a@10.0.0.9>\nExpires: 0\n"),
        (0, "Contact: *\nExpires: 0\n"),
    ] {
        assert_eq!(code(&ask(&mut node, &register("c", cseq, lines))), 400, "{lines}");
        assert_eq!(contacts(&mut node).len(), 3);
    }
    assert_eq!(code(&ask(&mut node, &register("x", 1, "Contact: *\nExpires: 0\n"))), 200);
    assert!(contacts(&mut node).is_empty());
}

#[test]
fn matching_modes_say_which_contact_a_register_means() {
    for (mode, second, expected) in [
        ("0", "<sip:a@10.0.0.9:5070;transport=udp;x=1>", 2),
        ("0", "<SIP:a@10.0.0.9:5070>", 1),
        ("1", "<sip:a@10.0.0.9:5070>", 2),
        ("<rinstance>", "<sip:other@10.0.0.8;rinstance=7>", 1),
        ("<rinstance>", "<sip:other@10.0.0.8;rinstance=8>", 2),
    ] {
        let body = format!("save(\"location\", \"matching-mode={mode}\");");
        let mut node = node("", &body);
        let first = match mode {
            "<rinstance>" => "<sip:a@10.0.0.9:5070;rinstance=7>",
            _ => "<sip:a@10.0.0.9:5070>",
        };
        ask(&mut node, &register("c", 1, &format!("Contact: {first}\n")));
        ask(&mut node, &register("d", 1, &format!("Contact: {second}\n")));
        assert_eq!(contacts(&mut node).len(), expected, "{mode} {second}");
    }
}

#[test]
fn force_registration_drops_the_oldest_and_never_what_is_refreshed() {
    let mut node = node("", "save(\"location\", \"max-contacts=2, force-registration\");");
    for (n, user) in ["a", "b"].iter().enumerate() {
        let line = format!("Contact: <sip:{user}@10.0.0.9>\n");
        ask(&mut node, &register(user, n as u32 + 1, &line));
        node.advance_ms(1500);
    }
    let lines = "Contact: <sip:a@10.0.0.9>, <sip:c@10.0.0.9>\n";
    assert_eq!(code(&ask(&mut node, &register("a", 9, lines))), 200);
    let left: Vec<_> = contacts(&mut node).iter().map(|c| c["Contact"].clone()).collect();
    assert_eq!(left, [json!("sip:a@10.0.0.9"), json!("sip:c@10.0.0.9")]);
}

#[test]
fn every_letter_of_3_3_means_what_its_name_does() {
    let setup = "modparam(\"registrar\", \"sock_hdr_name\", \"X-Socket\")";
    for (letters, names) in [
        ("m", "memory-only"),
        ("r", "no-reply"),
        ("c1", "max-contacts=1"),
        ("c1f", "max-contacts=1,force-registration"),
        ("M1", "matching-mode=1"),
        ("M<x>", "matching-mode=<x>"),
        ("p0", "path-off"),
        ("p1", "path-lazy"),
        ("p2", "path-strict"),
        ("p1v", "path-lazy,path-received"),
        ("o", "only-request-contacts"),
        ("s", "socket-header"),
        ("e700", "min-expires=700"),
        ("E20", "max-expires=20"),
    ] {
        let outcome = |flags: &str| {
            let mut node = node(setup, &format!("save(\"location\", \"{flags}\");"));
            let path = "Path: <sip:10.0.0.7;lr;received=sip:10.0.0.5:7>\nX-Socket: udp:1.2.3.4:5\n";
            let mut replies = String::new();
            for (call, contact) in
                [("c", "a@10.0.0.9;x=1"), ("d", "a@10.0.0.9;x=1"), ("e", "b@h;x=1")]
            {
                let lines = format!("{path}Contact: <sip:{contact}>;expires=600\n");
                node.udp(PHONE, &register(call, 1, &lines));
                replies += &format!("{:?}", node.sent());
                node.advance_ms(1100);
            }
            let mut stored = contacts(&mut node);
            stored.iter_mut().for_each(|c| c["ContactID"] = json!(0));
            (replies, stored)
        };
        assert_eq!(outcome(letters), outcome(names), "{letters}");
    }
}

#[test]
fn a_path_is_answered_to_phones_that_know_it() {
    let mut node = node("", "save(\"location\", \"path-lazy\");");
    let path = "Path: <sip:10.0.0.7;lr>\nPath: <sip:10.0.0.8;lr>\n";
    let lines = format!("{path}Contact: <sip:a@192.168.1.2>\n");
    assert_eq!(header(&ask(&mut node, &register("c", 1, &lines)), "Path"), None);
    let lines = format!("Supported: path\n{lines}");
    let reply = ask(&mut node, &register("c", 2, &lines));
    assert_eq!(header(&reply, "Path"), Some("<sip:10.0.0.7;lr>,<sip:10.0.0.8;lr>"));
    assert_eq!(contacts(&mut node)[0]["Path"], "<sip:10.0.0.7;lr>,<sip:10.0.0.8;lr>");
}

#[test]
fn every_refusal_says_why() {
    let setup = "modparam(\"registrar\", \"retry_after\", 7)\n\
                 modparam(\"registrar\", \"max_aor_len\", 30)\n\
                 modparam(\"registrar\", \"max_contact_len\", 40)";
    let long = format!("Contact: <sip:{}@10.0.0.9>\n", "x".repeat(50));
    for (aor, lines, expected, retries) in [
        ("", "Contact: <sip:a@10.0.0.9>;q=7\n", 400, false),
        ("", "Contact: <sip:a@10.0.0.9>;q=x\n", 400, false),
        ("", "Contact: *\n", 400, false),
        ("", &long, 400, false),
        ("sip:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@example.org", "Contact: <sip:a@h>\n", 500, true),
    ] {
        let body = match aor {
            "" => SAVE.to_owned(),
            aor => format!("save(\"location\", , \"{aor}\");"),
        };
        let mut node = node(setup, &body);
        let reply = ask(&mut node, &register("c", 1, lines));
        assert_eq!(code(&reply), expected, "{lines}");
        assert!(header(&reply, "P-Registrar-Error").is_some_and(|t| !t.is_empty()), "{reply}");
        assert_eq!(header(&reply, "Retry-After").is_some(), retries, "{reply}");
        assert!(contacts(&mut node).is_empty());
    }
}

#[test]
fn tables_are_apart_and_an_aor_is_that_of_the_argument() {
    let body = "if ($hdr(X-Table) == \"b\") save(\"other\", , \"sip:bob@example.org\");\n\
                else save(\"location\");";
    let mut two = node("", body);
    ask(&mut two, &register("c", 1, "Contact: <sip:a@10.0.0.9>\n"));
    ask(&mut two, &register("d", 1, "X-Table: b\nContact: <sip:b@10.0.0.9>\n"));
    assert_eq!(contacts(&mut two).len(), 1);
    let bob = two.mi("usrloc:show_contact", json!(["other", "bob@example.org"]));
    assert_eq!(bob["result"]["Contacts"][0]["Contact"], "sip:b@10.0.0.9");
    let stats = two.mi("get_statistics", json!({"statistics": ["usrloc:"]}));
    assert_eq!(stats["result"]["usrloc:registered_users"], json!(2));
    assert_eq!(stats["result"]["usrloc:other-users"], json!(1));
}

#[test]
fn near_the_limit_of_memory_new_phones_are_refused_and_known_ones_go_on() {
    let mut node = node("", SAVE);
    let known = |cseq| register("c", cseq, "Contact: <sip:a@10.0.0.9>\n");
    let other = register("d", 1, "Contact: <sip:b@10.0.0.9>\n").replace("alice", "carol");
    ask(&mut node, &known(1));
    node.node().memory.set_limit(1_000);
    node.node().memory.set_used(901);
    assert_eq!(code(&ask(&mut node, &known(2))), 200);
    let reply = ask(&mut node, &other);
    assert_eq!((code(&reply), header(&reply, "Retry-After")), (503, Some("60")));
    node.node().memory.set_used(900);
    assert_eq!(code(&ask(&mut node, &other.replace("CSeq: 1", "CSeq: 2"))), 200);
}

#[test]
fn order_matching_and_retransmissions_follow_the_parameters_of_usrloc() {
    let contact = "Contact: <sip:a@10.0.0.9>\n";
    let mut by_call = node("modparam(\"usrloc\", \"matching_mode\", 1)", SAVE);
    ask(&mut by_call, &register("c", 1, contact));
    ask(&mut by_call, &register("d", 1, contact));
    assert_eq!(contacts(&mut by_call).len(), 2);
    let setup = "modparam(\"usrloc\", \"cseq_delay\", 0)\n\
                 modparam(\"registrar\", \"allow_dup_cseq\", 0)";
    let mut strict = node(setup, SAVE);
    ask(&mut strict, &register("c", 1, contact));
    assert_eq!(code(&ask(&mut strict, &register("c", 1, contact))), 400);
    let body = "if ($rm == \"REGISTER\") save(\"location\");\n\
                else { lookup(\"location\"); xlog(\"ru=$ru\\n\"); }";
    for (setup, expected) in
        [("", "ru=sip:old@"), ("modparam(\"usrloc\", \"desc_time_order\", 1)", "ru=sip:new@")]
    {
        let mut node = node(setup, body);
        ask(&mut node, &register("c", 1, "Contact: <sip:old@10.0.0.9>;q=0.9\n"));
        node.advance_ms(2000);
        ask(&mut node, &register("d", 1, "Contact: <sip:new@10.0.0.9>;q=0.1\n"));
        node.udp(PHONE, &invite(""));
        let logs = node.logs();
        assert!(logs.iter().any(|(_, l)| l.contains(expected)), "{setup}: {logs:?}");
    }
}
