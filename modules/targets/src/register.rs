//! The states of a module's targets, and the one function that changes one.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::sync::Arc;

use parking_lot::Mutex;
use tandem_cluster::Payload;
use tandem_engine::module::Cx;
use tandem_engine::outbox::Record;

use crate::owner::{Becomes, Change, Origin, Owner};
use crate::params::Sharing;
use crate::replication::{Told, WITH_WISH, with_stamp};
use crate::status::{NEVER, Order, Status};

/// States of peers about what is not loaded yet, at most.
const EARLY_MAX: usize = 10_000;

/// What a change came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Unknown,
    Same,
    Changed,
}

/// The states of the targets of `O`, which are also in its tables.
pub struct Register<O: Owner> {
    pub(crate) sharing: Sharing,
    pub(crate) inner: Mutex<Inner<O::Key>>,
    pub(crate) told: Mutex<Told>,
    /// The owner is found through the node when it is needed.
    owner: PhantomData<fn() -> O>,
}

pub(crate) struct Inner<K> {
    pub(crate) states: BTreeMap<K, Arc<Status>>,
    early: BTreeMap<K, (u32, Order)>,
    /// What is not in the database yet.
    dirty: BTreeSet<K>,
    /// Counts up with every change.
    changes: u64,
}

impl<O: Owner> Register<O> {
    pub fn new(sharing: Sharing) -> Self {
        let (states, early, dirty) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let inner = Mutex::new(Inner { states, early, dirty, changes: 0 });
        Self { sharing, inner, told: Mutex::default(), owner: PhantomData }
    }

    pub fn status(&self, key: &O::Key) -> Option<Arc<Status>> {
        self.inner.lock().states.get(key).cloned()
    }

    /// A number that is another one after each change of a state or table.
    pub fn changes(&self) -> u64 {
        self.inner.lock().changes
    }

    /// The first target from `from` on that `fits`.
    pub fn find_from(&self, from: &O::Key, fits: impl Fn(&O::Key) -> bool) -> Option<O::Key> {
        let inner = self.inner.lock();
        inner.states.range(from..).map(|(key, _)| key).find(|key| fits(key)).cloned()
    }

    /// Another table is there for the targets in its `scope`. What peers have said of them before
    /// counts now.
    pub fn adopt(
        &self,
        cx: &mut Cx<'_>,
        owner: &O,
        scope: impl Fn(&O::Key) -> bool,
        states: impl IntoIterator<Item = (O::Key, Arc<Status>)>,
    ) {
        let early: Vec<(O::Key, (u32, Order))> = {
            let mut inner = self.inner.lock();
            inner.changes += 1;
            inner.states.retain(|key, _| !scope(key));
            inner.states.extend(states);
            let Inner { states, dirty, .. } = &mut *inner;
            dirty.retain(|key| states.contains_key(key));
            let all = std::mem::take(&mut inner.early);
            let (mine, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|(k, _)| scope(k));
            inner.early = rest.into_iter().collect();
            mine
        };
        for (key, (bits, order)) in early {
            let key = owner.known_as(key);
            let (stamp, wish) = (order.at, Some(order.wish));
            let origin = Origin::Peer { stamp, wish, in_sync: true, is_tandem: false };
            self.change(cx, owner, &key, Becomes::Exactly(bits), origin);
        }
    }

    /// Changes a state: here, at the peers, in the event and, later, in the database.
    pub fn change(
        &self,
        cx: &mut Cx<'_>,
        owner: &O,
        key: &O::Key,
        becomes: Becomes,
        origin: Origin<'_>,
    ) -> Outcome {
        let (before, bits) = {
            let mut inner = self.inner.lock();
            let Some(status) = inner.states.get(key).map(Arc::clone) else {
                drop(inner);
                self.keep_early(owner, key, becomes, origin);
                return Outcome::Unknown;
            };
            let before = status.bits();
            let bits = state_after::<O>(before, becomes);
            let Some(order) = order_of::<O>(cx, &status, bits, origin) else {
                return Outcome::Same;
            };
            let taken = status.set(bits, order);
            if taken != Some(true) {
                // A wish that is fulfilled already is one that peers have to know, too.
                if taken.is_some() && matches!(origin, Origin::Command(_)) {
                    self.tell(cx, key, (bits, true), order, origin);
                }
                return Outcome::Same;
            }
            inner.dirty.insert(key.clone());
            inner.changes += 1;
            // With the lock held, so that peers hear of changes in their order.
            self.tell(cx, key, (bits, false), order, origin);
            (before, bits)
        };
        owner.changed(cx, Change { key, before, bits, origin });
        Outcome::Changed
    }

    /// What the database does not have yet, which counts as done.
    pub(crate) fn take_dirty(&self, most: usize) -> Vec<(O::Key, u32)> {
        let mut inner = self.inner.lock();
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(key) = inner.dirty.pop_first()
        {
            if let Some(bits) = inner.states.get(&key).map(|status| status.bits()) {
                taken.push((key, bits));
            }
        }
        taken
    }

    pub(crate) fn set_dirty(&self, key: O::Key) {
        let mut inner = self.inner.lock();
        if inner.states.contains_key(&key) {
            inner.dirty.insert(key);
        }
    }

    /// A peer speaks of what is not loaded here yet.
    fn keep_early(&self, owner: &O, key: &O::Key, becomes: Becomes, origin: Origin<'_>) {
        let Origin::Peer { stamp, wish, .. } = origin else { return };
        let order = Order { wish: wish.unwrap_or(NEVER), at: stamp };
        if !owner.awaits(key) {
            return;
        }
        let mut inner = self.inner.lock();
        if inner.early.len() >= EARLY_MAX && !inner.early.contains_key(key) {
            return;
        }
        let kept = inner.early.entry(key.clone()).or_insert((0, order));
        if order >= kept.1 {
            *kept = (state_after::<O>(kept.0, becomes), order);
        }
    }

    /// `is_same`: the state was such before, which stock peers need not hear.
    ///
    /// With a sharing tag only its holder tells stock peers, also of what it has heard of a
    /// Tandem peer that does not hold the tag.
    fn tell(
        &self,
        cx: &Cx<'_>,
        key: &O::Key,
        (bits, is_same): (u32, bool),
        order: Order,
        origin: Origin<'_>,
    ) {
        let is_of_peer = match origin {
            Origin::Here(_) | Origin::Command(_) => false,
            Origin::Peer { is_tandem, .. } => {
                let relays = is_tandem && self.sharing.tag.is_some() && cx.node.outbox.has_stock();
                if !relays {
                    return;
                }
                true
            }
        };
        let holds = self.holds_tag(cx);
        if self.sharing.cluster == 0 || (is_of_peer && !holds) {
            return;
        }
        let Some((kind, payload)) = O::packet(key, bits) else { return };
        let own = with_stamp(&payload, order.wish);
        let own = Payload { kind: kind | WITH_WISH, version: O::VERSION, bytes: own };
        let mut record = Record::same(cx.slot, kind, O::VERSION, payload, order.at);
        record.change.tandem = Some(own);
        if !holds || is_same {
            record.change.stock = None;
        }
        cx.node.outbox.append(0, record);
    }

    /// Whether this node speaks for the cluster: it holds the tag, or there is none.
    pub(crate) fn holds_tag(&self, cx: &Cx<'_>) -> bool {
        let Sharing { cluster, tag } = &self.sharing;
        tag.as_ref().is_none_or(|tag| {
            cx.node.membership().tags().is_some_and(|tags| tags.is_active(tag, *cluster))
        })
    }

    /// The node that holds the tag, as far as is known here.
    pub(crate) fn holder(&self, cx: &Cx<'_>) -> Option<u32> {
        let Sharing { cluster, tag } = &self.sharing;
        cx.node.membership().tags()?.holder(tag.as_ref()?, *cluster)
    }

    pub(crate) fn is_reachable(&self, cx: &Cx<'_>, node: u32) -> bool {
        let tags = cx.node.membership().tags();
        tags.is_some_and(|tags| tags.is_reachable(self.sharing.cluster, node))
    }
}

/// What a change counts for; `None`: it is none.
fn order_of<O: Owner>(
    cx: &Cx<'_>,
    status: &Status,
    bits: u32,
    origin: Origin<'_>,
) -> Option<Order> {
    let (before, present) = (status.bits(), status.order());
    match origin {
        Origin::Here(_) if before == bits => None,
        // What a peer said under a clock far ahead must not outlast what happens here.
        Origin::Here(_) | Origin::Command(_) => {
            let mut at = cx.node.outbox.stamp(cx.now);
            let last = present.at.time_us.max(present.wish.time_us);
            at.time_us = at.time_us.max(last.saturating_add(1));
            let is_wish = matches!(origin, Origin::Command(_));
            Some(Order { wish: if is_wish { at } else { present.wish }, at })
        }
        Origin::Peer { is_tandem: false, in_sync: false, .. }
            if !O::takes_of_stock(before, bits) =>
        {
            None
        }
        Origin::Peer { stamp, wish, .. } => {
            Some(Order { wish: wish.unwrap_or(present.wish), at: stamp })
        }
    }
}

fn state_after<O: Owner>(present: u32, becomes: Becomes) -> u32 {
    match becomes {
        Becomes::Exactly(bits) => bits,
        Becomes::With(bits) => O::with(present, bits),
        Becomes::Without(bits) => present & !bits,
        Becomes::Unless { held, .. } if present & held != 0 => present,
        Becomes::Unless { bits, .. } => bits,
    }
}
