//! What becomes of a NOTIFY on its way: the same whether a route of the script sees it, and it has a
//! transaction, or none does, and it has a place in a table.

use serde_json::json;
use tandem_engine::effect::{Input, SendError};
use tandem_engine::testing::TestNode;

use crate::common::{
    MODULES, PHONE, ROUTE, WATCHER, Watcher, got, header, left, list, publish, reply_to, script_of,
};

/// What was sent, by the time that has passed, and what was counted.
type Story = (Vec<(u64, String)>, String);

/// Runs the same with and without a route that sees NOTIFYs.
fn both_ways(more: &str, play: impl Fn(&mut TestNode, &mut Log)) -> Story {
    let stories = ["local_route { $avp(seen) = 1; }\n", ""].map(|route| {
        let script = script_of("", ROUTE) + more + route;
        let mut node = TestNode::new(&script, MODULES);
        let mut log = Log::default();
        let (_, _) = Watcher::watch(&mut node, "w", "bob", "presence");
        play(&mut node, &mut log);
        // What is over is over, except that a transaction is kept for a while.
        node.advance_ms(60_000);
        log.note(&mut node);
        let inuse = &node.mi("get_statistics", json!([["tm:inuse_transactions"]]))["result"];
        assert_eq!(inuse["tm:inuse_transactions"], 0);
        (log.sent, node.mi("get_statistics", json!([["tm:", "core:"]]))["result"].to_string())
    });
    let [seen, unseen] = stories;
    assert_eq!(seen, unseen);
    seen
}

#[derive(Default)]
struct Log {
    sent: Vec<(u64, String)>,
    passed_ms: u64,
}

impl Log {
    fn pass(&mut self, node: &mut TestNode, ms: u64) {
        for _ in 0..ms / 100 {
            node.advance_ms(100);
            self.passed_ms += 100;
            self.note(node);
        }
    }

    fn note(&mut self, node: &mut TestNode) {
        let sent = left().into_iter().chain(node.sent().into_iter().map(|(_, text)| text));
        let line = |text: String| {
            let first = text.lines().next().unwrap_or_default().to_owned();
            format!("{first} {}", header(&text, "CSeq"))
        };
        self.sent.extend(sent.map(|text| (self.passed_ms, line(text))));
    }
}

/// Publishes; the NOTIFY that leaves.
fn notified(node: &mut TestNode, log: &mut Log, n: u32) -> String {
    node.udp(PHONE, &publish("bob", "presence", n, "", &format!("state {n}")));
    let sent: Vec<_> = node.sent().into_iter().map(|(_, text)| text).collect();
    let notify = sent.iter().find(|text| text.starts_with("NOTIFY ")).cloned().unwrap();
    log.sent.push((log.passed_ms, header(&notify, "CSeq").to_owned()));
    notify
}

fn times(story: &Story) -> Vec<u64> {
    story.0.iter().map(|(at, _)| *at).collect()
}

#[test]
fn a_notify_is_repeated_until_it_is_given_up() {
    let story = both_ways("", |node, log| {
        notified(node, log, 1);
        log.pass(node, 40_000);
        assert!(list(node, "presence:subs_phtable_list").is_empty());
    });
    let first = [0, 500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500];
    assert_eq!(times(&story), first, "{story:?}");
    assert!(story.1.contains("timeout_finalresponse\":1"), "{}", story.1);
}

#[test]
fn whoever_says_that_he_works_on_it_is_asked_less_often() {
    let story = both_ways("", |node, log| {
        let notify = notified(node, log, 1);
        log.pass(node, 300);
        node.udp(WATCHER, &reply_to(&notify, 100));
        log.pass(node, 10_000);
        node.udp(WATCHER, &reply_to(&notify, 200));
        log.pass(node, 10_000);
    });
    assert_eq!(times(&story), [0, 500, 4_500, 8_500], "{story:?}");
}

#[test]
fn an_answer_that_comes_again_and_one_to_nothing_go_nowhere() {
    let story = both_ways("", |node, log| {
        let notify = notified(node, log, 1);
        node.udp(WATCHER, &reply_to(&notify, 200).replace("NOTIFY", "OPTIONS"));
        log.pass(node, 600);
        node.udp(WATCHER, &reply_to(&notify, 200));
        // Within the time that a transaction is kept.
        for code in [200, 481, 100] {
            node.udp(WATCHER, &reply_to(&notify, code));
        }
        log.pass(node, 2_000);
        assert_eq!(list(node, "presence:subs_phtable_list").len(), 1);
    });
    assert_eq!(times(&story), [0, 500], "{story:?}");
}

#[test]
fn who_has_not_seen_a_notify_cannot_answer_it() {
    for route in ["local_route { $avp(seen) = 1; }\n", ""] {
        let mut node = TestNode::new(&(script_of("", ROUTE) + route), MODULES);
        let (_, _) = Watcher::watch(&mut node, "w", "bob", "presence");
        let notify = notified(&mut node, &mut Log::default(), 1);
        let branch = header(&notify, "Via").split_once("branch=").unwrap().1.to_owned();
        let (place, label) = branch.split_at(branch.len() - 4);
        let other = label.replace(|c: char| c != '.', "5");
        let forged = notify.replace(&branch, &format!("{place}{other}"));
        assert_ne!(forged, notify);
        for code in [200, 481] {
            node.udp(WATCHER, &reply_to(&forged, code));
        }
        assert_eq!(list(&mut node, "presence:subs_phtable_list").len(), 1);
        node.advance_ms(600);
        assert_eq!(got(&mut node).len(), 1, "it is repeated");
    }
}

#[test]
fn each_answer_counts_also_where_the_script_looks_at_all_of_them() {
    for more in ["", "onreply_route { $avp(x) = $rs; }\n"] {
        let story = both_ways(more, |node, log| {
            for (n, code) in (1..).zip([200, 302, 404, 500, 603, 481]) {
                let notify = notified(node, log, n);
                node.udp(WATCHER, &reply_to(&notify, code));
                log.pass(node, 1_000);
            }
            assert!(list(node, "presence:subs_phtable_list").is_empty(), "481 ends it");
        });
        assert_eq!(times(&story), [0, 1_000, 2_000, 3_000, 4_000, 5_000], "{story:?}");
    }
}

#[test]
fn what_cannot_leave_is_owed_and_tried_again() {
    let story = both_ways("", |node, log| {
        notified(node, log, 1);
        let ticket = node.last_ticket();
        node.step(Input::SendFailed { ticket, error: SendError::NotHolder });
        log.pass(node, 600);
        let ticket = node.last_ticket();
        node.step(Input::SendFailed { ticket, error: SendError::Refused });
        log.pass(node, 3_000);
        for text in got(node) {
            log.sent.push((0, text));
        }
    });
    assert_eq!(times(&story)[..3], [0, 500, 2_600], "{story:?}");
}

#[test]
fn the_route_set_is_followed() {
    for route in ["local_route { $avp(seen) = 1; }\n", ""] {
        let mut node = TestNode::new(&(script_of("", ROUTE) + route), MODULES);
        let routes = "Record-Route: <sip:127.0.0.7:5070;lr>, <sip:127.0.0.8;lr>\n";
        node.udp(WATCHER, &Watcher::new("w", "bob", "presence").subscribe(routes));
        let sent = node.sent();
        let (to, notify) = sent.iter().find(|(_, text)| text.starts_with("NOTIFY ")).unwrap();
        assert_eq!(to.to_string(), "127.0.0.7:5070");
        assert!(notify.starts_with("NOTIFY sip:w@127.0.0.9:5060 SIP/2.0"), "{notify}");
        let wanted = "<sip:127.0.0.7:5070;lr>, <sip:127.0.0.8;lr>";
        assert_eq!(header(notify, "Route").replace(",<", ", <"), wanted);
    }
}
