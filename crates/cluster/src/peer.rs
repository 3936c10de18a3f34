//! A node of a cluster, as this node sees it.

use crate::config::NodeConfig;
use crate::donor::Bulk;
use crate::effects::{CapId, ConnId};
use crate::link::{Link, LinkTimes};
use crate::pings::Pings;
use crate::status::Step;
use crate::wire::Hello;
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tandem_bin::{Framer, NodeId};
use tandem_clock::{MS, Mono, Now, SEC};

/// What a peer has shown itself to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Unproven,
    Stock,
    Tandem,
}

/// The last accepted sequence number of a kind of update, with the accept rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) sequence: i32,
    pub(crate) timestamp: u32,
}

impl Seen {
    pub(crate) const NOTHING: Self = Self { sequence: -1, timestamp: 0 };

    /// True if the update is newer. 0 with a new timestamp means that the originator restarted.
    pub(crate) fn accept(&mut self, sequence: i32, timestamp: u32) -> bool {
        let newer = match sequence {
            0 => !(self.sequence == 0 && timestamp <= self.timestamp),
            s => s > self.sequence,
        };
        if newer {
            *self = Self { sequence, timestamp };
        }
        newer
    }
}

/// The connection this node sends on.
#[derive(Debug)]
pub(crate) struct OutConn {
    pub(crate) id: u64,
    pub(crate) open: bool,
    pub(crate) opened_at: Mono,
    /// PINGs that wait until it is open.
    pub(crate) pings: u32,
    pub(crate) framer: Framer,
}

impl OutConn {
    /// Whether PINGs on it have had their time, with what TCP had to repeat.
    pub(crate) fn is_old(&self, now: Mono) -> bool {
        now.saturating_sub(self.opened_at) >= PATIENCE_NS
    }
}

/// A change that was written and not yet acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unacked {
    pub(crate) number: u64,
    pub(crate) mark: u64,
    pub(crate) bytes: usize,
    pub(crate) at: Mono,
}

/// Our announcement of a tag to a stock peer. What it announces before it has read ours crosses it:
/// then both have stepped down.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crossing {
    told_at: Mono,
    /// What comes until then may have been said before.
    until: Mono,
}

impl Crossing {
    pub(crate) fn new(now: Mono) -> Self {
        Self { told_at: now, until: now.saturating_add(CROSSING_NS) }
    }

    /// Whether what comes now has crossed; `awoke_at` is when its connection last brought something
    /// after a silence. One that outlived the separation brings what was said meanwhile first, and
    /// that may be later than an answer over another connection. What another node passes on comes
    /// like that, too.
    pub(crate) fn is_crossed(&self, now: Mono, awoke_at: Mono) -> bool {
        let late = now < awoke_at.saturating_add(BURST_NS);
        now < self.until || late && now < self.told_at.saturating_add(CROSSING_NS)
    }
}

/// Comparison of a capability's records with the peer's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Compared {
    pub(crate) step: Step,
    /// Buckets that differed the last time.
    pub(crate) differing: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) cfg: NodeConfig,
    pub(crate) learnt: bool,
    pub(crate) link: Link,
    pub(crate) conn: Option<OutConn>,
    /// Packets that wait for the end of the step or for the connection.
    pub(crate) buf: BytesMut,
    /// Syncs, repairs and replays on their way to it.
    pub(crate) bulk: Bulk,
    /// Packets with records that came from it since it lives.
    pub(crate) taken: u64,
    pub(crate) kind: Kind,
    /// When an unproven peer behind another node counts as stock.
    pub(crate) assume_stock_at: Option<Mono>,
    pub(crate) hello: Option<Hello>,
    /// Incarnations that are over: a stream of theirs may say its last words late.
    pub(crate) past_lives: VecDeque<u64>,
    pub(crate) skew_ms: Option<i64>,
    /// CLAIMS came, or the peer is stock.
    pub(crate) answered: bool,
    pub(crate) neighbours: BTreeSet<NodeId>,
    pub(crate) ls_seen: Seen,
    pub(crate) top_seen: Seen,
    pub(crate) cap_seen: Seen,
    pub(crate) caps: BTreeMap<Bytes, bool>,
    /// It has not said so itself since the link came up.
    pub(crate) caps_are_old: bool,
    /// What replaces ours is asked of it as soon as it says that it is synced.
    pub(crate) is_to_be_asked: bool,
    /// Nodes of its last PONG list.
    pub(crate) listed: Vec<NodeId>,
    pub(crate) reachable: bool,
    pub(crate) lost_at_unix_ms: Option<u64>,
    /// Since when changes were repeated to a stock peer the last time, and when that was.
    pub(crate) replayed: Option<(u64, Mono)>,
    /// Capabilities it asked a sync of before it was reachable.
    pub(crate) parked: BTreeSet<Bytes>,

    pub(crate) next_number: u64,
    pub(crate) unacked: VecDeque<Unacked>,
    pub(crate) unacked_bytes: usize,
    /// The log overflowed; nothing is sent until what is on the way is acknowledged.
    pub(crate) stalled: bool,
    /// Changes were lost and not repaired yet.
    pub(crate) behind: bool,
    /// Changes that it has not been sent, or that were lost on the way, since it was in step.
    pub(crate) missed: u64,
    /// When the first of them was made.
    pub(crate) missed_since: Option<Mono>,

    pub(crate) expected: u64,
    pub(crate) missing: u64,
    /// The first envelope that waits in a queue of a sync.
    pub(crate) held_back: Option<u64>,
    pub(crate) ack_due: bool,

    pub(crate) compared: BTreeMap<CapId, Compared>,
    pub(crate) compare_at: Option<(Mono, bool)>,
    /// A sync of a stock peer has ended: when what changed about then is repeated to it, and since
    /// which time of the wall clock.
    pub(crate) repeat_at: Option<(Mono, u64)>,
    /// A stock peer's announcement of a tag may have crossed ours.
    pub(crate) crossing: BTreeMap<String, Crossing>,
    /// When the connection of its last packet brought something after a silence.
    pub(crate) awoke_at: Mono,
    /// Those behind our announcements show when they have been read.
    pub(crate) pings: Pings,
    /// The connection on which the answer to them came: nothing on it is older.
    pub(crate) read_on: Option<ConnId>,
    /// When our half of the link came up the last time.
    pub(crate) up_at: Mono,
    /// Announcements from before it was proven what the peer is.
    pub(crate) unjudged: Vec<String>,
}

impl Peer {
    pub(crate) fn new(cfg: NodeConfig, learnt: bool) -> Self {
        Self {
            cfg,
            learnt,
            link: Link::new(),
            conn: None,
            buf: BytesMut::new(),
            bulk: Bulk::default(),
            taken: 0,
            kind: Kind::Unproven,
            assume_stock_at: None,
            hello: None,
            past_lives: VecDeque::new(),
            skew_ms: None,
            answered: false,
            neighbours: BTreeSet::new(),
            ls_seen: Seen::NOTHING,
            top_seen: Seen::NOTHING,
            cap_seen: Seen::NOTHING,
            caps: BTreeMap::new(),
            caps_are_old: false,
            is_to_be_asked: false,
            listed: Vec::new(),
            reachable: false,
            lost_at_unix_ms: None,
            replayed: None,
            parked: BTreeSet::new(),
            next_number: 1,
            unacked: VecDeque::new(),
            unacked_bytes: 0,
            stalled: false,
            behind: false,
            missed: 0,
            missed_since: None,
            expected: 0,
            missing: 0,
            held_back: None,
            ack_due: false,
            compared: BTreeMap::new(),
            compare_at: None,
            repeat_at: None,
            crossing: BTreeMap::new(),
            awoke_at: 0,
            pings: Pings::default(),
            read_on: None,
            up_at: 0,
            unjudged: Vec::new(),
        }
    }

    pub(crate) fn times(&self, base: &LinkTimes) -> LinkTimes {
        let times = LinkTimes { retries: self.cfg.ping_retries, ..*base };
        match self.kind {
            // Nothing is replicated until it is tried again, and a lost second is enough for a link
            // to be down: a Tandem node is not left alone for longer than between two PINGs.
            Kind::Tandem => LinkTimes {
                node_timeout_ns: base.node_timeout_ns.min(base.ping_interval_ns),
                late_max: self.cfg.ping_retries,
                ..times
            },
            Kind::Unproven | Kind::Stock => times,
        }
    }

    /// Forgets what was on the way; the peer has to be compared before it counts again.
    pub(crate) fn drop_log(&mut self) {
        if self.kind == Kind::Tandem {
            self.behind = true;
            self.missed += self.unacked.len() as u64;
            let first = self.unacked.front().map(|first| first.at);
            self.missed_since = self.missed_since.or(first);
        }
        self.unacked.clear();
        self.unacked_bytes = 0;
        self.stalled = false;
    }

    /// What changed since then is repeated to a stock peer at that time.
    pub(crate) fn repeat_later(&mut self, at: Mono, since_unix_ms: u64) {
        let since = self.repeat_at.map_or(since_unix_ms, |(_, since)| since.min(since_unix_ms));
        self.repeat_at = Some((at, since));
    }

    /// A change was made that the peer is not told of.
    pub(crate) fn miss(&mut self, now: Mono) {
        self.missed += 1;
        self.missed_since = self.missed_since.or(Some(now));
    }

    /// The peer has everything again.
    pub(crate) fn in_step_again(&mut self) {
        self.missed = 0;
        self.missed_since = None;
    }

    /// How long the oldest change waits that the peer has not applied.
    pub(crate) fn lag_ns(&self, now: Mono) -> u64 {
        let first = self.unacked.front().map(|first| first.at);
        let since = self.missed_since.into_iter().chain(first).min();
        since.map_or(0, |at| now.saturating_sub(at))
    }

    /// Whether it is here and has every change but those that are just on the way.
    pub(crate) fn has_all(&self, now: Now) -> bool {
        let waits = self.behind || self.missed > 0 || self.lag_ns(now.mono_ns) > ON_THE_WAY_NS;
        self.kind == Kind::Tandem && self.reachable && !waits
    }

    /// Whether it lacks changes and is here, or was lost just now.
    pub(crate) fn soon_has_more(&self, now: Now) -> bool {
        let lost_lately = || {
            let lost_at = self.lost_at_unix_ms.unwrap_or(0);
            self.missed > 0 && now.unix_ms.saturating_sub(lost_at) < LOST_LATELY_MS
        };
        self.kind == Kind::Tandem && !self.has_all(now) && (self.reachable || lost_lately())
    }

    /// The number to acknowledge: everything up to it is applied here.
    pub(crate) fn applied(&self) -> u64 {
        let received = self.expected.saturating_sub(1);
        self.held_back.map_or(received, |first| received.min(first.saturating_sub(1)))
    }

    /// A PONG came. What a stock peer announces after it has answered the PINGs that we sent behind
    /// our announcements is no crossing; its workers may take packets out of order by a little.
    pub(crate) fn crossed(&mut self, now: Mono, on: ConnId) {
        if let Some(read_on) = self.pings.answered(on) {
            self.read_on = read_on;
            let until = now.saturating_add(OUT_OF_ORDER_NS);
            self.crossing.values_mut().for_each(|c| c.until = until.min(c.until));
        }
    }

    /// The peer's records are compared at `at`; the earlier wish wins, repairing stays wanted.
    pub(crate) fn compare_soon(&mut self, at: Mono, at_once: bool) {
        if self.kind != Kind::Tandem {
            return;
        }
        let (old, old_at_once) = self.compare_at.unwrap_or((at, false));
        self.compare_at = Some((old.min(at), old_at_once || at_once));
    }
}

/// How long a connection is probed before another one takes its place. The first repetitions of a
/// TCP handshake, which are a second apart, are within it; no longer than a connect may take.
const PATIENCE_NS: u64 = 5 * SEC;
/// A change that waits for so long is not just on the way.
const ON_THE_WAY_NS: u64 = 50 * MS;
/// A peer that was lost so lately may be back in a moment.
const LOST_LATELY_MS: u64 = 10_000;
/// How often digests are compared.
pub(crate) const COMPARE_EVERY_NS: u64 = 10 * SEC;
/// When a repair is checked.
pub(crate) const RECHECK_NS: u64 = SEC;
/// How long an unproven peer behind another node may take to say HELLO.
pub(crate) const ASSUME_STOCK_NS: u64 = SEC;
/// How long after our announcement to a stock peer its own counts as crossed.
const CROSSING_NS: u64 = 5 * SEC;
/// How far a stock node may handle packets out of their order.
pub(crate) const OUT_OF_ORDER_NS: u64 = 200 * MS;
/// How long what a stream has held back takes to come, once it brings something again.
const BURST_NS: u64 = SEC;
/// How often packets of a sync are sent on.
pub(crate) const BULK_EVERY_NS: u64 = 20 * MS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_zero_with_a_new_timestamp_is_a_restart() {
        let mut seen = Seen::NOTHING;
        assert!(!seen.accept(-1, 50));
        assert!(seen.accept(0, 100));
        assert!(!seen.accept(0, 100));
        assert!(seen.accept(5, 101));
        assert!(!seen.accept(5, 200));
        assert!(!seen.accept(4, 200));
        assert!(seen.accept(0, 90));
        assert!(!seen.accept(0, 80));
        assert!(seen.accept(0, 91));
    }
}
