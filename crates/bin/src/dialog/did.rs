//! The id of a dialog on the SIP side, in listings and in the `did` parameter of Record-Route:
//! hash entry and dialog id in hex, the digits of each in reverse order.

use crate::usrloc::wire_hash;

/// Hash entry of a Call-ID in a table of `size` entries.
pub fn hash_entry(call_id: &[u8], size: u32) -> u32 {
    wire_hash(call_id) % size.max(1)
}

/// `<hash entry>.<dialog id>`.
pub fn text(entry: u32, id: u32) -> String {
    let reversed = |n: u32| format!("{n:x}").chars().rev().collect::<String>();
    format!("{}.{}", reversed(entry), reversed(id))
}

/// Hash entry and dialog id; `None` if the text is none.
pub fn parse(text: &[u8]) -> Option<(u32, u32)> {
    let dot = text.iter().position(|b| *b == b'.')?;
    let (entry, id) = text.split_at_checked(dot)?;
    Some((number(entry)?, number(id.get(1..)?)?))
}

fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    digits.iter().rev().try_fold(0u32, |n, digit| Some(n << 4 | char::from(*digit).to_digit(16)?))
}

/// The number by which a database and `db_id` know a dialog.
pub fn row(entry: u32, id: u32) -> u64 {
    u64::from(entry) << 32 | u64::from(id)
}

/// Hash entry and dialog id of a row.
pub fn of_row(row: u64) -> (u32, u32) {
    ((row >> 32) as u32, row as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_are_those_of_the_stock_node() {
        assert_eq!(hash_entry(b"call-3dc3885fae", 4096), 461);
        assert_eq!(text(461, 159_075_335), "dc1.70c4b79");
        assert_eq!(parse(b"dbd.650fbf27").map(|(e, id)| row(e, id)), Some(15_107_329_093_718));
        for bad in [&b""[..], b".", b"1.", b".1", b"1.2.3", b"g.1", b"123456789.1", b"+1.2"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn ids_survive(entry: u32, id: u32) {
            prop_assert_eq!(parse(text(entry, id).as_bytes()), Some((entry, id)));
            prop_assert_eq!(of_row(row(entry, id)), (entry, id));
        }

        #[test]
        fn no_text_panics(text: Vec<u8>) {
            let _ = parse(&text);
        }
    }
}
