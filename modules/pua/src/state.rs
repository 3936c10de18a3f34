//! The running module.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use tandem_clock::Now;
use tandem_db::{DbError, Rows};
use tandem_engine::module::{Build, BuildError, Cx, Module, Timer};
use tandem_engine::node::Node;
use tandem_engine::replication::Replicated;
use tandem_sip::Message;

use crate::params::Params;
use crate::record::Source;
use crate::store::Store;
use crate::table::Table;

/// Timers of this kind look at the records that are due.
pub(crate) const TICK: u32 = 0;
/// Timers of this kind write what has changed.
const FLUSH: u32 = 1;

/// The state of the module; other modules publish through it.
pub struct Pua {
    pub(crate) params: Params,
    pub(crate) slot: u16,
    pub(crate) table: Table,
    pub(crate) store: Store,
    /// Where records of a source go that come from a database.
    pub(crate) next_hops: Mutex<BTreeMap<Source, Bytes>>,
}

impl Pua {
    pub(crate) fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
        let params = Params::read(build)?;
        let table = Table::new(params.update_period_s.into());
        let (slot, store, next_hops) = (build.slot, Store::default(), Mutex::default());
        Ok(Arc::new(Self { params, slot, table, store, next_hops }))
    }

    /// The slot of the module.
    pub fn slot(&self) -> u16 {
        self.slot
    }

    fn plan_flush(&self, cx: &mut Cx<'_>) {
        if self.params.update_period_s > 0 && self.params.database.is_some() {
            let at = cx.now.after_s(self.params.update_period_s.into());
            cx.set_timer(at, Timer { kind: FLUSH, id: 0 });
        }
    }
}

impl Module for Pua {
    fn start(&self, cx: &mut Cx<'_>) {
        self.load(cx);
        cx.set_timer(cx.now.after_s(1), Timer { kind: TICK, id: 0 });
        self.plan_flush(cx);
    }

    fn timer(&self, cx: &mut Cx<'_>, timer: Timer) {
        match timer.kind {
            TICK => self.sweep(cx),
            FLUSH => {
                self.flush(cx);
                self.plan_flush(cx);
            }
            _ => {}
        }
    }

    fn db(&self, cx: &mut Cx<'_>, token: u64, result: Result<Rows, DbError>) {
        self.answered(cx, token, result);
    }

    fn local_reply(&self, cx: &mut Cx<'_>, token: u64, code: u16, reply: Option<&Message>) {
        self.replied(cx, token, code, reply);
    }

    fn replicated(&self) -> Option<&dyn Replicated> {
        (self.params.cluster != 0).then_some(self)
    }

    fn status(&self, _node: &Node, _now: Now) -> Option<Json> {
        let unsaved = match self.params.database {
            Some(_) => self.table.dirty_count(),
            None => 0,
        };
        Some(json!({
            "records": self.table.len(), "remembered_ends": self.table.ends(), "unsaved": unsaved
        }))
    }

    fn shutdown(&self, cx: &mut Cx<'_>) {
        self.flush(cx);
    }
}
