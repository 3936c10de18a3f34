//! From a stream to frames.

use crate::packet::MARKER;
use crate::{FrameError, PACKET_BYTES_MAX, PACKET_BYTES_MIN};
use bytes::{Bytes, BytesMut};

const HEADER_BYTES: usize = 10;

/// Cuts the bytes of one connection into frames. Between two calls it holds less than one
/// packet, provided that the caller takes frames until there is none.
#[derive(Debug, Default)]
pub struct Framer {
    buf: BytesMut,
    broken: Option<FrameError>,
}

impl Framer {
    /// Adds bytes in the order in which they were read. After an error they are ignored.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.broken.is_none() {
            self.buf.extend_from_slice(bytes);
        }
    }

    /// The next whole frame. An error is final: the connection has to be closed.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        self.cut().inspect_err(|&error| {
            self.broken = Some(error);
            self.buf = BytesMut::new();
        })
    }

    /// Bytes of the packet that is not complete yet.
    pub fn pending_bytes(&self) -> usize {
        self.buf.len()
    }

    fn cut(&mut self) -> Result<Option<Bytes>, FrameError> {
        let seen = self.buf.len().min(MARKER.len());
        if self.buf.get(..seen) != MARKER.get(..seen) {
            return Err(FrameError::Marker);
        }
        if self.buf.len() < HEADER_BYTES {
            return Ok(None);
        }
        let Some(&[a, b, c, d]) = self.buf.get(4..8) else { return Ok(None) };
        let length = u32::from_le_bytes([a, b, c, d]);
        let bytes = length as usize;
        if !(PACKET_BYTES_MIN..=PACKET_BYTES_MAX).contains(&bytes) {
            return Err(FrameError::Length(length));
        }
        if self.buf.len() < bytes {
            return Ok(None);
        }
        Ok(Some(self.buf.split_to(bytes).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Packet, Trailer};
    use proptest::prelude::*;

    fn packet(n: u32) -> Bytes {
        Packet {
            capability: Bytes::from_static(b"x"),
            packet_type: n,
            version: 1,
            payload: Bytes::from(vec![7; n as usize]),
            trailer: Some(Trailer::new(1, 2, 3)),
        }
        .encode()
        .unwrap()
    }

    #[test]
    fn a_length_outside_the_limits_is_final() {
        let mut framer = Framer::default();
        framer.push(b"P4CK\x10\0\0\0\x01\0");
        assert_eq!(framer.next_frame(), Err(FrameError::Length(16)));
        framer.push(&packet(1));
        assert_eq!(framer.next_frame(), Err(FrameError::Length(16)));
        assert_eq!(framer.pending_bytes(), 0);
    }

    #[test]
    fn a_wrong_marker_is_seen_with_its_first_byte() {
        let mut framer = Framer::default();
        framer.push(b"G");
        assert_eq!(framer.next_frame(), Err(FrameError::Marker));
    }

    proptest! {
        #[test]
        fn segment_boundaries_carry_no_meaning(
            sizes in prop::collection::vec(0u32..300, 1..8), step in 1usize..97,
        ) {
            let wanted: Vec<Bytes> = sizes.iter().map(|&n| packet(n)).collect();
            let stream = wanted.concat();
            let mut framer = Framer::default();
            let mut got = Vec::new();
            for part in stream.chunks(step) {
                framer.push(part);
                while let Some(frame) = framer.next_frame().unwrap() {
                    got.push(frame);
                }
            }
            prop_assert_eq!(got, wanted);
            prop_assert_eq!(framer.pending_bytes(), 0);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut framer = Framer::default();
            framer.push(&bytes);
            while let Ok(Some(frame)) = framer.next_frame() {
                let _ = Packet::decode(frame);
            }
            prop_assert!(framer.pending_bytes() <= PACKET_BYTES_MAX);
        }
    }
}
