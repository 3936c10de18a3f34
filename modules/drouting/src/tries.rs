//! What one request has left to try. It lives in AVPs, so that it goes with the transaction, to
//! another node too.

use bytes::Bytes;
use tandem_engine::context::Ctx;
use tandem_engine::sockets::SocketId;
use tandem_script::host::{Assign, Index};
use tandem_script::value::Value;
use tandem_sip::Uri;

use crate::destinations::Gateway;
use crate::functions::Flags;
use crate::params::Avps;
use crate::rules::Place;
use crate::table::{Hop, Table, Whitelist};

/// Stands for no value in a list whose places count.
const NONE: &[u8] = b"-";

/// What a routing goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) group: u32,
    pub(crate) flags: Flags,
    pub(crate) number: String,
    /// The Request-URI that was routed.
    pub(crate) ruri: String,
    pub(crate) whitelist: Whitelist,
}

/// Parameters of a Request-URI that say where it goes, which the gateway says now.
const OF_THE_HOST: [&str; 4] = ["transport", "maddr", "lr", "ttl"];

/// The Request-URI for a gateway: its address, and the number with its prefix. What else the URI
/// says of the number (`user=phone`) stays.
pub(crate) fn uri_for(gateway: &Gateway, ruri: &str) -> Option<String> {
    let uri = Uri::parse(ruri.as_bytes()).ok()?;
    let user = String::from_utf8_lossy(uri.user.unwrap_or_default());
    let stripped: String = user.chars().skip(gateway.strip).collect();
    let mut text = String::from("sip:");
    text.push_str(&gateway.prefix);
    text.push_str(&stripped);
    if !gateway.prefix.is_empty() || !stripped.is_empty() {
        text.push('@');
    }
    text.push_str(&gateway.hostport);
    let host = (uri.host.as_ptr() as usize).saturating_sub(ruri.as_ptr() as usize);
    let behind = ruri.get(host + uri.host.len()..).unwrap_or_default();
    let params = behind.split('?').next().unwrap_or_default();
    for param in params.split(';').skip(1).filter(|param| !param.is_empty()) {
        let name = param.split('=').next().unwrap_or_default();
        if !OF_THE_HOST.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            text.push(';');
            text.push_str(param);
        }
    }
    Uri::parse(text.as_bytes()).ok()?;
    Some(text)
}

/// Puts the first destination into the Request-URI and the others aside.
pub(crate) fn put(
    ctx: &mut Ctx,
    avps: &Avps,
    table: &Table,
    ruri: &str,
    hops: &[Hop],
) -> Result<(), String> {
    let last = last_socket(ctx, avps, table);
    clear(ctx, avps);
    let mut first = true;
    for hop in hops {
        let Some(gateway) = table.gateway(hop.gateway) else { continue };
        let uri = uri_for(gateway, ruri).ok_or_else(|| {
            format!("gateway `{}`: {ruri:?} gives no URI with its prefix", gateway.id)
        })?;
        let carrier = hop.carrier.and_then(|at| table.of.carriers.get(at as usize));
        let socket = Some(gateway.socket_text.as_bytes()).filter(|t| !t.is_empty());
        if first {
            set_target(ctx, Bytes::from(uri), gateway.socket, last);
        } else {
            append(ctx, &avps.ruri, uri.as_bytes())?;
            append(ctx, &avps.socket, socket.unwrap_or(NONE))?;
        }
        first = false;
        append(ctx, &avps.gateway, gateway.id.as_bytes())?;
        if let Some(name) = &avps.prefix {
            append(ctx, name, gateway.prefix.as_bytes())?;
        }
        let carrier = carrier.map_or(b"".as_slice(), |carrier| carrier.id.as_bytes());
        append(ctx, &avps.through, carrier)?;
        if let Some(name) = &avps.carrier {
            append(ctx, name, carrier)?;
        }
    }
    Ok(())
}

/// Tells of the rule that was taken, and keeps where a fallback goes on.
pub(crate) fn put_rule(
    ctx: &mut Ctx,
    avps: &Avps,
    (id, attrs): (&str, &str),
    prefix: &str,
    state: Option<String>,
) -> Result<(), String> {
    append(ctx, &avps.rule_attrs, attrs.as_bytes())?;
    if let Some(name) = &avps.rule {
        append(ctx, name, id.as_bytes())?;
    }
    if let Some(name) = &avps.rule_prefix {
        append(ctx, name, prefix.as_bytes())?;
    }
    if let Some(state) = state {
        append(ctx, &avps.state, state.as_bytes())?;
    }
    Ok(())
}

/// Takes the next destination that can be used; `Some(None)`: its gateway is not in the tables
/// any more, and its URI is used all the same.
pub(crate) fn next(ctx: &mut Ctx, avps: &Avps, table: &Table) -> Option<Option<Hop>> {
    let last = last_socket(ctx, avps, table);
    loop {
        let uri = pop(ctx, &avps.ruri)?;
        let socket = pop(ctx, &avps.socket);
        // The heads of these are those of the destination that was tried.
        let others = [avps.prefix.as_ref(), avps.carrier.as_ref()];
        for name in [&avps.gateway, &avps.through].into_iter().chain(others.into_iter().flatten()) {
            pop(ctx, name);
        }
        let known = current(ctx, avps).and_then(|id| table.of.gateway(&id));
        if known.is_some_and(|(_, gateway)| !gateway.status.is_up()) {
            continue;
        }
        let socket = known
            .and_then(|(_, gateway)| gateway.socket)
            .filter(|_| socket.as_deref().is_none_or(|text| text != NONE));
        set_target(ctx, uri, socket, last);
        // A gateway that the list names itself has none, though carriers may have it, too.
        let through = ctx.avps.first(&avps.through).into_bytes().unwrap_or_default();
        let carrier = std::str::from_utf8(&through).ok().and_then(|id| table.of.carrier(id));
        let carrier = carrier.map(|(at, _)| at);
        return Some(known.map(|(gateway, _)| Hop { gateway, carrier }));
    }
}

/// The attributes of the rule whose destinations are tried.
pub(crate) fn rule_attrs(ctx: &Ctx, avps: &Avps) -> Option<String> {
    let attrs = ctx.avps.first(&avps.rule_attrs).into_bytes()?;
    Some(String::from_utf8_lossy(&attrs).into_owned())
}

/// The gateway that is in use.
pub(crate) fn current(ctx: &Ctx, avps: &Avps) -> Option<String> {
    let id = ctx.avps.first(&avps.gateway).into_bytes()?;
    Some(String::from_utf8_lossy(&id).into_owned())
}

/// The socket of the gateway that was tried last, which is not that of the next one.
fn last_socket(ctx: &Ctx, avps: &Avps, table: &Table) -> Option<SocketId> {
    current(ctx, avps).and_then(|id| table.of.gateway(&id)?.1.socket)
}

/// A plan and a place as one text.
pub(crate) fn save(plan: &Plan, place: Place) -> String {
    let Plan { group, flags, number, ruri, whitelist } = plan;
    let Place { depth, index } = place;
    let whole = u8::from(flags.whole);
    let list = whitelist.as_ref().map_or("-".to_owned(), |list| format!("={}", list.join(",")));
    [group.to_string(), whole.to_string(), depth.to_string(), index.to_string(), list].join("\n")
        + &format!("\n{number}\n{ruri}")
}

/// The same for the other direction.
pub(crate) fn restore(ctx: &Ctx, avps: &Avps) -> Option<(Plan, Place)> {
    let text = ctx.avps.first(&avps.state).into_bytes()?;
    let text = std::str::from_utf8(&text).ok()?;
    let mut parts = text.splitn(7, '\n');
    let group = parts.next()?.parse().ok()?;
    let whole = parts.next()? == "1";
    let (depth, index) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let list = parts.next()?.strip_prefix('=');
    let whitelist = list.map(|list| list.split(',').map(str::to_owned).collect());
    let (number, ruri) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    let flags = Flags { falls_back: true, whole, checks: false };
    Some((Plan { group, flags, number, ruri, whitelist }, Place { depth, index }))
}

/// Sends the request there. A socket that was chosen for the `last` gateway goes, one that the
/// script has chosen stays.
fn set_target(ctx: &mut Ctx, uri: Bytes, socket: Option<SocketId>, last: Option<SocketId>) {
    ctx.target.uri = Some(uri);
    if socket.is_some() || (last.is_some() && ctx.target.socket == last) {
        ctx.target.socket = socket;
    }
}

fn clear(ctx: &mut Ctx, avps: &Avps) {
    let targets = [&avps.ruri, &avps.gateway, &avps.socket, &avps.through];
    let always = targets.into_iter().chain([&avps.state, &avps.rule_attrs]);
    let others = [&avps.prefix, &avps.rule, &avps.rule_prefix, &avps.carrier];
    for name in always.chain(others.into_iter().flatten()) {
        let _ = ctx.avps.set(name, Index::All, Assign::Set, Value::Null);
    }
}

fn append(ctx: &mut Ctx, name: &[u8], value: &[u8]) -> Result<(), String> {
    ctx.avps.insert(name, Value::str(value.to_vec()), true)
}

fn pop(ctx: &mut Ctx, name: &[u8]) -> Option<Bytes> {
    let value = ctx.avps.first(name).into_bytes();
    let _ = ctx.avps.set(name, Index::None, Assign::Set, Value::Null);
    value
}
