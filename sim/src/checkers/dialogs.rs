//! After healing and rest all nodes have the same calls, none is left over whose time is over, and
//! a profile that is counted over all nodes has the size that a recount gives.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json};

use crate::stock::Listed;

/// Name in findings.
pub const NAME: &str = "dialogs";

/// What a node says of its calls.
#[derive(Clone, Debug)]
pub struct Told {
    pub node: u32,
    pub unix_s: u64,
    /// The result of `dialog:list_ctx`.
    pub list: Json,
    /// The size of the profile that every call is in; `None`: one of several stock nodes may be
    /// the one that counts, and what these lose towards each other is no fault of ours.
    pub size: Option<u64>,
}

/// An answered call whose time has been over for so long should have been ended: clocks differ,
/// and a takeover spreads what is overdue.
const LEFT_OVER_S: u64 = 30;

/// Fields that belong to one node: its socket, under its own address.
const LOCAL: &[&str] = &["caller_bind_addr", "callee_bind_addr"];

type Calls = BTreeMap<String, Map<String, Json>>;

/// What is wrong; empty if nothing is.
pub fn findings(all: &[Told]) -> Vec<String> {
    let mut found = Vec::new();
    let calls: Vec<(&Told, Calls)> = all.iter().map(|told| (told, answered(&told.list))).collect();
    for (told, calls) in &calls {
        // Where nobody holds the tag, or a stock node may, nobody of ours ends them.
        if told.size.is_some() {
            found.extend(left_over(told, calls));
        }
        let size = told.size.unwrap_or(calls.len() as u64);
        if size != calls.len() as u64 {
            let (node, count) = (told.node, calls.len());
            found.push(format!("node {node} counts {size} calls and lists {count}"));
        }
    }
    let Some(((first, ours), others)) = calls.split_first() else { return found };
    for (told, theirs) in others {
        let keys: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        for key in keys {
            match (ours.get(key), theirs.get(key)) {
                (Some(a), Some(b)) if a == b => {}
                (Some(a), Some(b)) => {
                    let fields = differing(a, b).join(", ");
                    let (one, two) = (first.node, told.node);
                    found.push(format!("{key}: nodes {one} and {two} differ in {fields}"));
                }
                (Some(_), None) => found.push(format!("{key}: missing on node {}", told.node)),
                _ => found.push(format!("{key}: missing on node {}", first.node)),
            }
        }
    }
    found
}

fn left_over(told: &Told, calls: &Calls) -> Vec<String> {
    let is_over = |call: &Map<String, Json>| {
        let end = call.get("timeout").and_then(Json::as_u64).unwrap_or(0);
        end + LEFT_OVER_S < told.unix_s
    };
    let over = calls.iter().filter(|(_, call)| is_over(call));
    over.map(|(key, _)| format!("{key}: left over on node {}", told.node)).collect()
}

/// The answered calls by their Call-ID, without what is one node's own.
fn answered(list: &Json) -> Calls {
    let mut calls = Calls::new();
    for call in list.get("Dialogs").and_then(Json::as_array).into_iter().flatten() {
        let Json::Object(call) = call else { continue };
        if !matches!(call.get("state").and_then(Json::as_u64), Some(3 | 4)) {
            continue;
        }
        let mut call = call.clone();
        LOCAL.iter().for_each(|name| drop(call.remove(*name)));
        // Values and profiles have no order: a node may have heard of them in another one.
        for list in ["values", "profiles"] {
            let all = call.get_mut("context").and_then(|context| context.get_mut(list));
            let all = all.and_then(Json::as_array_mut);
            all.into_iter().for_each(|all| all.sort_by_key(Json::to_string));
        }
        for leg in call.get_mut("CALLEES").and_then(Json::as_array_mut).into_iter().flatten() {
            if let Some(leg) = leg.as_object_mut() {
                LOCAL.iter().for_each(|name| drop(leg.remove(*name)));
            }
        }
        let key = call.get("callid").and_then(Json::as_str).unwrap_or_default().to_owned();
        calls.insert(key, call);
    }
    calls
}

fn differing(a: &Map<String, Json>, b: &Map<String, Json>) -> Vec<String> {
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let differ = names.into_iter().filter(|name| a.get(*name) != b.get(*name));
    let show = |v: Option<&Json>| v.map_or("nothing".to_owned(), Json::to_string);
    differ.map(|name| format!("{name} ({}, {})", show(a.get(name)), show(b.get(name)))).collect()
}

/// Whether the counters of a node are those of a recount: its list of calls at the same moment, and
/// how many it says are active and early.
pub(crate) fn miscounted(list: &Json, active: u64, early: u64) -> Option<String> {
    let states = list.get("Dialogs").and_then(Json::as_array).into_iter().flatten();
    let states: Vec<u64> = states.filter_map(|call| call.get("state")?.as_u64()).collect();
    let of = |wanted: &[u64]| states.iter().filter(|s| wanted.contains(s)).count() as u64;
    let (ups, rings) = (of(&[3, 4]), of(&[2]));
    (ups != active || rings != early).then(|| {
        format!("counts {active} active and {early} early calls, and lists {ups} and {rings}")
    })
}

/// The Call-IDs of the answered calls in a list.
pub(crate) fn call_ids(list: &Json) -> impl Iterator<Item = String> {
    answered(list).into_keys()
}

/// What a stock node has and the Tandem nodes have not, and the other way round. Each ends calls by
/// its own clock; one that holds the tag is not told of an ACK, as the protocol has it. `lost` says
/// which have ended where the only Tandem node that knew was killed: a stock node that was told
/// drops them, and cannot be asked why.
pub(crate) fn differences_to_stock(
    all: &[Told],
    node: u32,
    stock: &BTreeMap<String, Listed>,
    lost: impl Fn(&str) -> bool,
) -> Vec<String> {
    let Some(first) = all.first() else { return Vec::new() };
    let number = |call: &Map<String, Json>, name: &str| call.get(name).and_then(Json::as_u64);
    let ours: BTreeMap<String, Listed> = answered(&first.list)
        .into_iter()
        .filter_map(|(key, call)| {
            let expires_unix_s = number(&call, "timeout")?;
            let state = i32::try_from(number(&call, "state")?).ok()?;
            Some((key, Listed { state, expires_unix_s }))
        })
        .collect();
    let keys: BTreeSet<&String> = ours.keys().chain(stock.keys()).collect();
    let differ = keys.into_iter().filter_map(|key| {
        let (our, their) = (ours.get(key), stock.get(key));
        let ends = our.or(their).map_or(0, |call| call.expires_unix_s);
        let same = our.map(|call| call.expires_unix_s) == their.map(|call| call.expires_unix_s);
        if same || ends < first.unix_s + LEFT_OVER_S {
            return None;
        }
        let us = first.node;
        Some(match (our, their) {
            (Some(a), Some(b)) => format!("{key}: node {us} has {a:?}, stock node {node} {b:?}"),
            (Some(_), None) if lost(key) => return None,
            (Some(_), None) => format!("{key}: missing on stock node {node}"),
            _ => format!("{key}: missing on node {us}, stock node {node} has it"),
        })
    });
    differ.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(node: u32, calls: &[(&str, u64, u64)], size: u64) -> Told {
        let call = |(id, state, timeout): &(&str, u64, u64)| {
            json!({"callid": id, "state": state, "timeout": timeout,
                   "caller_bind_addr": format!("udp:127.0.1.{node}:5060"), "CALLEES": []})
        };
        let calls: Vec<Json> = calls.iter().map(call).collect();
        Told { node, unix_s: 1_000, list: json!({ "Dialogs": calls }), size: Some(size) }
    }

    #[test]
    fn equal_nodes_are_equal_whatever_rings_or_has_ended() {
        let one = told(1, &[("a", 4, 2_000), ("b", 2, 2_000), ("c", 5, 0)], 1);
        assert_eq!(findings(&[one, told(2, &[("a", 4, 2_000)], 1)]), Vec::<String>::new());
    }

    #[test]
    fn what_differs_is_missing_left_over_or_miscounted_is_named() {
        let one = told(1, &[("a", 4, 2_000), ("b", 4, 2_000)], 2);
        let other = findings(&[one.clone(), told(2, &[("a", 3, 2_000)], 1)]);
        assert!(other[0].contains("a: nodes 1 and 2 differ in state (4, 3)"), "{other:?}");
        assert!(other[1].contains("b: missing on node 2"), "{other:?}");
        let counted = findings(&[told(1, &[("a", 4, 2_000)], 3)]);
        assert_eq!(counted, ["node 1 counts 3 calls and lists 1"]);
        let over = findings(&[told(1, &[("a", 4, 960)], 1)]);
        assert_eq!(over, ["a: left over on node 1"]);
    }
}
