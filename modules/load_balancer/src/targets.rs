//! Destinations as targets: how peers are told of their states, and which are probed.

use bytes::Bytes;
use tandem_bin::{Malformed, load_balancer as wire};
use tandem_db::Query;
use tandem_engine::effect::DatabaseId;
use tandem_engine::log::Level;
use tandem_engine::module::Cx;
use tandem_script::value::Value;
use tandem_targets as targets;
use tandem_targets::{Answer, Becomes, Change, Origin, Owner, Prober, Register, Said, Sharing};

use crate::params::PARTITION;
use crate::state::{LoadBalancer, REPORTS};
use crate::table::{Destination, ProbeMode};

/// Raised when a destination is enabled or disabled.
pub(crate) const EVENT: &str = "E_LOAD_BALANCER_STATUS";
/// Bits of a state.
pub(crate) const DISABLED: u32 = wire::DISABLED as u32;
pub(crate) const HELD: u32 = wire::HELD as u32;

/// A destination, as nodes name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub(crate) group: i64,
    /// As the table has it.
    pub(crate) uri: Bytes,
}

impl targets::Key for Key {
    fn name(&self) -> Vec<u8> {
        [format!("{} ", self.group).as_bytes(), &self.uri].concat()
    }
}

fn key(of: &Destination) -> Key {
    Key { group: of.group, uri: of.uri.clone() }
}

fn status(key: &Key, bits: u32) -> wire::Status {
    let group = i32::try_from(key.group).unwrap_or(i32::MAX);
    wire::Status { group, uri: key.uri.clone(), flags: bits as i32 }
}

fn said(told: wire::Status) -> Said<Key> {
    let key = Key { group: i64::from(told.group), uri: told.uri };
    Said { key, becomes: Becomes::Exactly(told.flags as u32 & (DISABLED | HELD)) }
}

impl LoadBalancer {
    /// Enables a destination, or disables it so that no probe enables it again.
    pub(crate) fn switch(&self, cx: &mut Cx<'_>, of: &Destination, on: bool) {
        let becomes = Becomes::Exactly(if on { 0 } else { DISABLED | HELD });
        self.states.change(cx, self, &key(of), becomes, Origin::Command("MI command"));
    }

    /// The table is another one.
    pub(crate) fn adopt(&self, cx: &mut Cx<'_>) {
        let table = self.table();
        let states = table.all().iter().map(|of| (key(of), std::sync::Arc::clone(&of.status)));
        self.states.adopt(cx, self, |_| true, states);
    }

    /// A probe has told something.
    pub(crate) fn probed(&self, cx: &mut Cx<'_>, answer: Answer<Key>) {
        let table = self.table();
        let Some(of) = table.find(answer.key.group, &answer.key.uri) else { return };
        let bits = match answer.is_alive {
            true => 0,
            false if of.probe_mode == ProbeMode::Always => DISABLED,
            false => return,
        };
        // Somebody may have taken it out of service meanwhile.
        let becomes = Becomes::Unless { held: HELD, bits };
        let why = format!("{} to a probe", answer.code);
        self.states.change(cx, self, &answer.key, becomes, Origin::Here(&why));
    }
}

impl Owner for LoadBalancer {
    const NAME: &'static str = "load_balancer";
    const CAPABILITY: &'static str = "load_balancer-status-repl";
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
        Some((wire::STATUS, status(key, bits).encode().ok()?))
    }

    fn read_packet(kind: u32, payload: &Bytes) -> Option<Result<Said<Key>, Malformed>> {
        (kind == wire::STATUS).then(|| wire::Status::decode(payload).map(said))
    }

    fn chunk(key: &Key, bits: u32) -> Option<Bytes> {
        status(key, bits).encode().ok()
    }

    fn read_chunk(chunk: &Bytes) -> Result<Said<Key>, Malformed> {
        wire::Status::decode(chunk).map(said)
    }

    fn known_as(&self, key: Key) -> Key {
        let table = self.table();
        let uri = table.meant(key.group, &key.uri).map(|of| of.uri.clone());
        Key { uri: uri.unwrap_or_else(|| key.uri.clone()), ..key }
    }

    fn awaits(&self, _: &Key) -> bool {
        self.table().all().is_empty()
    }

    /// One that a probe has disabled is none that somebody there has taken from under a hold.
    fn takes_of_stock(present: u32, bits: u32) -> bool {
        present & HELD == 0 || bits != DISABLED
    }

    fn changed(&self, cx: &mut Cx<'_>, change: Change<'_, Key>) {
        let Change { key, before, bits, origin } = change;
        let Some(reason) = origin.reason().filter(|_| (before == 0) != (bits == 0)) else {
            return;
        };
        let state = if bits == 0 { "enabled" } else { "disabled" };
        let uri = String::from_utf8_lossy(&key.uri);
        let text = format!("{uri} of group {} is {state}: {reason}", key.group);
        if self.params.verbose {
            cx.log(Level::Notice, format!("load_balancer: {text}"));
        }
        cx.report(REPORTS, &format!("{PARTITION};events"), &text);
        let params = vec![
            ("group", Value::Int(key.group.try_into().unwrap_or(i32::MAX))),
            ("uri", Value::str(key.uri.to_vec())),
            ("status", Value::str(state.as_bytes().to_vec())),
        ];
        cx.raise(EVENT, params);
    }

    /// The table has no column for it.
    fn update(&self, _: &Key, _: u32) -> Option<(DatabaseId, Query)> {
        None
    }

    fn due(&self, wanted: &dyn Fn(&[u8]) -> bool) -> Vec<targets::Target<Key>> {
        let table = self.table();
        let due = table.all().iter().filter(|of| wanted(&of.uri) && is_due(of));
        due.map(|of| targets::Target { key: key(of), uri: of.uri.clone(), socket: None }).collect()
    }
}

fn is_due(of: &Destination) -> bool {
    let bits = of.status.bits();
    match of.probe_mode {
        _ if bits & HELD != 0 => false,
        ProbeMode::Never => false,
        ProbeMode::WhileDisabled => bits & DISABLED != 0,
        ProbeMode::Always => true,
    }
}
