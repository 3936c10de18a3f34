//! After quiet all nodes have the same states of gateways, carriers and destinations; those that are
//! probed are the truth, and what the operator was told OK for is as he wanted it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;
use tandem_clock::{Mono, SEC};

use crate::actors::gateway::Way;

/// Name in findings.
pub const NAME: &str = "states";

/// What a node calls each state, by what it is the state of.
pub type States = BTreeMap<String, String>;

/// A target that only the operator changes: how nodes list it, and the words for down and up.
#[derive(Clone, Copy, Debug)]
pub struct Switched {
    pub name: &'static str,
    pub words: [&'static str; 2],
}

/// Those.
pub const SWITCHED: [Switched; 3] = [
    Switched { name: "gateway gw4", words: ["Disabled MI", "Active"] },
    Switched { name: "carrier car1", words: ["no", "yes"] },
    Switched { name: "destination 2 sip:10.9.0.4:5060", words: ["Inactive", "Active"] },
];

/// Changes that may be taken for the later one are at most so far apart, beside the clocks.
const MARGIN_NS: Mono = 2 * SEC;

/// The states that a node lists in its answers to `drouting:gw_status`,
/// `drouting:carrier_status` and `dispatcher:list`.
pub fn listed(gateways: &Json, carriers: &Json, sets: &Json) -> States {
    let mut all = States::new();
    let list = |json: &Json, name: &str| -> Vec<Json> {
        json.get(name).and_then(Json::as_array).cloned().unwrap_or_default()
    };
    let text = |json: &Json, name: &str| -> String {
        json.get(name).and_then(Json::as_str).unwrap_or_default().to_owned()
    };
    for row in list(gateways, "Gateways") {
        all.insert(format!("gateway {}", text(&row, "ID")), text(&row, "State"));
    }
    for row in list(carriers, "Carriers") {
        all.insert(format!("carrier {}", text(&row, "ID")), text(&row, "Enabled"));
    }
    for part in list(sets, "PARTITIONS") {
        for set in list(&part, "SETS") {
            let id = set.get("id").and_then(Json::as_i64).unwrap_or(-1);
            for row in list(&set, "Destinations") {
                all.insert(format!("destination {id} {}", text(&row, "URI")), text(&row, "state"));
            }
        }
    }
    all
}

/// How the nodes differ; empty if they do not.
pub fn differences(all: &[(u32, States)]) -> Vec<String> {
    let Some(((first, ours), others)) = all.split_first() else { return Vec::new() };
    let mut found = Vec::new();
    for (node, theirs) in others {
        let names: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
        for name in names {
            let word = |of: &States| of.get(name).cloned().unwrap_or_else(|| "unknown".to_owned());
            let (a, b) = (word(ours), word(theirs));
            if a != b {
                found.push(format!("{name} is {a} on node {first} and {b} on node {node}"));
            }
        }
    }
    found
}

/// What a probed target may be called, when its gateway does this.
fn truth(name: &str, gateway: u32, way: Way) -> Vec<&'static str> {
    match (way, name.starts_with("destination"), gateway) {
        (Way::Answers, ..) => vec!["Active"],
        (_, true, _) => vec!["Probing"],
        // Probed only as long as it is disabled.
        (_, false, 3) => vec!["Active", "Probing"],
        _ => vec!["Inactive"],
    }
}

/// States that are not those of the gateways.
pub fn untrue(node: u32, states: &States, ways: &[(u32, Way)]) -> Vec<String> {
    let mut found = Vec::new();
    for (gateway, way) in ways {
        let names =
            [format!("gateway gw{gateway}"), format!("destination 1 sip:10.9.0.{gateway}:5060")];
        for name in names {
            let Some(word) = states.get(&name) else { continue };
            if !truth(&name, *gateway, *way).contains(&word.as_str()) {
                found.push(format!("{name} is {word} on node {node}, and the gateway {way:?}"));
            }
        }
    }
    found
}

/// A change that the operator was told OK for.
#[derive(Clone, Copy, Debug)]
struct Change {
    at: Mono,
    node: u32,
    up: bool,
    /// Another node has it, too.
    is_kept: bool,
    /// The node died before that.
    is_unsure: bool,
}

/// All of them, by target.
#[derive(Debug, Default)]
pub(crate) struct Switches([Vec<Change>; SWITCHED.len()]);

impl Switches {
    pub(crate) fn changed(&mut self, at: Mono, node: u32, target: usize, up: bool) {
        if let Some(changes) = self.0.get_mut(target) {
            changes.push(Change { at, node, up, is_kept: false, is_unsure: false });
        }
    }

    /// What a node has now.
    pub(crate) fn seen(&mut self, node: u32, states: &States) {
        for (of, changes) in SWITCHED.iter().zip(&mut self.0) {
            let Some(last) = changes.last_mut().filter(|last| last.node != node) else { continue };
            let [down, up] = of.words;
            let word = states.get(of.name).map(String::as_str);
            last.is_kept |= word == Some(if last.up { up } else { down });
        }
    }

    pub(crate) fn crashed(&mut self, node: u32) {
        for change in self.0.iter_mut().flatten() {
            change.is_unsure |= change.node == node && !change.is_kept;
        }
    }

    /// What is not as the operator wanted it; wall clocks were up to `skew` apart.
    pub(crate) fn lost(&self, node: u32, states: &States, skew: Mono) -> Vec<String> {
        let mut found = Vec::new();
        for (of, changes) in SWITCHED.iter().zip(&self.0) {
            let allowed = allowed(changes, skew);
            let [down, up] = of.words;
            let words: Vec<_> = allowed.iter().map(|is| if *is { up } else { down }).collect();
            let word = states.get(of.name).map_or("unknown", String::as_str);
            if !words.contains(&word) {
                let (name, wanted) = (of.name, words.join(" or "));
                found.push(format!("{name} is {word} on node {node}, the operator has {wanted}"));
            }
        }
        found
    }
}

/// What a target may be at the end.
fn allowed(changes: &[Change], skew: Mono) -> BTreeSet<bool> {
    let mut all = BTreeSet::new();
    let mut sure: Option<Mono> = None;
    for change in changes.iter().rev() {
        if sure.is_some_and(|at| change.at + skew + MARGIN_NS < at) {
            return all;
        }
        all.insert(change.up);
        if !change.is_unsure && sure.is_none() {
            sure = Some(change.at);
        }
    }
    if sure.is_none() {
        all.insert(true);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn states(gateway: &str) -> States {
        let gateways = json!({"Gateways": [{"ID": "gw4", "State": gateway}]});
        let carriers = json!({"Carriers": [{"ID": "car1", "Enabled": "yes"}]});
        let of = json!([{"URI": "sip:10.9.0.4:5060", "state": "Active"}]);
        let sets = json!({"PARTITIONS": [{"SETS": [{"id": 2, "Destinations": of}]}]});
        listed(&gateways, &carriers, &sets)
    }

    #[test]
    fn nodes_that_differ_are_named() {
        let (up, down) = ((1, states("Active")), (2, states("Disabled MI")));
        assert!(differences(&[up.clone(), up.clone()]).is_empty());
        assert_eq!(differences(&[up, down]).len(), 1);
    }

    #[test]
    fn a_probed_state_is_what_the_gateway_does() {
        let states = States::from([("gateway gw1".to_owned(), "Active".to_owned())]);
        assert!(untrue(1, &states, &[(1, Way::Answers)]).is_empty());
        assert_eq!(untrue(1, &states, &[(1, Way::IsSilent)]).len(), 1);
    }

    #[test]
    fn what_the_operator_wanted_last_is_owed_unless_its_node_died_with_it() {
        let mut switches = Switches::default();
        switches.changed(10 * SEC, 1, 0, false);
        assert!(switches.lost(2, &states("Disabled MI"), 0).is_empty());
        assert_eq!(switches.lost(2, &states("Active"), 0).len(), 1);
        let mut unsure = Switches::default();
        unsure.changed(10 * SEC, 1, 0, false);
        unsure.crashed(1);
        assert!(unsure.lost(2, &states("Active"), 0).is_empty());
        switches.seen(2, &states("Disabled MI"));
        switches.crashed(1);
        assert_eq!(switches.lost(2, &states("Active"), 0).len(), 1);
        switches.changed(11 * SEC, 2, 0, true);
        assert!(switches.lost(2, &states("Disabled MI"), 0).is_empty(), "too near to each other");
        switches.changed(20 * SEC, 2, 0, true);
        assert_eq!(switches.lost(2, &states("Disabled MI"), 0).len(), 1);
    }
}
