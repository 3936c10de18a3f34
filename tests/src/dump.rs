//! What `ul_dump` says.

use serde_json::{Map, Value as Json};

/// The contacts of a dump, each with its AOR, sorted by AOR and Contact.
#[must_use]
pub fn contacts(dump: &Json) -> Vec<Json> {
    let list = |json: &Json| json.as_array().cloned().unwrap_or_default();
    let mut all = Vec::new();
    for domain in list(&dump["Domains"]) {
        for aor in list(&domain["AORs"]) {
            for contact in list(&aor["Contacts"]) {
                let mut contact = contact.as_object().cloned().unwrap_or_default();
                contact.insert("AOR".into(), aor["AOR"].clone());
                all.push(Json::Object(contact));
            }
        }
    }
    all.sort_by_key(|c| (c["AOR"].to_string(), c["Contact"].to_string()));
    all
}

/// Checks that two nodes show the same contacts, field by field: all but the socket, which is the
/// node's own, and a second or two of Expires, since the two are not asked at once.
///
/// # Panics
/// If they differ.
pub fn assert_same_contacts(one: &Json, other: &Json) {
    let (one, other) = (contacts(one), contacts(other));
    for (a, b) in one.iter().zip(&other) {
        let left = |c: &Json| c["Expires"].as_i64().unwrap_or_else(|| panic!("no Expires: {c}"));
        assert!((left(a) - left(b)).abs() <= 2, "they expire at other times:\n{a}\n{b}");
        assert_eq!(rest(a), rest(b), "the nodes show another contact");
    }
    assert_eq!(one.len(), other.len(), "one node shows more contacts:\n{one:#?}\n{other:#?}");
}

fn rest(contact: &Json) -> Map<String, Json> {
    let mut fields = contact.as_object().cloned().unwrap_or_default();
    fields.remove("Socket");
    fields.remove("Expires");
    fields
}
