//! After healing and rest all nodes have the same registrations, field by field.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json};

/// Name in findings.
pub const NAME: &str = "equal";

/// The dump of a node and its wall clock, in Unix seconds, at that moment.
#[derive(Clone, Debug)]
pub struct Dump {
    pub node: u32,
    pub unix_s: u64,
    /// The result of `ul_dump`.
    pub dump: Json,
}

/// Fields that belong to one node: its own number for the contact, its own socket, how its own
/// database stands, how long the phone took to answer its pings.
const LOCAL: &[&str] = &["ContactID", "Socket", "State", "Ping-Latency", "Last-Ping"];

/// Contacts that end within this time are left out: one node may have dropped what another still
/// has, and no comparison of the nodes themselves looks at them either.
const ENDING_S: i64 = 12;

/// What is on the wire is a second: the same instant may show one apart.
const TOLERANCE_S: i64 = 1;

type Contacts = BTreeMap<(String, String), (Option<i64>, Map<String, Json>)>;

/// How the dumps differ; empty if they do not.
pub fn differences(dumps: &[Dump]) -> Vec<String> {
    let mut found = Vec::new();
    let all: Vec<(u32, Contacts)> = dumps.iter().map(|d| (d.node, contacts(d))).collect();
    let Some(((first_node, first), others)) = all.split_first() else { return found };
    let ending: BTreeSet<_> = dumps.iter().flat_map(ending).collect();
    for (node, other) in others {
        let keys: BTreeSet<_> = first.keys().chain(other.keys()).collect();
        for key in keys.into_iter().filter(|key| !ending.contains(*key)) {
            let (aor, uri) = key;
            match (first.get(key), other.get(key)) {
                (Some(a), Some(b)) => {
                    let fields = fields(a, b);
                    if !fields.is_empty() {
                        let fields = fields.join(", ");
                        found.push(format!(
                            "{aor} {uri}: nodes {first_node} and {node} differ in {fields}"
                        ));
                    }
                }
                (Some(_), None) => found.push(format!("{aor} {uri}: missing on node {node}")),
                (None, Some(_)) => found.push(format!("{aor} {uri}: missing on node {first_node}")),
                (None, None) => {}
            }
        }
    }
    found
}

/// What a stock node has and the Tandem nodes have not, and the other way round. What expires is
/// judged by each node's own clock, so that contacts that end soon are left out here, too.
///
/// A single Tandem node that comes back beside a stock node which calls itself unsynced begins with
/// nothing: a contact that leaves in that moment it does not know, and the stock node keeps it.
/// `gone` says which have left. The other way round, a stock node may be the only one left that was
/// told so: the Tandem node which told it was killed before another one knew.
pub(crate) fn differences_to_stock(
    dumps: &[Dump],
    node: u32,
    stock: &Listed,
    gone: impl Fn(&(String, String)) -> bool,
) -> Vec<String> {
    let is_alone = dumps.len() == 1;
    let Some(first) = dumps.first() else { return Vec::new() };
    let ours = listed(&first.dump);
    let ending: BTreeSet<_> = dumps.iter().flat_map(ending).collect();
    let keys: BTreeSet<_> = ours.keys().chain(stock.keys()).collect();
    // What one stock node loses towards another is no fault of ours.
    let own = format!("resident{node}");
    let is_ours = |aor: &str| !aor.starts_with("resident") || aor.starts_with(&own);
    let keys = keys.into_iter().filter(|key| !ending.contains(*key) && is_ours(&key.0));
    let differ = keys.filter_map(|key| {
        let (aor, uri) = key;
        match (ours.get(key), stock.get(key)) {
            (Some(a), Some(b)) if a == b => None,
            (Some((_, a)), Some((_, b))) => Some(format!(
                "{aor} {uri}: CSeq {a} on node {}, {b} on stock node {node}",
                first.node
            )),
            (Some(_), None) if gone(key) => None,
            (Some(_), None) => Some(format!("{aor} {uri}: missing on stock node {node}")),
            _ if is_alone && gone(key) => None,
            _ => Some(format!("{aor} {uri}: missing on node {}", first.node)),
        }
    });
    differ.collect()
}

/// AoR and URI of contacts, with Call-ID and CSeq.
pub(crate) type Listed = BTreeMap<(String, String), (String, u64)>;

/// AoR and URI of every contact that `ul_dump` shows, with Call-ID and CSeq.
pub(crate) fn listed(dump: &Json) -> Listed {
    let mut listed = BTreeMap::new();
    each(dump, |aor, uri, contact| {
        if contact.get("Expires").and_then(Json::as_str) == Some("expired") {
            return;
        }
        let call_id = contact.get("Callid").and_then(Json::as_str).unwrap_or_default();
        let cseq = contact.get("Cseq").and_then(Json::as_u64).unwrap_or_default();
        listed.insert((aor.to_owned(), uri.to_owned()), (call_id.to_owned(), cseq));
    });
    listed
}

fn each(dump: &Json, mut take: impl FnMut(&str, &str, &Map<String, Json>)) {
    let list = |json: &Json, name: &str| -> Vec<Json> {
        json.get(name).and_then(Json::as_array).cloned().unwrap_or_default()
    };
    for domain in list(dump, "Domains") {
        for record in list(&domain, "AORs") {
            let aor = record.get("AOR").and_then(Json::as_str).unwrap_or_default();
            for contact in list(&record, "Contacts") {
                if let Json::Object(contact) = &contact {
                    let uri = contact.get("Contact").and_then(Json::as_str).unwrap_or_default();
                    take(aor, uri, contact);
                }
            }
        }
    }
}

fn contacts(dump: &Dump) -> Contacts {
    let mut all = Contacts::new();
    each(&dump.dump, |aor, uri, contact| {
        let mut fields = contact.clone();
        LOCAL.iter().for_each(|name| drop(fields.remove(*name)));
        let left = fields.remove("Expires");
        let end = left.as_ref().and_then(Json::as_i64).map(|left| left + dump.unix_s as i64);
        all.insert((aor.to_owned(), uri.to_owned()), (end, fields));
    });
    all
}

fn ending(dump: &Dump) -> Vec<(String, String)> {
    let mut keys = Vec::new();
    each(&dump.dump, |aor, uri, contact| {
        let left = contact.get("Expires");
        let is_permanent = left.and_then(Json::as_str) == Some("permanent");
        if !is_permanent && left.and_then(Json::as_i64).unwrap_or(0) <= ENDING_S {
            keys.push((aor.to_owned(), uri.to_owned()));
        }
    });
    keys
}

type Fields = (Option<i64>, Map<String, Json>);

fn fields((end_a, a): &Fields, (end_b, b): &Fields) -> Vec<String> {
    let mut differ = Vec::new();
    let same_end = match (end_a, end_b) {
        (Some(x), Some(y)) => (x - y).abs() <= TOLERANCE_S,
        (None, None) => true,
        _ => false,
    };
    if !same_end {
        differ.push(format!("Expires ({end_a:?}, {end_b:?})"));
    }
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    for name in names {
        let (x, y) = (a.get(name), b.get(name));
        if x != y {
            let show = |v: Option<&Json>| v.map_or("nothing".to_owned(), Json::to_string);
            differ.push(format!("{name} ({}, {})", show(x), show(y)));
        }
    }
    differ
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn dump(node: u32, unix_s: u64, expires: Json, cseq: u32) -> Dump {
        let contact = json!({
            "Contact": "sip:a@10.0.0.1", "ContactID": node.to_string(), "Expires": expires,
            "Callid": "c", "Cseq": cseq, "Socket": format!("udp:127.0.1.{node}:5060"),
        });
        let dump = json!({"Domains": [{"name": "location", "AORs": [
            {"AOR": "a", "Contacts": [contact]}]}]});
        Dump { node, unix_s, dump }
    }

    #[test]
    fn the_same_instant_under_two_clocks_is_equal() {
        let dumps = [dump(1, 1_000, json!(100), 1), dump(2, 1_003, json!(96), 1)];
        assert_eq!(differences(&dumps), Vec::<String>::new());
    }

    #[test]
    fn a_field_a_time_or_a_contact_that_differs_is_named() {
        let one = dump(1, 1_000, json!(100), 1);
        let cseq = differences(&[one.clone(), dump(2, 1_000, json!(100), 2)]);
        assert!(cseq[0].contains("Cseq (1, 2)"), "{cseq:?}");
        let time = differences(&[one.clone(), dump(2, 1_000, json!(90), 1)]);
        assert!(time[0].contains("Expires"), "{time:?}");
        let empty = Dump { node: 3, unix_s: 1_000, dump: json!({"Domains": []}) };
        assert!(differences(&[one, empty])[0].contains("missing on node 3"));
    }

    #[test]
    fn what_ends_soon_is_left_out() {
        let empty = Dump { node: 2, unix_s: 1_000, dump: json!({"Domains": []}) };
        assert!(differences(&[dump(1, 1_000, json!(10), 1), empty.clone()]).is_empty());
        assert!(!differences(&[dump(1, 1_000, json!("permanent"), 1), empty]).is_empty());
    }
}
