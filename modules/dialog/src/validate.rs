//! Whether a request fits its dialog, and making it fit.

use bytes::Bytes;
use tandem_engine::module::Call;
use tandem_engine::sockets::Sockets;
use tandem_script::host::Called;
use tandem_sip::{HeaderName, Message, Method, NameAddr, Uri, uris_equal};

use crate::current::{Current, Kind};
use crate::record::{Leg, Side};
use crate::state::Dialogs;
use crate::values::{NO, OK};

/// The leg that a request goes to.
fn receiver(dialogs: &Dialogs, current: &Current) -> Option<Leg> {
    dialogs.read(current.id, |d| match current.sender.other() {
        Side::Caller => Some(d.caller.clone()),
        Side::Callee => d.callees.get(usize::from(current.callee)).cloned(),
    })?
}

/// -1: CSeq does not rise, -2: the Request-URI is not the Contact, -3: the routes are others,
/// -4: there is no dialog.
pub(crate) fn validate_dialog(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(dialogs) = call.state::<Dialogs>() else { return Called::Returned(-4) };
    let current = dialogs.current(call.ctx);
    let Some(current) = current.filter(|c| matches!(c.kind, Kind::Within(_))) else {
        return Called::Returned(-4);
    };
    let Some(leg) = receiver(&dialogs, &current) else { return Called::Returned(-4) };
    let Ok(cseq) = call.ctx.msg.cseq() else { return Called::Returned(-1) };
    let before = current.work.lock().cseq_before;
    let rises = match current.kind {
        // These have the number of their INVITE.
        Kind::Within(Method::Ack | Method::Cancel) => cseq.number <= leg.cseq,
        _ => cseq.number > before,
    };
    if !rises {
        return Called::Returned(-1);
    }
    let same = |a: &[u8], b: &[u8]| match (Uri::parse(a), Uri::parse(b)) {
        (Ok(a), Ok(b)) => uris_equal(&a, &b),
        _ => a == b,
    };
    let target = call.ctx.request_uri();
    if !leg.contact.is_empty() && !same(target, &leg.contact) && !same(target, &leg.advertised) {
        return Called::Returned(-2);
    }
    match routes_fit(&call.cx.node.sockets, &call.ctx.msg, &leg.route_set) {
        true => OK,
        false => Called::Returned(-3),
    }
}

/// Whether the Routes behind our own are those of the dialog.
fn routes_fit(sockets: &Sockets, msg: &Message, route_set: &[u8]) -> bool {
    let ours = |uri: &[u8]| {
        Uri::parse(uri).is_ok_and(|uri| sockets.is_myself(uri.host, Some(uri.port.unwrap_or(5060))))
    };
    let uris = msg.values(HeaderName::Route).map(|v| v.bytes);
    let uris = uris.filter_map(|v| NameAddr::parse(v).ok()).map(|addr| addr.uri);
    let given: Vec<&[u8]> = uris.skip_while(|uri| ours(uri)).collect();
    let known: Vec<&[u8]> = uris_of(route_set);
    given.len() == known.len()
        && given.iter().zip(&known).all(|(a, b)| match (Uri::parse(a), Uri::parse(b)) {
            (Ok(a), Ok(b)) => uris_equal(&a, &b),
            _ => false,
        })
}

/// The URIs of a list of routes.
pub(crate) fn uris_of(route_set: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    let mut rest = route_set;
    while let Some(open) = rest.iter().position(|b| *b == b'<') {
        let tail = rest.get(open + 1..).unwrap_or_default();
        let Some(close) = tail.iter().position(|b| *b == b'>') else { break };
        all.push(tail.get(..close).unwrap_or_default());
        rest = tail.get(close + 1..).unwrap_or_default();
    }
    all
}

/// Puts the Contact of the dialog into the Request-URI and its routes into Route and `$du`.
pub(crate) fn fix_route_dialog(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(dialogs) = call.state::<Dialogs>() else { return NO };
    let current = dialogs.current(call.ctx);
    let Some(current) = current.filter(|c| matches!(c.kind, Kind::Within(_))) else { return NO };
    let Some(leg) = receiver(&dialogs, &current) else { return NO };
    if leg.contact.is_empty() {
        return NO;
    }
    let ctx = &mut *call.ctx;
    ctx.target.uri = Some(Bytes::copy_from_slice(&leg.contact));
    for header in ctx.msg.headers(HeaderName::Route) {
        ctx.edits.remove(header.span());
    }
    let first = uris_of(&leg.route_set).first().map(|uri| Bytes::copy_from_slice(uri));
    ctx.target.dst_uri = first;
    ctx.target.set_path(Bytes::copy_from_slice(&leg.route_set));
    OK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_routes_has_uris() {
        let uris = uris_of(b"<sip:a;lr>;x=1,\"n\" <sip:b;lr>");
        assert_eq!(uris, [&b"sip:a;lr"[..], b"sip:b;lr"]);
        assert!(uris_of(b"").is_empty() && uris_of(b"<sip:a").is_empty());
    }
}
