//! Ends that stock peers hear of twice. What such a peer has missed is repeated to it, and its
//! workers take packets in no order: an end that comes close behind a repeat may be taken before
//! it, and the call is there again.

use std::sync::atomic::{AtomicU64, Ordering};

use tandem_bin::dialog as wire;
use tandem_clock::{Mono, SEC};
use tandem_cluster::Change as Telling;
use tandem_engine::module::{Cx, Timer};
use tandem_engine::outbox::Record;

use super::stock;
use crate::id::DialogId;
use crate::record::{Dialog, State};
use crate::state::Dialogs;
use crate::table::Table;

/// Tells stock peers of an end again; the id is that of the dialog.
pub(crate) const AGAIN: u32 = 72;
/// After this: what went before has been taken by then, and an ended dialog is still known.
const AGAIN_MS: u64 = 3_000;
/// A repeat may be under way for so long.
const UNDER_WAY_NS: u64 = 10 * SEC;

/// When something was repeated to a stock peer the last time; 0: never.
#[derive(Debug, Default)]
pub(crate) struct Repeated(AtomicU64);

impl Repeated {
    pub(super) fn note(&self, now: Mono) {
        self.0.store(now.max(1), Ordering::Relaxed);
    }

    fn is_under_way(&self, now: Mono) -> bool {
        let at = self.0.load(Ordering::Relaxed);
        at != 0 && now.saturating_sub(at) < UNDER_WAY_NS
    }
}

impl Dialogs {
    pub(crate) fn plan_end_again(&self, cx: &mut Cx<'_>, id: DialogId) {
        if self.repeated.is_under_way(cx.now.mono_ns) && cx.node.outbox.has_stock() {
            cx.set_timer(cx.now.after_ms(AGAIN_MS), Timer { kind: AGAIN, id: id.number() });
        }
    }

    pub(crate) fn tell_end_again(&self, cx: &Cx<'_>, id: DialogId) {
        let is_over = |d: &Dialog| d.state == State::Deleted && d.answered_s != 0;
        let packet = self.read(id, |d| is_over(d).then(|| stock::name(d))).flatten();
        let Some(packet) = packet.map(wire::DialogPacket::Deleted) else { return };
        let (kind, version) = (packet.packet_type(), wire::VERSION);
        let Ok(bytes) = packet.encode() else { return };
        let change = Telling::same(kind, version, bytes, cx.node.outbox.stamp(cx.now));
        let record = Record { slot: self.slot, part: 0, change };
        cx.node.outbox.append(Table::shard_of(id), record);
    }
}
