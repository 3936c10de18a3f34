//! A contact: plain data in two allocations, never changed in place.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tandem_clock::Mono;

use super::digest::Digester;
use super::{NotStored, Stamp};

/// The texts of a contact, in the order in which they are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Text {
    /// Contact URI as registered.
    Uri,
    CallId,
    UserAgent,
    /// Value of the stored Path.
    Path,
    Attr,
    /// SIP URI of the observed source, or empty.
    Received,
    /// `+sip.instance` value with angle brackets.
    Instance,
    /// Receiving socket exactly as it came, `udp:10.0.0.1:5060` or `udp:tag`.
    Socket,
    /// Names of the set branch flags, separated by spaces, exactly as they came.
    BranchFlags,
    /// Flat JSON object, or empty. `_st` holds the sharing tag.
    KeyValues,
}

const TEXTS: usize = 10;

impl Text {
    /// All texts, in order.
    pub const ALL: [Self; TEXTS] = [
        Self::Uri,
        Self::CallId,
        Self::UserAgent,
        Self::Path,
        Self::Attr,
        Self::Received,
        Self::Instance,
        Self::Socket,
        Self::BranchFlags,
        Self::KeyValues,
    ];
}

/// Ten texts in one buffer, so that each can be handed out without copying.
#[derive(Clone, PartialEq, Eq)]
struct Texts {
    bytes: Bytes,
    ends: [u16; TEXTS],
}

impl Texts {
    fn pack(texts: &[&[u8]; TEXTS]) -> Result<Self, NotStored> {
        let mut bytes = Vec::with_capacity(texts.iter().map(|t| t.len()).sum());
        let mut ends = [0; TEXTS];
        for (text, end) in texts.iter().zip(&mut ends) {
            bytes.extend_from_slice(text);
            *end = u16::try_from(bytes.len()).map_err(|_| NotStored::TooLong)?;
        }
        Ok(Self { bytes: Bytes::from(bytes), ends })
    }

    fn range(&self, text: Text) -> Range<usize> {
        let at = text as usize;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        usize::from(start)..usize::from(self.ends[at])
    }

    fn get(&self, text: Text) -> &[u8] {
        self.bytes.get(self.range(text)).unwrap_or_default()
    }
}

/// Bit of [`NewContact::flags`]: the contact is not written to SQL. Means something on this
/// node only.
pub const FLAG_MEMORY_ONLY: u32 = 1;
/// Bit of [`NewContact::flags`]: the contact is reached over a further node (federation).
pub const FLAG_EXTRA_HOP: u32 = 2;
/// Bit of [`NewContact::flags`]: the contact is woken by push notifications (RFC 8599).
pub const FLAG_PUSH: u32 = 4;
/// [`NewContact::methods`] of a contact without Allow.
pub const ALL_METHODS: u32 = u32::MAX;
/// [`NewContact::q`] of a contact without `q`.
pub const Q_UNSET: i16 = -1;

/// What a contact is to become: borrowed, so that it costs nothing when it is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewContact<'a> {
    pub uri: &'a [u8],
    pub call_id: &'a [u8],
    pub user_agent: &'a [u8],
    pub path: &'a [u8],
    pub attr: &'a [u8],
    pub received: &'a [u8],
    pub instance: &'a [u8],
    pub socket: &'a [u8],
    /// Names, separated by spaces.
    pub branch_flags: &'a [u8],
    pub key_values: &'a [u8],
    /// Unix seconds; 0: never.
    pub expires_s: u64,
    /// Unix seconds.
    pub last_modified_s: u64,
    pub cseq: u32,
    /// q x 1000, or [`Q_UNSET`].
    pub q: i16,
    pub flags: u32,
    /// Bit mask of wire method bits, or [`ALL_METHODS`].
    pub methods: u32,
    /// Labels that a peer or the database gave: the contact id without its hash part.
    pub id: Option<u64>,
}

impl Default for NewContact<'_> {
    fn default() -> Self {
        Self {
            uri: b"",
            call_id: b"",
            user_agent: b"",
            path: b"",
            attr: b"",
            received: b"",
            instance: b"",
            socket: b"",
            branch_flags: b"",
            key_values: b"",
            expires_s: 0,
            last_modified_s: 0,
            cseq: 0,
            q: Q_UNSET,
            flags: 0,
            methods: ALL_METHODS,
            id: None,
        }
    }
}

/// A stored contact. It is shared by reference and replaced as a whole, so whoever holds one
/// sees one consistent state without a lock.
#[derive(Clone, PartialEq, Eq)]
pub struct Contact {
    texts: Texts,
    /// Unix seconds; 0: never.
    pub expires_s: u64,
    /// Unix seconds.
    pub last_modified_s: u64,
    /// When and where it was written.
    pub stamp: Stamp,
    /// Contact id as management shows it and pings carry it.
    pub id: u64,
    /// Of the replicated fields.
    pub(super) digest: u64,
    pub cseq: u32,
    pub methods: u32,
    pub flags: u32,
    /// q x 1000, or [`Q_UNSET`].
    pub q: i16,
    /// URI and Call-ID together name the contact within its AoR; else the URI alone.
    pub keyed_by_call_id: bool,
}

impl Contact {
    pub(super) fn new(
        new: &NewContact<'_>,
        keyed_by_call_id: bool,
        stamp: Stamp,
        scope: Digester,
    ) -> Result<Self, NotStored> {
        let texts = Texts::pack(&[
            new.uri,
            new.call_id,
            new.user_agent,
            new.path,
            new.attr,
            new.received,
            new.instance,
            new.socket,
            new.branch_flags,
            new.key_values,
        ])?;
        let mut contact = Self {
            texts,
            expires_s: new.expires_s,
            last_modified_s: new.last_modified_s,
            stamp,
            id: 0,
            digest: 0,
            cseq: new.cseq,
            methods: new.methods,
            flags: new.flags,
            q: new.q,
            keyed_by_call_id,
        };
        contact.digest = contact.digest_in(scope);
        Ok(contact)
    }

    fn digest_in(&self, mut scope: Digester) -> u64 {
        for text in Text::ALL {
            match text {
                Text::BranchFlags => scope.names(self.text(text)),
                _ => scope.text(self.text(text)),
            }
        }
        scope.number(self.expires_s);
        scope.number(self.last_modified_s);
        scope.number(self.stamp.time_us);
        scope.number(u64::from(self.stamp.node));
        scope.number(u64::from(self.cseq) << 32 | u64::from(self.methods));
        scope.number(u64::from(self.flags & !FLAG_MEMORY_ONLY));
        scope.number(self.q as u64);
        scope.number(u64::from(self.keyed_by_call_id));
        scope.end()
    }

    pub fn text(&self, text: Text) -> &[u8] {
        self.texts.get(text)
    }

    /// A text that shares the contact's buffer.
    pub fn bytes(&self, text: Text) -> Bytes {
        self.texts.bytes.slice(self.texts.range(text))
    }

    pub fn uri(&self) -> &[u8] {
        self.text(Text::Uri)
    }

    pub fn call_id(&self) -> &[u8] {
        self.text(Text::CallId)
    }

    /// Where requests for the contact are sent when it is behind NAT; empty: to its URI.
    pub fn received(&self) -> &[u8] {
        self.text(Text::Received)
    }

    pub fn is_expired(&self, now_s: u64) -> bool {
        self.expires_s != 0 && self.expires_s <= now_s
    }

    /// Seconds left; `None`: it is permanent.
    pub fn remaining_s(&self, now_s: u64) -> Option<u64> {
        (self.expires_s != 0).then(|| self.expires_s.saturating_sub(now_s))
    }

    /// Whether this node may have to write it to SQL.
    pub fn is_memory_only(&self) -> bool {
        self.flags & FLAG_MEMORY_ONLY != 0
    }

    /// The sharing tag that owns the contact: `_st` of the key/values.
    pub fn sharing_tag(&self) -> Option<String> {
        key_value(self.text(Text::KeyValues), "_st")
    }

    /// Whether the branch flag with this name is set.
    pub fn has_branch_flag(&self, name: &str) -> bool {
        let names = self.text(Text::BranchFlags).split(|b| *b == b' ');
        name.is_empty() || { names }.any(|n| n == name.as_bytes())
    }

    /// Everything but `id`, borrowed.
    pub fn as_new(&self) -> NewContact<'_> {
        NewContact {
            uri: self.uri(),
            call_id: self.call_id(),
            user_agent: self.text(Text::UserAgent),
            path: self.text(Text::Path),
            attr: self.text(Text::Attr),
            received: self.received(),
            instance: self.text(Text::Instance),
            socket: self.text(Text::Socket),
            branch_flags: self.text(Text::BranchFlags),
            key_values: self.text(Text::KeyValues),
            expires_s: self.expires_s,
            last_modified_s: self.last_modified_s,
            cseq: self.cseq,
            q: self.q,
            flags: self.flags,
            methods: self.methods,
            id: None,
        }
    }

    /// Whether only the lifetime differs from `old`: a refresh.
    pub(super) fn only_refreshes(&self, old: &Self) -> bool {
        self.texts == old.texts
            && (self.methods, self.flags, self.q) == (old.methods, old.flags, old.q)
    }

    /// Bytes it takes in memory.
    pub fn size_bytes(&self) -> usize {
        size_of::<Self>() + self.texts.bytes.len()
    }
}

impl std::fmt::Debug for Contact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (new, id) = (self.as_new(), self.id);
        write!(f, "Contact({id} {:?} ", String::from_utf8_lossy(new.uri))?;
        write!(f, "{:?} cseq {} ", String::from_utf8_lossy(new.call_id), self.cseq)?;
        write!(f, "expires {} stamp {:?})", self.expires_s, self.stamp)
    }
}

/// A text value of a flat JSON object.
fn key_value(json: &[u8], key: &str) -> Option<String> {
    if json.is_empty() {
        return None;
    }
    let object: serde_json::Value = serde_json::from_slice(json).ok()?;
    object.get(key)?.as_str().map(String::from)
}

/// What this node knows of a contact and nobody else: never replicated, not in a digest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Local {
    pub ping: PingState,
    pub db: DbState,
    /// When the next timer for its expiry fires; `None`: none is armed. On the monotonic clock,
    /// so that a jump of the wall clock loses no timer.
    pub(super) armed: Option<Mono>,
}

/// How a contact stands to its row in SQL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DbState {
    /// No row yet.
    #[default]
    New,
    /// The row is equal.
    Sync,
    /// The row is older.
    Dirty,
}

impl DbState {
    /// The name that management shows.
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "CS_NEW",
            Self::Sync => "CS_SYNC",
            Self::Dirty => "CS_DIRTY",
        }
    }
}

/// The state of the pings of a contact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PingState {
    /// Monotonic nanoseconds of the ping that is not answered; 0: none is out.
    pub sent_ns: u64,
    /// Latency of the last answer in microseconds; 0: none was measured.
    pub latency_us: u32,
    /// Latency that the last E_UL_LATENCY_UPDATE reported.
    pub reported_us: u32,
    /// Pings lost in a row.
    pub lost: u16,
}

/// A contact in its AoR.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) contact: Arc<Contact>,
    pub(super) local: Local,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::stamp_at;

    fn contact(new: &NewContact<'_>) -> Contact {
        Contact::new(new, false, stamp_at(1, 1), Digester::default()).unwrap()
    }

    #[test]
    fn every_text_comes_back_as_it_was_given() {
        let new = NewContact {
            uri: b"sip:a@h",
            call_id: b"c",
            path: b"<sip:p;lr>",
            key_values: br#"{"_st":"vip"}"#,
            branch_flags: b"NAT SIP_PING",
            ..NewContact::default()
        };
        let stored = contact(&new);
        assert_eq!(stored.as_new(), new);
        assert_eq!(stored.sharing_tag().as_deref(), Some("vip"));
        assert!(stored.has_branch_flag("NAT") && !stored.has_branch_flag("SIP"));
    }

    #[test]
    fn texts_beyond_64_kib_are_refused() {
        let long = vec![b'x'; 70_000];
        let new = NewContact { path: &long, ..NewContact::default() };
        let made = Contact::new(&new, false, stamp_at(1, 1), Digester::default());
        assert_eq!(made.unwrap_err(), NotStored::TooLong);
    }

    #[test]
    fn the_digest_knows_flags_by_name_in_any_order_and_no_local_flag() {
        let new = NewContact { branch_flags: b"A B", flags: 1, ..NewContact::default() };
        let same = NewContact { branch_flags: b"B A", flags: 0, ..new };
        let other = NewContact { branch_flags: b"A", ..new };
        assert_eq!(contact(&new).digest, contact(&same).digest);
        assert_ne!(contact(&new).digest, contact(&other).digest);
    }

    #[test]
    fn a_usual_contact_takes_far_less_than_a_kilobyte() {
        let new = NewContact {
            uri: b"sip:alice@192.168.1.10:5060;transport=udp;rinstance=0123456789abcdef",
            call_id: b"0123456789abcdef0123456789abcdef@192.168.1.10",
            user_agent: b"Vendor Model/1.2.3 (build 45678)",
            received: b"sip:203.0.113.77:61234",
            instance: b"<urn:uuid:00000000-0000-1000-8000-aabbccddeeff>",
            socket: b"udp:198.51.100.20:5060",
            branch_flags: b"RM_ON_TIMEOUT SIP_PING NAT",
            key_values: br#"{"_st":"service"}"#,
            ..NewContact::default()
        };
        let bytes = contact(&new).size_bytes() + size_of::<Slot>();
        assert!(bytes < 550, "{bytes} bytes");
    }
}
