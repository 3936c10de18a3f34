//! How a new contact finds the one it replaces (`matching_mode`, flag `matching-mode`).

use tandem_sip::{Uri, uris_equal};

use super::contact::Contact;

/// A matching mode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Matching {
    /// 0: URIs that are equal by RFC 3261 19.1.4.
    #[default]
    Uri,
    /// 1: the same URI text and Call-ID.
    UriCallId,
    /// `<name>`: the named URI parameters, where both URIs carry them.
    Params(Vec<Box<[u8]>>),
    /// The named URI parameters, which both URIs must carry: push contacts (RFC 8599).
    AllParams(Vec<Box<[u8]>>),
}

/// Names that one mode may list; more are cut.
pub const MATCH_PARAMS_MAX: usize = 16;

impl Matching {
    /// Reads `0`, `1` or `<name>`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "0" => Some(Self::Uri),
            "1" => Some(Self::UriCallId),
            _ => {
                let name = text.strip_prefix('<')?.strip_suffix('>')?;
                (!name.is_empty()).then(|| Self::Params(vec![name.as_bytes().into()]))
            }
        }
    }

    /// Whether URI and Call-ID together name a contact.
    pub fn is_keyed_by_call_id(&self) -> bool {
        *self == Self::UriCallId
    }

    /// Whether `contact` is the one that a request with this URI and Call-ID means.
    pub fn matches(&self, contact: &Contact, uri: &[u8], call_id: &[u8]) -> bool {
        match self {
            Self::Uri => contact.uri() == uri || same_uri(contact.uri(), uri),
            Self::UriCallId => contact.uri() == uri && contact.call_id() == call_id,
            Self::AllParams(names) => names.iter().take(MATCH_PARAMS_MAX).all(|name| {
                let own = uri_param(contact.uri(), name);
                own.is_some() && own == uri_param(uri, name)
            }),
            Self::Params(names) => names.iter().take(MATCH_PARAMS_MAX).all(|name| {
                match (uri_param(contact.uri(), name), uri_param(uri, name)) {
                    (Some(a), Some(b)) => a == b,
                    _ => true,
                }
            }),
        }
    }
}

fn same_uri(a: &[u8], b: &[u8]) -> bool {
    matches!((Uri::parse(a), Uri::parse(b)), (Ok(a), Ok(b)) if uris_equal(&a, &b))
}

/// The value of a URI parameter; empty when it has none.
fn uri_param<'a>(uri: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let uri = uri.split(|b| *b == b'?').next()?;
    // The user part may hold semicolons: parameters stand behind the host.
    let host = uri.iter().rposition(|b| *b == b'@').map_or(0, |at| at + 1);
    uri.get(host..)?.split(|b| *b == b';').skip(1).find_map(|param| {
        let mut halves = param.splitn(2, |b| *b == b'=');
        halves.next()?.eq_ignore_ascii_case(name).then(|| halves.next().unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::store::{NewContact, stamp_at, test_contact};

    fn stored(uri: &[u8], call_id: &[u8]) -> Arc<Contact> {
        let new = NewContact { uri, call_id, ..NewContact::default() };
        test_contact(b"a@h", &new, false, stamp_at(1, 1))
    }

    #[test]
    fn each_mode_looks_at_what_it_names() {
        let a = stored(b"sip:a@H:5060;rinstance=1", b"c1");
        let param = Matching::parse("<rinstance>").unwrap();
        assert!(Matching::Uri.matches(&a, b"sip:a@h:5060;rinstance=1", b"other"));
        assert!(!Matching::Uri.matches(&a, b"sip:b@h:5060;rinstance=1", b"c1"));
        assert!(Matching::UriCallId.matches(&a, b"sip:a@H:5060;rinstance=1", b"c1"));
        assert!(!Matching::UriCallId.matches(&a, b"sip:a@H:5060;rinstance=1", b"c2"));
        assert!(param.matches(&a, b"sip:z@elsewhere;rinstance=1", b"c2"));
        assert!(!param.matches(&a, b"sip:a@H:5060;rinstance=2", b"c1"));
        assert!(param.matches(&a, b"sip:a@h", b"c1"), "a missing one fits");
        let all = Matching::AllParams(vec![(*b"rinstance").into()]);
        assert!(all.matches(&a, b"sip:z@elsewhere;rinstance=1", b"c2"));
        assert!(!all.matches(&a, b"sip:a@h", b"c1"), "a missing one does not fit");
        assert!(param.matches(&a, b"sip:a;rinstance=2@h", b"c1"), "not a URI parameter");
    }

    #[test]
    fn a_mode_is_0_1_or_a_name_in_angle_brackets() {
        assert_eq!(Matching::parse("1"), Some(Matching::UriCallId));
        for bad in ["2", "", "<>", "<x", "x"] {
            assert_eq!(Matching::parse(bad), None, "{bad}");
        }
    }
}
