//! What a call remembers of its destinations: a section of its dialog, so that another node can
//! go on with it.

use bytes::Bytes;

use crate::choose::Flags;

/// Version of the bytes.
const VERSION: u8 = 1;
/// Resources that a call wants.
pub(crate) const RESOURCES_MAX: usize = 16;
/// Destinations that a call has tried.
const TRIED_MAX: usize = 255;

/// The section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) group: i64,
    pub(crate) flags: Flags,
    pub(crate) resources: Vec<String>,
    /// URIs of destinations; the last one is in use.
    pub(crate) tried: Vec<Bytes>,
}

/// The names of resources: `pstn;transcoding`.
pub(crate) fn resources(text: &str) -> Result<Vec<String>, String> {
    let mut all: Vec<String> = Vec::new();
    for name in text.split(';').map(str::trim).filter(|name| !name.is_empty()) {
        if !all.iter().any(|known| known == name) {
            all.push(name.to_owned());
        }
    }
    match all.len() {
        0 => Err("no resource is named: they are written \"pstn;transcoding\"".into()),
        n if n > RESOURCES_MAX => Err(format!("{n} resources are named; {RESOURCES_MAX} may be")),
        _ => Ok(all),
    }
}

/// Judges literal names.
pub(crate) fn check_resources(text: &str) -> Result<(), String> {
    resources(text).map(|_| ())
}

impl Session {
    /// The destination in use.
    pub(crate) fn current(&self) -> Option<&Bytes> {
        self.tried.last()
    }

    /// Whether as many were tried as it can remember: no further one could be counted.
    pub(crate) fn is_full(&self) -> bool {
        self.tried.len() >= TRIED_MAX
    }

    pub(crate) fn to_bytes(&self) -> Bytes {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.group.to_le_bytes());
        out.push(self.flags.bits());
        out.push(self.resources.len() as u8);
        self.resources.iter().for_each(|name| put(&mut out, name.as_bytes()));
        out.push(self.tried.len() as u8);
        self.tried.iter().for_each(|uri| put(&mut out, uri));
        Bytes::from(out)
    }

    /// `None`: it is none, or one of another version.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        if byte(&mut rest)? != VERSION {
            return None;
        }
        let (group, after) = rest.split_at_checked(8)?;
        rest = after;
        let group = i64::from_le_bytes(group.try_into().ok()?);
        let flags = Flags::of_bits(byte(&mut rest)?);
        let (mut resources, mut tried) = (Vec::new(), Vec::new());
        for _ in 0..byte(&mut rest)? {
            resources.push(std::str::from_utf8(take(&mut rest)?).ok()?.to_owned());
        }
        for _ in 0..byte(&mut rest)? {
            tried.push(Bytes::copy_from_slice(take(&mut rest)?));
        }
        rest.is_empty().then_some(Self { group, flags, resources, tried })
    }
}

fn put(out: &mut Vec<u8>, text: &[u8]) {
    let text = text.get(..usize::from(u16::MAX)).unwrap_or(text);
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text);
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    Some(*first)
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, after) = rest.split_at_checked(2)?;
    let len = u16::from_le_bytes(len.try_into().ok()?);
    let (text, after) = after.split_at_checked(usize::from(len))?;
    *rest = after;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn resources_are_separated_by_semicolons() {
        assert_eq!(resources(" pstn ;t;pstn;").unwrap(), ["pstn", "t"]);
        assert!(resources(" ; ").is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            group: i64, bits in 0u8..8, names in proptest::collection::vec("[a-z]{1,9}", 0..4),
            uris in proptest::collection::vec("sip:[a-z]{0,9}", 0..4)
        ) {
            let tried = uris.into_iter().map(Bytes::from).collect();
            let session = Session { group, flags: Flags::of_bits(bits), resources: names, tried };
            let bytes = session.to_bytes();
            prop_assert_eq!(Session::parse(&bytes), Some(session));
            prop_assert_eq!(Session::parse(&bytes[..bytes.len() - 1]), None);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Session::parse(&bytes);
        }
    }
}
