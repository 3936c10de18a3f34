//! Counting CSeq up.

use tandem_dialog::Dialogs;
use tandem_engine::context::Ctx;
use tandem_engine::log::Level;
use tandem_engine::module::{Call, Cx};
use tandem_script::host::Called;
use tandem_sip::HeaderName;

/// RFC 3261 8.1.1.5.
const CSEQ_MAX: u32 = (1 << 31) - 1;

pub(crate) fn uac_inc_cseq(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(n) = call.int(0).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0) else {
        return call.complain(Level::Error, "CSeq counts up: a number above 0 is wanted");
    };
    match add(call.cx, call.ctx, n) {
        true => Called::Returned(1),
        false => call.complain(Level::Error, "CSeq cannot be read or would be too large"),
    }
}

/// Adds to the number of CSeq, on top of what was added for earlier branches. A dialog has to know:
/// what it sends later goes above.
pub(crate) fn add(cx: &mut Cx<'_>, ctx: &mut Ctx, n: u32) -> bool {
    let Ok(cseq) = ctx.msg.cseq() else { return false };
    let (first, method) = (cseq.number, cseq.method_bytes.to_vec());
    let added = ctx.rewritten.cseq.saturating_add(n);
    let Some(wanted) = first.checked_add(added).filter(|n| *n <= CSEQ_MAX) else {
        return false;
    };
    let dialogs = cx.node.find::<Dialogs>();
    let next = dialogs
        .and_then(|(slot, dialogs)| cx.for_slot(slot, |cx| dialogs.count_up(cx, ctx, wanted)));
    let number = next.unwrap_or(wanted).min(CSEQ_MAX);
    let text = [number.to_string().as_bytes(), b" ", &method].concat();
    let Some(header) = ctx.msg.header(HeaderName::CSeq) else { return false };
    ctx.edits.replace(header.value_span(), text);
    ctx.rewritten.cseq = number.wrapping_sub(first);
    true
}
