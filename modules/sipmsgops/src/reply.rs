//! Replies of our own, and those that pass.

use tandem_engine::log::Level;
use tandem_engine::module::Call;
use tandem_script::host::Called;

use crate::YES;
use crate::headers::lines;

pub(crate) fn append_to_reply(call: &mut Call<'_, '_, '_>) -> Called {
    let lines = lines(&call.text(0));
    call.ctx.reply_headers.extend_from_slice(&lines);
    YES
}

/// The type of the body is a header like others: `append_to_reply("Content-Type: ...")`.
pub(crate) fn append_body_to_reply(call: &mut Call<'_, '_, '_>) -> Called {
    let text = call.text(0);
    call.ctx.reply_body.extend_from_slice(&text);
    YES
}

pub(crate) fn change_reply_status(call: &mut Call<'_, '_, '_>) -> Called {
    let code = call.int(0).and_then(|c| u16::try_from(c).ok()).filter(|c| (100..700).contains(c));
    let Some(code) = code else {
        return call.complain(Level::Error, "a status goes from 100 to 699");
    };
    let received = call.ctx.msg.status();
    // Provisional and successful replies change the state of transactions and dialogs.
    if code / 100 != received / 100 && (code < 300 || received < 300) {
        return call.complain(Level::Error, "the class of a 1xx or 2xx reply cannot be changed");
    }
    let reason = call.text(1);
    let reason: Vec<u8> = reason.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
    let line = [format!("SIP/2.0 {code} ").as_bytes(), &reason].concat();
    let ctx = &mut *call.ctx;
    ctx.edits.set_first_line(&ctx.msg, line);
    YES
}
