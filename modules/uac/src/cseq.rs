//! Counting CSeq up.
//!
//! What was added to the first request of a call is missing in all that its caller sends later. A
//! dialog makes up for it; without one, a parameter of the Record-Route says how much it is.

use tandem_dialog::Dialogs;
use tandem_engine::context::Ctx;
use tandem_engine::log::Level;
use tandem_engine::module::{Call, Cx};
use tandem_script::host::Called;
use tandem_sip::{HeaderName, Params};

use crate::replace::keep;

/// RFC 3261 8.1.1.5.
const CSEQ_MAX: u32 = (1 << 31) - 1;
/// The parameter of the Record-Route.
const PARAM: &[u8] = b"vsc";
/// More is not believed of a Route.
const ADDED_MAX: u32 = 1_000;

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
    let first = cseq.number;
    let added = ctx.rewritten.cseq.saturating_add(n);
    let Some(wanted) = first.checked_add(added).filter(|n| *n <= CSEQ_MAX) else {
        return false;
    };
    let dialogs = cx.node.find::<Dialogs>();
    let next = dialogs
        .as_ref()
        .and_then(|(slot, dialogs)| cx.for_slot(*slot, |cx| dialogs.count_up(cx, ctx, wanted)));
    let number = next.unwrap_or(wanted).min(CSEQ_MAX);
    if !write(ctx, number) {
        return false;
    }
    let has_dialog = dialogs.is_some_and(|(_, dialogs)| dialogs.current(ctx).is_some());
    if ctx.msg.to_tag().is_none() && !has_dialog {
        keep(ctx, PARAM, &ctx.rewritten.cseq.to_string());
    }
    true
}

/// Counts a later request of the caller up as its first one was; its Route says how much.
pub(crate) fn count_on(ctx: &mut Ctx, params: &[u8]) {
    let params = Params::new(params);
    let added = params.value(PARAM).and_then(|n| std::str::from_utf8(n).ok()?.parse::<u32>().ok());
    let Some(added) = added.filter(|n| (1..=ADDED_MAX).contains(n)) else { return };
    let is_of_caller = params.value(b"ftag").is_some_and(|tag| ctx.msg.from_tag() == Some(tag));
    // A dialog may have done it.
    if !is_of_caller || ctx.rewritten.cseq != 0 {
        return;
    }
    let number = ctx.msg.cseq().ok().and_then(|cseq| cseq.number.checked_add(added));
    if let Some(number) = number.filter(|n| *n <= CSEQ_MAX) {
        write(ctx, number);
    }
}

fn write(ctx: &mut Ctx, number: u32) -> bool {
    let (Ok(cseq), Some(header)) = (ctx.msg.cseq(), ctx.msg.header(HeaderName::CSeq)) else {
        return false;
    };
    let text = [number.to_string().as_bytes(), b" ", cseq.method_bytes].concat();
    let added = number.wrapping_sub(cseq.number);
    ctx.edits.replace(header.value_span(), text);
    ctx.rewritten.cseq = added;
    true
}
