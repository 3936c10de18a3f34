//! States of gateways, carriers and destinations, as a stock node keeps them.

use std::collections::BTreeMap;

use bytes::Bytes;
use tandem_bin::{dispatcher, drouting};
use tandem_clock::Now;

use super::Stock;
use super::sync::Part;
use crate::actors::gateway::{GATEWAYS, Gateway};
use crate::checkers::states::States;

/// The names of the default partitions.
const ROUTING: &[u8] = b"Default";
const SETS: &[u8] = b"default";
/// Heartbeats between two probes.
const PROBE_TICKS: u64 = 3;
const GATEWAY_BITS: i32 = drouting::GATEWAY_DISABLED | drouting::GATEWAY_HELD;
const DESTINATION_BITS: i32 = dispatcher::INACTIVE | dispatcher::PROBING;
const KEPT_MAX: usize = 10;

#[derive(Debug)]
pub(super) struct Targets {
    gateways: BTreeMap<Bytes, i32>,
    carriers: BTreeMap<Bytes, i32>,
    /// By set and URI.
    destinations: BTreeMap<(i32, Bytes), i32>,
    ticks: u64,
    /// What it heard against the rules of the wire.
    wrong: Vec<String>,
}

fn uri(gateway: u32) -> Bytes {
    Bytes::from(format!("sip:{}", Gateway::address(gateway)))
}

fn set_of(gateway: u32) -> i32 {
    if gateway == GATEWAYS { 2 } else { 1 }
}

impl Targets {
    /// As the tables have them.
    pub(super) fn new() -> Self {
        let ids = || 1..=GATEWAYS;
        Self {
            gateways: ids().map(|id| (Bytes::from(format!("gw{id}")), 0)).collect(),
            carriers: BTreeMap::from([(Bytes::from_static(b"car1"), 0)]),
            destinations: ids().map(|id| ((set_of(id), uri(id)), 0)).collect(),
            ticks: 0,
            wrong: Vec::new(),
        }
    }

    fn complain(&mut self, text: String) {
        if self.wrong.len() < KEPT_MAX {
            self.wrong.push(format!("a stock node heard {text}"));
        }
    }

    fn set(&mut self, is_gateway: bool, told: &drouting::Status) {
        let (bits, all) = match is_gateway {
            true => (GATEWAY_BITS, &mut self.gateways),
            false => (drouting::CARRIER_OFF, &mut self.carriers),
        };
        let known = all.get_mut(&told.id).filter(|_| told.partition == ROUTING);
        match known {
            Some(flags) if told.flags & !bits == 0 => *flags = told.flags,
            _ => self.complain(format!("{told:?}")),
        }
    }

    /// An inactive destination does not become probing.
    fn set_bits(&mut self, told: &dispatcher::Status) {
        let key = (told.of.set, told.of.uri.clone());
        let known = self.destinations.get_mut(&key).filter(|_| told.of.partition == SETS);
        let Some(flags) = known.filter(|_| told.bits & !DESTINATION_BITS == 0) else {
            return self.complain(format!("{told:?}"));
        };
        *flags = match (told.sets, told.bits) {
            (false, bits) => *flags & !bits,
            (true, bits) if bits & dispatcher::INACTIVE != 0 => dispatcher::INACTIVE,
            (true, _) if *flags & dispatcher::INACTIVE != 0 => *flags,
            (true, bits) => bits,
        };
    }

    /// The chunks of a sync: carriers come before gateways.
    pub(super) fn records(&self, part: Part) -> Vec<Bytes> {
        let status = |id: &Bytes, flags: i32| {
            let partition = Bytes::from_static(ROUTING);
            drouting::Status { partition, id: id.clone(), flags }
        };
        let of = |is_gateway: bool, all: &BTreeMap<Bytes, i32>| -> Vec<Bytes> {
            let record = |(id, flags): (&Bytes, &i32)| {
                let status = status(id, *flags);
                drouting::SyncRecord { is_gateway, status }.encode().ok()
            };
            all.iter().filter_map(record).collect()
        };
        if part == Part::Gateways {
            return [of(false, &self.carriers), of(true, &self.gateways)].concat();
        }
        let record = |((set, uri), flags): (&(i32, Bytes), &i32)| {
            // The whole word of flags, with bits that mean something here only.
            let of = destination(*set, uri.clone());
            dispatcher::SyncRecord { of, flags: flags | 16 }.encode().ok()
        };
        self.destinations.iter().filter_map(record).collect()
    }

    fn states(&self) -> States {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let gateway = |(id, flags): (&Bytes, &i32)| {
            let word = match (flags & drouting::GATEWAY_DISABLED, flags & drouting::GATEWAY_HELD) {
                (0, _) => "Active",
                (_, 0) if id == "gw3" => "Probing",
                (_, 0) => "Inactive",
                _ => "Disabled MI",
            };
            (format!("gateway {}", text(id)), word.to_owned())
        };
        let carrier = |(id, flags): (&Bytes, &i32)| {
            let word = if *flags == 0 { "yes" } else { "no" };
            (format!("carrier {}", text(id)), word.to_owned())
        };
        let destination = |((set, uri), flags): (&(i32, Bytes), &i32)| {
            let word = match *flags {
                0 => "Active",
                flags if flags & dispatcher::INACTIVE != 0 => "Inactive",
                _ => "Probing",
            };
            (format!("destination {set} {}", text(uri)), word.to_owned())
        };
        let all = self.gateways.iter().map(gateway).chain(self.carriers.iter().map(carrier));
        all.chain(self.destinations.iter().map(destination)).collect()
    }

    /// What is other than the gateways are: the packets that tell so.
    fn probed(&mut self, alive: &[(u32, bool)]) -> Vec<(Part, u32, Bytes)> {
        let mut told = Vec::new();
        for (id, lives) in alive.iter().filter(|(id, _)| *id < GATEWAYS) {
            let name = Bytes::from(format!("gw{id}"));
            let wanted = if *lives { 0 } else { drouting::GATEWAY_DISABLED };
            if let Some(flags) = self.gateways.get_mut(&name)
                && *flags & drouting::GATEWAY_HELD == 0
                && *flags != wanted
                && (*id != 3 || *flags != 0)
            {
                *flags = wanted;
                let partition = Bytes::from_static(ROUTING);
                let status = drouting::Status { partition, id: name, flags: wanted };
                let payload = status.encode().ok();
                told.extend(payload.map(|p| (Part::Gateways, drouting::GATEWAY, p)));
            }
            let wanted = if *lives { 0 } else { dispatcher::PROBING };
            if let Some(flags) = self.destinations.get_mut(&(1, uri(*id)))
                && *flags & dispatcher::INACTIVE == 0
                && *flags != wanted
            {
                *flags = wanted;
                let (sets, bits) = (!lives, if *lives { DESTINATION_BITS } else { wanted });
                let status = dispatcher::Status { of: destination(1, uri(*id)), sets, bits };
                let payload = status.encode().ok();
                told.extend(payload.map(|p| (Part::Destinations, dispatcher::STATUS, p)));
            }
        }
        told
    }
}

fn destination(set: i32, uri: Bytes) -> dispatcher::Destination {
    dispatcher::Destination { partition: Bytes::from_static(SETS), set, uri }
}

impl Stock {
    pub(super) fn take_target(&mut self, part: Part, kind: u32, payload: &Bytes) {
        let Some(all) = &mut self.targets else { return };
        if part == Part::Destinations {
            match dispatcher::Status::decode(payload) {
                Ok(told) if kind == dispatcher::STATUS => all.set_bits(&told),
                other => all.complain(format!("{other:?}, type {kind}")),
            }
            return;
        }
        match (drouting::Status::decode(payload), kind) {
            (Ok(told), drouting::GATEWAY | drouting::CARRIER) => {
                all.set(kind == drouting::GATEWAY, &told);
            }
            (other, kind) => all.complain(format!("{other:?}, type {kind}")),
        }
    }

    pub(super) fn take_target_chunk(&mut self, part: Part, chunk: &Bytes) {
        let Some(all) = &mut self.targets else { return };
        if part == Part::Gateways {
            return match drouting::SyncRecord::decode(chunk) {
                Ok(record) => all.set(record.is_gateway, &record.status),
                Err(e) => all.complain(format!("a chunk: {e}")),
            };
        }
        match dispatcher::SyncRecord::decode(chunk) {
            Ok(record) => {
                let key = (record.of.set, record.of.uri);
                if let Some(flags) = all.destinations.get_mut(&key) {
                    let inactive = record.flags & dispatcher::INACTIVE;
                    *flags = if inactive != 0 { inactive } else { record.flags & 2 };
                }
            }
            Err(e) => all.complain(format!("a chunk: {e}")),
        }
    }

    /// The holder of the tag probes, and tells.
    pub(crate) fn probe(&mut self, now: Now, alive: &[(u32, bool)]) {
        let Some(all) = self.targets.as_mut().filter(|_| self.tags.is_active) else { return };
        all.ticks += 1;
        if !all.ticks.is_multiple_of(PROBE_TICKS) {
            return;
        }
        for (part, kind, payload) in all.probed(alive) {
            self.broadcast(now, part.named(), kind, &payload);
        }
    }

    /// What it has, in the words of the management interface.
    pub(crate) fn states(&self) -> States {
        self.targets.as_ref().map(Targets::states).unwrap_or_default()
    }

    pub(crate) fn heard_wrong(&self) -> &[String] {
        self.targets.as_ref().map_or(&[], |all| &all.wrong)
    }
}
