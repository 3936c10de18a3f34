//! Nodes that have the same presence, notify for each other, and lose each other.

use std::collections::BTreeSet;

use tandem_db::{Query, Select};

use crate::common::*;
use crate::pair::Pair;

fn cseq(text: &str) -> u32 {
    header(text, "CSeq").split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn publications_and_subscriptions_are_on_both_nodes() {
    let mut pair = Pair::new("");
    etag(&pair.publish(0, &publish("bob", "presence", 1, "", "open")));
    let mut watcher = Watcher::new("w", "bob", "presence");
    let reply = pair.subscribe(0, &mut watcher, "Expires: 600\n");
    assert!(reply.starts_with("SIP/2.0 200"), "{reply}");
    let notifies = pair.notified(true);
    assert_eq!(notifies.len(), 1, "{notifies:?}");
    assert_eq!(notifies[0].0, 0);
    pair.advance_ms(100);
    let (ours, theirs) = (pair.all(0), pair.all(1));
    assert_eq!(ours, theirs);
    assert_eq!((ours.0.len(), ours.1.len()), (1, 1));
}

#[test]
fn the_holder_of_the_tag_notifies_whoever_got_the_request() {
    let mut pair = Pair::new("");
    let mut watcher = Watcher::new("w", "bob", "presence");
    assert!(pair.subscribe(1, &mut watcher, "Expires: 600\n").starts_with("SIP/2.0 200"));
    let first = pair.notified(true);
    assert_eq!(first.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0]);
    etag(&pair.publish(1, &publish("bob", "presence", 1, "", "open")));
    let second = pair.notified(true);
    assert_eq!(second.len(), 1, "{second:?}");
    assert_eq!((second[0].0, body(&second[0].1)), (0, "open"));
    // The backup keeps a watcher that it cannot reach, and one that is over.
    pair.advance_ms(60_000);
    assert_eq!(pair.all(1).1.len(), 1);
}

#[test]
fn a_database_that_is_faster_than_the_peer_does_not_put_the_notify_before_the_answer() {
    let params = DB.to_owned() + &set("fallback2db", "1");
    let mut pair = Pair::new(&params);
    // Nobody has published: the database is asked.
    for (user, expires) in [("w", "Expires: 600\n"), ("looks", "Expires: 0\n")] {
        let mut watcher = Watcher::new(user, "bob", "presence");
        pair.datagrams.clear();
        // The peer stands still: the answer waits for it.
        let still = pair.workers[1].take();
        pair.udp(0, WATCHER, &watcher.subscribe(expires));
        pair.advance_ms(10);
        assert!(pair.datagrams.is_empty(), "{:?}", pair.datagrams);
        pair.advance_ms(20);
        pair.workers[1] = still;
        let lines = pair.datagrams.iter().filter_map(|(_, _, text)| text.lines().next());
        let words: Vec<_> = lines.map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(words, ["SIP/2.0", "NOTIFY"], "{expires}");
    }
}

#[test]
fn the_heir_tells_what_the_dead_node_did_not() {
    let mut pair = Pair::new("");
    let mut watchers: Vec<_> =
        ["a", "b"].iter().map(|user| Watcher::new(user, "bob", "presence")).collect();
    for watcher in &mut watchers {
        pair.subscribe(0, watcher, "Expires: 600\n");
    }
    let mut other = Watcher::new("c", "carol", "presence");
    pair.subscribe(0, &mut other, "Expires: 600\n");
    let before = pair.notified(true);
    assert_eq!(before.len(), 3, "{before:?}");
    // The backup takes the PUBLISH; the holder dies before it can say anything.
    pair.cut();
    pair.udp(1, PHONE, &publish("bob", "presence", 1, "", "open"));
    pair.kill(0);
    pair.heal();
    pair.advance_ms(1_000);
    assert!(pair.notified(true).is_empty(), "a backup notifies nobody");
    pair.take_over();
    pair.advance_ms(3_000);
    let after = pair.notified(true);
    assert_eq!(after.len(), 2, "{after:?}");
    for (at, text) in &after {
        assert_eq!((*at, body(text)), (1, "open"));
        assert!(cseq(text) > 1, "{text}");
    }
    // Everything is told: nobody hears of it again.
    pair.advance_ms(60_000);
    assert!(pair.notified(true).is_empty());
}

#[test]
fn a_notify_that_nobody_confirmed_is_sent_again_by_the_heir() {
    let mut pair = Pair::new("");
    let mut watcher = Watcher::new("w", "bob", "presence");
    pair.subscribe(0, &mut watcher, "Expires: 600\n");
    let before = pair.notified(true);
    etag(&pair.publish(0, &publish("bob", "presence", 1, "", "open")));
    let lost = pair.notified(false);
    assert_eq!(lost.len(), 1, "{lost:?}");
    pair.kill(0);
    pair.take_over();
    pair.advance_ms(3_000);
    let after = pair.notified(true);
    assert_eq!((after.len(), body(&after[0].1)), (1, "open"));
    assert!(cseq(&after[0].1) > cseq(&lost[0].1) && cseq(&lost[0].1) > cseq(&before[0].1));
}

#[test]
fn a_subscription_goes_on_at_the_heir_and_ends_there() {
    let mut pair = Pair::new("");
    let mut watcher = Watcher::new("w", "bob", "presence");
    pair.subscribe(0, &mut watcher, "Expires: 20\n");
    pair.notified(true);
    pair.kill(0);
    pair.take_over();
    let reply = pair.subscribe(1, &mut watcher, "Expires: 20\n");
    assert!(reply.starts_with("SIP/2.0 200"), "{reply}");
    let notifies = pair.notified(true);
    assert_eq!(notifies.len(), 1, "{notifies:?}");
    pair.advance_ms(22_500);
    let last = pair.notified(true);
    assert_eq!(last.len(), 1, "{last:?}");
    assert_eq!(header(&last[0].1, "Subscription-State"), "terminated;reason=timeout");
    assert!(pair.all(1).1.is_empty());
}

#[test]
fn a_node_that_comes_back_gets_everything_and_what_ended_stays_ended() {
    let mut pair = Pair::new("");
    for n in 1..20 {
        let user = format!("u{n}");
        etag(&pair.publish(0, &publish(&user, "presence", n, "", "open")));
        pair.subscribe(0, &mut Watcher::new("w", &user, "presence"), "Expires: 600\n");
    }
    let gone = etag(&pair.publish(0, &publish("gone", "presence", 99, "", "open")));
    pair.notified(true);
    pair.kill(1);
    let remove = format!("SIP-If-Match: {gone}\nExpires: 0\n");
    pair.publish(0, &publish("gone", "presence", 100, &remove, ""));
    pair.boot(1);
    pair.advance_ms(12_000);
    pair.notified(true);
    assert_eq!(pair.all(0), pair.all(1));
    assert_eq!((pair.all(1).0.len(), pair.all(1).1.len()), (19, 19));
}

#[test]
fn what_was_removed_on_either_side_of_a_split_is_gone_everywhere() {
    let mut pair = Pair::new("");
    let etags: Vec<_> = (1..4)
        .map(|n| etag(&pair.publish(0, &publish("bob", "presence", n, "", &format!("s{n}")))))
        .collect();
    pair.advance_ms(100);
    pair.cut();
    for (at, n) in [(0, 0), (1, 1)] {
        let remove = format!("SIP-If-Match: {}\nExpires: 0\n", etags[n]);
        let reply = pair.publish(at, &publish("bob", "presence", 10 + n as u32, &remove, ""));
        assert!(reply.starts_with("SIP/2.0 200"), "{reply}");
    }
    pair.advance_ms(5_000);
    assert_eq!((pair.all(0).0.len(), pair.all(1).0.len()), (2, 2));
    pair.heal();
    pair.advance_ms(70_000);
    for at in [0, 1] {
        let left: Vec<_> = pair.all(at).0.iter().map(|p| p.body.clone()).collect();
        assert_eq!(left, ["s3"], "node {at}");
    }
}

#[test]
fn while_its_tag_is_elsewhere_a_node_is_silent() {
    let params = set("cluster_be_active_shtag", "\"vip\"");
    let mut pair = Pair::new(&params);
    let mut watcher = Watcher::new("w", "bob", "presence");
    pair.subscribe(1, &mut watcher, "Expires: 600\n");
    etag(&pair.publish(1, &publish("bob", "presence", 1, "", "open")));
    let nodes: Vec<_> = pair.notified(true).iter().map(|(at, _)| *at).collect();
    assert_eq!(nodes, [0, 0]);
    pair.take_over();
    pair.advance_ms(100);
    let change = publish("bob", "presence", 2, "", "away");
    etag(&pair.publish(0, &change));
    let nodes: Vec<_> = pair.notified(true).iter().map(|(at, _)| *at).collect();
    assert_eq!(nodes, [1]);
}

#[test]
fn what_a_newer_publication_pushes_out_leaves_the_database_too() {
    let mut pair = Pair::new(&(DB.to_owned() + &set("clean_period", "0")));
    let rows = |pair: &mut Pair| {
        let select = Select {
            table: "presentity".into(),
            columns: vec!["etag".into()],
            ..Select::default()
        };
        let found = pair.db.execute(&Query::Select(select)).unwrap().rows;
        let etags = found.iter().map(|row| text_of(row[0].as_bytes().unwrap()));
        etags.collect::<BTreeSet<_>>()
    };
    pair.part();
    for n in 1..=64 {
        etag(&pair.publish(0, &publish("bob", "presence", n, "", "open")));
    }
    pair.advance_ms(2_000);
    let newer = etag(&pair.publish(1, &publish("bob", "presence", 65, "", "away")));
    assert_eq!(rows(&mut pair).len(), 65);
    pair.heal();
    pair.advance_ms(30_000);
    let known: BTreeSet<_> = pair.all(0).0.iter().map(|p| text_of(&p.etag)).collect();
    assert!(known.len() == 64 && known.contains(&newer), "{known:?}");
    assert_eq!(pair.all(0).0, pair.all(1).0);
    assert_eq!(rows(&mut pair), known);
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
