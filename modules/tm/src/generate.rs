//! Functions that send requests beside the one at hand: `t_new_request` and `t_replicate`.

use bytes::Bytes;
use tandem_engine::context::Branch;
use tandem_engine::log::Level;
use tandem_engine::module::Call;
use tandem_script::host::Called;
use tandem_script::sig::Routes;
use tandem_sip::{Method, Uri};

use crate::draft::{Draft, Way};
use crate::launch::Errand;
use crate::local::{LocalRequest, Owner};
use crate::record::Busy;
use crate::tm::{Begun, Tm};

const OK: Called = Called::Returned(1);
const NO: Called = Called::Returned(-1);

/// `[display ]uri` as the value of From or To.
pub(crate) fn name_addr(text: &[u8]) -> Option<Bytes> {
    let text = text.trim_ascii();
    let at = text.iter().rposition(u8::is_ascii_whitespace);
    let (display, uri) = at.map_or((&b""[..], text), |at| text.split_at(at));
    let (display, uri) = (display.trim_ascii(), uri.trim_ascii());
    let uri = uri.strip_prefix(b"<").and_then(|u| u.strip_suffix(b">")).unwrap_or(uri);
    Uri::parse(uri).ok()?;
    if text.iter().any(|b| matches!(b, b'\r' | b'\n')) {
        return None;
    }
    let display = display.strip_prefix(b"\"").unwrap_or(display);
    let display = display.strip_suffix(b"\"").unwrap_or(display);
    if display.is_empty() {
        return Some(Bytes::from([b"<", uri, b">"].concat()));
    }
    Some(Bytes::from([b"\"", display, b"\" <", uri, b">"].concat()))
}

pub(crate) fn t_new_request(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(tm) = call.state::<Tm>() else { return NO };
    let (method, uri, body) = (call.text(0), call.text(1), call.text(4));
    let token = |b: &u8| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(b);
    if method.is_empty() || !method.iter().all(token) {
        return call.complain(Level::Error, "t_new_request: this is no method");
    }
    if Uri::parse(&uri).is_err() {
        return call.complain(Level::Error, "t_new_request: the R-URI cannot be read");
    }
    let (Some(from), Some(to)) = (name_addr(&call.text(2)), name_addr(&call.text(3))) else {
        let text = "t_new_request: From and To are written \"[display ]uri\"";
        return call.complain(Level::Error, text);
    };
    let (headers, body) = match body.iter().position(u8::is_ascii_whitespace) {
        None if body.is_empty() => (Bytes::new(), Bytes::new()),
        None => {
            let text = "t_new_request: a content type stands before the body";
            return call.complain(Level::Error, text);
        }
        Some(at) => {
            let (kind, rest) = body.split_at(at);
            let line = [b"Content-Type: ", kind, b"\r\n"].concat();
            (Bytes::from(line), body.slice_ref(rest.get(1..).unwrap_or_default()))
        }
    };
    let context = call.given(5).then(|| call.text(5));
    let request =
        LocalRequest { method, uri, from, to, headers, body, context, ..LocalRequest::default() };
    match tm.send_request(call.cx, &request, Owner::Nobody) {
        Ok(()) => OK,
        Err(why) => call.complain(Level::Error, format!("t_new_request: {why}")),
    }
}

/// Sends a copy to another destination. What becomes of it concerns nobody here.
pub(crate) fn t_replicate(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(tm) = call.state::<Tm>() else { return NO };
    if matches!(call.ctx.msg.method(), Method::Ack | Method::Cancel) {
        return NO;
    }
    match tm.begin(call.cx, call.ctx) {
        Begun::New(_) | Begun::Existing(_) => {}
        Begun::Retransmission | Begun::Refused => return Called::Returned(0),
        Begun::Failed => return NO,
    }
    let uri = call.text(0);
    let target = Branch { dst_uri: Some(uri), ..call.ctx.target.clone() };
    let ctx = Box::new(call.ctx.for_target(target, Routes::BRANCH));
    let way = Way::of(&ctx);
    if let Way::Lost(error) = &way {
        return call.complain(Level::Error, format!("t_replicate: {error}"));
    }
    let failover = crate::relay::options(call, 1, None).no_dns_failover;
    let tx = tm.local_transaction(call.cx, &ctx, Owner::Nobody);
    tx.cell.lock().busy = Some(Busy::Relay);
    let draft = Draft { ctx, on_reply: None, bavps: None, way };
    tm.start(call.cx, Errand::Local(tx, vec![draft], !failover));
    OK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_put_around_uris() {
        let made = |text: &str| {
            let value = name_addr(text.as_bytes())?;
            Some(String::from_utf8(value.to_vec()).unwrap())
        };
        assert_eq!(made("sip:a@b").as_deref(), Some("<sip:a@b>"));
        assert_eq!(made("Bob sip:a@b").as_deref(), Some("\"Bob\" <sip:a@b>"));
        assert_eq!(made("\"Bob B\" <sip:a@b;x>").as_deref(), Some("\"Bob B\" <sip:a@b;x>"));
        assert_eq!(made("Bob"), None);
        assert_eq!(made("x\r\nEvil: 1 sip:a@b"), None);
    }
}
