//! `load_balancer-status-repl`: the states of destinations. Version 1.

use bytes::Bytes;

use crate::{Malformed, Reader, TooBig, Writer};

/// Name of the capability.
pub const CAPABILITY: &[u8] = b"load_balancer-status-repl";
/// The one version there is.
pub const VERSION: u16 = 1;
/// The packet type of a destination's state.
pub const STATUS: u32 = 1;
/// Flag: it is disabled.
pub const DISABLED: i32 = 4;
/// Flag: probing does not enable it again.
pub const HELD: i32 = 8;

/// The state of a destination: a packet, and a chunk of a sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub group: i32,
    pub uri: Bytes,
    pub flags: i32,
}

impl Status {
    /// Reads a payload of type 1, or a chunk.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(payload: &Bytes) -> Result<Self, Malformed> {
        let r = &mut Reader::new(payload.clone());
        Ok(Self { group: r.int("group")?, uri: r.str("uri")?, flags: r.int("flags")? })
    }

    /// The payload of type 1, or the chunk.
    ///
    /// # Errors
    /// When it is larger than a packet.
    pub fn encode(&self) -> Result<Bytes, TooBig> {
        let mut w = Writer::payload();
        w.int(self.group);
        w.str(&self.uri);
        w.int(self.flags);
        w.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn states_survive(group: i32, uri in "[a-z:]{0,19}", flags: i32) {
            let status = Status { group, uri: uri.into(), flags };
            prop_assert_eq!(Status::decode(&status.encode().unwrap()).unwrap(), status);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Status::decode(&Bytes::from(bytes));
        }
    }
}
