//! The state of the module, and what happens to it.

use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tandem_db::{DbError, Rows};
use tandem_dialog::Dialogs;
use tandem_engine::cached::{Cached, Part};
use tandem_engine::log::Level;
use tandem_engine::module::{Build, BuildError, Cx, Module, Timer};
use tandem_engine::replication::Replicated;
use tandem_engine::transport::{Hop, HopError};
use tandem_freeswitch::FreeSwitch;
use tandem_sip::Message;
use tandem_targets::{Again, Missing, Place, Prober, Refill, Register, Searches, not_found};

use crate::params::{PARTITION, Params};
use crate::table::{Destination, Table};
use crate::targets::Key;

/// The group of status reports.
pub(crate) const REPORTS: &str = "load_balancer";
/// Timers that probe, and that fill blacklists.
const PROBE: u32 = 0;
const FILL: u32 = 1;
/// Timer that looks names up again.
const AGAIN: u32 = 2;
/// Timer that tells of a new load.
const TOLD: u32 = 3;
/// Locks for groups.
const TURNS: usize = 16;
/// Faults of one loading that are told.
const FAULTS_MAX: usize = 100;

/// The state of the module.
pub struct LoadBalancer {
    pub(crate) params: Params,
    pub(crate) dialogs: Arc<Dialogs>,
    /// Who tells sizes; `None`: nobody is asked.
    pub(crate) freeswitch: Option<Arc<FreeSwitch>>,
    pub(crate) tables: Cached<Table>,
    pub(crate) states: Register<Self>,
    pub(crate) prober: Prober<Key>,
    searches: Searches<(Arc<Destination>, bool)>,
    again: Again,
    refill: Refill,
    /// One is held while a destination of its groups is chosen.
    turns: [Mutex<()>; TURNS],
}

impl LoadBalancer {
    pub(crate) fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
        let params = Params::read(build)?;
        let dialogs = build.module::<Dialogs>();
        let dialogs = dialogs.ok_or_else(|| BuildError::new("", "the module dialog is needed"))?;
        let part = Part::new(PARTITION, params.database, params.select.clone());
        let tables = Cached::new(vec![part], (500, "Failed to reload"));
        let freeswitch = FreeSwitch::wanted(build, params.freeswitch_initial.is_some())?;
        Ok(Arc::new(Self {
            dialogs,
            freeswitch,
            tables: tables.map_err(|why| BuildError::new("db_table", why))?,
            states: Register::new(params.sharing.clone()),
            prober: Prober::new(params.probing.clone(), PROBE),
            searches: Searches::default(),
            again: Again::default(),
            refill: Refill::default(),
            turns: Default::default(),
            params,
        }))
    }

    /// What is held while a destination of a group is chosen.
    pub(crate) fn turn(&self, group: i64) -> &Mutex<()> {
        let [first, rest @ ..] = &self.turns;
        let at = group.rem_euclid(TURNS as i64) as usize;
        at.checked_sub(1).and_then(|at| rest.get(at)).unwrap_or(first)
    }

    /// The destinations as they are now.
    pub(crate) fn table(&self) -> Arc<Table> {
        self.tables.part(PARTITION).map(Part::table).unwrap_or_default()
    }

    /// Another table is there. One without any destination that can be used does not take the
    /// place of one that has some.
    fn read(&self, cx: &mut Cx<'_>, rows: &Rows) -> Result<Table, String> {
        let mut table = Table::of(rows, self.params.freeswitch_initial);
        table.unix_s = cx.now.unix_s();
        for fault in table.faults.all.iter().take(FAULTS_MAX) {
            cx.log(Level::Error, format!("load_balancer: {}", fault.text()));
        }
        let old = self.table();
        let count = table.all().len();
        let text = format!("{count} destinations loaded, {}", table.faults.summary());
        if count == 0 && table.faults.refused > 0 && !old.all().is_empty() {
            return Err(format!("{text}: the old table stays"));
        }
        table.inherit(&old);
        cx.log(Level::Notice, format!("load_balancer: {text}"));
        cx.report(REPORTS, PARTITION, &text);
        cx.set_status(REPORTS, PARTITION, 1, "data available");
        Ok(table)
    }

    /// Looks up the names of destinations that are no addresses.
    fn search_all(&self, cx: &mut Cx<'_>) {
        let table = self.table();
        for of in table.all() {
            if !of.is_literal {
                self.search(cx, of, false);
            }
        }
        self.refresh_blacklists(cx);
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
        for of in self.table().all().iter().filter(|of| of.ips.read().is_empty()) {
            self.search(cx, of, true);
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
                not_found(cx, "load_balancer", &of.uri, &why, missing);
                if missing.kept == 0 {
                    self.again.later(cx, AGAIN);
                }
            }
        }
    }

    fn refresh_blacklists(&self, cx: &mut Cx<'_>) {
        let table = self.table();
        for wanted in &self.params.blacklists {
            let inside = table.all().iter().filter(|of| wanted.groups.contains(&of.group));
            let places = inside.map(|of| Place {
                ips: of.ips.read().clone(),
                proto: of.proto,
                port: of.port,
            });
            wanted.fill(cx, "load_balancer", places.collect::<Vec<_>>());
        }
    }
}

impl Module for LoadBalancer {
    fn start(&self, cx: &mut Cx<'_>) {
        self.refresh_blacklists(cx);
        // Its reports have an identifier of their own, which is always ready.
        cx.set_status(REPORTS, &format!("{PARTITION};events"), 1, "");
        cx.set_status(REPORTS, PARTITION, -1, "loading");
        self.tables.start(cx);
        self.prober.start::<Self>(cx);
    }

    fn timer(&self, cx: &mut Cx<'_>, timer: Timer) {
        match timer.kind {
            PROBE => self.prober.tick(cx, self, timer, true),
            AGAIN => self.search_again(cx),
            TOLD => self.told(timer.id),
            _ => {
                self.refill.begins();
                self.refresh_blacklists(cx);
            }
        }
    }

    fn db(&self, cx: &mut Cx<'_>, token: u64, result: Result<Rows, DbError>) {
        if Cached::<Table>::owns(token) {
            self.tables.try_answered(cx, token, result, |cx, rows| self.read(cx, rows));
            self.adopt(cx);
            self.watch(cx, TOLD);
            self.search_all(cx);
        }
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
}
