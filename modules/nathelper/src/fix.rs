//! Writing the real address of a sender down.

use std::net::SocketAddr;

use bytes::Bytes;
use tandem_engine::module::Call;
use tandem_script::host::{Assign, Called, Index};
use tandem_script::value::Value;
use tandem_sip::{HeaderName, Message, NameAddr, Uri};

use crate::Nathelper;

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

/// `sip:ip:port`: the source of a message as a URI.
fn source_uri(addr: SocketAddr) -> String {
    format!("sip:{addr}")
}

pub(crate) fn fix_nated_register(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(avp) = call.state::<Nathelper>().and_then(|n| n.received_avp.clone()) else {
        let text = "fix_nated_register() needs the parameter received_avp";
        return call.complain(tandem_engine::log::Level::Error, text);
    };
    let value = Value::str(source_uri(call.ctx.source.addr).into_bytes());
    match call.ctx.avps.set(&avp, Index::None, Assign::Replace, value) {
        Ok(()) => OK,
        Err(e) => call.complain(tandem_engine::log::Level::Error, e),
    }
}

pub(crate) fn fix_nated_contact(call: &mut Call<'_, '_, '_>) -> Called {
    let params = call.text(0);
    let source = call.ctx.source.addr;
    let ctx = &mut *call.ctx;
    let mut found = false;
    for addr in ctx.msg.addrs(HeaderName::Contact).flatten() {
        let Some(fixed) = with_source(addr.uri, source, &params) else { continue };
        if let Some(span) = ctx.msg.span_of(addr.uri) {
            // A URI that stood without brackets gets them: its new parameters are its own.
            let bracketed = is_bracketed(&ctx.msg, &addr);
            let text = if bracketed { fixed } else { [b"<", &fixed[..], b">"].concat() };
            ctx.edits.replace(span, text);
            found = true;
        }
    }
    if found { OK } else { FAILED }
}

fn is_bracketed(msg: &Message, addr: &NameAddr<'_>) -> bool {
    let Some(span) = msg.span_of(addr.uri) else { return true };
    let before = span.start.checked_sub(1);
    before.and_then(|at| msg.as_bytes().get(at as usize)) == Some(&b'<')
}

/// The URI with host and port of the source; its own parameters stay, further ones are added.
fn with_source(uri: &[u8], source: SocketAddr, params: &[u8]) -> Option<Vec<u8>> {
    let parsed = Uri::parse(uri).ok().filter(Uri::is_sip)?;
    let host_at = (parsed.host.as_ptr() as usize).checked_sub(uri.as_ptr() as usize)?;
    let rest = uri.get(host_at + parsed.host.len()..)?;
    let rest_at = rest.iter().position(|b| matches!(b, b';' | b'?')).unwrap_or(rest.len());
    let (own, headers) = {
        let rest = rest.get(rest_at..)?;
        let at = rest.iter().position(|b| *b == b'?').unwrap_or(rest.len());
        rest.split_at(at)
    };
    let host = source.to_string();
    Some([uri.get(..host_at)?, host.as_bytes(), own, params, headers].concat())
}

pub(crate) fn add_rcv_param(call: &mut Call<'_, '_, '_>) -> Called {
    let in_uri = call.int(0).unwrap_or(0) != 0;
    let source = source_uri(call.ctx.source.addr);
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
            let fixed = with_source(uri.as_bytes(), source, params.as_bytes())?;
            Some(String::from_utf8(fixed).unwrap())
        };
        assert_eq!(
            fix("sip:al@10.0.0.1:5060;ob?X=1", ";nat=yes").as_deref(),
            Some("sip:al@203.0.113.7:4000;ob;nat=yes?X=1")
        );
        assert_eq!(fix("sip:10.0.0.1", "").as_deref(), Some("sip:203.0.113.7:4000"));
        assert_eq!(fix("tel:+1", ""), None);
    }
}
