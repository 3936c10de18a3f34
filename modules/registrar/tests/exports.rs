//! Every entry of the export table, on a node in memory.

#![allow(clippy::unwrap_used)]

use crate::common;
#[path = "exports/forwarded.rs"]
mod forwarded;
#[path = "exports/gruu.rs"]
mod gruu;
#[path = "exports/tcp.rs"]
mod tcp;
#[path = "exports/waking.rs"]
mod waking;

use common::*;
use serde_json::json;
use tandem_engine::testing::{TestNode, cover};

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_registrar::MODULE,
        &[
            ("param default_expires", lifetimes_are_kept_within_parameters_and_flags),
            ("param default_q", default_q_and_lengths_come_from_parameters),
            ("param case_sensitive", the_key_follows_case_sensitive_and_realm_prefix),
            ("param realm_prefix", the_key_follows_case_sensitive_and_realm_prefix),
            ("param min_expires", lifetimes_are_kept_within_parameters_and_flags),
            ("param max_expires", lifetimes_are_kept_within_parameters_and_flags),
            ("param expires_max_deviation", lifetimes_are_kept_within_parameters_and_flags),
            ("param received_param", received_attr_flags_and_their_way_back),
            ("param received_avp", received_attr_flags_and_their_way_back),
            ("param attr_avp", received_attr_flags_and_their_way_back),
            ("param tcp_persistent_flag", tcp::a_flag_keeps_the_connection),
            ("param retry_after", max_contacts_refuses_or_makes_room),
            ("param sock_hdr_name", flags_of_save_do_what_they_say),
            ("param max_contacts", max_contacts_refuses_or_makes_room),
            ("param max_username_len", default_q_and_lengths_come_from_parameters),
            ("param max_domain_len", default_q_and_lengths_come_from_parameters),
            ("param max_aor_len", default_q_and_lengths_come_from_parameters),
            ("param max_contact_len", default_q_and_lengths_come_from_parameters),
            ("param allow_dup_cseq", save_judges_cseq_as_the_field_does),
            ("param mcontact_avp", forwarded::a_contact_is_known_as_it_was_sent_on),
            ("param disable_gruu", gruu::gruus_are_given_out_where_they_are_enabled),
            ("param gruu_secret", gruu::a_secret_makes_gruus_that_another_node_reads),
            ("param pn_enable", push_is_answered_only_where_it_is_enabled),
            ("param pn_providers", push_is_answered_only_where_it_is_enabled),
            ("param pn_ct_match_params", push_contacts_are_known_by_their_parameters),
            ("param pn_pnsreg_interval", push_is_answered_only_where_it_is_enabled),
            ("param pn_trigger_interval", a_push_contact_is_woken_before_its_end),
            ("param pn_skip_pn_interval", waking::a_phone_that_has_just_registered_is_awake),
            ("param pn_refresh_timeout", waking::a_phone_that_does_not_come_is_not_waited_for),
            ("param pn_enable_purr", push_is_answered_only_where_it_is_enabled),
            ("function save", save_registers_refreshes_lists_and_removes),
            ("function lookup", lookup_takes_the_best_contact_and_branches_the_rest),
            ("function remove", remove_takes_what_fits_all_filters),
            ("function remove_ip_port", remove_ip_port_takes_what_is_behind_an_address),
            ("function is_registered", questions_about_contacts),
            ("function is_contact_registered", questions_about_contacts),
            ("function is_ip_registered", questions_about_contacts),
            ("function pn_process_purr", waking::a_request_of_a_dialog_wakes_its_phone),
            ("function add_sock_hdr", add_sock_hdr_is_checked_and_harmless),
            ("statistic max_expires", statistics_count_registrations_and_show_parameters),
            ("statistic max_contacts", statistics_count_registrations_and_show_parameters),
            ("statistic default_expire", statistics_count_registrations_and_show_parameters),
            ("statistic accepted_regs", statistics_count_registrations_and_show_parameters),
            ("statistic rejected_regs", save_refuses_with_the_codes_of_the_field),
        ],
    );
}

const PUSH: &str = "modparam(\"registrar\", \"pn_enable\", 1)\n\
                    modparam(\"registrar\", \"pn_providers\", \"apns, fcm\")\n";
const WOKEN: &str = "sip:a@10.0.0.9:5070;pn-provider=fcm;pn-prid=1;pn-param=x";

#[test]
fn push_is_answered_only_where_it_is_enabled() {
    let woken = format!("Contact: <{WOKEN}>\n");
    let mut off = node("", SAVE);
    let reply = ask(&mut off, &register("c", 1, &woken));
    assert_eq!((code(&reply), header(&reply, "Feature-Caps")), (200, None));
    assert_eq!(contacts(&mut off)[0]["Flags"], json!(0));
    let setup = format!(
        "{PUSH}modparam(\"registrar\", \"pn_pnsreg_interval\", 99)\n\
         modparam(\"registrar\", \"pn_enable_purr\", 1)"
    );
    let mut on = node(&setup, SAVE);
    let reply = ask(&mut on, &register("c", 1, &woken));
    let stored = contacts(&mut on).remove(0);
    assert_eq!(stored["Flags"], json!(4), "the flag of push contacts");
    let id: u64 = stored["ContactID"].as_str().unwrap().parse().unwrap();
    let caps = format!("*;+sip.pns=\"fcm\";+sip.pnsreg=\"99\";+sip.pnspurr=\"{id:016x}\"");
    assert_eq!(header(&reply, "Feature-Caps"), Some(&*caps));
    let other = woken.replace("=fcm", "=other");
    let reply = ask(&mut on, &register("d", 1, &other));
    assert_eq!(code(&reply), 555);
    assert!(reply.starts_with("SIP/2.0 555 Push Notification Service Not Supported"));
    let gone = format!("Contact: <{}>;expires=0\n", WOKEN.replace("=fcm", "=other"));
    assert_eq!(code(&ask(&mut on, &register("d", 2, &gone))), 200, "who goes may go");
    let asks = "Contact: <sip:b@10.0.0.9;pn-provider>\n";
    let reply = ask(&mut on, &register("e", 1, asks));
    assert_eq!(reply.matches("Feature-Caps: *;+sip.pns=").count(), 2, "{reply}");
    // RFC 8599 4.1.3: with a value it asks for this service alone; without a pn-prid nobody wakes.
    let reply = ask(&mut on, &register("e", 2, &asks.replace("provider", "provider=FCM")));
    let caps = "Feature-Caps: *;+sip.pns=\"fcm\";+sip.pnsreg=\"99\"\n";
    let lines = reply.replace("\r\n", "\n");
    assert!(lines.contains(caps) && lines.matches("Feature-Caps").count() == 1, "{reply}");
}

#[test]
fn push_contacts_are_known_by_their_parameters() {
    let mut node = node(PUSH, SAVE);
    ask(&mut node, &register("c", 1, &format!("Contact: <{WOKEN}>, <sip:b@10.0.0.9>\n")));
    let moved = WOKEN.replace("10.0.0.9:5070", "10.0.0.77:999");
    ask(&mut node, &register("d", 1, &format!("Contact: <{moved}>\n")));
    let left = contacts(&mut node);
    let uris: Vec<_> = left.iter().map(|c| c["Contact"].as_str().unwrap()).collect();
    assert_eq!(uris.len(), 2, "{uris:?}");
    assert!(uris.contains(&moved.as_str()) && uris.contains(&"sip:b@10.0.0.9"), "{uris:?}");
    let setup = format!("{PUSH}modparam(\"registrar\", \"pn_ct_match_params\", \"pn-prid\")");
    let mut by_prid = self::node(&setup, SAVE);
    ask(&mut by_prid, &register("c", 1, &format!("Contact: <{WOKEN}>\n")));
    let other_param = WOKEN.replace("pn-param=x", "pn-param=y");
    ask(&mut by_prid, &register("d", 1, &format!("Contact: <{other_param}>\n")));
    assert_eq!(contacts(&mut by_prid).len(), 1);
}

#[test]
fn a_push_contact_is_woken_before_its_end() {
    let setup = format!(
        "{PUSH}modparam(\"registrar\", \"pn_trigger_interval\", 100)\n\
         modparam(\"usrloc\", \"contact_refresh_timer\", 1)"
    );
    let script = script(&setup, SAVE)
        + "event_route[E_UL_CONTACT_REFRESH] { xlog(\"wake $param(uri) $param(reason)\\n\"); }\n";
    let mut node = TestNode::new(&script, MODULES);
    let lines = format!("Contact: <{WOKEN}>;expires=600, <sip:b@10.0.0.9>;expires=600\n");
    ask(&mut node, &register("c", 1, &lines));
    let woken = |node: &mut TestNode| {
        let wanted = format!("wake {WOKEN} reg-refresh");
        node.logs().iter().filter(|(_, l)| l.contains(&wanted)).count()
    };
    node.advance_ms(498_000);
    assert_eq!(woken(&mut node), 0);
    node.advance_ms(12_000);
    assert_eq!(woken(&mut node), 1, "once, for the push contact only");
    node.advance_ms(60_000);
    assert_eq!(woken(&mut node), 0);
    ask(&mut node, &register("c", 2, &lines));
    node.advance_ms(515_000);
    assert_eq!(woken(&mut node), 1, "and once again after a refresh");
}

#[test]
fn save_registers_refreshes_lists_and_removes() {
    let mut node = node("", SAVE);
    let reply = ask(&mut node, &register("c", 1, "Contact: <sip:a@10.0.0.9:5070>;q=0.5\n"));
    assert_eq!(code(&reply), 200);
    assert_eq!(header(&reply, "Contact"), Some("<sip:a@10.0.0.9:5070>;q=0.5;expires=3600"));
    node.advance_ms(2000);
    let reply = ask(&mut node, &register("c", 2, ""));
    assert_eq!(header(&reply, "Contact"), Some("<sip:a@10.0.0.9:5070>;q=0.5;expires=3598"));
    let lines = "Expires: 600\nContact: <sip:a@10.0.0.9:5070>, <sip:b@10.0.0.9>\n";
    let reply = ask(&mut node, &register("c", 3, lines));
    let both = "<sip:a@10.0.0.9:5070>;expires=600, <sip:b@10.0.0.9>;expires=600";
    assert_eq!(header(&reply, "Contact"), Some(both));
    let reply = ask(&mut node, &register("c", 4, "Contact: <sip:a@10.0.0.9:5070>;expires=0\n"));
    assert_eq!(header(&reply, "Contact"), Some("<sip:b@10.0.0.9>;expires=600"));
    let reply = ask(&mut node, &register("c", 5, "Contact: *\nExpires: 0\n"));
    assert_eq!((code(&reply), header(&reply, "Contact")), (200, None));
    assert!(contacts(&mut node).is_empty());
}

#[test]
fn save_stores_what_the_request_says_in_the_shape_that_management_shows() {
    let mut node = node("", "save(\"location\", , , \"service\");");
    let lines = "User-Agent: test-ua\nContact: <sip:alice@10.9.9.9:5060>\n";
    ask(&mut node, &register("reg-1", 2, lines));
    let shown = contacts(&mut node).remove(0);
    let names: Vec<&str> = shown.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "Contact",
            "ContactID",
            "Expires",
            "Q",
            "Callid",
            "Cseq",
            "User-agent",
            "State",
            "Flags",
            "Cflags",
            "Socket",
            "Methods"
        ]
    );
    assert_eq!(shown["Contact"], "sip:alice@10.9.9.9:5060");
    assert_eq!(shown["Callid"], "reg-1");
    assert_eq!((&shown["Cseq"], &shown["Q"]), (&json!(2), &json!("")));
    assert_eq!(shown["User-agent"], "test-ua");
    assert_eq!(shown["Socket"], "udp:127.0.0.1:5060");
    assert_eq!(shown["Methods"], json!(4_294_967_295u32));
}

#[test]
fn save_judges_cseq_as_the_field_does() {
    let contact = "Contact: <sip:a@10.0.0.9>\n";
    for (setup, wait_ms, cseq, expected) in [
        ("", 0, 4, 400),
        ("", 0, 5, 200),
        ("", 30_000, 5, 200),
        ("modparam(\"registrar\", \"allow_dup_cseq\", 0)", 0, 5, 200),
        ("modparam(\"registrar\", \"allow_dup_cseq\", 0)", 30_000, 5, 400),
        ("", 0, 6, 200),
    ] {
        let mut node = node(setup, SAVE);
        ask(&mut node, &register("c", 5, contact));
        node.advance_ms(wait_ms);
        let reply = ask(&mut node, &register("c", cseq, contact));
        assert_eq!(code(&reply), expected, "{setup} after {wait_ms} ms, CSeq {cseq}");
        if expected == 400 {
            assert_eq!(header(&reply, "P-Registrar-Error"), Some("Invalid CSeq number"));
        }
    }
}

#[test]
fn a_retransmission_within_cseq_delay_changes_nothing() {
    let mut node = node("", SAVE);
    ask(&mut node, &register("c", 5, "Contact: <sip:a@10.0.0.9>;expires=100\n"));
    ask(&mut node, &register("c", 5, "Contact: <sip:a@10.0.0.9>;expires=900\n"));
    assert_eq!(contacts(&mut node)[0]["Expires"], json!(100));
}

#[test]
fn save_refuses_with_the_codes_of_the_field() {
    for (lines, expected) in [
        ("Contact: *\n", 400),
        ("Contact: <sip:a@10.0.0.9>;q=7\n", 400),
        ("Contact: <nonsense>\n", 400),
    ] {
        let mut node = node("", "if (!save(\"location\")) xlog(\"failed\\n\");");
        let reply = ask(&mut node, &register("c", 1, lines));
        assert_eq!(code(&reply), expected, "{lines}");
        assert!(header(&reply, "P-Registrar-Error").is_some());
        assert!(node.logs().iter().any(|(_, l)| l.contains("failed")), "save() is false");
        assert_eq!(stat(&mut node, "rejected_regs"), 1);
    }
}

#[test]
fn max_contacts_refuses_or_makes_room() {
    let limit = "modparam(\"registrar\", \"max_contacts\", 1)\n\
                 modparam(\"registrar\", \"retry_after\", 30)";
    let first = register("c", 1, "Contact: <sip:a@10.0.0.9>\n");
    let second = register("d", 1, "Contact: <sip:b@10.0.0.9>\n");
    let mut refusing = node(limit, SAVE);
    ask(&mut refusing, &first);
    let reply = ask(&mut refusing, &second);
    assert_eq!(code(&reply), 503);
    assert_eq!(header(&reply, "P-Registrar-Error"), Some("Too many registered contacts"));
    assert_eq!(header(&reply, "Retry-After"), Some("30"));
    assert_eq!(contacts(&mut refusing).len(), 1);
    let body = "save(\"location\", \"force-registration, max-contacts=1\");";
    let mut forcing = node("", body);
    ask(&mut forcing, &first);
    forcing.advance_ms(1000);
    assert_eq!(code(&ask(&mut forcing, &second)), 200);
    let left = contacts(&mut forcing);
    assert_eq!((left.len(), &left[0]["Contact"]), (1, &json!("sip:b@10.0.0.9")));
}

#[test]
fn lifetimes_are_kept_within_parameters_and_flags() {
    let setup = "modparam(\"registrar\", \"default_expires\", 500)\n\
                 modparam(\"registrar\", \"min_expires\", 100)\n\
                 modparam(\"registrar\", \"max_expires\", 1000)";
    let flags = "save(\"location\", \"min-expires=200, max-expires=300\");";
    for (body, asked, expected) in [
        (SAVE, "", 500),
        (SAVE, ";expires=1", 100),
        (SAVE, ";expires=5000", 1000),
        (flags, ";expires=1", 200),
        (flags, ";expires=5000", 300),
    ] {
        let mut node = node(setup, body);
        ask(&mut node, &register("c", 1, &format!("Contact: <sip:a@10.0.0.9>{asked}\n")));
        assert_eq!(contacts(&mut node)[0]["Expires"], json!(expected), "{body} {asked}");
    }
    let setup = "modparam(\"registrar\", \"expires_max_deviation\", 50)";
    let mut node = node(setup, SAVE);
    ask(&mut node, &register("c", 1, "Contact: <sip:a@10.0.0.9>;expires=600\n"));
    let left = contacts(&mut node)[0]["Expires"].as_u64().unwrap();
    assert!((550..=650).contains(&left), "{left}");
}

#[test]
fn default_q_and_lengths_come_from_parameters() {
    let setup = "modparam(\"registrar\", \"default_q\", 300)\n\
                 modparam(\"registrar\", \"max_contact_len\", 30)";
    let mut node = node(setup, SAVE);
    ask(&mut node, &register("c", 1, "Contact: <sip:a@10.0.0.9>\n"));
    assert_eq!(contacts(&mut node)[0]["Q"], "0.3");
    let long = format!("Contact: <sip:{}@10.0.0.9>\n", "a".repeat(40));
    assert_eq!(code(&ask(&mut node, &register("c", 2, &long))), 400);
    for name in ["max_username_len", "max_domain_len", "max_aor_len"] {
        let setup = format!("modparam(\"registrar\", \"{name}\", 3)");
        let mut node = self::node(&setup, SAVE);
        let reply = ask(&mut node, &register("c", 1, "Contact: <sip:a@10.0.0.9>\n"));
        assert_eq!(code(&reply), 500, "{name}");
    }
}

#[test]
fn the_key_follows_case_sensitive_and_realm_prefix() {
    let setup = "modparam(\"registrar\", \"case_sensitive\", 0)\n\
                 modparam(\"registrar\", \"realm_prefix\", \"sip.\")";
    let mut node = node(setup, "save(\"location\", , \"sip:ALICE@sip.example.org\");");
    ask(&mut node, &register("c", 1, "Contact: <sip:a@10.0.0.9>\n"));
    assert_eq!(contacts(&mut node).len(), 1, "stored as alice@example.org");
}

#[test]
fn received_attr_flags_and_their_way_back() {
    let setup = "modparam(\"usrloc\", \"nat_bflag\", \"NAT\")\n\
                 modparam(\"registrar\", \"received_avp\", \"$avp(rcv)\")\n\
                 modparam(\"registrar\", \"received_param\", \"rcvd\")\n\
                 modparam(\"registrar\", \"attr_avp\", \"$avp(attr)\")";
    let body = "if (is_method(\"REGISTER\")) { setbflag(\"NAT\"); \
                $avp(rcv) = \"sip:10.0.0.9:5070\"; $avp(attr) = \"x=1\"; save(\"location\"); }\n\
                else { lookup(\"location\"); \
                if (isbflagset(\"NAT\")) xlog(\"ru=$ru du=$du attr=$avp(attr)\\n\"); }";
    let body = body.replace("is_method(\"REGISTER\")", "$rm == \"REGISTER\"");
    let mut node = node(setup, &body);
    let reply = ask(&mut node, &register("c", 1, "Contact: <sip:a@192.168.1.2>\n"));
    let shown = "<sip:a@192.168.1.2>;expires=3600;rcvd=\"sip:10.0.0.9:5070\"";
    assert_eq!(header(&reply, "Contact"), Some(shown));
    let stored = contacts(&mut node).remove(0);
    assert_eq!((&stored["Cflags"], &stored["Attr"]), (&json!("NAT"), &json!("x=1")));
    assert_eq!(stored["Received"], "sip:10.0.0.9:5070");
    node.udp(PHONE, &invite(""));
    let logs = node.logs();
    let line = "ru=sip:a@192.168.1.2 du=sip:10.0.0.9:5070 attr=x=1";
    assert!(logs.iter().any(|(_, l)| l.contains(line)), "{logs:?}");
}

#[test]
fn flags_of_save_do_what_they_say() {
    let contact = "Contact: <sip:a@10.0.0.9>\n";
    let mut quiet = node("", "save(\"location\", \"no-reply\");");
    quiet.udp(PHONE, &register("c", 1, contact));
    assert!(quiet.sent().is_empty());
    assert_eq!(contacts(&mut quiet).len(), 1);
    let mut memory = node("", "save(\"location\", \"memory-only\");");
    ask(&mut memory, &register("c", 1, contact));
    assert_eq!(contacts(&mut memory)[0]["Flags"], json!(1));
    let mut only = node("", "save(\"location\", \"only-request-contacts\");");
    ask(&mut only, &register("c", 1, contact));
    let reply = ask(&mut only, &register("d", 1, "Contact: <sip:b@10.0.0.9>\n"));
    assert_eq!(header(&reply, "Contact"), Some("<sip:b@10.0.0.9>;expires=3600"));
    let setup = "modparam(\"registrar\", \"sock_hdr_name\", \"X-Socket\")";
    let mut socket = node(setup, "save(\"location\", \"socket-header\");");
    let lines = format!("X-Socket: udp:127.0.0.1:5060\n{contact}");
    ask(&mut socket, &register("c", 1, &lines));
    assert_eq!(contacts(&mut socket)[0]["Socket"], "udp:127.0.0.1:5060");
    let mut by_call = node("", "save(\"location\", \"matching-mode=1\");");
    ask(&mut by_call, &register("c", 1, contact));
    ask(&mut by_call, &register("d", 1, contact));
    assert_eq!(contacts(&mut by_call).len(), 2);
}

#[test]
fn letters_of_3_3_still_mean_what_they_meant() {
    let mut node = node("", "save(\"location\", \"c1fo\");");
    ask(&mut node, &register("c", 1, "Contact: <sip:a@10.0.0.9>\n"));
    node.advance_ms(1000);
    let reply = ask(&mut node, &register("d", 1, "Contact: <sip:b@10.0.0.9>\n"));
    assert_eq!(header(&reply, "Contact"), Some("<sip:b@10.0.0.9>;expires=3600"));
    assert_eq!(contacts(&mut node).len(), 1);
}

#[test]
fn path_is_stored_shown_and_used_as_the_flag_says() {
    let path = "Path: <sip:10.0.0.7;lr;received=sip:10.0.0.9:5070>\n";
    let lines = format!("{path}Supported: path\nContact: <sip:a@192.168.1.2>\n");
    let body = "if ($rm == \"REGISTER\") save(\"location\", \"FLAG\");\n\
                else { lookup(\"location\"); xlog(\"du=$du\\n\"); }";
    let mut off = node("", &body.replace("FLAG", "path-off"));
    ask(&mut off, &register("c", 1, &lines));
    assert_eq!(contacts(&mut off)[0].get("Path"), None);
    let mut strict = node("", &body.replace("FLAG", "path-strict"));
    let unsupported = lines.replace("Supported: path\n", "");
    let reply = ask(&mut strict, &register("c", 1, &unsupported));
    assert_eq!((code(&reply), header(&reply, "Unsupported")), (420, Some("path")));
    let mut lazy = node("", &body.replace("FLAG", "path-lazy, path-received"));
    let reply = ask(&mut lazy, &register("c", 1, &lines));
    assert!(header(&reply, "Path").is_some(), "repeated to a client that supports it");
    assert_eq!(contacts(&mut lazy)[0]["Received"], "sip:10.0.0.9:5070");
    lazy.udp(PHONE, &invite(""));
    assert!(lazy.logs().iter().any(|(_, l)| l.contains("du=sip:10.0.0.7;lr")));
}

/// Registers two contacts, looks alice up with `flags`, and gives what the script saw.
fn looked_up(flags: &str) -> String {
    let body = format!(
        "if ($rm == \"REGISTER\") save(\"location\");\n\
         else {{ lookup(\"location\"{flags}); xlog(\"rc=$rc ru=$ru\\n\"); probe(); }}"
    );
    let mut node = node("", &body);
    let one = "User-Agent: Alpha\nAllow: INVITE\nContact: <sip:1@10.0.0.9>;q=0.2\n";
    let two = "User-Agent: beta\nAllow: MESSAGE\nContact: <sip:2@10.0.0.9>;q=0.9\n";
    ask(&mut node, &register("c", 1, one));
    ask(&mut node, &register("d", 1, two));
    node.logs();
    node.udp(PHONE, &invite(""));
    let logs = node.logs();
    let lines: Vec<&str> = logs.iter().map(|(_, l)| l.trim()).collect();
    lines.join(" ")
}

#[test]
fn lookup_takes_the_best_contact_and_branches_the_rest() {
    assert!(looked_up("").contains("rc=1 ru=sip:2@10.0.0.9 br=sip:1@10.0.0.9"));
    let alone = looked_up(", \"no-branches\"");
    assert!(alone.contains("ru=sip:2@10.0.0.9") && !alone.contains("sip:1@"), "{alone}");
    let kept = looked_up(", \"to-branches-only\"");
    assert!(kept.contains("ru=sip:alice@example.org") && kept.contains("sip:2@"), "{kept}");
}

#[test]
fn lookup_filters_by_method_and_user_agent() {
    assert!(looked_up(", \"method-filtering\"").contains("ru=sip:1@10.0.0.9"));
    assert!(looked_up(", \"ua-filtering=^Al\"").contains("ru=sip:1@10.0.0.9"));
    let insensitive = looked_up(", \"ua-filtering=^BETA, case-insensitive, extended-regexp\"");
    assert!(insensitive.contains("ru=sip:2@10.0.0.9"), "{insensitive}");
    assert!(looked_up(", \"ua-filtering=^none\"").contains("rc=-1"));
    assert!(looked_up(", \"max-ping-latency=5, sort-by-latency\"").contains("rc=1"));
}

#[test]
fn lookup_says_why_it_found_nothing() {
    let body = "if ($rm == \"REGISTER\") save(\"location\");\n\
                else { lookup(\"location\", \"method-filtering\", \"$hdr(X-Aor)\"); \
                xlog(\"rc=$rc\\n\"); }";
    let mut node = node("", body);
    let lines = "Allow: MESSAGE\nContact: <sip:1@10.0.0.9>\n";
    ask(&mut node, &register("c", 1, lines));
    for (aor, expected) in [
        ("sip:alice@example.org", "rc=-2"),
        ("sip:nobody@example.org", "rc=-1"),
        ("nonsense", "rc=-3"),
    ] {
        node.udp(PHONE, &invite(&format!("X-Aor: {aor}\n")));
        let logs = node.logs();
        assert!(logs.iter().any(|(_, l)| l.contains(expected)), "{aor}: {logs:?}");
    }
}

#[test]
fn lookup_resolves_branches_and_never_sees_the_expired() {
    let body = "if ($rm == \"REGISTER\") save(\"location\");\n\
                else { append_msg_branch(\"sip:alice@example.org\"); \
                lookup(\"location\", \"branch\", \"sip:alice@example.org\"); \
                xlog(\"rc=$rc\\n\"); probe(); }";
    let mut node = node("", body);
    ask(&mut node, &register("c", 1, "Contact: <sip:1@10.0.0.9>;expires=60\n"));
    node.udp(PHONE, &invite(""));
    let logs = format!("{:?}", node.logs());
    assert!(logs.contains("rc=1") && logs.contains("br=sip:1@10.0.0.9"), "{logs}");
    node.advance_ms(61_000);
    node.udp(PHONE, &invite(""));
    let logs = format!("{:?}", node.logs());
    assert!(logs.contains("rc=-1") && logs.contains("br=sip:alice@example.org"), "{logs}");
    let stats = node.mi("get_statistics", json!({"statistics": ["usrloc:"]}));
    assert_eq!(stats["result"]["usrloc:location-expires"], json!(1));
    assert_eq!(stats["result"]["usrloc:location-contacts"], json!(0));
}

#[test]
fn questions_about_contacts() {
    let body = "if ($rm == \"REGISTER\") { save(\"location\"); exit; }\n\
        $avp(ip) = \"10.0.0.9\"; $avp(port) = 5070;\n\
        if (is_registered(\"location\", \"sip:alice@example.org\")) xlog(\"yes1\\n\");\n\
        if (!is_registered(\"location\")) xlog(\"yes2\\n\");\n\
        if (is_contact_registered(\"location\", \"sip:alice@example.org\", \
        \"sip:a@10.0.0.9:5070\")) xlog(\"yes3\\n\");\n\
        if (is_contact_registered(\"location\", \"sip:alice@example.org\", , \"c\")) \
        xlog(\"yes4\\n\");\n\
        if (!is_contact_registered(\"location\", \"sip:alice@example.org\", , \"d\")) \
        xlog(\"yes5\\n\");\n\
        if (is_ip_registered(\"location\", \"sip:alice@example.org\", $avp(ip), $avp(port))) \
        xlog(\"yes6\\n\");";
    let mut node = node("", body);
    ask(&mut node, &register("c", 1, "Contact: <sip:a@10.0.0.9:5070>\n"));
    node.udp(PHONE, &invite(""));
    let logs = node.logs();
    for n in 1..=6 {
        let line = format!("yes{n}");
        assert!(logs.iter().any(|(_, l)| l.contains(&line)), "{line}: {logs:?}");
    }
}

#[test]
fn remove_takes_what_fits_all_filters() {
    let setup = "modparam(\"usrloc\", \"nat_bflag\", \"NAT\")";
    let instance = "\"<urn:uuid:1>\"";
    for (args, left) in [
        ("", 0),
        (", \"sip:a@10.0.0.9:5070\"", 1),
        (", , \"10.0.0.9\"", 0),
        (", , \"10.0.0.8\"", 2),
        (", , , \"<urn:uuid:1>\"", 1),
        (", , , , \"NAT\"", 2),
        (", \"sip:a@10.0.0.9:5070\", , , \"NAT\"", 2),
    ] {
        let body = format!(
            "if ($rm == \"REGISTER\") save(\"location\");\n\
             else remove(\"location\", \"sip:alice@example.org\"{args});"
        );
        let mut node = node(setup, &body);
        let lines =
            format!("Contact: <sip:a@10.0.0.9:5070>, <sip:b@10.0.0.9>;+sip.instance={instance}\n");
        ask(&mut node, &register("c", 1, &lines));
        node.udp(PHONE, &invite(""));
        assert_eq!(contacts(&mut node).len(), left, "remove(..{args})");
    }
}

#[test]
fn remove_ip_port_takes_what_is_behind_an_address() {
    for (args, left) in [
        ("\"10.0.0.9\", 5070, \"location\"", 1),
        ("\"10.0.0.9\", 5071, \"location\"", 2),
        ("\"10.0.0.9\", 5070, \"location\", \"sip:alice@example.org\"", 1),
        ("\"10.0.0.9\", 5070, \"location\", \"sip:bob@example.org\"", 2),
        ("\"nonsense\", 5070, \"location\"", 2),
    ] {
        let body =
            format!("if ($rm == \"REGISTER\") save(\"location\"); else remove_ip_port({args});");
        let mut node = node("", &body);
        let lines = "Contact: <sip:a@10.0.0.9:5070>, <sip:b@10.0.0.8:5070>\n";
        ask(&mut node, &register("c", 1, lines));
        node.udp(PHONE, &invite(""));
        assert_eq!(contacts(&mut node).len(), left, "remove_ip_port({args})");
    }
}

#[test]
fn add_sock_hdr_is_checked_and_harmless() {
    let mut node = node("", "if (add_sock_hdr(\"X-Socket\")) xlog(\"added\\n\");");
    node.udp(PHONE, &invite(""));
    assert!(node.logs().iter().any(|(_, l)| l.contains("added")));
    let mut node = self::node("", "if (!add_sock_hdr(\"bad name\")) xlog(\"refused\\n\");");
    node.udp(PHONE, &invite(""));
    assert!(node.logs().iter().any(|(_, l)| l.contains("refused")));
}

#[test]
fn statistics_count_registrations_and_show_parameters() {
    let setup = "modparam(\"registrar\", \"max_expires\", 900)\n\
                 modparam(\"registrar\", \"max_contacts\", 4)\n\
                 modparam(\"registrar\", \"default_expires\", 300)";
    let mut node = node(setup, SAVE);
    ask(&mut node, &register("c", 1, "Contact: <sip:a@10.0.0.9>\n"));
    assert_eq!(stat(&mut node, "accepted_regs"), 1);
    assert_eq!(stat(&mut node, "max_expires"), 900);
    assert_eq!(stat(&mut node, "max_contacts"), 4);
    assert_eq!(stat(&mut node, "default_expire"), 300);
}

#[test]
fn wrong_parameters_are_refused_at_load() {
    for (setup, expected) in [
        ("modparam(\"registrar\", \"min_expires\", -1)", "a number from 0 is wanted"),
        ("modparam(\"registrar\", \"default_q\", 2000)", "from 0 to 1000"),
        ("modparam(\"registrar\", \"max_expires\", 10)", "lower than min_expires"),
        ("modparam(\"registrar\", \"mcontact_avp\", \"x\")", "an AVP"),
    ] {
        let errors = refused(setup, SAVE);
        assert!(errors.contains(expected), "{setup}:\n{errors}");
    }
    let errors = refused("", "save(\"location\", \"max-contacts\");");
    assert!(errors.contains("max-contacts"), "{errors}");
}
