//! The state of the module, and the one function that changes the state of a destination.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use parking_lot::Mutex;
use tandem_bin::dispatcher as wire;
use tandem_cluster::Stamp;
use tandem_db::{Cond, DbError, Query, Rows, Value as DbValue};
use tandem_engine::blacklist::{List, Net, Rule};
use tandem_engine::cached::Cached;
use tandem_engine::dns::Resolved;
use tandem_engine::log::Level;
use tandem_engine::module::{Build, BuildError, Cx, Module, Timer};
use tandem_engine::outbox::Record;
use tandem_engine::replication::Replicated;
use tandem_engine::transport::{Hop, HopError};
use tandem_script::value::Value;
use tandem_sip::Message;

use crate::params::{self, Avps, Blacklist, DEFAULT, Params};
use crate::probing::{self, Probes};
use crate::sets::{Destination, INACTIVE, PROBING, Sets, Status, column};

/// Raised when a destination becomes active or ceases to be.
const EVENT: &str = "E_DISPATCHER_STATUS";
/// The group of status reports.
const REPORTS: &str = "dispatcher";
/// Timers of this kind write states.
const WRITE: u32 = 1;
const WRITE_EVERY_S: u64 = 5;
/// Tokens of writes. Tables of [`Cached`] have the highest bit of 48, writes the next one.
const WRITES: u64 = 1 << 46;
const WRITES_MAX: usize = 1_000;
/// States of peers about what is not loaded yet, and names that are looked up, at most.
const WAITING_MAX: usize = 10_000;

/// Where a change of a state comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Here,
    /// A peer; in a sync nobody is told.
    Peer {
        stamp: Stamp,
        in_sync: bool,
    },
}

/// What is wanted of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Active,
    Inactive,
    /// At once.
    Probing,
    /// Probing, when it was the last straw.
    Failed,
}

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

/// A destination whose name is looked up.
type Searched = (Arc<Part>, Arc<Destination>);
type EarlyKey = (String, i64, Vec<u8>);

/// The state of the module.
pub struct Dispatcher {
    pub(crate) params: Params,
    pub(crate) slot: u16,
    pub(crate) tables: Cached<Sets>,
    parts: Vec<Arc<Part>>,
    /// Whether the loading that is on its way keeps states.
    pub(crate) inherits: AtomicBool,
    pub(crate) probes: Mutex<Probes>,
    numbers: AtomicU32,
    searches: Mutex<BTreeMap<u64, Searched>>,
    writes: Mutex<BTreeMap<u64, Arc<Status>>>,
    /// Held while a state changes, so that peers hear of changes in their order.
    changes: Mutex<()>,
    early: Mutex<BTreeMap<EarlyKey, (u32, Stamp)>>,
}

impl Dispatcher {
    pub(crate) fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
        let params = Params::read(build)?;
        let (mut parts, mut tables) = (Vec::new(), Vec::new());
        for partition in params::partitions(build)? {
            let (name, avps) = (partition.table.name.clone(), partition.avps);
            let (blacklists, turns) = (partition.blacklists, Mutex::default());
            parts.push(Arc::new(Part { name, avps, blacklists, turns }));
            tables.push(partition.table);
        }
        let tables = Cached::new(tables, (500, "ERROR Reloading data"));
        Ok(Arc::new(Self {
            slot: build.slot,
            tables: tables.map_err(|why| BuildError::new("partition", why))?,
            parts,
            inherits: AtomicBool::new(true),
            probes: Mutex::default(),
            numbers: AtomicU32::new(1),
            searches: Mutex::default(),
            writes: Mutex::default(),
            changes: Mutex::default(),
            early: Mutex::default(),
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

    pub(crate) fn number(&self) -> u64 {
        u64::from(self.numbers.fetch_add(1, Ordering::Relaxed))
    }

    /// Does what is wanted of a destination: the state changes here, at the peers, in the event
    /// and, later, in the database.
    pub(crate) fn wish(&self, cx: &mut Cx<'_>, part: &Part, of: &Destination, wish: Wish) {
        let status = &of.status;
        let bits = match wish {
            Wish::Active => {
                status.failures.store(0, Ordering::Relaxed);
                0
            }
            Wish::Inactive => INACTIVE,
            Wish::Probing => PROBING,
            Wish::Failed if status.bits() & INACTIVE != 0 => return,
            Wish::Failed => {
                let failures = status.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                if failures < self.params.threshold {
                    return;
                }
                PROBING
            }
        };
        self.change(cx, part, of, bits, Origin::Here);
    }

    fn change(&self, cx: &mut Cx<'_>, part: &Part, of: &Destination, bits: u32, origin: Origin) {
        let before = {
            let _order = self.changes.lock();
            let before = of.status.bits();
            let stamp = match origin {
                Origin::Here if before == bits => return,
                Origin::Here => cx.node.outbox.stamp(cx.now),
                Origin::Peer { stamp, .. } => stamp,
            };
            if !of.status.set(bits, stamp) {
                return;
            }
            if origin == Origin::Here && self.may_tell(cx) {
                self.tell(cx, part, of, bits, stamp);
            }
            before
        };
        if matches!(origin, Origin::Peer { in_sync: true, .. }) || (before == 0) == (bits == 0) {
            return;
        }
        let word = |bytes: &[u8]| Value::str(bytes.to_vec());
        let state: &[u8] = if bits == 0 { b"active" } else { b"inactive" };
        let uri = String::from_utf8_lossy(&of.uri);
        let text = format!("{uri} of set {} is {}", of.set, String::from_utf8_lossy(state));
        cx.report(REPORTS, &format!("{};events", part.name), &text);
        let params = vec![
            ("partition", word(part.name.as_bytes())),
            ("group", Value::Int(of.set.try_into().unwrap_or(i32::MAX))),
            ("address", word(&of.uri)),
            ("status", word(state)),
        ];
        cx.raise(EVENT, params);
    }

    /// With a sharing tag only its holder tells the others.
    fn may_tell(&self, cx: &Cx<'_>) -> bool {
        let cluster = self.params.cluster;
        cluster != 0
            && self.params.tag.as_ref().is_none_or(|tag| {
                cx.node.membership().tags().is_some_and(|tags| tags.is_active(tag, cluster))
            })
    }

    fn tell(&self, cx: &Cx<'_>, part: &Part, of: &Destination, bits: u32, stamp: Stamp) {
        let packet = crate::replication::packet(&part.name, of, bits);
        if let Ok(payload) = packet.encode() {
            let (slot, kind, version) = (self.slot, wire::STATUS, wire::VERSION);
            cx.node.outbox.append(0, Record::same(slot, kind, version, payload, stamp));
        }
    }

    /// What a peer says of a destination; `bits` makes the new state of the present one.
    pub(crate) fn told(
        &self,
        cx: &mut Cx<'_>,
        of: &wire::Destination,
        bits: impl FnOnce(u32) -> u32,
        origin: Origin,
    ) {
        let name = String::from_utf8_lossy(&of.partition).into_owned();
        let set = i64::from(of.set);
        let Some((part, sets)) = self.part(Some(&name)) else { return };
        if let Some(found) = sets.find(set, &of.uri).map(Arc::clone) {
            let bits = bits(found.status.bits());
            return self.change(cx, &part, &found, bits, origin);
        }
        if let Origin::Peer { stamp, .. } = origin {
            let mut early = self.early.lock();
            if early.len() < WAITING_MAX && sets.all().next().is_none() {
                early.insert((name, set, of.uri.to_vec()), (bits(0), stamp));
            }
        }
    }

    /// A table is there.
    fn read(&self, cx: &mut Cx<'_>, part: &Arc<Part>, rows: &Rows) -> Sets {
        let keeps = self.params.keeps_state;
        let (mut sets, faults) = Sets::of(rows, &cx.node.sockets, keeps);
        for why in faults {
            let text = format!("dispatcher: partition {}: left out: {why}", part.name);
            cx.log(Level::Error, text);
        }
        sets.inherit(&self.sets(part), self.inherits.load(Ordering::Relaxed));
        let early = std::mem::take(&mut *self.early.lock());
        for ((name, set, uri), (bits, stamp)) in early {
            match sets.find(set, &uri).filter(|_| name == part.name) {
                Some(found) => {
                    found.status.set(bits, stamp);
                }
                None => {
                    self.early.lock().insert((name, set, uri), (bits, stamp));
                }
            }
        }
        for destination in sets.all().filter(|d| d.ips.read().is_empty()) {
            self.search(cx, part, destination);
        }
        self.refresh_blacklists(cx, part, &sets);
        cx.set_status(REPORTS, &part.name, 1, "data available");
        sets
    }

    fn search(&self, cx: &mut Cx<'_>, part: &Arc<Part>, of: &Arc<Destination>) {
        let token = self.number();
        {
            let mut searches = self.searches.lock();
            if searches.len() >= WAITING_MAX {
                return;
            }
            searches.insert(token, (Arc::clone(part), Arc::clone(of)));
        }
        if let Resolved::Now(result) = cx.resolve(&of.uri, token) {
            self.found(cx, token, result);
        }
    }

    fn found(&self, cx: &mut Cx<'_>, token: u64, result: Result<Vec<Hop>, HopError>) {
        let Some((part, of)) = self.searches.lock().remove(&token) else { return };
        match result {
            Ok(hops) => {
                let mut ips: Vec<_> = hops.iter().map(|hop| hop.addr.ip()).collect();
                ips.sort_unstable();
                ips.dedup();
                *of.ips.write() = ips;
                let sets = self.sets(&part);
                self.refresh_blacklists(cx, &part, &sets);
            }
            Err(why) => {
                let uri = String::from_utf8_lossy(&of.uri).into_owned();
                cx.log(Level::Error, format!("dispatcher: destination {uri}: {why}"));
            }
        }
    }

    fn refresh_blacklists(&self, cx: &mut Cx<'_>, part: &Part, sets: &Sets) {
        for wanted in &part.blacklists {
            let mut list = List {
                name: wanted.name.clone(),
                owner: "dispatcher",
                read_only: true,
                ..List::default()
            };
            for destination in sets.all().filter(|d| wanted.sets.contains(&d.set)) {
                list.rules.extend(destination.ips.read().iter().map(|ip| Rule {
                    negated: false,
                    proto: destination.proto,
                    net: Net { ip: *ip, bits: if ip.is_ipv4() { 32 } else { 128 } },
                    port: destination.port,
                    pattern: String::new(),
                    until: None,
                }));
            }
            if let Err(why) = cx.node.blacklists.set(list) {
                cx.log(Level::Error, format!("dispatcher: blacklist {}: {why}", wanted.name));
            }
        }
    }

    /// Writes the states that have changed.
    fn write_states(&self, cx: &mut Cx<'_>) {
        let mut left = WRITES_MAX;
        let params = &self.params;
        for table in self.tables.parts() {
            for of in table.table().all() {
                if left == 0 || self.writes.lock().len() >= WAITING_MAX {
                    return;
                }
                if !of.status.take_dirty() {
                    continue;
                }
                left -= 1;
                let uri = String::from_utf8_lossy(&of.uri).into_owned();
                let state = DbValue::Int(column(of.status.bits()));
                let ask = Query::Update {
                    table: table.select.table.clone(),
                    set: vec![(params.state_column.clone().into(), state)],
                    conds: vec![
                        Cond::eq(params.set_column.clone(), of.set),
                        Cond::eq(params.uri_column.clone(), uri),
                    ],
                };
                let token = WRITES | self.number();
                self.writes.lock().insert(token, Arc::clone(&of.status));
                cx.query(table.database, ask, token);
            }
        }
    }
}

impl Module for Dispatcher {
    fn start(&self, cx: &mut Cx<'_>) {
        for part in &self.parts {
            self.refresh_blacklists(cx, part, &Sets::default());
        }
        self.tables.start(cx);
        self.start_probing(cx);
        if self.params.keeps_state {
            cx.set_timer(cx.now.after_s(WRITE_EVERY_S), Timer { kind: WRITE, id: 0 });
        }
    }

    fn timer(&self, cx: &mut Cx<'_>, timer: Timer) {
        if timer.kind == probing::TICK {
            return self.probe_slice(cx, timer);
        }
        self.write_states(cx);
        cx.set_timer(cx.now.after_s(WRITE_EVERY_S), timer);
    }

    fn db(&self, cx: &mut Cx<'_>, token: u64, result: Result<Rows, DbError>) {
        if Cached::<Sets>::owns(token) {
            let at = (token & 0xff) as usize;
            return self.tables.answered(cx, token, result, |cx, rows| match self.parts.get(at) {
                Some(part) => self.read(cx, part, rows),
                None => Sets::default(),
            });
        }
        let status = self.writes.lock().remove(&token);
        if let (Some(status), Err(error)) = (status, result) {
            status.set_dirty();
            cx.log(Level::Error, format!("dispatcher: a state cannot be written: {error}"));
        }
    }

    fn resolved(&self, cx: &mut Cx<'_>, token: u64, result: Result<Vec<Hop>, HopError>) {
        self.found(cx, token, result);
    }

    fn local_reply(&self, cx: &mut Cx<'_>, token: u64, code: u16, _reply: Option<&Message>) {
        self.probe_answered(cx, token, code);
    }

    fn replicated(&self) -> Option<&dyn Replicated> {
        (self.params.cluster != 0).then_some(self as &dyn Replicated)
    }

    fn shutdown(&self, cx: &mut Cx<'_>) {
        if self.params.keeps_state {
            self.write_states(cx);
        }
    }
}
