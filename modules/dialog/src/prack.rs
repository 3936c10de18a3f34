//! PRACK in the name of a caller, for dialogs made with auto-prack (RFC 3262).

use tandem_engine::log::Level;
use tandem_engine::module::{Cx, Timer};
use tandem_sip::{HeaderName, Message};

use crate::current::Current;
use crate::flags::Flags;
use crate::id::DialogId;
use crate::record::{EndReason, Side};
use crate::sequential::{Draft, Purpose};
use crate::state::Dialogs;

/// The timer of a PRACK without an answer; the id is its token.
pub(crate) const PRACK: u32 = 1;

impl Dialogs {
    /// A provisional reply came; one that wants to be acknowledged is.
    pub(crate) fn auto_prack(&self, cx: &mut Cx<'_>, current: &Current, reply: &Message) {
        let wants = self.read(current.id, |d| d.flags.has(Flags::AUTO_PRACK));
        if wants != Some(true) || !reply.has_token(HeaderName::Require, b"100rel") {
            return;
        }
        let rseq = reply.header_by_text(b"RSeq");
        let rseq = rseq.and_then(|h| std::str::from_utf8(h.value()).ok()?.trim().parse().ok());
        let (Some(rseq), Some(tag)) = (rseq, reply.to_tag()) else { return };
        let Ok(cseq) = reply.cseq() else { return };
        // A reply that comes again was acknowledged before.
        let callee = self.table.local(current.id, |d, local| {
            let at = d.callee_at(tag)?;
            let known = local.pracked.iter_mut().find(|(callee, _)| *callee == at);
            match known {
                Some((_, last)) if *last >= rseq => return None,
                Some((_, last)) => *last = rseq,
                None => local.pracked.push((at, rseq)),
            }
            Some(at)
        });
        let Some(callee) = callee.flatten() else { return };
        let number = cseq.number;
        let mut draft = Draft::of("PRACK");
        draft.callee = Some(callee);
        draft.headers = format!("RAck: {rseq} {number} INVITE\r\n").into_bytes();
        match self.send(cx, current.id, Side::Callee, draft, Purpose::Prack) {
            Ok(token) => {
                let at = cx.now.after_s(u64::from(self.params.prack_timeout_s));
                cx.set_timer(at, Timer { kind: PRACK, id: token });
            }
            Err(why) => self.prack_failed(cx, current.id, &why),
        }
    }

    /// No answer came in time.
    pub(crate) fn prack_late(&self, cx: &mut Cx<'_>, token: u64) {
        if let Some(sent) = self.open.take(token) {
            self.prack_failed(cx, sent.id, "there is no answer");
        }
    }

    pub(crate) fn prack_failed(&self, cx: &mut Cx<'_>, id: DialogId, why: &str) {
        cx.log(Level::Warning, format!("dialog {id}: PRACK failed: {why}"));
        if self.params.hangs_up_unpracked {
            self.hang_up(cx, id, EndReason::Failed, b"");
        }
    }
}
