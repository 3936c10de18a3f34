//! Documents about who watches somebody (RFC 3858).

use bytes::Bytes;
use tandem_cluster::Digester;

use crate::package::{Package, Status};
use crate::record::{Key, Subscription};

/// Bytes of a document, at most: with its request it has to fit into a datagram. Whoever has no
/// room in it is left out.
pub(crate) const DOCUMENT_BYTES_MAX: usize = 56 << 10;
/// Watchers that are looked at for a document: more cannot have room.
pub(crate) const WATCHERS_MAX: usize = 600;
/// The reason of a subscription that was pending until somebody let it in.
pub(crate) const APPROVED: &[u8] = b"approved";
const END: &[u8] = b"</watcher-list>\r\n</watcherinfo>\r\n";

/// A watcher in such a document.
#[derive(Clone, Debug)]
pub(crate) struct Watcher {
    id: u64,
    uri: Vec<u8>,
    status: Status,
    reason: Vec<u8>,
}

impl Watcher {
    pub(crate) fn of(s: &Subscription) -> Self {
        let mut id = Digester::default();
        for text in [&s.id.call_id, &s.id.from_tag, &s.id.to_tag, &s.id.event_id] {
            id.text(text);
        }
        let (uri, reason) = (s.watcher_uri(), s.reason.to_vec());
        Self { id: id.end_nonzero(), uri, status: s.status, reason }
    }

    /// What has led to this state (RFC 3857 4.7.1).
    fn event(&self) -> &'static str {
        match (self.status, &self.reason[..]) {
            (Status::Terminated, b"rejected") => "rejected",
            (Status::Terminated, b"deactivated") => "deactivated",
            (Status::Terminated | Status::Waiting, _) => "timeout",
            (Status::Active, APPROVED) => "approved",
            (Status::Active | Status::Pending, _) => "subscribe",
        }
    }

    fn element(&self) -> Vec<u8> {
        let id = format!("{:016x}", self.id);
        let (event, status) = (self.event().as_bytes(), self.status.text().as_bytes());
        let words: [&[u8]; 9] = [
            b"<watcher id=\"",
            id.as_bytes(),
            b"\" event=\"",
            event,
            b"\" status=\"",
            status,
            b"\">",
            &escaped(&self.uri),
            b"</watcher>\r\n",
        ];
        words.concat()
    }
}

/// The document: all watchers that have room.
pub(crate) fn document(of: &Key, watchers: &[Watcher], version: u32) -> Bytes {
    let mut out = Vec::with_capacity(256 + 128 * watchers.len());
    let version = version.to_string();
    let head: [&[u8]; 7] = [
        b"<?xml version=\"1.0\"?>\r\n<watcherinfo xmlns=\"urn:ietf:params:xml:ns:watcherinfo\" \
          version=\"",
        version.as_bytes(),
        b"\" state=\"full\">\r\n<watcher-list resource=\"",
        &escaped(&of.uri),
        b"\" package=\"",
        &escaped(&of.event),
        b"\">\r\n",
    ];
    out.extend_from_slice(&head.concat());
    for watcher in watchers {
        let element = watcher.element();
        if out.len() + element.len() + END.len() > DOCUMENT_BYTES_MAX {
            break;
        }
        out.extend_from_slice(&element);
    }
    out.extend_from_slice(END);
    Bytes::from(out)
}

/// A text as XML takes it, in content and in attributes. What is no character there is left out.
pub fn escaped(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            c if c < ' ' => {}
            c => out.push(c),
        }
    }
    out.into_bytes()
}

/// The package of the watchers of another one.
#[derive(Debug)]
pub(crate) struct Winfo {
    pub(crate) name: &'static str,
}

impl Package for Winfo {
    fn name(&self) -> &'static str {
        self.name
    }

    fn content_type(&self) -> &'static str {
        "application/watcherinfo+xml"
    }
}

/// The name of the package of watchers; `None`: nobody has such a package.
pub(crate) fn name_of(package: &str) -> Option<&'static str> {
    Some(match package {
        "presence" => "presence.winfo",
        "dialog" => "dialog.winfo",
        "dialog;sla" => "dialog;sla.winfo",
        "message-summary" => "message-summary.winfo",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::SubId;
    use std::sync::Arc;

    #[test]
    fn a_document_fits_into_a_datagram_whatever_watchers_are_called() {
        let s = Subscription {
            from_user: vec![b'"'; 1000].into(),
            from_domain: b"x".as_slice().into(),
            ..Subscription::default()
        };
        let watchers = vec![Watcher::of(&s); WATCHERS_MAX];
        let text = document(&Key::new(b"sip:b@x", b"presence"), &watchers, 1);
        assert!(text.len() <= DOCUMENT_BYTES_MAX && text.ends_with(END), "{}", text.len());
    }

    #[test]
    fn watchers_are_listed_and_escaped() {
        let id = SubId { call_id: b"c".as_slice().into(), ..SubId::default() };
        let s = Subscription {
            id: Arc::new(id),
            from_user: b"a<\"&'>".as_slice().into(),
            from_domain: b"x".as_slice().into(),
            status: Status::Pending,
            ..Subscription::default()
        };
        let key = Key::new(b"sip:b@x", b"presence");
        let text = document(&key, &[Watcher::of(&s)], 7);
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains("version=\"7\" state=\"full\""), "{text}");
        assert!(text.contains("resource=\"sip:b@x\" package=\"presence\""), "{text}");
        let watcher = "event=\"subscribe\" status=\"pending\">sip:a&lt;&quot;&amp;&apos;&gt;@x</";
        assert!(text.contains(watcher), "{text}");
    }
}
