//! `create_dialog`: a dialog for an initial INVITE.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use tandem_engine::context::Ctx;
use tandem_engine::dialog::DialogMoment;
use tandem_engine::log::Level;
use tandem_engine::module::Module;
use tandem_engine::module::{Call, Cx};
use tandem_script::flags::parse;
use tandem_script::host::Called;
use tandem_script::program::Ready;
use tandem_sip::{HeaderName, Message, Method, NameAddr};
use tandem_tm::Tm;

use crate::change::Origin;
use crate::current::{Current, Kind};
use crate::flags::{self, Flags};
use crate::pending::Pending;
use crate::record::{Dialog, Leg, Routes, Side, Stamp, State, Terms, Text, ValueStamps};
use crate::sdp::sdp_of;
use crate::state::Dialogs;
use crate::stats;

/// What became of the wish for a dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    New,
    /// The message has one.
    Known,
    /// The INVITE was seen before, or refused, and is dealt with.
    DealtWith,
}

pub(crate) fn create_dialog(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(dialogs) = call.state::<Dialogs>() else { return Called::Returned(-1) };
    let flags = match call.ready(0) {
        Some(Ready::Flags(set)) => flags::of(set),
        _ => {
            let text = call.text(0);
            match parse(flags::CREATE, &String::from_utf8_lossy(&text)) {
                Ok(parsed) => flags::of(&parsed.flags),
                Err(why) => return call.complain(Level::Error, format!("create_dialog: {why}")),
            }
        }
    };
    match dialogs.create(call.cx, call.ctx, flags) {
        Ok(Created::New | Created::Known) => Called::Returned(1),
        Ok(Created::DealtWith) => Called::Returned(0),
        Err(why) => call.complain(Level::Error, format!("create_dialog: {why}")),
    }
}

impl Dialogs {
    /// Makes the dialog of an initial INVITE, and its transaction.
    ///
    /// # Errors
    /// Why there is none.
    pub fn create(&self, cx: &mut Cx<'_>, ctx: &mut Ctx, flags: Flags) -> Result<Created, String> {
        if self.current(ctx).is_some() {
            return Ok(Created::Known);
        }
        if ctx.msg.method() != Method::Invite || ctx.msg.to_tag().is_some() {
            return Err("only the INVITE that begins a call makes a dialog".into());
        }
        let (tm_slot, tm) = cx.node.find::<Tm>().ok_or("the module tm is not loaded")?;
        match cx.for_slot(tm_slot, |cx| tm.begin_async(cx, ctx)) {
            Some(Ok(true)) => {}
            Some(Ok(false)) => return Ok(Created::DealtWith),
            Some(Err(why)) => return Err(why),
            None => return Err("there is no transaction".into()),
        }
        let dialog = self.new_dialog(cx, ctx, flags)?;
        let id = dialog.id;
        let mut local = self.new_local();
        local.invite = tm.transaction_of(tm_slot, ctx);
        // Who keeps something in it hears of it.
        let record = (!dialog.sections.is_empty()).then(|| dialog.clone());
        cx.for_slot(self.slot, |cx| {
            self.insert(cx, dialog, local, Origin::Local).map_err(|e| e.to_string())?;
            self.count(cx, stats::PROCESSED);
            if let Some(record) = &record {
                self.tell(cx, DialogMoment::Created, record, Some(&ctx.msg));
            }
            Ok::<(), String>(())
        })?;
        let current = Current::new(id, Side::Caller, 0, Kind::Initial);
        ctx.attached.put(self.slot, Arc::new(current));
        ctx.rewritten.plain |= flags.has(Flags::AUTO_PRACK);
        if self.params.match_mode.uses_did() {
            let route = ctx.record_route.get_or_insert_default();
            let parts =
                [&route.params[..], b";", self.params.rr_param.as_bytes(), b"=", &id.text()];
            route.params = Bytes::from(parts.concat());
        }
        Ok(Created::New)
    }

    fn new_dialog(&self, cx: &mut Cx<'_>, ctx: &mut Ctx, flags: Flags) -> Result<Dialog, String> {
        let msg = ctx.msg.clone();
        let call_id = msg.call_id().ok_or("the INVITE has no Call-ID")?;
        let from = msg.from().map_err(|_| "From cannot be read")?;
        let to = msg.to().map_err(|_| "To cannot be read")?;
        let tag = from.tag().ok_or("From has no tag")?;
        let cseq = msg.cseq().map_err(|_| "CSeq cannot be read")?;
        let now_s = u32::try_from(cx.now.unix_s()).unwrap_or(u32::MAX);
        let pending = ctx.section_mut::<Pending>(self.slot);
        let lifetime_s = pending.lifetime_s.unwrap_or(self.params.default_timeout_s);
        let socket = cx.node.sockets.get(ctx.source.socket);
        let caller = Leg {
            tag: tag.into(),
            contact: contact_of(&msg).unwrap_or_default(),
            route_set: routes_of(&msg),
            socket: socket.map(|s| Text::from(&s.wire()[..])).unwrap_or_default(),
            sdp_in: sdp_of(&msg).into(),
            ..Leg::default()
        };
        let id = self.table.new_id(call_id, &mut cx.worker.chance);
        Ok(Dialog {
            id,
            call_id: call_id.into(),
            from_uri: from.uri.into(),
            to_uri: to.uri.into(),
            mangled_from: Text::default(),
            mangled_to: Text::default(),
            start_s: now_s,
            answered_s: 0,
            ended_s: 0,
            state: State::Unconfirmed,
            end_reason: None,
            invite_cseq: cseq.number,
            caller,
            callees: SmallVec::new(),
            answered: None,
            values: Vec::new(),
            profiles: Vec::new(),
            user_flags: 0,
            module_flags: 0,
            flags: flags.with(Flags::INITIAL),
            lifetime_s,
            expires_s: now_s.saturating_add(lifetime_s),
            delete_delay_s: None,
            routes: Routes::default(),
            sections: Vec::new(),
            debt: None,
            creator: cx.node.membership().node_id(),
            stamp: Stamp { time_us: 0, node: 0 },
            terms: Terms::NONE,
            value_stamps: ValueStamps::default(),
        })
    }
}

/// URI of the first Contact.
pub(crate) fn contact_in(msg: &Message) -> Option<&[u8]> {
    let value = msg.values(HeaderName::Contact).next()?;
    NameAddr::parse(value.bytes).ok().map(|addr| addr.uri)
}

/// The same, to be kept.
pub(crate) fn contact_of(msg: &Message) -> Option<Text> {
    contact_in(msg).map(Text::from)
}

/// The Record-Route values in their order, separated by commas: the routes towards the sender of
/// a request.
fn routes_of(msg: &Message) -> Text {
    let values: Vec<&[u8]> = msg.values(HeaderName::RecordRoute).map(|v| v.bytes).collect();
    values.join(&b","[..]).into()
}
