//! The tag table: the one place where a [`Duty`] comes from.

use crate::effects::Reason;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use tandem_bin::{ClusterId, NodeId};
use tandem_clock::Mono;

/// What the threads of a node read: which tags it holds, which nodes are reachable.
/// Shared as `Arc<TagTable>`; written by the cluster machine only.
#[derive(Debug, Default)]
pub struct TagTable {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    me: NodeId,
    tags: BTreeMap<ClusterId, BTreeMap<String, TagView>>,
    /// Reachable nodes with this node, ascending.
    nodes: BTreeMap<ClusterId, Vec<NodeId>>,
    /// Those of them that are stock nodes.
    stock: BTreeMap<ClusterId, Vec<NodeId>>,
    /// Of those, the ones that are synced for a capability.
    sharers: BTreeMap<ClusterId, BTreeMap<String, Vec<NodeId>>>,
    /// The incarnations of Tandem nodes, as last heard.
    lives: BTreeMap<(ClusterId, NodeId), u64>,
    /// When nodes that were lost were last heard.
    silent: BTreeMap<(ClusterId, NodeId), Mono>,
}

/// A tag as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagView {
    pub name: String,
    pub cluster: ClusterId,
    /// This node holds it.
    pub active: bool,
    /// False shortly after boot, while peers may still claim the tag: no Duty yet.
    pub settled: bool,
    /// The holder as far as known; `None` if nobody ever claimed it.
    pub holder: Option<NodeId>,
    pub epoch: u64,
    pub activated_at_ms: u64,
    /// When the state on this node last changed.
    pub since_unix_ms: u64,
    pub reason: Reason,
}

/// The right to act on this node's own initiative, now. It is neither `Send` nor `Clone`:
/// whoever suspends keeps the [`Pledge`] and asks again.
#[derive(Debug)]
pub struct Duty<'a> {
    pledge: Pledge,
    /// Borrows the table, and keeps the token on its thread.
    here: PhantomData<(&'a TagTable, *const ())>,
}

/// What a [`Duty`] was given for: plain data that may be stored and sent. It proves nothing
/// until [`TagTable::redeem`] has turned it into a Duty again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pledge {
    /// Holder of a tag, under this epoch.
    Tag { name: String, cluster: ClusterId, epoch: u64 },
    /// One of the nodes that share the work of a capability.
    Share { cluster: ClusterId, capability: String, key: u64 },
    /// The creator of an untagged record, or its heir.
    Creator { cluster: ClusterId, creator: NodeId },
    /// Not clustered.
    Sole,
}

impl Duty<'_> {
    pub fn pledge(&self) -> Pledge {
        self.pledge.clone()
    }

    /// The epoch of the tag; `None` for a duty that comes from no tag.
    pub fn epoch(&self) -> Option<u64> {
        match self.pledge {
            Pledge::Tag { epoch, .. } => Some(epoch),
            _ => None,
        }
    }
}

impl TagTable {
    /// Duty by tag: this node holds it and boot has settled.
    pub fn duty(&self, name: &str, cluster: ClusterId) -> Option<Duty<'_>> {
        let epoch = {
            let inner = self.read();
            let tag = inner.tags.get(&cluster)?.get(name)?;
            (tag.active && tag.settled).then_some(tag.epoch)?
        };
        Some(Self::mint(Pledge::Tag { name: name.to_owned(), cluster, epoch }))
    }

    /// Duty of a record that is not clustered.
    pub fn sole(&self) -> Duty<'_> {
        Self::mint(Pledge::Sole)
    }

    /// Duty by share: among the reachable nodes that are synced for the capability, sorted by
    /// id, exactly one acts for each key.
    pub fn duty_by_share(
        &self,
        cluster: ClusterId,
        capability: &str,
        key: u64,
    ) -> Option<Duty<'_>> {
        let (position, of) = self.share(cluster, capability)?;
        let mine = key % u64::from(of) == u64::from(position);
        mine.then(|| Self::mint(Pledge::Share { cluster, capability: capability.to_owned(), key }))
    }

    /// This node's position among the nodes that share, and how many there are (at least 1).
    pub fn share(&self, cluster: ClusterId, capability: &str) -> Option<(u32, u32)> {
        let inner = self.read();
        let nodes = inner.sharers.get(&cluster)?.get(capability)?;
        let position = nodes.iter().position(|&node| node == inner.me)?;
        Some((u32::try_from(position).ok()?, u32::try_from(nodes.len()).ok()?))
    }

    /// Duty for an untagged replicated record: its creator while that lives, else the lowest
    /// live id.
    pub fn duty_of_creator(&self, cluster: ClusterId, creator: NodeId) -> Option<Duty<'_>> {
        let mine = {
            let inner = self.read();
            let nodes = inner.nodes.get(&cluster)?;
            let acting = if nodes.contains(&creator) { creator } else { nodes.first().copied()? };
            acting == inner.me
        };
        mine.then(|| Self::mint(Pledge::Creator { cluster, creator }))
    }

    /// Whether a node of a cluster can be reached; this one can.
    pub fn is_reachable(&self, cluster: ClusterId, node: NodeId) -> bool {
        self.read().nodes.get(&cluster).is_some_and(|nodes| nodes.contains(&node))
    }

    /// The incarnation of this node, or of a peer as last heard: another one means that it was started again, and
    /// knows nothing of what was in its memory. `None`: it never said one.
    pub fn incarnation(&self, cluster: ClusterId, node: NodeId) -> Option<u64> {
        self.read().lives.get(&(cluster, node)).copied()
    }

    /// When a peer that was lost was last heard before that. `None`: none was lost so far.
    pub fn silent_since(&self, cluster: ClusterId, node: NodeId) -> Option<Mono> {
        self.read().silent.get(&(cluster, node)).copied()
    }

    /// Whether a peer was lost that is not there again.
    pub fn misses_a_node(&self, cluster: ClusterId) -> bool {
        let inner = self.read();
        let nodes = inner.nodes.get(&cluster).map_or(&[][..], Vec::as_slice);
        inner.silent.keys().any(|(of, node)| *of == cluster && !nodes.contains(node))
    }

    /// A duty again, if nothing has changed that it was given for.
    pub fn redeem(&self, pledge: &Pledge) -> Option<Duty<'_>> {
        match pledge {
            Pledge::Tag { name, cluster, epoch } => {
                self.duty(name, *cluster).filter(|duty| duty.epoch() == Some(*epoch))
            }
            Pledge::Share { cluster, capability, key } => {
                self.duty_by_share(*cluster, capability, *key)
            }
            Pledge::Creator { cluster, creator } => self.duty_of_creator(*cluster, *creator),
            Pledge::Sole => Some(self.sole()),
        }
    }

    /// Whether this node holds the tag, as scripts and `list_shtags` show it.
    pub fn is_active(&self, name: &str, cluster: ClusterId) -> bool {
        let inner = self.read();
        inner.tags.get(&cluster).and_then(|tags| tags.get(name)).is_some_and(|tag| tag.active)
    }

    /// The node that holds the tag, as far as this one knows.
    pub fn holder(&self, name: &str, cluster: ClusterId) -> Option<NodeId> {
        let inner = self.read();
        inner.tags.get(&cluster).and_then(|tags| tags.get(name)).and_then(|tag| tag.holder)
    }

    /// The epoch of the tag's claim, whoever holds it, as far as this node knows; 0: none.
    pub fn epoch(&self, name: &str, cluster: ClusterId) -> u64 {
        let inner = self.read();
        inner.tags.get(&cluster).and_then(|tags| tags.get(name)).map_or(0, |tag| tag.epoch)
    }

    /// Whether a stock node that can be reached holds the tag.
    pub fn is_held_by_stock(&self, name: &str, cluster: ClusterId) -> bool {
        let inner = self.read();
        let tag = inner.tags.get(&cluster).and_then(|tags| tags.get(name));
        let holder = tag.filter(|tag| !tag.active).and_then(|tag| tag.holder);
        let stock = inner.stock.get(&cluster);
        holder.zip(stock).is_some_and(|(holder, stock)| stock.contains(&holder))
    }

    /// Whether the tag is defined, used or heard of.
    pub fn is_known(&self, name: &str, cluster: ClusterId) -> bool {
        self.read().tags.get(&cluster).is_some_and(|tags| tags.contains_key(name))
    }

    /// Every tag, by cluster and name.
    pub fn snapshot(&self) -> Vec<TagView> {
        self.read().tags.values().flat_map(|tags| tags.values().cloned()).collect()
    }

    pub(crate) fn new(me: NodeId) -> Self {
        Self { inner: RwLock::new(Inner { me, ..Inner::default() }) }
    }

    pub(crate) fn set_tag(&self, view: TagView) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.tags.entry(view.cluster).or_default().insert(view.name.clone(), view);
    }

    pub(crate) fn set_incarnation(&self, cluster: ClusterId, node: NodeId, incarnation: u64) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.lives.insert((cluster, node), incarnation);
    }

    pub(crate) fn set_silent(&self, cluster: ClusterId, node: NodeId, since: Mono) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.silent.insert((cluster, node), since);
    }

    pub(crate) fn set_nodes(
        &self,
        cluster: ClusterId,
        nodes: Vec<NodeId>,
        stock: Vec<NodeId>,
        sharers: BTreeMap<String, Vec<NodeId>>,
    ) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.nodes.insert(cluster, nodes);
        inner.stock.insert(cluster, stock);
        inner.sharers.insert(cluster, sharers);
    }

    fn mint<'a>(pledge: Pledge) -> Duty<'a> {
        Duty { pledge, here: PhantomData }
    }

    /// The table stays usable when a thread died while it held the lock: the writer replaces
    /// whole values.
    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(active: bool, settled: bool, epoch: u64) -> TagView {
        TagView {
            name: "vip".into(),
            cluster: 1,
            active,
            settled,
            holder: Some(1),
            epoch,
            activated_at_ms: 5,
            since_unix_ms: 5,
            reason: Reason::default(),
        }
    }

    #[test]
    fn duty_needs_an_active_settled_tag_and_ends_with_its_epoch() {
        let table = TagTable::new(1);
        assert!(table.duty("vip", 1).is_none());
        table.set_tag(view(true, false, 3));
        assert!(table.duty("vip", 1).is_none());
        table.set_tag(view(true, true, 3));
        let pledge = table.duty("vip", 1).map(|duty| duty.pledge());
        let pledge = pledge.expect("duty");
        assert!(table.redeem(&pledge).is_some());
        table.set_tag(view(true, true, 4));
        assert!(table.redeem(&pledge).is_none());
    }

    #[test]
    fn exactly_one_of_the_sharing_nodes_has_duty_for_a_key() {
        let tables: Vec<_> = [2, 5, 9].map(TagTable::new).into_iter().collect();
        for table in &tables {
            let sharers = BTreeMap::from([("x".to_owned(), vec![2, 5, 9])]);
            table.set_nodes(1, vec![2, 5, 9], Vec::new(), sharers);
        }
        for key in 0..50 {
            let acting = tables.iter().filter(|t| t.duty_by_share(1, "x", key).is_some()).count();
            assert_eq!(acting, 1);
        }
        let heirs: Vec<_> = tables.iter().map(|t| t.duty_of_creator(1, 7).is_some()).collect();
        assert_eq!(heirs, [true, false, false]);
    }
}
