//! `dialog-prof-repl`: how many dialogs a node has in the profiles that it shares.

use bytes::Bytes;

use crate::{Malformed, Reader, TooBig, Writer};

/// Name of the capability.
pub const CAPABILITY: &[u8] = b"dialog-prof-repl";
/// The number that is written; no reader looks at it.
pub const VERSION: u16 = 4;
/// The one packet type.
pub const COUNTERS: u32 = 4;
/// A packet is closed at this size, in bytes.
pub const PACKET_BYTES: usize = 1400;

/// Dialogs of one node in a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Without the suffix.
    pub profile: Bytes,
    /// `None`: the profile has no values.
    pub value: Option<Bytes>,
    /// The node's own count.
    pub count: i32,
}

impl Counter {
    /// Bytes of this counter on the wire.
    pub fn wire_len(&self) -> usize {
        2 + self.profile.len() + 8 + self.value.as_ref().map_or(0, |value| 2 + value.len())
    }
}

/// Reads a payload.
///
/// # Errors
/// What is wrong with it.
pub fn decode(payload: &Bytes) -> Result<Vec<Counter>, Malformed> {
    let r = &mut Reader::new(payload.clone());
    let mut counters = Vec::new();
    while !r.is_empty() {
        counters.push(Counter {
            profile: r.str("profile")?,
            value: if r.flag("has value")? { Some(r.str("value")?) } else { None },
            count: r.int("count")?,
        });
    }
    Ok(counters)
}

/// The payload.
///
/// # Errors
/// When it is larger than a packet.
pub fn encode(counters: &[Counter]) -> Result<Bytes, TooBig> {
    let mut w = Writer::payload();
    for counter in counters {
        w.str(&counter.profile);
        w.flag(counter.value.is_some());
        counter.value.iter().for_each(|value| w.str(value));
        w.int(counter.count);
    }
    w.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn counters_survive(
            names in proptest::collection::vec(any::<(Vec<u8>, Option<Vec<u8>>, i32)>(), 0..5)
        ) {
            let counter = |(profile, value, count): (Vec<u8>, Option<Vec<u8>>, i32)| Counter {
                profile: profile.into(), value: value.map(Bytes::from), count,
            };
            let counters: Vec<Counter> = names.into_iter().map(counter).collect();
            let payload = encode(&counters).unwrap();
            prop_assert_eq!(payload.len(), counters.iter().map(Counter::wire_len).sum::<usize>());
            prop_assert_eq!(decode(&payload).unwrap(), counters);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = decode(&Bytes::from(bytes));
        }
    }
}
