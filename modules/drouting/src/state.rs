//! The state of the module, and what happens to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tandem_db::{DbError, Rows};
use tandem_engine::module::{Build, BuildError, Cx, Module, Timer};
use tandem_engine::replication::Replicated;
use tandem_engine::transport::{Hop, HopError};
use tandem_sip::Message;
use tandem_targets::{Again, Prober, Refill, Register, Searches, WRITE_EVERY_S, Writer};

use crate::functions;
use crate::load::Loads;
use crate::params::{DEFAULT, Params};
use crate::quality::Quality;
use crate::status::Key;
use crate::table::{Partition, Table};

/// The group of status reports.
pub(crate) const REPORTS: &str = "drouting";
/// Timers that probe, that write states, and that fill blacklists.
const PROBE: u32 = 0;
const WRITE: u32 = 1;
pub(crate) const FILL: u32 = 2;
/// Timer that looks names up again.
pub(crate) const AGAIN: u32 = 3;
/// Timer that takes rules which have come.
pub(crate) const TAKE: u32 = 4;
/// Tokens of writes, from here on; those below are of tables.
const WRITES: u64 = crate::load::FIRST | 1 << 46;

/// A gateway whose name is looked up.
pub(crate) struct Searched {
    pub(crate) table: Arc<Table>,
    pub(crate) gateway: u32,
    /// It was looked up before, in vain.
    pub(crate) again: bool,
}

/// The state of the module.
pub struct Drouting {
    pub(crate) params: Params,
    pub(crate) slot: u16,
    pub(crate) partitions: RwLock<Vec<Arc<Partition>>>,
    pub(crate) loads: Mutex<Loads>,
    /// Searches for the addresses of gateways.
    pub(crate) searches: Searches<Searched>,
    pub(crate) refill: Refill,
    pub(crate) again: Again,
    pub(crate) states: Register<Self>,
    pub(crate) prober: Prober<Key>,
    pub(crate) probing: AtomicBool,
    writer: Writer<Key>,
    /// Who sorts by quality.
    pub(crate) quality: RwLock<Option<Arc<dyn Quality>>>,
}

impl Drouting {
    pub(crate) fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
        let params = Params::read(build)?;
        let mut partitions = Vec::new();
        if let Some(database) = params.database {
            let query = params.rule_queries.iter().find(|(name, _)| name == DEFAULT);
            partitions.push(Arc::new(Partition::new(
                DEFAULT.to_owned(),
                database,
                params.names.clone(),
                query.map(|(_, sql)| sql.clone()),
                params.avps.clone(),
                params.alphabet.clone(),
            )));
        }
        Ok(Arc::new(Self {
            slot: build.slot,
            partitions: RwLock::new(partitions),
            loads: Mutex::default(),
            searches: Searches::default(),
            refill: Refill::default(),
            again: Again::default(),
            states: Register::new(params.sharing.clone()),
            prober: Prober::new(params.probing.clone(), PROBE),
            probing: AtomicBool::new(params.probing.interval_s > 0),
            writer: Writer::new(WRITES),
            quality: RwLock::default(),
            params,
        }))
    }

    pub(crate) fn parts(&self) -> Vec<Arc<Partition>> {
        self.partitions.read().clone()
    }

    pub(crate) fn uses_partitions(&self) -> bool {
        self.params.partitions.is_some()
    }

    pub(crate) fn part(&self, name: &str) -> Option<Arc<Partition>> {
        self.partitions.read().iter().find(|part| part.name == name).cloned()
    }

    /// Writes the states that have changed, to the database and to a file, as configured.
    fn write_states(&self, cx: &mut Cx<'_>) {
        if self.params.keeps_state {
            self.writer.write(cx, self);
        }
        if self.params.keeps_tables {
            self.write_kept_states(cx);
        }
    }

    pub(crate) fn report_status(&self, cx: &mut Cx<'_>, part: &str, status: i32, text: &str) {
        // Its reports have an identifier of their own, which is always ready.
        cx.set_status(REPORTS, &format!("{part};events"), 1, "");
        cx.set_status(REPORTS, part, status, text);
    }
}

impl Module for Drouting {
    fn start(&self, cx: &mut Cx<'_>) {
        self.start_loading(cx);
        self.prober.start::<Self>(cx);
        if self.params.keeps_state || self.params.keeps_tables {
            cx.set_timer(cx.now.after_s(WRITE_EVERY_S), Timer { kind: WRITE, id: 0 });
        }
    }

    fn timer(&self, cx: &mut Cx<'_>, timer: Timer) {
        match timer.kind {
            PROBE => self.prober.tick(cx, self, timer, self.probing.load(Ordering::Relaxed)),
            FILL => {
                self.refill.begins();
                for part in self.parts() {
                    self.refresh_blacklists(cx, &part, &part.table());
                }
            }
            AGAIN => self.resolve_again(cx),
            TAKE => self.take_waiting(cx, timer.id),
            _ => {
                self.write_states(cx);
                cx.set_timer(cx.now.after_s(WRITE_EVERY_S), timer);
            }
        }
    }

    fn db(&self, cx: &mut Cx<'_>, token: u64, result: Result<Rows, DbError>) {
        if token < crate::load::FIRST {
            return functions::group_answered(self, cx, token, result);
        }
        if token >= WRITES {
            return self.writer.written(cx, self, token, result.err());
        }
        self.loaded(cx, token, result);
    }

    fn file_read(&self, cx: &mut Cx<'_>, token: u64, result: Result<Option<Bytes>, String>) {
        self.kept_read(cx, token, result);
    }

    fn resolved(&self, cx: &mut Cx<'_>, token: u64, result: Result<Vec<Hop>, HopError>) {
        if let Some((of, found)) = self.searches.ended(token, result) {
            self.gateway_resolved(cx, &of, found);
        }
    }

    fn local_reply(&self, cx: &mut Cx<'_>, token: u64, code: u16, _reply: Option<&Message>) {
        if let Some(answer) = self.prober.answered(cx.node, token, code) {
            self.probed(cx, answer);
        }
    }

    fn replicated(&self) -> Option<&dyn Replicated> {
        (self.params.sharing.cluster != 0).then_some(&self.states as &dyn Replicated)
    }

    fn shutdown(&self, cx: &mut Cx<'_>) {
        self.write_states(cx);
    }
}
