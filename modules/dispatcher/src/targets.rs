//! Destinations as targets: how peers and the database are told of their states, and which are
//! probed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tandem_bin::{Malformed, dispatcher as wire};
use tandem_db::{Cond, Query, Value as DbValue};
use tandem_engine::effect::DatabaseId;
use tandem_engine::module::Cx;
use tandem_script::value::Value;
use tandem_targets as targets;
use tandem_targets::{Answer, Becomes, Change, Origin, Owner, Prober, Register, Said, Sharing};

use crate::sets::{Destination, INACTIVE, PROBING, Sets, column};
use crate::state::{Dispatcher, Part};

/// Raised when a destination becomes active or ceases to be.
const EVENT: &str = "E_DISPATCHER_STATUS";
/// The group of status reports.
pub(crate) const REPORTS: &str = "dispatcher";
const STATES: u32 = INACTIVE | PROBING;

/// A destination, as nodes name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    partition: Arc<str>,
    set: i64,
    /// As the table has it.
    uri: Bytes,
}

impl targets::Key for Key {
    fn name(&self) -> Vec<u8> {
        let set = format!(" {} ", self.set);
        [self.partition.as_bytes(), set.as_bytes(), &self.uri.to_ascii_lowercase()].concat()
    }
}

fn key(partition: &str, of: &Destination) -> Key {
    Key { partition: partition.into(), set: of.set, uri: of.uri.clone() }
}

fn to_wire(key: &Key) -> wire::Destination {
    wire::Destination {
        partition: Bytes::copy_from_slice(key.partition.as_bytes()),
        set: i32::try_from(key.set).unwrap_or(i32::MAX),
        uri: key.uri.clone(),
    }
}

fn of_wire(of: wire::Destination) -> Key {
    let partition = String::from_utf8_lossy(&of.partition).as_ref().into();
    Key { partition, set: i64::from(of.set), uri: of.uri }
}

/// What is wanted of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Active,
    Inactive,
    /// At once.
    Probing,
    /// A probe has found it alive.
    Alive,
    /// Probing, when it was the last straw.
    Failed,
}

impl Dispatcher {
    /// Does what is wanted of a destination: the state changes here, at the peers, in the event
    /// and, later, in the database.
    pub(crate) fn wish(
        &self,
        cx: &mut Cx<'_>,
        part: &Part,
        of: &Destination,
        wish: Wish,
        origin: Origin<'_>,
    ) {
        let failures = &of.memory.failures;
        // What somebody has made inactive stays so, whatever a probe or a call has found.
        let unless_inactive = |bits| Becomes::Unless { held: INACTIVE, bits };
        let becomes = match wish {
            Wish::Active | Wish::Alive => {
                failures.store(0, Ordering::Relaxed);
                if wish == Wish::Active { Becomes::Exactly(0) } else { unless_inactive(0) }
            }
            Wish::Inactive => Becomes::Exactly(INACTIVE),
            Wish::Probing => Becomes::Exactly(PROBING),
            Wish::Failed if of.status.bits() & INACTIVE != 0 => return,
            Wish::Failed => {
                let count = failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                if count < self.params.threshold {
                    return;
                }
                unless_inactive(PROBING)
            }
        };
        self.states.change(cx, self, &key(&part.name, of), becomes, origin);
    }

    /// The sets of a partition are other ones.
    pub(crate) fn adopt(&self, cx: &mut Cx<'_>, part: &Part, sets: &Sets) {
        let scope = |key: &Key| *key.partition == *part.name;
        let states = sets.all().map(|of| (key(&part.name, of), Arc::clone(&of.status)));
        self.states.adopt(cx, self, scope, states);
    }

    fn found(&self, key: &Key) -> Option<(Arc<Part>, Arc<Destination>)> {
        let (part, sets) = self.part(Some(&key.partition))?;
        Some((part, sets.find(key.set, &key.uri).map(Arc::clone)?))
    }

    /// A probe has told something.
    pub(crate) fn probed(&self, cx: &mut Cx<'_>, answer: Answer<Key>) {
        let Some((part, of)) = self.found(&answer.key) else { return };
        // Somebody may have taken it out of service meanwhile.
        if of.status.bits() & INACTIVE != 0 {
            return;
        }
        let why = format!("{} to a probe", answer.code);
        if answer.is_alive {
            self.wish(cx, &part, &of, Wish::Alive, Origin::Here(&why));
        } else if of.status.bits() & PROBING == 0 {
            self.wish(cx, &part, &of, Wish::Failed, Origin::Here(&why));
        }
    }

    fn is_due(&self, of: &Destination) -> bool {
        let wanted = self.params.probed_sets.as_ref().is_none_or(|sets| sets.contains(&of.set));
        let bits = of.status.bits();
        let probed = bits & PROBING != 0 || self.params.probes_all || of.always_probed;
        wanted && bits & INACTIVE == 0 && probed
    }
}

impl Owner for Dispatcher {
    const NAME: &'static str = "dispatcher";
    const CAPABILITY: &'static str = "dispatcher-status-repl";
    const VERSION: u16 = wire::VERSION;
    type Key = Key;

    fn states(&self) -> &Register<Self> {
        &self.states
    }

    fn prober(&self) -> &Prober<Key> {
        &self.prober
    }

    fn sharing(&self) -> &Sharing {
        &self.params.sharing
    }

    /// An active destination is one that has no bits left.
    fn packet(key: &Key, bits: u32) -> Option<(u32, Bytes)> {
        let (sets, bits) = if bits == 0 { (false, STATES) } else { (true, bits) };
        let status = wire::Status { of: to_wire(key), sets, bits: bits as i32 };
        Some((wire::STATUS, status.encode().ok()?))
    }

    fn read_packet(kind: u32, payload: &Bytes) -> Option<Result<Said<Key>, Malformed>> {
        (kind == wire::STATUS).then(|| {
            let told = wire::Status::decode(payload)?;
            let bits = told.bits as u32 & STATES;
            let becomes = if told.sets { Becomes::With(bits) } else { Becomes::Without(bits) };
            Ok(Said { key: of_wire(told.of), becomes })
        })
    }

    fn chunk(key: &Key, bits: u32) -> Option<Bytes> {
        wire::SyncRecord { of: to_wire(key), flags: bits as i32 }.encode().ok()
    }

    fn read_chunk(chunk: &Bytes) -> Result<Said<Key>, Malformed> {
        let record = wire::SyncRecord::decode(chunk)?;
        let becomes = Becomes::Exactly(Self::with(0, record.flags as u32 & STATES));
        Ok(Said { key: of_wire(record.of), becomes })
    }

    /// URIs are compared without regard to case.
    fn known_as(&self, key: Key) -> Key {
        let sets = self.part(Some(&key.partition));
        let uri = sets.and_then(|(_, sets)| Some(sets.find(key.set, &key.uri)?.uri.clone()));
        Key { uri: uri.unwrap_or_else(|| key.uri.clone()), ..key }
    }

    fn awaits(&self, key: &Key) -> bool {
        self.part(Some(&key.partition)).is_some_and(|(_, sets)| sets.all().next().is_none())
    }

    /// An inactive one does not become probing.
    fn with(present: u32, bits: u32) -> u32 {
        match bits {
            bits if bits & INACTIVE != 0 => INACTIVE,
            _ if present & INACTIVE != 0 => present,
            bits => bits,
        }
    }

    fn changed(&self, cx: &mut Cx<'_>, change: Change<'_, Key>) {
        let Change { key, before, bits, origin } = change;
        if bits == 0
            && let Some((_, of)) = self.found(key)
        {
            of.memory.failures.store(0, Ordering::Relaxed);
        }
        let Some(reason) = origin.reason().filter(|_| (before == 0) != (bits == 0)) else {
            return;
        };
        let word = |bytes: &[u8]| Value::str(bytes.to_vec());
        let state = if bits == 0 { "active" } else { "inactive" };
        let uri = String::from_utf8_lossy(&key.uri);
        let text = format!("{uri} of set {} is {state}: {reason}", key.set);
        cx.report(REPORTS, &format!("{};events", key.partition), &text);
        let params = vec![
            ("partition", word(key.partition.as_bytes())),
            ("group", Value::Int(key.set.try_into().unwrap_or(i32::MAX))),
            ("address", word(&key.uri)),
            ("status", word(state.as_bytes())),
        ];
        cx.raise(EVENT, params);
    }

    fn update(&self, key: &Key, bits: u32) -> Option<(DatabaseId, Query)> {
        let (params, table) = (&self.params, self.tables.part(&key.partition)?);
        let ask = Query::Update {
            table: table.select.table.clone(),
            set: vec![(params.state_column.clone().into(), DbValue::Int(column(bits)))],
            conds: vec![
                Cond::eq(params.set_column.clone(), key.set),
                Cond::eq(params.uri_column.clone(), String::from_utf8_lossy(&key.uri).into_owned()),
            ],
        };
        Some((table.database, ask))
    }

    fn due(&self, wanted: &dyn Fn(&[u8]) -> bool) -> Vec<targets::Target<Key>> {
        let mut due = Vec::new();
        for part in self.parts() {
            for of in self.sets(part).all() {
                if wanted(&of.uri) && self.is_due(of) {
                    let (key, uri) = (key(&part.name, of), of.uri.clone());
                    due.push(targets::Target { key, uri, socket: of.socket });
                }
            }
        }
        due
    }
}
