//! A contact: plain data in one allocation, never changed in place.

use std::sync::Arc;

use bytes::Bytes;
use tandem_cluster::Digester;

use super::shared::{Pool, Shared};
use super::{NotStored, Stamp, stamp_at};

/// The texts of a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

impl Text {
    /// All texts, in the order in which digests read them.
    pub const ALL: [Self; 10] = [
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

/// Texts in a contact's own buffer: the AoR, URI, Call-ID, Path, attr, received and instance.
const OWN: usize = 7;

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
///
/// It is one allocation: a head of fixed size, and behind it the texts `T`, of some length
/// wherever a contact is used. What is usually the same for many contacts is shared.
pub struct Contact<T: ?Sized = [u8]> {
    stamp_us: u64,
    /// Contact id as management shows it and pings carry it.
    pub id: u64,
    /// Of the replicated fields.
    pub(super) digest: u64,
    pub(super) shared: Arc<Shared>,
    /// Unix seconds, as all times of a contact: 32 bits reach to the year 2106.
    expires_s: u32,
    last_modified_s: u32,
    stamp_node: u32,
    pub cseq: u32,
    ends: [u16; OWN],
    texts: T,
}

/// The head of a contact, before its texts have found their place.
struct Head {
    stamp: Stamp,
    shared: Arc<Shared>,
    expires_s: u32,
    last_modified_s: u32,
    cseq: u32,
    ends: [u16; OWN],
}

/// Puts a contact into one allocation with room for `N` bytes of texts. Not inlined, since each
/// size has a buffer of its own on the stack.
#[inline(never)]
fn seal<const N: usize>(head: Head, parts: &[&[u8]; OWN]) -> Arc<Contact> {
    let mut texts = [0; N];
    let mut rest = &mut texts[..];
    for part in parts {
        let (to, left) = rest.split_at_mut(part.len());
        to.copy_from_slice(part);
        rest = left;
    }
    Arc::new(Contact {
        stamp_us: head.stamp.time_us,
        stamp_node: head.stamp.node,
        id: 0,
        digest: 0,
        shared: head.shared,
        expires_s: head.expires_s,
        last_modified_s: head.last_modified_s,
        cseq: head.cseq,
        ends: head.ends,
        texts,
    })
}

macro_rules! seal_in_class {
    ($len:expr, $head:expr, $parts:expr; $($size:literal)*) => {
        match $len {
            $(len if len <= $size => Ok(seal::<$size>($head, $parts)),)*
            _ => Err(NotStored::TooLong),
        }
    };
}

fn seal_fitting(len: usize, head: Head, parts: &[&[u8]; OWN]) -> Result<Arc<Contact>, NotStored> {
    seal_in_class!(len, head, parts;
        16 32 48 64 80 96 112 128 144 160 176 192 208 224 240 256 272 288 304 320 336 352 368 384
        400 416 432 448 464 480 496 512 640 768 896 1024 1280 1536 1792 2048 2560 3072 4096 6144
        8192 12288 16384 24576 32768 49152 65535)
}

/// The names in a list of branch flags, which each node may have in another order.
fn names(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|b| *b == b' ').filter(|name| !name.is_empty())
}

impl Contact {
    /// A contact of an AoR with id 0; `old` is the one it replaces, if any.
    pub(super) fn new(
        aor: &[u8],
        new: &NewContact<'_>,
        keyed_by_call_id: bool,
        stamp: Stamp,
        scope: Digester,
        pool: &Pool,
        old: Option<&Self>,
    ) -> Result<Arc<Self>, NotStored> {
        let parts = [aor, new.uri, new.call_id, new.path, new.attr, new.received, new.instance];
        let (mut len, mut ends) = (0usize, [0; OWN]);
        for (part, end) in parts.iter().zip(&mut ends) {
            len += part.len();
            *end = u16::try_from(len).map_err(|_| NotStored::TooLong)?;
        }
        let others = [new.user_agent, new.socket, new.branch_flags, new.key_values];
        if len + others.iter().map(|t| t.len()).sum::<usize>() > TEXTS_MAX {
            return Err(NotStored::TooLong);
        }
        let seconds = |s: u64| u32::try_from(s).unwrap_or(u32::MAX);
        let head = Head {
            stamp,
            shared: pool.of(new, keyed_by_call_id, old.map(|old| &old.shared)),
            expires_s: seconds(new.expires_s),
            last_modified_s: seconds(new.last_modified_s),
            cseq: new.cseq,
            ends,
        };
        let mut contact = seal_fitting(len, head, &parts)?;
        if let Some(contact) = Arc::get_mut(&mut contact) {
            contact.digest = contact.digest_in(scope);
        }
        Ok(contact)
    }

    /// What of it is replicated, in a number.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    fn digest_in(&self, mut scope: Digester) -> u64 {
        for text in Text::ALL {
            match text {
                Text::BranchFlags => {
                    scope.unordered(names(self.text(text)), |one, name| one.text(name))
                }
                _ => scope.text(self.text(text)),
            }
        }
        scope.number(u64::from(self.expires_s));
        scope.number(u64::from(self.last_modified_s));
        scope.number(self.stamp_us);
        scope.number(u64::from(self.stamp_node));
        scope.number(u64::from(self.cseq) << 32 | u64::from(self.methods()));
        scope.number(u64::from(self.flags() & !FLAG_MEMORY_ONLY));
        scope.number(self.q() as u64);
        scope.number(u64::from(self.keyed_by_call_id()));
        scope.end()
    }

    fn own(&self, at: usize) -> &[u8] {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.texts.get(usize::from(start)..usize::from(self.ends[at])).unwrap_or_default()
    }

    /// The AoR it belongs to.
    pub fn aor(&self) -> &[u8] {
        self.own(0)
    }

    pub fn text(&self, text: Text) -> &[u8] {
        match text {
            Text::Uri => self.own(1),
            Text::CallId => self.own(2),
            Text::Path => self.own(3),
            Text::Attr => self.own(4),
            Text::Received => self.own(5),
            Text::Instance => self.own(6),
            Text::UserAgent => &self.shared.user_agent,
            Text::Socket => &self.shared.socket,
            Text::BranchFlags => &self.shared.branch_flags,
            Text::KeyValues => &self.shared.key_values,
        }
    }

    /// A text that outlives the contact.
    pub fn bytes(&self, text: Text) -> Bytes {
        Bytes::copy_from_slice(self.text(text))
    }

    pub fn uri(&self) -> &[u8] {
        self.own(1)
    }

    pub fn call_id(&self) -> &[u8] {
        self.own(2)
    }

    /// Where requests for the contact are sent when it is behind NAT; empty: to its URI.
    pub fn received(&self) -> &[u8] {
        self.own(5)
    }

    /// Unix seconds; 0: never.
    pub fn expires_s(&self) -> u64 {
        u64::from(self.expires_s)
    }

    /// Unix seconds.
    pub fn last_modified_s(&self) -> u64 {
        u64::from(self.last_modified_s)
    }

    /// When and where it was written.
    pub fn stamp(&self) -> Stamp {
        stamp_at(self.stamp_us, self.stamp_node)
    }

    pub fn methods(&self) -> u32 {
        self.shared.methods
    }

    pub fn flags(&self) -> u32 {
        self.shared.flags
    }

    /// q x 1000, or [`Q_UNSET`].
    pub fn q(&self) -> i16 {
        self.shared.q
    }

    /// URI and Call-ID together name the contact within its AoR; else the URI alone.
    pub fn keyed_by_call_id(&self) -> bool {
        self.shared.keyed_by_call_id
    }

    pub fn is_expired(&self, now_s: u64) -> bool {
        self.expires_s != 0 && self.expires_s() <= now_s
    }

    /// Seconds left; `None`: it is permanent.
    pub fn remaining_s(&self, now_s: u64) -> Option<u64> {
        (self.expires_s != 0).then(|| self.expires_s().saturating_sub(now_s))
    }

    /// Whether this node may have to write it to SQL.
    pub fn is_memory_only(&self) -> bool {
        self.flags() & FLAG_MEMORY_ONLY != 0
    }

    /// Whether it is woken by push notifications.
    pub fn is_push(&self) -> bool {
        self.flags() & FLAG_PUSH != 0
    }

    /// The sharing tag that owns the contact: `_st` of the key/values.
    pub fn sharing_tag(&self) -> Option<String> {
        super::keys::get(self.text(Text::KeyValues), super::keys::TAG)
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
            expires_s: self.expires_s(),
            last_modified_s: self.last_modified_s(),
            cseq: self.cseq,
            q: self.q(),
            flags: self.flags(),
            methods: self.methods(),
            id: None,
        }
    }

    /// Whether only the lifetime differs from `old`: a refresh.
    pub(super) fn only_refreshes(&self, old: &Self) -> bool {
        let same_parts = Arc::ptr_eq(&self.shared, &old.shared) || self.shared == old.shared;
        same_parts && self.ends == old.ends && self.texts == old.texts
    }

    /// Whether nothing but key/values differs from `old`.
    pub(crate) fn only_has_other_keys(&self, old: &Self) -> bool {
        let was = old.as_new();
        self.as_new() == NewContact { key_values: self.text(Text::KeyValues), ..was }
            && self.text(Text::KeyValues) != old.text(Text::KeyValues)
    }

    /// What it has in common with others of its kind.
    pub fn shape(&self) -> Shape {
        Shape(Arc::clone(&self.shared))
    }

    /// Bytes it takes in memory, without what it shares.
    pub fn size_bytes(&self) -> usize {
        size_of_val(self)
    }
}

/// What many contacts have in common: socket, branch flags, key/values and such. What follows
/// from these alone need not be found out for each contact again.
#[derive(Clone, Debug)]
pub struct Shape(Arc<Shared>);

impl Shape {
    pub fn is_of(&self, contact: &Contact) -> bool {
        Arc::ptr_eq(&self.0, &contact.shared)
    }
}

/// Texts of a contact all together, at most.
const TEXTS_MAX: usize = 0xffff;

impl PartialEq for Contact {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.aor() == other.aor() && self.is_same_state(other)
    }
}

impl Eq for Contact {}

impl Contact {
    /// Whether everything that is replicated is equal.
    pub fn is_same_state(&self, other: &Self) -> bool {
        self.as_new() == other.as_new()
            && self.stamp() == other.stamp()
            && self.keyed_by_call_id() == other.keyed_by_call_id()
    }
}

impl std::fmt::Debug for Contact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (new, id) = (self.as_new(), self.id);
        write!(f, "Contact({id} {:?} ", String::from_utf8_lossy(new.uri))?;
        write!(f, "{:?} cseq {} ", String::from_utf8_lossy(new.call_id), self.cseq)?;
        write!(f, "expires {} stamp {:?})", self.expires_s, self.stamp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(new: &NewContact<'_>) -> Result<Arc<Contact>, NotStored> {
        let pool = Pool::new(ahash::RandomState::with_seed(1));
        let stamp = stamp_at(1, 1);
        Contact::new(b"a@example.org", new, false, stamp, Digester::default(), &pool, None)
    }

    fn contact(new: &NewContact<'_>) -> Arc<Contact> {
        made(new).unwrap()
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
        assert_eq!(made(&new).unwrap_err(), NotStored::TooLong);
        let longest = vec![b'x'; 65_000];
        let new = NewContact { path: &longest, ..NewContact::default() };
        assert_eq!(contact(&new).text(Text::Path), longest);
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
        let bytes = contact(&new).size_bytes();
        assert!(bytes < 330, "{bytes} bytes");
    }
}
