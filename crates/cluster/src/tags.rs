//! Sharing tags on the wire: claims to Tandem peers, SHTAG_ACTIVE to stock ones.

use crate::cluster::{Cluster, Ctx};
use crate::effects::{ActivationId, Effect, Level, Reason};
use crate::peer::{Crossing, Kind, OUT_OF_ORDER_NS, Peer};
use crate::register::{Hold, Register, Verdict, Winner};
use crate::table::TagView;
use crate::wire::{ClaimEntry, Standing, TAG_BYTES_MAX, Tandem};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::net::IpAddr;
use tandem_bin::NodeId;
use tandem_bin::clusterer::Extra;
use tandem_clock::{MS, Mono, SEC};

/// An announcement that waits until the claim is on disk.
#[derive(Debug)]
pub(crate) struct Announcement {
    /// `None` until the state file that holds the claim has been composed.
    pub(crate) token: Option<u64>,
    pub(crate) tag: String,
    pub(crate) activation: Option<ActivationId>,
}

/// The tags of a cluster.
#[derive(Debug, Default)]
pub(crate) struct Tags {
    pub(crate) registers: BTreeMap<String, Register>,
    pub(crate) announcements: Vec<Announcement>,
    /// When awaiting claims become held at the latest.
    pub(crate) settle_at: Option<Mono>,
    /// When a tag that somebody else may hold is looked at again.
    doubts: BTreeMap<String, Mono>,
}

impl Tags {
    /// A tag that a script or the configuration names; backup until somebody activates it.
    pub(crate) fn define(&mut self, name: &str) -> Option<&mut Register> {
        let room = self.registers.len() < TAGS_MAX || self.registers.contains_key(name);
        let fits = !name.is_empty() && name.len() <= TAG_BYTES_MAX;
        (room && fits).then(|| self.registers.entry(name.to_owned()).or_default())
    }

    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        self.doubts.values().copied().chain(self.settle_at).min()
    }
}

impl Cluster {
    /// Shows a tag in the table.
    pub(crate) fn show_tag(&mut self, ctx: &mut Ctx<'_>, name: &str) {
        let Some(r) = self.tags.registers.get(name) else { return };
        let claim = r.held().or(r.top);
        ctx.node.table.set_tag(TagView {
            name: name.to_owned(),
            cluster: self.id,
            active: r.held().is_some(),
            settled: !r.is_awaiting(),
            holder: claim.map(|claim| claim.node),
            epoch: claim.map_or(0, |claim| claim.epoch),
            activated_at_ms: claim.map_or(0, |claim| claim.at_ms),
            // A node that was told of the holder shows since when that one holds the tag.
            since_unix_ms: match claim {
                Some(claim) if r.held().is_none() && claim.at_ms > 0 => claim.at_ms,
                _ => r.since_unix_ms,
            },
            reason: r.reason.clone(),
        });
    }

    fn tag_changed(&mut self, ctx: &mut Ctx<'_>, name: &str, reason: Reason) {
        let Some(r) = self.tags.registers.get_mut(name) else { return };
        r.reason = reason.clone();
        let (active, epoch) = (r.held().is_some(), r.epoch_seen);
        let epoch = r.held().map_or(epoch, |claim| claim.epoch);
        ctx.node.unsaved = true;
        let (cluster, name_owned) = (self.id, name.to_owned());
        ctx.out.push(Effect::TagChanged { name: name_owned, cluster, active, epoch, reason });
        self.show_tag(ctx, name);
    }

    fn announce_when_saved(&mut self, name: &str, activation: Option<ActivationId>) {
        let waiting = self.tags.announcements.iter().any(|a| a.tag == name && a.token.is_none());
        if activation.is_some() || !waiting {
            let tag = name.to_owned();
            self.tags.announcements.push(Announcement { token: None, tag, activation });
        }
    }

    /// Takes the tag, or repeats that we hold it.
    pub(crate) fn activate(
        &mut self,
        ctx: &mut Ctx<'_>,
        name: &str,
        reason: Reason,
        id: ActivationId,
    ) {
        let me = self.me;
        let Some(r) = self.tags.define(name) else {
            ctx.out.log(Level::Error, format!("tag {name} cannot be defined"));
            ctx.out.push(Effect::Activated { id, told: Vec::new(), not_told: Vec::new() });
            return;
        };
        let fresh = r.held().is_none() || r.is_overtopped().is_some();
        if fresh {
            r.raise(ctx.now.unix_ms, me);
            self.tag_changed(ctx, name, reason);
        }
        ctx.node.unsaved = true;
        self.announce_when_saved(name, Some(id));
    }

    fn raise(&mut self, ctx: &mut Ctx<'_>, name: &str, why: &str) {
        let me = self.me;
        let Some(r) = self.tags.registers.get_mut(name) else { return };
        r.raise(ctx.now.unix_ms, me);
        self.tag_changed(ctx, name, Reason::new(why, format!("node {me}")));
        self.announce_when_saved(name, None);
    }

    fn follow(&mut self, ctx: &mut Ctx<'_>, name: &str, from: NodeId, verdict: Verdict) {
        match verdict {
            Verdict::Nothing => {}
            Verdict::Yield => {
                if let Some(r) = self.tags.registers.get_mut(name) {
                    r.hold = Hold::Backup;
                    r.reason = Reason::new("a peer holds it", format!("node {from}"));
                }
                ctx.node.unsaved = true;
                self.show_tag(ctx, name);
            }
            Verdict::StepDown => {
                if let Some(r) = self.tags.registers.get_mut(name) {
                    r.step_down(ctx.now.unix_ms);
                }
                let text = format!("cluster broadcast from {from}");
                self.tag_changed(ctx, name, Reason::new(text, format!("node {from}")));
            }
            Verdict::Raise(why) => self.raise(ctx, name, why),
            Verdict::Announce => {
                self.announce_when_saved(name, None);
                ctx.node.unsaved = true;
            }
            Verdict::Doubt => {
                let at = ctx.now.mono_ns.saturating_add(DOUBT_NS);
                self.tags.doubts.entry(name.to_owned()).or_insert(at);
            }
        }
    }

    pub(crate) fn on_claims(&mut self, ctx: &mut Ctx<'_>, from: NodeId, claims: &[ClaimEntry]) {
        let winner = self.address_winner(ctx, from);
        for entry in claims {
            let owner = entry.node;
            let reachable = self.peers.get(&owner).is_some_and(|peer| peer.reachable);
            let me = self.me;
            let Some(r) = self.tags.define(&entry.tag) else { continue };
            let top = r.top;
            let verdict = r.hear(ctx.now.mono_ns, from, entry, winner, me, reachable);
            if r.top != top && r.held().is_none() {
                r.reason = Reason::new(entry.reason.clone(), entry.by.clone());
                ctx.node.unsaved = true;
            }
            self.follow(ctx, &entry.tag, from, verdict);
            // Every node shows why and by whose command the holder has the tag.
            if let Some(r) = self.tags.registers.get_mut(&entry.tag)
                && r.held().is_none()
                && entry.standing == Standing::Held
                && r.top.is_some_and(|top| top.node == entry.node)
            {
                r.reason = Reason::new(entry.reason.clone(), entry.by.clone());
            }
            self.show_tag(ctx, &entry.tag);
        }
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.answered = true;
        }
        self.settle_if_answered(ctx);
    }

    /// SHTAG_ACTIVE: an activation, if it comes from a stock node.
    pub(crate) fn on_shtag_active(&mut self, ctx: &mut Ctx<'_>, from: NodeId, tag: &Bytes) {
        let Ok(tag) = std::str::from_utf8(tag) else { return };
        let Some(peer) = self.peers.get_mut(&from) else { return };
        match peer.kind {
            // Between Tandem nodes only claims count.
            Kind::Tandem => {}
            Kind::Stock => self.on_stock_active(ctx, from, tag),
            Kind::Unproven => {
                if peer.unjudged.len() < UNJUDGED_MAX && tag.len() <= TAG_BYTES_MAX {
                    peer.unjudged.push(tag.to_owned());
                    let at = ctx.now.mono_ns.saturating_add(crate::peer::ASSUME_STOCK_NS);
                    peer.assume_stock_at = Some(peer.assume_stock_at.unwrap_or(at));
                }
            }
        }
    }

    pub(crate) fn on_stock_active(&mut self, ctx: &mut Ctx<'_>, from: NodeId, name: &str) {
        let now = ctx.now;
        let Some(r) = self.tags.define(name) else { return };
        let crosses = |peer: &mut Peer| {
            let ours = peer.crossing.get(name);
            let crosses = ours.is_some_and(|ours| ours.is_crossed(now.mono_ns, peer.awoke_at));
            if !crosses {
                peer.crossing.remove(name);
            }
            crosses
        };
        if r.held().is_some() && self.peers.get_mut(&from).is_some_and(crosses) {
            // Both told each other when the link came back. The stock node has stepped down. It may
            // have said so more than once, and is told once.
            if !self.tags.announcements.iter().any(|a| a.tag == name) {
                self.raise(ctx, name, "held through a separation");
            }
            return;
        }
        r.stock_activation(from, now.unix_ms);
        let verdict = match r.hold {
            Hold::Held(_) => Verdict::StepDown,
            Hold::Awaiting(_) => Verdict::Yield,
            Hold::Backup => Verdict::Nothing,
        };
        ctx.node.unsaved = true;
        self.follow(ctx, name, from, verdict);
        self.show_tag(ctx, name);
    }

    /// The claims of every tag, to one peer. Sent even if there are none: it is an answer.
    pub(crate) fn send_claims(&mut self, ctx: &mut Ctx<'_>, to: NodeId) {
        let claims: Vec<_> =
            self.tags.registers.iter().filter_map(|(name, r)| self.entry(name, r)).collect();
        let mut chunks = claims.chunks(CLAIMS_PER_PACKET);
        let first = chunks.next().unwrap_or_default();
        for chunk in [first].into_iter().chain(chunks) {
            self.send_tandem(ctx, to, &Tandem::Claims(chunk.to_vec()));
        }
    }

    fn entry(&self, name: &str, r: &Register) -> Option<ClaimEntry> {
        // A claim that waits for the disk is not told: it would be forgotten by a crash.
        let unsaved = self.tags.announcements.iter().any(|a| a.tag == name);
        let (claim, standing) = match r.hold {
            Hold::Held(_) if unsaved => return None,
            Hold::Held(claim) => (claim, Standing::Held),
            Hold::Awaiting(claim) => (claim, Standing::Awaiting),
            Hold::Backup => (r.top?, Standing::HeardOf),
        };
        Some(ClaimEntry {
            tag: name.to_owned(),
            epoch: claim.epoch,
            at_ms: claim.at_ms,
            node: claim.node,
            standing,
            reason: r.reason.text.clone(),
            by: r.reason.by.clone(),
        })
    }

    /// Announces what has been saved under `token` or before.
    pub(crate) fn persisted(&mut self, ctx: &mut Ctx<'_>, token: u64) {
        let ready = |a: &Announcement| a.token.is_some_and(|t| t <= token);
        let all = std::mem::take(&mut self.tags.announcements);
        let (ready, waiting): (Vec<_>, Vec<_>) = all.into_iter().partition(ready);
        self.tags.announcements = waiting;
        for announcement in ready {
            let told = self.announce(ctx, &announcement.tag);
            let Some(id) = announcement.activation else { continue };
            let missed = |id: &NodeId, p: &Peer| p.cfg.enabled && !told.contains(id);
            let not_told =
                self.peers.iter().filter(|(id, peer)| missed(id, peer)).map(|(&id, _)| id);
            let not_told = not_told.collect();
            ctx.out.push(Effect::Activated { id, told, not_told });
        }
    }

    /// Tells every reachable peer that we hold a tag; returns whom.
    fn announce(&mut self, ctx: &mut Ctx<'_>, name: &str) -> Vec<NodeId> {
        let mut told = Vec::new();
        let Some(r) = self.tags.registers.get(name) else { return told };
        let held = r.held().is_some();
        let Some(entry) = self.entry(name, r) else { return told };
        for id in self.reachable(Kind::Tandem) {
            if self.send_tandem(ctx, id, &Tandem::Claims(vec![entry.clone()])) {
                told.push(id);
            }
        }
        if held {
            let others = [self.reachable(Kind::Stock), self.reachable(Kind::Unproven)].concat();
            for id in others {
                if self.send_shtag_active(ctx, id, name) {
                    told.push(id);
                    self.may_cross(ctx, id, name);
                }
            }
        }
        told.sort_unstable();
        told
    }

    fn send_shtag_active(&mut self, ctx: &mut Ctx<'_>, to: NodeId, name: &str) -> bool {
        let tag = Bytes::copy_from_slice(name.as_bytes());
        let packet = Extra::ShtagActive { tag }.encode(&self.trailer(to));
        packet.is_ok_and(|bytes| self.route(ctx, to, &bytes))
    }

    /// A stock peer came up: it hears of every tag we hold.
    pub(crate) fn announce_to_stock(&mut self, ctx: &mut Ctx<'_>, node: NodeId) {
        let held = self.tags.registers.iter().filter(|(_, r)| r.held().is_some());
        let names: Vec<_> = held.map(|(name, _)| name.clone()).collect();
        for name in &names {
            self.send_shtag_active(ctx, node, name);
            self.may_cross(ctx, node, name);
        }
        self.settle_if_answered(ctx);
    }

    /// We have announced a tag to a stock node. What it announces before it has read that, which
    /// the answers to PINGs behind it show, crosses ours.
    fn may_cross(&mut self, ctx: &mut Ctx<'_>, node: NodeId, name: &str) {
        let now = ctx.now.mono_ns;
        let Some(peer) = self.peers.get_mut(&node) else { return };
        peer.crossing.insert(name.to_owned(), Crossing::new(now));
        if !peer.link.is_up() {
            return;
        }
        let waiting = peer.conn.as_ref().map_or(0, |conn| conn.pings);
        let pings = peer.pings.ask(now, waiting);
        if pings > 0 {
            peer.read_on = None;
            peer.link.on_own_ping(now);
        }
        (0..pings).for_each(|_| self.send_ping(ctx, node, false));
    }

    /// The holder of a higher claim than ours is gone: raise above it.
    pub(crate) fn holder_lost(&mut self, ctx: &mut Ctx<'_>, node: NodeId) {
        let over = |r: &Register| r.is_overtopped().is_some_and(|claim| claim.node == node);
        let names: Vec<_> =
            self.tags.registers.iter().filter(|(_, r)| over(r)).map(|(n, _)| n.clone()).collect();
        for name in names {
            self.raise(ctx, &name, "a higher claim has no living holder");
        }
    }

    /// Boot is over as soon as every configured peer has said what it knows.
    pub(crate) fn settle_if_answered(&mut self, ctx: &mut Ctx<'_>) {
        let waits = self.peers.values().any(|p| p.cfg.enabled && !p.learnt && !p.answered);
        if waits {
            return;
        }
        if self.peers.values().all(|p| p.kind != Kind::Stock) {
            self.settle(ctx);
        } else if let Some(at) = &mut self.tags.settle_at {
            // What a stock node announces may be handled after what it sent before.
            *at = (*at).min(ctx.now.mono_ns.saturating_add(OUT_OF_ORDER_NS));
        }
    }

    /// A stock node has brought its half of the link up: what it announces comes right behind.
    pub(crate) fn stock_has_come_up(&mut self, ctx: &mut Ctx<'_>, node: NodeId) {
        if let Some(peer) = self.peers.get_mut(&node).filter(|p| p.kind == Kind::Stock) {
            peer.answered = true;
            self.settle_if_answered(ctx);
        }
    }

    fn settle(&mut self, ctx: &mut Ctx<'_>) {
        if self.tags.settle_at.take().is_none() {
            return;
        }
        let names: Vec<_> = self.tags.registers.keys().cloned().collect();
        for name in names {
            let Some(r) = self.tags.registers.get_mut(&name) else { continue };
            if r.settle(ctx.now.unix_ms) {
                let me = self.me;
                self.tag_changed(ctx, &name, Reason::new("start", format!("node {me}")));
                self.announce_when_saved(&name, None);
            }
        }
    }

    pub(crate) fn tick_tags(&mut self, ctx: &mut Ctx<'_>) {
        let now = ctx.now.mono_ns;
        if self.tags.settle_at.is_some_and(|at| at <= now) {
            self.settle(ctx);
        }
        let due: Vec<_> =
            self.tags.doubts.iter().filter(|&(_, &at)| at <= now).map(|(n, _)| n.clone()).collect();
        for name in due {
            self.tags.doubts.remove(&name);
            let over = self.tags.registers.get(&name).and_then(Register::is_overtopped);
            if over.is_some() {
                self.raise(ctx, &name, "nobody holds the higher claim");
            }
        }
        let assumed =
            |p: &Peer| p.kind == Kind::Unproven && p.assume_stock_at.is_some_and(|at| at <= now);
        let stock: Vec<_> =
            self.peers.iter().filter(|(_, peer)| assumed(peer)).map(|(&id, _)| id).collect();
        for id in stock {
            self.proven_stock(ctx, id);
        }
    }

    /// Addresses moved here or on a peer: fresh meetings are judged again.
    pub(crate) fn addresses_moved(&mut self, ctx: &mut Ctx<'_>, only: Option<NodeId>) {
        let peers: Vec<_> = self
            .reachable(Kind::Tandem)
            .into_iter()
            .filter(|&p| only.is_none_or(|o| o == p))
            .collect();
        let names: Vec<_> = self.tags.registers.keys().cloned().collect();
        for peer in peers {
            let winner = self.address_winner(ctx, peer);
            for name in &names {
                let Some(r) = self.tags.registers.get(name) else { continue };
                let verdict = r.readdress(ctx.now.mono_ns, peer, winner);
                self.follow(ctx, name, peer, verdict);
            }
        }
    }

    /// Whose host holds the service address: one that both list as a socket and one has.
    fn address_winner(&self, ctx: &Ctx<'_>, peer: NodeId) -> Winner {
        let hello = self.peers.get(&peer).and_then(|peer| peer.hello.as_ref());
        let theirs = hello.map(|hello| hello.addresses.as_slice()).unwrap_or_default();
        winner(&ctx.node.addresses, theirs)
    }
}

fn winner(ours: &[(IpAddr, bool)], theirs: &[(IpAddr, bool)]) -> Winner {
    let mut result = Winner::Nobody;
    for (ip, we_hold) in ours {
        let Some((_, they_hold)) = theirs.iter().find(|(other, _)| other == ip) else { continue };
        let this = match (we_hold, they_hold) {
            (true, false) => Winner::Me,
            (false, true) => Winner::Peer,
            _ => continue,
        };
        if result != Winner::Nobody && result != this {
            return Winner::Nobody;
        }
        result = this;
    }
    result
}

const TAGS_MAX: usize = 1024;
const UNJUDGED_MAX: usize = 64;
const CLAIMS_PER_PACKET: usize = 64;
const DOUBT_NS: u64 = 2 * SEC;
/// How long boot waits for the claims of peers.
pub(crate) const SETTLE_BOOT_NS: u64 = 1000 * MS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_address_decides_only_if_exactly_one_host_has_it() {
        let vip: IpAddr = [10, 0, 0, 9].into();
        let own: IpAddr = [10, 0, 0, 1].into();
        assert_eq!(winner(&[(own, true), (vip, true)], &[(vip, false)]), Winner::Me);
        assert_eq!(winner(&[(vip, false)], &[(vip, true)]), Winner::Peer);
        assert_eq!(winner(&[(vip, true)], &[(vip, true)]), Winner::Nobody);
        assert_eq!(winner(&[(own, true)], &[(vip, true)]), Winner::Nobody);
        let other: IpAddr = [10, 0, 0, 8].into();
        let split = winner(&[(vip, true), (other, false)], &[(vip, false), (other, true)]);
        assert_eq!(split, Winner::Nobody);
    }
}
