//! CSeq of requests that pass, when this node has sent requests of its own towards the same side.
//!
//! A side counts the numbers of what it gets (RFC 3261 12.2.2), so what the other side sends has
//! to be above what this node has made up. Replies get the number back that the request had.

use tandem_engine::context::Ctx;
use tandem_sip::{HeaderName, Method};

use crate::change::Change;
use crate::current::Kind;
use crate::id::DialogId;
use crate::local::Renumbered;
use crate::record::{Dialog, Side};
use crate::state::Dialogs;
use tandem_engine::module::Cx;

/// Numbers that are remembered, so that what belongs together keeps one.
const REMEMBERED: usize = 4;

impl Dialogs {
    /// Notes which number a request has got; its ACK or CANCEL gets the same.
    pub(crate) fn keep_number(&self, id: DialogId, one: Renumbered) {
        self.table.local(id, |_, local| {
            let is_same = |r: &Renumbered| {
                (r.towards, r.invite, r.from) == (one.towards, one.invite, one.from)
            };
            local.renumbered.retain(|r| !is_same(r));
            if local.renumbered.len() >= REMEMBERED {
                local.renumbered.remove(0);
            }
            local.renumbered.push(one);
        });
    }

    /// The number of a request within a dialog that a script counts up: `wanted`, or the next one
    /// that its receiver has not seen. What follows in the dialog is above it; the ACK to an
    /// INVITE gets the same. `None`: the message is no request within a dialog.
    pub fn count_up(&self, cx: &mut Cx<'_>, ctx: &Ctx, wanted: u32) -> Option<u32> {
        let current = self.current(ctx)?;
        let Kind::Within(method) = current.kind else { return None };
        if ctx.msg.is_reply() || matches!(method, Method::Ack | Method::Cancel) {
            return None;
        }
        let (id, towards, callee) = (current.id, current.sender.other(), current.callee);
        let leg = |d: &Dialog| match towards {
            Side::Caller => Some(d.caller.generated_cseq),
            Side::Callee => d.callees.get(usize::from(callee)).map(|leg| leg.generated_cseq),
        };
        let generated = self.read(id, leg)??;
        let to = wanted.max(generated.saturating_add(1));
        let (from, invite) = (ctx.msg.cseq().ok()?.number, method == Method::Invite);
        self.keep_number(id, Renumbered { towards, invite, from, to });
        self.try_change(cx, id, Change::Generated { towards, callee, cseq: to });
        Some(to)
    }

    /// Gives a request the number it needs.
    pub(crate) fn renumber(
        &self,
        cx: &mut Cx<'_>,
        ctx: &mut Ctx,
        id: DialogId,
        (towards, callee): (Side, u8),
    ) {
        let Ok(cseq) = ctx.msg.cseq() else { return };
        let (number, method) = (cseq.number, ctx.msg.method());
        let is_invite = matches!(method, Method::Invite | Method::Ack | Method::Cancel);
        let known = self.table.read(id, |e| {
            let leg = match towards {
                Side::Caller => Some(&e.dialog.caller),
                Side::Callee => e.dialog.callees.get(usize::from(callee)),
            };
            let generated = leg.map_or(0, |leg| leg.generated_cseq);
            let fits =
                |r: &&Renumbered| (r.towards, r.invite, r.from) == (towards, is_invite, number);
            (generated, e.local.renumbered.iter().find(fits).map(|r| r.to))
        });
        let (generated, to) = match known {
            None | Some((0, None)) => return,
            Some(known) => known,
        };
        let to = match to {
            Some(to) => to,
            // It belongs to a request that went as it was.
            None if matches!(method, Method::Ack | Method::Cancel) => return,
            None if number > generated => return,
            None => {
                let to = generated.saturating_add(1);
                let one = Renumbered { towards, invite: is_invite, from: number, to };
                self.keep_number(id, one);
                self.try_change(cx, id, Change::Generated { towards, callee, cseq: to });
                to
            }
        };
        if to == number {
            return;
        }
        let text = [to.to_string().as_bytes(), b" ", ctx.msg.method_bytes()].concat();
        if let Some(header) = ctx.msg.header(HeaderName::CSeq) {
            ctx.edits.replace(header.value_span(), text);
            ctx.rewritten.cseq = to.wrapping_sub(number);
        }
    }
}
