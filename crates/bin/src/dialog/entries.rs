//! Variables and profiles of a dialog as one text, on the wire and in the columns `vars` and
//! `profiles` of the database: `name#type#value|` for each entry, type 1 a text, type 2 a signed
//! number. In names and values `|`, `#` and `\` stand behind a `\`; any other byte is itself.

use bytes::Bytes;

use crate::Malformed;

/// The value of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(Bytes),
    Int(i32),
}

/// Entries of one dialog that are read.
const ENTRIES_MAX: usize = 4096;

/// Reads all entries, in their order.
///
/// # Errors
/// When an entry is cut off, has another type or no number where one should be. What stands
/// before it is lost with it: half of a dialog's values would be worse than none.
pub fn decode(text: &[u8]) -> Result<Vec<(Bytes, Value)>, Malformed> {
    let mut rest = text.iter().copied();
    let mut entries = Vec::new();
    while rest.len() > 0 {
        if entries.len() >= ENTRIES_MAX {
            let value = ENTRIES_MAX as i64;
            return Err(Malformed::Value { field: "number of entries", value });
        }
        let name = part(&mut rest, b'#')?;
        let kind = part(&mut rest, b'#')?;
        let value = part(&mut rest, b'|')?;
        let value = match kind.as_slice() {
            b"1" => Value::Text(value.into()),
            b"2" => Value::Int(number(&value)?),
            other => {
                let value = other.first().copied().unwrap_or_default().into();
                return Err(Malformed::Value { field: "type of an entry", value });
            }
        };
        entries.push((name.into(), value));
    }
    Ok(entries)
}

/// Writes entries in the order in which they come.
pub fn encode<'a>(entries: impl IntoIterator<Item = (&'a [u8], &'a Value)>) -> Vec<u8> {
    let mut text = Vec::new();
    for (name, value) in entries {
        escape(&mut text, name);
        match value {
            Value::Text(value) => {
                text.extend_from_slice(b"#1#");
                escape(&mut text, value);
            }
            Value::Int(n) => text.extend_from_slice(format!("#2#{n}").as_bytes()),
        }
        text.push(b'|');
    }
    text
}

/// Everything up to an unescaped `end`.
fn part(rest: &mut impl Iterator<Item = u8>, end: u8) -> Result<Vec<u8>, Malformed> {
    let mut found = Vec::new();
    loop {
        match rest.next() {
            Some(byte) if byte == end => return Ok(found),
            Some(b'\\') => found.push(rest.next().ok_or(Malformed::Short("an entry"))?),
            Some(byte) => found.push(byte),
            None => return Err(Malformed::Short("an entry")),
        }
    }
}

fn number(text: &[u8]) -> Result<i32, Malformed> {
    let parsed = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    let bad = Malformed::Value { field: "number of an entry", value: text.len() as i64 };
    parsed.ok_or(bad)
}

fn escape(text: &mut Vec<u8>, raw: &[u8]) {
    for &byte in raw {
        if matches!(byte, b'|' | b'#' | b'\\') {
            text.push(b'\\');
        }
        text.push(byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_text_of_a_stock_node_is_read_and_written_alike() {
        let text = br"dlgX_shtag#1#vip|cnt#2#7|name1#1#val\|ue\#1\\z|";
        let entries = decode(text).unwrap();
        let wanted = [
            ("dlgX_shtag", Value::Text("vip".into())),
            ("cnt", Value::Int(7)),
            ("name1", Value::Text(r"val|ue#1\z".into())),
        ];
        assert_eq!(entries, wanted.map(|(name, value)| (Bytes::from(name), value)));
        assert_eq!(encode(entries.iter().map(|(n, v)| (&n[..], v))), text);
        assert!(decode(b"").unwrap().is_empty());
        for bad in [&b"a"[..], b"a#1", b"a#1#b", b"a#3#b|", b"a#2#x|", b"a#1#b\\"] {
            assert!(decode(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn entries_survive(names: Vec<Vec<u8>>, text: Vec<u8>, n: i32) {
            let value = |i| match i % 2 {
                0 => Value::Int(n),
                _ => Value::Text(text.clone().into()),
            };
            let wanted: Vec<(Bytes, Value)> =
                names.into_iter().enumerate().map(|(i, name)| (name.into(), value(i))).collect();
            let encoded = encode(wanted.iter().map(|(n, v)| (&n[..], v)));
            prop_assert_eq!(decode(&encoded).unwrap(), wanted);
        }

        #[test]
        fn no_text_panics(text: Vec<u8>) {
            let _ = decode(&text);
        }
    }
}
