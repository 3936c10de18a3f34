//! Envelopes that come, and acknowledgements of those that left. Each life of a node counts its
//! envelopes for each peer from 1 on.

use crate::caps::Queued;
use crate::cluster::{Cluster, Ctx};
use crate::effects::Effect;
use crate::wire::{Ack, Envelope, Tandem};
use tandem_bin::NodeId;

impl Cluster {
    pub(crate) fn on_envelope(
        &mut self,
        ctx: &mut Ctx<'_>,
        (source, life): (NodeId, Option<u64>),
        envelope: Envelope,
    ) {
        let Some(peer) = self.peers.get_mut(&source) else { return };
        let number = envelope.number;
        // The stream of an earlier life may bring its last words late; it counted for itself.
        let now_lives = peer.hello.as_ref().map(|hello| hello.incarnation);
        let is_past = life.is_some() && life != now_lives;
        if number >= peer.expected && !is_past {
            peer.missing = peer.missing.saturating_add(number - peer.expected);
            peer.expected = number.saturating_add(1);
        }
        peer.ack_due = true;
        let Some(i) = self.cap_index(&envelope.capability) else { return };
        let packet = Queued {
            source,
            packet_type: envelope.packet_type,
            version: envelope.version,
            payload: envelope.payload,
            stamp: Some(envelope.stamp),
        };
        self.deliver(ctx, i, packet, if is_past { 0 } else { number });
    }

    /// Acknowledges what the step has applied.
    pub(crate) fn send_acks(&mut self, ctx: &mut Ctx<'_>) {
        let due: Vec<_> =
            self.peers.iter().filter(|(_, peer)| peer.ack_due).map(|(&id, _)| id).collect();
        for id in due {
            let Some(peer) = self.peers.get_mut(&id) else { continue };
            peer.ack_due = false;
            let missing = std::mem::take(&mut peer.missing);
            let clock_unix_ms = ctx.now.unix_ms;
            let (number, taken) = (peer.applied(), peer.taken);
            let ack = Ack { number, missing, clock_unix_ms, taken };
            self.send_tandem(ctx, id, &Tandem::Ack(ack));
        }
    }

    pub(crate) fn on_ack(&mut self, ctx: &mut Ctx<'_>, source: NodeId, ack: Ack) {
        self.measure_skew(ctx, source, ack.clock_unix_ms);
        let cluster = self.id;
        if let Some(peer) = self.peers.get_mut(&source) {
            peer.bulk.on_taken(ctx.now.mono_ns, ack.taken);
            self.send_bulk(ctx);
        }
        let Some(peer) = self.peers.get_mut(&source) else { return };
        if ack.number >= peer.next_number {
            // It counts what an earlier life of this node has sent: above that, both agree again.
            peer.next_number = ack.number.min(u64::MAX >> 1).saturating_add(1);
            peer.drop_log();
            return peer.compare_soon(ctx.now.mono_ns, true);
        }
        let mut mark = None;
        while let Some(first) = peer.unacked.front().filter(|first| first.number <= ack.number) {
            mark = Some(first.mark);
            peer.unacked_bytes = peer.unacked_bytes.saturating_sub(first.bytes);
            peer.unacked.pop_front();
        }
        if ack.missing > 0 {
            peer.behind = true;
            peer.compare_soon(ctx.now.mono_ns, true);
        } else if let Some(mark) = mark {
            ctx.out.push(Effect::Acked { cluster, peer: source, mark });
        }
        if peer.stalled && peer.unacked.is_empty() {
            peer.stalled = false;
            peer.compare_soon(ctx.now.mono_ns, true);
        }
    }
}
