//! The key/values of a contact: a flat JSON object, replicated with it.
//!
//! Those of an AoR travel with each of its contacts, as a text under [`OF_AOR`], so they live
//! through refreshes, syncs and restarts as the contacts do.

use serde_json::{Map, Value};

/// The sharing tag that owns the contact.
pub const TAG: &str = "_st";
/// The key/values of the AoR.
pub const OF_AOR: &str = "_urec_kvs";

/// Bytes that the key/values of a contact may take.
pub const KEYS_BYTES_MAX: usize = 16 * 1024;

fn object(json: &[u8]) -> Map<String, Value> {
    match serde_json::from_slice(json) {
        Ok(Value::Object(object)) => object,
        _ => Map::new(),
    }
}

/// A text value.
pub fn get(json: &[u8], key: &str) -> Option<String> {
    if json.is_empty() {
        return None;
    }
    match object(json).remove(key)? {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// With a value set, or taken away.
pub fn with(json: &[u8], key: &str, value: Option<&str>) -> Vec<u8> {
    let mut object = object(json);
    match value {
        Some(value) => {
            object.insert(key.to_owned(), value.into());
        }
        None => {
            object.shift_remove(key);
        }
    }
    match object.is_empty() {
        true => Vec::new(),
        false => Value::Object(object).to_string().into_bytes(),
    }
}

/// What a contact has after a client's write: the keys that the write sets, and those of before
/// that belong to others than the registrar. `None`: just what the write says.
pub(super) fn kept(old: &[u8], new: &[u8]) -> Option<Vec<u8>> {
    if old.is_empty() || old == new {
        return None;
    }
    let mut merged = object(old);
    merged.shift_remove(TAG);
    if merged.is_empty() {
        return None;
    }
    let mut written = object(new);
    for (key, value) in merged {
        written.entry(key).or_insert(value);
    }
    Some(Value::Object(written).to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_replaces_the_tag_and_keeps_what_others_stored() {
        let old = br#"{"_st":"a","mid":"x"}"#;
        assert_eq!(kept(old, br#"{"_st":"b"}"#).unwrap(), br#"{"_st":"b","mid":"x"}"#);
        assert_eq!(kept(old, b"").unwrap(), br#"{"mid":"x"}"#);
        assert_eq!(kept(br#"{"_st":"a"}"#, b""), None);
        assert_eq!(kept(b"", br#"{"_st":"b"}"#), None);
        assert_eq!(kept(b"broken", b""), None);
    }

    #[test]
    fn values_are_set_read_and_taken_away() {
        let json = with(b"", "k", Some("v\"1"));
        assert_eq!(get(&json, "k").as_deref(), Some("v\"1"));
        assert_eq!(get(br#"{"n":7}"#, "n").as_deref(), Some("7"));
        assert_eq!(with(&json, "k", None), b"");
        assert_eq!(get(b"nonsense", "k"), None);
    }
}
