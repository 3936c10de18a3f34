//! NOTIFY: who is owed one, and what it says.
//!
//! Nobody decides "this change is told to that watcher". A subscription is owed a NOTIFY while
//! the mark of what it was told is not that of what is known, or somebody has asked
//! ([`Subscribed::is_owed`]); a change has the subscriptions of its presentity looked through.
//! So a node that takes over owes what the other one did not do, and nothing twice.
//!
//! [`Subscribed::is_owed`]: crate::table::Subscribed::is_owed

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound::Included;
use std::sync::Arc;

use bytes::Bytes;
use tandem_clock::{Mono, Now};
use tandem_engine::module::{Cx, Timer};
use tandem_engine::transport::first_value;
use tandem_sip::{Message, NameAddr};
use tandem_tm::{LocalRequest, Owner, Tm};

use crate::change::{Change, Tell};
use crate::package::{Package, Status, Viewer};
use crate::record::{Key, SubId, Subscription, push_uri};
use crate::said::Said;
use crate::state::Presence;

/// The timer that goes on with what a step has left.
pub(crate) const WALK: u32 = 1;
/// Subscriptions that one step looks at, so that a presentity with many watchers keeps nobody
/// waiting.
const SUBSCRIPTIONS_A_STEP: usize = 250;
/// Presentities that wait, at most; beyond it the next takeover or change finds them.
const WALKS_MAX: usize = 1_000_000;
/// NOTIFYs that wait for their replies, at most.
const OPEN_MAX: usize = 200_000;
/// How long a NOTIFY is put off because an answer has to leave first: longer than any answer waits
/// for a peer.
const HELD_MS: u64 = 1_000;

/// What the watchers of a presentity are looked through for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Errand {
    /// Who is owed a NOTIFY gets one.
    Tell,
    /// Everybody gets one.
    Ask,
    /// The rules may be others.
    Judge,
}

/// A presentity whose watchers are looked through.
#[derive(Debug)]
struct Walk {
    key: Arc<Key>,
    errand: Errand,
    /// The last one that was looked at.
    after: Option<Arc<SubId>>,
}

/// Presentities whose watchers are looked through, in turn.
#[derive(Debug, Default)]
pub(crate) struct Walks {
    queue: VecDeque<Walk>,
    /// How those that wait go on: once more from the start, if true.
    waiting: BTreeMap<(Arc<Key>, Errand), bool>,
    is_under_way: bool,
}

/// A NOTIFY that is out.
#[derive(Clone, Debug)]
pub(crate) struct Out {
    pub(crate) key: Arc<Key>,
    pub(crate) id: Arc<SubId>,
    cseq: u32,
    mark: u64,
    asks: u32,
}

/// NOTIFYs whose final reply has not come, by their tokens.
#[derive(Debug, Default)]
pub(crate) struct Open {
    next: u64,
    all: BTreeMap<u64, Out>,
}

/// What waits for a peer to know of the change before.
#[derive(Clone, Debug)]
pub(crate) enum After {
    Walk(Arc<Key>),
    One(Arc<Key>, Arc<SubId>),
}

/// What waits, by its token.
#[derive(Debug, Default)]
pub(crate) struct Held {
    next: u64,
    all: BTreeMap<u64, After>,
    /// Watchers whose answer has not left, with how many wait, and until when that counts.
    watchers: BTreeMap<Arc<SubId>, (u32, Mono)>,
}

impl Held {
    fn add(&mut self, now: Now, after: After) -> u64 {
        self.next += 1;
        if let After::One(_, id) = &after {
            let (count, until) = self.watchers.entry(Arc::clone(id)).or_default();
            (*count, *until) = (*count + 1, now.after_ms(HELD_MS));
        }
        self.all.insert(self.next, after);
        self.next
    }

    /// The answer of a watcher is on its way.
    fn let_go(&mut self, id: &Arc<SubId>) {
        if let Some((count, _)) = self.watchers.get_mut(id) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.watchers.remove(id);
            }
        }
    }

    /// Whether a watcher has to have his answer first.
    fn holds(&self, now: Now, id: &SubId) -> bool {
        self.watchers.get(id).is_some_and(|(_, until)| now.mono_ns < *until)
    }
}

impl Presence {
    /// Does something when the reply before has left: with a peer, that is when it knows, and
    /// without one at the end of the batch, as a reply of a transaction does.
    pub(crate) fn after_reply(&self, cx: &mut Cx<'_>, after: After) {
        let token = self.held.lock().add(cx.now, after);
        cx.when_acknowledged(token);
    }

    /// A peer knows of the change, or nobody waits for it.
    pub(crate) fn released(&self, cx: &mut Cx<'_>, token: u64) {
        let after = self.held.lock().all.remove(&token);
        match after {
            Some(After::Walk(key)) => self.walk(cx, &key),
            Some(After::One(key, id)) => {
                // Still held: another worker would be faster than the answer, which leaves with
                // what this one sends.
                self.notify_these(cx, &key, std::slice::from_ref(&id));
                self.held.lock().let_go(&id);
                // What has changed meanwhile.
                self.notify_owed(cx, &key, &[id]);
            }
            None => {}
        }
    }

    /// Has the watchers of a presentity looked through: some of them now, the others soon.
    pub(crate) fn walk(&self, cx: &mut Cx<'_>, key: &Arc<Key>) {
        self.walk_for(cx, key, Errand::Tell);
    }

    pub(crate) fn walk_for(&self, cx: &mut Cx<'_>, key: &Arc<Key>, errand: Errand) {
        {
            let mut walks = self.walks.lock();
            let entry = (Arc::clone(key), errand);
            if let Some(again) = walks.waiting.get_mut(&entry) {
                *again = true;
                return;
            }
            if walks.queue.len() >= WALKS_MAX {
                return;
            }
            walks.waiting.insert(entry, false);
            walks.queue.push_back(Walk { key: Arc::clone(key), errand, after: None });
            if std::mem::replace(&mut walks.is_under_way, true) {
                return;
            }
        }
        self.walk_on(cx);
    }

    /// One step through the queue.
    pub(crate) fn walk_on(&self, cx: &mut Cx<'_>) {
        let mut left = SUBSCRIPTIONS_A_STEP;
        while left > 0 {
            let Some(mut walk) = self.next_walk() else { return };
            let ids = self.table.read(&walk.key, |p| p.after(walk.after.as_ref(), left));
            let ids = ids.unwrap_or_default();
            left = left.saturating_sub(ids.len().max(1));
            walk.after = ids.last().cloned();
            let is_done = ids.is_empty();
            match walk.errand {
                Errand::Tell => self.notify_owed(cx, &walk.key, &ids),
                Errand::Ask => ids.iter().for_each(|id| self.ask_for(cx, &walk.key, id)),
                Errand::Judge => ids.iter().for_each(|id| self.judge(cx, &walk.key, id)),
            }
            self.put_back(walk, is_done);
        }
        cx.set_timer(cx.now.after_ms(1), Timer { kind: WALK, id: 0 });
    }

    fn next_walk(&self) -> Option<Walk> {
        let mut walks = self.walks.lock();
        let next = walks.queue.pop_front();
        walks.is_under_way = next.is_some();
        next
    }

    fn put_back(&self, mut walk: Walk, is_done: bool) {
        let mut walks = self.walks.lock();
        if is_done {
            walk.after = None;
            let entry = (Arc::clone(&walk.key), walk.errand);
            match walks.waiting.get_mut(&entry) {
                Some(again) if *again => *again = false,
                _ => {
                    walks.waiting.remove(&entry);
                    return;
                }
            }
        }
        walks.queue.push_back(walk);
    }

    /// One watcher gets a NOTIFY, whatever he was told.
    fn ask_for(&self, cx: &mut Cx<'_>, key: &Arc<Key>, id: &Arc<SubId>) {
        let Some(mut s) = self.table.subscription(key, id) else { return };
        s.asks = s.asks.saturating_add(1);
        // Another worker may have ended it.
        let _ = self.change(cx, key, Change::subscribe(s));
    }

    /// Sends the NOTIFYs that are owed to some watchers of a presentity, if that is this node's.
    /// Whoever is about to get an answer is told after it: many phones refuse a NOTIFY of a dialog
    /// that they do not know yet.
    pub(crate) fn notify_owed(&self, cx: &mut Cx<'_>, key: &Arc<Key>, ids: &[Arc<SubId>]) {
        let free: Vec<_> = {
            let held = self.held.lock();
            let is_free = |id: &&Arc<SubId>| !held.holds(cx.now, id);
            ids.iter().filter(is_free).map(Arc::clone).collect()
        };
        self.notify_these(cx, key, &free);
    }

    fn notify_these(&self, cx: &mut Cx<'_>, key: &Arc<Key>, ids: &[Arc<SubId>]) {
        if ids.is_empty() {
            return;
        }
        let Some(package) = self.package(&key.event) else { return };
        let Some(said) = self.said(cx, key, &*package) else { return };
        for (id, is_silent) in self.owed(cx, key, ids, &*package, &said) {
            self.notify(cx, key, &id, &*package, &said, is_silent);
        }
    }

    /// Who of some watchers, in order, is owed a NOTIFY by this node; true: only by the books.
    fn owed(
        &self,
        cx: &Cx<'_>,
        key: &Key,
        ids: &[Arc<SubId>],
        package: &dyn Package,
        said: &Said,
    ) -> Vec<(Arc<SubId>, bool)> {
        let (Some(first), Some(last)) = (ids.first(), ids.last()) else { return Vec::new() };
        let owed = self.table.read(key, |p| {
            let mut wanted = ids.iter().peekable();
            let ends = (Included(&**first.min(last)), Included(&**first.max(last)));
            let between = p.subscriptions.range::<SubId, _>(ends);
            let all = between.filter(|(id, _)| {
                if wanted.next_if(|next| Arc::ptr_eq(next, id)).is_some() {
                    return true;
                }
                while wanted.next_if(|next| **next < **id).is_some() {}
                wanted.next_if(|next| **next == **id).is_some()
            });
            let owed = all.filter(|(_, entry)| entry.is_owed(said.mark));
            let ours = owed.filter(|(_, entry)| self.is_ours(cx, &entry.subscription));
            let is_silent = |s: &Subscription| {
                let sees_none = said.is_of(s) || package.shows_nothing(&s.view);
                sees_none && s.sent.answers == s.asks
            };
            ours.map(|(id, e)| (Arc::clone(id), is_silent(&e.subscription))).collect()
        });
        owed.unwrap_or_default()
    }

    fn notify(
        &self,
        cx: &mut Cx<'_>,
        key: &Arc<Key>,
        id: &Arc<SubId>,
        package: &dyn Package,
        said: &Said,
        is_silent: bool,
    ) {
        let tell = Tell {
            id: Arc::clone(id),
            mark: said.mark,
            node: cx.node.membership().node_id(),
            is_final: !self.is_replicated(),
            is_silent,
        };
        let done = self.change(cx, key, Change::Tell(tell));
        let Some(s) = done.ok().and_then(|done| done.told).filter(|_| !is_silent) else { return };
        let sent = self.send_notify(cx, key, &s, package, said);
        if s.status == Status::Terminated {
            self.forget(cx, key, id);
        }
        if let Err(why) = sent {
            self.not_sent(cx, key, id, s.sent.cseq, &why);
        }
    }

    /// A subscription is over, and its watcher knows.
    pub(crate) fn forget(&self, cx: &mut Cx<'_>, key: &Arc<Key>, id: &Arc<SubId>) {
        // Another worker may have done it.
        let _ = self.change(cx, key, Change::Forget { id: Arc::clone(id) });
    }

    fn send_notify(
        &self,
        cx: &mut Cx<'_>,
        key: &Arc<Key>,
        s: &Subscription,
        package: &dyn Package,
        said: &Said,
    ) -> Result<(), String> {
        let (tm_slot, tm) = cx.node.find::<Tm>().ok_or("the module tm is not loaded")?;
        let viewer = Viewer {
            presentity: &key.uri,
            watcher: &s.watcher_uri(),
            version: s.sent.version.saturating_sub(1),
            view: &s.view,
        };
        let body = said.for_watcher(s, package, &viewer);
        let request = request(cx, key, s, package, said, body);
        let out = Out {
            key: Arc::clone(key),
            id: Arc::clone(&s.id),
            cseq: s.sent.cseq,
            mark: said.mark,
            asks: s.asks,
        };
        let token = {
            let mut open = self.open.lock();
            if open.all.len() >= OPEN_MAX {
                return Err("too many NOTIFYs wait for replies".to_owned());
            }
            open.next += 1;
            let token = open.next;
            open.all.insert(token, out);
            token
        };
        let owner = Owner::Module { slot: self.slot, token };
        let result = cx.for_slot(tm_slot, |cx| tm.send_request(cx, &request, owner));
        if result.is_err() {
            self.open.lock().all.remove(&token);
        }
        result
    }

    /// The answer to a NOTIFY. `reply`: `None` if nobody has answered.
    pub(crate) fn answered(&self, cx: &mut Cx<'_>, token: u64, code: u16, reply: Option<&Message>) {
        if code < 200 {
            return;
        }
        let Some(out) = self.open.lock().all.remove(&token) else { return };
        let Out { key, id, cseq, mark, asks } = out;
        let timed_out = code == 408 && reply.is_none();
        if code >= 300 && reply.is_none() && !timed_out {
            return self.not_sent(cx, &key, &id, cseq, &format!("this node has no way ({code})"));
        }
        self.has_left(&key, &id);
        let is_over = code == 481 || (code == 408 && self.params.ends_on_timeout);
        if is_over {
            let ours = self.table.read(&key, |p| {
                p.subscriptions.get(&id).map(|s| self.is_ours(cx, &s.subscription))
            });
            // Just after this node took over, silence may be the network's; and what a backup
            // cannot reach is not gone.
            let excused = timed_out && self.took_over_lately(cx.now);
            if ours.flatten() == Some(true) && !excused {
                self.forget(cx, &key, &id);
            }
        } else if code >= 300 {
            if let Some(after_s) = reply.and_then(retry_after) {
                self.not_taken(cx, key, id, cseq, after_s);
            } else if code == 500 && self.shares_rows() {
                // RFC 3261 12.2.2: the number was too low. Whoever has used greater ones may also
                // know a newer state.
                let outrun = Change::Outrun { id: Arc::clone(&id), cseq };
                if self.change(cx, &key, outrun).is_ok() {
                    self.look_for_publications(cx, &key);
                    self.notify_owed(cx, &key, &[id]);
                }
            }
        } else if self.is_replicated() {
            let _ = self.change(cx, &key, Change::Confirm { id, cseq, mark, asks });
        }
    }
}

/// Seconds of a Retry-After.
fn retry_after(reply: &Message) -> Option<u64> {
    let value = reply.header_by_text(b"Retry-After")?.value();
    let end = value.iter().position(|b| !b.is_ascii_digit()).unwrap_or(value.len());
    std::str::from_utf8(value.get(..end)?).ok()?.parse().ok()
}

/// The request, with numbers that are the subscription's already.
fn request(
    cx: &Cx<'_>,
    key: &Key,
    s: &Subscription,
    package: &dyn Package,
    said: &Said,
    body: Option<Bytes>,
) -> LocalRequest {
    let socket = std::str::from_utf8(&s.socket).ok();
    let next_hop = first_route(&s.routes);
    // All of it in one piece of memory.
    let mut all = Vec::with_capacity(512 + s.routes.len() + said.extra().len());
    let mut ends = [0; 4];
    push_address(&mut all, (&s.to_user, &s.to_domain), &s.id.to_tag);
    ends[0] = all.len();
    push_address(&mut all, (&s.from_user, &s.from_domain), &s.id.from_tag);
    ends[1] = all.len();
    all.extend_from_slice(&s.id.call_id);
    ends[2] = all.len();
    all.extend_from_slice(&s.contact);
    ends[3] = all.len();
    header_lines(&mut all, cx, key, s, package, said, body.is_some());
    let all = Bytes::from(all);
    LocalRequest {
        method: Bytes::from_static(b"NOTIFY"),
        from: all.slice(..ends[0]),
        to: all.slice(ends[0]..ends[1]),
        call_id: all.slice(ends[1]..ends[2]),
        uri: all.slice(ends[2]..ends[3]),
        headers: all.slice(ends[3]..),
        cseq: s.sent.cseq,
        body: body.unwrap_or_default(),
        socket: socket.and_then(|text| cx.node.sockets.resolve(text)),
        // What cannot be read is complained about when it is sent.
        is_plain: s.routes.is_empty() || next_hop.is_some(),
        next_hop,
        ..LocalRequest::default()
    }
}

fn push_address(out: &mut Vec<u8>, (user, domain): (&[u8], &[u8]), tag: &[u8]) {
    out.push(b'<');
    push_uri(out, user, domain);
    out.extend_from_slice(b">;tag=");
    out.extend_from_slice(tag);
}

/// Where the route set leads first.
fn first_route(routes: &[u8]) -> Option<Bytes> {
    if routes.is_empty() {
        return None;
    }
    let first = NameAddr::parse(first_value(routes)).ok()?;
    Some(Bytes::copy_from_slice(first.uri))
}

fn header_lines(
    out: &mut Vec<u8>,
    cx: &Cx<'_>,
    key: &Key,
    s: &Subscription,
    package: &dyn Package,
    said: &Said,
    has_body: bool,
) {
    let mut line = |parts: &[&[u8]]| {
        parts.iter().for_each(|part| out.extend_from_slice(part));
        out.extend_from_slice(b"\r\n");
    };
    if !s.routes.is_empty() {
        line(&[b"Route: ", &s.routes]);
    }
    if s.id.event_id.is_empty() {
        line(&[b"Event: ", &key.event]);
    } else {
        line(&[b"Event: ", &key.event, b";id=", &s.id.event_id]);
    }
    line(&[b"Contact: <", &s.local_contact, b">"]);
    let left_s = u64::from(s.expires_s).saturating_sub(cx.now.unix_s()).to_string();
    match s.status {
        Status::Terminated => {
            let reason = if s.reason.is_empty() { b"timeout" } else { &s.reason[..] };
            line(&[b"Subscription-State: terminated;reason=", reason]);
        }
        status => {
            // Whoever waits for a decision is pending for the watcher.
            let text = if status == Status::Active { "active" } else { "pending" };
            let expires = left_s.as_bytes();
            line(&[b"Subscription-State: ", text.as_bytes(), b";expires=", expires]);
        }
    }
    if has_body {
        let own = package.content_type().as_bytes();
        let kind = said.content_type().filter(|kind| !kind.is_empty()).unwrap_or(own);
        line(&[b"Content-Type: ", kind]);
        out.extend_from_slice(said.extra());
    }
}
