//! The state of the module, and its side towards the engine.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value as Json;
use tandem_clock::Now;
use tandem_db::{DbError, Name, Row, Rows, Value};
use tandem_dialog::{Dialog, DialogId, Dialogs};
use tandem_engine::attached::{Section, TxMoment};
use tandem_engine::dialog::DialogEvent;
use tandem_engine::effect::SpoolAnswer;
use tandem_engine::module::{Build, BuildError, Cx, Module, Timer};
use tandem_engine::node::Node;
use tandem_engine::zone::Zone;

use crate::aaa::Radius;
use crate::account::{Account, State};
use crate::calls::FIRST_LOOK_S;
use crate::cdr::{Cdr, CdrId};
use crate::events;
use crate::fields::{Fields, Values};
use crate::ledger::{CallRef, Entry, Ledger, Misses, Sink, TO_RADIUS, timer};
use crate::lines;
use crate::marks::Backend;
use crate::params::Params;
use crate::plan;
use crate::record::{Kind, Record};

/// The accounting of a node.
pub struct Acc {
    pub(crate) params: Params,
    pub(crate) ledger: Option<Ledger>,
    /// The same for a RADIUS server.
    pub(crate) radius: Option<Ledger>,
    /// Records made, for identities of those that have none of their own.
    made: AtomicU64,
    /// Where the module of dialogs is, if it is loaded.
    pub(crate) dialog_slot: AtomicU16,
    /// Calls of nodes that are gone, until this node knows its database.
    pub(crate) owed_later: Mutex<Vec<DialogId>>,
    /// It was known where this node writes records.
    pub(crate) knows_place: AtomicBool,
    /// Unix seconds of this node's start.
    started_s: AtomicU64,
    /// The node stops: what is added now goes out at once.
    pub(crate) stops: AtomicBool,
}

impl Acc {
    pub(crate) fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
        let params = Params::read(build)?;
        let ledger = params.database.map(|database| Ledger::new(Sink::Database(database)));
        let radius = Radius::build(build, &params)?.map(|radius| Ledger::new(Sink::Radius(radius)));
        let (made, dialog_slot) = (AtomicU64::new(0), AtomicU16::new(u16::MAX));
        let (owed_later, started_s) = (Mutex::default(), AtomicU64::new(0));
        Ok(Arc::new(Self {
            params,
            ledger,
            radius,
            made,
            dialog_slot,
            owed_later,
            knows_place: AtomicBool::new(false),
            started_s,
            stops: AtomicBool::new(false),
        }))
    }

    pub(crate) fn flush(&self, cx: &mut Cx<'_>) {
        self.ledgers().for_each(|ledger| ledger.flush(cx));
    }

    /// Where records go that are kept until they are there.
    pub(crate) fn ledgers(&self) -> impl Iterator<Item = &Ledger> {
        self.ledger.iter().chain(&self.radius)
    }

    /// The one that a timer or a token is of.
    fn ledger_of(&self, which: u64) -> Option<&Ledger> {
        if which == TO_RADIUS { self.radius.as_ref() } else { self.ledger.as_ref() }
    }

    pub(crate) fn started_s(&self) -> u64 {
        self.started_s.load(Ordering::Relaxed)
    }

    /// Writes a record to one place.
    pub(crate) fn write(
        &self,
        cx: &mut Cx<'_>,
        (backend, kind): (Backend, Kind),
        record: &Record,
        state: &State,
        table: Option<Name>,
    ) {
        let fields = (&self.params.extra, &state.extra);
        let legs = (&self.params.legs, state.legs.as_slice());
        match backend {
            Backend::Log => {
                if cx.logs(self.params.log_level) {
                    let line = lines::record_line(kind, record, fields, legs);
                    cx.log_record(self.params.log_level, line);
                }
            }
            Backend::Evi => events::raise_record(cx, kind, record, (fields, legs)),
            Backend::Aaa => {
                let Some(ledger) = &self.radius else { return };
                if let Some(radius) = ledger.radius() {
                    let id = self.own_id(cx);
                    let entry = radius.record(id, (kind, record), (fields, legs));
                    ledger.add(cx, entry);
                }
            }
            Backend::Db => {
                let Some(ledger) = &self.ledger else { return };
                let node = Arc::clone(cx.node);
                let entry = Entry {
                    id: self.own_id(cx),
                    table: self.table_for(kind, table),
                    columns: Arc::clone(&self.params.columns),
                    rows: self.rows(&node.zone, record, (&state.extra, &state.legs), |row| {
                        let created_s = record.began_s();
                        let setup_s = record.time_s().saturating_sub(created_s);
                        let created = clock(&node.zone, created_s);
                        row.extend([Value::Int(setup_s as i64), created]);
                    }),
                    call: None,
                    segment: 0,
                    misses: Misses::default(),
                };
                ledger.add(cx, entry);
            }
        }
    }

    fn table_for(&self, kind: Kind, table: Option<Name>) -> Name {
        let standard = match kind {
            Kind::Missed => &self.params.table_missed,
            Kind::Answered | Kind::Requested => &self.params.table_acc,
        };
        table.unwrap_or_else(|| standard.clone())
    }

    /// Writes the record of a whole call to one place.
    pub(crate) fn write_cdr(
        &self,
        cx: &mut Cx<'_>,
        backend: Backend,
        cdr: &Cdr,
        table: Option<Name>,
        call: Option<CallRef>,
    ) {
        let (fields, legs) = (&self.params.extra, &self.params.legs);
        match backend {
            Backend::Log => {
                if cx.logs(self.params.log_level) {
                    let line = lines::cdr_line(cdr, fields, legs);
                    cx.log_record(self.params.log_level, line);
                }
            }
            Backend::Evi => events::raise_cdr(cx, cdr, fields, legs),
            Backend::Aaa => {
                let Some(ledger) = &self.radius else { return };
                if let Some(radius) = ledger.radius() {
                    ledger.add(cx, radius.cdr(cdr, fields, legs, call));
                }
            }
            Backend::Db => {
                let Some(ledger) = &self.ledger else { return };
                let node = Arc::clone(cx.node);
                let entry = Entry {
                    id: cdr.id(),
                    table: table.unwrap_or_else(|| self.params.table_acc.clone()),
                    columns: Arc::clone(&self.params.cdr_columns),
                    rows: self.rows(&node.zone, &cdr.core, (&cdr.extra, &cdr.legs), |row| {
                        let number = |n: u64| Value::Int(n as i64);
                        row.extend([number(cdr.duration_s()), number(cdr.duration_ms())]);
                        let created = clock(&node.zone, cdr.created_s());
                        row.extend([number(cdr.setup_s()), created]);
                    }),
                    call,
                    segment: 0,
                    misses: Misses::default(),
                };
                ledger.add(cx, entry);
            }
        }
    }

    /// A row for each leg, one at least; `end` adds the last columns.
    fn rows(
        &self,
        zone: &Zone,
        record: &Record,
        (extra, legs): (&Values, &[Values]),
        end: impl Fn(&mut Row),
    ) -> Vec<Row> {
        let none = [Values::default()];
        let shows_legs = !legs.is_empty() && !self.params.legs.of(Backend::Db).is_empty();
        let legs = if shows_legs { legs } else { &none };
        let row = |leg: &Values| {
            let mut row = Row::with_capacity(self.params.cdr_columns.len());
            let core = [
                &record.method,
                &record.from_tag,
                &record.to_tag,
                &record.call_id,
                &record.code,
                &record.reason,
            ];
            row.extend(core.map(|bytes| text(bytes)));
            row.push(clock(zone, record.time_s()));
            add(&mut row, &self.params.extra, extra);
            add(&mut row, &self.params.legs, leg);
            end(&mut row);
            row
        };
        legs.iter().map(row).collect()
    }

    /// An identity that no other record has.
    fn own_id(&self, cx: &Cx<'_>) -> CdrId {
        let n = self.made.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let started = cx.node.started.unix_ms.to_be_bytes();
        let node = cx.node.membership().node_id().to_be_bytes();
        CdrId::of(&[b"record", &node, &started, &cx.node.pid().to_be_bytes(), &n])
    }
}

fn text(bytes: &[u8]) -> Value {
    Value::Str(String::from_utf8_lossy(bytes).into_owned())
}

fn add(row: &mut Row, fields: &Fields, values: &Values) {
    row.extend(fields.of(Backend::Db).iter().map(|(at, _)| text(values.text(*at))));
}

impl Module for Acc {
    fn start(&self, cx: &mut Cx<'_>) {
        if let Some((slot, _)) = cx.node.find::<Dialogs>() {
            self.dialog_slot.store(slot, Ordering::Relaxed);
        }
        self.started_s.store(cx.now.unix_s(), Ordering::Relaxed);
        self.ledgers().for_each(|ledger| ledger.start(cx));
        if self.ledgers().next().is_some() {
            cx.set_timer(cx.now.after_s(FIRST_LOOK_S), Timer { kind: timer::DEBTS, id: 0 });
        }
    }

    fn timer(&self, cx: &mut Cx<'_>, timer: Timer) {
        if timer.kind == timer::DEBTS {
            return self.look_for_debts(cx);
        }
        if timer.kind == timer::RADIUS {
            if let Some(ledger) = &self.radius {
                ledger.told(cx, timer.id);
                self.settle(cx);
            }
            return;
        }
        if let Some(ledger) = self.ledger_of(timer.id) {
            ledger.timer(cx, timer.kind);
        }
    }

    fn db(&self, cx: &mut Cx<'_>, token: u64, result: Result<Rows, DbError>) {
        if let Some(ledger) = &self.ledger {
            ledger.answered(cx, token, result);
            self.settle(cx);
            self.look_at_owed(cx);
        }
    }

    fn spool(&self, cx: &mut Cx<'_>, token: u64, result: Result<SpoolAnswer, String>) {
        if let Some(ledger) = self.ledger_of(token & 1) {
            ledger.spooled(cx, token, result);
            self.look_at_owed(cx);
        }
    }

    fn transaction(&self, cx: &mut Cx<'_>, section: &Section, moment: &TxMoment) {
        if let Ok(account) = Arc::clone(section).downcast::<Account>() {
            self.heard(cx, &account, moment);
        }
    }

    fn section_bytes(&self, section: &Section) -> Option<Bytes> {
        section.downcast_ref::<Account>().map(Account::bytes)
    }

    fn section_of(&self, bytes: &Bytes) -> Option<Section> {
        Account::read(bytes).map(|account| Arc::new(account) as Section)
    }

    fn dialog(&self, cx: &mut Cx<'_>, event: &DialogEvent<'_>) {
        self.dialog_event(cx, event);
    }

    fn owes(&self, record: &(dyn Any + Send + Sync)) -> Vec<u64> {
        record.downcast_ref::<Dialog>().map(|dialog| self.debts_of(dialog)).unwrap_or_default()
    }

    fn pays_into(&self) -> u64 {
        self.place()
    }

    fn adopts(&self, record: &(dyn Any + Send + Sync)) -> bool {
        record.downcast_ref::<Dialog>().is_some_and(plan::is_in)
    }

    fn shutdown(&self, cx: &mut Cx<'_>) {
        self.stops.store(true, Ordering::Relaxed);
        self.flush(cx);
    }

    fn status(&self, _node: &Node, _now: Now) -> Option<Json> {
        let database = self.ledger.as_ref().map(Ledger::summary);
        let Some(radius) = self.radius.as_ref().map(Ledger::summary) else { return database };
        let mut both = database.unwrap_or_else(|| Json::Object(Default::default()));
        both["radius_spool"] = radius;
        Some(both)
    }
}

/// A time as the clock of the host shows it, as columns of DATETIME hold it.
fn clock(zone: &Zone, unix_s: u64) -> Value {
    Value::Time(zone.wall_s(unix_s) as i64)
}
