//! Numbered fields: the form of the records that Tandem nodes give each other. A field is a
//! number, the length of its value (16 bits, little endian) and the value; who does not know a
//! number skips it.

/// A list of fields that is being written.
#[derive(Debug, Default)]
pub struct Fields(Vec<u8>);

impl Fields {
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Writes a value, also an empty one. What is longer than 65,535 bytes would spoil the record
    /// and is left out: the bounds of records keep their texts shorter.
    pub fn put(&mut self, n: u8, value: &[u8]) {
        let Ok(len) = u16::try_from(value.len()) else { return };
        self.0.push(n);
        self.0.extend_from_slice(&len.to_le_bytes());
        self.0.extend_from_slice(value);
    }

    /// Writes a number, also 0.
    pub fn put_number(&mut self, n: u8, value: u64) {
        self.put(n, &value.to_le_bytes());
    }

    /// Writes a text unless it is empty.
    pub fn text(&mut self, n: u8, value: &[u8]) {
        if !value.is_empty() {
            self.put(n, value);
        }
    }

    /// Writes a number unless it is 0.
    pub fn number(&mut self, n: u8, value: u64) {
        if value != 0 {
            self.put_number(n, value);
        }
    }

    /// Writes a list of fields as the value of one; what is longer than 65,535 bytes is left out.
    pub fn within(&mut self, n: u8, write: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[n, 0, 0]);
        write(self);
        match u16::try_from(self.0.len() - start - 3) {
            Ok(len) => self.0[start + 1..start + 3].copy_from_slice(&len.to_le_bytes()),
            Err(_) => self.0.truncate(start),
        }
    }

    /// Writes a text that may be absent; an empty one is not.
    pub fn optional(&mut self, n: u8, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.put(n, value);
        }
    }

    /// The bytes so far.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// The fields of a record, each with its number; a `None` where it is cut off.
pub fn fields(mut rest: &[u8]) -> impl Iterator<Item = Option<(u8, &[u8])>> {
    std::iter::from_fn(move || {
        let (head, behind) = match rest.split_first_chunk::<3>() {
            Some(found) => found,
            None if rest.is_empty() => return None,
            None => {
                rest = &[];
                return Some(None);
            }
        };
        let [n, low, high] = *head;
        let Some((value, left)) = behind.split_at_checked(u16::from_le_bytes([low, high]).into())
        else {
            rest = &[];
            return Some(None);
        };
        rest = left;
        Some(Some((n, value)))
    })
}

/// The value of a field that is a number.
pub fn integer(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_le_bytes)
}

/// The same of one that fits into 32 bits.
pub fn int32(value: &[u8]) -> Option<u32> {
    u32::try_from(integer(value)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(any::<u8>(), 0..most)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_what_is_cut_off_is_noticed(
            all in proptest::collection::vec((any::<u8>(), bytes(40)), 1..9)
        ) {
            let mut written = Fields::default();
            all.iter().for_each(|(n, value)| written.put(*n, value));
            let bytes = written.into_bytes();
            let owned = |(n, value): (u8, &[u8])| (n, value.to_vec());
            let read: Option<Vec<_>> = fields(&bytes).map(|f| f.map(owned)).collect();
            prop_assert_eq!(read, Some(all));
            prop_assert!(fields(&bytes[..bytes.len() - 1]).any(|field| field.is_none()));
        }

        #[test]
        fn a_list_within_one_is_a_field_like_others(
            before in bytes(9), inner in bytes(40), behind in bytes(9)
        ) {
            let mut flat = Fields::default();
            flat.put(7, &inner);
            let value = flat.into_bytes();
            let mut nested = Fields::default();
            nested.put(1, &before);
            nested.within(2, |w| w.put(7, &inner));
            nested.within(3, |w| w.put(7, &[0; 65_533]));
            nested.put(4, &behind);
            let mut told = Fields::default();
            told.put(1, &before);
            told.put(2, &value);
            told.put(4, &behind);
            prop_assert_eq!(nested.into_bytes(), told.into_bytes());
        }

        #[test]
        fn no_bytes_panic(bytes in bytes(80)) {
            prop_assert!(fields(&bytes).count() <= bytes.len() + 1);
        }
    }
}
