//! `dlg_send_sequential`, the function and the command.

use bytes::Bytes;
use tandem_engine::log::Level;
use tandem_engine::mi::{MiCall, MiOutcome};
use tandem_engine::module::Call;
use tandem_script::host::Called;

use crate::params::check_lines;
use crate::ping::last_sdp;
use crate::record::{Dialog, Side};
use crate::sequential::{Draft, Purpose};
use crate::state::Dialogs;
use crate::values::{NO, OK};

fn side_of(text: &str) -> Option<Side> {
    match text {
        "caller" => Some(Side::Caller),
        "callee" => Some(Side::Callee),
        _ => None,
    }
}

/// Judges a literal.
pub(crate) fn check_leg(text: &str) -> Result<(), String> {
    side_of(text).map(|_| ()).ok_or_else(|| "the sides are \"caller\" and \"callee\"".into())
}

fn is_method(method: &[u8]) -> bool {
    let token = |b: &u8| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(b);
    !method.is_empty() && method.len() <= 64 && method.iter().all(token)
}

/// Whether a request may be sent within a dialog by hand: ACK and CANCEL belong to others.
fn may_send(method: &[u8]) -> bool {
    is_method(method) && !matches!(method, b"ACK" | b"CANCEL")
}

pub(crate) fn dlg_send_sequential(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(dialogs) = call.state::<Dialogs>() else { return NO };
    let Some(current) = dialogs.current(call.ctx) else { return NO };
    let (method, leg) = (call.text(0), call.text(1));
    let side = std::str::from_utf8(&leg).ok().and_then(side_of);
    let (true, Some(side)) = (may_send(&method), side) else {
        let text = "dlg_send_sequential: it takes a method, and \"caller\" or \"callee\"";
        return call.complain(Level::Error, text);
    };
    let headers = call.text(4);
    if check_lines(&String::from_utf8_lossy(&headers)).is_err() {
        let text = "dlg_send_sequential: headers are whole lines, each with its end";
        return call.complain(Level::Error, text);
    }
    let mut draft = Draft { method, headers: headers.to_vec(), ..Draft::default() };
    let body = call.text(2);
    if !body.is_empty() {
        let kind =
            if call.given(3) { call.text(3) } else { Bytes::from_static(b"application/sdp") };
        if kind.iter().any(|b| matches!(b, b'\r' | b'\n')) {
            return call.complain(Level::Error, "dlg_send_sequential: a content type is one line");
        }
        draft.headers.extend_from_slice(&[b"Content-Type: ", &kind[..], b"\r\n"].concat());
        draft.body = body;
    }
    match dialogs.send(call.cx, current.id, side, draft, Purpose::Script) {
        Ok(_) => OK,
        Err(why) => call.complain(Level::Error, format!("dlg_send_sequential: {why}")),
    }
}

/// The body that the command asks for.
fn body_of(d: &Dialog, side: Side, mode: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let sdp = |body: &[u8]| (b"application/sdp".to_vec(), body.to_vec());
    Some(match mode {
        "none" => (Vec::new(), Vec::new()),
        // What came from the other side, and what this side was sent.
        "inbound" => sdp(d.leg(side.other()).map_or(b"", |leg| &leg.sdp_in)),
        "outbound" => sdp(last_sdp(d, side)),
        custom => {
            let (kind, body) = custom.strip_prefix("custom:")?.split_once(':')?;
            let is_kind = kind.contains('/') && kind.bytes().all(|b| b.is_ascii_graphic());
            if !is_kind {
                return None;
            }
            (kind.as_bytes().to_vec(), body.as_bytes().to_vec())
        }
    })
}

/// `dialog:send_sequential`
pub(crate) fn send_sequential(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let Some(dialogs) = call.cx.node.module::<Dialogs>(call.cx.slot) else {
        return MiOutcome::failed(500, "Internal Error");
    };
    let mode = call.text("mode").unwrap_or_else(|| "caller".into());
    let (side, challenges) = match mode.as_str() {
        "challenge" | "challenge-caller" => (Side::Caller, true),
        "challenge-callee" => (Side::Callee, true),
        other => match side_of(other) {
            Some(side) => (side, false),
            None => return MiOutcome::failed(400, "Invalid mode"),
        },
    };
    let method = call.text("method").unwrap_or_else(|| "INVITE".into());
    let headers = call.text("headers").unwrap_or_default();
    if !may_send(method.as_bytes()) || check_lines(&headers).is_err() {
        return MiOutcome::failed(406, "Not Acceptable");
    }
    let name = call.text("callid").unwrap_or_default();
    let Some(id) = dialogs.named(&name) else {
        return MiOutcome::failed(404, "Dialog Not Found");
    };
    if dialogs.read(id, |d| d.state.is_answered()) != Some(true) {
        return MiOutcome::failed(404, "Dialog Not Found");
    }
    let refreshes = matches!(method.as_str(), "INVITE" | "UPDATE");
    let default = if challenges && refreshes { "outbound" } else { "none" };
    let wanted = call.text("body").unwrap_or_else(|| default.into());
    let body = dialogs.read(id, |d| body_of(d, side, &wanted)).flatten();
    let Some((kind, body)) = body else {
        return MiOutcome::failed(400, "Invalid body mode");
    };
    let next = Draft {
        method: method.clone().into(),
        headers: headers.clone().into_bytes(),
        ..Draft::default()
    };
    let mut draft = next.clone();
    if !body.is_empty() {
        draft.headers.extend_from_slice(&[b"Content-Type: ", &kind[..], b"\r\n"].concat());
        draft.body = body.into();
    }
    let purpose =
        Purpose::Command { request: call.request, then: challenges.then(|| Box::new(next)) };
    match dialogs.send(call.cx, id, side, draft, purpose) {
        Ok(_) => MiOutcome::Later,
        Err(_) => MiOutcome::failed(500, "Internal Error"),
    }
}
