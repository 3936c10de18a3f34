//! PUBLISH (RFC 3903), and publications that other modules hand in.

use std::sync::Arc;

use bytes::Bytes;
use tandem_cluster::Digester;
use tandem_engine::module::{Call, Cx};
use tandem_script::host::Called;
use tandem_sip::{HeaderName, Message, Uri};

use crate::change::{Change, Done, Origin, Refused};
use crate::events;
use crate::package::{Package, Refusal};
use crate::record::{BODY_BYTES_MAX, Key, Publication, ROUTES_BYTES_MAX, Stamp, Text, WINFO};
use crate::reply::{Leave, refuse, refuse_beyond, refuse_event, reply};
use crate::request::{Beyond, Event, are_lines, expires, is_keepable, presentity_of};
use crate::rules::Progress;
use crate::sql::id_of;
use crate::state::Presence;

/// A publication as it is handed in.
#[derive(Clone, Debug, Default)]
pub struct Publish {
    /// `sip:user@domain`
    pub presentity: Bytes,
    /// Name of the package.
    pub event: Bytes,
    /// The ETag of what is changed; `None`: it is new.
    pub etag: Option<Bytes>,
    /// 0 removes it.
    pub expires_s: u32,
    /// Empty: that of the package.
    pub content_type: Bytes,
    /// Empty: it is kept as it is, for longer.
    pub body: Bytes,
    /// Header lines for NOTIFY, each with its end.
    pub extra: Bytes,
    /// Who publishes for a shared line and is not to be notified; empty: nobody.
    pub sender: Bytes,
    /// What tells the request from every other; 0: there is none.
    pub request: u64,
}

/// What was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    pub etag: Bytes,
    pub expires_s: u32,
}

impl Presence {
    /// Takes a publication of another module, as if it had come in a PUBLISH.
    ///
    /// # Errors
    /// The reply that a PUBLISH would get: 489 for an event nobody knows, 412 for an ETag that is
    /// none, what the package says of the body.
    pub fn publish(&self, cx: &mut Cx<'_>, publish: Publish) -> Result<Granted, Refusal> {
        let package = self.published(&publish.event).ok_or_else(bad_event)?;
        let uri = Uri::parse(&publish.presentity).ok();
        let uri = uri.as_ref().and_then(presentity_of);
        let uri = uri.ok_or_else(|| Refusal::new(400, "Bad Request"))?;
        let key = Arc::new(Key::new(&uri, &publish.event));
        cx.for_slot(self.slot, |cx| {
            let (granted, done) = self.take(cx, &key, &*package, publish)?;
            self.follow(cx, &key, Origin::Local, &done);
            Ok(granted)
        })
    }

    /// The package of what somebody publishes: a list of watchers is made here.
    fn published(&self, event: &[u8]) -> Option<Arc<dyn Package>> {
        self.package(event).filter(|package| !package.name().as_bytes().ends_with(WINFO))
    }

    /// Makes, changes, prolongs or removes a publication.
    fn take(
        &self,
        cx: &mut Cx<'_>,
        key: &Arc<Key>,
        package: &dyn Package,
        publish: Publish,
    ) -> Result<(Granted, Done), Refusal> {
        let expires_s = publish.expires_s.min(self.params.max_expires_publish_s);
        let known = publish.etag.as_ref().map(|etag| self.known(key, etag)).transpose()?;
        if publish.body.len() > BODY_BYTES_MAX || publish.extra.len() > ROUTES_BYTES_MAX {
            return Err(Refusal::new(413, "Request Entity Too Large"));
        }
        if !publish.body.is_empty() {
            package.judge(&publish.content_type, &publish.body)?;
        }
        match known {
            None if expires_s == 0 => {
                let etag = self.new_etag(cx.now).into();
                Ok((Granted { etag, expires_s }, Done::default()))
            }
            None if publish.body.is_empty() => Err(Refusal::new(400, "Body Missing")),
            Some(known) if expires_s == 0 => {
                let removed = self.remove(cx, key, known, publish.body)?;
                let etag = removed.0.etag.clone();
                self.removed.lock().add(cx.now.unix_s(), publish.request, etag);
                Ok(removed)
            }
            known => self.put(cx, key, package, known, Publish { expires_s, ..publish }),
        }
    }

    /// What a request was granted that comes once more: its first answer was lost.
    fn repeated(&self, cx: &Cx<'_>, key: &Key, request: u64) -> Option<Granted> {
        let now_s = cx.now.unix_s();
        let granted = |p: &Publication| Granted {
            etag: Bytes::copy_from_slice(&p.etag),
            expires_s: u64::from(p.expires_s).saturating_sub(now_s) as u32,
        };
        let found = self.table.read(key, |p| {
            let mut all = p.publications.iter().map(|p| &p.publication);
            all.find(|p| request != 0 && p.request == request).map(granted)
        });
        let removed = || {
            let etag = self.removed.lock().etag_of(request)?;
            Some(Granted { etag, expires_s: 0 })
        };
        found.flatten().or_else(removed)
    }

    fn known(&self, key: &Key, etag: &[u8]) -> Result<Publication, Refusal> {
        let known = self.table.read(key, |p| p.publication(etag).cloned()).flatten();
        known.ok_or_else(|| Refusal::new(412, "Conditional request failed"))
    }

    fn remove(
        &self,
        cx: &mut Cx<'_>,
        key: &Arc<Key>,
        mut known: Publication,
        body: Bytes,
    ) -> Result<(Granted, Done), Refusal> {
        let change = Change::Unpublish { id: known.id.clone(), body: body.clone() };
        let done = self.apply(cx, key, Origin::Local, change).map_err(refused)?;
        let etag = Bytes::copy_from_slice(&known.etag);
        known.body = body;
        let old = std::mem::take(&mut known.etag);
        events::raise(cx, events::PUBLISH, key, &known, &old, 0);
        Ok((Granted { etag, expires_s: 0 }, done))
    }

    fn put(
        &self,
        cx: &mut Cx<'_>,
        key: &Arc<Key>,
        package: &dyn Package,
        known: Option<Publication>,
        publish: Publish,
    ) -> Result<(Granted, Done), Refusal> {
        let now_s = cx.now.unix_s();
        let etag = match &known {
            Some(known) => next_etag(&known.etag),
            None => self.new_etag(cx.now),
        };
        let mut new = known.unwrap_or_else(|| Publication {
            id: id_of(etag.as_bytes()).into(),
            received_s: now_s as u32,
            ..Publication::default()
        });
        let old_etag = std::mem::replace(&mut new.etag, etag.as_bytes().into());
        new.expires_s = (now_s + u64::from(publish.expires_s)) as u32;
        new.foreign = false;
        if !publish.body.is_empty() {
            new.received_s = now_s as u32;
            new.said = Stamp::default();
            new.content_type = own_type(package, &publish.content_type);
            new.body = self.fixed(key, Bytes::copy_from_slice(&publish.body));
            if are_lines(&publish.extra) {
                new.extra = publish.extra[..].into();
            }
            if self.params.checks_sphere {
                new.sphere = package.sphere(&publish.body).unwrap_or_default()[..].into();
            }
        }
        new.sender = publish.sender[..].into();
        new.request = publish.request;
        let shown = cx.is_wanted(events::PUBLISH).then(|| new.clone());
        let change = Change::publish(new);
        let done = self.apply(cx, key, Origin::Local, change).map_err(refused)?;
        if let Some(new) = shown {
            events::raise(cx, events::PUBLISH, key, &new, &old_etag, publish.expires_s);
        }
        Ok((Granted { etag: etag.into(), expires_s: publish.expires_s }, done))
    }

    /// The body of a shared line, with the domain where the remote target has an address.
    fn fixed(&self, key: &Key, body: Bytes) -> Bytes {
        if !self.params.bla_fixes_target || *key.event != *b"dialog;sla" {
            return body;
        }
        crate::bla::with_domain(&body, key.parts().1).map_or(body, Bytes::from)
    }
}

/// The type of a body, empty if it is that of the package.
fn own_type(package: &dyn Package, given: &[u8]) -> Text {
    let same = given.eq_ignore_ascii_case(package.content_type().as_bytes());
    if same || !is_keepable(given) { Text::default() } else { given.into() }
}

/// The ETag after one: the last number is counted up.
fn next_etag(etag: &[u8]) -> String {
    let text = String::from_utf8_lossy(etag);
    match text.rsplit_once('.').map(|(name, n)| (name, n.parse::<u64>())) {
        Some((name, Ok(n))) => format!("{name}.{}", n.wrapping_add(1)),
        _ => format!("{text}.1"),
    }
}

fn bad_event() -> Refusal {
    Refusal::new(489, "Bad Event")
}

fn refused(refused: Refused) -> Refusal {
    match refused {
        Refused::Full => Refusal::new(503, "Too Many Publications"),
        Refused::Stale => Refusal::new(412, "Conditional request failed"),
    }
}

/// `handle_publish([sender_uri])`
pub(crate) fn handle_publish(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(presence) = call.state::<Presence>() else { return Called::Returned(-1) };
    let package = Event::of(&call.ctx.msg).and_then(|event| presence.published(&event.package));
    let Some(package) = package else { return refuse_event(call, &presence) };
    if let Some(beyond) = Beyond::of(call) {
        return refuse_beyond(call, &beyond);
    }
    let uri = Uri::parse(call.ctx.request_uri()).ok();
    let Some(uri) = uri.as_ref().and_then(presentity_of) else {
        return refuse(call, &Refusal::new(400, "Bad Request-URI"));
    };
    let key = Arc::new(Key::new(&uri, package.name().as_bytes()));
    let publish = match read(call, &key, &*package) {
        Ok(publish) => publish,
        Err(refusal) => return refuse(call, &refusal),
    };
    let progress = call.ctx.section_mut::<Progress>(presence.slot);
    if let Some(published) = progress.published.take() {
        accept(call, &presence, &published.0);
        presence.follow_reply(call.cx, &key, &published.1);
        return Called::Returned(1);
    }
    if let Some(granted) = presence.repeated(call.cx, &key, publish.request) {
        accept(call, &presence, &granted);
        return Called::Returned(1);
    }
    if let Some(etag) = &publish.etag
        && (presence.follows_rows(&key) || presence.known(&key, etag).is_err())
        && presence.looks_for_publication(call, &key)
    {
        return Called::Suspended;
    }
    match presence.take(call.cx, &key, &*package, publish) {
        Ok(mut published) => {
            if presence.waits_for_rows(call, &key, &mut published.1) {
                let progress = call.ctx.section_mut::<Progress>(presence.slot);
                progress.published = Some(Box::new(published));
                return Called::Suspended;
            }
            accept(call, &presence, &published.0);
            presence.follow_reply(call.cx, &key, &published.1);
            Called::Returned(1)
        }
        Err(refusal) => refuse(call, &refusal),
    }
}

fn accept(call: &mut Call<'_, '_, '_>, presence: &Presence, granted: &Granted) {
    let etag = String::from_utf8_lossy(&granted.etag);
    let headers = format!("Expires: {}\r\nSIP-ETag: {etag}\r\n", granted.expires_s);
    reply(call, 200, b"OK", headers.as_bytes(), Leave::of(presence));
}

/// What tells a request from every other.
fn number_of(msg: &Message) -> u64 {
    let mut all = Digester::default();
    all.text(msg.call_id().unwrap_or_default());
    all.text(msg.from_tag().unwrap_or_default());
    all.number(msg.cseq().map_or(0, |cseq| cseq.number.into()));
    all.end_nonzero()
}

/// The ETag of SIP-If-Match: one, if any (RFC 3903 6, step 3).
fn condition(msg: &Message) -> Result<Option<Bytes>, Refusal> {
    let mut all = msg.headers(HeaderName::SipIfMatch);
    let Some(header) = all.next() else { return Ok(None) };
    let etag = header.value();
    if etag.is_empty() || etag.contains(&b',') || all.next().is_some() {
        return Err(Refusal::new(400, "Bad SIP-If-Match"));
    }
    match is_keepable(etag) {
        true => Ok(Some(Bytes::copy_from_slice(etag))),
        false => Err(Refusal::new(412, "Conditional request failed")),
    }
}

/// What the request says.
fn read(call: &Call<'_, '_, '_>, key: &Key, package: &dyn Package) -> Result<Publish, Refusal> {
    let msg = &call.ctx.msg;
    let etag = condition(msg)?;
    let sender = call.text(0);
    let sender = if is_keepable(&sender) { sender } else { Bytes::new() };
    let body = call.ctx.edits.body().cloned();
    let body = body.unwrap_or_else(|| Bytes::copy_from_slice(msg.body()));
    let kind = msg.header(HeaderName::ContentType).map(|h| Bytes::copy_from_slice(h.value()));
    Ok(Publish {
        presentity: Bytes::copy_from_slice(&key.uri),
        event: Bytes::copy_from_slice(&key.event),
        etag,
        expires_s: expires(msg, package.default_expires_s())?,
        content_type: kind.unwrap_or_default(),
        body,
        extra: Bytes::new(),
        sender,
        request: number_of(msg),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_is_counted_up() {
        assert_eq!(next_etag(b"a.1.2.3.9"), "a.1.2.3.10");
        assert_eq!(next_etag(b"strange"), "strange.1");
        assert_eq!(next_etag(b"a.x"), "a.x.1");
    }
}
