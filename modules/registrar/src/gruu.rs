//! GRUUs (RFC 5627): URIs that mean one instance of a user's phones, wherever it is.
//!
//! A public one is the AoR with the instance in `gr`. The user of a temporary one is sealed: it
//! holds the AoR and a mark of the instance and the Call-ID, so that it works as long as that
//! registration does, and tells nobody who it is. Nothing is kept for either.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use tandem_clock::Chance;
use tandem_engine::keys::{Key, Keys};
use tandem_sip::{Uri, unescape};
use tandem_usrloc::store::{Contact, Contacts, Text};

use crate::request::Refusal;

/// What temporary GRUUs are sealed for.
const PURPOSE: &str = "gruu";
/// Longest user of a temporary GRUU that is read.
const USER_BYTES_MAX: usize = 1_024;
/// No two temporary GRUUs of a registration are alike (RFC 5627 3.1.2).
const SALT_BYTES: usize = 4;

/// A Contact that is a GRUU of ours leads back to us (RFC 5627 5.1).
pub(crate) const CONTACT_IS_GRUU: Refusal = Refusal::new(403, "A GRUU is no contact");

/// The parameters of GRUUs.
#[derive(Clone, Debug)]
pub(crate) struct Gruu {
    /// Of `gruu_secret`; `None`: the node's own, which its peers know.
    pub(crate) key: Option<Key>,
}

/// Whom a GRUU means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meant {
    /// Public: the instance, without its `<>`.
    Instance(Vec<u8>),
    /// Temporary: the key of the AoR, and the mark of the registration.
    Registration { aor: Vec<u8>, mark: [u8; 8] },
    /// It is none of ours.
    Nobody,
}

impl Gruu {
    /// Whom a URI means; `None`: it is no GRUU.
    pub(crate) fn meant(&self, keys: &Keys, uri: &[u8]) -> Option<Meant> {
        let uri = Uri::parse(uri).ok()?;
        let value = uri.param(b"gr")?.unwrap_or_default();
        if !value.is_empty() {
            return Some(Meant::Instance(unescape(value).into_owned()));
        }
        Some(self.read(keys, uri.user.unwrap_or_default()).unwrap_or(Meant::Nobody))
    }

    fn read(&self, keys: &Keys, user: &[u8]) -> Option<Meant> {
        if user.len() > USER_BYTES_MAX {
            return None;
        }
        let sealed = BASE64.decode(user).ok()?;
        let text = match &self.key {
            Some(key) => key.open(PURPOSE, &sealed),
            None => keys.open(PURPOSE, &sealed),
        };
        let text = text?;
        let (_, rest) = text.split_at_checked(SALT_BYTES)?;
        let (mark, aor) = rest.split_first_chunk::<8>()?;
        Some(Meant::Registration { aor: aor.to_vec(), mark: *mark })
    }

    /// Adds the GRUUs of a contact to its values in a reply; `to` is the AoR as the client wrote
    /// it. A contact without an instance has none.
    pub(crate) fn write(
        &self,
        out: &mut Vec<u8>,
        (keys, chance): (&Keys, &mut Chance),
        to: &Uri<'_>,
        contact: &Contact,
    ) {
        let instance = contact.text(Text::Instance);
        if instance.is_empty() || instance.contains(&b'"') {
            return;
        }
        let scheme: &[u8] = if to.is_sips() { b"sips:" } else { b"sip:" };
        let user = to.user.unwrap_or_default();
        let at: &[u8] = if user.is_empty() { b"" } else { b"@" };
        let host = to.host;
        for part in [b";+sip.instance=\"", instance, b"\";pub-gruu=\"", scheme, user, at, host] {
            out.extend_from_slice(part);
        }
        out.extend_from_slice(b";gr=");
        escape(out, bare(instance));
        let salt = chance.u32().to_be_bytes();
        let text = [&salt[..], &mark_of(contact), contact.aor()].concat();
        let sealed = match &self.key {
            Some(key) => key.seal(PURPOSE, &text),
            None => keys.seal(PURPOSE, &text),
        };
        let user = BASE64.encode(sealed);
        for part in [b"\";temp-gruu=\"", scheme, user.as_bytes(), b"@", host, b";gr\""] {
            out.extend_from_slice(part);
        }
    }
}

impl Meant {
    /// Leaves the contact that is meant: of several, the one that registered last (RFC 5627 5.1).
    pub(crate) fn choose(&self, contacts: &mut Contacts) {
        contacts.retain(|contact| match self {
            Self::Instance(instance) => {
                bare(contact.text(Text::Instance)).eq_ignore_ascii_case(instance)
            }
            Self::Registration { mark, .. } => {
                !contact.text(Text::Instance).is_empty() && mark_of(contact) == *mark
            }
            Self::Nobody => false,
        });
        let last = contacts.iter().max_by_key(|c| (c.last_modified_s(), c.stamp())).map(|c| c.id);
        contacts.retain(|c| Some(c.id) == last);
    }
}

/// The value of `+sip.instance` without its `<>`.
fn bare(instance: &[u8]) -> &[u8] {
    instance.strip_prefix(b"<").and_then(|i| i.strip_suffix(b">")).unwrap_or(instance)
}

/// Tells the registrations of an AoR apart. The seal keeps others from making one up.
fn mark_of(contact: &Contact) -> [u8; 8] {
    let step = |hash: u64, b: &u8| (hash ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3);
    let texts = contact.text(Text::Instance).iter().chain(b"\0").chain(contact.call_id());
    texts.fold(0xcbf2_9ce4_8422_2325, step).to_be_bytes()
}

/// Writes what stands in a URI parameter as it is (RFC 3261 25.1), and the rest escaped.
fn escape(out: &mut Vec<u8>, text: &[u8]) {
    for b in text {
        if b.is_ascii_alphanumeric() || b"-_.!~*'()[]/:&+$".contains(b) {
            out.push(*b);
        } else {
            out.extend_from_slice(format!("%{b:02X}").as_bytes());
        }
    }
}
