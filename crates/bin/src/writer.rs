//! Writing primitive types.

use crate::packet::MARKER;
use crate::{EMIT_BYTES_MAX, TooBig, Trailer};
use bytes::{BufMut, Bytes, BytesMut};

/// Writes primitive types. A field that cannot be expressed spoils the whole packet, which
/// [`Writer::finish`] reports: a packet with a missing field must never leave.
#[derive(Debug, Default)]
pub struct Writer {
    buf: BytesMut,
    /// A field could not be expressed.
    spoiled: bool,
}

impl Writer {
    /// A payload, or a record inside a payload, without a packet header.
    pub fn payload() -> Self {
        Self::default()
    }

    /// A packet of a capability; its length is filled in by [`Writer::finish_packet`].
    pub fn packet(capability: &[u8], packet_type: u32, version: u16) -> Self {
        let mut w = Self { buf: BytesMut::with_capacity(256), spoiled: false };
        w.buf.put_slice(MARKER);
        w.buf.put_u32_le(0);
        w.buf.put_u16_le(version);
        w.str(capability);
        w.uint(packet_type);
        w
    }

    pub fn int(&mut self, value: i32) {
        self.buf.put_i32_le(value);
    }

    pub fn uint(&mut self, value: u32) {
        self.buf.put_u32_le(value);
    }

    /// A count or a length of something that is bounded by the size of a packet.
    pub fn count(&mut self, value: usize) {
        match i32::try_from(value) {
            Ok(value) => self.int(value),
            Err(_) => self.spoiled = true,
        }
    }

    pub fn flag(&mut self, value: bool) {
        self.int(value.into());
    }

    pub fn u16(&mut self, value: u16) {
        self.buf.put_u16_le(value);
    }

    /// A length-prefixed string of at most 65535 bytes.
    pub fn str(&mut self, value: &[u8]) {
        match u16::try_from(value.len()) {
            Ok(len) => {
                self.buf.put_u16_le(len);
                self.buf.put_slice(value);
            }
            Err(_) => self.spoiled = true,
        }
    }

    pub fn blob8(&mut self, value: i64) {
        self.buf.put_u16_le(8);
        self.buf.put_i64_le(value);
    }

    pub fn blob4(&mut self, value: i32) {
        self.buf.put_u16_le(4);
        self.buf.put_i32_le(value);
    }

    /// Bytes as they are, without a length.
    pub fn raw(&mut self, value: &[u8]) {
        self.buf.put_slice(value);
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    pub fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    /// The payload.
    pub fn finish(self) -> Result<Bytes, TooBig> {
        if self.spoiled || self.buf.len() > EMIT_BYTES_MAX {
            return Err(TooBig);
        }
        Ok(self.buf.freeze())
    }

    /// The packet, with its trailer (none for `clusterer-internal`) and its length.
    pub fn finish_packet(mut self, trailer: Option<&Trailer>) -> Result<Bytes, TooBig> {
        if let Some(t) = trailer {
            t.write(&mut self);
        }
        let len = self.buf.len();
        if self.spoiled || len > EMIT_BYTES_MAX {
            return Err(TooBig);
        }
        if let Some(field) = self.buf.get_mut(4..8) {
            field.copy_from_slice(&(len as u32).to_le_bytes());
        }
        Ok(self.buf.freeze())
    }
}
