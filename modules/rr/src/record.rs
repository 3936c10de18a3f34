//! Functions that put Record-Route on a request.

use bytes::Bytes;
use tandem_engine::context::RecordRoute;
use tandem_engine::log::Level;
use tandem_engine::module::{Call, FunctionDef};
use tandem_engine::table::{arg, function, optional};
use tandem_script::host::Called;
use tandem_script::sig::{ArgKind, ArgSig, Routes};
use tandem_sip::Uri;

use crate::params::Rr;

const PARAMS: &[ArgSig] = &[optional("params", ArgKind::Str)];
const PRESET: &[ArgSig] = &[arg("value", ArgKind::Str), optional("value2", ArgKind::Str)];
const PARAM: &[ArgSig] = &[arg("param", ArgKind::Str)];
const WRITING: Routes = Routes::REQUEST.or(Routes::FAILURE).or(Routes::BRANCH);

pub(crate) const RECORD_ROUTE: FunctionDef = function(
    "record_route",
    PARAMS,
    WRITING,
    "Adds a Record-Route for this node, once a message.",
    record_route,
);

pub(crate) const RECORD_ROUTE_PRESET: FunctionDef = function(
    "record_route_preset",
    PRESET,
    WRITING,
    "Adds a Record-Route with a given host and parameters; with two, the second one is above.",
    record_route_preset,
);

pub(crate) const ADD_RR_PARAM: FunctionDef = function(
    "add_rr_param",
    PARAM,
    WRITING,
    "Adds a URI parameter to our Record-Route, before or after record_route().",
    |call| {
        let text = call.text(0);
        let Some(params) = checked(&text) else { return refuse(call) };
        append(call.ctx.record_route.get_or_insert_default(), &params);
        Called::Returned(1)
    },
);

fn record_route(call: &mut Call<'_, '_, '_>) -> Called {
    let text = call.text(0);
    let Some(given) = checked(&text) else { return refuse(call) };
    write(call, &given, Vec::new())
}

fn record_route_preset(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(rr) = call.state::<Rr>() else { return Called::Returned(-1) };
    let mut preset = vec![call.text(0)];
    if call.given(1) {
        preset.push(call.text(1));
    }
    for text in &preset {
        let uri = [b"sip:", &text[..]].concat();
        let Some(uri) = Uri::parse(&uri).ok().filter(|_| is_clean(text) && !text.is_empty()) else {
            return call.complain(Level::Error, "a Record-Route is preset as host[:port][;params]");
        };
        if rr.warns && !call.cx.node.sockets.is_myself(uri.host, uri.port) {
            let host = String::from_utf8_lossy(text).into_owned();
            let why = format!(
                "`{host}` is no socket and no alias of this node: requests of the \
                dialog that come back for it are not known as ours"
            );
            call.complain(Level::Warning, why);
        }
    }
    write(call, b"", preset)
}

/// Asks for the header, once a message.
fn write(call: &mut Call<'_, '_, '_>, given: &[u8], preset: Vec<Bytes>) -> Called {
    let Some(rr) = call.state::<Rr>() else { return Called::Returned(-1) };
    if call.ctx.record_route.as_ref().is_some_and(|route| route.wanted) {
        return call.complain(Level::Error, "record_route: it was called for this message before");
    }
    let double = rr.double;
    let mut route = RecordRoute { wanted: true, double, preset, ..RecordRoute::default() };
    if rr.fromtag
        && let Some(tag) = call.ctx.msg.from_tag().filter(|tag| is_clean(tag))
    {
        append(&mut route, &[b";ftag=", tag].concat());
    }
    if rr.username
        && let Some(user) = Uri::parse(call.ctx.request_uri()).ok().and_then(|uri| uri.user)
    {
        route.user = Bytes::copy_from_slice(user);
    }
    append(&mut route, given);
    if let Some(collected) = &call.ctx.record_route {
        append(&mut route, &collected.params);
    }
    call.ctx.record_route = Some(route);
    Called::Returned(1)
}

fn append(route: &mut RecordRoute, params: &[u8]) {
    if !params.is_empty() {
        route.params = Bytes::from([&route.params, params].concat());
    }
}

/// Parameters with their `;` in front; `None` if they would not stay inside the URI.
fn checked(text: &[u8]) -> Option<Vec<u8>> {
    if !is_clean(text) {
        return None;
    }
    let missing = !text.is_empty() && !text.starts_with(b";");
    Some([if missing { &b";"[..] } else { b"" }, text].concat())
}

fn is_clean(text: &[u8]) -> bool {
    let ends_a_uri = |b: &u8| matches!(b, b'<' | b'>' | b'"' | b',' | b'?' | b'@' | 0x7f);
    text.iter().all(|b| *b > b' ' && !ends_a_uri(b))
}

fn refuse(call: &mut Call<'_, '_, '_>) -> Called {
    call.complain(Level::Error, "a parameter has characters that a Record-Route cannot hold")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parameters_get_their_semicolon_and_cannot_leave_the_uri() {
        assert_eq!(checked(b"a=1").as_deref(), Some(&b";a=1"[..]));
        assert_eq!(checked(b";a").as_deref(), Some(&b";a"[..]));
        assert_eq!(checked(b"").as_deref(), Some(&b""[..]));
        for wrong in [&b";a>"[..], b";a\r\nX: y", b"a b", b";a?x=y", b";a,b"] {
            assert_eq!(checked(wrong), None);
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_makes_a_uri_that_can_be_read(text in "[ -~]{0,20}") {
            if let Some(params) = checked(text.as_bytes()) {
                let uri = [b"sip:127.0.0.1:5060;lr", &params[..]].concat();
                prop_assert!(Uri::parse(&uri).is_ok_and(|uri| uri.is_loose_router()));
            }
        }
    }
}
