//! The capabilities of a stock node, and their syncs.

use std::collections::BTreeSet;

use bytes::Bytes;
use tandem_bin::clusterer::{CapNode, Extra, Sync, SyncEnd};
use tandem_bin::dialog::{self, DialogPacket, FullDialog};
use tandem_bin::usrloc::{self, SyncRecord, Usrloc};
use tandem_bin::{NodeId, Packet, dispatcher, drouting};
use tandem_clock::{Mono, Now, SEC};

use super::Stock;
use super::calls::Key;

/// What is shared, each under its own name and with its own sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Contacts,
    Calls,
    Gateways,
    Destinations,
}

/// The last two where there are gateways.
const PARTS: [Part; 4] = [Part::Contacts, Part::Calls, Part::Gateways, Part::Destinations];

impl Part {
    pub(super) fn name(self) -> &'static [u8] {
        match self {
            Self::Contacts => b"usrloc-contact-repl",
            Self::Calls => dialog::CAPABILITY,
            Self::Gateways => drouting::CAPABILITY,
            Self::Destinations => dispatcher::CAPABILITY,
        }
    }

    pub(super) fn version(self) -> u16 {
        match self {
            Self::Contacts => usrloc::VERSION,
            Self::Calls => dialog::VERSION,
            Self::Gateways => drouting::VERSION,
            Self::Destinations => dispatcher::VERSION,
        }
    }

    /// Name and version, as packets have them.
    pub(super) fn named(self) -> (&'static [u8], u16) {
        (self.name(), self.version())
    }

    fn at(self) -> usize {
        self as usize
    }
}

#[derive(Debug, Default)]
pub(super) struct Capability {
    pub(super) is_ok: bool,
    /// No donor was there when it was wanted.
    pending_since: Option<Mono>,
    /// A sync runs: chunks so far, chunks declared, the last packet.
    running: Option<(u64, Option<u64>, Mono)>,
    /// Live packets that wait for its end.
    queue: Vec<Packet>,
    /// Calls that the sync, or a live packet during it, was about.
    seen: BTreeSet<Key>,
}

const SYNC_TIMEOUT_NS: Mono = 15 * SEC;
const SEED_FALLBACK_NS: Mono = 5 * SEC;
const PACKET_BYTES: usize = 32_768;

impl Stock {
    pub(super) fn parts(&self) -> &'static [Part] {
        if self.targets.is_some() { &PARTS } else { &PARTS[..2] }
    }

    pub(super) fn part(&self, name: &[u8]) -> Option<Part> {
        self.parts().iter().copied().find(|part| part.name() == name)
    }

    fn cap(&mut self, part: Part) -> &mut Capability {
        &mut self.caps[part.at()]
    }

    /// What it says of its own capabilities.
    pub(super) fn own_caps(&self) -> Vec<(Bytes, bool)> {
        let own = |part: &Part| (Bytes::from_static(part.name()), self.caps[part.at()].is_ok);
        self.parts().iter().map(own).collect()
    }

    fn set_ok(&mut self, now: Now, part: Part, ok: bool) {
        self.cap(part).is_ok = ok;
        let name = Bytes::from_static(part.name());
        let nodes = vec![CapNode { node: self.me, capabilities: vec![(name, ok)] }];
        let neighbours: Vec<NodeId> = self.linked().collect();
        let update = self.cap_update(now, nodes, false);
        for id in neighbours {
            self.send_internal(now, id, update.clone());
        }
    }

    pub(super) fn request_sync(&mut self, now: Now, part: Part) {
        if self.cap(part).pending_since.is_some() || self.cap(part).running.is_some() {
            return;
        }
        if self.cap(part).is_ok {
            self.set_ok(now, part, false);
        }
        self.cap(part).pending_since = Some(now.mono_ns);
        self.cap(part).seen.clear();
        self.sync_while_pending(now);
    }

    /// Asks the first donor there is, if a request waits for one. It is asked once.
    pub(super) fn sync_while_pending(&mut self, now: Now) {
        for &part in self.parts() {
            if self.cap(part).pending_since.is_some() {
                self.ask_donor(now, part);
            }
        }
    }

    fn ask_donor(&mut self, now: Now, part: Part) {
        let is_donor = |id: &NodeId| {
            self.peers.get(id).is_some_and(|p| p.caps.get(part.name()) == Some(&true))
                && self.next_hop(*id).is_some()
        };
        // The newest entry of the list comes first.
        let Some(donor) = self.peers.keys().rev().copied().find(is_donor) else { return };
        let request = Extra::SyncReq { capability: Bytes::from_static(part.name()) };
        if let Ok(bytes) = request.encode(&self.trailer(donor))
            && self.route(now, donor, &bytes)
        {
            self.cap(part).pending_since = None;
        }
    }

    pub(super) fn tick_sync(&mut self, now: Now) {
        let waited = |since: Mono, ns: Mono| now.mono_ns.saturating_sub(since) >= ns;
        for &part in self.parts() {
            let pending = self.cap(part).pending_since;
            if self.is_seed && pending.is_some_and(|at| waited(at, SEED_FALLBACK_NS)) {
                self.cap(part).pending_since = None;
                self.set_ok(now, part, true);
            }
            let running = self.cap(part).running;
            if running.is_some_and(|(_, _, last)| waited(last, SYNC_TIMEOUT_NS)) {
                self.cap(part).running = None;
                self.drain(part);
            }
        }
    }

    /// Any donor answers, synced or not.
    pub(super) fn on_sync_req(&mut self, now: Now, source: NodeId, name: &[u8]) {
        let Some(part) = self.part(name) else { return };
        if self.next_hop(source).is_some() {
            self.donate(now, part, source);
        } else if let Some(peer) = self.peers.get_mut(&source) {
            peer.parked.push(part);
        }
    }

    pub(super) fn donate(&mut self, now: Now, part: Part, to: NodeId) {
        let records = match part {
            Part::Contacts => self.contacts.records(now.unix_s()),
            Part::Calls => self.calls.records(),
            part => self.targets.as_ref().map_or_else(Vec::new, |all| all.records(part)),
        };
        let chunks = i32::try_from(records.len()).unwrap_or(i32::MAX);
        let mut packets: Vec<Vec<Bytes>> = Vec::new();
        let (mut size, mut previous) = (0, 0);
        for record in records {
            // The size of the chunk before is the estimate for this one.
            if packets.is_empty() || size + previous > PACKET_BYTES {
                packets.push(Vec::new());
                size = 0;
            }
            previous = record.len() + 8;
            size += previous;
            if let Some(last) = packets.last_mut() {
                last.push(record);
            }
        }
        let capability = Bytes::from_static(part.name());
        for chunks in packets {
            let (capability, data_version) = (capability.clone(), part.version().into());
            let sync = Extra::Sync(Sync { capability, data_version, chunks, intact: true });
            if let Ok(bytes) = sync.encode(&self.trailer(to)) {
                self.route(now, to, &bytes);
            }
        }
        let end = Extra::SyncEnd(SyncEnd { capability, chunks });
        if let Ok(bytes) = end.encode(&self.trailer(to)) {
            self.route(now, to, &bytes);
        }
    }

    pub(super) fn on_sync(&mut self, now: Now, sync: Sync) {
        let Some(part) = self.part(&sync.capability) else { return };
        self.take_chunks(part, &sync);
        if self.cap(part).is_ok {
            // Records of a sync that nobody waits for are taken all the same.
            return;
        }
        let (before, total, _) = self.cap(part).running.unwrap_or((0, None, 0));
        let count = before + sync.chunks.len() as u64;
        self.cap(part).running = Some((count, total, now.mono_ns));
        self.finish_when_complete(now, part);
    }

    fn take_chunks(&mut self, part: Part, sync: &Sync) {
        let version = u16::try_from(sync.data_version).unwrap_or(0);
        for chunk in &sync.chunks {
            match part {
                Part::Contacts => {
                    if let Ok(SyncRecord::Contact(contact)) = SyncRecord::decode(version, chunk) {
                        self.contacts.insert(&contact);
                    }
                }
                Part::Calls => {
                    if let Ok(dialog) = FullDialog::decode(version, chunk) {
                        let key = self.calls.take(&DialogPacket::Created(Box::new(dialog)));
                        self.cap(part).seen.extend(key);
                    }
                }
                part => self.take_target_chunk(part, chunk),
            }
        }
    }

    pub(super) fn on_sync_end(&mut self, now: Now, end: &SyncEnd) {
        let Some(part) = self.part(&end.capability).filter(|part| !self.cap(*part).is_ok) else {
            return;
        };
        let (count, _, _) = self.cap(part).running.unwrap_or((0, None, 0));
        let total = u64::try_from(end.chunks).unwrap_or(0);
        self.cap(part).running = Some((count, Some(total), now.mono_ns));
        self.finish_when_complete(now, part);
    }

    fn finish_when_complete(&mut self, now: Now, part: Part) {
        if let Some((count, Some(total), _)) = self.cap(part).running
            && count >= total
        {
            self.cap(part).running = None;
            self.drain(part);
            let seen = std::mem::take(&mut self.cap(part).seen);
            // Calls that this node does not act for and that the donor has not are dropped.
            if part == Part::Calls && !self.tags.is_active {
                self.calls.keep(&seen);
            }
            self.set_ok(now, part, true);
        }
    }

    fn drain(&mut self, part: Part) {
        for packet in std::mem::take(&mut self.cap(part).queue) {
            self.apply(part, &packet);
        }
    }

    pub(super) fn module_packet(&mut self, part: Part, packet: Packet) {
        if self.cap(part).running.is_some() {
            self.cap(part).queue.push(packet);
        } else {
            self.apply(part, &packet);
        }
    }

    fn apply(&mut self, part: Part, packet: &Packet) {
        let (kind, version, payload) = (packet.packet_type, packet.version, &packet.payload);
        if matches!(part, Part::Gateways | Part::Destinations) {
            return self.take_target(part, kind, payload);
        }
        if part == Part::Calls {
            if let Ok(packet) = DialogPacket::decode(kind, version, payload) {
                let key = self.calls.take(&packet);
                self.cap(part).seen.extend(key);
            }
            return;
        }
        match Usrloc::decode(kind, version, payload) {
            Ok(Usrloc::ContactInsert(contact)) => self.contacts.insert(&contact),
            Ok(Usrloc::ContactUpdate(contact)) => self.contacts.update(&contact),
            Ok(Usrloc::ContactDelete(delete)) => self.contacts.delete(&delete),
            Ok(Usrloc::AorDelete { aor, .. }) => self.contacts.delete_aor(&aor),
            Ok(Usrloc::AorInsert(_)) | Err(_) => {}
        }
    }
}
