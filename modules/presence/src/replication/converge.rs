//! Whatever two nodes have been told, true or falsified, what they tell each other makes their
//! states the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ahash::RandomState;
use proptest::prelude::*;
use tandem_clock::Now;

use super::*;
use crate::change::{Change, Name, Origin};
use crate::record::{Sent, Stamp, SubId, Subscription};
use crate::table::{Sink, Writer};

const NOW: Now = Now { mono_ns: 0, unix_ms: 1_000_000_000 };

struct Peer {
    node: u32,
    table: Table,
    clock: AtomicU64,
}

/// What one node hears of another.
struct Heard<'a> {
    by: &'a Peer,
    source: u32,
}

impl Sink for Heard<'_> {
    fn stamp(&self) -> Stamp {
        let time_us = self.by.clock.fetch_add(1, Ordering::Relaxed);
        Stamp { time_us, node: self.by.node }
    }

    fn writer(&self, stamp: Stamp) -> Writer {
        Writer::of(stamp, self.by.node, self.source)
    }

    fn tell(&self, _: usize, _: &Key, _: Told<'_>) {}
}

impl Peer {
    fn new(node: u32) -> Self {
        let hash = RandomState::with_seeds(1, 2, 3, node.into());
        Self { node, table: Table::new(&hash), clock: AtomicU64::new(1_000_000_000_000_000) }
    }

    fn hears(&self, source: u32, record: &Bytes) {
        let Some(told) = fields::decode(record) else { return };
        let sink = Heard { by: self, source };
        let _ = self.table.apply(NOW, &told.key, Origin::Tandem, &sink, told.change);
    }

    fn does(&self, key: &Key, change: Change) {
        let sink = Heard { by: self, source: 0 };
        let _ = self.table.apply(NOW, key, Origin::Local, &sink, change);
    }

    fn tells(&self, bucket: usize) -> Vec<Bytes> {
        let mut records = Vec::new();
        tandem_bucket(&self.table, bucket, &mut records);
        records
    }
}

/// As the comparison of digests has it: buckets that differ are told both ways.
fn repair(one: &Peer, two: &Peer) -> Result<(), TestCaseError> {
    for _ in 0..4 {
        let (ours, theirs) = (one.table.digests(), two.table.digests());
        let pairs = ours.buckets.iter().zip(theirs.buckets.iter()).enumerate();
        let differing: Vec<usize> = pairs.filter(|(_, (a, b))| a != b).map(|(n, _)| n).collect();
        if differing.is_empty() && ours.count == theirs.count {
            return Ok(());
        }
        let all: Vec<_> = differing.iter().map(|b| (one.tells(*b), two.tells(*b))).collect();
        for (of_one, of_two) in all {
            of_one.iter().for_each(|record| two.hears(one.node, record));
            of_two.iter().for_each(|record| one.hears(two.node, record));
        }
    }
    prop_assert_eq!(one.table.everything(), two.table.everything());
    prop_assert!(false, "the digests differ and the records do not");
    Ok(())
}

fn text(word: &str, n: u8) -> Box<[u8]> {
    format!("{word}{n}").into_bytes().into()
}

fn stamp(n: u8) -> Stamp {
    Stamp { time_us: 1_000_000_000_000 + u64::from(n), node: 1 + u32::from(n % 2) }
}

/// A true record of one of few things.
fn record((kind, what, time): (u8, u8, u8)) -> Bytes {
    let key = Key::new(format!("sip:u{}@a", what % 2).as_bytes(), b"presence");
    let id = SubId {
        call_id: text("c", what),
        to_tag: text("t", what),
        from_tag: text("f", what),
        event_id: Box::default(),
    };
    let expires_s = 1_001_000;
    match kind % 5 {
        0 => {
            let body = Bytes::from(format!("body {what} {time}"));
            let (id, etag) = (text("p", what), text("e", time));
            let stamp = stamp(time);
            let p = Publication { id, etag, body, expires_s, stamp, ..Publication::default() };
            fields::publication(&key, &p)
        }
        kind @ (1 | 2) => {
            let s = Subscription {
                id: Arc::new(id),
                contact: text("sip:w@h", time),
                expires_s,
                remote_cseq: u32::from(time / 3),
                stamp: stamp(time),
                sent: Sent { cseq: time.into(), node: 1, ..Sent::default() },
                ..Subscription::default()
            };
            if kind == 1 { fields::subscription(&key, &s) } else { fields::sent(&key, &s) }
        }
        3 => {
            let name = Name::Publication(text("p", what));
            fields::gone(&key, &name, stamp(time), 1_000_500, b"")
        }
        _ => {
            let name = Name::Subscription(Arc::new(id));
            fields::gone(&key, &name, stamp(time), 1_000_500, b"")
        }
    }
}

/// A record, who hears it, and which of its bytes are false.
type Word = ((u8, u8, u8), bool, Vec<(prop::sample::Index, u8)>);

fn words(count: usize) -> impl Strategy<Value = Vec<Word>> {
    let falsified = prop_oneof![
        Just(Vec::new()),
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..3)
    ];
    prop::collection::vec(((any::<u8>(), 0u8..3, 0u8..6), any::<bool>(), falsified), 0..count)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn nodes_that_compare_themselves_come_to_the_same_state(words in words(40)) {
        let (one, two) = (Peer::new(1), Peer::new(2));
        for (what, is_first, falsified) in words {
            let mut bytes = record(what).to_vec();
            for (at, byte) in falsified {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let record = Bytes::from(bytes);
            if is_first { one.hears(2, &record) } else { two.hears(1, &record) }
        }
        repair(&one, &two)?;
    }
}

#[test]
fn more_publications_than_a_presentity_may_have_become_the_same_ones() {
    let (one, two) = (Peer::new(1), Peer::new(2));
    for n in 0..100u8 {
        let (hearer, source) = if n % 2 == 0 { (&one, 2) } else { (&two, 1) };
        hearer.hears(source, &record((0, 2 * n % 200, n)));
    }
    repair(&one, &two).unwrap();
    assert_eq!(one.table.everything().0.len(), 64);
}

#[test]
fn what_a_wrong_clock_has_written_is_changed_and_ended_all_the_same() {
    let (one, two) = (Peer::new(1), Peer::new(2));
    let key = Key::new(b"sip:u@a", b"presence");
    let far = Stamp { time_us: 200_000_000_000_000_000, node: 2 };
    let p = Publication {
        id: text("p", 1),
        etag: text("e", 1),
        body: Bytes::from_static(b"x"),
        expires_s: 1_001_000,
        stamp: far,
        ..Publication::default()
    };
    let id = SubId { call_id: text("c", 1), to_tag: text("t", 1), ..SubId::default() };
    let s = Subscription {
        id: Arc::new(id),
        contact: text("sip:w", 1),
        expires_s: 1_001_000,
        stamp: far,
        ..Subscription::default()
    };
    for record in [fields::publication(&key, &p), fields::subscription(&key, &s)] {
        one.hears(2, &record);
        two.hears(1, &record);
    }
    let mut ended = s.clone();
    ended.status = crate::package::Status::Terminated;
    one.does(&key, Change::subscribe(ended));
    one.does(&key, Change::publish(Publication { body: Bytes::from_static(b"y"), ..p.clone() }));
    repair(&one, &two).unwrap();
    let (publications, subscriptions) = two.table.everything();
    assert_eq!(&publications[0].body[..], b"y");
    assert_eq!(subscriptions[0].status, crate::package::Status::Terminated);
    one.does(&key, Change::Unpublish { id: p.id, body: Bytes::new() });
    one.does(&key, Change::Forget { id: s.id });
    repair(&one, &two).unwrap();
    assert_eq!(two.table.everything(), (Vec::new(), Vec::new()));
}
