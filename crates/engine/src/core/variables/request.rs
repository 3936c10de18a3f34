//! The first line, the message as a whole, its flags.

use tandem_script::host::Assign;
use tandem_script::value::Value;
use tandem_sip::Message;

use super::{
    bytes, flag_mask, flag_names, named, number, of_msg, read, some, text, uri_host, uri_port,
    uri_transport, uri_user, view, write,
};
use crate::module::{VarCall, VariableDef};

pub(super) const VARIABLES: &[VariableDef] = &[
    read("ci", "Call-ID.", |c| of_msg(c, Message::call_id)),
    read("cs", "CSeq number.", |c| number(view(c, |m| m.cseq().ok().map(|s| s.number)))),
    read("cl", "Content-Length.", |c| number(view(c, |m| m.content_length().ok().flatten()))),
    read("mb", "The whole message.", |c| of_msg(c, |m| Some(m.as_bytes()))),
    read("ml", "Length of the message.", |c| number(view(c, |m| Some(m.as_bytes().len() as u32)))),
    read("mi", "Number of the message within its worker.", |c| Value::Int(c.ctx.id as i32)),
    read("mf", "Names of the message flags that are set.", |c| {
        text(flag_names(&c.cx.worker.script.program.message_flags, c.ctx.flags))
    }),
    read("rm", "Method; of a reply, that of its CSeq.", |c| of_msg(c, |m| some(m.method_bytes()))),
    read("rs", "Status code of the reply.", |c| number(view(c, status))),
    read("rr", "Reason phrase of the reply.", |c| of_msg(c, |m| m.is_reply().then(|| m.reason()))),
    read("ou", "R-URI as received.", |c| of_msg(c, |m| some(m.request_uri()))),
    read("ouri", "R-URI as received.", |c| of_msg(c, |m| some(m.request_uri()))),
    read("oU", "User of the R-URI as received.", |c| of_msg(c, |m| uri_user(m.request_uri()))),
    read("od", "Domain of the R-URI as received.", |c| of_msg(c, |m| uri_host(m.request_uri()))),
    read("op", "Port of the R-URI as received, or the default one.", |c| {
        view(c, |m| Some(uri_port(m.request_uri()))).unwrap_or_default()
    }),
    read("oP", "Transport of the R-URI as received.", |c| {
        view(c, |m| Some(uri_transport(m.request_uri()))).unwrap_or_default()
    }),
    named(write("msg.flag", "A message flag by name, 0 or 1.", flag, set_flag)),
    read("msg.is_request", "1 for a request, 0 for a reply.", |c| {
        number(view(c, |m| Some(u32::from(m.is_request()))))
    }),
    read("msg.type", "\"request\" or \"reply\".", |c| {
        bytes(view(c, |m| Some(if m.is_request() { &b"request"[..] } else { b"reply" })))
    }),
];

fn status(msg: &Message) -> Option<u32> {
    msg.is_reply().then(|| u32::from(msg.status()))
}

fn flag(call: &mut VarCall<'_, '_>) -> Value {
    let mask =
        flag_mask(&call.cx.worker.script.program.message_flags, call.access.name).unwrap_or(0);
    Value::Int(i32::from(call.ctx.flags & mask != 0))
}

fn set_flag(call: &mut VarCall<'_, '_>, _: Assign, value: Value) -> Result<(), String> {
    let mask = flag_mask(&call.cx.worker.script.program.message_flags, call.access.name);
    let mask =
        mask.ok_or("a name that is put together at run time must be that of a flag of the script")?;
    if value.is_true() {
        call.ctx.flags |= mask;
    } else {
        call.ctx.flags &= !mask;
    }
    Ok(())
}
