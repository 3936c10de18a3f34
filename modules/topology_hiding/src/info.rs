//! What the Contact holds: how the hidden side is reached.
//!
//! Fields of 2 bytes length (little endian) and text, behind a version and the flags.

/// Version of the encoding.
const VERSION: u8 = 1;
/// The version with a socket at its end.
const WITH_SOCKET: u8 = 2;
/// Routes of one side.
const ROUTES_MAX: usize = 64;

/// The Call-ID is encoded for the callee.
pub(crate) const CALL_ID: u8 = 1;
/// The user of Contact is shown.
pub(crate) const USER: u8 = 2;

/// How a side is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Info {
    pub(crate) flags: u8,
    /// The URI of its Contact.
    pub(crate) contact: Vec<u8>,
    /// Its routes, the nearest first.
    pub(crate) routes: Vec<Vec<u8>>,
    /// The routes of the side that gets this, when they are known: they go into the Contact of
    /// its next request.
    pub(crate) own_routes: Vec<Vec<u8>>,
    /// The socket of this node on its side; empty: that which its requests come to.
    pub(crate) socket: Vec<u8>,
}

impl Info {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let version = if self.socket.is_empty() { VERSION } else { WITH_SOCKET };
        let mut out = vec![version, self.flags];
        field(&mut out, &self.contact);
        for list in [&self.routes, &self.own_routes] {
            out.push(list.len().min(ROUTES_MAX) as u8);
            list.iter().take(ROUTES_MAX).for_each(|route| field(&mut out, route));
        }
        if version == WITH_SOCKET {
            field(&mut out, &self.socket);
        }
        out
    }

    /// `None`: it is none.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (head, mut rest) = bytes.split_at_checked(2)?;
        let [version @ (VERSION | WITH_SOCKET), flags] = head else { return None };
        let contact = take(&mut rest)?;
        let mut lists = [Vec::new(), Vec::new()];
        for list in &mut lists {
            let (count, after) = rest.split_first()?;
            rest = after;
            if usize::from(*count) > ROUTES_MAX {
                return None;
            }
            for _ in 0..*count {
                list.push(take(&mut rest)?);
            }
        }
        let [routes, own_routes] = lists;
        let socket = if *version == WITH_SOCKET { take(&mut rest)? } else { Vec::new() };
        let is_whole = rest.is_empty() && !contact.is_empty();
        is_whole.then_some(Self { flags: *flags, contact, routes, own_routes, socket })
    }
}

fn field(out: &mut Vec<u8>, text: &[u8]) {
    let text = text.get(..usize::from(u16::MAX)).unwrap_or(text);
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text);
}

fn take(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let (len, after) = rest.split_at_checked(2)?;
    let len = u16::from_le_bytes(len.try_into().ok()?);
    let (text, after) = after.split_at_checked(usize::from(len))?;
    *rest = after;
    Some(text.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            flags in any::<u8>(), contact in "[a-z]{1,9}",
            routes in proptest::collection::vec("[a-z]{0,9}", 0..4), socket in "[a-z]{0,9}"
        ) {
            let list: Vec<Vec<u8>> = routes.into_iter().map(String::into_bytes).collect();
            let own_routes = list.clone();
            let (contact, socket) = (contact.into_bytes(), socket.into_bytes());
            let info = Info { flags, contact, routes: list, own_routes, socket };
            prop_assert_eq!(Info::parse(&info.to_bytes()), Some(info));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Info::parse(&bytes);
        }
    }
}
