//! The state of the module, and what happens to it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tandem_db::{DbError, Rows};
use tandem_engine::cached::Cached;
use tandem_engine::log::Level;
use tandem_engine::module::{Build, BuildError, Cx, Module, Timer};
use tandem_engine::replication::Replicated;
use tandem_engine::transport::{Hop, HopError};
use tandem_freeswitch::FreeSwitch;
use tandem_sip::Message;
use tandem_targets::{
    Again, Blacklist, Missing, Place, Prober, Refill, Register, Searches, WRITE_EVERY_S, Writer,
    not_found,
};

use crate::params::{self, Avps, DEFAULT, Params};
use crate::sets::{Destination, Sets};
use crate::targets::{Key, REPORTS};

/// Timers that probe, that write states, and that fill blacklists.
const PROBE: u32 = 0;
const WRITE: u32 = 1;
const FILL: u32 = 2;
/// Timer that looks names up again.
const AGAIN: u32 = 3;
/// Timer that tells of a new load.
const TOLD: u32 = 4;
/// Tokens of writes. Tables of [`Cached`] have the highest bit of 48, writes the next one.
const WRITES: u64 = 1 << 46;
/// Faults of one loading that are told.
const FAULTS_MAX: usize = 100;

/// What a partition has beside its table.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) avps: Avps,
    blacklists: Vec<Blacklist>,
    /// Whose turn it is, by set.
    turns: Mutex<BTreeMap<i64, u32>>,
}

impl Part {
    /// The next number of a set.
    pub(crate) fn turn(&self, set: i64) -> u32 {
        let mut turns = self.turns.lock();
        let turn = turns.entry(set).or_default();
        let now = *turn;
        *turn = turn.wrapping_add(1);
        now
    }
}

/// The state of the module.
pub struct Dispatcher {
    pub(crate) params: Params,
    pub(crate) tables: Cached<Sets>,
    parts: Vec<Arc<Part>>,
    /// Whether the loading that is on its way keeps states.
    pub(crate) inherits: AtomicBool,
    /// Destinations whose names are looked up.
    searches: Searches<(Arc<Destination>, bool)>,
    again: Again,
    refill: Refill,
    pub(crate) states: Register<Self>,
    pub(crate) prober: Prober<Key>,
    writer: Writer<Key>,
    /// Who tells weights; `None`: nobody is asked.
    pub(crate) freeswitch: Option<Arc<FreeSwitch>>,
}

impl Dispatcher {
    pub(crate) fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
        let params = Params::read(build)?;
        let freeswitch = FreeSwitch::wanted(build, params.freeswitch_max.is_some())?;
        let (mut parts, mut tables) = (Vec::new(), Vec::new());
        for partition in params::partitions(build)? {
            let (name, avps) = (partition.table.name.clone(), partition.avps);
            let (blacklists, turns) = (partition.blacklists, Mutex::default());
            parts.push(Arc::new(Part { name, avps, blacklists, turns }));
            tables.push(partition.table);
        }
        let tables = Cached::new(tables, (500, "ERROR Reloading data"));
        Ok(Arc::new(Self {
            tables: tables.map_err(|why| BuildError::new("partition", why))?,
            parts,
            inherits: AtomicBool::new(true),
            searches: Searches::default(),
            again: Again::default(),
            refill: Refill::default(),
            states: Register::new(params.sharing.clone()),
            prober: Prober::new(params.probing.clone(), PROBE),
            writer: Writer::new(WRITES),
            freeswitch,
            params,
        }))
    }

    pub(crate) fn parts(&self) -> &[Arc<Part>] {
        &self.parts
    }

    /// A partition and its sets as they are now.
    pub(crate) fn part(&self, name: Option<&str>) -> Option<(Arc<Part>, Arc<Sets>)> {
        let name = name.unwrap_or(DEFAULT);
        let part = self.parts.iter().find(|part| part.name == name)?;
        Some((Arc::clone(part), self.tables.part(name)?.table()))
    }

    /// The sets of a partition.
    pub(crate) fn sets(&self, part: &Part) -> Arc<Sets> {
        self.tables.part(&part.name).map(|table| table.table()).unwrap_or_default()
    }

    /// A table is there. One without any destination that can be used does not take the place of
    /// one that has some.
    fn read(&self, cx: &mut Cx<'_>, part: &Arc<Part>, rows: &Rows) -> Result<Sets, String> {
        let keeps = self.params.keeps_state;
        let mut sets = Sets::of(rows, &cx.node.sockets, keeps, self.params.freeswitch_max);
        sets.unix_s = cx.now.unix_s();
        for fault in sets.faults.all.iter().take(FAULTS_MAX) {
            let text = format!("partition {}: {}", part.name, fault.text());
            cx.log(Level::Error, format!("dispatcher: {text}"));
        }
        let old = self.sets(part);
        let count = sets.all().count();
        let text = format!("{count} destinations loaded, {}", sets.faults.summary());
        if count == 0 && sets.faults.refused > 0 && old.all().next().is_some() {
            return Err(format!("partition {}: {text}: the old table stays", part.name));
        }
        sets.inherit(&old, self.inherits.load(Ordering::Relaxed));
        for destination in sets.all().filter(|d| d.is_named) {
            self.search(cx, destination, false);
        }
        self.refresh_blacklists(cx, part, &sets);
        cx.log(Level::Notice, format!("dispatcher: partition {}: {text}", part.name));
        cx.report(REPORTS, &part.name, &text);
        // Its reports have an identifier of their own, which is always ready.
        cx.set_status(REPORTS, &format!("{};events", part.name), 1, "");
        cx.set_status(REPORTS, &part.name, 1, "data available");
        Ok(sets)
    }

    /// `again`: it was looked up before, in vain.
    fn search(&self, cx: &mut Cx<'_>, of: &Arc<Destination>, again: bool) {
        let searched = (Arc::clone(of), again);
        if let Some((of, found)) = self.searches.begin(cx, &of.uri, searched) {
            self.found_ips(cx, &of, found);
        }
    }

    fn search_again(&self, cx: &mut Cx<'_>) {
        self.again.begins();
        for part in &self.parts {
            let sets = self.sets(part);
            for of in sets.all().filter(|d| d.is_named && d.ips.read().is_empty()) {
                self.search(cx, of, true);
            }
        }
    }

    fn found_ips(
        &self,
        cx: &mut Cx<'_>,
        (of, again): &(Arc<Destination>, bool),
        found: Result<Vec<IpAddr>, HopError>,
    ) {
        match found {
            Ok(ips) => {
                *of.ips.write() = ips;
                self.refill.soon(cx, FILL);
            }
            Err(why) => {
                let missing = Missing { kept: of.ips.read().len(), again: *again };
                not_found(cx, "dispatcher", &of.uri, &why, missing);
                if missing.kept == 0 {
                    self.again.later(cx, AGAIN);
                }
            }
        }
    }

    fn refresh_blacklists(&self, cx: &mut Cx<'_>, part: &Part, sets: &Sets) {
        for wanted in &part.blacklists {
            let inside = sets.all().filter(|d| wanted.groups.contains(&d.set));
            let places =
                inside.map(|d| Place { ips: d.ips.read().clone(), proto: d.proto, port: d.port });
            wanted.fill(cx, "dispatcher", places.collect::<Vec<_>>());
        }
    }
}

impl Module for Dispatcher {
    fn start(&self, cx: &mut Cx<'_>) {
        for part in &self.parts {
            self.refresh_blacklists(cx, part, &Sets::default());
        }
        self.tables.start(cx);
        self.prober.start::<Self>(cx);
        if self.params.keeps_state {
            cx.set_timer(cx.now.after_s(WRITE_EVERY_S), Timer { kind: WRITE, id: 0 });
        }
    }

    fn timer(&self, cx: &mut Cx<'_>, timer: Timer) {
        match timer.kind {
            PROBE => self.prober.tick(cx, self, timer, true),
            FILL => {
                self.refill.begins();
                for part in &self.parts {
                    self.refresh_blacklists(cx, part, &self.sets(part));
                }
            }
            AGAIN => self.search_again(cx),
            TOLD => self.told(timer.id),
            _ => {
                self.writer.write(cx, self);
                cx.set_timer(cx.now.after_s(WRITE_EVERY_S), timer);
            }
        }
    }

    fn db(&self, cx: &mut Cx<'_>, token: u64, result: Result<Rows, DbError>) {
        if !Cached::<Sets>::owns(token) {
            return self.writer.written(cx, self, token, result.err());
        }
        let Some(part) = self.parts.get((token & 0xff) as usize) else { return };
        self.tables.try_answered(cx, token, result, |cx, rows| self.read(cx, part, rows));
        self.adopt(cx, part, &self.sets(part));
        self.watch(cx, TOLD);
    }

    fn resolved(&self, cx: &mut Cx<'_>, token: u64, result: Result<Vec<Hop>, HopError>) {
        if let Some((of, found)) = self.searches.ended(token, result) {
            self.found_ips(cx, &of, found);
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
        if self.params.keeps_state {
            self.writer.write(cx, self);
        }
    }
}
