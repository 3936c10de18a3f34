//! What is known of presentities: publications and subscriptions. Plain data that means the same
//! on every node.

use std::sync::Arc;

use bytes::Bytes;
use tandem_cluster::Digester;
pub use tandem_cluster::Stamp;

use crate::package::{Body, Status};
use crate::table::Writer;

/// Bytes that are kept for long: no more than they are.
pub type Text = Box<[u8]>;

/// Publications of one presentity and event, at most.
pub const PUBLICATIONS_A_PRESENTITY_MAX: usize = 64;
/// Bytes of a published body, at most: with its record it has to fit into one packet.
pub const BODY_BYTES_MAX: usize = 48 << 10;
/// Bytes of any other text of a record, at most.
pub const TEXT_BYTES_MAX: usize = 1024;
/// Bytes of a route set, at most.
pub const ROUTES_BYTES_MAX: usize = 4096;

/// A presentity and an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// `sip:user@domain`
    pub uri: Text,
    /// Name of the package.
    pub event: Text,
}

impl Key {
    pub fn new(uri: &[u8], event: &[u8]) -> Self {
        Self { uri: uri.into(), event: event.into() }
    }

    /// User and domain.
    pub fn parts(&self) -> (&[u8], &[u8]) {
        user_domain(&self.uri)
    }

    /// The key of who watches this one; `None` for one of those.
    pub(crate) fn winfo(&self) -> Option<Self> {
        (!self.event.ends_with(WINFO)).then(|| Self {
            uri: self.uri.clone(),
            event: [&self.event[..], WINFO].concat().into(),
        })
    }

    /// The key that this one lists the watchers of.
    pub(crate) fn watched(&self) -> Option<Self> {
        let base = self.event.strip_suffix(WINFO)?;
        Some(Self { uri: self.uri.clone(), event: base.into() })
    }

    /// The bucket of digests, the same on every node.
    pub fn bucket(&self) -> usize {
        let mut digester = Digester::default();
        digester.text(&self.uri);
        digester.text(&self.event);
        (digester.end_nonzero() >> 32) as usize & 0xff
    }
}

/// What the name of a package of watchers ends with (RFC 3857).
pub(crate) const WINFO: &[u8] = b".winfo";

/// The parts of `sip:user@domain`.
pub(crate) fn user_domain(uri: &[u8]) -> (&[u8], &[u8]) {
    let rest = uri.strip_prefix(b"sip:").or_else(|| uri.strip_prefix(b"sips:")).unwrap_or(uri);
    match rest.iter().rposition(|b| *b == b'@') {
        Some(at) => (rest.get(..at).unwrap_or_default(), rest.get(at + 1..).unwrap_or_default()),
        None => (b"", rest),
    }
}

/// The URI of user and domain; without a domain the user is a number.
pub(crate) fn uri_of(user: &[u8], domain: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(5 + user.len() + domain.len());
    push_uri(&mut out, user, domain);
    out
}

/// Writes the same behind what is there.
pub(crate) fn push_uri(out: &mut Vec<u8>, user: &[u8], domain: &[u8]) {
    let parts: [&[u8]; 4] = match (user, domain) {
        (user, b"") => [b"tel:", user, b"", b""],
        (b"", domain) => [b"sip:", b"", b"", domain],
        (user, domain) => [b"sip:", user, b"@", domain],
    };
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// What somebody has published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publication {
    /// What its ETags have in common: its name for as long as it lives.
    pub id: Text,
    pub etag: Text,
    /// Empty: that of the package.
    pub content_type: Text,
    pub body: Bytes,
    /// Further header lines for NOTIFY.
    pub extra: Text,
    pub sender: Text,
    pub sphere: Text,
    pub received_s: u32,
    /// Unix seconds.
    pub expires_s: u32,
    pub stamp: Stamp,
    /// The stamp of the write that brought its body: to prolong it says nothing new. None: that
    /// of this write.
    pub said: Stamp,
    /// A stock node owns it.
    pub foreign: bool,
    /// The request that wrote it, so that a repetition of it gets the same answer; 0: none.
    pub request: u64,
}

impl Publication {
    pub fn is_live(&self, now_s: u64) -> bool {
        u64::from(self.expires_s) > now_s
    }

    /// By which the oldest is found, the same on every node.
    pub(crate) fn age(&self) -> (Stamp, &[u8]) {
        (self.stamp, &self.id)
    }

    /// What it adds to the mark of its presentity.
    pub(crate) fn mark(&self) -> u64 {
        let mut digester = Digester::default();
        digester.text(&self.id);
        digester.text(&self.content_type);
        digester.text(&self.body);
        digester.end_nonzero()
    }

    pub(crate) fn digest(&self) -> u64 {
        let mut all = Digester::default();
        for text in
            [&self.id, &self.etag, &self.content_type, &self.extra, &self.sender, &self.sphere]
        {
            all.text(text);
        }
        all.text(&self.body);
        all.number(u64::from(self.received_s) << 32 | u64::from(self.expires_s));
        all.end_nonzero()
    }

    /// As packages see it.
    pub(crate) fn body(&self) -> Body {
        let bytes = |text: &Text| Bytes::copy_from_slice(text);
        Body {
            etag: bytes(&self.etag),
            content_type: bytes(&self.content_type),
            body: self.body.clone(),
            sender: bytes(&self.sender),
            received_s: self.received_s,
        }
    }
}

/// The dialog of a subscription, and which of its subscriptions to the same event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubId {
    pub call_id: Text,
    /// Ours.
    pub to_tag: Text,
    pub from_tag: Text,
    pub event_id: Text,
}

/// Who watches. The first part changes with what watchers, rules and operators do, the second
/// with what is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    pub id: Arc<SubId>,
    pub from_user: Text,
    pub from_domain: Text,
    pub to_user: Text,
    pub to_domain: Text,
    pub contact: Text,
    /// The route set as a Route header.
    pub routes: Text,
    pub socket: Text,
    pub local_contact: Text,
    pub tag: Text,
    pub view: Text,
    pub reason: Text,
    pub status: Status,
    /// Unix seconds.
    pub expires_s: u32,
    pub remote_cseq: u32,
    /// How often a NOTIFY was asked for: by SUBSCRIBE, by rules, by an operator.
    pub asks: u32,
    /// The node that made it.
    pub creator: u32,
    pub stamp: Stamp,

    pub sent: Sent,
}

/// What was sent to a watcher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// The last CSeq.
    pub cseq: u32,
    /// NOTIFYs so far.
    pub version: u32,
    /// The node that sent the last one.
    pub node: u32,
    /// What of `asks` has been answered.
    pub answers: u32,
    /// The mark of what the watcher has confirmed, and the CSeq of that NOTIFY.
    pub told: u64,
    pub told_cseq: u32,
}

/// Numbers that are left out when a node goes on where another one has stopped: it may have sent
/// more than it has told.
pub(crate) const CSEQ_MARGIN: u32 = 32;

/// Numbers that are left out when another node may have used some: more than one that reads a row
/// leaves out.
pub(crate) const ASTRAY_MARGIN: u32 = 2000;

impl Sent {
    /// Takes over what another node knows. Commutative.
    pub(crate) fn merge(&mut self, other: &Self) {
        if (other.cseq, other.node) > (self.cseq, self.node) {
            (self.cseq, self.node) = (other.cseq, other.node);
        }
        if (other.told_cseq, other.told) > (self.told_cseq, self.told) {
            (self.told_cseq, self.told) = (other.told_cseq, other.told);
        }
        self.version = self.version.max(other.version);
        self.answers = self.answers.max(other.answers);
    }

    /// The numbers of the next NOTIFY, which this node sends.
    pub(crate) fn next(&mut self, me: u32) {
        let left_out = if self.node == 0 || self.node == me { 0 } else { CSEQ_MARGIN };
        self.cseq = self.cseq.saturating_add(1 + left_out);
        self.version = self.version.saturating_add(1 + left_out);
        self.node = me;
    }
}

impl Subscription {
    pub fn watcher_uri(&self) -> Vec<u8> {
        uri_of(&self.from_user, &self.from_domain)
    }

    /// What it adds to the mark of the watchers: who has gone adds nothing, so that to forget him
    /// is no news.
    pub(crate) fn mark(&self) -> u64 {
        if self.status == Status::Terminated {
            return 0;
        }
        let mut digester = Digester::default();
        digester.text(&self.id.call_id);
        digester.text(&self.id.from_tag);
        digester.number(self.status as u64);
        digester.end_nonzero()
    }

    pub(crate) fn digest(&self) -> u64 {
        let mut all = Digester::default();
        for text in [
            &self.id.call_id,
            &self.id.to_tag,
            &self.id.from_tag,
            &self.id.event_id,
            &self.from_user,
            &self.from_domain,
            &self.to_user,
            &self.to_domain,
            &self.contact,
            &self.routes,
            &self.socket,
            &self.local_contact,
            &self.tag,
            &self.view,
            &self.reason,
        ] {
            all.text(text);
        }
        all.number((self.status as u64) << 32 | u64::from(self.expires_s));
        all.number(u64::from(self.remote_cseq) << 32 | u64::from(self.asks));
        let sent = &self.sent;
        all.number(u64::from(sent.cseq) << 32 | u64::from(sent.version));
        all.number(u64::from(sent.node) << 32 | u64::from(sent.answers));
        all.number(u64::from(self.creator) << 32 | u64::from(sent.told_cseq));
        all.number(sent.told);
        all.end_nonzero()
    }

    /// The digest of what one write of it says: not of what is counted up beside.
    fn written(&self) -> u64 {
        Self { sent: Sent::default(), asks: 0, ..self.clone() }.digest()
    }

    /// Takes from the same subscription of another node what is newer there; whether it was
    /// anything. Commutative, but for two versions of one write that `writer` decides on.
    pub(crate) fn merge(&mut self, other: &Self, writer: Writer) -> bool {
        let before = self.clone();
        let mut sent = self.sent;
        sent.merge(&other.sent);
        let asks = self.asks.max(other.asks);
        let order = (other.remote_cseq, other.stamp).cmp(&(self.remote_cseq, self.stamp));
        let is_newer = order.is_gt()
            || order.is_eq()
                && match writer {
                    Writer::Us => false,
                    Writer::Peer => true,
                    Writer::Another => other.written() > self.written(),
                };
        if is_newer {
            *self = other.clone();
        }
        (self.sent, self.asks) = (sent, asks);
        *self != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_change() -> impl Strategy<Value = Subscription> {
        (0u32..4, 0u64..4, 0u32..4, 0u32..4, 0u64..3, 0u32..4).prop_map(
            |(remote_cseq, time_us, asks, cseq, told, answers)| Subscription {
                remote_cseq,
                stamp: Stamp { time_us, node: 1 },
                // What belongs to one write is the same wherever it is seen.
                contact: format!("{remote_cseq}.{time_us}").into_bytes().into(),
                asks,
                sent: Sent { cseq, version: cseq, node: 1, told, told_cseq: asks, answers },
                ..Subscription::default()
            },
        )
    }

    proptest! {
        #[test]
        fn in_whatever_order_they_come_changes_make_the_same(
            a in any_change(), b in any_change(), c in any_change()
        ) {
            let join = |all: [&Subscription; 3]| {
                let mut sum = all[0].clone();
                all[1..].iter().for_each(|s| { sum.merge(s, Writer::Another); });
                sum
            };
            prop_assert_eq!(join([&a, &b, &c]), join([&c, &a, &b]));
            prop_assert_eq!(join([&a, &b, &a]), join([&b, &a, &b]));
        }
    }

    #[test]
    fn a_presentity_has_parts_and_its_watchers_a_key() {
        let key = Key::new(b"sip:a@b.test", b"presence");
        assert_eq!(key.parts(), (&b"a"[..], &b"b.test"[..]));
        let winfo = key.winfo().unwrap();
        assert_eq!(&*winfo.event, b"presence.winfo");
        assert_eq!((winfo.winfo(), winfo.watched()), (None, Some(key)));
        assert_eq!(uri_of(b"", b"x"), b"sip:x");
    }
}
