//! The capability `dialog-prof-repl`: how many dialogs each node has in the profiles that are
//! counted over all nodes.
//!
//! A node tells its own counts, several times a second. What another told is believed until it
//! tells something else, has been silent for too long, or is gone: its part of a count ends with
//! its life.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use parking_lot::Mutex;
use tandem_bin::dialog::profiles as wire;
use tandem_clock::{Mono, Now};
use tandem_cluster::{Digests, Form, Snapshot};
use tandem_engine::log::Level;
use tandem_engine::module::{Cx, Timer};
use tandem_engine::outbox::Record;
use tandem_engine::replication::{Incoming, Replicated};

use crate::index::Profile;
use crate::record::{Marker, Text};
use crate::state::Dialogs;

/// The timer that tells the counts.
pub(crate) const TELL: u32 = 64;
/// Counts of other nodes that are kept, at most.
const COUNTS_MAX: usize = 200_000;

/// What other nodes have told.
#[derive(Debug)]
pub(crate) struct Counts {
    pub(crate) cluster: u32,
    defs: Vec<Profile>,
    /// Seconds for which a count is believed.
    believe_s: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By place of the profile, value, and node.
    told: BTreeMap<(usize, Text, u32), (u32, Mono)>,
    /// What this node told last: a value that is gone is told once more, as 0.
    own: BTreeSet<(usize, Text)>,
}

impl Counts {
    pub(crate) fn new(cluster: u32, defs: Vec<Profile>, believe_s: u64) -> Self {
        Self { cluster, defs, believe_s, state: Mutex::default() }
    }

    /// Dialogs of other nodes with a value (`None`: with any).
    pub(crate) fn others(&self, now: Now, at: usize, value: Option<&[u8]>) -> usize {
        let state = self.state.lock();
        let first = (at, value.map_or_else(Text::default, Into::into), 0);
        let all = state.told.range(first..);
        let all = all.take_while(|((a, v, _), _)| *a == at && value.is_none_or(|w| **v == *w));
        let live = all.filter(|(_, (_, until))| *until > now.mono_ns);
        live.map(|(_, (count, _))| *count as usize).sum()
    }

    /// Values that other nodes have dialogs with.
    pub(crate) fn values(&self, now: Now, at: usize) -> Vec<(Text, usize)> {
        let state = self.state.lock();
        let mut values: BTreeMap<Text, usize> = BTreeMap::new();
        let all = state.told.range((at, Text::default(), 0)..);
        for ((_, value, _), (count, until)) in all.take_while(|((a, ..), _)| *a == at) {
            if *until > now.mono_ns {
                *values.entry(value.clone()).or_default() += *count as usize;
            }
        }
        values.into_iter().collect()
    }

    /// A node is gone, and its dialogs with it.
    pub(crate) fn forget_node(&self, node: u32) {
        self.state.lock().told.retain(|(.., n), _| *n != node);
    }

    /// Throws out what nobody believes any more.
    pub(crate) fn forget_old(&self, now: Now) {
        self.state.lock().told.retain(|_, (_, until)| *until > now.mono_ns);
    }

    /// What is to be told: every value that is there, a profile without values always, and a
    /// value that was there the last time.
    fn to_tell(&self, own: impl Fn(usize) -> Vec<(Text, usize)>) -> Vec<wire::Counter> {
        let mut state = self.state.lock();
        let mut counters = Vec::new();
        let mut told = BTreeSet::new();
        let shared = |(_, p): &(usize, &Profile)| p.marker == Marker::Bin;
        for (at, profile) in self.defs.iter().enumerate().filter(shared) {
            let name = Bytes::copy_from_slice(profile.name.as_bytes());
            let values = own(at);
            let mut tell = |value: Option<&Text>, count: usize| {
                let value = value.map(|value| Bytes::copy_from_slice(value));
                let count = i32::try_from(count).unwrap_or(i32::MAX);
                counters.push(wire::Counter { profile: name.clone(), value, count });
            };
            if !profile.has_value {
                tell(None, values.iter().map(|(_, count)| count).sum());
                continue;
            }
            for (value, count) in values {
                tell(Some(&value), count);
                told.insert((at, value));
            }
            let gone = state.own.iter().filter(|key| key.0 == at && !told.contains(*key));
            gone.for_each(|(_, value)| tell(Some(value), 0));
        }
        state.own = told;
        counters
    }

    fn hear(&self, now: Now, source: u32, counters: Vec<wire::Counter>) {
        let until = now.after_s(self.believe_s);
        let mut state = self.state.lock();
        for told in counters {
            let named = |p: &&Profile| p.name.as_bytes() == &told.profile[..];
            let mut named = self.defs.iter().enumerate().filter(|(_, p)| named(p));
            let Some((at, profile)) = named.next() else { continue };
            if profile.marker != Marker::Bin {
                // The nodes mean different things by the name; what follows is as doubtful.
                return;
            }
            let value = told.value.as_deref().unwrap_or_default();
            let key = (at, Text::from(value), source);
            match u32::try_from(told.count).unwrap_or(0) {
                0 => drop(state.told.remove(&key)),
                count if state.told.len() < COUNTS_MAX || state.told.contains_key(&key) => {
                    state.told.insert(key, (count, until));
                }
                _ => {}
            }
        }
    }
}

impl Dialogs {
    /// Dialogs of other nodes in a shared profile, with a value (`None`: with any).
    pub fn elsewhere(&self, now: Now, at: usize, value: Option<&[u8]>) -> usize {
        self.counts.others(now, at, value)
    }

    /// Values that dialogs of other nodes have in a shared profile, with their counts.
    pub fn values_elsewhere(&self, now: Now, at: usize) -> Vec<(Text, usize)> {
        self.counts.values(now, at)
    }

    /// Begins to tell the counts, if they are shared.
    pub(crate) fn start_telling(&self, cx: &mut Cx<'_>) {
        if self.counts.cluster != 0 {
            let at = cx.now.after_ms(u64::from(self.params.tell_ms));
            cx.set_timer(at, Timer { kind: TELL, id: 0 });
        }
    }

    /// Tells the counts of this node, in packets of the size that the configuration allows.
    pub(crate) fn tell_counts(&self, cx: &mut Cx<'_>) {
        let counts = self.counts.to_tell(|at| {
            self.table.profiles.values(at, &|tag: &[u8]| self.tag_counts(cx.node, tag))
        });
        let mut packet: Vec<wire::Counter> = Vec::new();
        let mut bytes = 0;
        for counter in counts {
            if bytes + counter.wire_len() > self.params.tell_bytes && !packet.is_empty() {
                self.tell_packet(cx, &packet);
                packet.clear();
                bytes = 0;
            }
            bytes += counter.wire_len();
            packet.push(counter);
        }
        if !packet.is_empty() {
            self.tell_packet(cx, &packet);
        }
        self.counts.forget_old(cx.now);
        self.start_telling(cx);
    }

    fn tell_packet(&self, cx: &Cx<'_>, packet: &[wire::Counter]) {
        let Ok(payload) = wire::encode(packet) else { return };
        let stamp = cx.node.outbox.stamp(cx.now);
        let mut record = Record::same(self.slot, wire::COUNTERS, wire::VERSION, payload, stamp);
        record.part = 1;
        cx.node.outbox.append(0, record);
    }
}

impl Replicated for Counts {
    fn capability(&self) -> &'static str {
        "dialog-prof-repl"
    }

    fn cluster(&self) -> u32 {
        self.cluster
    }

    fn startup_sync(&self) -> bool {
        false
    }

    fn apply(&self, cx: &mut Cx<'_>, change: Incoming) {
        let decoded = (change.kind == wire::COUNTERS).then(|| wire::decode(&change.payload));
        match decoded {
            Some(Ok(counters)) => self.hear(cx.now, change.source, counters),
            Some(Err(error)) => {
                let text = format!("counts of node {} cannot be read: {error}", change.source);
                cx.log(Level::Warning, text);
            }
            None => {}
        }
    }

    /// Counts are told all the time: there is nothing to sync.
    fn merge(&self, _: &mut Cx<'_>, _: u32, _: Form, _: u16, _: Vec<Bytes>) {}

    fn snapshot(&self, _: &mut Cx<'_>, _: Form, _: Option<&[u8]>) -> Snapshot {
        Snapshot::default()
    }

    fn digests(&self, _: Now) -> Digests {
        Digests::default()
    }

    fn replay_since(&self, _: &mut Cx<'_>, _: u32, _: u64, _: &[u8]) -> Vec<(u32, u16, Bytes)> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_clock::SEC;

    fn counts() -> Counts {
        let def = |name: &str, has_value, marker| Profile { name: name.into(), has_value, marker };
        let defs = vec![
            def("caller", true, Marker::Bin),
            def("inbound", false, Marker::Bin),
            def("own", true, Marker::Local),
        ];
        Counts::new(1, defs, 10)
    }

    fn counter(profile: &'static str, value: Option<&'static str>, count: i32) -> wire::Counter {
        wire::Counter { profile: profile.into(), value: value.map(Bytes::from), count }
    }

    fn at(s: u64) -> Now {
        Now { mono_ns: s * SEC, unix_ms: s * 1000 }
    }

    #[test]
    fn what_others_told_is_added_until_it_is_old_or_they_are_gone() {
        let counts = counts();
        counts.hear(at(0), 2, vec![counter("caller", Some("a"), 3), counter("inbound", None, 4)]);
        counts.hear(
            at(1),
            3,
            vec![counter("caller", Some("a"), 1), counter("caller", Some("b"), 5)],
        );
        assert_eq!(counts.others(at(1), 0, Some(b"a")), 4);
        assert_eq!((counts.others(at(1), 0, None), counts.others(at(1), 1, None)), (9, 4));
        assert_eq!(counts.values(at(1), 0), [(b"a"[..].into(), 4), (b"b"[..].into(), 5)]);
        assert_eq!(counts.others(at(10), 0, Some(b"a")), 1, "node 2 is silent");
        counts.hear(at(10), 3, vec![counter("caller", Some("a"), 0)]);
        assert_eq!(counts.others(at(10), 0, Some(b"a")), 0);
        counts.forget_node(3);
        assert_eq!(counts.others(at(10), 0, None), 0);
    }

    #[test]
    fn unknown_names_are_skipped_and_a_local_one_ends_the_packet() {
        let counts = counts();
        let told = vec![
            counter("nobody", None, 9),
            counter("inbound", None, 2),
            counter("own", Some("x"), 7),
            counter("caller", Some("a"), 7),
            counter("inbound", None, -5),
        ];
        counts.hear(at(0), 2, told);
        assert_eq!((counts.others(at(1), 1, None), counts.others(at(1), 0, None)), (2, 0));
    }

    #[test]
    fn a_value_that_is_gone_is_told_once_as_nothing() {
        let counts = counts();
        let with = |at: usize| match at {
            0 => vec![(Text::from(&b"a"[..]), 2)],
            _ => Vec::new(),
        };
        let first = counts.to_tell(with);
        assert_eq!(first, [counter("caller", Some("a"), 2), counter("inbound", None, 0)]);
        let gone = counts.to_tell(|_| Vec::new());
        assert_eq!(gone, [counter("caller", Some("a"), 0), counter("inbound", None, 0)]);
        assert_eq!(counts.to_tell(|_| Vec::new()), [counter("inbound", None, 0)]);
    }
}
