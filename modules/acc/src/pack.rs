//! Numbers and texts as stock nodes pack them into values of a dialog.

use bytes::{BufMut, Bytes};

use crate::fields::FIELDS_MAX;

/// A text with its length in two bytes before it; what is longer is cut.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    let len = text.len().min(usize::from(u16::MAX));
    out.put_u16_le(len as u16);
    out.extend_from_slice(text.get(..len).unwrap_or_default());
}

/// Reads numbers, little endian, and texts; every part may be missing.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    pub(crate) fn text(&mut self) -> Option<&'a [u8]> {
        let len = usize::from(self.u16()?);
        self.take(len)
    }

    pub(crate) fn texts<const N: usize>(&mut self) -> Option<[&'a [u8]; N]> {
        let mut texts = [&[][..]; N];
        for text in &mut texts {
            *text = self.text()?;
        }
        Some(texts)
    }

    pub(crate) fn tags(&mut self) -> Option<Vec<Bytes>> {
        let count = usize::from(self.u16()?);
        if count > FIELDS_MAX {
            return None;
        }
        (0..count).map(|_| Some(Bytes::copy_from_slice(self.text()?))).collect()
    }
}
