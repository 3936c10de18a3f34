//! SUBSCRIBE and NOTIFY.

use std::sync::atomic::Ordering;

use crate::common::*;
use serde_json::json;
use tandem_engine::testing::TestNode;

#[test]
fn a_subscription_is_prolonged_and_ended_within_its_dialog() {
    let mut node = node("");
    published(&mut node, &publish("bob", "presence", 1, "", "open"));
    let (mut watcher, first) = Watcher::watch(&mut node, "w", "bob", "presence");
    assert_eq!(body(&first), "open");
    assert!(header(&first, "From").ends_with(&format!(";tag={}", watcher.to_tag)));
    let (reply, notifies) = watcher.go(&mut node, "Expires: 100\n");
    assert_eq!((header(&reply, "Expires"), notifies.len()), ("100", 1));
    assert_eq!(header(&notifies[0], "Subscription-State"), "active;expires=100");
    assert_eq!(header(&notifies[0], "CSeq"), "2 NOTIFY");
    let (reply, notifies) = watcher.go(&mut node, "Expires: 0\n");
    assert!(reply.starts_with("SIP/2.0 200"), "{reply}");
    assert_eq!(header(&notifies[0], "Subscription-State"), "terminated;reason=timeout");
    assert_eq!(body(&notifies[0]), "open");
    let (reply, _) = watcher.go(&mut node, "Expires: 100\n");
    assert!(reply.starts_with("SIP/2.0 481"), "{reply}");
}

#[test]
fn a_watcher_behind_nat_is_told_where_the_script_says() {
    let route = format!("fix_nated_contact();\n{ROUTE}");
    let mut node = node_with("loadmodule \"nathelper.so\"\n", &route);
    let mut watcher = Watcher::new("w", "bob", "presence");
    let at = |address: &str| format!("Contact: <sip:w@{address};ob>");
    let behind =
        |text: String| text.replace("Contact: <sip:w@127.0.0.9:5060>", &at("10.1.2.3:5099"));
    node.udp(WATCHER, &behind(watcher.subscribe("")));
    let sent = got(&mut node);
    watcher.to_tag = tag(header(&sent[0], "To")).to_owned();
    assert!(sent[1].starts_with("NOTIFY sip:w@127.0.0.9:5060;ob SIP/2.0"), "{sent:?}");
    // Also when it prolongs.
    node.udp(WATCHER, &behind(watcher.subscribe("")));
    let sent = got(&mut node);
    assert!(sent[1].starts_with("NOTIFY sip:w@127.0.0.9:5060;ob SIP/2.0"), "{sent:?}");
}

#[test]
fn a_look_at_the_state_is_answered_and_leaves_nothing() {
    let mut node = node("");
    published(&mut node, &publish("bob", "presence", 1, "", "open"));
    let (reply, notifies) = Watcher::new("w", "bob", "presence").go(&mut node, "Expires: 0\n");
    assert!(reply.starts_with("SIP/2.0 200") && header(&reply, "Expires") == "0");
    assert_eq!(body(&notifies[0]), "open");
    assert_eq!(header(&notifies[0], "Subscription-State"), "terminated;reason=timeout");
    assert!(list(&mut node, "presence:subs_phtable_list").is_empty());
}

#[test]
fn a_subscription_that_nobody_prolongs_ends_in_its_second() {
    let mut node = node("");
    let mut watcher = Watcher::new("w", "bob", "presence");
    watcher.go(&mut node, "Expires: 5\n");
    node.advance_ms(4_000);
    assert!(told(&mut node).is_empty());
    node.advance_ms(2_500);
    let notifies = told(&mut node);
    assert_eq!(notifies.len(), 1);
    assert_eq!(header(&notifies[0], "Subscription-State"), "terminated;reason=timeout");
    assert!(list(&mut node, "presence:subs_phtable_list").is_empty());
}

#[test]
fn repetitions_and_stale_numbers_change_nothing() {
    let mut node = node("");
    let (mut watcher, _) = Watcher::watch(&mut node, "w", "bob", "presence");
    let again = {
        let mut fresh = Watcher::new("w", "bob", "presence");
        fresh.subscribe("Expires: 600\n")
    };
    node.udp(WATCHER, &again);
    let sent = got(&mut node);
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert!(sent[0].starts_with("SIP/2.0 200"));
    watcher.cseq = 4;
    assert!(watcher.go(&mut node, "Expires: 600\n").0.starts_with("SIP/2.0 200"));
    watcher.cseq = 2;
    let (reply, notifies) = watcher.go(&mut node, "Expires: 600\n");
    assert!(reply.starts_with("SIP/2.0 500") && notifies.is_empty(), "{reply}");
}

#[test]
fn what_is_no_subscription_is_refused() {
    let mut node = node("");
    let mut code = |text: &str| {
        node.udp(WATCHER, text);
        got(&mut node)[0][8..11].to_owned()
    };
    let of = |event: &str| Watcher::new("w", "bob", event).subscribe("");
    assert_eq!(code(&of("weather")), "489");
    let no_contact = of("presence").replace("Contact: <sip:w@127.0.0.9:5060>\n", "");
    assert_eq!(code(&no_contact), "400");
    let by_phone = of("presence").replace("<sip:w@127.0.0.9:5060>", "<tel:123>");
    assert_eq!(code(&by_phone), "400", "no NOTIFY goes there");
    let unknown = of("presence").replace("To: <sip:bob@a.test>", "To: <sip:bob@a.test>;tag=x");
    assert_eq!(code(&unknown), "481");
    assert_eq!(code(&Watcher::new("blocked", "bob", "presence").subscribe("")), "403");
    node.udp(WATCHER, &Watcher::new("w", "bob", "presence").subscribe("Require: a, b\n"));
    let reply = got(&mut node).remove(0);
    assert!(reply.starts_with("SIP/2.0 420 Bad Extension"), "{reply}");
    assert_eq!(header(&reply, "Unsupported"), "a, b");
}

#[test]
fn whoever_does_not_read_what_a_notify_holds_is_refused() {
    let mut node = node("");
    let (mut watcher, _) = Watcher::watch(&mut node, "w", "bob", "presence");
    let mut code = |watcher: &mut Watcher, extra: &str| {
        let (reply, notifies) = watcher.go(&mut node, extra);
        (reply[8..11].to_owned(), notifies.len())
    };
    for (n, (accept, wanted)) in
        [("text/plain", "200"), ("a/b, text/*;q=0.5", "200"), ("a/b", "406"), ("", "406")]
            .into_iter()
            .enumerate()
    {
        let mut other = Watcher::new(&format!("w{n}"), "bob", "presence");
        let got = code(&mut other, &format!("Accept: {accept}\n"));
        assert_eq!(got, (wanted.to_owned(), usize::from(wanted == "200")), "{accept}");
    }
    // Who was let in is refused as well, and may leave.
    assert_eq!(code(&mut watcher, "Accept: a/b\n"), ("406".to_owned(), 0));
    assert_eq!(code(&mut watcher, "Accept: a/b\nExpires: 0\n"), ("200".to_owned(), 1));
}

#[test]
fn a_watcher_waits_until_the_rules_let_him_in() {
    let mut node = node("");
    published(&mut node, &publish("bob", "presence", 1, "", "open"));
    let (_, list) = Watcher::watch(&mut node, "bob", "bob", "presence.winfo");
    assert!(body(&list).contains("state=\"full\"") && !body(&list).contains("<watcher "), "{list}");
    let mut pending = Watcher::new("pending", "bob", "presence");
    let (reply, notifies) = pending.go(&mut node, "Expires: 600\n");
    assert!(reply.starts_with("SIP/2.0 202"), "{reply}");
    let (own, winfo): (Vec<_>, Vec<_>) =
        notifies.into_iter().partition(|text| header(text, "Event") == "presence");
    assert_eq!(header(&own[0], "Subscription-State"), "pending;expires=600");
    assert_eq!(body(&own[0]), "");
    let document = body(winfo.last().unwrap());
    assert!(document.contains("status=\"pending\">sip:pending@a.test</watcher>"), "{document}");
    let (_, rules) = node.node().find::<Rules>().unwrap();
    rules.is_open.store(true, Ordering::Relaxed);
    let params = json!(["sip:bob@a.test", "presence", "0"]);
    assert_eq!(node.mi("presence:refresh_watchers", params)["result"], "OK");
    let notifies = told(&mut node);
    let own: Vec<_> = notifies.iter().filter(|t| header(t, "Event") == "presence").collect();
    assert!(header(own[0], "Subscription-State").starts_with("active;expires="), "{own:?}");
    assert_eq!(body(own[0]), "open");
    let winfo: Vec<_> = notifies.iter().filter(|t| t.contains("<watcherinfo")).collect();
    assert!(body(winfo[0]).contains("event=\"approved\" status=\"active\""), "{winfo:?}");
    // Who leaves is listed once more, and then no more.
    let (_, notifies) = pending.go(&mut node, "Expires: 0\n");
    let winfo: Vec<_> = notifies.iter().filter(|t| t.contains("<watcherinfo")).collect();
    assert_eq!(winfo.len(), 1, "{notifies:?}");
    assert!(body(winfo[0]).contains("event=\"timeout\" status=\"terminated\""), "{winfo:?}");
    let (_, list) = Watcher::watch(&mut node, "bob2", "bob", "presence.winfo");
    assert!(!body(&list).contains("<watcher "), "{list}");
}

#[test]
fn a_notify_that_a_watcher_does_not_take_now_comes_when_he_has_said() {
    let mut node = node("");
    let mut watcher = Watcher::new("w", "bob", "presence");
    watcher.go(&mut node, "Expires: 600\n");
    published(&mut node, &publish("bob", "presence", 1, "", "open"));
    let later = |node: &mut TestNode, text: &str| {
        let busy =
            reply_to(text, 503).replace("Content-Length", "Retry-After: 5 (busy)\nContent-Length");
        node.udp(WATCHER, &busy);
    };
    let first = left().remove(0);
    later(&mut node, &first);
    node.advance_ms(4_500);
    assert!(told(&mut node).is_empty(), "he has said when");
    node.advance_ms(1_500);
    let notifies = told(&mut node);
    assert_eq!(notifies.len(), 1, "{notifies:?}");
    assert_eq!((body(&notifies[0]), header(&notifies[0], "CSeq")), ("open", "3 NOTIFY"));
    // What has left since counts.
    published(&mut node, &publish("bob", "presence", 2, "", "two"));
    let second = left().remove(0);
    later(&mut node, &second);
    published(&mut node, &publish("bob", "presence", 3, "", "three"));
    assert_eq!(told(&mut node).len(), 1);
    node.advance_ms(10_000);
    assert!(told(&mut node).is_empty());
}

#[test]
fn a_number_that_watches_is_a_number_in_its_notify() {
    let mut node = node("");
    let subscribe = Watcher::new("w", "bob", "presence").subscribe("");
    node.udp(WATCHER, &subscribe.replace("From: <sip:w@a.test>", "From: <tel:+123>"));
    let sent = got(&mut node);
    assert_eq!(header(&sent[1], "To"), "<tel:+123>;tag=w");
}

#[test]
fn rules_may_take_their_time() {
    let mut node = node("");
    published(&mut node, &publish("bob", "presence", 1, "", "open"));
    let mut slow = Watcher::new("slow", "bob", "presence");
    let (reply, notifies) = slow.go(&mut node, "Expires: 600\n");
    assert_eq!((reply.as_str(), notifies.len()), ("", 0));
    let (_, rules) = node.node().find::<Rules>().unwrap();
    let ask = rules.asked.lock().last().cloned().unwrap();
    assert_eq!(
        (&*ask.presentity, &*ask.watcher),
        (&b"sip:bob@a.test"[..], &b"sip:slow@a.test"[..])
    );
    node.mi("test_packages:let_in", serde_json::Value::Null);
    let sent = got(&mut node);
    assert!(sent[0].starts_with("SIP/2.0 200"), "{sent:?}");
    assert_eq!(body(&sent[1]), "open");
}

#[test]
fn each_watcher_sees_what_he_may() {
    let mut node = node("");
    published(&mut node, &publish("bob", "presence", 1, "", "open:talking"));
    let (_, all) = Watcher::watch(&mut node, "w", "bob", "presence");
    let (_, half) = Watcher::watch(&mut node, "half", "bob", "presence");
    assert_eq!((body(&all), body(&half)), ("open:talking", "open:t"));
}

#[test]
fn a_watcher_that_is_gone_is_forgotten() {
    let mut node = node("");
    let (_, _) = Watcher::watch(&mut node, "w", "bob", "presence");
    node.udp(PHONE, &publish("bob", "presence", 1, "", "open"));
    let sent = node.sent();
    let notify = &sent.iter().find(|(_, text)| text.starts_with("NOTIFY")).unwrap().1;
    node.udp(WATCHER, &reply_to(notify, 481));
    assert!(list(&mut node, "presence:subs_phtable_list").is_empty());
}

#[test]
fn several_subscriptions_of_a_dialog_are_told_apart_by_their_ids() {
    let mut node = node("");
    let mut a = Watcher::new("w", "bob", "presence;id=1");
    a.call_id = "same".into();
    let (reply, first) = a.go(&mut node, "Expires: 600\n");
    assert!(reply.starts_with("SIP/2.0 200"), "{reply}");
    assert_eq!(header(&first[0], "Event"), "presence;id=1");
    let mut b = Watcher { event: "presence;id=2".into(), ..a.clone() };
    assert!(b.go(&mut node, "Expires: 600\n").0.starts_with("SIP/2.0 481"));
    assert_eq!(list(&mut node, "presence:subs_phtable_list").len(), 1);
}

#[test]
fn a_presentity_with_many_watchers_is_told_step_by_step() {
    let mut node = node("");
    const WATCHERS: usize = 2_000;
    for n in 0..WATCHERS {
        let mut watcher = Watcher::new(&format!("w{n}"), "bob", "presence");
        node.udp(WATCHER, &watcher.subscribe("Expires: 600\n"));
    }
    got(&mut node);
    node.udp(PHONE, &publish("bob", "presence", 1, "", "open"));
    let first = node.sent();
    let answered = |node: &mut TestNode| {
        let sent = node.sent();
        for (_, text) in sent.iter().filter(|(_, text)| text.starts_with("NOTIFY")) {
            node.udp(WATCHER, &reply_to(text, 200));
        }
        sent
    };
    let count = |sent: &[(std::net::SocketAddr, String)]| {
        sent.iter().filter(|(_, text)| text.starts_with("NOTIFY")).count()
    };
    assert!(count(&first) <= 250, "{}", count(&first));
    for (_, text) in first.iter().filter(|(_, text)| text.starts_with("NOTIFY")) {
        node.udp(WATCHER, &reply_to(text, 200));
    }
    let mut all = count(&first);
    for _ in 0..40 {
        node.advance_ms(2);
        all += count(&answered(&mut node));
    }
    assert_eq!(all, WATCHERS);
}

#[test]
fn where_many_watch_their_list_is_told_once_a_second() {
    let mut node = node("");
    Watcher::watch(&mut node, "bob", "bob", "presence.winfo");
    let mut lists = 0;
    for n in 0..400 {
        let mut watcher = Watcher::new(&format!("w{n}"), "bob", "presence");
        let (_, notifies) = watcher.go(&mut node, "Expires: 600\n");
        lists += notifies.iter().filter(|text| text.contains("<watcherinfo")).count();
    }
    assert_eq!(lists, 64);
    node.advance_ms(1_100);
    let late = told(&mut node);
    assert_eq!(late.len(), 1, "{}", late.len());
    assert!(late[0].len() < 65_000);
}

#[test]
fn a_notify_that_cannot_leave_is_owed_until_its_watcher_is_given_up() {
    let subscribe = |params: &str| {
        let mut node = node(params);
        let subscribe = Watcher::new("w", "bob", "presence").subscribe("Expires: 600\n");
        node.udp(WATCHER, &subscribe.replace("@127.0.0.9:5060>", "@unknown.invalid>"));
        assert_eq!(list(&mut node, "presence:subs_phtable_list").len(), 1);
        node.advance_ms(20_000);
        assert_eq!(list(&mut node, "presence:subs_phtable_list").len(), 1);
        node
    };
    let mut node = subscribe("");
    let tries = node.logs().iter().filter(|(_, text)| text.contains("cannot leave")).count();
    assert_eq!(tries, 1, "said once");
    node.advance_ms(60_000);
    assert!(list(&mut node, "presence:subs_phtable_list").is_empty(), "nothing can reach him");
    let mut node = subscribe(&set("end_sub_on_timeout", "0"));
    node.advance_ms(60_000);
    assert_eq!(list(&mut node, "presence:subs_phtable_list").len(), 1);
}

#[test]
fn the_answer_comes_before_the_notify_with_and_without_a_transaction() {
    for transaction in ["t_newtran();\n", ""] {
        let mut node = node_with("", &format!("{transaction}{ROUTE}"));
        let mut watcher = Watcher::new("bob", "alice", "presence");
        node.udp(WATCHER, &watcher.subscribe("Expires: 600\n"));
        let sent = node.sent();
        let lines: Vec<&str> = sent.iter().filter_map(|(_, text)| text.lines().next()).collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(
            lines[0].starts_with("SIP/2.0 200 ") && lines[1].starts_with("NOTIFY "),
            "{lines:?}"
        );
    }
}
