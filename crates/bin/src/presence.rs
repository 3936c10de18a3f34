//! `presence`: publications, and questions for them. Version 1.

use bytes::Bytes;

use crate::{Malformed, Reader, TooBig, Writer};

/// Name of the capability.
pub const CAPABILITY: &[u8] = b"presence";
/// The one version there is.
pub const VERSION: u16 = 1;
/// The packet type of a publication.
pub const PUBLISH: u32 = 1;
/// The packet type of a question.
pub const QUERY: u32 = 2;

/// What stands for a text that is not there, where an empty one would be read as something else.
const NONE: &[u8] = b" ";

/// A publication that was made, changed or removed; also a record of a sync.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    pub user: Bytes,
    pub domain: Bytes,
    pub event: Bytes,
    /// The ETag it had before; empty: none.
    pub old_etag: Bytes,
    /// The ETag it has now; empty: it was removed.
    pub new_etag: Bytes,
    /// Seconds from now; 0: it was removed.
    pub expires_s: i32,
    /// Unix seconds.
    pub received_s: i32,
    /// Empty: none; so are the next two.
    pub sender: Bytes,
    pub extra_headers: Bytes,
    pub sphere: Bytes,
    pub body: Bytes,
}

/// Who knows something about a presentity?
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    pub uri: Bytes,
    pub event: Bytes,
}

impl Publish {
    /// Reads a payload of type 1, or a chunk of a sync.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(payload: &Bytes) -> Result<Self, Malformed> {
        let r = &mut Reader::new(payload.clone());
        Ok(Self {
            user: r.str("user")?,
            domain: r.str("domain")?,
            event: r.str("event")?,
            old_etag: optional(r, "old_etag")?,
            new_etag: r.str("new_etag")?,
            expires_s: r.int("expires")?,
            received_s: r.int("received_time")?,
            sender: optional(r, "sender")?,
            extra_headers: optional(r, "extra_hdrs")?,
            sphere: optional(r, "sphere")?,
            body: r.str("body")?,
        })
    }

    /// The payload.
    ///
    /// # Errors
    /// When it is larger than a packet.
    pub fn encode(&self) -> Result<Bytes, TooBig> {
        let mut w = Writer::payload();
        w.str(&self.user);
        w.str(&self.domain);
        w.str(&self.event);
        write_optional(&mut w, &self.old_etag);
        w.str(&self.new_etag);
        w.int(self.expires_s);
        w.int(self.received_s);
        write_optional(&mut w, &self.sender);
        write_optional(&mut w, &self.extra_headers);
        write_optional(&mut w, &self.sphere);
        w.str(&self.body);
        w.finish()
    }
}

impl Query {
    /// Reads a payload of type 2.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(payload: &Bytes) -> Result<Self, Malformed> {
        let r = &mut Reader::new(payload.clone());
        Ok(Self { uri: r.str("pres_uri")?, event: r.str("event")? })
    }

    /// The payload.
    ///
    /// # Errors
    /// When it is larger than a packet.
    pub fn encode(&self) -> Result<Bytes, TooBig> {
        let mut w = Writer::payload();
        w.str(&self.uri);
        w.str(&self.event);
        w.finish()
    }
}

fn optional(r: &mut Reader, field: &'static str) -> Result<Bytes, Malformed> {
    let text = r.str(field)?;
    Ok(if *text == *NONE { Bytes::new() } else { text })
}

fn write_optional(w: &mut Writer, text: &[u8]) {
    w.str(if text.is_empty() { NONE } else { text });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn publications_and_questions_survive(
            texts in proptest::collection::vec("[a-z]{0,9}", 9), expires_s: i32, received_s: i32
        ) {
            let mut texts = texts.into_iter().map(Bytes::from);
            let mut next = || texts.next().unwrap_or_default();
            let publish = Publish {
                user: next(), domain: next(), event: next(), old_etag: next(), new_etag: next(),
                expires_s, received_s, sender: next(), extra_headers: next(), sphere: next(),
                body: next(),
            };
            prop_assert_eq!(Publish::decode(&publish.encode().unwrap()).unwrap(), publish.clone());
            let query = Query { uri: publish.user, event: publish.event };
            prop_assert_eq!(Query::decode(&query.encode().unwrap()).unwrap(), query);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let bytes = Bytes::from(bytes);
            let _ = Publish::decode(&bytes);
            let _ = Query::decode(&bytes);
        }
    }
}
