//! The capability `usrloc-contact-repl`: what goes to peers, and what comes from them.

use std::sync::Arc;

use bytes::Bytes;
use tandem_bin::usrloc as wire;
use tandem_clock::Now;
use tandem_cluster::{Digests, Form, Snapshot};
use tandem_engine::log::Level;
use tandem_engine::module::Cx;
use tandem_engine::outbox::Record;
use tandem_engine::replication::{Incoming, Replicated};

use crate::state::{Table, Usrloc};
use crate::store::{
    self, Change, Contact, Edit, FLAG_MEMORY_ONLY, LABELS, MATCH_PARAMS_MAX, Matching, NewContact,
    Origin, Replica, Stamp, Text, Tombstone,
};
use crate::wire::{TANDEM_VERSION, TableRecord};

/// The packet of a change; `None` where it cannot be encoded, which its limits rule out.
pub(crate) fn record(
    slot: u16,
    table: &str,
    change: &Replica<'_>,
    stamp: Stamp,
    default: &Matching,
) -> Option<Record> {
    let table = Bytes::copy_from_slice(table.as_bytes());
    let packet = packet(table, change, default);
    let payload = packet.encode().ok()?;
    Some(Record::same(slot, packet.packet_type(), wire::VERSION, payload, stamp))
}

fn packet(table: Bytes, change: &Replica<'_>, default: &Matching) -> wire::Usrloc {
    match change {
        Replica::AorInsert { aor, record_label, next_label } => {
            wire::Usrloc::AorInsert(wire::Aor {
                table,
                aor: Bytes::copy_from_slice(aor),
                label: *record_label,
                next_contact_label: i32::from(*next_label),
                key_values: Bytes::new(),
            })
        }
        Replica::ContactInsert { aor, contact, matching } => {
            let mode = match_mode(matching, default);
            wire::Usrloc::ContactInsert(Box::new(wire_contact(table, aor, contact, mode)))
        }
        Replica::ContactUpdate { aor, contact, matching } => {
            let mode = match_mode(matching, default);
            wire::Usrloc::ContactUpdate(Box::new(wire_contact(table, aor, contact, mode)))
        }
        Replica::ContactDelete { aor, tombstone } => {
            wire::Usrloc::ContactDelete(wire_delete(table, aor, tombstone, default))
        }
        Replica::AorDelete { aor, .. } => {
            wire::Usrloc::AorDelete { table, aor: Bytes::copy_from_slice(aor) }
        }
    }
}

fn wire_delete(
    table: Bytes,
    aor: &[u8],
    tombstone: &Tombstone,
    default: &Matching,
) -> wire::ContactDelete {
    wire::ContactDelete {
        table,
        aor: Bytes::copy_from_slice(aor),
        uri: Bytes::copy_from_slice(tombstone.uri()),
        call_id: Bytes::copy_from_slice(tombstone.call_id()),
        cseq: tombstone.cseq as i32,
        match_mode: match_mode(key_mode(tombstone.keyed_by_call_id), default),
    }
}

fn wire_contact(
    table: Bytes,
    aor: &[u8],
    c: &Contact,
    match_mode: wire::MatchMode,
) -> wire::Contact {
    wire::Contact {
        table,
        aor: Bytes::copy_from_slice(aor),
        uri: c.bytes(Text::Uri),
        id: c.id,
        call_id: c.bytes(Text::CallId),
        user_agent: c.bytes(Text::UserAgent),
        path: c.bytes(Text::Path),
        attr: c.bytes(Text::Attr),
        received: c.bytes(Text::Received),
        instance: c.bytes(Text::Instance),
        expires_unix_s: c.expires_s() as i64,
        q: i32::from(c.q()),
        socket: c.bytes(Text::Socket),
        cseq: c.cseq as i32,
        flags: c.flags(),
        branch_flags: wire::BranchFlags::Names(c.bytes(Text::BranchFlags)),
        methods: c.methods(),
        last_modified_unix_s: c.last_modified_s() as i64,
        key_values: c.bytes(Text::KeyValues),
        match_mode,
    }
}

/// The mode by which a contact is named exactly.
pub(crate) fn key_mode(keyed_by_call_id: bool) -> &'static Matching {
    if keyed_by_call_id { &Matching::UriCallId } else { &Matching::Uri }
}

fn match_mode(matching: &Matching, default: &Matching) -> wire::MatchMode {
    match matching {
        same if same == default => wire::MatchMode::Default,
        Matching::Uri => wire::MatchMode::Uri,
        Matching::UriCallId => wire::MatchMode::UriAndCallId,
        Matching::Params(names) | Matching::AllParams(names) => {
            wire::MatchMode::Params(names.iter().map(|n| Bytes::copy_from_slice(n)).collect())
        }
    }
}

fn matching_of(mode: &wire::MatchMode, default: &Matching) -> Matching {
    match mode {
        wire::MatchMode::Default => default.clone(),
        wire::MatchMode::Uri => Matching::Uri,
        wire::MatchMode::UriAndCallId => Matching::UriCallId,
        wire::MatchMode::Params(names) => {
            let names: Vec<Box<[u8]>> =
                names.iter().take(MATCH_PARAMS_MAX).map(|n| n[..].into()).collect();
            // A flag of save() names one; several are those of push contacts, of which a contact
            // without them is none.
            if names.len() > 1 { Matching::AllParams(names) } else { Matching::Params(names) }
        }
    }
}

/// The contact of a packet. What means something on the sender only is left out.
fn new_contact(c: &wire::Contact) -> NewContact<'_> {
    NewContact {
        uri: &c.uri,
        call_id: &c.call_id,
        user_agent: &c.user_agent,
        path: &c.path,
        attr: &c.attr,
        received: &c.received,
        instance: &c.instance,
        socket: &c.socket,
        branch_flags: match &c.branch_flags {
            wire::BranchFlags::Names(names) => names,
            wire::BranchFlags::Mask(_) => b"",
        },
        key_values: &c.key_values,
        expires_s: u64::try_from(c.expires_unix_s).unwrap_or(0),
        last_modified_s: u64::try_from(c.last_modified_unix_s).unwrap_or(0),
        cseq: c.cseq as u32,
        q: i16::try_from(c.q).ok().filter(|q| (-1..=1000).contains(q)).unwrap_or(-1),
        flags: c.flags & !FLAG_MEMORY_ONLY,
        methods: c.methods,
        id: Some(c.id),
    }
}

impl Usrloc {
    fn peer_table(&self, cx: &mut Cx<'_>, name: &[u8]) -> Option<Arc<Table>> {
        let table = std::str::from_utf8(name).ok().and_then(|name| self.open_table(cx, name));
        if table.is_none() {
            let name = String::from_utf8_lossy(name);
            cx.log(Level::Error, format!("a peer replicates the unknown table {name:?}"));
        }
        table
    }

    fn apply_packet(&self, cx: &mut Cx<'_>, packet: &wire::Usrloc, origin: Origin) {
        let default = &self.params.matching;
        match packet {
            wire::Usrloc::AorInsert(a) => {
                let until_s = cx.now.unix_s().saturating_add(self.params.timer_interval_s);
                let next_label = a.next_contact_label.rem_euclid(i32::from(LABELS)) as u16;
                let insert = Change::InsertAor { record_label: a.label, next_label, until_s };
                self.on_aor(cx, &a.table, &a.aor, origin, |edit| edit.apply(insert));
            }
            wire::Usrloc::AorDelete { table, aor } => {
                self.on_aor(cx, table, aor, origin, |edit| edit.apply(Change::DeleteAor));
            }
            wire::Usrloc::ContactInsert(c) => {
                let (contact, matching) = (new_contact(c), matching_of(&c.match_mode, default));
                let put = Change::Put { contact, matching: &matching };
                self.on_aor(cx, &c.table, &c.aor, origin, |edit| edit.apply(put));
            }
            wire::Usrloc::ContactUpdate(c) => {
                let (contact, matching) = (new_contact(c), matching_of(&c.match_mode, default));
                let update = Change::Update { contact, matching: &matching };
                self.on_aor(cx, &c.table, &c.aor, origin, |edit| edit.apply(update));
            }
            wire::Usrloc::ContactDelete(c) => {
                let matching = matching_of(&c.match_mode, default);
                let (uri, call_id, cseq) = (&c.uri[..], &c.call_id[..], c.cseq as u32);
                let delete = Change::DeleteNamed { uri, call_id, cseq, matching: &matching };
                self.on_aor(cx, &c.table, &c.aor, origin, |edit| edit.apply(delete));
            }
        }
    }

    fn on_aor<R>(
        &self,
        cx: &mut Cx<'_>,
        table: &[u8],
        aor: &[u8],
        origin: Origin,
        change: impl FnOnce(&mut Edit<'_>) -> R,
    ) {
        if aor.is_empty() {
            cx.log(Level::Warning, "a peer replicates a record without an AoR");
            return;
        }
        if let Some(table) = self.peer_table(cx, table) {
            self.change(cx, &table, aor, origin, change);
        }
    }

    /// A contact of a stock peer's sync. Its match mode there is always 1, whatever the nodes
    /// are configured for, so it says nothing.
    fn merge_stock(&self, cx: &mut Cx<'_>, source: u32, version: u16, chunk: &Bytes) {
        match wire::SyncRecord::decode(version, chunk) {
            Ok(wire::SyncRecord::Aor(_)) => {}
            Ok(wire::SyncRecord::Contact(c)) => {
                let (contact, matching) = (new_contact(&c), &self.params.matching);
                let learn = Change::Learn { contact, matching };
                let origin = Origin::Stock { node: source };
                self.on_aor(cx, &c.table, &c.aor, origin, |edit| edit.apply(learn));
            }
            Err(e) => cx.log(Level::Warning, format!("a record of a sync cannot be read: {e}")),
        }
    }

    fn merge_tandem(&self, cx: &mut Cx<'_>, record: &Bytes) {
        let Some(TableRecord { table, record }) = TableRecord::decode(record) else {
            cx.log(Level::Warning, "a record of a repair cannot be read");
            return;
        };
        // Later writes of this node must be later than what it has taken in.
        cx.node.outbox.hear(cx.now, record.stamp);
        let origin = Origin::Tandem { stamp: record.stamp };
        let matching = key_mode(record.keyed_by_call_id);
        let aor = record.aor;
        self.on_aor(cx, table, aor, origin, |edit| match record.until_s {
            Some(until_s) => edit.apply(Change::Bury { tombstone: record.tombstone(until_s) }),
            None => edit.apply(Change::Put { contact: record.contact, matching }),
        });
    }

    fn stock_snapshot(&self, now_s: u64, buckets: Option<&[u8]>) -> Vec<Bytes> {
        let mut records = Vec::new();
        for table in self.tables() {
            for bucket in (0..=u8::MAX).filter(|b| buckets.is_none_or(|w| w.contains(b))) {
                let mut last: Option<Arc<Contact>> = None;
                for record in table.domain.snapshot(bucket, now_s) {
                    let store::Record::Contact(contact) = record else { continue };
                    if last.is_none_or(|last| last.aor() != contact.aor()) {
                        records.extend(stock_aor(&table, contact.aor()));
                    }
                    let name = Bytes::copy_from_slice(table.name().as_bytes());
                    let mode = wire::MatchMode::UriAndCallId;
                    let record = Box::new(wire_contact(name, contact.aor(), &contact, mode));
                    records.extend(wire::SyncRecord::Contact(record).encode());
                    last = Some(contact);
                }
            }
        }
        records
    }

    fn tandem_snapshot(&self, now_s: u64, buckets: Option<&[u8]>) -> Vec<Bytes> {
        let mut records = Vec::new();
        for table in self.tables() {
            for bucket in 0..=u8::MAX {
                if buckets.is_none_or(|wanted| wanted.contains(&bucket)) {
                    let found = table.domain.snapshot(bucket, now_s);
                    records.extend(found.iter().map(|r| TableRecord::encode(table.name(), r)));
                }
            }
        }
        records
    }
}

fn stock_aor(table: &Table, aor: &[u8]) -> Option<Bytes> {
    let (label, next_label) = table.domain.labels(aor)?;
    let record = wire::SyncRecord::Aor(wire::Aor {
        table: Bytes::copy_from_slice(table.name().as_bytes()),
        aor: Bytes::copy_from_slice(aor),
        label,
        next_contact_label: i32::from(next_label),
        key_values: Bytes::new(),
    });
    record.encode().ok()
}

impl Replicated for Usrloc {
    fn capability(&self) -> &'static str {
        "usrloc-contact-repl"
    }

    fn cluster(&self) -> u32 {
        self.params.cluster
    }

    fn startup_sync(&self) -> bool {
        self.params.syncs_from_cluster
    }

    fn apply(&self, cx: &mut Cx<'_>, change: Incoming) {
        let origin = match change.stamp {
            Some(stamp) => Origin::Tandem { stamp },
            None => Origin::Stock { node: change.source },
        };
        match wire::Usrloc::decode(change.kind, change.version, &change.payload) {
            Ok(packet) => self.apply_packet(cx, &packet, origin),
            Err(e) => {
                let source = change.source;
                cx.log(Level::Warning, format!("a contact of node {source} cannot be read: {e}"));
            }
        }
    }

    fn merge(&self, cx: &mut Cx<'_>, source: u32, form: Form, version: u16, records: Vec<Bytes>) {
        for record in &records {
            match form {
                Form::Stock => self.merge_stock(cx, source, version, record),
                Form::Tandem => self.merge_tandem(cx, record),
            }
        }
    }

    fn snapshot(&self, cx: &mut Cx<'_>, form: Form, buckets: Option<&[u8]>) -> Snapshot {
        let now_s = cx.now.unix_s();
        match form {
            Form::Stock => {
                Snapshot { version: wire::VERSION, records: self.stock_snapshot(now_s, buckets) }
            }
            Form::Tandem => {
                let records = self.tandem_snapshot(now_s, buckets);
                Snapshot { version: TANDEM_VERSION, records }
            }
        }
    }

    fn digests(&self, now: Now) -> Digests {
        let mut all = Digests::default();
        for table in self.tables() {
            let digests = table.domain.digests(now.unix_s());
            all.count += digests.count;
            for (sum, add) in all.buckets.iter_mut().zip(digests.buckets) {
                *sum = sum.wrapping_add(add);
            }
        }
        all
    }

    fn listing(&self, cx: &mut Cx<'_>, buckets: &[u8]) -> Vec<(Bytes, u64)> {
        let now_s = cx.now.unix_s();
        let mut entries = Vec::new();
        for table in self.tables() {
            for bucket in buckets {
                for record in table.domain.snapshot(*bucket, now_s) {
                    let store::Record::Contact(contact) = record else { continue };
                    let table = table.name().as_bytes();
                    let name = [table, b" ", contact.aor(), b" ", contact.uri()].concat();
                    entries.push((Bytes::from(name), contact.digest()));
                }
            }
        }
        entries
    }

    fn replay_since(
        &self,
        cx: &mut Cx<'_>,
        peer: u32,
        since_unix_ms: u64,
        buckets: &[u8],
    ) -> Vec<(u32, u16, Bytes)> {
        let (now_s, since_s) = (cx.now.unix_s(), since_unix_ms / 1000);
        let default = &self.params.matching;
        let mut packets = Vec::new();
        for table in self.tables() {
            for bucket in buckets {
                for record in table.domain.snapshot(*bucket, now_s) {
                    let name = Bytes::copy_from_slice(table.name().as_bytes());
                    let found = match record {
                        // What it told us it knows.
                        store::Record::Contact(contact) if contact.stamp().node == peer => continue,
                        store::Record::Tombstone { tombstone, .. }
                            if tombstone.stamp.node == peer =>
                        {
                            continue;
                        }
                        store::Record::Contact(contact) if contact.last_modified_s() >= since_s => {
                            let matching = key_mode(contact.keyed_by_call_id());
                            let (aor, contact) = (contact.aor(), &contact);
                            let update = Replica::ContactUpdate { aor, contact, matching };
                            packet(name, &update, default)
                        }
                        store::Record::Tombstone { aor, tombstone }
                            if tombstone.stamp.time_us / 1_000_000 >= since_s =>
                        {
                            let tombstone = &tombstone;
                            let delete = Replica::ContactDelete { aor: &aor, tombstone };
                            packet(name, &delete, default)
                        }
                        _ => continue,
                    };
                    let payload = found.encode();
                    packets.extend(payload.map(|p| (found.packet_type(), wire::VERSION, p)));
                }
            }
        }
        packets
    }
}
