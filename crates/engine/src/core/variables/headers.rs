//! Headers by name or by their place, and attribute-value lists.

use tandem_script::host::{Assign, Index};
use tandem_script::value::Value;
use tandem_sip::{HeaderName, Message};

use super::{indexed, message, named, number, of_msg, pick, read, view, write};
use crate::module::{VarCall, VariableDef};

pub(super) const VARIABLES: &[VariableDef] = &[
    named(indexed(write("avp", "Attribute-value list of the message.", avp, set_avp))),
    named(indexed(read("hdr", "Value of a header.", header))),
    indexed(read("hdr_name", "Name of a header, by its place in the message.", header_name)),
    named(read("hdrcnt", "How many headers of a name there are.", header_count)),
    read("ua", "User-Agent.", |c| of_msg(c, Message::user_agent)),
    read("path", "Value of the Path headers.", |c| {
        let Some(msg) = message(c) else { return Value::Null };
        let all: Vec<_> = msg.headers(HeaderName::Path).map(|h| h.unfolded()).collect();
        pick(&all, Index::All)
    }),
];

fn avp(call: &mut VarCall<'_, '_>) -> Value {
    call.ctx.avps.get(call.access.name, call.access.index)
}

fn set_avp(call: &mut VarCall<'_, '_>, how: Assign, value: Value) -> Result<(), String> {
    call.ctx.avps.set(call.access.name, call.access.index, how, value)
}

fn header(call: &mut VarCall<'_, '_>) -> Value {
    let Some(msg) = message(call) else { return Value::Null };
    let mut values = msg.headers_by_text(call.access.name);
    // The first one is what nearly every script asks for.
    if matches!(call.access.index, Index::None | Index::Append) {
        let Some(first) = values.next() else { return Value::Null };
        return match msg.span_of(first.value()).filter(|_| !first.value().contains(&b'\n')) {
            Some(span) => Value::Str(msg.bytes().slice(span.range())),
            None => Value::str(first.unfolded().into_owned()),
        };
    }
    let all: Vec<_> = values.map(|h| h.unfolded()).collect();
    pick(&all, call.access.index)
}

fn header_name(call: &mut VarCall<'_, '_>) -> Value {
    let Some(msg) = message(call) else { return Value::Null };
    let names: Vec<&[u8]> = msg.all_headers().map(|h| h.name_bytes()).collect();
    pick(&names, call.access.index)
}

fn header_count(call: &mut VarCall<'_, '_>) -> Value {
    let name = call.access.name;
    number(view(call, |m| Some(m.headers_by_text(name).count() as u32)))
}
