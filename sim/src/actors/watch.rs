//! What a phone publishes, and whom it watches (RFC 3903, 6665).

use std::net::SocketAddr;

use tandem_clock::{Chance, MS, Mono, SEC};
use tandem_sip::Message;

use super::CALL_ID_END;
use super::message::{DOMAIN, Request, reply, text};
use super::phone::{Phone, Timer};
use crate::checkers::watching::Seen;
use crate::options::Dice;

/// Seconds that are asked for.
const PUBLISH_S: u64 = 600;
const SUBSCRIBE_S: u64 = 120;

/// The states of a phone: its own, and the one it watches.
#[derive(Debug)]
pub(crate) struct Watching {
    /// Its own, so that what else a phone does stays as it was.
    chance: Chance,
    own: Own,
    other: Other,
}

#[derive(Debug, Default)]
struct Own {
    /// The branch of the PUBLISH under way, with its state.
    open: Option<(String, String)>,
    etag: Option<String>,
    /// The state that was confirmed; `None` while nobody knows.
    state: Option<String>,
    number: u32,
}

#[derive(Debug, Default)]
struct Other {
    user: String,
    open: Option<String>,
    call_id: String,
    tag: String,
    to_tag: Option<String>,
    cseq: u32,
    until: Mono,
    /// The last NOTIFY, and what it said.
    notify_cseq: u32,
    state: String,
}

impl Watching {
    pub(crate) fn new(id: u32) -> Self {
        let chance = Chance::from_number(u64::from(id) << 32);
        Self { chance, own: Own::default(), other: Other::default() }
    }
}

impl Phone {
    pub(crate) fn begin_watching(&mut self, now: Mono) {
        if self.habits.publish_per_s <= 0.0 && !self.habits.lamps {
            return;
        }
        let other = self.id % self.habits.phones.max(1) + 1;
        self.watching.other.user = format!("phone{other}");
        let (first, second) = (
            self.watching.chance.between(SEC, 6 * SEC),
            self.watching.chance.between(SEC, 6 * SEC),
        );
        if self.habits.publish_per_s > 0.0 {
            self.arm(now + first, Timer::Publish);
        }
        self.arm(now + second, Timer::Subscribe);
    }

    fn any_node(&mut self) -> SocketAddr {
        let n = self.watching.chance.pick(self.nodes.len());
        self.nodes.get(n).copied().unwrap_or(self.public)
    }

    /// Publishes the next state; at rest only what nobody knows the end of.
    pub(crate) fn publish(&mut self, now: Mono) {
        let mean_ms = (1_000.0 / self.habits.publish_per_s) as u64;
        let wait = self.watching.chance.between(mean_ms / 2, mean_ms * 3 / 2) * MS;
        self.arm(now + wait, Timer::Publish);
        let own = &mut self.watching.own;
        if own.open.is_some() || (self.is_resting && own.state.is_some()) {
            return;
        }
        own.number += 1;
        let state = format!("Messages-Waiting: yes\r\nVoice-Message: {}/0\r\n", own.number);
        let etag = own.etag.clone();
        let (number, uri) = (own.number, self.aor_uri());
        let branch = format!("z9hG4bKp{}-{number}", self.id);
        let mut extra = vec![
            "Event: message-summary".to_owned(),
            "Content-Type: application/simple-message-summary".to_owned(),
        ];
        extra.extend(etag.map(|etag| format!("SIP-If-Match: {etag}")));
        let request = Request {
            method: "PUBLISH",
            uri: uri.clone(),
            via: self.public.to_string(),
            branch: branch.clone(),
            from: (uri.clone(), "p".into()),
            to: (uri, None),
            call_id: format!("publish-{}-{number}{CALL_ID_END}", self.id),
            cseq: 1,
            expires_s: Some(PUBLISH_S),
            extra,
            body: state.clone(),
            ..Request::default()
        };
        self.watching.own.state = None;
        self.watching.own.open = Some((branch.clone(), state));
        let to = self.any_node();
        self.start(now, branch, to, request.bytes());
    }

    /// Begins to watch, or goes on.
    pub(crate) fn subscribe(&mut self, now: Mono) {
        let wait = self.watching.chance.between(10 * SEC, 25 * SEC);
        self.arm(now + wait, Timer::Subscribe);
        if self.watching.other.open.is_some() {
            return;
        }
        let event = if self.habits.lamps { "dialog" } else { "message-summary" };
        let id = self.id;
        let fresh = self.watching.chance.u32();
        let other = &mut self.watching.other;
        if other.to_tag.is_none() {
            other.call_id = format!("watch-{id}-{fresh:08x}{CALL_ID_END}");
            other.tag = format!("{fresh:08x}");
            (other.cseq, other.notify_cseq) = (0, 0);
            other.state.clear();
        }
        other.cseq += 1;
        let uri = format!("sip:{}@{DOMAIN}", other.user);
        let branch = format!("z9hG4bKs{id}-{}-{}", other.tag, other.cseq);
        let request = Request {
            method: "SUBSCRIBE",
            uri: uri.clone(),
            via: self.public.to_string(),
            branch: branch.clone(),
            from: (format!("sip:{}@{DOMAIN}", self.user), other.tag.clone()),
            to: (uri, other.to_tag.clone()),
            call_id: other.call_id.clone(),
            cseq: other.cseq,
            contact: Some(format!("sip:{}@{}", self.user, self.public)),
            expires_s: Some(SUBSCRIBE_S),
            extra: vec![format!("Event: {event}")],
            ..Request::default()
        };
        let bytes = request.bytes();
        self.watching.other.open = Some(branch.clone());
        let to = self.any_node();
        self.start(now, branch, to, bytes);
    }

    /// A PUBLISH or SUBSCRIBE has its final reply; false: it was neither.
    pub(crate) fn watch_replied(
        &mut self,
        now: Mono,
        branch: &str,
        status: u16,
        reply: Option<&Message>,
    ) -> bool {
        let header = |name: &[u8]| {
            let header = reply.and_then(|r| r.header_by_text(name))?;
            Some(text(header.value()))
        };
        let own = &mut self.watching.own;
        if let Some((_, state)) = own.open.take_if(|(open, _)| open == branch) {
            if (200..300).contains(&status) {
                own.etag = header(b"SIP-ETag");
                own.state = Some(state);
            } else {
                // Whether it was taken nobody knows; 412: it was, or has ended.
                own.etag = own.etag.take().filter(|_| status != 412 && status != 408);
                self.arm(now + SEC, Timer::Publish);
                self.say(format!("PUBLISH failed with {status}"));
            }
            return true;
        }
        let other = &mut self.watching.other;
        if other.open.take_if(|open| open == branch).is_none() {
            return false;
        }
        if (200..300).contains(&status) {
            other.to_tag = reply.and_then(|r| r.to_tag()).map(text);
            let granted = header(b"Expires").and_then(|e| e.parse::<u64>().ok()).unwrap_or(0);
            other.until = now + granted * SEC;
        } else {
            if status == 481 {
                other.to_tag = None;
            }
            self.arm(now + SEC, Timer::Subscribe);
            self.say(format!("SUBSCRIBE failed with {status}"));
        }
        true
    }

    /// A NOTIFY. One that was overtaken changes nothing.
    pub(crate) fn notified(&mut self, _now: Mono, from: SocketAddr, msg: &Message) {
        let other = &mut self.watching.other;
        let call_id = text(msg.call_id().unwrap_or_default());
        let cseq = msg.cseq().map_or(0, |cseq| cseq.number);
        if call_id != other.call_id {
            self.send(from, reply(msg, 481, "Subscription Does Not Exist", "x", None));
            return;
        }
        let is_new = cseq > other.notify_cseq;
        let is_again = cseq == other.notify_cseq;
        let state = msg.header_by_text(b"Subscription-State");
        let is_over = state.is_some_and(|s| s.value().starts_with(b"terminated"));
        if is_new {
            other.notify_cseq = cseq;
            other.state = text(msg.body());
            if is_over {
                (other.to_tag, other.until) = (None, 0);
            }
        }
        let answer = match is_new || is_again {
            true => reply(msg, 200, "OK", "x", None),
            false => reply(msg, 500, "Stale CSeq", "x", None),
        };
        self.send(from, answer);
    }

    /// What the checker has to know.
    pub(crate) fn watched(&self, now: Mono) -> Seen {
        let other = &self.watching.other;
        let is_live = other.until > now && other.to_tag.is_some() && other.open.is_none();
        Seen {
            user: self.user.clone(),
            published: self.watching.own.state.clone(),
            watches: is_live.then(|| (other.user.clone(), other.state.clone())),
        }
    }
}
