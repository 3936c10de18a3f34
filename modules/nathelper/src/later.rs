//! Contacts that could not be pinged when it was their turn.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tandem_clock::Mono;
use tandem_engine::module::Cx;
use tandem_usrloc::Table;

use crate::Nathelper;
use crate::ping::{Step, whereabouts};

/// Contacts whose names are being looked up, at most: one more is not pinged this time.
const NAMED_MAX: usize = 10_000;
/// Contacts that wait for the address of their socket, at most.
const WAITING_MAX: usize = 100_000;
/// How long after this node began to ping contacts wait for an address: after a takeover it comes
/// with the tag, or a little later.
const WAIT_S: u64 = 10;
/// Of those, so many are looked at in one step.
const LATER_A_STEP: usize = 16;

/// Contacts that wait for a name or an address.
#[derive(Debug, Default)]
pub(crate) struct Later {
    named: Mutex<Named>,
    unheld: Mutex<VecDeque<Unheld>>,
}

/// Contacts whose names are being looked up.
#[derive(Debug, Default)]
struct Named {
    last: u64,
    waiting: BTreeMap<u64, (Arc<Table>, u64)>,
}

/// A contact whose socket has an address that this host does not hold.
#[derive(Debug)]
struct Unheld {
    table: Arc<Table>,
    id: u64,
    until: Mono,
}

impl Later {
    pub(crate) fn begin_search(&self, table: &Arc<Table>, id: u64) -> Option<u64> {
        let named = &mut *self.named.lock();
        if named.waiting.len() >= NAMED_MAX {
            return None;
        }
        named.last += 1;
        named.waiting.insert(named.last, (Arc::clone(table), id));
        Some(named.last)
    }

    pub(crate) fn end_search(&self, token: u64) -> Option<(Arc<Table>, u64)> {
        self.named.lock().waiting.remove(&token)
    }

    pub(crate) fn waiting(&self) -> usize {
        self.unheld.lock().len()
    }
}

impl Nathelper {
    /// Pings a contact when its address is here, if that is soon.
    pub(crate) fn ping_when_held(&self, cx: &Cx<'_>, table: &Arc<Table>, id: u64) {
        let until = self.pings.watch.since_ns().saturating_add(WAIT_S * tandem_clock::SEC);
        let mut unheld = self.pings.later.unheld.lock();
        if cx.now.mono_ns < until && unheld.len() < WAITING_MAX {
            unheld.push_back(Unheld { table: Arc::clone(table), id, until });
        }
    }

    /// Pings some of those who wait for an address; true while there are more.
    pub(crate) fn ping_later_ones(&self, cx: &mut Cx<'_>, step: &mut Step<'_>) -> bool {
        for _ in 0..LATER_A_STEP {
            let Some(waiting) = self.pings.later.unheld.lock().pop_front() else { return false };
            // Its next turn comes before long, and comes to all.
            if waiting.until <= cx.now.mono_ns {
                continue;
            }
            if let Some((place, contact)) = whereabouts(&waiting.table, waiting.id) {
                self.ping(cx, step, &waiting.table, (&contact, place));
            }
        }
        self.pings.later.waiting() > 0
    }
}
