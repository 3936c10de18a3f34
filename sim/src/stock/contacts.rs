//! The contacts of a stock node, and the phones that register with it.

use std::collections::BTreeMap;

use bytes::Bytes;
use tandem_bin::usrloc::{
    Aor, BranchFlags, Contact, ContactDelete, MatchMode, SyncRecord, Usrloc, contact_id,
};
use tandem_clock::Chance;

use crate::options::Dice;

const TABLE: &[u8] = b"location";

/// AoR, then contacts. All nodes match by URI and Call-ID or by URI alone; each phone of the
/// scenarios keeps its Call-ID for a URI, so that the URI is enough.
#[derive(Debug, Default)]
pub(super) struct Contacts {
    all: BTreeMap<Bytes, BTreeMap<Bytes, Contact>>,
}

impl Contacts {
    fn put(&mut self, contact: &Contact) {
        let record = self.all.entry(contact.aor.clone()).or_default();
        record.insert(contact.uri.clone(), contact.clone());
    }

    fn found(&self, aor: &Bytes, uri: &Bytes) -> Option<&Contact> {
        self.all.get(aor)?.get(uri)
    }

    /// Type 3: an older or equal CSeq of the same Call-ID is ignored.
    pub(super) fn insert(&mut self, contact: &Contact) {
        let is_old = self
            .found(&contact.aor, &contact.uri)
            .is_some_and(|old| old.call_id == contact.call_id && contact.cseq <= old.cseq);
        if !is_old {
            self.put(contact);
        }
    }

    /// Type 4: an equal CSeq is accepted.
    pub(super) fn update(&mut self, contact: &Contact) {
        let is_old = self
            .found(&contact.aor, &contact.uri)
            .is_some_and(|old| old.call_id == contact.call_id && contact.cseq < old.cseq);
        if !is_old {
            self.put(contact);
        }
    }

    /// Type 5, unless the stored CSeq is greater.
    pub(super) fn delete(&mut self, delete: &ContactDelete) {
        let Some(record) = self.all.get_mut(&delete.aor) else { return };
        let is_old = record
            .get(&delete.uri)
            .is_some_and(|old| old.call_id == delete.call_id && old.cseq > delete.cseq);
        if !is_old {
            record.remove(&delete.uri);
        }
    }

    pub(super) fn delete_aor(&mut self, aor: &Bytes) {
        self.all.remove(aor);
    }

    /// By its own clock, and without a word.
    pub(super) fn expire(&mut self, unix_s: u64) {
        for record in self.all.values_mut() {
            record.retain(|_, contact| !is_over(contact, unix_s));
        }
        self.all.retain(|_, record| !record.is_empty());
    }

    pub(super) fn listed(&self, unix_s: u64) -> BTreeMap<(String, String), (String, u64)> {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let contacts = self.all.values().flat_map(BTreeMap::values);
        contacts
            .filter(|c| !is_over(c, unix_s))
            .map(|c| ((text(&c.aor), text(&c.uri)), (text(&c.call_id), c.cseq as u64)))
            .collect()
    }

    /// One chunk for each AoR, followed by one for each of its contacts.
    pub(super) fn records(&self, unix_s: u64) -> Vec<Bytes> {
        let mut records = Vec::new();
        for (aor, contacts) in &self.all {
            records.extend(SyncRecord::Aor(aor_record(aor)).encode());
            for contact in contacts.values().filter(|c| !is_over(c, unix_s)) {
                let match_mode = MatchMode::UriAndCallId;
                let contact = Contact { match_mode, ..contact.clone() };
                records.extend(SyncRecord::Contact(Box::new(contact)).encode());
            }
        }
        records
    }
}

fn is_over(contact: &Contact, unix_s: u64) -> bool {
    contact.expires_unix_s != 0 && contact.expires_unix_s <= unix_s as i64
}

fn aor_record(aor: &Bytes) -> Aor {
    Aor {
        table: Bytes::from_static(TABLE),
        aor: aor.clone(),
        label: label(aor),
        next_contact_label: 1,
        key_values: Bytes::new(),
    }
}

fn label(aor: &[u8]) -> u32 {
    tandem_bin::usrloc::wire_hash(aor) >> 4
}

/// A phone that registers with the stock node.
#[derive(Debug)]
pub(crate) struct Resident {
    aor: Bytes,
    uri: Bytes,
    call_id: Bytes,
    cseq: i32,
    next_s: u64,
    is_registered: bool,
    dice: Chance,
}

/// What a resident asks for, and how often it comes again, in seconds.
const EXPIRES_S: u64 = 120;
const REFRESH_S: (u64, u64) = (4, 25);
/// How often one leaves instead, in a calm network.
const LEAVES: f64 = 0.1;

impl Resident {
    pub(crate) fn new(node: u32, number: u32, dice: Chance) -> Self {
        let name = format!("resident{node}{number}");
        Self {
            aor: Bytes::from(name.clone()),
            uri: Bytes::from(format!("sip:{name}@192.0.2.{number}:5060")),
            call_id: Bytes::from(format!("call-{name}")),
            cseq: 0,
            next_s: 0,
            is_registered: false,
            dice,
        }
    }

    /// Registers, refreshes or leaves when it is time; the packets for the other nodes. A stock
    /// node repeats no deletion that a peer has missed, so nobody leaves while links are down.
    pub(super) fn live(
        &mut self,
        unix_s: u64,
        contacts: &mut Contacts,
        is_calm: bool,
    ) -> Vec<(u32, Bytes)> {
        if unix_s < self.next_s {
            return Vec::new();
        }
        let is_first = self.next_s == 0;
        self.next_s = unix_s + self.dice.between(REFRESH_S.0, REFRESH_S.1);
        if is_first {
            return Vec::new();
        }
        self.cseq += 1;
        let leaves = self.dice.happens(LEAVES);
        let packets = if leaves && is_calm && self.is_registered {
            self.leave(contacts)
        } else {
            self.register(unix_s, contacts)
        };
        let encoded = packets.iter().filter_map(|p| Some((p.packet_type(), p.encode().ok()?)));
        encoded.collect()
    }

    fn register(&mut self, unix_s: u64, contacts: &mut Contacts) -> Vec<Usrloc> {
        let contact = self.contact(unix_s);
        let is_new = contacts.found(&self.aor, &self.uri).is_none();
        contacts.put(&contact);
        self.is_registered = true;
        let contact = Box::new(contact);
        match is_new {
            true => {
                vec![Usrloc::AorInsert(aor_record(&self.aor)), Usrloc::ContactInsert(contact)]
            }
            false => vec![Usrloc::ContactUpdate(contact)],
        }
    }

    fn leave(&mut self, contacts: &mut Contacts) -> Vec<Usrloc> {
        self.is_registered = false;
        contacts.delete_aor(&self.aor);
        let table = Bytes::from_static(TABLE);
        let delete = ContactDelete {
            table: table.clone(),
            aor: self.aor.clone(),
            uri: self.uri.clone(),
            call_id: self.call_id.clone(),
            cseq: self.cseq,
            match_mode: MatchMode::Default,
        };
        vec![Usrloc::ContactDelete(delete), Usrloc::AorDelete { table, aor: self.aor.clone() }]
    }

    fn contact(&self, unix_s: u64) -> Contact {
        Contact {
            table: Bytes::from_static(TABLE),
            aor: self.aor.clone(),
            uri: self.uri.clone(),
            id: contact_id(&self.aor, label(&self.aor), 7),
            call_id: self.call_id.clone(),
            user_agent: Bytes::from_static(b"resident"),
            path: Bytes::new(),
            attr: Bytes::new(),
            received: Bytes::new(),
            instance: Bytes::new(),
            expires_unix_s: (unix_s + EXPIRES_S) as i64,
            q: -1,
            socket: Bytes::from_static(b"udp:127.0.1.99:5060"),
            cseq: self.cseq,
            flags: 0,
            branch_flags: BranchFlags::Names(Bytes::new()),
            methods: u32::MAX,
            last_modified_unix_s: unix_s as i64,
            key_values: Bytes::from_static(br#"{"_st":"service"}"#),
            match_mode: MatchMode::Default,
        }
    }
}
