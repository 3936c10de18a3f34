//! The capability of the contacts, and its sync.

use bytes::Bytes;
use tandem_bin::clusterer::{CapNode, Extra, Sync, SyncEnd};
use tandem_bin::usrloc::{SyncRecord, Usrloc, VERSION};
use tandem_bin::{NodeId, Packet};
use tandem_clock::{Mono, Now, SEC};

use super::Stock;

pub(super) const NAME: &[u8] = b"usrloc-contact-repl";

#[derive(Debug)]
pub(super) struct Capability {
    pub(super) is_ok: bool,
    /// No donor was there when it was wanted.
    pending_since: Option<Mono>,
    /// A sync runs: chunks so far, chunks declared, the last packet.
    running: Option<(u64, Option<u64>, Mono)>,
    /// Live packets that wait for its end.
    queue: Vec<Packet>,
}

const SYNC_TIMEOUT_NS: Mono = 15 * SEC;
const SEED_FALLBACK_NS: Mono = 5 * SEC;
const PACKET_BYTES: usize = 32_768;

impl Capability {
    pub(super) fn new() -> Self {
        Self { is_ok: false, pending_since: None, running: None, queue: Vec::new() }
    }
}

impl Stock {
    fn set_ok(&mut self, now: Now, ok: bool) {
        self.cap.is_ok = ok;
        let name = Bytes::from_static(NAME);
        let nodes = vec![CapNode { node: self.me, capabilities: vec![(name, ok)] }];
        let neighbours: Vec<NodeId> = self.linked().collect();
        let update = self.cap_update(now, nodes, false);
        for id in neighbours {
            self.send_internal(now, id, update.clone());
        }
    }

    pub(super) fn request_sync(&mut self, now: Now) {
        if self.cap.pending_since.is_some() || self.cap.running.is_some() {
            return;
        }
        if self.cap.is_ok {
            self.set_ok(now, false);
        }
        self.cap.pending_since = Some(now.mono_ns);
        self.sync_while_pending(now);
    }

    /// Asks the first donor there is, if a request waits for one. It is asked once.
    pub(super) fn sync_while_pending(&mut self, now: Now) {
        if self.cap.pending_since.is_none() {
            return;
        }
        let is_donor = |id: &NodeId| {
            self.peers.get(id).is_some_and(|p| p.caps.get(NAME) == Some(&true))
                && self.next_hop(*id).is_some()
        };
        // The newest entry of the list comes first.
        let Some(donor) = self.peers.keys().rev().copied().find(is_donor) else { return };
        let request = Extra::SyncReq { capability: Bytes::from_static(NAME) };
        if let Ok(bytes) = request.encode(&self.trailer(donor))
            && self.route(now, donor, &bytes)
        {
            self.cap.pending_since = None;
        }
    }

    pub(super) fn tick_sync(&mut self, now: Now) {
        let waited = |since: Mono, ns: Mono| now.mono_ns.saturating_sub(since) >= ns;
        if self.is_seed && self.cap.pending_since.is_some_and(|at| waited(at, SEED_FALLBACK_NS)) {
            self.cap.pending_since = None;
            self.set_ok(now, true);
        }
        if self.cap.running.is_some_and(|(_, _, last)| waited(last, SYNC_TIMEOUT_NS)) {
            self.cap.running = None;
            self.drain();
        }
    }

    /// Any donor answers, synced or not.
    pub(super) fn on_sync_req(&mut self, now: Now, source: NodeId, name: &[u8]) {
        if name != NAME {
            return;
        }
        if self.next_hop(source).is_some() {
            self.donate(now, source);
        } else if let Some(peer) = self.peers.get_mut(&source) {
            peer.is_parked = true;
        }
    }

    pub(super) fn donate(&mut self, now: Now, to: NodeId) {
        let records = self.contacts.records(now.unix_s());
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
        let capability = Bytes::from_static(NAME);
        for chunks in packets {
            let (capability, data_version) = (capability.clone(), VERSION.into());
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
        if sync.capability != NAME || self.cap.is_ok {
            // Records of a sync that nobody waits for are taken all the same.
            self.take_chunks(&sync);
            return;
        }
        let (before, total, _) = self.cap.running.unwrap_or((0, None, 0));
        let count = before + sync.chunks.len() as u64;
        self.cap.running = Some((count, total, now.mono_ns));
        self.take_chunks(&sync);
        self.finish_when_complete(now);
    }

    fn take_chunks(&mut self, sync: &Sync) {
        let version = u16::try_from(sync.data_version).unwrap_or(0);
        for chunk in &sync.chunks {
            if let Ok(SyncRecord::Contact(contact)) = SyncRecord::decode(version, chunk) {
                self.contacts.insert(&contact);
            }
        }
    }

    pub(super) fn on_sync_end(&mut self, now: Now, end: &SyncEnd) {
        if end.capability != NAME || self.cap.is_ok {
            return;
        }
        let (count, _, _) = self.cap.running.unwrap_or((0, None, 0));
        let total = u64::try_from(end.chunks).unwrap_or(0);
        self.cap.running = Some((count, Some(total), now.mono_ns));
        self.finish_when_complete(now);
    }

    fn finish_when_complete(&mut self, now: Now) {
        if let Some((count, Some(total), _)) = self.cap.running
            && count >= total
        {
            self.cap.running = None;
            self.drain();
            self.set_ok(now, true);
        }
    }

    fn drain(&mut self) {
        for packet in std::mem::take(&mut self.cap.queue) {
            self.apply(&packet);
        }
    }

    pub(super) fn module_packet(&mut self, _now: Now, packet: Packet) {
        if self.cap.running.is_some() {
            self.cap.queue.push(packet);
        } else {
            self.apply(&packet);
        }
    }

    fn apply(&mut self, packet: &Packet) {
        match Usrloc::decode(packet.packet_type, packet.version, &packet.payload) {
            Ok(Usrloc::ContactInsert(contact)) => self.contacts.insert(&contact),
            Ok(Usrloc::ContactUpdate(contact)) => self.contacts.update(&contact),
            Ok(Usrloc::ContactDelete(delete)) => self.contacts.delete(&delete),
            Ok(Usrloc::AorDelete { aor, .. }) => self.contacts.delete_aor(&aor),
            Ok(Usrloc::AorInsert(_)) | Err(_) => {}
        }
    }
}
