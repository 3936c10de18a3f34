//! Requests within a dialog: which one it is, and what the request means to it.

use std::sync::Arc;

use tandem_engine::context::Ctx;
use tandem_engine::dialog::DialogMoment;
use tandem_engine::log::Level;
use tandem_engine::module::{Call, Cx};
use tandem_script::host::Called;
use tandem_sip::{HeaderName, Method, Params, Uri};

use crate::change::{Change, Origin};
use crate::create::contact_of;
use crate::current::{Current, Kind};
use crate::id::DialogId;
use crate::params::MatchMode;
use crate::record::{Dialog, EndReason, Side, State, Text};
use crate::sdp::sdp_of;
use crate::state::Dialogs;

/// What a request found.
#[derive(Clone, Copy, Debug)]
struct Found {
    id: DialogId,
    sender: Side,
    callee: u8,
}

impl Dialogs {
    /// Our Route was taken off a request.
    pub(crate) fn match_routed(&self, cx: &mut Cx<'_>, ctx: &mut Ctx, params: &[u8]) {
        let did = Params::new(params).value(self.params.rr_param.as_bytes());
        let did = did.and_then(DialogId::parse);
        self.match_request(cx, ctx, did, self.params.match_mode);
    }

    /// Finds the dialog of a request that names it elsewhere than in a Route, or by its Call-ID
    /// and tags, and lets it count there; false: there is none.
    pub fn match_named(&self, cx: &mut Cx<'_>, ctx: &mut Ctx, did: Option<DialogId>) -> bool {
        let mode = if did.is_some() { MatchMode::DidFallback } else { self.params.match_mode };
        self.match_request(cx, ctx, did, mode)
    }

    /// Finds the dialog of a request and lets it count there; false: there is none.
    fn match_request(
        &self,
        cx: &mut Cx<'_>,
        ctx: &mut Ctx,
        did: Option<DialogId>,
        mode: MatchMode,
    ) -> bool {
        if self.current(ctx).is_some() {
            return true;
        }
        let msg = &ctx.msg;
        let (Some(from), Some(to)) = (msg.from_tag(), msg.to_tag()) else { return false };
        let Some(call_id) = msg.call_id().filter(|_| msg.is_request()) else { return false };
        self.learn_answer(cx, ctx, did);
        let named = did.filter(|_| mode.uses_did()).and_then(|id| {
            let sender =
                self.read(id, |d| if d.has_call_id(call_id) { d.sender(from, to) } else { None });
            sender.flatten().map(|(sender, callee)| Found { id, sender, callee })
        });
        let by_tags = || {
            let found = self.table.find(call_id, from, to);
            found.map(|(id, sender, callee)| Found { id, sender, callee })
        };
        // A call whose INVITE came again to a node that had just started, or to another one, may
        // have the name of the dialog that is gone: in a cluster its tags tell.
        let is_gone = || did.is_some_and(|id| self.read(id, |_| ()).is_none());
        let uses_tags = || mode.uses_tags() || (self.is_replicated() && is_gone());
        let found = named.or_else(|| if uses_tags() { by_tags() } else { None });
        match found {
            Some(found) => {
                cx.for_slot(self.slot, |cx| self.enter(cx, ctx, found));
                true
            }
            None => {
                if let Some(did) = did {
                    self.request_passes(cx, did, &ctx.msg);
                    self.refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let text = "a request names a dialog that it does not belong to";
                    cx.log(Level::Info, text);
                }
                false
            }
        }
    }

    /// A request belongs to a dialog.
    fn enter(&self, cx: &mut Cx<'_>, ctx: &mut Ctx, found: Found) {
        let Found { id, sender, callee } = found;
        let method = ctx.msg.method();
        let number = ctx.msg.cseq().map_or(0, |cseq| cseq.number);
        let towards = sender.other();
        let current = Current::new(id, sender, callee, Kind::Within(method));
        let known = self.read(id, |d| (known_cseq(d, towards, callee), d.state, d.answered_s != 0));
        let Some((before, state, was_answered)) = known else { return };
        {
            let mut work = current.work.lock();
            work.cseq_before = before;
            if matches!(method, Method::Invite | Method::Update) {
                work.contact = contact_of(&ctx.msg);
                let sdp = sdp_of(&ctx.msg);
                work.sdp = (!sdp.is_empty()).then(|| sdp.into());
            }
        }
        ctx.attached.put(self.slot, Arc::new(current));
        if state == State::Deleted {
            // It passes, and changes nothing any more. Of a call that nobody answered, as far as is
            // known here, another node may know better.
            if method == Method::Bye && !was_answered {
                self.request_passes(cx, id, &ctx.msg);
            }
            return;
        }
        self.tell_names(cx, ctx, id, sender);
        self.renumber(cx, ctx, id, (towards, callee));
        // An ACK has the number of its INVITE.
        if !matches!(method, Method::Ack | Method::Cancel) && number > before {
            let last = method == Method::Bye;
            self.try_change(cx, id, Change::Seen { towards, callee, cseq: number, last });
        }
        match method {
            Method::Ack => self.acked(cx, ctx, found, state),
            // The receiver refuses one that comes out of order (RFC 3261 12.2.2), so nothing ends.
            Method::Bye if number < before => {}
            Method::Bye => self.bye(cx, ctx, found),
            _ => self.tell_request(cx, ctx, id),
        }
    }

    /// Tells whoever has changed From or To what the receiver of a request knows.
    fn tell_names(&self, cx: &mut Cx<'_>, ctx: &mut Ctx, id: DialogId, sender: Side) {
        let names = self.read(id, |d| {
            let (from, to) = (&d.mangled_from, &d.mangled_to);
            let own = |mangled: &Text, own: &Text| match mangled.is_empty() {
                true => Text::default(),
                false => own.clone(),
            };
            (!from.is_empty() || !to.is_empty()).then(|| match sender {
                Side::Caller => (from.clone(), to.clone()),
                Side::Callee => (own(to, &d.to_uri), own(from, &d.from_uri)),
            })
        });
        let Some((from, to)) = names.flatten() else { return };
        let node = Arc::clone(cx.node);
        for (slot, _, module) in node.loaded() {
            cx.for_slot(slot, |cx| module.names_known(cx, ctx, &from, &to));
        }
    }

    fn acked(&self, cx: &mut Cx<'_>, ctx: &Ctx, found: Found, state: State) {
        let sdp = sdp_of(&ctx.msg);
        if !sdp.is_empty() {
            let (side, callee) = (found.sender, found.callee);
            let sdp = Some(sdp.into());
            self.try_change(cx, found.id, Change::Refreshed { side, callee, contact: None, sdp });
        }
        let answered = self.read(found.id, |d| d.answered.is_none_or(|at| at == found.callee));
        if state == State::Unacked && found.sender == Side::Caller && answered == Some(true) {
            let _ = self.change_by(cx, found.id, Origin::Local, Change::Acked, Some(&ctx.msg));
        }
    }

    /// A BYE of the caller counts when it goes to the callee that answered.
    fn bye(&self, cx: &mut Cx<'_>, ctx: &Ctx, found: Found) {
        let answered = self.read(found.id, |d| (d.state.is_answered(), d.answered));
        let Some((is_answered, answered)) = answered else { return };
        if !is_answered {
            // Its answer may have passed over another node.
            return self.request_passes(cx, found.id, &ctx.msg);
        }
        let (reason, counts) = match found.sender {
            Side::Callee => (EndReason::UpstreamBye, answered.is_none_or(|a| a == found.callee)),
            Side::Caller => (EndReason::DownstreamBye, answered.is_none_or(|a| a == found.callee)),
        };
        if counts {
            self.end(cx, found.id, reason, Some(&ctx.msg));
        }
    }

    fn tell_request(&self, cx: &mut Cx<'_>, ctx: &Ctx, id: DialogId) {
        let record = self.read(id, |d| (!d.sections.is_empty()).then(|| d.clone())).flatten();
        if let Some(record) = record {
            let moment = (DialogMoment::Request, ctx.flags);
            self.tell_with(cx, moment, &record, Some(&ctx.msg));
        }
    }
}

/// The last number towards a side.
fn known_cseq(d: &Dialog, towards: Side, callee: u8) -> u32 {
    match towards {
        Side::Caller => d.caller.cseq,
        Side::Callee => d.callees.get(usize::from(callee)).map_or(0, |leg| leg.cseq),
    }
}

pub(crate) fn match_dialog(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(dialogs) = call.state::<Dialogs>() else { return Called::Returned(-1) };
    let text = call.text(0);
    let mode = match &text[..] {
        b"" => Some(dialogs.params.match_mode),
        text => std::str::from_utf8(text).ok().and_then(MatchMode::named),
    };
    let Some(mode) = mode else {
        return call.complain(
            Level::Error,
            "match_dialog: the modes are DID_ONLY, DID_FALLBACK, DID_NONE",
        );
    };
    let did = did_of(&dialogs, call.ctx);
    let found = dialogs.match_request(call.cx, call.ctx, did, mode);
    Called::Returned(if found { 1 } else { -1 })
}

/// The name of a dialog in the topmost Route, or in the Request-URI where a strict router put it.
fn did_of(dialogs: &Dialogs, ctx: &Ctx) -> Option<DialogId> {
    let param = dialogs.params.rr_param.as_bytes();
    let of =
        |uri: &[u8]| Uri::parse(uri).ok().and_then(|uri| DialogId::parse(uri.params.value(param)?));
    let route = ctx.msg.values(HeaderName::Route).next();
    let route = route.and_then(|v| tandem_sip::NameAddr::parse(v.bytes).ok());
    route.and_then(|addr| of(addr.uri)).or_else(|| of(ctx.msg.request_uri()))
}

/// Judges a literal.
pub(crate) fn check_mode(text: &str) -> Result<(), String> {
    match MatchMode::named(text) {
        Some(_) => Ok(()),
        None => Err("the modes are DID_ONLY, DID_FALLBACK and DID_NONE".into()),
    }
}
