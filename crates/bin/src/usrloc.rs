//! `usrloc-contact-repl`: registrations. Versions 2 to 5 are read, version 5 is written.

use crate::{Malformed, Reader, TooBig, Writer};
use bytes::Bytes;

/// Name of the capability.
pub const CAPABILITY: &[u8] = b"usrloc-contact-repl";
/// The version that is written (3.6, 4.0).
pub const VERSION: u16 = 5;
/// Names a match by parameters may list.
const MATCH_PARAMS_MAX: usize = 64;

/// A packet of this capability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Usrloc {
    /// Type 1: a node created the record of an AoR that had no contact.
    AorInsert(Aor),
    /// Type 2: the last contact went away through a request.
    AorDelete { table: Bytes, aor: Bytes },
    /// Type 3: a new binding.
    ContactInsert(Box<Contact>),
    /// Type 4: a refresh or change of a binding.
    ContactUpdate(Box<Contact>),
    /// Type 5: un-register, or management delete.
    ContactDelete(ContactDelete),
}

/// An address of record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aor {
    /// Location table, e.g. `location`.
    pub table: Bytes,
    /// `user` or `user@domain`.
    pub aor: Bytes,
    /// The sender's label of the AoR; adopted by the receiver.
    pub label: u32,
    /// 0..=16383; adopted by the receiver.
    pub next_contact_label: i32,
    /// JSON object or empty.
    pub key_values: Bytes,
}

/// A binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    pub table: Bytes,
    pub aor: Bytes,
    /// Contact URI as registered.
    pub uri: Bytes,
    /// See [`contact_id`].
    pub id: u64,
    pub call_id: Bytes,
    pub user_agent: Bytes,
    pub path: Bytes,
    pub attr: Bytes,
    /// SIP URI of the observed source, may be empty.
    pub received: Bytes,
    /// `+sip.instance` with angle brackets, without quotes.
    pub instance: Bytes,
    /// Absolute Unix seconds; 0 is permanent.
    pub expires_unix_s: i64,
    /// 0..=1000 (q × 1000), -1 if not given.
    pub q: i32,
    /// `proto:ip:port` or `proto:tag` of the receiving socket.
    pub socket: Bytes,
    pub cseq: i32,
    /// Bit 0 memory-only, bit 1 extra hop, bit 2 push notifications (RFC 8599).
    pub flags: u32,
    pub branch_flags: BranchFlags,
    /// Bit mask of methods; all ones means not restricted.
    pub methods: u32,
    /// Unix seconds.
    pub last_modified_unix_s: i64,
    /// JSON object or empty.
    pub key_values: Bytes,
    pub match_mode: MatchMode,
}

/// Type 5.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContactDelete {
    pub table: Bytes,
    pub aor: Bytes,
    pub uri: Bytes,
    pub call_id: Bytes,
    pub cseq: i32,
    pub match_mode: MatchMode,
}

/// Set branch flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BranchFlags {
    /// Names separated by space (from version 4 on).
    Names(Bytes),
    /// A mask whose bits depend on the sender's order of registration (versions 2 and 3). It has
    /// no meaning for another node, so version 5 writes no name for it.
    Mask(u32),
}

/// How the receiver finds the contact that a packet is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MatchMode {
    /// As the receiver is configured.
    Default,
    /// Only the contact URI.
    Uri,
    /// Contact URI and Call-ID.
    UriAndCallId,
    /// These URI parameters are present in both and equal.
    Params(Vec<Bytes>),
}

/// A record of a full sync, and of each chunk of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncRecord {
    Aor(Aor),
    Contact(Box<Contact>),
}

impl Usrloc {
    /// Reads a payload. Versions 2, 3 and 5.
    pub fn decode(packet_type: u32, version: u16, payload: &Bytes) -> Result<Self, Malformed> {
        check_version(version)?;
        let r = &mut Reader::new(payload.clone());
        Ok(match packet_type {
            1 => Self::AorInsert(Aor::read(r, version)?),
            2 => Self::AorDelete { table: r.str("table")?, aor: r.str("AoR")? },
            3 => Self::ContactInsert(Box::new(Contact::read(r, version, IdPlace::AfterUri)?)),
            4 => Self::ContactUpdate(Box::new(Contact::read(r, version, IdPlace::AfterValues)?)),
            5 => Self::ContactDelete(ContactDelete {
                table: r.str("table")?,
                aor: r.str("AoR")?,
                uri: r.str("contact")?,
                call_id: r.str("Call-ID")?,
                cseq: r.int("CSeq")?,
                match_mode: MatchMode::read(r, version)?,
            }),
            other => return Err(Malformed::Type(other)),
        })
    }

    /// The number of the packet type.
    pub fn packet_type(&self) -> u32 {
        match self {
            Self::AorInsert(_) => 1,
            Self::AorDelete { .. } => 2,
            Self::ContactInsert(_) => 3,
            Self::ContactUpdate(_) => 4,
            Self::ContactDelete(_) => 5,
        }
    }

    /// The payload in [`VERSION`].
    pub fn encode(&self) -> Result<Bytes, TooBig> {
        let mut w = Writer::payload();
        match self {
            Self::AorInsert(aor) => aor.write(&mut w),
            Self::AorDelete { table, aor } => {
                w.str(table);
                w.str(aor);
            }
            Self::ContactInsert(contact) => contact.write(&mut w, IdPlace::AfterUri),
            Self::ContactUpdate(contact) => contact.write(&mut w, IdPlace::AfterValues),
            Self::ContactDelete(delete) => {
                for field in [&delete.table, &delete.aor, &delete.uri, &delete.call_id] {
                    w.str(field);
                }
                w.int(delete.cseq);
                delete.match_mode.write(&mut w);
            }
        }
        w.finish()
    }
}

impl SyncRecord {
    /// Reads a chunk of a full sync, or the AoR or contact part of one.
    pub fn decode(version: u16, chunk: &Bytes) -> Result<Self, Malformed> {
        check_version(version)?;
        let r = &mut Reader::new(chunk.clone());
        match r.int("record kind")? {
            0 => Ok(Self::Aor(Aor::read(r, version)?)),
            1 => Ok(Self::Contact(Box::new(Contact::read(r, version, IdPlace::AfterUri)?))),
            value => Err(Malformed::Value { field: "record kind", value: value.into() }),
        }
    }

    /// The chunk in [`VERSION`].
    pub fn encode(&self) -> Result<Bytes, TooBig> {
        let mut w = Writer::payload();
        match self {
            Self::Aor(aor) => {
                w.int(0);
                aor.write(&mut w);
            }
            Self::Contact(contact) => {
                w.int(1);
                contact.write(&mut w, IdPlace::AfterUri);
            }
        }
        w.finish()
    }
}

impl Aor {
    fn read(r: &mut Reader, version: u16) -> Result<Self, Malformed> {
        Ok(Self {
            table: r.str("table")?,
            aor: r.str("AoR")?,
            label: r.uint("record label")?,
            next_contact_label: r.int("next contact label")?,
            key_values: if version >= 5 && !r.is_empty() {
                r.str("AoR key/values")?
            } else {
                Bytes::new()
            },
        })
    }

    fn write(&self, w: &mut Writer) {
        w.str(&self.table);
        w.str(&self.aor);
        w.uint(self.label);
        w.int(self.next_contact_label);
        w.str(&self.key_values);
    }
}

/// Where the contact id stands: insert and update differ only in that.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IdPlace {
    AfterUri,
    AfterValues,
}

impl Contact {
    fn read(r: &mut Reader, version: u16, id_place: IdPlace) -> Result<Self, Malformed> {
        let table = r.str("table")?;
        let aor = r.str("AoR")?;
        let uri = r.str("contact")?;
        let mut id = 0;
        if id_place == IdPlace::AfterUri {
            id = r.blob8("contact id")? as u64;
        }
        let mut contact = Self {
            table,
            aor,
            uri,
            id,
            call_id: r.str("Call-ID")?,
            user_agent: r.str("User-Agent")?,
            path: r.str("path")?,
            attr: r.str("attr")?,
            received: r.str("received")?,
            instance: r.str("instance")?,
            expires_unix_s: r.blob8("expires")?,
            q: r.blob4("q")?,
            socket: r.str("socket")?,
            cseq: r.int("CSeq")?,
            flags: r.uint("flags")?,
            branch_flags: match version {
                4.. => BranchFlags::Names(r.str("branch flags")?),
                _ => BranchFlags::Mask(r.uint("branch flags")?),
            },
            methods: r.uint("methods")?,
            last_modified_unix_s: r.blob8("last modified")?,
            key_values: r.str("key/values")?,
            match_mode: MatchMode::UriAndCallId,
        };
        if id_place == IdPlace::AfterValues {
            contact.id = r.blob8("contact id")? as u64;
        }
        contact.match_mode = MatchMode::read(r, version)?;
        Ok(contact)
    }

    fn write(&self, w: &mut Writer, id_place: IdPlace) {
        w.str(&self.table);
        w.str(&self.aor);
        w.str(&self.uri);
        if id_place == IdPlace::AfterUri {
            w.blob8(self.id as i64);
        }
        for field in [
            &self.call_id,
            &self.user_agent,
            &self.path,
            &self.attr,
            &self.received,
            &self.instance,
        ] {
            w.str(field);
        }
        w.blob8(self.expires_unix_s);
        w.blob4(self.q);
        w.str(&self.socket);
        w.int(self.cseq);
        w.uint(self.flags);
        match &self.branch_flags {
            BranchFlags::Names(names) => w.str(names),
            BranchFlags::Mask(_) => w.str(b""),
        }
        w.uint(self.methods);
        w.blob8(self.last_modified_unix_s);
        w.str(&self.key_values);
        if id_place == IdPlace::AfterValues {
            w.blob8(self.id as i64);
        }
        self.match_mode.write(w);
    }
}

impl MatchMode {
    fn read(r: &mut Reader, version: u16) -> Result<Self, Malformed> {
        if version == 2 || r.is_empty() {
            return Ok(Self::UriAndCallId);
        }
        match r.int("match mode")? {
            -1 => Ok(Self::Default),
            0 => Ok(Self::Uri),
            1 => Ok(Self::UriAndCallId),
            2 => {
                let count = r.count("match parameters", MATCH_PARAMS_MAX)?;
                let names = (0..count).map(|_| r.str("match parameter"));
                Ok(Self::Params(names.collect::<Result<_, _>>()?))
            }
            value => Err(Malformed::Value { field: "match mode", value: value.into() }),
        }
    }

    fn write(&self, w: &mut Writer) {
        match self {
            Self::Default => w.int(-1),
            Self::Uri => w.int(0),
            Self::UriAndCallId => w.int(1),
            Self::Params(names) => {
                w.int(2);
                w.count(names.len());
                names.iter().for_each(|name| w.str(name));
            }
        }
    }
}

fn check_version(version: u16) -> Result<(), Malformed> {
    match version {
        2..=5 => Ok(()),
        other => Err(Malformed::Version(other)),
    }
}

/// The hash of a byte string that the wire fixes: part of a contact id and of dialog ids. Never
/// used alone for a table, since strangers choose the input.
pub fn wire_hash(bytes: &[u8]) -> u32 {
    let value = |part: &[u8]| {
        part.iter().fold(0u32, |v, &b| v.wrapping_mul(256).wrapping_add(b as i8 as u32))
    };
    let step = |h: u32, v: u32| h.wrapping_add(v ^ (v >> 3));
    let (groups, rest) = bytes.as_chunks::<4>();
    let h = groups.iter().fold(0, |h, group| step(h, value(group)));
    let h = step(h, value(rest));
    h.wrapping_add(h >> 11).wrapping_add(h >> 13).wrapping_add(h >> 23)
}

/// The contact id: contact label (14 bits), record label (32 bits), 16 bits of the AoR's hash.
pub fn contact_id(aor: &[u8], record_label: u32, contact_label: u16) -> u64 {
    u64::from(contact_label & 0x3fff)
        | u64::from(record_label) << 14
        | u64::from(wire_hash(aor) & 0xffff) << 46
}

/// Record label and contact label of a contact id.
pub fn contact_labels(id: u64) -> (u32, u16) {
    ((id >> 14) as u32, (id & 0x3fff) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_and_labels_are_those_of_the_stock_node() {
        assert_eq!(wire_hash(b"alice@127.0.0.11"), 0x3f2b_e674);
        // A contact seen on the wire: label 0, contact label 8964.
        let id = 3_295_297_921_095_836_420;
        let (record, contact) = contact_labels(id);
        assert_eq!(contact_id(b"user4@127.0.0.11", record, contact), id);
    }

    #[test]
    fn version_2_has_no_match_mode_and_a_mask_of_flags() {
        let mut w = Writer::payload();
        let strings = |w: &mut Writer, n| (0..n).for_each(|_| w.str(b"a"));
        strings(&mut w, 3);
        w.blob8(7);
        strings(&mut w, 6);
        w.blob8(100);
        w.blob4(-1);
        w.str(b"udp:a:1");
        w.int(3);
        w.uint(0);
        w.uint(6);
        w.uint(u32::MAX);
        w.blob8(50);
        w.str(b"");
        let payload = w.finish().unwrap();
        let Ok(Usrloc::ContactInsert(contact)) = Usrloc::decode(3, 2, &payload) else {
            panic!("not read")
        };
        assert_eq!(contact.branch_flags, BranchFlags::Mask(6));
        assert_eq!(contact.match_mode, MatchMode::UriAndCallId);
        assert_eq!(contact.cseq, 3);
        assert_eq!(Usrloc::decode(3, 6, &payload), Err(Malformed::Version(6)));
    }

    #[test]
    fn version_4_has_names_of_flags_and_no_values_of_the_aor() {
        let mut w = Writer::payload();
        w.str(b"location");
        w.str(b"a@b");
        w.uint(7);
        w.int(9);
        let Ok(Usrloc::AorInsert(aor)) = Usrloc::decode(1, 4, &w.finish().unwrap()) else {
            panic!("not read")
        };
        assert_eq!((aor.label, aor.next_contact_label, &aor.key_values[..]), (7, 9, &b""[..]));
        let contact = Contact {
            table: Bytes::from_static(b"location"),
            aor: Bytes::from_static(b"a@b"),
            uri: Bytes::from_static(b"sip:a@b"),
            id: 1,
            call_id: Bytes::new(),
            user_agent: Bytes::new(),
            path: Bytes::new(),
            attr: Bytes::new(),
            received: Bytes::new(),
            instance: Bytes::new(),
            expires_unix_s: 5,
            q: -1,
            socket: Bytes::new(),
            cseq: 1,
            flags: 0,
            branch_flags: BranchFlags::Names(Bytes::from_static(b"NAT SIPPING")),
            methods: u32::MAX,
            last_modified_unix_s: 1,
            key_values: Bytes::new(),
            match_mode: MatchMode::Default,
        };
        let payload = Usrloc::ContactInsert(Box::new(contact.clone())).encode().unwrap();
        let read = Usrloc::decode(3, 4, &payload);
        assert_eq!(read, Ok(Usrloc::ContactInsert(Box::new(contact))));
    }
}
