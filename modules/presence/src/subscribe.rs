//! SUBSCRIBE (RFC 6665 4.2).

use std::sync::Arc;

use bytes::Bytes;
use tandem_engine::module::Call;
use tandem_engine::own_reply::local_tag;
use tandem_engine::transport::changed_contact;
use tandem_script::host::{ArgValue, Called};
use tandem_script::program::Ready;
use tandem_sip::{HeaderName, NameAddr, Scheme, Uri};

use crate::accept::admits;
use crate::change::{Change, Origin, Refused};
use crate::package::{Package, Refusal, Status, Verdict};
use crate::record::{ASTRAY_MARGIN, Key, SubId, Subscription, Text, uri_of};
use crate::reply::{Leave, refuse, refuse_beyond, refuse_event, reply};
use crate::request::{Beyond, Event, expires, is_keepable, presentity_of, route_set};
use crate::rules::{FORCED, Progress, UNJUDGED};
use crate::state::Presence;

/// What a SUBSCRIBE says.
struct Request {
    id: SubId,
    cseq: u32,
    expires_s: u32,
    contact: Option<Text>,
}

/// `handle_subscribe([force_active], [sharing_tag])`
pub(crate) fn handle_subscribe(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(presence) = call.state::<Presence>() else { return Called::Returned(-1) };
    let event = Event::of(&call.ctx.msg);
    let found = event.and_then(|event| Some((presence.package(&event.package)?, event.id)));
    let Some((package, event_id)) = found else { return refuse_event(call, &presence) };
    if let Some(beyond) = Beyond::of(call) {
        return refuse_beyond(call, &beyond);
    }
    let request = match read(call, &presence, &*package, event_id) {
        Ok(request) => request,
        Err(refusal) => return refuse(call, &refusal),
    };
    let is_known = call.ctx.msg.to_tag().is_some();
    let leaves = is_known && request.expires_s == 0;
    if !leaves && !admits(call, package.content_type()) {
        return refuse(call, &Refusal::new(406, "Not Acceptable"));
    }
    let result = if is_known {
        within(call, &presence, &*package, request)
    } else {
        initial(call, &presence, &*package, request)
    };
    result.unwrap_or_else(|refusal| refuse(call, &refusal))
}

fn bad(reason: &str) -> Refusal {
    Refusal::new(400, reason)
}

fn read(
    call: &Call<'_, '_, '_>,
    presence: &Presence,
    package: &dyn Package,
    event_id: Vec<u8>,
) -> Result<Request, Refusal> {
    let msg = &call.ctx.msg;
    let keepable = |text: &[u8]| is_keepable(text).then(|| Text::from(text));
    let own = || Text::from(local_tag(call.cx.node, msg).as_bytes());
    let id = SubId {
        call_id: msg.call_id().and_then(keepable).ok_or_else(|| bad("Bad Call-ID"))?,
        to_tag: msg.to_tag().map_or_else(|| Some(own()), keepable).ok_or_else(|| bad("Bad To"))?,
        from_tag: msg.from_tag().and_then(keepable).ok_or_else(|| bad("From Without Tag"))?,
        event_id: event_id.into(),
    };
    let cseq = msg.cseq().map_err(|_| bad("Bad CSeq"))?.number;
    let expires_s = expires(msg, package.default_expires_s())?;
    // As the script leaves it: fix_nated_contact() says where a phone behind NAT is reached.
    let changed = changed_contact(msg, &call.ctx.edits);
    let sent = || msg.values(HeaderName::Contact).next().map(|value| value.bytes);
    let contact = match changed.as_deref().or_else(sent) {
        None => None,
        Some(value) => {
            let contact = NameAddr::parse(value).ok().filter(|c| is_keepable(c.uri));
            let contact = contact.filter(|c| Uri::parse(c.uri).is_ok_and(|uri| uri.is_sip()));
            Some(contact.ok_or_else(|| bad("Bad Contact"))?.uri.into())
        }
    };
    let expires_s = expires_s.min(presence.params.max_expires_subscribe_s);
    Ok(Request { id, cseq, expires_s, contact })
}

/// A subscription that is not there yet.
fn initial(
    call: &mut Call<'_, '_, '_>,
    presence: &Presence,
    package: &dyn Package,
    request: Request,
) -> Result<Called, Refusal> {
    let key = Arc::new(presentity(call, presence, package)?);
    if let Some(known) = presence.table.subscription(&key, &request.id) {
        // A retransmission: its NOTIFY has left.
        accept(call, presence, &known);
        return Ok(Called::Returned(1));
    }
    let mut new = subscription(call, presence, &request)?;
    let forced = call.int(0).unwrap_or(0) != 0;
    let verdict = if package.has_rules() && !forced {
        match presence.verdict(call, package, &key, &new) {
            Some(verdict) => verdict,
            None => return Ok(Called::Suspended),
        }
    } else {
        Verdict::active()
    };
    if package.has_rules() {
        presence.keep_verdict(call.cx, &key, &new, &verdict);
    }
    if verdict.status == Status::Terminated {
        return Err(Refusal::new(403, "Forbidden"));
    }
    new.status = if verdict.status == Status::Active { Status::Active } else { Status::Pending };
    new.view = verdict.view[..].into();
    let is_forced = package.has_rules() && forced;
    new.reason = if is_forced { FORCED.into() } else { Text::default() };
    let code = if new.status == Status::Active { 200 } else { 202 };
    if request.expires_s == 0 {
        // A look at the state (RFC 6665 4.4.3).
        (new.status, new.reason) = match new.status {
            Status::Active => (Status::Terminated, b"timeout".as_slice().into()),
            _ => (Status::Terminated, b"giveup".as_slice().into()),
        };
    }
    presence.look_for_publications(call.cx, &key);
    let change = Change::subscribe(new.clone());
    let done = presence.apply(call.cx, &key, Origin::Local, change).map_err(|why| match why {
        Refused::Full => Refusal::new(503, "Too Many Subscriptions"),
        Refused::Stale => Refusal::new(500, "Server Internal Error"),
    })?;
    presence.query_peers(call.cx, &key);
    accept_with(call, presence, &new, code);
    presence.follow_reply(call.cx, &key, &done);
    Ok(Called::Returned(1))
}

/// Whom a SUBSCRIBE is about: the Request-URI; for shared lines the line of the phone.
fn presentity(
    call: &mut Call<'_, '_, '_>,
    presence: &Presence,
    package: &dyn Package,
) -> Result<Key, Refusal> {
    let bad_uri = || bad("Bad Request-URI");
    if package.name() == "dialog;sla" {
        let uri = crate::bla::presentity(call, presence).ok_or_else(bad_uri)?;
        return Ok(Key::new(&uri, package.name().as_bytes()));
    }
    let uri = Uri::parse(call.ctx.request_uri()).ok();
    let uri = uri.as_ref().and_then(presentity_of).ok_or_else(bad_uri)?;
    Ok(Key::new(&uri, package.name().as_bytes()))
}

fn subscription(
    call: &mut Call<'_, '_, '_>,
    presence: &Presence,
    request: &Request,
) -> Result<Subscription, Refusal> {
    let tag = tag_of(call);
    let msg = &call.ctx.msg;
    let contact = request.contact.clone().ok_or_else(|| bad("Contact Missing"))?;
    let parts = |address: Result<NameAddr<'_>, _>, why: &str| -> Result<(Text, Text), Refusal> {
        let address = address.ok().filter(|a| is_keepable(a.uri));
        let uri = address.as_ref().and_then(|a| a.parse_uri().ok()).ok_or_else(|| bad(why))?;
        let user = uri.user.unwrap_or_default();
        // Kept as user and domain, a number without the latter; another URI cannot be.
        if !uri.is_sip() && uri.scheme != Scheme::Tel {
            return Err(bad(why));
        }
        Ok((user.into(), uri.host.to_ascii_lowercase().into()))
    };
    let (from_user, from_domain) = parts(msg.from(), "Bad From")?;
    let (to_user, to_domain) = parts(msg.to(), "Bad To")?;
    let socket = call.cx.node.sockets.get(call.ctx.source.socket);
    let (wire, here, transport) = socket.map_or_else(Default::default, |s| {
        let transport = if s.proto.text() == "udp" { "" } else { s.proto.text() };
        (s.wire_text(), s.sent_by().to_owned(), transport)
    });
    let mut local_contact = uri_of(presence.params.contact_user.as_bytes(), here.as_bytes());
    if !transport.is_empty() {
        local_contact.extend_from_slice(format!(";transport={transport}").as_bytes());
    }
    Ok(Subscription {
        id: Arc::new(request.id.clone()),
        from_user,
        from_domain,
        to_user,
        to_domain,
        contact,
        routes: route_set(msg)?.into(),
        socket: wire.into_bytes().into(),
        local_contact: local_contact.into(),
        tag,
        expires_s: end_of(call, request),
        remote_cseq: request.cseq,
        asks: 1,
        creator: call.cx.node.membership().node_id(),
        ..Subscription::default()
    })
}

/// The sharing tag of the second argument.
fn tag_of(call: &Call<'_, '_, '_>) -> Text {
    match call.args.get(1) {
        Some(ArgValue::Ready(Ready::SharingTag(tag))) => match tag.cluster {
            Some(cluster) => format!("{}/{cluster}", tag.name).into_bytes().into(),
            None => tag.name.as_bytes().into(),
        },
        _ => call.text(1)[..].into(),
    }
}

fn end_of(call: &Call<'_, '_, '_>, request: &Request) -> u32 {
    (call.cx.now.unix_s() + u64::from(request.expires_s)) as u32
}

/// A SUBSCRIBE within a dialog: prolongs, or ends.
fn within(
    call: &mut Call<'_, '_, '_>,
    presence: &Presence,
    package: &dyn Package,
    request: Request,
) -> Result<Called, Refusal> {
    let keys = presence.table.keys_of(&request.id);
    let key = keys.iter().find(|key| *key.event == *package.name().as_bytes());
    let known = key.and_then(|key| {
        let known = presence.table.subscription(key, &request.id)?;
        (known.status != Status::Terminated).then(|| (Arc::clone(key), known))
    });
    let Some((key, mut s)) = known else {
        if presence.looks_for_subscription(call, &request.id) {
            return Ok(Called::Suspended);
        }
        return Err(Refusal::new(481, "Subscription Does Not Exist"));
    };
    let goes_astray = presence.shares_rows() && request.cseq > s.remote_cseq.saturating_add(1);
    if goes_astray {
        // What is between may have gone to another node on the same database, which has notified.
        if presence.looks_for_subscription(call, &request.id) {
            return Ok(Called::Suspended);
        }
        s.sent.cseq = s.sent.cseq.saturating_add(ASTRAY_MARGIN);
    }
    if request.cseq < s.remote_cseq {
        // RFC 3261 12.2.2.
        return Err(Refusal::new(500, "Stale CSeq"));
    }
    if request.cseq == s.remote_cseq {
        accept(call, presence, &s);
        return Ok(Called::Returned(1));
    }
    let was_pending = s.status == Status::Pending;
    s.remote_cseq = request.cseq;
    s.asks = s.asks.saturating_add(1);
    s.expires_s = end_of(call, &request);
    if let Some(contact) = request.contact {
        s.contact = contact;
    }
    if let Some(socket) = call.cx.node.sockets.get(call.ctx.source.socket) {
        s.socket = socket.wire_text().into_bytes().into();
    }
    if request.expires_s == 0 {
        // Nobody who was not let in is told the state when he leaves.
        let reason = if was_pending { b"giveup".as_slice() } else { b"timeout" };
        (s.status, s.reason) = (Status::Terminated, reason.into());
        if was_pending {
            presence.keep_waiting(call.cx, &key, &s);
        }
    }
    presence.look_for_publications(call.cx, &key);
    let change = Change::subscribe(s.clone());
    let done = presence.apply(call.cx, &key, Origin::Local, change);
    let done = done.map_err(|_| Refusal::new(481, "Subscription Does Not Exist"))?;
    accept(call, presence, &s);
    presence.follow_reply(call.cx, &key, &done);
    let is_open = s.status == Status::Pending || *s.view == *UNJUDGED;
    if is_open && package.has_rules() {
        // The rules may be others by now, or could not be asked before.
        presence.judge(call.cx, &key, &s.id);
    }
    Ok(Called::Returned(1))
}

fn accept(call: &mut Call<'_, '_, '_>, presence: &Presence, s: &Subscription) {
    let code = if s.status == Status::Pending { 202 } else { 200 };
    accept_with(call, presence, s, code);
}

fn accept_with(call: &mut Call<'_, '_, '_>, presence: &Presence, s: &Subscription, code: u16) {
    let left_s = u64::from(s.expires_s).saturating_sub(call.cx.now.unix_s());
    let contact = String::from_utf8_lossy(&s.local_contact);
    let headers = format!("Expires: {left_s}\r\nContact: <{contact}>\r\n");
    let reason: &[u8] = if code == 200 { b"OK" } else { b"Accepted" };
    reply(call, code, reason, headers.as_bytes(), Leave::of(presence));
}

impl Presence {
    /// What the rules say, if that is known; else the run waits for it.
    fn verdict(
        &self,
        call: &mut Call<'_, '_, '_>,
        package: &dyn Package,
        key: &Arc<Key>,
        s: &Subscription,
    ) -> Option<Verdict> {
        let given = call.ctx.section_mut::<Progress>(self.slot).verdict.take();
        if given.is_some() {
            return given;
        }
        let watcher = Bytes::from(s.watcher_uri());
        match self.ask_rules(call.cx, package, key, watcher) {
            Ok(verdict) => Some(verdict),
            Err(token) => {
                let run = call.suspend();
                self.rules_of_run(token, run);
                None
            }
        }
    }
}
