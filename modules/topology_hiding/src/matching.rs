//! The hidden side of a request of a dialog.

use bytes::Bytes;
use tandem_engine::context::Hides;
use tandem_engine::module::Call;
use tandem_script::host::Called;
use tandem_sip::{HeaderName, Uri};

use crate::hide;
use crate::info::{CALL_ID, Info};
use crate::kept;
use crate::params::Hiding;

pub(crate) fn topology_hiding_match(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<Hiding>() else { return Called::Returned(-1) };
    if call.ctx.hides.is_some() {
        return Called::Returned(1);
    }
    let Some(info) = info_of(&state, call) else {
        return kept::matched(&state, call).unwrap_or(Called::Returned(-1));
    };
    call.ctx.target.uri = Some(Bytes::from(info.contact));
    call.ctx.target.set_path(Bytes::from(info.routes.join(&b", "[..])));
    let socket = std::str::from_utf8(&info.socket).ok();
    call.ctx.target.socket = socket.and_then(|text| call.cx.node.sockets.resolve(text));
    // Routes that led here are done with.
    for header in call.ctx.msg.headers(HeaderName::Route) {
        call.ctx.edits.remove(header.span());
    }
    let shown = Uri::parse(call.ctx.msg.request_uri()).ok().and_then(|uri| uri.user);
    let shown_user = Bytes::copy_from_slice(shown.unwrap_or_default());
    let slot = call.cx.slot;
    let own_routes = info.own_routes;
    let (sent_user, place) = (Bytes::new(), Bytes::new());
    let hides = Hides { slot, flags: info.flags, shown_user, sent_user, own_routes, place };
    hide::request(call.ctx, hides);
    if info.flags & CALL_ID != 0 && !hide::decode_call_id(&state, call.ctx) {
        hide::encode_call_id(&state, call.ctx);
    }
    Called::Returned(1)
}

/// What the Request-URI says of the hidden side.
fn info_of(state: &Hiding, call: &Call<'_, '_, '_>) -> Option<Info> {
    let uri = Uri::parse(call.ctx.msg.request_uri()).ok()?;
    let text = uri.params.value(&state.contact_param)?;
    let info = Info::parse(&state.open(&call.cx.node.keys, text)?)?;
    Uri::parse(&info.contact).is_ok().then_some(info)
}
