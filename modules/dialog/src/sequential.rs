//! Requests of this node within a dialog: BYE, pings, and what scripts and operators ask for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tandem_engine::attached::Attached;
use tandem_engine::log::Level;
use tandem_engine::module::Cx;
use tandem_engine::sockets::Sockets;
use tandem_tm::{LocalRequest, Owner, Tm};

use crate::change::Change;
use crate::current::{Current, Kind};
use crate::id::DialogId;
use crate::record::{CALLEE_CALL_ID, Dialog, Leg, Side, Val};
use crate::state::Dialogs;

/// Requests that wait for their replies, at most.
const OPEN_MAX: usize = 100_000;

/// What a request was sent for.
#[derive(Clone, Debug)]
pub(crate) enum Purpose {
    /// Nobody waits for what comes of it.
    Bye,
    /// `invite`: by re-INVITE.
    Ping {
        invite: bool,
    },
    Prack,
    /// A management command; then the next side gets the body of the answer.
    Command {
        request: u64,
        then: Option<Box<Draft>>,
    },
    Script,
}

/// A request that is out.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) id: DialogId,
    pub(crate) side: Side,
    pub(crate) purpose: Purpose,
}

/// Requests whose final reply has not come, by their tokens.
#[derive(Debug, Default)]
pub(crate) struct Open {
    next: AtomicU64,
    all: Mutex<BTreeMap<u64, Sent>>,
}

impl Open {
    fn add(&self, sent: Sent) -> Option<u64> {
        let token = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let mut all = self.all.lock();
        if all.len() >= OPEN_MAX {
            return None;
        }
        all.insert(token, sent);
        Some(token)
    }

    pub(crate) fn take(&self, token: u64) -> Option<Sent> {
        self.all.lock().remove(&token)
    }
}

/// A request as it is wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Draft {
    pub(crate) method: Bytes,
    /// Header lines, each with its end; Content-Type among them.
    pub(crate) headers: Vec<u8>,
    pub(crate) body: Bytes,
    /// The callee that is meant, if it is not the one that answered.
    pub(crate) callee: Option<u8>,
}

impl Draft {
    pub(crate) fn of(method: &'static str) -> Self {
        Self { method: Bytes::from_static(method.as_bytes()), ..Self::default() }
    }

    pub(crate) fn with_sdp(mut self, sdp: &[u8]) -> Self {
        if !sdp.is_empty() {
            self.headers.extend_from_slice(b"Content-Type: application/sdp\r\n");
            self.body = Bytes::copy_from_slice(sdp);
        }
        self
    }
}

impl Dialogs {
    /// Sends a request to a side, in the name of the other.
    ///
    /// # Errors
    /// Why it cannot be sent; nobody hears of it then.
    pub(crate) fn send(
        &self,
        cx: &mut Cx<'_>,
        id: DialogId,
        side: Side,
        mut draft: Draft,
        purpose: Purpose,
    ) -> Result<u64, String> {
        // Scripts and operators say themselves what their requests have.
        if matches!(purpose, Purpose::Bye | Purpose::Ping { .. } | Purpose::Prack) {
            draft.headers = [&self.params.extra_headers[..], &draft.headers].concat();
        }
        let (tm_slot, tm) = cx.node.find::<Tm>().ok_or("the module tm is not loaded")?;
        let made = self.read(id, |d| request(d, side, &draft, &cx.node.sockets));
        let (mut request, callee, cseq) =
            made.flatten().ok_or("nobody has said where this side is reached")?;
        let mut attached = Attached::default();
        let current = Current::new(id, side.other(), callee, Kind::Own);
        attached.put(self.slot, Arc::new(current));
        request.attached = attached;
        self.try_change(cx, id, Change::Generated { towards: side, callee, cseq });
        let sent = Sent { id, side, purpose };
        let token = self.open.add(sent).ok_or("too many requests wait for replies")?;
        let owner = Owner::Module { slot: self.slot, token };
        let result = cx.for_slot(tm_slot, |cx| tm.send_request(cx, &request, owner));
        if let Err(why) = result {
            self.open.take(token);
            return Err(why);
        }
        Ok(token)
    }

    /// Sends a BYE to a side that has answered.
    pub(crate) fn send_bye(&self, cx: &mut Cx<'_>, id: DialogId, side: Side, extra: &[u8]) {
        let mut draft = Draft::of("BYE");
        draft.headers = extra.to_vec();
        if let Err(why) = self.send(cx, id, side, draft, Purpose::Bye) {
            let text = format!("dialog {id}: no BYE to the {}: {why}", side.text());
            cx.log(Level::Error, text);
        }
    }
}

/// The request, the place of its callee and its number.
fn request(
    d: &Dialog,
    side: Side,
    draft: &Draft,
    sockets: &Sockets,
) -> Option<(LocalRequest, u8, u32)> {
    let callee = draft.callee.or(d.answered).unwrap_or(0);
    let called = d.callees.get(usize::from(callee))?;
    let (leg, other) = match side {
        Side::Caller => (&d.caller, called),
        Side::Callee => (called, &d.caller),
    };
    let pick = |own: &[u8], seen: &[u8]| if seen.is_empty() { own.to_vec() } else { seen.to_vec() };
    let caller_uri = match side {
        Side::Caller => d.from_uri.to_vec(),
        Side::Callee => pick(&d.from_uri, &d.mangled_from),
    };
    let callee_uri = match side {
        Side::Caller => d.to_uri.to_vec(),
        Side::Callee => pick(&d.to_uri, &d.mangled_to),
    };
    let address = |uri: &[u8], tag: &[u8]| Bytes::from([b"<", uri, b">;tag=", tag].concat());
    let caller = address(&caller_uri, &d.caller.tag);
    let callee_address = address(&callee_uri, &called.tag);
    let (from, to) = match side {
        Side::Caller => (callee_address, caller),
        Side::Callee => (caller, callee_address),
    };
    // Without a Contact nobody knows where the side is (RFC 3261 12.1.1).
    if leg.contact.is_empty() {
        return None;
    }
    let call_id = match (side, d.value(CALLEE_CALL_ID)) {
        (Side::Callee, Some(Val::Str(text))) => text,
        _ => &d.call_id,
    };
    let cseq = leg.cseq.max(leg.generated_cseq).saturating_add(1);
    let socket = std::str::from_utf8(&leg.socket).ok().and_then(|text| sockets.resolve(text));
    let request = LocalRequest {
        method: draft.method.clone(),
        uri: Bytes::copy_from_slice(&leg.contact),
        from,
        to,
        call_id: Bytes::copy_from_slice(call_id),
        cseq,
        headers: Bytes::from(header_lines(leg, other, draft)),
        body: draft.body.clone(),
        socket,
        ..LocalRequest::default()
    };
    Some((request, callee, cseq))
}

/// Route, Contact, and what the draft brings.
fn header_lines(leg: &Leg, other: &Leg, draft: &Draft) -> Vec<u8> {
    let mut lines = Vec::with_capacity(256);
    if !leg.route_set.is_empty() {
        lines.extend_from_slice(&[b"Route: ", &leg.route_set[..], b"\r\n"].concat());
    }
    // The side is told where the other one is reached, as it knows it.
    let shown = if leg.advertised.is_empty() { &other.contact } else { &leg.advertised };
    if &draft.method[..] != b"BYE" && !shown.is_empty() {
        lines.extend_from_slice(&[b"Contact: <", &shown[..], b">\r\n"].concat());
    }
    lines.extend_from_slice(&draft.headers);
    lines
}
