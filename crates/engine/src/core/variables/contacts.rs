//! The instances of Contact.

use tandem_script::value::Value;
use tandem_sip::{Contact, ContactList, Message, unquote};

use super::{indexed, message, named, pick, read, some};
use crate::module::{VarCall, VariableDef};

pub(super) const VARIABLES: &[VariableDef] = &[
    indexed(read("ct", "An instance of Contact.", |c| {
        let Some(msg) = message(c) else { return Value::Null };
        pick(&all(msg), c.access.index)
    })),
    named(indexed(read(
        "ct.fields",
        "name, uri, q, expires, methods, received or params of an instance of Contact.",
        fields,
    ))),
];

/// Every instance as it is written; `*` is one.
fn all(msg: &Message) -> Vec<&[u8]> {
    match msg.contact_list() {
        Ok(ContactList::Star) => vec![b"*"],
        Ok(list) => list.contacts().iter().map(|c| c.raw).collect(),
        Err(_) => Vec::new(),
    }
}

fn fields(call: &mut VarCall<'_, '_>) -> Value {
    let Some(msg) = message(call) else { return Value::Null };
    let Ok(list) = msg.contact_list() else { return Value::Null };
    let name = call.access.name;
    let values: Vec<Option<Vec<u8>>> = list.contacts().iter().map(|c| field(c, name)).collect();
    // An instance without the field keeps its place.
    let values: Vec<Vec<u8>> = values.into_iter().map(Option::unwrap_or_default).collect();
    match pick(&values, call.access.index) {
        Value::Str(found) if found.is_empty() => Value::Null,
        found => found,
    }
}

fn field(contact: &Contact<'_>, name: &[u8]) -> Option<Vec<u8>> {
    let param = |name: &[u8]| contact.params().value(name).map(|v| unquote(v).into_owned());
    match name {
        b"name" => some(contact.addr.display).map(<[u8]>::to_vec),
        b"uri" => Some(contact.uri().to_vec()),
        b"q" | b"expires" | b"methods" | b"received" => param(name),
        b"params" => {
            // Everything behind the address, without the first semicolon.
            let uri_end = contact.raw.windows(contact.uri().len().max(1));
            let at = uri_end.into_iter().position(|w| w == contact.uri())? + contact.uri().len();
            let rest = contact.raw.get(at..)?;
            let semicolon = rest.iter().position(|b| *b == b';')?;
            some(rest.get(semicolon + 1..)?.trim_ascii()).map(<[u8]>::to_vec)
        }
        _ => None,
    }
}
