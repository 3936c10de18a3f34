//! Pings whose answers matter: contacts that stay silent are removed.
//!
//! What is lost counts only if it left this host, and not within the first seconds of a time in
//! which this node pings: after a takeover the network is still finding its way.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;
use tandem_clock::{Mono, Now, SEC};
use tandem_engine::log::Level;
use tandem_engine::module::Cx;
use tandem_usrloc::store::{Contact, Place};
use tandem_usrloc::{Table, Usrloc};

use crate::Nathelper;
use crate::ping::add;

/// Pings whose answers are waited for, at most: a contact more is not watched this time.
const WATCHED_MAX: usize = 1_000_000;
/// What is lost so soon after this node began to ping ends nothing.
const GRACE_NS: u64 = 5 * SEC;

/// The pings that are out.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    pings: Mutex<Out>,
    /// How often this node has begun to ping: what was lost in an earlier time is forgotten.
    reign: AtomicU32,
    /// When it did so last.
    since_ns: AtomicU64,
}

#[derive(Debug, Default)]
struct Out {
    /// The number of the first one.
    first: u64,
    pings: VecDeque<Watched>,
}

#[derive(Debug)]
struct Watched {
    due: Mono,
    sent_ns: u64,
    table: Arc<Table>,
    id: u64,
    place: Place,
    reign: u16,
    /// It did not leave this host.
    is_void: bool,
}

impl Watch {
    /// This node begins to ping, or its share has changed.
    pub(crate) fn new_reign(&self, now: Now) {
        self.reign.fetch_add(1, Ordering::Relaxed);
        self.since_ns.store(now.mono_ns, Ordering::Relaxed);
    }

    pub(crate) fn since_ns(&self) -> Mono {
        self.since_ns.load(Ordering::Relaxed)
    }

    fn reign(&self) -> u16 {
        self.reign.load(Ordering::Relaxed) as u16
    }

    pub(crate) fn len(&self) -> usize {
        self.pings.lock().pings.len()
    }
}

impl Nathelper {
    /// A ping is about to leave whose answer matters. Gives its number, 0 if nobody waits.
    pub(crate) fn watch(
        &self,
        cx: &Cx<'_>,
        usrloc: &Usrloc,
        (table, contact, place): (&Arc<Table>, &Contact, Place),
        is_removed: bool,
    ) -> u64 {
        let (watch, now) = (&self.pings.watch, cx.now);
        let reign = watch.reign();
        usrloc.ping_sent(table, (contact.id, place), now, reign);
        if !is_removed || now.mono_ns < watch.since_ns().saturating_add(GRACE_NS) {
            return 0;
        }
        let out = &mut *watch.pings.lock();
        if out.pings.len() >= WATCHED_MAX {
            return 0;
        }
        out.pings.push_back(Watched {
            due: now.after_s(self.params.threshold_s),
            sent_ns: now.mono_ns.max(1),
            table: Arc::clone(table),
            id: contact.id,
            place,
            reign,
            is_void: false,
        });
        // Numbers begin with 1: 0 is a send that nobody asks about.
        out.first + out.pings.len() as u64
    }

    /// A watched ping did not leave this host: that is not the phone's fault.
    pub(crate) fn not_sent(&self, number: u64) {
        add(&self.pings.counts.not_sent, 1);
        let Some(usrloc) = &self.usrloc else { return };
        let out = &mut *self.pings.watch.pings.lock();
        let at = number.checked_sub(out.first + 1).and_then(|at| usize::try_from(at).ok());
        if let Some(ping) = at.and_then(|at| out.pings.get_mut(at)) {
            ping.is_void = true;
            usrloc.ping_void(&ping.table, ping.id, ping.sent_ns);
        }
    }

    /// Counts what was not answered in time, and removes contacts that did not answer too often,
    /// where this node still is the one to do so.
    pub(crate) fn count_lost(&self, cx: &mut Cx<'_>, usrloc: &Usrloc) {
        let node = Arc::clone(cx.node);
        let tags = node.membership().tags().map(|t| &**t);
        let now = cx.now.mono_ns;
        while let Some(ping) = self.pop_due(now) {
            if ping.is_void {
                continue;
            }
            // What an earlier reign sent says nothing in this one.
            if ping.reign != self.pings.watch.reign() {
                usrloc.ping_void(&ping.table, ping.id, ping.sent_ns);
                continue;
            }
            let lost = usrloc.ping_lost(&ping.table, (ping.id, ping.place), ping.sent_ns);
            let is_kept = lost.is_none_or(|lost| lost < self.params.lost_max);
            if is_kept || !self.may_ping(tags) {
                continue;
            }
            let Some(contact) = ping.table.domain.by_id(ping.id) else { continue };
            if usrloc.may_act(tags, &contact) {
                let aor = String::from_utf8_lossy(contact.aor()).into_owned();
                let lost = lost.unwrap_or_default();
                let text = format!("a contact of {aor} is removed: {lost} pings were lost");
                cx.log(Level::Info, text);
                add(&self.pings.counts.removed, 1);
                usrloc.delete(cx, &ping.table, ping.id);
            }
        }
    }

    fn pop_due(&self, now: Mono) -> Option<Watched> {
        let out = &mut *self.pings.watch.pings.lock();
        let ping = out.pings.pop_front_if(|p| p.due <= now)?;
        out.first += 1;
        Some(ping)
    }
}
