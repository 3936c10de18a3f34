//! What servers answer.

use bytes::Bytes;
use tandem_engine::log::Level;
use tandem_engine::module::Cx;
use tandem_sip::{HeaderName, Message, NameAddr};

use crate::duty::Leave;
use crate::outgoing::ended;
use crate::record::{Key, Record, Stand, Text, Watch};
use crate::state::Pua;
use crate::table::{Full, Local, Sent, What};

/// Requests without success, in a row, after which a record is given up.
const TRIES_MAX: u8 = 6;
/// Seconds that a server may want at least.
const MIN_EXPIRES_MAX: u32 = 86_400;

/// What is to be done after a request, with the table unlocked.
pub(crate) enum Next {
    Nothing,
    /// More is owed.
    Send,
    /// It is tried again after these seconds.
    Later(u64),
    /// It was given up; why.
    GivenUp(String),
}

/// The record as it is to be (`None`: as it is), and what is to be done.
type Came = (Option<Record>, Next);

impl Pua {
    /// A request was answered, or nobody has answered it.
    pub(crate) fn replied(&self, cx: &mut Cx<'_>, token: u64, code: u16, reply: Option<&Message>) {
        if code < 200 {
            return;
        }
        let Some(key) = self.table.of_token(token) else { return };
        let now_s = cx.now.unix_s();
        match code {
            200..300 => self.came_to(cx, &key, token, |pua, record, sent, local| {
                local.tries = 0;
                pua.accepted(now_s, record, sent, local, reply)
            }),
            // The server does not know the ETag, or the dialog, any more.
            412 | 481 => {
                let fresh = self.new_watch(cx, &key.uri);
                self.came_to(cx, &key, token, |_, record, sent, local| {
                    lost(record, sent, local, fresh)
                });
            }
            423 => {
                self.came_to(cx, &key, token, |_, record, _, local| too_brief(record, local, reply))
            }
            408 | 480 | 500..600 => {
                self.came_to(cx, &key, token, |_, record, _, local| tried(record, local));
            }
            _ => self.came_to(cx, &key, token, |_, record, _, _| {
                (Some(ended(record)), Next::GivenUp(format!("the answer was {code}")))
            }),
        }
    }

    /// The request with this token has ended. `change` is asked, with the record locked, what
    /// comes of it.
    pub(crate) fn came_to(
        &self,
        cx: &mut Cx<'_>,
        key: &Key,
        token: u64,
        change: impl FnOnce(&Self, Record, Sent, &mut Local) -> Came,
    ) {
        let next = self.update(cx, key, |known, local| {
            let sent = local.sent.take_if(|sent| sent.token == token);
            match (known, sent) {
                (Some(record), Some(sent)) => change(self, record, sent, local),
                _ => (None, Next::Nothing),
            }
        });
        match next {
            Ok(Next::Send) => self.pump(cx, key, &Leave::Asked),
            Ok(Next::Later(seconds)) => self.table.later(key, cx.now.unix_s() + seconds),
            Ok(Next::GivenUp(why)) => {
                let uri = String::from_utf8_lossy(&key.uri).into_owned();
                let event = key.event().map_or("?", |event| event.name());
                let text = format!("pua: what is said of {uri} ({event}) is given up: {why}");
                cx.log(Level::Warning, text);
            }
            Ok(Next::Nothing) | Err(Full) => {}
        }
    }

    fn accepted(
        &self,
        now_s: u64,
        mut record: Record,
        sent: Sent,
        local: &Local,
        reply: Option<&Message>,
    ) -> Came {
        let newer = local.wish != sent.wish;
        let ends = matches!(sent.what, What::End | What::Farewell);
        // A peer may have wanted something else meanwhile; it sends that itself.
        let others = ends != (record.stand == Stand::Ending);
        if ends && !newer && !others {
            return (Some(ended(record)), Next::Nothing);
        }
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
        if !newer && !others {
            record.stand = Stand::Told;
        }
        (Some(record), if newer { Next::Send } else { Next::Nothing })
    }
}

/// What the server has lost is published anew, with its whole body (RFC 3903 4.1), or subscribed
/// to in another dialog.
fn lost(mut record: Record, sent: Sent, local: &mut Local, fresh: Watch) -> Came {
    if let Some(watch) = record.watch.as_mut() {
        if sent.what == What::End && record.stand == Stand::Ending {
            return (Some(ended(record)), Next::Nothing);
        }
        let (contact, to_uri) = (watch.contact.clone(), watch.to_uri.clone());
        **watch = Watch { contact, to_uri, ..fresh };
    }
    (record.etag, record.expires_s) = (Text::default(), 0);
    if record.stand == Stand::Told {
        record.stand = Stand::Wanted;
    }
    let next = if count_try(local) { Next::Send } else { Next::Nothing };
    (Some(record), next)
}

/// The server wants to keep it longer (RFC 3903 6, step 6).
fn too_brief(record: Record, local: &mut Local, reply: Option<&Message>) -> Came {
    let least = reply
        .and_then(|r| r.header(HeaderName::MinExpires))
        .and_then(|header| std::str::from_utf8(header.value()).ok()?.trim().parse::<u32>().ok());
    let Some(least) = least.filter(|least| *least <= MIN_EXPIRES_MAX) else {
        return tried(record, local);
    };
    local.min_expires_s = least;
    match count_try(local) {
        true => (None, Next::Send),
        false => tried(record, local),
    }
}

fn count_try(local: &mut Local) -> bool {
    local.tries = local.tries.saturating_add(1);
    local.tries <= TRIES_MAX
}

/// Nobody has answered, or the server cannot now: again, later and later.
pub(crate) fn tried(record: Record, local: &mut Local) -> Came {
    match count_try(local) {
        true => (None, Next::Later(1 << local.tries.min(6))),
        false => (Some(ended(record)), Next::GivenUp("no server answers".to_owned())),
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
