//! What servers answer.

use bytes::Bytes;
use tandem_engine::log::Level;
use tandem_engine::module::Cx;
use tandem_sip::{HeaderName, Message, NameAddr};

use crate::duty::Leave;
use crate::record::{Key, Record, Stand, Text};
use crate::state::Pua;
use crate::table::{Origin, Sent, What};

/// Requests without success, in a row, after which a record is given up.
const TRIES_MAX: u8 = 6;
/// Seconds that a server may want at least.
const MIN_EXPIRES_MAX: u32 = 86_400;

impl Pua {
    /// A request was answered, or nobody has answered it.
    pub(crate) fn replied(&self, cx: &mut Cx<'_>, token: u64, code: u16, reply: Option<&Message>) {
        if code < 200 {
            return;
        }
        let Some((key, sent)) = self.table.end(token) else { return };
        let found = self.table.read(&key, |r, local| (r.clone(), local.wish != sent.wish));
        let Some((record, newer)) = found.filter(|(r, _)| r.stand != Stand::Gone) else { return };
        match code {
            200..300 => {
                self.table.local(&key, |local| local.tries = 0);
                self.accepted(cx, record, sent, newer, reply);
            }
            // The server does not know the ETag, or the dialog, any more.
            412 | 481 => self.lost(cx, record, sent),
            423 => self.too_brief(cx, &key, reply),
            408 | 480 | 500..600 => self.try_later(cx, &key),
            _ => self.refused(cx, record, code),
        }
    }

    fn accepted(
        &self,
        cx: &mut Cx<'_>,
        mut record: Record,
        sent: Sent,
        newer: bool,
        reply: Option<&Message>,
    ) {
        let key = record.key.clone();
        let ends = matches!(sent.what, What::End | What::Farewell);
        if ends && !newer {
            return self.gone(cx, record);
        }
        let now_s = cx.now.unix_s();
        let expires = reply.and_then(|r| r.expires().ok().flatten()).map(u64::from);
        let left = record.desired_s.saturating_sub(now_s);
        let lasts = expires.unwrap_or(left.min(self.params.default_expires_s.into()));
        record.expires_s = now_s + lasts;
        if record.watch.is_none() {
            let etag = reply.and_then(|r| r.header(HeaderName::SipEtag)).map(|h| h.value());
            record.etag = match sent.what {
                What::End => Text::default(),
                _ => etag.unwrap_or_default().into(),
            };
        } else if let Some(reply) = reply {
            take_dialog(&mut record, reply);
        }
        if !newer {
            record.stand = Stand::Told;
        }
        self.put(cx, record, Origin::Local);
        if newer {
            self.pump(cx, &key, &Leave::Asked);
        }
    }

    /// What the server has lost is published anew, with its whole body (RFC 3903 4.1), or
    /// subscribed to in another dialog.
    fn lost(&self, cx: &mut Cx<'_>, mut record: Record, sent: Sent) {
        let key = record.key.clone();
        if record.watch.is_some() && sent.what == What::End {
            return self.gone(cx, record);
        }
        if let Some(watch) = &record.watch {
            let contact = watch.contact.clone();
            let mut next = self.new_watch(cx, &watch.to_uri);
            next.contact = contact;
            record.watch = Some(Box::new(next));
        }
        (record.etag, record.expires_s) = (Text::default(), 0);
        if record.stand == Stand::Told {
            record.stand = Stand::Wanted;
        }
        self.put(cx, record, Origin::Local);
        if self.count_try(&key) {
            self.pump(cx, &key, &Leave::Asked);
        }
    }

    /// The server wants to keep it longer (RFC 3903 6, step 6).
    fn too_brief(&self, cx: &mut Cx<'_>, key: &Key, reply: Option<&Message>) {
        let least = reply.and_then(|r| r.header(HeaderName::MinExpires)).and_then(|header| {
            std::str::from_utf8(header.value()).ok()?.trim().parse::<u32>().ok()
        });
        let Some(least) = least.filter(|least| *least <= MIN_EXPIRES_MAX) else {
            return self.try_later(cx, key);
        };
        self.table.local(key, |local| local.min_expires_s = least);
        match self.count_try(key) {
            true => self.pump(cx, key, &Leave::Asked),
            false => self.try_later(cx, key),
        }
    }

    fn refused(&self, cx: &mut Cx<'_>, record: Record, code: u16) {
        let uri = String::from_utf8_lossy(&record.key.uri).into_owned();
        let event = record.key.event().map_or("?", |event| event.name());
        let text = format!("pua: {code} to what was sent for {uri} ({event}): it is given up");
        cx.log(Level::Warning, text);
        self.gone(cx, record);
    }

    fn count_try(&self, key: &Key) -> bool {
        let tries = self.table.local(key, |local| {
            local.tries = local.tries.saturating_add(1);
            local.tries
        });
        tries.is_some_and(|tries| tries <= TRIES_MAX)
    }

    /// Nobody has answered, or the server cannot now: again, later and later.
    pub(crate) fn try_later(&self, cx: &mut Cx<'_>, key: &Key) {
        if self.count_try(key) {
            let tries = self.table.read(key, |_, local| local.tries).unwrap_or(1);
            return self.table.later(key, cx.now.unix_s() + (1 << tries.min(6)));
        }
        let Some(record) = self.table.read(key, |r, _| r.clone()) else { return };
        let uri = String::from_utf8_lossy(&record.key.uri).into_owned();
        cx.log(Level::Error, format!("pua: no server answers for {uri}: it is given up"));
        self.gone(cx, record);
    }
}

/// What the first 2xx to a SUBSCRIBE tells of its dialog.
fn take_dialog(record: &mut Record, reply: &Message) {
    let Some(watch) = record.watch.as_mut() else { return };
    if watch.to_tag.is_empty() {
        watch.to_tag = reply.to_tag().unwrap_or_default().into();
        let mut routes: Vec<Bytes> = reply
            .values(HeaderName::RecordRoute)
            .map(|value| Bytes::copy_from_slice(value.bytes))
            .collect();
        routes.reverse();
        watch.routes = routes.join(&b","[..]).into();
    }
    let contact = reply.values(HeaderName::Contact).next();
    if let Some(Ok(contact)) = contact.map(|value| NameAddr::parse(value.bytes)) {
        watch.remote_contact = contact.uri.into();
    }
}
