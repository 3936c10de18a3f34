//! Gateways and carriers as targets: how peers and the database are told of their states, and
//! which are probed.

use std::sync::Arc;

use bytes::Bytes;
use tandem_bin::{Malformed, drouting as wire};
use tandem_db::{Cond, Query, Value as DbValue};
use tandem_engine::effect::DatabaseId;
use tandem_engine::module::Cx;
use tandem_script::value::Value;
use tandem_targets::{Answer, Target};
use tandem_targets::{Becomes, Change, Origin, Outcome, Owner, Prober, Register, Said, Sharing};

use crate::destinations::Gateway;
use crate::state::{Drouting, REPORTS};
use crate::status::{DISABLED, HELD, Key, Kind};
use crate::table::Partition;

/// Raised when the state of a gateway changes.
pub(crate) const EVENT: &str = "E_DROUTING_STATUS";

fn status(key: &Key, bits: u32) -> wire::Status {
    wire::Status {
        partition: Bytes::copy_from_slice(key.partition.as_bytes()),
        id: Bytes::copy_from_slice(key.id.as_bytes()),
        flags: bits as i32,
    }
}

fn said(kind: Kind, told: &wire::Status) -> Said<Key> {
    let text = |bytes: &Bytes| Arc::from(String::from_utf8_lossy(bytes).as_ref());
    let key = Key { partition: text(&told.partition), kind, id: text(&told.id) };
    Said { key, becomes: Becomes::Exactly(told.flags as u32 & kind.bits()) }
}

impl Drouting {
    /// Changes a state because somebody wants it: here, at the peers, in the event and, later, in
    /// the database.
    pub(crate) fn change(
        &self,
        cx: &mut Cx<'_>,
        part: &Partition,
        (kind, id): (Kind, &str),
        becomes: Becomes,
        why: &str,
    ) -> Outcome {
        let key = Key { partition: part.name.as_str().into(), kind, id: id.into() };
        self.states.change(cx, self, &key, becomes, Origin::Command(why))
    }

    /// The tables of a partition are other ones.
    pub(crate) fn adopt(&self, cx: &mut Cx<'_>, part: &Partition) {
        let (partition, table): (Arc<str>, _) = (part.name.as_str().into(), part.table());
        let states = table.of.statuses().map(|(kind, id, status)| {
            let (partition, id) = (Arc::clone(&partition), Arc::clone(id));
            (Key { partition, kind, id }, Arc::clone(status))
        });
        self.states.adopt(cx, self, |key| key.partition == partition, states);
    }

    /// A probe has told something.
    pub(crate) fn probed(&self, cx: &mut Cx<'_>, answer: Answer<Key>) {
        let bits = if answer.is_alive { 0 } else { DISABLED };
        let why = format!("{} to a probe", answer.code);
        // Somebody may have taken it out of service meanwhile.
        let becomes = Becomes::Unless { held: HELD, bits };
        self.states.change(cx, self, &answer.key, becomes, Origin::Here(&why));
    }
}

impl Owner for Drouting {
    const NAME: &'static str = "drouting";
    const CAPABILITY: &'static str = "drouting-status-repl";
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

    fn packet(key: &Key, bits: u32) -> Option<(u32, Bytes)> {
        let kind = match key.kind {
            Kind::Gateway => wire::GATEWAY,
            Kind::Carrier => wire::CARRIER,
        };
        Some((kind, status(key, bits).encode().ok()?))
    }

    fn read_packet(kind: u32, payload: &Bytes) -> Option<Result<Said<Key>, Malformed>> {
        let kind = match kind {
            wire::GATEWAY => Kind::Gateway,
            wire::CARRIER => Kind::Carrier,
            _ => return None,
        };
        Some(wire::Status::decode(payload).map(|told| said(kind, &told)))
    }

    fn chunk(key: &Key, bits: u32) -> Option<Bytes> {
        let is_gateway = key.kind == Kind::Gateway;
        wire::SyncRecord { is_gateway, status: status(key, bits) }.encode().ok()
    }

    fn read_chunk(chunk: &Bytes) -> Result<Said<Key>, Malformed> {
        let record = wire::SyncRecord::decode(chunk)?;
        let kind = if record.is_gateway { Kind::Gateway } else { Kind::Carrier };
        Ok(said(kind, &record.status))
    }

    /// A reload may bring it: peers that have read the tables before tell its state once.
    fn awaits(&self, key: &Key) -> bool {
        self.part(&key.partition).is_some()
    }

    /// One that a probe has disabled is none that somebody there has taken from under a hold.
    fn takes_of_stock(present: u32, bits: u32) -> bool {
        present & HELD == 0 || bits != DISABLED
    }

    fn changed(&self, cx: &mut Cx<'_>, change: Change<'_, Key>) {
        let (key, bits) = (change.key, change.bits);
        let Some(reason) = change.origin.reason() else { return };
        let events = format!("{};events", key.partition);
        let id = &key.id;
        let table = self.part(&key.partition).map(|part| part.table());
        let gateway = table.as_ref().and_then(|table| Some(table.of.gateway(id)?.1));
        let Some(gateway) = gateway.filter(|_| key.kind == Kind::Gateway) else {
            let state = if bits == 0 { "active" } else { "inactive" };
            return cx.report(REPORTS, &events, &format!("carrier <{id}> is {state}: {reason}"));
        };
        let state = event_text(bits, gateway.probe_mode);
        let text = format!("gateway <{id}> ({}) is {state}: {reason}", gateway.address);
        cx.report(REPORTS, &events, &text);
        let word = |text: &str| Value::str(text.as_bytes().to_vec());
        let params = vec![
            ("partition", word(&key.partition)),
            ("gwid", word(id)),
            ("address", word(&gateway.address)),
            ("status", word(state)),
            ("reason", word(reason)),
        ];
        cx.raise(EVENT, params);
    }

    fn update(&self, key: &Key, bits: u32) -> Option<(DatabaseId, Query)> {
        let part = self.part(&key.partition)?;
        let (table, column) = match key.kind {
            Kind::Gateway => (&part.names.gateways, "gwid"),
            Kind::Carrier => (&part.names.carriers, "carrierid"),
        };
        let ask = Query::Update {
            table: table.clone().into(),
            set: vec![("state".into(), DbValue::Int(key.kind.column(bits)))],
            conds: vec![Cond::eq(column, &*key.id)],
        };
        Some((part.database, ask))
    }

    fn due(&self, wanted: &dyn Fn(&[u8]) -> bool) -> Vec<Target<Key>> {
        let mut due = Vec::new();
        for part in self.parts() {
            let partition: Arc<str> = part.name.as_str().into();
            for gateway in &part.table().of.gateways {
                if wanted(gateway.id.as_bytes()) && is_due(gateway) {
                    let (partition, id) = (Arc::clone(&partition), Arc::clone(&gateway.id));
                    let key = Key { partition, kind: Kind::Gateway, id };
                    let uri = Bytes::from(gateway.uri());
                    due.push(Target { key, uri, socket: gateway.socket });
                }
            }
        }
        due
    }
}

fn is_due(gateway: &Gateway) -> bool {
    let bits = gateway.status.bits();
    match gateway.probe_mode {
        _ if bits & HELD != 0 => false,
        1 => bits & DISABLED != 0,
        mode => mode == 2,
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
