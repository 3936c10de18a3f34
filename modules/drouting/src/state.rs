//! The state of the module, and the one function that changes the state of a gateway.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::{Mutex, RwLock};
use tandem_bin::drouting as wire;
use tandem_cluster::Stamp;
use tandem_db::{DbError, Rows};
use tandem_engine::module::{Build, BuildError, Cx, Module, Timer};
use tandem_engine::outbox::Record;
use tandem_engine::replication::Replicated;
use tandem_engine::transport::{Hop, HopError};
use tandem_script::value::Value;
use tandem_sip::Message;

use crate::load::Loads;
use crate::params::{DEFAULT, Params};
use crate::probing::Probes;
use crate::status::{DISABLED, HELD, Kind};
use crate::table::{Partition, Table};
use crate::{functions, persist, probing};

/// The group of status reports.
const REPORTS: &str = "drouting";
/// States of peers about what is not loaded yet, at most.
const EARLY_MAX: usize = 10_000;
/// Raised when the state of a gateway changes.
const EVENT: &str = "E_DROUTING_STATUS";

/// Where a change of a state comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin<'a> {
    /// This node, and why.
    Here(&'a str),
    /// A peer; in a sync nobody is told.
    Peer { stamp: Stamp, in_sync: bool },
}

/// What a change came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Unknown,
    Same,
    Changed,
}

/// A gateway whose name is looked up.
type Searched = (Arc<Partition>, Arc<Table>, u32);
type EarlyKey = (String, Kind, String);

/// The state of the module.
pub struct Drouting {
    pub(crate) params: Params,
    pub(crate) slot: u16,
    pub(crate) partitions: RwLock<Vec<Arc<Partition>>>,
    pub(crate) loads: Mutex<Loads>,
    /// Searches for the addresses of gateways.
    pub(crate) searches: Mutex<BTreeMap<u64, Searched>>,
    pub(crate) probes: Mutex<Probes>,
    pub(crate) probing: AtomicBool,
    pub(crate) writes: Mutex<persist::Writes>,
    /// Held while a state changes, so that peers hear of changes in their order.
    changes: Mutex<()>,
    early: Mutex<BTreeMap<EarlyKey, (u32, Stamp)>>,
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
            searches: Mutex::default(),
            probes: Mutex::default(),
            probing: AtomicBool::new(params.probing.interval_s > 0),
            writes: Mutex::default(),
            changes: Mutex::default(),
            early: Mutex::default(),
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

    /// Changes a state: here, at the peers, in the event and, later, in the database.
    pub(crate) fn change(
        &self,
        cx: &mut Cx<'_>,
        part: &Partition,
        (kind, id): (Kind, &str),
        bits: u32,
        origin: Origin<'_>,
    ) -> Change {
        let table = part.table();
        let Some(status) = table.of.status(kind, id) else {
            self.keep_early(part, (kind, id), bits, origin);
            return Change::Unknown;
        };
        let bits = bits & kind.bits();
        {
            let _order = self.changes.lock();
            let stamp = match origin {
                Origin::Here(_) if status.bits() == bits => return Change::Same,
                Origin::Here(_) => cx.node.outbox.stamp(cx.now),
                Origin::Peer { stamp, .. } => stamp,
            };
            if !status.set(bits, stamp) {
                return Change::Same;
            }
            if matches!(origin, Origin::Here(_)) && self.may_tell(cx) {
                self.tell(cx, part, (kind, id), bits, stamp);
            }
        }
        let reason = match origin {
            Origin::Here(why) => why,
            Origin::Peer { in_sync: true, .. } => return Change::Changed,
            Origin::Peer { .. } => "replicated",
        };
        match table.of.gateway(id).filter(|_| kind == Kind::Gateway) {
            Some((_, gateway)) => {
                let state = event_text(bits, gateway.probe_mode);
                let text = format!("gateway <{id}> ({}) is {state}: {reason}", gateway.address);
                cx.report(REPORTS, &format!("{};events", part.name), &text);
                let word = |text: &str| Value::str(text.as_bytes().to_vec());
                let params = vec![
                    ("partition", word(&part.name)),
                    ("gwid", word(id)),
                    ("address", word(&gateway.address)),
                    ("status", word(state)),
                    ("reason", word(reason)),
                ];
                cx.raise(EVENT, params);
            }
            None => {
                let state = if bits == 0 { "active" } else { "inactive" };
                let text = format!("carrier <{id}> is {state}: {reason}");
                cx.report(REPORTS, &format!("{};events", part.name), &text);
            }
        }
        Change::Changed
    }

    /// With a sharing tag only its holder tells the others.
    fn may_tell(&self, cx: &Cx<'_>) -> bool {
        let cluster = self.params.cluster;
        cluster != 0
            && self.params.tag.as_ref().is_none_or(|tag| {
                cx.node.membership().tags().is_some_and(|tags| tags.is_active(tag, cluster))
            })
    }

    fn tell(
        &self,
        cx: &Cx<'_>,
        part: &Partition,
        (kind, id): (Kind, &str),
        bits: u32,
        stamp: Stamp,
    ) {
        let packet = match kind {
            Kind::Gateway => wire::GATEWAY,
            Kind::Carrier => wire::CARRIER,
        };
        let status = crate::replication::wire_status(&part.name, id, bits);
        if let Ok(payload) = status.encode() {
            let record = Record::same(self.slot, packet, wire::VERSION, payload, stamp);
            cx.node.outbox.append(0, record);
        }
    }

    /// A peer speaks of what is not loaded here yet.
    fn keep_early(
        &self,
        part: &Partition,
        (kind, id): (Kind, &str),
        bits: u32,
        origin: Origin<'_>,
    ) {
        let Origin::Peer { stamp, .. } = origin else { return };
        let mut early = self.early.lock();
        let key = (part.name.clone(), kind, id.to_owned());
        if part.table().loaded_unix_s == 0 && early.len() < EARLY_MAX {
            let kept = early.entry(key).or_insert((bits, stamp));
            if stamp >= kept.1 {
                *kept = (bits, stamp);
            }
        }
    }

    /// Brings what peers have said before the tables were there.
    pub(crate) fn apply_early(&self, cx: &mut Cx<'_>, part: &Partition) {
        let early = std::mem::take(&mut *self.early.lock());
        for ((name, kind, id), (bits, stamp)) in early {
            if name == part.name {
                let origin = Origin::Peer { stamp, in_sync: true };
                self.change(cx, part, (kind, &id), bits, origin);
            } else {
                self.early.lock().insert((name, kind, id), (bits, stamp));
            }
        }
    }

    pub(crate) fn report_status(&self, cx: &mut Cx<'_>, part: &str, status: i32, text: &str) {
        cx.set_status(REPORTS, part, status, text);
    }
}

/// A gateway's state in the words of the management interface.
pub(crate) fn state_text(bits: u32, probe_mode: i64) -> &'static str {
    match (bits & DISABLED, bits & HELD) {
        (0, _) => "Active",
        (_, 0) if probe_mode == 1 => "Probing",
        (_, 0) => "Inactive",
        _ => "Disabled MI",
    }
}

/// The same in those of the event.
fn event_text(bits: u32, probe_mode: i64) -> &'static str {
    match state_text(bits, probe_mode) {
        "Active" => "active",
        "Probing" => "probing",
        "Inactive" => "inactive",
        _ => "disabled MI",
    }
}

impl Module for Drouting {
    fn start(&self, cx: &mut Cx<'_>) {
        self.start_loading(cx);
        self.start_probing(cx);
        if self.params.keeps_state {
            cx.set_timer(cx.now.after_s(persist::EVERY_S), Timer { kind: persist::TICK, id: 0 });
        }
    }

    fn timer(&self, cx: &mut Cx<'_>, timer: Timer) {
        match timer.kind {
            probing::TICK => self.probe_slice(cx, timer),
            _ => {
                self.write_states(cx);
                cx.set_timer(cx.now.after_s(persist::EVERY_S), timer);
            }
        }
    }

    fn db(&self, cx: &mut Cx<'_>, token: u64, result: Result<Rows, DbError>) {
        if token < crate::load::FIRST {
            return functions::group_answered(self, cx, token, result);
        }
        if token >= persist::FIRST {
            return self.state_written(cx, token, result.err());
        }
        self.loaded(cx, token, result);
    }

    fn resolved(&self, cx: &mut Cx<'_>, token: u64, result: Result<Vec<Hop>, HopError>) {
        self.gateway_resolved(cx, token, result);
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
