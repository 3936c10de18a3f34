//! Names of the DNS, and questions about them.

use std::fmt;

/// A domain name in lower case, without the dot at its end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

impl Name {
    /// A name as it is written; `None` if it cannot be one: an empty or too long label, a byte
    /// that is no letter, digit, hyphen or underscore, an address.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = text.strip_suffix(b".").unwrap_or(text);
        if text.is_empty() || text.len() > 253 {
            return None;
        }
        let fits = |label: &[u8]| {
            let good = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
            (1..=63).contains(&label.len()) && label.iter().all(good)
        };
        if !text.split(|b| *b == b'.').all(fits) {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        // What looks like an address is none that could be read.
        let numeric = text.rsplit('.').next()?.bytes().all(|b| b.is_ascii_digit());
        (!numeric).then(|| Self(text.to_ascii_lowercase().into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the servers of a service in this domain: `_sip._udp.` in front.
    pub(crate) fn service(&self, prefix: &str) -> Option<Self> {
        Self::parse(format!("{prefix}{}", self.0).as_bytes())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The kinds of records that lead to a SIP server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    A,
    Aaaa,
    Srv,
    Naptr,
}

/// What is asked of the DNS.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Question {
    pub name: Name,
    pub kind: RecordKind,
}

impl Question {
    pub fn new(name: &Name, kind: RecordKind) -> Self {
        Self { name: name.clone(), kind }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_lowered_and_what_is_none_is_refused() {
        let name = |text: &str| Name::parse(text.as_bytes()).map(|n| n.to_string());
        assert_eq!(name("Sip.Example.ORG."), Some("sip.example.org".into()));
        assert_eq!(name("uas"), Some("uas".into()));
        assert_eq!(name("_sip._udp.example.org"), Some("_sip._udp.example.org".into()));
        for bad in ["", ".", "a..b", "a b", "10.0.0.1", "10.0.0.256", "[::1]", "x;y"] {
            assert_eq!(name(bad), None, "{bad}");
        }
        assert_eq!(name(&"a".repeat(64)), None);
        assert_eq!(name(&vec!["a".repeat(60); 5].join(".")), None);
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(text: Vec<u8>) {
            if let Some(name) = Name::parse(&text) {
                prop_assert_eq!(Name::parse(name.as_str().as_bytes()), Some(name));
            }
        }
    }
}
