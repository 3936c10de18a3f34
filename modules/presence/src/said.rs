//! What is said of a presentity: made once for all its watchers, and shown to each.

use std::sync::Arc;

use bytes::Bytes;
use tandem_cluster::Digester;
use tandem_engine::module::Cx;

use crate::package::{Body, Package, Status, Viewer};
use crate::record::{Key, SubId, Subscription, Text};
use crate::state::Presence;
use crate::table::Presentity;
use crate::winfo;

/// The state of a presentity, as of now.
#[derive(Debug)]
pub(crate) struct Said {
    /// What tells this state from every other.
    pub(crate) mark: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Body {
        body: Option<Bytes>,
        content_type: Bytes,
        extra: Bytes,
        sender: Text,
    },
    /// A document about watchers, made for each of their watchers: it has a version.
    Watchers {
        of: Key,
        list: Vec<winfo::Watcher>,
    },
}

impl Said {
    /// Whether the watcher published it himself, on a line that is shared.
    pub(crate) fn is_of(&self, s: &Subscription) -> bool {
        let What::Body { sender, .. } = &self.what else { return false };
        !sender.is_empty() && (*s.contact == **sender || *s.watcher_uri() == **sender)
    }

    /// The body for one watcher; `None`: there is none for him.
    pub(crate) fn for_watcher(
        &self,
        s: &Subscription,
        package: &dyn Package,
        viewer: &Viewer<'_>,
    ) -> Option<Bytes> {
        let sees = match s.status {
            Status::Active => true,
            // Whoever leaves is told the state, whoever is thrown out is not (RFC 6665 4.2.2).
            Status::Terminated => s.reason.is_empty() || *s.reason == *b"timeout",
            Status::Pending | Status::Waiting => false,
        };
        match &self.what {
            _ if !sees => None,
            // The same document also where nobody has published anything.
            What::Body { .. } if package.shows_nothing(viewer.view) => {
                Some(package.shown(&Bytes::new(), viewer))
            }
            What::Body { body, .. } => body.as_ref().map(|body| package.shown(body, viewer)),
            What::Watchers { of, list } => Some(winfo::document(of, list, viewer.version)),
        }
    }

    /// The type of the body, if it is not that of the package.
    pub(crate) fn content_type(&self) -> Option<&[u8]> {
        match &self.what {
            What::Body { content_type, .. } => Some(content_type),
            What::Watchers { .. } => None,
        }
    }

    /// Header lines that were published with it.
    pub(crate) fn extra(&self) -> &[u8] {
        match &self.what {
            What::Body { extra, .. } => extra,
            What::Watchers { .. } => b"",
        }
    }
}

/// What is read of a presentity under its lock.
struct Seen {
    mark: u64,
    bodies: Vec<Body>,
    last: Option<Body>,
    merged: Option<Option<Bytes>>,
    extra: Bytes,
    sender: Text,
}

impl Presentity {
    fn seen(&self, now_s: u64, salt: u64) -> Seen {
        let mark = marked(self.mark, salt);
        let newest = self.publications.first().map(|p| &p.publication);
        let merged = self.merged.as_ref().filter(|(of, _)| *of == mark).map(|(_, b)| b.clone());
        Seen {
            mark,
            bodies: self.bodies(now_s),
            last: self.last.clone(),
            merged,
            extra: newest.map_or_else(Bytes::new, |p| Bytes::copy_from_slice(&p.extra)),
            sender: newest.map_or_else(Text::default, |p| p.sender.clone()),
        }
    }

    /// Subscriptions behind one, in order.
    pub(crate) fn after(&self, after: Option<&Arc<SubId>>, max: usize) -> Vec<Arc<SubId>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, |id| Excluded(Arc::clone(id)));
        self.subscriptions
            .range((from, Unbounded))
            .take(max)
            .map(|(id, _)| Arc::clone(id))
            .collect()
    }
}

/// A mark that is never 0, which is that of somebody who was told nothing.
fn marked(sum: u64, salt: u64) -> u64 {
    let mut digester = Digester::default();
    digester.number(sum);
    digester.number(salt);
    digester.end_nonzero()
}

impl Presence {
    /// What is said of a presentity; `None` while the database is asked.
    pub(crate) fn said(&self, cx: &Cx<'_>, key: &Key, package: &dyn Package) -> Option<Said> {
        if let Some(of) = key.watched() {
            return Some(self.said_of_watchers(of));
        }
        let now_s = cx.now.unix_s();
        let busy = self.busy(cx, key);
        let salt = busy.map_or(0, |busy| 1 + u64::from(busy));
        let read = self.table.read(key, |p| (!p.is_asking).then(|| p.seen(now_s, salt)));
        let mut seen = match read {
            Some(seen) => seen?,
            None => Presentity::default().seen(now_s, salt),
        };
        let single = match &seen.bodies[..] {
            [only] => only.content_type.clone(),
            _ => Bytes::new(),
        };
        let body = match seen.merged.take() {
            Some(body) => body,
            None => {
                let body = self.merge(key, package, &mut seen, busy);
                self.table.local(key, |p| p.merged = Some((seen.mark, body.clone())));
                body
            }
        };
        let Seen { mark, extra, sender, .. } = seen;
        let what = What::Body { body, content_type: single, extra, sender };
        Some(Said { mark, what })
    }

    fn merge(
        &self,
        key: &Key,
        package: &dyn Package,
        seen: &mut Seen,
        busy: Option<bool>,
    ) -> Option<Bytes> {
        if let Some(busy) = busy {
            let mixed = package.mixed(&key.uri, busy);
            seen.bodies.extend(mixed);
        }
        if !seen.bodies.is_empty() {
            return package.merge(&key.uri, &seen.bodies);
        }
        let ended = seen.last.as_ref().and_then(|last| package.ended(&key.uri, last));
        let offline = || package.offline(&key.uri).filter(|_| self.params.notifies_offline);
        ended.or_else(offline)
    }

    /// Whether the presentity is on the phone; `None`: nobody wants to know.
    fn busy(&self, cx: &Cx<'_>, key: &Key) -> Option<bool> {
        if !self.params.mixes_dialogs || *key.event != *b"presence" {
            return None;
        }
        let dialog = self.package(b"dialog")?;
        let dialogs = Key { uri: key.uri.clone(), event: Text::from(&b"dialog"[..]) };
        let bodies = self.table.read(&dialogs, |p| p.bodies(cx.now.unix_s())).unwrap_or_default();
        Some(!bodies.is_empty() && dialog.is_busy(&bodies))
    }

    fn said_of_watchers(&self, of: Key) -> Said {
        let read = self.table.read(&of, |p| {
            let all = p.subscriptions.values().take(winfo::WATCHERS_MAX);
            let list = all.map(|s| winfo::Watcher::of(&s.subscription));
            (p.watchers, list.collect())
        });
        let (sum, list) = read.unwrap_or_default();
        Said { mark: marked(sum, 0), what: What::Watchers { of, list } }
    }
}
