//! NOTIFYs that are tried again.
//!
//! Some could not leave this node: for want of room, of a socket, of a destination. They
//! are owed still and are tried again; where that goes on, the watcher counts as one that does not
//! answer (RFC 6665 4.2.2). Others a watcher could not take at the time, and has said when he can.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tandem_engine::log::Level;
use tandem_engine::module::{Cx, Timer};

use crate::change::Change;
use crate::record::{Key, SubId};
use crate::state::Presence;

/// The timer after which they are tried again.
pub(crate) const AGAIN: u32 = 6;
const AGAIN_S: u64 = 2;
/// How often: for as long as a request waits for its reply (RFC 3261 timer F).
const TRIES_MAX: u8 = 16;
/// Watchers that are remembered; who is beyond it is found with the next change.
const WATCHERS_MAX: usize = 200_000;

/// The timer of a watcher who has said when: the id is its token.
pub(crate) const WHEN: u32 = 7;
/// Seconds that a watcher may want to be left alone; what comes of a change is told all the same.
const WHEN_S: std::ops::RangeInclusive<u64> = 2..=600;

/// Watchers whose NOTIFY could not leave, and how often.
#[derive(Debug, Default)]
pub(crate) struct Again {
    all: BTreeMap<(Arc<Key>, Arc<SubId>), u8>,
    next: u64,
    /// Watchers who have said when, with the CSeq of what they did not take.
    when: BTreeMap<u64, (Arc<Key>, Arc<SubId>, u32)>,
}

impl Presence {
    /// A NOTIFY could not leave.
    pub(crate) fn not_sent(
        &self,
        cx: &mut Cx<'_>,
        key: &Arc<Key>,
        id: &Arc<SubId>,
        cseq: u32,
        why: &str,
    ) {
        let (id_of, is_final) = (Arc::clone(id), !self.is_replicated());
        let unsent = Change::Unsent { id: id_of, cseq, is_final };
        if self.change(cx, key, unsent).is_err() {
            return;
        }
        let (tries, is_first) = {
            let mut again = self.again.lock();
            let is_first = again.all.is_empty();
            let entry = (Arc::clone(key), Arc::clone(id));
            if again.all.len() >= WATCHERS_MAX && !again.all.contains_key(&entry) {
                return;
            }
            let tries = again.all.entry(entry).or_default();
            *tries += 1;
            (*tries, is_first)
        };
        if is_first {
            let uri = String::from_utf8_lossy(&key.uri);
            let text = format!("a NOTIFY about {uri} cannot leave, and is tried again: {why}");
            cx.log(Level::Warning, text);
            cx.set_timer(cx.now.after_s(AGAIN_S), Timer { kind: AGAIN, id: 0 });
        }
        if tries >= TRIES_MAX {
            self.again.lock().all.remove(&(Arc::clone(key), Arc::clone(id)));
            if self.params.ends_on_timeout {
                self.forget(cx, key, id);
            }
        }
    }

    /// A watcher takes a NOTIFY only after some seconds (Retry-After).
    pub(crate) fn not_taken(
        &self,
        cx: &mut Cx<'_>,
        key: Arc<Key>,
        id: Arc<SubId>,
        cseq: u32,
        after_s: u64,
    ) {
        let token = {
            let mut again = self.again.lock();
            if again.when.len() >= WATCHERS_MAX {
                return;
            }
            again.next += 1;
            let token = again.next;
            again.when.insert(token, (key, id, cseq));
            token
        };
        let after_s = after_s.clamp(*WHEN_S.start(), *WHEN_S.end());
        cx.set_timer(cx.now.after_s(after_s), Timer { kind: WHEN, id: token });
    }

    /// The time has come that a watcher has named: what he did not take is owed, unless something
    /// newer has left.
    pub(crate) fn take_now(&self, cx: &mut Cx<'_>, token: u64) {
        let Some((key, id, cseq)) = self.again.lock().when.remove(&token) else { return };
        let (id_of, is_final) = (Arc::clone(&id), !self.is_replicated());
        let unsent = Change::Unsent { id: id_of, cseq, is_final };
        if self.change(cx, &key, unsent).is_ok() {
            self.notify_owed(cx, &key, &[id]);
        }
    }

    /// A NOTIFY has left.
    pub(crate) fn has_left(&self, key: &Arc<Key>, id: &Arc<SubId>) {
        let mut again = self.again.lock();
        if !again.all.is_empty() {
            again.all.remove(&(Arc::clone(key), Arc::clone(id)));
        }
    }

    /// Looks through the watchers of those presentities once more.
    pub(crate) fn try_again(&self, cx: &mut Cx<'_>) {
        let all: Vec<_> = self.again.lock().all.keys().cloned().collect();
        let mut keys = BTreeSet::new();
        for (key, id) in all {
            let s = self.table.subscription(&key, &id);
            if s.is_some_and(|s| self.is_ours(cx, &s)) {
                keys.insert(key);
            } else {
                self.again.lock().all.remove(&(key, id));
            }
        }
        if self.again.lock().all.is_empty() {
            return;
        }
        cx.set_timer(cx.now.after_s(AGAIN_S), Timer { kind: AGAIN, id: 0 });
        keys.iter().for_each(|key| self.walk(cx, key));
    }
}
