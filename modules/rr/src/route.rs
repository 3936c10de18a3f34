//! `loose_route`: the Route headers of a request (RFC 3261 16.4, 16.6 step 6, 16.12).

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use tandem_engine::context::Ctx;
use tandem_engine::module::{Call, FunctionDef};
use tandem_engine::sockets::Sockets;
use tandem_engine::table::{function, literal};
use tandem_script::host::Called;
use tandem_script::program::Ready;
use tandem_script::sig::{ArgKind, ArgSig, Routes};
use tandem_sip::{HeaderName, Message, NameAddr, Uri};

const REGEX: &[ArgSig] = &[literal("re", ArgKind::Regex)];
const DIRECTION: &[ArgSig] = &[ArgSig {
    name: "dir",
    kind: ArgKind::Str,
    optional: false,
    is_static: true,
    check: Some(check_direction),
}];

pub(crate) const LOOSE_ROUTE: FunctionDef = function(
    "loose_route",
    &[],
    Routes::REQUEST,
    "Takes our Routes off and sets the next hop; false without a Route.",
    |call| {
        let slot = call.cx.slot;
        if call.ctx.section_mut::<Taken>(slot).done {
            return Called::Returned(1);
        }
        let Some(params) = loose_route(&call.cx.node.sockets, call.ctx) else {
            return Called::Returned(-1);
        };
        if let Some(params) = &params {
            tell(call, params);
        }
        *call.ctx.section_mut::<Taken>(slot) = Taken { done: true, params };
        Called::Returned(1)
    },
);

pub(crate) const CHECK_ROUTE_PARAM: FunctionDef = function(
    "check_route_param",
    REGEX,
    Routes::REQUEST,
    "Tests the parameters of our Route that was taken off.",
    |call| {
        let Some(Ready::Regex(regex)) = call.ready(0) else { return Called::Returned(-1) };
        let found = taken_params(call).is_some_and(|params| regex.is_match(params));
        Called::Returned(if found { 1 } else { -1 })
    },
);

pub(crate) const IS_DIRECTION: FunctionDef = function(
    "is_direction",
    DIRECTION,
    Routes::REQUEST,
    "Tests by ftag whether the caller sent it (\"downstream\") or the callee (\"upstream\").",
    |call| {
        let Some(params) = taken_params(call) else { return Called::Returned(-1) };
        let ftag = tandem_sip::Params::new(params).value(b"ftag");
        let upstream = ftag.is_some_and(|tag| call.ctx.msg.from_tag() != Some(tag));
        let wanted = &call.text(0)[..] == b"upstream";
        Called::Returned(if upstream == wanted { 1 } else { -1 })
    },
);

/// What `loose_route` did to the message.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) done: bool,
    /// From the first `;` on; `None` if no Route was ours.
    pub(crate) params: Option<Bytes>,
}

/// Tells the other modules, which may have put parameters there.
fn tell(call: &mut Call<'_, '_, '_>, params: &[u8]) {
    let node = Arc::clone(call.cx.node);
    let ctx = &mut *call.ctx;
    for (slot, _, module) in node.loaded() {
        call.cx.for_slot(slot, |cx| module.route_taken(cx, ctx, params));
    }
}

fn taken_params<'a>(call: &'a Call<'_, '_, '_>) -> Option<&'a [u8]> {
    call.ctx.section::<Taken>(call.cx.slot)?.params.as_deref()
}

fn check_direction(text: &str) -> Result<(), String> {
    match text {
        "upstream" | "downstream" => Ok(()),
        _ => Err("it is \"upstream\" or \"downstream\"".into()),
    }
}

/// Processes the Routes; `None` if there is none or one cannot be read, and nothing is changed
/// then. Gives the parameters of our Route.
fn loose_route(sockets: &Sockets, ctx: &mut Ctx) -> Option<Option<Bytes>> {
    let msg = ctx.msg.clone();
    let all: SmallVec<[NameAddr<'_>; 4]> = msg.routes().collect::<Result<_, _>>().ok()?;
    let mut routes = &all[..];
    let (mut uri, mut params) = (None, None);
    let mut last_taken = false;
    // RFC 3261 16.4: a strict router has put our Record-Route into the Request-URI, and the
    // Request-URI behind all Routes.
    if is_own_route(sockets, ctx.request_uri()) {
        let (last, before) = routes.split_last()?;
        params = Uri::parse(msg.request_uri()).ok().map(|uri| params_of(&msg, &uri));
        (uri, routes, last_taken) = (Some(last.uri), before, true);
    }
    let (mut first, mut crosses) = (0, false);
    // Two of ours when the dialog crosses two of our sockets (RFC 5658).
    while first < 2
        && let Some(route) = routes.get(first)
        && let Some(own) = ours(sockets, route.uri)
        && (first == 0 || (crosses && has_r2(&own)))
    {
        params = params.or_else(|| Some(params_of(&msg, &own)));
        if first == 1 {
            // The second one names the socket of the other side.
            ctx.target.socket = sockets.of_uri(&own).or(ctx.target.socket);
        }
        (first, crosses) = (first + 1, routes.len() > 1 && has_r2(&own));
    }
    if all.is_empty() {
        return None;
    }
    let mut keep_from = first;
    let mut strict = None;
    let next = routes.get(first);
    ctx.target.dst_uri = None;
    if let Some(next) = next {
        let loose = Uri::parse(next.uri).ok()?.is_loose_router();
        if loose {
            ctx.target.dst_uri = Some(Bytes::copy_from_slice(next.uri));
        } else {
            // RFC 3261 16.6 step 6: the next hop is a strict router.
            strict = Some(uri.unwrap_or_else(|| msg.request_uri()));
            uri = Some(next.uri);
            keep_from += 1;
        }
    }
    if let Some(uri) = uri {
        ctx.target.uri = Some(Bytes::copy_from_slice(uri));
    }
    let keep_to = all.len() - usize::from(last_taken);
    keep_routes(ctx, &msg, keep_from, keep_to);
    if let Some(uri) = strict {
        ctx.edits.append_header(&msg, [b"Route: <", uri, b">\r\n"].concat());
    }
    Some(params)
}

/// Leaves only the Route values with a number from `from` up to, not including, `to`.
fn keep_routes(ctx: &mut Ctx, msg: &Message, from: usize, to: usize) {
    let mut number = 0;
    for header in msg.headers(HeaderName::Route) {
        let before = number;
        number += header.values().count();
        let (from, to) = (from.max(before), to.min(number));
        if from >= to {
            ctx.edits.remove(header.span());
        } else if to - from < number - before {
            let kept = header.values().skip(from - before).take(to - from);
            let kept: Vec<&[u8]> = kept.map(|value| value.bytes).collect();
            ctx.edits.replace(header.value_span(), kept.join(&b", "[..]));
        }
    }
}

/// Whether a Request-URI is one that we put into Record-Route.
fn is_own_route(sockets: &Sockets, uri: &[u8]) -> bool {
    ours(sockets, uri).is_some_and(|uri| uri.is_loose_router())
}

/// A URI in its parts, if it is one of this node.
fn ours<'a>(sockets: &Sockets, uri: &'a [u8]) -> Option<Uri<'a>> {
    let uri = Uri::parse(uri).ok()?;
    let port = uri.port.unwrap_or(if uri.is_sips() { 5061 } else { 5060 });
    (uri.is_sip() && sockets.is_myself(uri.host, Some(port))).then_some(uri)
}

fn has_r2(uri: &Uri<'_>) -> bool {
    uri.param(b"r2") == Some(Some(b"on"))
}

fn params_of(msg: &Message, uri: &Uri<'_>) -> Bytes {
    let params = uri.params.raw();
    let span = msg.span_of(params);
    span.map_or_else(|| Bytes::copy_from_slice(params), |s| msg.bytes().slice(s.range()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tandem_engine::context::Source;
    use tandem_engine::sockets::{Proto, Socket, SocketId};
    use tandem_engine::transport::written;

    fn sockets() -> Sockets {
        let udp = |addr: &str| Socket::new(Proto::Udp, addr.parse().unwrap(), None, None);
        Sockets::new(vec![udp("127.0.0.1:5060"), udp("127.0.0.1:5070")], Vec::new())
    }

    fn context(uri: &str, routes: &str) -> Ctx {
        let text = format!(
            "BYE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKa\r\n{routes}\
             From: <sip:a@h>;tag=f\r\nTo: <sip:b@h>;tag=t\r\nCall-ID: x\r\nCSeq: 7 BYE\r\n\r\n"
        );
        let msg = Message::parse(Bytes::from(text)).unwrap();
        let addr = "127.0.0.9:5060".parse().unwrap();
        let local_ip = "127.0.0.1".parse().unwrap();
        Ctx::new(msg, Source { addr, socket: SocketId(0), local_ip }, Routes::REQUEST)
    }

    /// R-URI, `$du` and the Routes that are left.
    fn routed(uri: &str, routes: &str) -> Option<(String, String, Vec<String>)> {
        let mut ctx = context(uri, routes);
        loose_route(&sockets(), &mut ctx)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let out = Message::parse(written(&ctx.msg, &ctx.edits)).unwrap();
        let left = out.values(HeaderName::Route).map(|v| text(v.bytes)).collect();
        let du = ctx.target.dst_uri.as_deref().map(text).unwrap_or_default();
        Some((text(ctx.request_uri()), du, left))
    }

    fn result(uri: &str, du: &str, left: &[&str]) -> Option<(String, String, Vec<String>)> {
        Some((uri.into(), du.into(), left.iter().map(|s| s.to_string()).collect()))
    }

    #[test]
    fn our_route_is_taken_off_and_the_request_uri_is_next() {
        let got = routed("sip:b@10.0.0.2", "Route: <sip:127.0.0.1;lr;ftag=f>\r\n");
        assert_eq!(got, result("sip:b@10.0.0.2", "", &[]));
    }

    #[test]
    fn the_next_loose_router_becomes_the_destination_and_stays_in_the_route() {
        let routes = "Route: <sip:127.0.0.1:5060;lr>,<sip:10.0.0.3;lr>\r\n";
        let got = routed("sip:b@10.0.0.2", routes);
        assert_eq!(got, result("sip:b@10.0.0.2", "sip:10.0.0.3;lr", &["<sip:10.0.0.3;lr>"]));
    }

    #[test]
    fn two_routes_of_one_crossing_go_together_and_others_do_not() {
        let both = "Route: <sip:127.0.0.1:5070;r2=on;lr>\r\nRoute: <sip:127.0.0.1;r2=on;lr>\r\n";
        assert_eq!(routed("sip:b@10.0.0.2", both), result("sip:b@10.0.0.2", "", &[]));
        let spiral = "Route: <sip:127.0.0.1:5070;lr>,<sip:127.0.0.1;lr>\r\n";
        let left = result("sip:b@10.0.0.2", "sip:127.0.0.1;lr", &["<sip:127.0.0.1;lr>"]);
        assert_eq!(routed("sip:b@10.0.0.2", spiral), left);
    }

    #[test]
    fn the_second_route_of_a_crossing_names_the_socket_to_leave_by() {
        let out = |routes: &str| {
            let mut ctx = context("sip:b@10.0.0.2", routes);
            loose_route(&sockets(), &mut ctx).unwrap();
            ctx.target.socket
        };
        let (one, two) = ("<sip:127.0.0.1;r2=on;lr>", "<sip:127.0.0.1:5070;r2=on;lr>");
        assert_eq!(out(&format!("Route: {one}, {two}\r\n")), Some(SocketId(1)));
        assert_eq!(out(&format!("Route: {two}, {one}\r\n")), Some(SocketId(0)));
        assert_eq!(out("Route: <sip:127.0.0.1:5070;lr>\r\n"), None);
    }

    #[test]
    fn a_strict_router_behind_us_gets_the_old_request_uri_as_last_route() {
        let routes = "Route: <sip:127.0.0.1;lr>,<sip:10.0.0.3>,<sip:10.0.0.4;lr>\r\n";
        let left = ["<sip:10.0.0.4;lr>", "<sip:b@10.0.0.2>"];
        assert_eq!(routed("sip:b@10.0.0.2", routes), result("sip:10.0.0.3", "", &left));
    }

    #[test]
    fn a_strict_router_before_us_has_left_the_target_as_last_route() {
        let routes = "Route: <sip:10.0.0.4;lr>, <sip:b@10.0.0.2>\r\n";
        let got = routed("sip:127.0.0.1:5060;lr;ftag=f", routes);
        assert_eq!(got, result("sip:b@10.0.0.2", "sip:10.0.0.4;lr", &["<sip:10.0.0.4;lr>"]));
        let last = routed("sip:127.0.0.1;lr", "Route: <sip:b@10.0.0.2>\r\n");
        assert_eq!(last, result("sip:b@10.0.0.2", "", &[]));
    }

    #[test]
    fn a_foreign_route_stays_and_is_the_next_hop() {
        let got = routed("sip:b@10.0.0.2", "Route: <sip:10.0.0.3;lr>\r\n");
        assert_eq!(got, result("sip:b@10.0.0.2", "sip:10.0.0.3;lr", &["<sip:10.0.0.3;lr>"]));
    }

    #[test]
    fn without_a_route_or_with_a_broken_one_nothing_happens() {
        assert_eq!(routed("sip:b@10.0.0.2", ""), None);
        assert_eq!(routed("sip:b@10.0.0.2", "Route: <sip:127.0.0.1;lr\r\n"), None);
        assert_eq!(routed("sip:127.0.0.1;lr", ""), None);
    }

    proptest! {
        #[test]
        fn any_route_text_gives_an_answer(text in "[a-z0-9:;=<>,@. \"]{0,60}") {
            let _ = routed("sip:b@10.0.0.2", &format!("Route: {text}\r\n"));
        }
    }
}
