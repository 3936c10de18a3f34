//! BYEs that came before their dialog: a node that has just started, or just got the address, may
//! be asked to end a call that its peer has not told it of yet. The BYE goes on by its routes, and
//! the call ends here when its dialog comes.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tandem_clock::{Mono, SEC};
use tandem_engine::module::Cx;
use tandem_sip::{Message, Method};

use crate::change::{Change, Origin};
use crate::id::DialogId;
use crate::record::{Dialog, EndReason, Side, Text};
use crate::state::Dialogs;

/// BYEs that are remembered, at most.
const ORPHANS_MAX: usize = 10_000;
/// Call-ID and tags of one, at most: what phones use is far shorter.
const TEXTS_BYTES_MAX: usize = 512;
/// How long a dialog may come behind its BYE.
const PATIENCE_NS: u64 = 60 * SEC;

#[derive(Debug, Default)]
pub(crate) struct Orphans(Mutex<BTreeMap<u64, Orphan>>);

#[derive(Debug)]
struct Orphan {
    call_id: Text,
    from: Text,
    to: Text,
    at: Mono,
}

impl Dialogs {
    /// Remembers a BYE that names a dialog which is not here, if peers could still bring it.
    pub(crate) fn remember_bye(&self, cx: &Cx<'_>, did: DialogId, msg: &Message) {
        if msg.method() != Method::Bye || self.params.cluster == 0 {
            return;
        }
        let (Some(call_id), Some(from), Some(to)) = (msg.call_id(), msg.from_tag(), msg.to_tag())
        else {
            return;
        };
        if call_id.len() + from.len() + to.len() > TEXTS_BYTES_MAX {
            return;
        }
        let now = cx.now.mono_ns;
        let mut orphans = self.orphans.0.lock();
        // One goes for one that comes, so that a flood costs no walk; which one does not matter.
        if orphans.len() >= ORPHANS_MAX {
            orphans.pop_first();
        }
        let (call_id, from, to) = (call_id.into(), from.into(), to.into());
        orphans.insert(did.number(), Orphan { call_id, from, to, at: now });
    }

    /// A dialog has come from a peer: ends it if its BYE was here before.
    pub(crate) fn end_if_orphaned(&self, cx: &mut Cx<'_>, id: DialogId) {
        let Some(orphan) = self.orphans.0.lock().remove(&id.number()) else { return };
        let ago_ns = cx.now.mono_ns.saturating_sub(orphan.at);
        if ago_ns >= PATIENCE_NS {
            return;
        }
        let sender = |d: &Dialog| {
            let is_it = d.state.is_answered() && d.has_call_id(&orphan.call_id);
            if is_it { d.sender(&orphan.from, &orphan.to) } else { None }
        };
        let reason = match self.read(id, sender).flatten() {
            Some((Side::Caller, _)) => EndReason::DownstreamBye,
            Some((Side::Callee, _)) => EndReason::UpstreamBye,
            None => return,
        };
        let at_s = u32::try_from(cx.now.unix_s().saturating_sub(ago_ns / SEC)).unwrap_or(u32::MAX);
        let ended = Change::EndedBefore { reason, at_s };
        let _ = self.change_by(cx, id, Origin::Local, ended, None);
    }
}
