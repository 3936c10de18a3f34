//! What is said between Tandem nodes: HELLO, envelopes, acknowledgements, digests.

use crate::caps::{LocalCap, RECORD_BYTES_MAX, SyncPhase};
use crate::cluster::{Cluster, Ctx};
use crate::donor::{AFTER_SYNC_MS, DonationKind};
use crate::effects::{
    BUCKETS, CapId, Change, Digests, Effect, Form, Level, Payload, Replicated, Stamp,
};
use crate::peer::{COMPARE_EVERY_NS, Kind, Peer, RECHECK_NS, Unacked};
use crate::questions::Question;
use crate::skew;
use crate::status::Step;
use crate::wire::{DigestMsg, Envelope, Hello, LEVEL_MAX, LEVEL_MIN, Tandem};
use bytes::Bytes;
use tandem_bin::{NodeId, Packet, TooBig, Trailer};
use tandem_clock::MS;

/// Incarnations of a peer that are remembered: more than it can have had while a stream stood still.
const PAST_LIVES_MAX: usize = 16;

impl Cluster {
    /// A packet of capability `tandem` for this node. `life` is that of the node which opened its
    /// stream, if it is known.
    pub(crate) fn on_tandem(
        &mut self,
        ctx: &mut Ctx<'_>,
        (source, life): (NodeId, Option<u64>),
        kind: u32,
        body: &Bytes,
    ) {
        let packet = match Tandem::decode(kind, body) {
            Ok(packet) => packet,
            Err(error) => {
                ctx.complain(Level::Warning, || {
                    format!("packet of node {source} dropped: {error}")
                });
                return;
            }
        };
        let proven = self.peers.get(&source).is_some_and(|peer| peer.kind == Kind::Tandem);
        match packet {
            Tandem::Hello(hello) => self.on_hello(ctx, source, hello),
            // Whoever speaks before HELLO is not judged.
            _ if !proven => {}
            Tandem::Envelope(envelope) => self.on_envelope(ctx, (source, life), envelope),
            Tandem::Ack(ack) => self.on_ack(ctx, source, ack),
            Tandem::Claims(claims) => self.on_claims(ctx, source, &claims),
            Tandem::Records(r) => {
                self.on_records(ctx, source, &r.capability, Form::Tandem, r.version, r.records);
            }
            Tandem::Done(done) => {
                if let Some(peer) = self.peers.get_mut(&source) {
                    peer.taken += 1;
                    peer.ack_due = true;
                }
                self.on_sync_end(ctx, source, &done.capability, done.count);
            }
            Tandem::Digest(digest) => self.on_digest(ctx, source, digest),
            Tandem::ListingWanted(wanted) => self.on_listing_wanted(ctx, source, wanted),
            Tandem::Listing(listing) => self.on_listing(ctx, source, listing),
        }
    }

    pub(crate) fn on_hello(&mut self, ctx: &mut Ctx<'_>, source: NodeId, hello: Hello) {
        if hello.level_min > LEVEL_MAX || hello.level_max < LEVEL_MIN {
            let text = format!("node {source} speaks no level that we speak; treated as stock");
            ctx.out.log(Level::Warning, text);
            self.proven_stock(ctx, source);
            return;
        }
        let Some(peer) = self.peers.get_mut(&source) else { return };
        if peer.past_lives.contains(&hello.incarnation) {
            return;
        }
        let known = peer.hello.as_ref();
        let reborn = known.is_none_or(|known| known.incarnation != hello.incarnation);
        let moved = known.is_none_or(|known| known.addresses != hello.addresses);
        // It was away for less than it takes to miss it; what it had in memory is gone all the same.
        let was_away = reborn && known.is_some() && peer.reachable;
        // Envelopes before this number are lost with the old connection; digests find them.
        peer.expected = peer.expected.max(hello.next_number);
        if reborn || peer.kind != Kind::Tandem {
            peer.kind = Kind::Tandem;
            peer.expected = hello.next_number;
            peer.compared.clear();
            peer.unjudged.clear();
            peer.bulk.restart();
            peer.taken = 0;
            peer.drop_log();
        }
        peer.assume_stock_at = None;
        if !hello.nonce_key.is_empty() {
            ctx.out.push(Effect::NonceKey { node: source, key: hello.nonce_key.clone() });
        }
        if !hello.node_key.is_empty() {
            ctx.out.push(Effect::NodeKey { node: source, key: hello.node_key.clone() });
        }
        let (clock, incarnation) = (hello.clock_unix_ms, hello.incarnation);
        if let Some(past) = peer.hello.replace(hello).filter(|_| reborn) {
            peer.past_lives.truncate(PAST_LIVES_MAX - 1);
            peer.past_lives.push_front(past.incarnation);
        }
        self.measure_skew(ctx, source, clock);
        if reborn {
            ctx.out.log(Level::Info, format!("node {source} is a Tandem node"));
            ctx.node.table.set_incarnation(self.id, source, incarnation);
        }
        if was_away {
            for up in [false, true] {
                ctx.out.push(Effect::NodeState { cluster: self.id, node: source, up });
            }
        }
        self.greet(ctx, source);
        if moved {
            self.addresses_moved(ctx, Some(source));
        }
    }

    pub(crate) fn measure_skew(&mut self, ctx: &mut Ctx<'_>, source: NodeId, clock_unix_ms: u64) {
        let Some(peer) = self.peers.get_mut(&source) else { return };
        let measured = (clock_unix_ms as i64).wrapping_sub(ctx.now.unix_ms as i64);
        let known = peer.skew_ms;
        let skew = skew::estimate(known, measured);
        peer.skew_ms = Some(skew);
        if skew::is_far(skew) && !known.is_some_and(skew::is_far) {
            let text = format!("the clock of node {source} differs by {skew} ms from ours");
            ctx.out.log(Level::Warning, text);
        }
    }

    /// Tells a peer what it has to know when it comes up or has just proven what it is.
    pub(crate) fn greet(&mut self, ctx: &mut Ctx<'_>, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let lost_at = peer.lost_at_unix_ms;
        match (peer.kind, peer.reachable) {
            (Kind::Tandem, reachable) => {
                if reachable {
                    peer.lost_at_unix_ms = None;
                    // One of the two asks; the other one answers.
                    let first = self.me < node || peer.behind;
                    peer.behind = true;
                    let delay = if first { 0 } else { RECHECK_NS };
                    peer.compare_soon(ctx.now.mono_ns.saturating_add(delay), true);
                }
                self.send_claims(ctx, node);
            }
            (Kind::Stock, true) => {
                peer.lost_at_unix_ms = None;
                peer.in_step_again();
                self.announce_to_stock(ctx, node);
                if let Some(since) = lost_at {
                    self.catch_up_with_stock(ctx, node, since);
                }
            }
            _ => {}
        }
    }

    /// After a loss of the link: ask a stock peer for what we missed without giving up our own
    /// state, and repeat what it missed.
    pub(crate) fn catch_up_with_stock(
        &mut self,
        ctx: &mut Ctx<'_>,
        node: NodeId,
        lost_at_unix_ms: u64,
    ) {
        // A replay into a link that is lost again at once has arrived or not: it is repeated.
        let now = ctx.now.mono_ns;
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let earlier = peer.replayed.filter(|(_, at)| now.saturating_sub(*at) < REPLAY_UNSURE_NS);
        let lost_at_unix_ms = earlier.map_or(lost_at_unix_ms, |(at, _)| at.min(lost_at_unix_ms));
        peer.replayed = Some((lost_at_unix_ms, now));
        // What was sent between the last PONG and the discovery of the loss is lost as well.
        let unsure_ns = self.times.ping_interval_ns + 2 * self.times.ping_timeout_ns;
        let since_unix_ms = lost_at_unix_ms.saturating_sub(unsure_ns / MS);
        // What was on the way on an earlier stream may arrive behind this: a call that is created
        // after it was deleted stays.
        peer.repeat_later(ctx.now.after_ms(AFTER_SYNC_MS), since_unix_ms);
        let known = !peer.caps_are_old;
        peer.is_to_be_asked = !known;
        let caps = self.caps.iter().filter(|cap| cap.enabled && cap.startup_sync);
        let caps: Vec<_> = caps.map(|cap| (cap.id, cap.replaces)).collect();
        for (cap, replaces) in caps {
            if !replaces || known {
                self.ask_stock(ctx, node, cap);
            }
            self.give(ctx, node, cap, DonationKind::Replay { since_unix_ms }, None);
        }
    }

    /// A stock peer says whether it is synced, which was waited for.
    pub(crate) fn ask_known_stock(&mut self, ctx: &mut Ctx<'_>, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        peer.caps_are_old = false;
        if !std::mem::take(&mut peer.is_to_be_asked) || !peer.reachable {
            return;
        }
        let caps = self.caps.iter().filter(|c| c.enabled && c.startup_sync && c.replaces);
        for cap in caps.map(|cap| cap.id).collect::<Vec<_>>() {
            self.ask_stock(ctx, node, cap);
        }
    }

    /// A stock peer has taken the records of some donor, which may not have been those of the node
    /// that speaks for the cluster: that one repeats all it has changed, synced itself or not.
    pub(crate) fn stock_is_synced(&mut self, ctx: &mut Ctx<'_>, node: NodeId, name: &[u8]) {
        let is_it = |c: &&LocalCap| c.name == name && c.enabled && c.replaces;
        if let Some(cap) = self.caps.iter().find(is_it).map(|cap| cap.id) {
            self.give(ctx, node, cap, DonationKind::Replay { since_unix_ms: 1 }, None);
        }
    }

    /// What is not synced here has asked, or will, in its own time; a peer that is not synced is
    /// about to ask us for what replaces its own.
    pub(crate) fn ask_stock(&mut self, ctx: &mut Ctx<'_>, node: NodeId, cap: CapId) {
        let (Some(peer), Some(cap)) =
            (self.peers.get(&node), self.caps.iter().find(|c| c.id == cap))
        else {
            return;
        };
        let is_synced = peer.caps.get(&cap.name) != Some(&false);
        if cap.ok && !cap.only_tandem_syncs && (is_synced || !cap.replaces) {
            let capability = cap.name.clone();
            let request = tandem_bin::clusterer::Extra::SyncReq { capability };
            if let Ok(bytes) = request.encode(&self.trailer(node)) {
                self.route(ctx, node, &bytes);
            }
        }
    }

    /// A capability is synced from one donor; a stock peer may know what only a node that is gone has
    /// told it.
    pub(crate) fn ask_other_stock(&mut self, ctx: &mut Ctx<'_>, cap: CapId, donor: Option<NodeId>) {
        let others = self
            .peers
            .iter()
            .filter(|(id, peer)| peer.kind == Kind::Stock && peer.reachable && Some(**id) != donor);
        for node in others.map(|(&id, _)| id).collect::<Vec<_>>() {
            self.ask_stock(ctx, node, cap);
        }
    }

    /// A stock peer brings its half of the link up while ours has been up for long: it had lost us
    /// and we have not noticed, or it is a new life of it. It has missed what was sent meanwhile.
    pub(crate) fn lost_by_stock(&mut self, ctx: &mut Ctx<'_>, node: NodeId, reborn: bool) {
        let now = ctx.now.mono_ns;
        let Some(peer) = self.peers.get(&node) else { return };
        let long = now.saturating_sub(peer.up_at) > HALVES_NS;
        if peer.kind != Kind::Stock || !peer.link.is_up() || !long {
            return;
        }
        let since = ctx.now.unix_ms.saturating_sub(2 * self.times.node_timeout_ns / MS);
        self.catch_up_with_stock(ctx, node, since);
        if reborn {
            self.announce_to_stock(ctx, node);
        }
    }

    /// Sends a change to every reachable peer, each in its language.
    pub(crate) fn broadcast(
        &mut self,
        ctx: &mut Ctx<'_>,
        cap: CapId,
        change: &Change,
    ) -> Result<Replicated, TooBig> {
        let Some(name) = self.caps.iter().find(|c| c.id == cap).map(|c| c.name.clone()) else {
            return Err(TooBig);
        };
        let fits = |told: Option<&Payload>| told.is_none_or(|t| t.bytes.len() <= RECORD_BYTES_MAX);
        let (fits_stock, fits_tandem) = (fits(change.stock.as_ref()), fits(change.for_tandem()));
        self.mark += 1;
        let mut result = Replicated { mark: self.mark, tandem_peers: 0, peers: 0 };
        let ids: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.reachable && peer.cfg.enabled)
            .map(|(&id, _)| id)
            .collect();
        let now = ctx.now.mono_ns;
        for (_, peer) in self.peers.iter_mut().filter(|(_, peer)| !peer.reachable) {
            peer.miss(now);
        }
        let mut without = Vec::new();
        for id in ids {
            let is_tandem = self.peers.get(&id).is_some_and(|peer| peer.kind == Kind::Tandem);
            if !(if is_tandem { fits_tandem } else { fits_stock }) {
                without.push(id.to_string());
                continue;
            }
            let (sent, gates) = self.send_change(ctx, id, &name, change)?;
            result.peers += u32::from(sent);
            result.tandem_peers += u32::from(gates);
        }
        if !without.is_empty() {
            self.too_large(ctx, &name, change, &without);
        }
        Ok(result)
    }

    /// Part of a record would be worse than none.
    fn too_large(&self, ctx: &mut Ctx<'_>, name: &Bytes, change: &Change, without: &[String]) {
        ctx.node.oversized += 1;
        let sizes = change.stock.iter().chain(&change.tandem).map(|told| told.bytes.len());
        let (size, name) = (sizes.max().unwrap_or(0), String::from_utf8_lossy(name));
        let text = format!(
            "a change of {name} of {size} bytes fits no packet (at most {RECORD_BYTES_MAX}): \
             nodes {} are not told, and lack the record until it is smaller; \
             keep fewer or shorter values in it",
            without.join(", ")
        );
        ctx.out.log(Level::Error, text);
    }

    /// Whether it was sent, and whether an acknowledgement can be waited for.
    pub(crate) fn send_change(
        &mut self,
        ctx: &mut Ctx<'_>,
        to: NodeId,
        name: &Bytes,
        change: &Change,
    ) -> Result<(bool, bool), TooBig> {
        let mark = self.mark;
        let limit = self.cfg.log_bytes_max;
        let trailer = self.trailer(to);
        let Some(peer) = self.peers.get_mut(&to) else { return Ok((false, false)) };
        if peer.kind != Kind::Tandem {
            let Some(told) = &change.stock else { return Ok((false, false)) };
            let packet = Packet {
                capability: name.clone(),
                packet_type: told.kind,
                version: told.version,
                payload: told.bytes.clone(),
                trailer: Some(trailer),
            };
            return Ok((self.tell_stock(ctx, to, packet.encode()?), false));
        }
        let now = ctx.now.mono_ns;
        if peer.stalled {
            peer.miss(now);
            return Ok((false, false));
        }
        if peer.unacked_bytes > limit {
            peer.stalled = true;
            peer.behind = true;
            peer.miss(now);
            ctx.out.log(Level::Warning, format!("node {to} is behind: its log is full"));
            return Ok((false, false));
        }
        let Some(told) = change.for_tandem() else { return Ok((false, false)) };
        let bytes = envelope(peer, name, (told, change.stamp), &trailer)?;
        let number = peer.next_number;
        peer.next_number += 1;
        peer.unacked.push_back(Unacked { number, mark, bytes: bytes.len(), at: now });
        peer.unacked_bytes += bytes.len();
        let behind = peer.behind;
        let sent = self.route(ctx, to, &bytes);
        Ok((sent, sent && !behind))
    }

    /// A change for a stock peer, behind those that are repeated to it.
    fn tell_stock(&mut self, ctx: &mut Ctx<'_>, to: NodeId, packet: Bytes) -> bool {
        let bytes_max = self.cfg.log_bytes_max;
        let Some(peer) = self.peers.get_mut(&to) else { return false };
        if !peer.bulk.repeats() {
            return self.route(ctx, to, &packet);
        }
        if peer.bulk.follow(packet, bytes_max) {
            self.send_bulk(ctx);
            return true;
        }
        // It takes less than there is to tell: all of it again, from where it began.
        peer.bulk.clear();
        peer.miss(ctx.now.mono_ns);
        let since = peer.replayed.map_or(ctx.now.unix_ms, |(since, _)| since);
        ctx.out.log(Level::Warning, format!("node {to} is behind: what it missed begins again"));
        self.catch_up_with_stock(ctx, to, since);
        false
    }

    /// Starts the comparisons that are due.
    pub(crate) fn tick_compare(&mut self, ctx: &mut Ctx<'_>) {
        let now = ctx.now.mono_ns;
        for id in self.reachable(Kind::Tandem) {
            let Some(peer) = self.peers.get_mut(&id) else { continue };
            let Some((_, at_once)) = peer.compare_at.filter(|&(at, _)| at <= now) else { continue };
            peer.compare_at = (self.me < id).then(|| (now.saturating_add(COMPARE_EVERY_NS), false));
            let caps: Vec<_> = self
                .caps
                .iter()
                .filter(|cap| cap.startup_sync && cap.enabled && cap.ok)
                .map(|cap| cap.id)
                .collect();
            if self.caps.iter().all(|cap| !cap.startup_sync) {
                self.repaired(id);
            }
            for cap in caps {
                self.ask_digests(ctx, id, cap, at_once);
            }
        }
    }

    /// Asks the module for digests that will be sent to a peer, to be answered with its own.
    pub(crate) fn ask_digests(&mut self, ctx: &mut Ctx<'_>, to: NodeId, cap: CapId, at_once: bool) {
        let question = Question::SendDigests { to, at_once };
        let request = ctx.node.questions.ask(self.id, cap, question);
        ctx.out.push(Effect::DigestsWanted { request, cluster: self.id, cap });
    }

    pub(crate) fn send_digests(
        &mut self,
        ctx: &mut Ctx<'_>,
        to: NodeId,
        cap: CapId,
        digests: Digests,
        (answer, at_once): (bool, bool),
    ) {
        let Some(cap) = self.caps.iter().find(|c| c.id == cap) else { return };
        let capability = cap.name.clone();
        let digest = DigestMsg { capability, digests, answer, at_once };
        self.send_tandem(ctx, to, &Tandem::Digest(digest));
    }

    fn on_digest(&mut self, ctx: &mut Ctx<'_>, source: NodeId, theirs: DigestMsg) {
        let Some(cap) = self.cap_index(&theirs.capability).and_then(|i| self.caps.get(i)) else {
            return;
        };
        let verifying = matches!(cap.sync, SyncPhase::Verifying { .. });
        if !cap.enabled || !(cap.ok || verifying) {
            return;
        }
        let (cluster, cap) = (self.id, cap.id);
        let question = Question::Compare { from: source, theirs: Box::new(theirs) };
        let request = ctx.node.questions.ask(cluster, cap, question);
        ctx.out.push(Effect::DigestsWanted { request, cluster, cap });
    }

    /// Our digests are here: compare them with the peer's, repair, answer.
    pub(crate) fn compare(
        &mut self,
        ctx: &mut Ctx<'_>,
        from: NodeId,
        cap: CapId,
        ours: Digests,
        theirs: &DigestMsg,
    ) {
        let pairs = ours.buckets.iter().zip(theirs.digests.buckets.iter());
        let differing: Vec<u8> =
            (0..=u8::MAX).zip(pairs).filter(|(_, (a, b))| a != b).map(|(i, _)| i).collect();
        let in_step = differing.is_empty() && ours.count == theirs.digests.count;
        let at_unix_ms = ctx.now.unix_ms;
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let compared = peer.compared.entry(cap).or_default();
        let was = matches!(compared.step, Step::InStep { .. });
        let never = compared.step == Step::NeverCompared;
        compared.step = match in_step {
            true => Step::InStep { at_unix_ms },
            false => Step::Differs { buckets: differing.len() as u32, at_unix_ms },
        };
        let twice = |bucket: &u8| theirs.at_once || compared.differing.contains(bucket);
        let repair: Vec<u8> = differing.iter().copied().filter(twice).collect();
        compared.differing = differing;
        if never || was != in_step {
            let cluster = self.id;
            ctx.out.push(Effect::PeerInStep { cluster, peer: from, cap, in_step });
        }
        if theirs.answer {
            self.send_digests(ctx, from, cap, ours, (false, theirs.at_once));
        }
        if !repair.is_empty() {
            self.give(ctx, from, cap, DonationKind::Repair, Some(&repair));
            if let Some(peer) = self.peers.get_mut(&from) {
                peer.compare_soon(ctx.now.mono_ns.saturating_add(RECHECK_NS), true);
            }
        }
        if theirs.at_once || in_step {
            self.repaired(from);
        }
        self.verified(ctx, cap, in_step);
    }

    /// What was lost has been found and sent: the peer counts again.
    fn repaired(&mut self, node: NodeId) {
        let caps: Vec<_> =
            self.caps.iter().filter(|cap| cap.startup_sync && cap.ok).map(|cap| cap.id).collect();
        if let Some(peer) = self.peers.get_mut(&node)
            && !peer.stalled
            && caps.iter().all(|cap| peer.compared.contains_key(cap))
        {
            peer.behind = false;
            let in_step =
                |cap| matches!(peer.compared.get(cap).map(|c| c.step), Some(Step::InStep { .. }));
            if caps.iter().all(in_step) {
                peer.in_step_again();
            }
        }
    }

    fn verified(&mut self, ctx: &mut Ctx<'_>, cap: CapId, in_step: bool) {
        let Some(i) = self.caps.iter().position(|c| c.id == cap) else { return };
        if let Some(SyncPhase::Verifying { donor, .. }) = self.caps.get(i).map(|c| &c.sync) {
            let donor = *donor;
            if in_step {
                self.finish_sync(ctx, i);
            } else if let Some(peer) = self.peers.get_mut(&donor) {
                peer.compare_soon(ctx.now.mono_ns.saturating_add(RECHECK_NS), true);
            }
        }
    }

    /// A peer whose first packet was not HELLO.
    pub(crate) fn proven_stock(&mut self, ctx: &mut Ctx<'_>, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node).filter(|peer| peer.kind != Kind::Stock) else {
            return;
        };
        peer.drop_log();
        peer.kind = Kind::Stock;
        peer.behind = false;
        peer.hello = None;
        peer.skew_ms = None;
        peer.compare_at = None;
        peer.assume_stock_at = None;
        peer.compared.clear();
        let unjudged = std::mem::take(&mut peer.unjudged);
        ctx.out.log(Level::Info, format!("node {node} is a stock node"));
        self.greet(ctx, node);
        for tag in unjudged {
            self.on_stock_active(ctx, node, &tag);
        }
        self.retry_pending(ctx);
    }
}

fn envelope(
    peer: &Peer,
    name: &Bytes,
    (told, stamp): (&Payload, Stamp),
    trailer: &Trailer,
) -> Result<Bytes, TooBig> {
    Tandem::Envelope(Envelope {
        number: peer.next_number,
        capability: name.clone(),
        packet_type: told.kind,
        version: told.version,
        stamp,
        payload: told.bytes.clone(),
    })
    .encode(trailer)
}

/// The two halves of a link come up within this time of each other.
const HALVES_NS: u64 = 5 * tandem_clock::SEC;
/// How long a replay to a stock peer may have been lost with its link.
const REPLAY_UNSURE_NS: u64 = 20 * tandem_clock::SEC;
const _: () = assert!(BUCKETS == 256, "buckets are numbered by a byte");
