//! Replies of the script.

use tandem_engine::log::Level;
use tandem_engine::module::Call;
use tandem_engine::own_reply::own_reply;
use tandem_script::host::Called;
use tandem_script::sig::Routes;
use tandem_sip::Method;

use crate::record::Event;
use crate::tm::{Begun, Tm};

const OK: Called = Called::Returned(1);
const NO: Called = Called::Returned(-1);

fn code_of(call: &Call<'_, '_, '_>) -> Option<u16> {
    call.int(0).and_then(|c| u16::try_from(c).ok()).filter(|c| (100..=699).contains(c))
}

pub(crate) fn t_reply(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(tm) = call.state::<Tm>() else { return NO };
    let Some(code) = code_of(call) else { return NO };
    if call.ctx.msg.method() == Method::Ack {
        return NO;
    }
    match tm.begin(call.cx, call.ctx) {
        Begun::New(_) | Begun::Existing(_) => {}
        // The reply that was sent then is sent again.
        Begun::Retransmission | Begun::Refused => return OK,
        Begun::Failed => return NO,
    }
    let reason = call.text(1);
    // `local_reply_route` sees the variables of the script.
    let sent = call.sharing_vars(|call| tm.reply_with(call.cx, call.ctx, code, &reason));
    if sent { OK } else { NO }
}

pub(crate) fn t_reply_with_body(call: &mut Call<'_, '_, '_>) -> Called {
    let body = call.text(2).to_vec();
    let before = std::mem::replace(&mut call.ctx.reply_body, body);
    let called = t_reply(call);
    call.ctx.reply_body = before;
    called
}

/// Answers the INVITE of this Call-ID and CSeq; without them, that of the message at hand.
pub(crate) fn t_reply_by_callid(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(tm) = call.state::<Tm>() else { return NO };
    let Some(code) = code_of(call) else { return NO };
    let reason = call.text(1);
    let call_id = if call.given(2) {
        call.text(2)
    } else {
        bytes::Bytes::copy_from_slice(call.ctx.msg.call_id().unwrap_or_default())
    };
    let number = if call.given(3) {
        let text = call.text(3);
        let number = std::str::from_utf8(&text).ok().and_then(|t| t.trim().parse().ok());
        let Some(number) = number else {
            return call.complain(Level::Error, "t_reply_by_callid: the CSeq is no number");
        };
        Some(number)
    } else if call.given(2) {
        None
    } else {
        call.ctx.msg.cseq().map(|c| c.number).ok()
    };
    let Some(tx) = tm.by_call(&call_id, number) else { return NO };
    let bytes = {
        let cell = tx.cell.lock();
        if cell.record.machine.last_code() >= 200 {
            return NO;
        }
        let mut ctx = cell.record.saved.context(Routes::REQUEST);
        ctx.reply_headers.extend_from_slice(&call.ctx.reply_headers);
        own_reply(call.cx.node, &ctx, code, &reason, b"")
    };
    tm.deliver(call.cx, &tx, Event::Local { code, bytes });
    OK
}
