//! With a dialog: where the hidden sides are reached is kept there, and the Contact only names it.

use bytes::Bytes;
use tandem_dialog::record::{Leg, Val};
use tandem_dialog::{Change, Created, Current, DialogId, Dialogs, Flags, Side};
use tandem_engine::context::Hides;
use tandem_engine::module::Call;
use tandem_script::host::Called;
use tandem_sip::{HeaderName, Uri};

use crate::hide;
use crate::info::CALL_ID;
use crate::params::Hiding;

/// The value of the dialog that holds the flags.
const FLAGS: &[u8] = b"_th_flags";

/// What became of the wish for a dialog.
pub(crate) enum Begun {
    /// The parameter for the Contact; empty: there is no dialog, and none was wanted.
    Place(Bytes),
    /// The request was seen before.
    DealtWith,
}

fn place(dialogs: &Dialogs, id: DialogId) -> Bytes {
    Bytes::from(format!(";{}={id}", dialogs.params().rr_param))
}

/// Begins to hide the sides of a dialog: of the one that the request has, or of one that is made
/// where the script forces it.
pub(crate) fn begin(
    state: &Hiding,
    call: &mut Call<'_, '_, '_>,
    forced: bool,
    flags: u8,
    (to_caller, to_callee): (&[u8], &[u8]),
) -> Result<Begun, String> {
    let found = call.cx.node.find::<Dialogs>();
    let Some((_, dialogs)) = found else {
        return match forced {
            true => Err("a dialog is wanted, and the module dialog is not loaded".into()),
            false => Ok(Begun::Place(Bytes::new())),
        };
    };
    if dialogs.current(call.ctx).is_none() {
        if !forced {
            return Ok(Begun::Place(Bytes::new()));
        }
        if dialogs.create(call.cx, call.ctx, Flags::NONE)? == Created::DealtWith {
            return Ok(Begun::DealtWith);
        }
    }
    let Some(current) = dialogs.current(call.ctx) else {
        return Ok(Begun::Place(Bytes::new()));
    };
    let msg = call.ctx.msg.clone();
    let mut keep = |name: &[u8], value: Val| {
        let change = Change::Value { name: name.into(), value: Some(value) };
        dialogs.change(call.cx, current.id, change).map(|_| ()).map_err(|e| e.to_string())
    };
    keep(FLAGS, Val::Int(i32::from(flags)))?;
    if flags & CALL_ID != 0 {
        let tag = msg.from_tag().unwrap_or_default();
        let text = hide::encoded(state, msg.call_id().unwrap_or_default(), tag);
        keep(tandem_dialog::record::CALLEE_CALL_ID, Val::Str(text.into()))?;
    }
    for (name, user) in [(&state.caller_user, to_caller), (&state.callee_user, to_callee)] {
        if !user.is_empty() {
            keep(name, Val::Str(user.into()))?;
        }
    }
    Ok(Begun::Place(place(&dialogs, current.id)))
}

/// What the dialog of a request says of the hidden sides.
struct Kept {
    flags: u8,
    /// The side that the request goes to.
    leg: Leg,
    /// Users of Contact that the caller and the callee are shown.
    users: [Bytes; 2],
    /// The Call-ID that the receiver knows.
    call_id: Bytes,
}

/// Finds the hidden side of a request of a dialog; `None`: it belongs to none that is hidden.
pub(crate) fn matched(state: &Hiding, call: &mut Call<'_, '_, '_>) -> Option<Called> {
    let (_, dialogs) = call.cx.node.find::<Dialogs>()?;
    let did = {
        let uri = Uri::parse(call.ctx.msg.request_uri()).ok()?;
        let text = uri.params.value(dialogs.params().rr_param.as_bytes());
        text.and_then(DialogId::parse)
    };
    if did.is_none() && dialogs.current(call.ctx).is_none() {
        return None;
    }
    if !dialogs.match_named(call.cx, call.ctx, did) {
        return None;
    }
    let current = dialogs.current(call.ctx)?;
    let kept = dialogs.read(current.id, |d| kept(state, d, &current))??;
    let ctx = &mut *call.ctx;
    ctx.target.uri = Some(Bytes::copy_from_slice(&kept.leg.contact));
    ctx.target.dst_uri = None;
    ctx.target.set_path(Bytes::copy_from_slice(&kept.leg.route_set));
    let socket = std::str::from_utf8(&kept.leg.socket).ok();
    ctx.target.socket = socket.and_then(|text| call.cx.node.sockets.resolve(text));
    for header in ctx.msg.headers(HeaderName::Route) {
        ctx.edits.remove(header.span());
    }
    let [to_caller, to_callee] = kept.users;
    let (shown, back) = match current.sender {
        Side::Caller => (to_callee, to_caller),
        Side::Callee => (to_caller, to_callee),
    };
    let hides = Hides {
        slot: call.cx.slot,
        flags: kept.flags,
        shown_user: back,
        sent_user: shown,
        own_routes: Vec::new(),
        place: place(&dialogs, current.id),
    };
    hide::request(ctx, hides);
    if let Some(header) = ctx.msg.header(HeaderName::CallId)
        && header.value() != &kept.call_id[..]
    {
        ctx.edits.replace(header.value_span(), kept.call_id);
    }
    Some(Called::Returned(1))
}

fn kept(state: &Hiding, d: &tandem_dialog::Dialog, current: &Current) -> Option<Kept> {
    let text = |name: &[u8]| match d.value(name) {
        Some(Val::Str(text)) => Bytes::copy_from_slice(text),
        _ => Bytes::new(),
    };
    let Some(Val::Int(flags)) = d.value(FLAGS) else { return None };
    let receiver = current.sender.other();
    let leg = match receiver {
        Side::Caller => d.caller.clone(),
        Side::Callee => d.callees.get(usize::from(current.callee))?.clone(),
    };
    let hidden = text(tandem_dialog::record::CALLEE_CALL_ID);
    let call_id = match receiver {
        Side::Callee if !hidden.is_empty() => hidden,
        _ => Bytes::copy_from_slice(&d.call_id),
    };
    let users = [text(&state.caller_user), text(&state.callee_user)];
    let is_known = !leg.contact.is_empty();
    is_known.then(|| Kept { flags: u8::try_from(*flags).unwrap_or(0), leg, users, call_id })
}
