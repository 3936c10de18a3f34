//! Writing the real address of a sender down.

use std::net::SocketAddr;

use bytes::Bytes;
use tandem_engine::context::Ctx;
use tandem_engine::module::Call;
use tandem_script::host::{Assign, Called, Index};
use tandem_script::program::Ready;
use tandem_script::sig::FlagSig;
use tandem_script::value::Value;
use tandem_sip::{HeaderName, Message, NameAddr, Uri};

use crate::{Nathelper, address};

const OK: Called = Called::Returned(1);
const FAILED: Called = Called::Returned(-1);

/// `$avp(name)`.
pub(crate) fn check_avp(text: &str) -> Result<(), String> {
    let name = text.strip_prefix("$avp(").and_then(|t| t.strip_suffix(')'));
    match name {
        Some(name) if !name.is_empty() => Ok(()),
        _ => Err("an AVP such as `$avp(rcv)` is wanted".into()),
    }
}

/// The flags of fix_nated_contact().
pub(crate) const CONTACT_FLAGS: &[FlagSig] = &[FlagSig {
    name: "preserve-uri",
    takes_value: false,
    old: "",
    help: "The old host and port stay in ;org=, for restore_nated_ruri().",
}];

fn source_uri(call: &Call<'_, '_, '_>) -> String {
    address::source_uri(&call.cx.node.sockets, &call.ctx.source)
}

pub(crate) fn fix_nated_register(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(avp) = call.state::<Nathelper>().and_then(|n| n.params.received_avp.clone()) else {
        let text = "fix_nated_register() needs the parameter received_avp";
        return call.complain(tandem_engine::log::Level::Error, text);
    };
    let value = Value::str(source_uri(call).into_bytes());
    match call.ctx.avps.set(&avp, Index::None, Assign::Replace, value) {
        Ok(()) => OK,
        Err(e) => call.complain(tandem_engine::log::Level::Error, e),
    }
}

pub(crate) fn fix_nated_contact(call: &mut Call<'_, '_, '_>) -> Called {
    let params = call.text(0);
    let preserves = match call.ready(1) {
        Some(Ready::Flags(flags)) => flags.has(0),
        _ => &call.text(1)[..] == b"preserve-uri",
    };
    if put_source_in_contacts(call.ctx, &params, preserves) { OK } else { FAILED }
}

/// Puts host and port of the source into all Contact URIs of a message; further parameters of
/// these URIs are added. `preserves`: the old host and port stay in a parameter. False: there was
/// nothing to change.
pub fn put_source_in_contacts(ctx: &mut Ctx, params: &[u8], preserves: bool) -> bool {
    let source = ctx.source.addr;
    let mut found = false;
    for addr in ctx.msg.addrs(HeaderName::Contact).flatten() {
        let Some(fixed) = with_source(addr.uri, source, params, preserves) else { continue };
        if let Some(span) = ctx.msg.span_of(addr.uri) {
            // A URI that stood without brackets gets them: its new parameters are its own.
            let bracketed = is_bracketed(&ctx.msg, &addr);
            let text = if bracketed { fixed } else { [b"<", &fixed[..], b">"].concat() };
            ctx.edits.replace(span, text);
            found = true;
        }
    }
    found
}

fn is_bracketed(msg: &Message, addr: &NameAddr<'_>) -> bool {
    let Some(span) = msg.span_of(addr.uri) else { return true };
    let before = span.start.checked_sub(1);
    before.and_then(|at| msg.as_bytes().get(at as usize)) == Some(&b'<')
}

/// The URI with host and port of the source; its own parameters stay, further ones are added.
/// `preserves`: the old host and port become a parameter.
fn with_source(uri: &[u8], source: SocketAddr, params: &[u8], preserves: bool) -> Option<Vec<u8>> {
    let parts = Parts::of(uri)?;
    let host = source.to_string();
    let org = if preserves { [ORG, parts.host_port].concat() } else { Vec::new() };
    Some([parts.before, host.as_bytes(), parts.own, params, &org, parts.headers].concat())
}

/// The parameter that holds host and port of before.
const ORG: &[u8] = b";org=";

/// A SIP URI, cut where addresses are rewritten.
struct Parts<'a> {
    /// Scheme, user and `@`.
    before: &'a [u8],
    host_port: &'a [u8],
    /// Parameters, with their semicolons.
    own: &'a [u8],
    /// From the question mark on.
    headers: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(uri: &'a [u8]) -> Option<Self> {
        let parsed = Uri::parse(uri).ok().filter(Uri::is_sip)?;
        let host_at = (parsed.host.as_ptr() as usize).checked_sub(uri.as_ptr() as usize)?;
        let (before, rest) = uri.split_at_checked(host_at)?;
        let end = rest.iter().position(|b| matches!(b, b';' | b'?')).unwrap_or(rest.len());
        let (host_port, rest) = rest.split_at(end);
        let headers_at = rest.iter().position(|b| *b == b'?').unwrap_or(rest.len());
        let (own, headers) = rest.split_at(headers_at);
        Some(Self { before, host_port, own, headers })
    }
}

/// The URI with host and port of before, if it holds them.
fn restored(uri: &[u8]) -> Option<Vec<u8>> {
    let parts = Parts::of(uri)?;
    let at = parts.own.windows(ORG.len()).position(|w| w.eq_ignore_ascii_case(ORG))?;
    let (own, rest) = parts.own.split_at(at);
    let rest = rest.get(ORG.len()..)?;
    let end = rest.iter().position(|b| *b == b';').unwrap_or(rest.len());
    let (host, others) = rest.split_at(end);
    let uri = [parts.before, host, own, others, parts.headers].concat();
    Uri::parse(&uri).is_ok().then_some(uri)
}

pub(crate) fn restore_nated_ruri(call: &mut Call<'_, '_, '_>) -> Called {
    match restored(call.ctx.request_uri()) {
        Some(uri) => {
            call.ctx.target.uri = Some(Bytes::from(uri));
            OK
        }
        None => FAILED,
    }
}

pub(crate) fn add_rcv_param(call: &mut Call<'_, '_, '_>) -> Called {
    let in_uri = call.int(0).unwrap_or(0) != 0;
    let source = source_uri(call);
    let ctx = &mut *call.ctx;
    let mut found = false;
    for value in ctx.msg.values(HeaderName::Contact) {
        let Ok(addr) = NameAddr::parse(value.bytes) else { continue };
        let part = if in_uri { addr.uri } else { value.bytes };
        if let Some(span) = ctx.msg.span_of(part) {
            // In a URI the colons of another URI are fine, as a header parameter it is quoted.
            let text = if in_uri {
                format!(";received={source}")
            } else {
                format!(";received=\"{source}\"")
            };
            ctx.edits.insert_after(span.end, Bytes::from(text));
            found = true;
        }
    }
    if found { OK } else { FAILED }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_become_those_of_the_source_and_parameters_stay() {
        let fix = |uri: &str, params: &str| {
            let source = "203.0.113.7:4000".parse().unwrap();
            let fixed = with_source(uri.as_bytes(), source, params.as_bytes(), false)?;
            Some(String::from_utf8(fixed).unwrap())
        };
        assert_eq!(
            fix("sip:al@10.0.0.1:5060;ob?X=1", ";nat=yes").as_deref(),
            Some("sip:al@203.0.113.7:4000;ob;nat=yes?X=1")
        );
        assert_eq!(fix("sip:10.0.0.1", "").as_deref(), Some("sip:203.0.113.7:4000"));
        assert_eq!(fix("tel:+1", ""), None);
    }

    #[test]
    fn a_preserved_uri_comes_back_as_it_was() {
        for uri in ["sip:al@10.0.0.1:5060;ob?X=1", "sip:10.0.0.1", "sips:a@[::1]:7;x=1;y"] {
            let source = "203.0.113.7:4000".parse().unwrap();
            let fixed = with_source(uri.as_bytes(), source, b";nat=yes", true).unwrap();
            let back = String::from_utf8(restored(&fixed).unwrap()).unwrap();
            assert_eq!(back.replace(";nat=yes", ""), uri);
        }
        assert_eq!(restored(b"sip:a@h"), None);
        assert_eq!(restored(b"sip:a@h;org="), None);
    }
}
