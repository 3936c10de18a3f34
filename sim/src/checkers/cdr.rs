//! Each answered call that is no longer up has exactly one row, whichever nodes have tried; a row
//! belongs to a call, and its duration is right within a second.

use std::collections::{BTreeMap, BTreeSet};

use tandem_clock::{MS, Mono, SEC};
use tandem_db::memory::MemoryDb;
use tandem_db::{Query, Row, Rows, Select, Value};

use crate::actors::Step;

/// Name in findings.
pub const NAME: &str = "cdr";

/// A duration is right within this.
const RIGHT_NS: Mono = SEC;
/// A call that was answered without the word of a peer is known to the peers at the latest after
/// this: the longest cut, and what a link needs to come back.
const KNOWN_NS: Mono = 60 * SEC;

/// The rows of calls in the database that all nodes share: Call-ID, both tags, milliseconds.
pub(crate) fn rows(db: &mut MemoryDb) -> Rows {
    let columns = ["callid", "from_tag", "to_tag", "ms_duration"];
    let columns = columns.map(Into::into).to_vec();
    let all = Select { table: "acc".into(), columns, ..Select::default() };
    // The table is part of the standard schema.
    db.execute(&Query::Select(all)).unwrap_or_default()
}

/// Calls that have more than one row.
pub fn repeated(rows: &Rows) -> Vec<String> {
    let mut calls: BTreeMap<String, usize> = BTreeMap::new();
    for row in &rows.rows {
        *calls.entry(key(row)).or_default() += 1;
    }
    let repeated = calls.into_iter().filter(|(_, count)| *count > 1);
    repeated.map(|(call, count)| format!("{call} has {count} rows")).collect()
}

fn key(row: &Row) -> String {
    let texts: Vec<&str> = row.iter().take(3).filter_map(Value::as_str).collect();
    texts.join(" ")
}

/// The calls as the phones know them.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    all: BTreeMap<String, Call>,
    crashes: Vec<(Mono, u32)>,
    /// When no node was left that could remember a call.
    blackouts: Vec<Mono>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Call {
    begun: Option<Mono>,
    accepted: Option<Mono>,
    answered: Option<Mono>,
    /// The first BYE, and the last word about one.
    ends: Option<Mono>,
    ended: Option<Mono>,
    /// Nobody knows whether a BYE has come through.
    is_open: bool,
    /// When and over which node the 200 left, and whether another node knew of it then.
    left: Option<(Mono, u32, bool)>,
}

impl Calls {
    /// A call has come so far.
    pub(crate) fn step(&mut self, now: Mono, call_id: String, step: Step) {
        let call = self.all.entry(call_id).or_default();
        match step {
            Step::Begins => drop(call.begun.get_or_insert(now)),
            Step::Accepts => drop(call.accepted.get_or_insert(now)),
            Step::IsAnswered => drop(call.answered.get_or_insert(now)),
            Step::Ends => drop(call.ends.get_or_insert(now)),
            Step::IsEnded => call.ended = Some(now),
            Step::IsLeft => call.is_open = true,
        }
    }

    /// The 200 to the INVITE of a call has left a node.
    pub(crate) fn answer_left(&mut self, now: Mono, node: u32, call_id: &str, is_gated: bool) {
        if let Some(call) = self.all.get_mut(call_id) {
            call.left.get_or_insert((now, node, is_gated));
        }
    }

    /// A node was killed; `last`: no other one was up.
    pub(crate) fn crashed(&mut self, now: Mono, node: u32, last: bool) {
        self.crashes.push((now, node));
        self.blackouts.extend(last.then_some(now));
    }

    /// What is wrong; empty if nothing is. Calls of `up` are not over; wall clocks were `skew` apart.
    pub(crate) fn findings(&self, rows: &Rows, up: &BTreeSet<String>, skew: Mono) -> Vec<String> {
        let mut found = Vec::new();
        let mut billed = BTreeMap::new();
        for row in &rows.rows {
            let [id, .., Value::Int(ms)] = &row[..] else { continue };
            let id = id.as_str().unwrap_or_default();
            billed.insert(id, Mono::try_from(*ms).unwrap_or(0) * MS);
        }
        for (id, call) in &self.all {
            match billed.remove(id.as_str()) {
                Some(_) if call.accepted.is_none() => {
                    found.push(format!("{id} has a row and was not answered"));
                }
                Some(_) if up.contains(id) => {
                    // Whoever knew of the end may have been killed before it could tell: then the
                    // call ends by its time, and its identity keeps it from being billed again.
                    let known = call.ends.unwrap_or(0)..;
                    if !self.crashes.iter().any(|(when, _)| known.contains(when)) {
                        found.push(format!("{id} has a row and is up"));
                    }
                }
                Some(lasted) => {
                    let is_lost = self.is_lost(call);
                    found.extend(call.misjudged(id, lasted, RIGHT_NS + skew, is_lost));
                }
                None if call.answered.is_none() || up.contains(id) || self.is_lost(call) => {}
                None => found.push(format!("{id} has no row")),
            }
        }
        found.extend(billed.keys().map(|id| format!("{id} has a row and is no call")));
        found
    }

    /// A call that is over, and a node was killed that may have been alone, or alone with stock
    /// nodes, in knowing it.
    pub(crate) fn end_may_be_lost(&self, call_id: &str) -> bool {
        let Some(call) = self.all.get(call_id) else { return false };
        let (Some(ends), Some(ended)) = (call.ends, call.ended) else { return false };
        self.crashes.iter().any(|(when, _)| (ends..ended + KNOWN_NS).contains(when))
    }

    /// The node of the call was killed while it rang, or before it could tell anybody of the answer
    /// that it alone knew; or none was left that remembered the call.
    fn is_lost(&self, call: &Call) -> bool {
        let begun = call.begun.unwrap_or(0);
        let ended = call.ended.unwrap_or(Mono::MAX - KNOWN_NS) + SEC;
        // A node that restarted meanwhile may have heard of the end and not of the call: only when
        // the nodes have met, somebody knows both.
        let is_shaken = self.crashes.iter().any(|(when, _)| (begun..ended).contains(when));
        let ended = ended + if is_shaken { KNOWN_NS - SEC } else { 0 };
        if self.blackouts.iter().any(|when| (begun..ended).contains(when)) {
            return true;
        }
        let (Some(begun), Some((at, node, is_gated))) = (call.begun, call.left) else {
            return false;
        };
        let until = if is_gated { at } else { at + KNOWN_NS };
        self.crashes.iter().any(|(when, who)| *who == node && (begun..until).contains(when))
    }
}

impl Call {
    /// The duration lies between what the phones at both ends have seen. If nobody knows of the
    /// answer that came first, the call is billed from the one that its heir got when it asked
    /// again.
    fn misjudged(&self, id: &str, lasted: Mono, slack: Mono, is_lost: bool) -> Option<String> {
        let (accepted, answered) = (self.accepted?, self.answered?);
        let least = self.ends.filter(|_| !is_lost).map_or(0, |at| at.saturating_sub(answered));
        let most = match (self.is_open, self.ended) {
            (false, Some(at)) => at.saturating_sub(accepted),
            _ => Mono::MAX / 2,
        };
        let wrong = lasted + slack < least || lasted > most.saturating_add(slack);
        let text = || {
            let [lasted, least, most] = [lasted, least, most].map(|ns| ns / MS);
            format!("{id} has a row of {lasted} ms, and took {least} to {most} ms")
        };
        wrong.then(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, ms: i64) -> Row {
        vec![id.into(), "f".into(), "t".into(), Value::Int(ms)]
    }

    fn of(rows: Vec<Row>) -> Rows {
        Rows { rows, ..Rows::default() }
    }

    /// A call from second 1 to second 5.
    fn calls() -> Calls {
        let mut calls = Calls::default();
        let steps = [
            (0, Step::Begins),
            (1, Step::Accepts),
            (1, Step::IsAnswered),
            (5, Step::Ends),
            (5, Step::IsEnded),
        ];
        steps.into_iter().for_each(|(at, step)| calls.step(at * SEC, "a".into(), step));
        calls
    }

    #[test]
    fn a_call_with_two_rows_is_named() {
        let two = of(vec![row("a", 1), row("a", 2), row("b", 1)]);
        assert_eq!(repeated(&two), ["a f t has 2 rows"]);
        assert!(repeated(&of(vec![row("a", 1)])).is_empty());
    }

    #[test]
    fn what_a_row_lacks_or_has_too_much_of_is_named() {
        let (calls, none) = (calls(), BTreeSet::new());
        let found = |rows: Vec<Row>| calls.findings(&of(rows), &none, 0);
        assert!(found(vec![row("a", 4_000)]).is_empty());
        assert_eq!(found(vec![]), ["a has no row"]);
        assert_eq!(found(vec![row("a", 4_000), row("x", 1)]), ["x has a row and is no call"]);
        assert_eq!(found(vec![row("a", 9_000)]).len(), 1);
        assert_eq!(found(vec![row("a", 2_000)]).len(), 1);
        let up = BTreeSet::from(["a".to_owned()]);
        assert!(calls.findings(&of(vec![]), &up, 0).is_empty());
        assert_eq!(calls.findings(&of(vec![row("a", 4_000)]), &up, 0).len(), 1);
    }

    #[test]
    fn a_call_that_only_a_dead_node_knew_is_nobodys_fault() {
        let mut calls = calls();
        calls.answer_left(SEC, 2, "a", false);
        let found = |calls: &Calls| calls.findings(&of(vec![]), &BTreeSet::new(), 0).len();
        assert_eq!(found(&calls), 1);
        calls.crashed(3 * SEC, 1, false);
        assert_eq!(found(&calls), 1);
        calls.crashed(3 * SEC, 2, false);
        assert_eq!(found(&calls), 0);
        // Its heir has asked again, and bills from then on.
        let late = of(vec![row("a", 1_000)]);
        assert!(calls.findings(&late, &BTreeSet::new(), 0).is_empty());
        let long = of(vec![row("a", 9_000)]);
        assert_eq!(calls.findings(&long, &BTreeSet::new(), 0).len(), 1);
        assert!(!calls.end_may_be_lost("a"));
        calls.crashed(6 * SEC, 1, false);
        assert!(calls.end_may_be_lost("a"));
    }
}
