//! Reading primitive types.

use crate::Malformed;
use bytes::{Buf, Bytes};

/// Reads primitive types off the front of a payload. Strings are slices of the packet's buffer,
/// not copies.
#[derive(Clone, Debug)]
pub struct Reader {
    rest: Bytes,
}

impl Reader {
    pub fn new(payload: Bytes) -> Self {
        Self { rest: payload }
    }

    /// True at the end of the payload. Fields that later versions append may be missing.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// How many bytes are left.
    pub fn len(&self) -> usize {
        self.rest.len()
    }

    /// What is left.
    pub fn rest(&self) -> &Bytes {
        &self.rest
    }

    /// A signed 32-bit integer.
    pub fn int(&mut self, field: &'static str) -> Result<i32, Malformed> {
        self.rest.try_get_i32_le().map_err(|_| Malformed::Short(field))
    }

    /// An integer whose field is documented as unsigned.
    pub fn uint(&mut self, field: &'static str) -> Result<u32, Malformed> {
        self.rest.try_get_u32_le().map_err(|_| Malformed::Short(field))
    }

    /// A count that cannot exceed `max`.
    pub fn count(&mut self, field: &'static str, max: usize) -> Result<usize, Malformed> {
        let value = self.int(field)?;
        match usize::try_from(value) {
            Ok(count) if count <= max => Ok(count),
            _ => Err(Malformed::Value { field, value: value.into() }),
        }
    }

    /// A flag on the wire as 0 or 1; any other number counts as set.
    pub fn flag(&mut self, field: &'static str) -> Result<bool, Malformed> {
        Ok(self.int(field)? != 0)
    }

    /// A 16-bit unsigned integer.
    pub fn u16(&mut self, field: &'static str) -> Result<u16, Malformed> {
        self.rest.try_get_u16_le().map_err(|_| Malformed::Short(field))
    }

    /// Exactly `n` raw bytes.
    pub fn take(&mut self, n: usize, field: &'static str) -> Result<Bytes, Malformed> {
        if n > self.rest.len() {
            return Err(Malformed::Short(field));
        }
        Ok(self.rest.split_to(n))
    }

    /// A length-prefixed string; absent and empty are the same.
    pub fn str(&mut self, field: &'static str) -> Result<Bytes, Malformed> {
        let len = self.u16(field)?;
        self.take(len.into(), field)
    }

    /// A blob of 8 bytes: a signed 64-bit number behind a length prefix.
    pub fn blob8(&mut self, field: &'static str) -> Result<i64, Malformed> {
        let mut blob = self.str(field)?;
        match blob.len() {
            8 => blob.try_get_i64_le().map_err(|_| Malformed::Short(field)),
            n => Err(Malformed::Value { field, value: n as i64 }),
        }
    }

    /// A blob of 4 bytes: a signed 32-bit number behind a length prefix.
    pub fn blob4(&mut self, field: &'static str) -> Result<i32, Malformed> {
        let mut blob = self.str(field)?;
        match blob.len() {
            4 => blob.try_get_i32_le().map_err(|_| Malformed::Short(field)),
            n => Err(Malformed::Value { field, value: n as i64 }),
        }
    }
}
