//! A hundred thousand contacts: pings spread over the interval, steps that do not grow with the
//! table.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use serde_json::json;
use tandem_engine::catalogue::Modules;
use tandem_engine::testing::TestNode;
use tandem_usrloc::Usrloc;
use tandem_usrloc::store::{
    Change, Domain, Edit, Matching, NewContact, Origin, Replica, Sink, Stamp,
};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_sl::MODULE,
    &tandem_signaling::MODULE,
    &tandem_usrloc::MODULE,
    &tandem_registrar::MODULE,
    &tandem_nathelper::MODULE,
];
const INTERVAL_S: u64 = 30;
const MANY: u64 = 100_000;

fn node(settings: &str) -> TestNode {
    let script = format!(
        "socket=udp:127.0.0.1:5060\nlog_level=1\nloadmodule \"proto_udp.so\"\n\
         loadmodule \"sl.so\"\nloadmodule \"signaling.so\"\nloadmodule \"usrloc.so\"\n\
         loadmodule \"registrar.so\"\nloadmodule \"nathelper.so\"\n\
         modparam(\"usrloc\", \"nat_bflag\", \"NAT\")\n\
         modparam(\"nathelper\", \"natping_interval\", {INTERVAL_S})\n{settings}\n\
         route {{ setbflag(\"NAT\"); exit; }}"
    );
    TestNode::new(&script, MODULES)
}

/// Nobody is told.
struct Alone;

impl Sink for Alone {
    fn stamp(&self) -> Stamp {
        Stamp { time_us: 1, node: 0 }
    }

    fn replicate(&self, _: usize, _: Replica<'_>) {}
}

fn domain<R>(node: &TestNode, run: impl FnOnce(&Domain) -> R) -> R {
    let (_, usrloc) = node.node().find::<Usrloc>().unwrap();
    run(&usrloc.table("location").unwrap().domain)
}

/// Writes phones, every second one with the flag NAT, all at once as after a power cut.
fn register(node: &TestNode, phones: u64) {
    let matching = Matching::Uri;
    domain(node, |domain| {
        for n in 0..phones {
            let (aor, call_id) = (format!("u{n}"), format!("c{n}"));
            let uri = format!("sip:u{n}@10.{}.{}.{}", n >> 16 & 0xff, n >> 8 & 0xff, n & 0xff);
            let contact = NewContact {
                uri: uri.as_bytes(),
                call_id: call_id.as_bytes(),
                socket: b"udp:127.0.0.1:5060",
                branch_flags: if n % 2 == 0 { b"NAT" } else { b"" },
                ..NewContact::default()
            };
            let change = Change::Put { contact, matching: &matching };
            let now = node.now();
            domain.edit(aor.as_bytes(), now, Origin::Database, &Alone, |e| e.apply(change));
        }
    });
}

/// Pings in each 5 ms of an interval.
fn an_interval(node: &mut TestNode) -> Vec<usize> {
    (0..INTERVAL_S * 200)
        .map(|_| {
            node.advance_ms(5);
            node.sent_bytes().len()
        })
        .collect()
}

/// The most in any tenth of a second, wherever it begins, and the mean.
fn most_and_mean(pings: &[usize]) -> (usize, f64) {
    let most = pings.windows(20).map(|w| w.iter().sum()).max().unwrap_or(0);
    (most, pings.iter().sum::<usize>() as f64 * 20.0 / pings.len() as f64)
}

fn status(node: &mut TestNode, what: &str) -> u64 {
    let status = node.mi("tandem:status", json!(null));
    let found = status["result"]["nathelper"][what].as_u64();
    found.unwrap_or_else(|| panic!("no {what}: {status}"))
}

#[test]
fn a_hundred_thousand_contacts_are_pinged_without_a_burst() {
    let mut node = node("");
    register(&node, MANY);
    for round in 0..2 {
        let pings = an_interval(&mut node);
        assert_eq!(pings.iter().sum::<usize>() as u64, MANY, "each once, in round {round}");
        let (most, mean) = most_and_mean(&pings);
        assert!(most as f64 <= mean * 1.1, "{most} in a tenth of a second, {mean} in the mean");
    }
    assert_eq!(status(&mut node, "visited"), 2 * MANY, "nobody is looked at in vain");
    // Half of them go; within a round the others are spread again.
    domain(&node, |domain| {
        for n in (0..MANY).filter(|n| (n * 2_654_435_761) >> 7 & 1 == 0) {
            let gone = |e: &mut Edit<'_>| e.apply(Change::DeleteAor);
            let aor = format!("u{n}");
            domain.edit(aor.as_bytes(), node.now(), Origin::Stock { node: 2 }, &Alone, gone);
        }
    });
    an_interval(&mut node);
    let pings = an_interval(&mut node);
    let (most, mean) = most_and_mean(&pings);
    assert_eq!(pings.iter().sum::<usize>(), domain(&node, Domain::contact_count));
    assert!(most as f64 <= mean * 1.1, "{most} in a tenth of a second, {mean} in the mean");
}

#[test]
fn who_is_not_pinged_has_no_turn() {
    let mut node = node("modparam(\"nathelper\", \"ping_nated_only\", 1)\n");
    register(&node, 4_000);
    assert_eq!(status(&mut node, "contacts"), 2_000);
    let pings = an_interval(&mut node);
    assert_eq!(pings.iter().sum::<usize>(), 2_000);
    let (most, mean) = most_and_mean(&pings);
    assert!(most as f64 <= mean.ceil() + 2.0, "{most}, {mean} in the mean");
    let seen = status(&mut node, "visited");
    an_interval(&mut node);
    assert_eq!(status(&mut node, "visited") - seen, 2_000);
}
