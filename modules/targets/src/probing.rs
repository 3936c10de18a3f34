//! Asking targets whether they live: each once in an interval, spread over it, by a node that
//! has leave to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tandem_clock::{Mono, SEC};
use tandem_cluster::{Duty, TagTable};
use tandem_engine::log::Level;
use tandem_engine::module::{Cx, Timer};
use tandem_engine::node::Node;
use tandem_engine::sockets::{Proto, SocketId};
use tandem_sip::sip_hash;
use tandem_tm::{LocalRequest, Owner as Hears, Tm};

use crate::owner::{Key, Owner};
use crate::params::{Mode, Sharing};

/// Probes that are waited for.
const OPEN_MAX: usize = 10_000;
/// What is silent so soon after this node began to probe is asked again: after a takeover answers
/// may still go to the other host.
const GRACE_NS: u64 = 5 * SEC;
/// The parts of a second in which probes leave.
const SLICES_PER_S: u64 = 4;

/// How a module probes.
#[derive(Clone, Debug)]
pub struct Probing {
    /// 0: never.
    pub interval_s: u64,
    pub method: Bytes,
    pub from: Bytes,
    /// For targets without a socket of their own.
    pub socket: Option<SocketId>,
    /// Codes that mean alive besides 200.
    pub codes: Vec<u16>,
    pub max_forwards: Option<u32>,
    pub mode: Mode,
}

/// A target that is to be probed.
#[derive(Clone, Debug)]
pub struct Target<K> {
    pub key: K,
    pub uri: Bytes,
    pub socket: Option<SocketId>,
}

/// What a probe has told.
#[derive(Clone, Debug)]
pub struct Answer<K> {
    pub key: K,
    pub code: u16,
    pub is_alive: bool,
}

/// Leave to probe on one's own initiative.
enum Leave<'t> {
    /// The node is in no cluster, or every node probes.
    Everybody,
    Duty(#[expect(dead_code, reason = "the proof itself")] Duty<'t>),
}

/// Probes on their way.
pub struct Prober<K> {
    pub how: Probing,
    /// The kind of its timers.
    tick: u32,
    open: Mutex<Open<K>>,
}

struct Open<K> {
    last: u64,
    probes: BTreeMap<u64, K>,
    of: BTreeMap<K, BTreeSet<u64>>,
    /// What they leave by.
    sockets: BTreeMap<u64, Option<SocketId>>,
    /// Since when this node probes as the holder of the tag; `None`: it does not.
    since_ns: Option<Mono>,
    /// Those that left in its first seconds, and when.
    early: BTreeMap<u64, (Mono, Target<K>)>,
    /// Targets that are asked again, by when.
    again: BTreeMap<(Mono, u64), Target<K>>,
}

impl<K: Key> Open<K> {
    fn new() -> Self {
        let (probes, of, sockets) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (early, again) = (BTreeMap::new(), BTreeMap::new());
        Self { last: 0, probes, of, sockets, since_ns: None, early, again }
    }

    /// Whether this node probes as the holder of the tag now; gives whom it asks again.
    fn reigns(&mut self, reigns: bool, now_ns: Mono) -> Vec<Target<K>> {
        if !reigns {
            self.since_ns = None;
            self.again.clear();
            return Vec::new();
        }
        self.since_ns.get_or_insert(now_ns);
        let later = self.again.split_off(&(now_ns + 1, 0));
        std::mem::replace(&mut self.again, later).into_values().collect()
    }

    fn add(&mut self, key: K) -> Option<u64> {
        if self.probes.len() >= OPEN_MAX {
            return None;
        }
        self.last += 1;
        self.of.entry(key.clone()).or_default().insert(self.last);
        self.probes.insert(self.last, key);
        Some(self.last)
    }

    /// Ends a probe and those that were sent before it: what they come to is old news.
    fn take(&mut self, token: u64) -> Option<K> {
        let key = self.probes.remove(&token)?;
        if let Some(tokens) = self.of.remove(&key) {
            let (later, old): (BTreeSet<u64>, BTreeSet<u64>) =
                tokens.into_iter().partition(|open| *open > token);
            for open in old {
                self.probes.remove(&open);
                self.sockets.remove(&open);
                self.early.remove(&open);
            }
            if !later.is_empty() {
                self.of.insert(key.clone(), later);
            }
        }
        Some(key)
    }
}

impl<K: Key> Prober<K> {
    /// `tick` is the kind of timers that the module hands to [`Prober::tick`].
    pub fn new(how: Probing, tick: u32) -> Self {
        Self { how, tick, open: Mutex::new(Open::new()) }
    }

    /// Begins, if there is an interval.
    pub fn start<O: Owner<Key = K>>(&self, cx: &mut Cx<'_>) {
        if self.how.interval_s == 0 {
            return;
        }
        if cx.node.find::<Tm>().is_none() {
            let text = format!("{}: nothing is probed without the module tm: load it", O::NAME);
            return cx.log(Level::Warning, text);
        }
        self.set_timer(cx, 0);
    }

    fn set_timer(&self, cx: &mut Cx<'_>, id: u64) {
        let at = cx.now.after_ms(1_000 / SLICES_PER_S);
        cx.set_timer(at, Timer { kind: self.tick, id });
    }

    /// Probes the targets whose turn it is; `is_on` is false while an operator has paused it.
    pub fn tick<O: Owner<Key = K>>(&self, cx: &mut Cx<'_>, owner: &O, timer: Timer, is_on: bool) {
        self.set_timer(cx, timer.id.wrapping_add(1));
        if !is_on {
            return;
        }
        let slices = self.how.interval_s.max(1).saturating_mul(SLICES_PER_S);
        let turn = timer.id % slices;
        let wanted = |name: &[u8]| u64::from(sip_hash(name)) % slices == turn;
        let node = Arc::clone(cx.node);
        let tags = node.membership().tags().map(|tags| &**tags);
        let again = {
            let (sharing, is_by_tag) = (owner.sharing(), self.how.mode == Mode::ByTag);
            let leave = is_by_tag.then(|| leave::<O>(self.how.mode, sharing, tags, 0)).flatten();
            let reigns = matches!(leave, Some(Leave::Duty(_)));
            self.open.lock().reigns(reigns, cx.now.mono_ns)
        };
        // The silence of what is out of service already is no news.
        let is_up = |key: &K| owner.states().status(key).is_some_and(|state| state.bits() == 0);
        let again = again.into_iter().filter(|target| is_up(&target.key));
        for target in owner.due(&wanted).into_iter().chain(again) {
            let share = u64::from(sip_hash(&target.key.name()));
            if let Some(leave) = leave::<O>(self.how.mode, owner.sharing(), tags, share) {
                self.probe(cx, O::NAME, target, &leave);
            }
        }
    }

    fn probe(&self, cx: &mut Cx<'_>, name: &str, target: Target<K>, _: &Leave<'_>) {
        let Some((tm_slot, tm)) = cx.node.find::<Tm>() else { return };
        let token = {
            let mut open = self.open.lock();
            let Some(token) = open.add(target.key.clone()) else { return };
            let now_ns = cx.now.mono_ns;
            if open.since_ns.is_some_and(|since| now_ns < since.saturating_add(GRACE_NS)) {
                open.early.insert(token, (now_ns, target.clone()));
            }
            token
        };
        let around = |uri: &[u8]| Bytes::from([b"<", uri, b">"].concat());
        let request = LocalRequest {
            method: self.how.method.clone(),
            from: around(&self.how.from),
            to: around(&target.uri),
            uri: target.uri,
            socket: target.socket.or(self.how.socket),
            max_forwards: self.how.max_forwards,
            ..LocalRequest::default()
        };
        // Without a choice the first UDP socket is the one.
        let first = || cx.node.sockets.of(Proto::Udp).next().map(|(id, _)| id);
        self.open.lock().sockets.insert(token, request.socket.or_else(first));
        let hears = Hears::Module { slot: cx.slot, token };
        let sent = cx.for_slot(tm_slot, |cx| tm.send_request(cx, &request, hears));
        if let Err(why) = sent {
            let mut open = self.open.lock();
            open.take(token);
            open.sockets.remove(&token);
            open.early.remove(&token);
            drop(open);
            let uri = String::from_utf8_lossy(&request.uri).into_owned();
            cx.log(Level::Error, format!("{name}: {uri} cannot be probed: {why}"));
        }
    }

    /// A probe was answered, or nobody has answered it. `None`: that says nothing yet.
    pub fn answered(&self, node: &Node, token: u64, code: u16) -> Option<Answer<K>> {
        if code < 200 {
            return None;
        }
        let is_silent = matches!(code, 408 | 477);
        let (key, socket, is_early) = {
            let mut open = self.open.lock();
            let early = open.early.remove(&token);
            let (key, socket) = (open.take(token)?, open.sockets.remove(&token).flatten());
            let early = early.filter(|_| is_silent && open.since_ns.is_some());
            let is_early = early.is_some();
            // As spread as they left.
            open.again.extend(early.map(|(sent_ns, target)| ((sent_ns + GRACE_NS, token), target)));
            (key, socket, is_early)
        };
        // Answers to an address that has moved come to another host: silence says nothing here.
        let is_held = socket.and_then(|id| node.sockets.get(id)).is_none_or(|s| s.is_held());
        if is_silent && (is_early || !is_held) {
            return None;
        }
        let is_alive = code == 200 || self.how.codes.contains(&code);
        (is_alive || code >= 400).then_some(Answer { key, code, is_alive })
    }
}

fn leave<'t, O: Owner>(
    mode: Mode,
    sharing: &Sharing,
    tags: Option<&'t TagTable>,
    share: u64,
) -> Option<Leave<'t>> {
    let cluster = sharing.cluster;
    let Some(tags) = tags.filter(|_| cluster != 0) else { return Some(Leave::Everybody) };
    match (mode, &sharing.tag) {
        (Mode::All, _) => Some(Leave::Everybody),
        (Mode::ByTag, Some(tag)) => tags.duty(tag, cluster).map(Leave::Duty),
        (Mode::ByTag, None) => None,
        (Mode::Distributed, _) => {
            tags.duty_by_share(cluster, O::CAPABILITY, share).map(Leave::Duty)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Key for u8 {
        fn name(&self) -> Vec<u8> {
            vec![*self]
        }
    }

    #[test]
    fn the_answer_to_a_later_probe_makes_earlier_ones_old_news() {
        let mut open = Open::<u8>::new();
        let [a, b, other, c] = [1, 1, 2, 1].map(|key| open.add(key).unwrap());
        assert_eq!(open.take(b), Some(1));
        assert_eq!(open.take(a), None, "its time-out comes too late to mean anything");
        assert_eq!((open.take(c), open.take(other)), (Some(1), Some(2)));
        assert!(open.probes.is_empty() && open.of.is_empty());
    }
}
