//! The name of a dialog: place in the table and a number, as every node of a cluster writes it.

use std::fmt;

use smallvec::SmallVec;

/// The name of a dialog. `entry` is the hash of the Call-ID modulo the table's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialogId {
    pub entry: u32,
    pub id: u32,
}

impl DialogId {
    /// The number in databases (`dlg_id`) and in management (`db_id`).
    pub fn number(self) -> u64 {
        u64::from(self.entry) << 32 | u64::from(self.id)
    }

    pub fn from_number(number: u64) -> Self {
        Self { entry: (number >> 32) as u32, id: number as u32 }
    }

    /// Reads `dbd.650fbf27`; `None`: it is no name of a dialog.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let dot = text.iter().position(|b| *b == b'.')?;
        let (entry, id) = (text.get(..dot)?, text.get(dot + 1..)?);
        Some(Self { entry: reversed_hex(entry)?, id: reversed_hex(id)? })
    }
}

/// The digits of both numbers, and the dot between them.
pub(crate) type IdText = SmallVec<[u8; 17]>;

impl DialogId {
    /// As it is written: both numbers in hex with the digits reversed.
    pub(crate) fn text(self) -> IdText {
        let mut text = IdText::new();
        digits(&mut text, self.entry);
        text.push(b'.');
        digits(&mut text, self.id);
        text
    }
}

impl fmt::Display for DialogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

fn digits(text: &mut IdText, mut number: u32) {
    loop {
        let digit = (number & 15) as u8;
        text.push(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
        number >>= 4;
        if number == 0 {
            return;
        }
    }
}

fn reversed_hex(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > 8 {
        return None;
    }
    text.iter().rev().try_fold(0u32, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            b'A'..=b'F' => digit - b'A' + 10,
            _ => return None,
        };
        Some(number << 4 | u32::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_is_written_as_seen_in_the_field() {
        let id = DialogId::from_number(15_107_329_093_718);
        assert_eq!(id.to_string(), "dbd.650fbf27");
        assert_eq!(DialogId::parse(b"dbd.650fbf27"), Some(id));
        assert_eq!(DialogId { entry: 461, id: 1 }.to_string(), "dc1.1");
        assert_eq!(DialogId { entry: 0, id: 0x10 }.to_string(), "0.01");
        for wrong in ["", ".", "1.", ".1", "1", "123456789.1", "g.1", "1.1.1", "1.-1"] {
            assert_eq!(DialogId::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(entry in any::<u32>(), id in any::<u32>()) {
            let it = DialogId { entry, id };
            prop_assert_eq!(DialogId::parse(it.to_string().as_bytes()), Some(it));
            prop_assert_eq!(DialogId::from_number(it.number()), it);
        }
    }
}
