//! What begins when this node becomes the one that acts: it looks through all subscriptions, and
//! whoever was not told the state as it is now is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tandem_clock::{Now, SEC};
use tandem_cluster::Effect as News;
use tandem_engine::module::{Cx, Timer};

use crate::params::Federation;
use crate::record::Key;
use crate::state::Presence;
use crate::table::SHARDS;

/// The timer that looks through the table; the id is the shard.
pub(crate) const LOOK: u32 = 4;
/// What is overdue is spread over this time at least.
const SPREAD_NS: u64 = 2 * SEC;
/// Overdue presentities that are dealt with in a second.
const OVERDUE_A_SECOND: u64 = 1000;
/// A watcher that does not answer just after this node took over is kept: its route may be moving
/// still.
const MERCY_NS: u64 = 5 * SEC;

/// When this node last became responsible for something.
#[derive(Debug, Default)]
pub(crate) struct Takeover {
    /// Monotonic nanoseconds; 0: never.
    at: AtomicU64,
    spread_ns: AtomicU64,
}

impl Presence {
    /// Whether the turn of something overdue has come after a takeover.
    pub(crate) fn is_its_turn(&self, now: Now, key: &Key) -> bool {
        let at = self.takeover.at.load(Ordering::Acquire);
        let spread = self.takeover.spread_ns.load(Ordering::Acquire);
        let wait = spread / SHARDS as u64 * key.bucket() as u64;
        at == 0 || now.mono_ns >= at.saturating_add(wait)
    }

    /// Whether this node took over so lately that silence means nothing yet.
    pub(crate) fn took_over_lately(&self, now: Now) -> bool {
        let at = self.takeover.at.load(Ordering::Acquire);
        at != 0 && now.mono_ns < at.saturating_add(MERCY_NS)
    }

    /// News of a cluster.
    pub(crate) fn heard_news(&self, cx: &mut Cx<'_>, news: &News) {
        if self.params.cluster == 0 {
            return;
        }
        match news {
            News::TagChanged { cluster, active: true, name: tag, .. } => {
                let node_tag = self.params.node_tag.as_ref();
                let is_nodes = node_tag.is_some_and(|(own, of)| own == tag && of == cluster);
                if is_nodes && self.params.federation == Federation::Full {
                    cx.node.membership().request_sync(cx);
                }
                if is_nodes || *cluster == self.params.cluster {
                    self.begin_takeover(cx);
                }
            }
            News::NodeState { cluster, up: false, .. } if *cluster == self.params.cluster => {
                self.begin_takeover(cx);
            }
            _ => {}
        }
    }

    fn begin_takeover(&self, cx: &mut Cx<'_>) {
        let overdue = self.table.overdue(cx.now.unix_s()) as u64;
        let spread = SPREAD_NS.max(overdue.saturating_mul(SEC / OVERDUE_A_SECOND));
        self.takeover.spread_ns.store(spread, Ordering::Release);
        self.takeover.at.store(cx.now.mono_ns.max(1), Ordering::Release);
        cx.set_timer(cx.now.after_ms(1), Timer { kind: LOOK, id: 0 });
    }

    /// Looks through one shard after the other.
    pub(crate) fn look_through(&self, cx: &mut Cx<'_>, shard: usize) {
        for key in self.table.keys(shard) {
            if self.table.read(&key, |p| !p.subscriptions.is_empty()) == Some(true) {
                self.walk(cx, &Arc::clone(&key));
            }
        }
        if shard + 1 < SHARDS {
            let spread = self.takeover.spread_ns.load(Ordering::Acquire);
            let at = cx.now.plus_ns(spread / SHARDS as u64).mono_ns;
            cx.set_timer(at, Timer { kind: LOOK, id: shard as u64 + 1 });
        }
    }
}
