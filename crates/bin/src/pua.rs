//! `pua`: records of published states. Version 1.

use bytes::Bytes;

use crate::{Malformed, Reader, TooBig, Writer};

/// Name of the capability.
pub const CAPABILITY: &[u8] = b"pua";
/// The one version there is.
pub const VERSION: u16 = 1;
/// The packet type of a record that has changed in the common database.
pub const UPDATE: u32 = 1;
/// What stands for a text that is not there.
const NONE: &[u8] = b" ";

/// A record that has changed in the common database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    pub uri: Bytes,
    /// Who publishes: one bit.
    pub source: u32,
    pub id: Bytes,
    /// The event: one bit.
    pub event: u32,
    /// Empty: none.
    pub etag: Bytes,
}

impl Update {
    /// Reads a payload of type 1.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(payload: &Bytes) -> Result<Self, Malformed> {
        let r = &mut Reader::new(payload.clone());
        let (uri, source) = (r.str("pres_uri")?, r.uint("flag")?);
        let (id, event, etag) = (r.str("id")?, r.uint("event")?, r.str("etag")?);
        let etag = if etag == NONE { Bytes::new() } else { etag };
        Ok(Self { uri, source, id, event, etag })
    }

    /// The payload of type 1.
    ///
    /// # Errors
    /// When it is larger than a packet.
    pub fn encode(&self) -> Result<Bytes, TooBig> {
        let mut w = Writer::payload();
        w.str(&self.uri);
        w.uint(self.source);
        w.str(&self.id);
        w.uint(self.event);
        w.str(if self.etag.is_empty() { NONE } else { &self.etag });
        w.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_not_there_is_a_blank() {
        let update = Update {
            uri: Bytes::from_static(b"sip:a@x"),
            source: 1024,
            id: Bytes::from_static(b"c.0"),
            event: 64,
            etag: Bytes::new(),
        };
        let bytes = update.encode().unwrap();
        assert_eq!(bytes.get(bytes.len() - 3..), Some(&b"\x01\0 "[..]));
        assert_eq!(Update::decode(&bytes).unwrap(), update);
    }

    proptest! {
        #[test]
        fn updates_survive(
            uri in "[a-z:@]{0,9}", id in "[a-z]{0,9}", etag in "[a-z.]{0,9}", source: u32,
            event: u32
        ) {
            let update =
                Update { uri: uri.into(), source, id: id.into(), event, etag: etag.into() };
            prop_assert_eq!(Update::decode(&update.encode().unwrap()).unwrap(), update);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Update::decode(&Bytes::from(bytes));
        }
    }
}
