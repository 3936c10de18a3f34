//! From, To, and the other headers that hold the address of somebody.

use tandem_script::value::Value;
use tandem_sip::{HeaderName, Message, NameAddr};

use super::{of_msg, read, some, uri_host, uri_user};
use crate::module::{VarCall, VariableDef};

pub(super) const VARIABLES: &[VariableDef] = &[
    read("fu", "From URI.", |c| of_msg(c, |m| Some(m.from().ok()?.uri))),
    read("from", "From URI.", |c| of_msg(c, |m| Some(m.from().ok()?.uri))),
    read("fU", "User of the From URI.", |c| of_msg(c, |m| uri_user(m.from().ok()?.uri))),
    read("from.user", "User of the From URI.", |c| of_msg(c, |m| uri_user(m.from().ok()?.uri))),
    read("fd", "Domain of the From URI.", |c| of_msg(c, |m| uri_host(m.from().ok()?.uri))),
    read("from.domain", "Domain of the From URI.", |c| of_msg(c, |m| uri_host(m.from().ok()?.uri))),
    read("fn", "Display name of From.", |c| of_msg(c, |m| some(m.from().ok()?.display))),
    read("ft", "Tag of From.", |c| of_msg(c, Message::from_tag)),
    read("tu", "To URI.", |c| of_msg(c, |m| Some(m.to().ok()?.uri))),
    read("to", "To URI.", |c| of_msg(c, |m| Some(m.to().ok()?.uri))),
    read("tU", "User of the To URI.", |c| of_msg(c, |m| uri_user(m.to().ok()?.uri))),
    read("to.user", "User of the To URI.", |c| of_msg(c, |m| uri_user(m.to().ok()?.uri))),
    read("td", "Domain of the To URI.", |c| of_msg(c, |m| uri_host(m.to().ok()?.uri))),
    read("to.domain", "Domain of the To URI.", |c| of_msg(c, |m| uri_host(m.to().ok()?.uri))),
    read("tn", "Display name of To.", |c| of_msg(c, |m| some(m.to().ok()?.display))),
    read("tt", "Tag of To.", |c| of_msg(c, Message::to_tag)),
    read("ai", "URI of P-Asserted-Identity.", |c| uri(c, HeaderName::PAssertedIdentity)),
    read("pu", "URI of P-Preferred-Identity.", |c| uri(c, PREFERRED)),
    read("pU", "User of P-Preferred-Identity.", |c| of(c, PREFERRED, |a| uri_user(a.uri))),
    read("pd", "Domain of P-Preferred-Identity.", |c| of(c, PREFERRED, |a| uri_host(a.uri))),
    read("pn", "Display name of P-Preferred-Identity.", |c| of(c, PREFERRED, |a| some(a.display))),
    read("re", "URI of Remote-Party-ID.", |c| uri(c, HeaderName::RemotePartyId)),
    read("rt", "URI of Refer-To.", |c| uri(c, HeaderName::ReferTo)),
    read("di", "URI of Diversion.", |c| uri(c, HeaderName::Diversion)),
    read("dir", "Reason in Diversion.", |c| {
        of(c, HeaderName::Diversion, |a| a.params.value(b"reason").map(unquoted))
    }),
    read("dip", "Privacy in Diversion.", |c| {
        of(c, HeaderName::Diversion, |a| a.params.value(b"privacy").map(unquoted))
    }),
];

const PREFERRED: HeaderName = HeaderName::PPreferredIdentity;

/// A part of the first address in a header.
fn of(
    call: &VarCall<'_, '_>,
    name: HeaderName,
    part: impl for<'a> FnOnce(NameAddr<'a>) -> Option<&'a [u8]>,
) -> Value {
    of_msg(call, |m| {
        let first = m.values(name).next()?;
        part(NameAddr::parse(first.bytes).ok()?)
    })
}

fn uri(call: &VarCall<'_, '_>, name: HeaderName) -> Value {
    of(call, name, |a| Some(a.uri))
}

fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value)
}
