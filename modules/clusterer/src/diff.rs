//! `tandem:cluster_diff`: which records differ between this node and its peers, by name.

use serde_json::{Value as Json, json};
use tandem_cluster::{CapId, Difference};
use tandem_engine::mi::{MiCall, MiDef, MiOutcome};
use tandem_engine::module::{Cx, Timer};
use tandem_engine::table::command;

use crate::ClustererModule;

pub(crate) const COMMAND: MiDef = command(
    "tandem:cluster_diff",
    &["cluster_diff"],
    &[&[]],
    "Names the records that differ between the nodes, as they were compared last.",
    ask,
);

/// Commands that wait for the listings of peers.
#[derive(Default)]
pub(crate) struct Diffs {
    waiting: Vec<Diff>,
    last: u64,
}

struct Diff {
    id: u64,
    request: u64,
    /// Peers that have not said what they have.
    asked: Vec<(u32, CapId, String)>,
    lines: Vec<Json>,
}

const DIFFS_MAX: usize = 16;
/// How long peers may take to answer.
const PATIENCE_MS: u64 = 2000;

fn ask(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let Some(module) = call.cx.node.module::<ClustererModule>(call.cx.slot) else {
        return MiOutcome::failed(500, "The cluster is still being configured");
    };
    let now = call.cx.now;
    let membership = call.cx.node.membership();
    let asked = membership.with(|machine, out| machine.ask_differences(now, out));
    let names = membership.status().map(|s| s.clusters).unwrap_or_default();
    let name = |cap: CapId| {
        let mut all = names.iter().flat_map(|c| &c.capabilities);
        all.find(|c| c.cap == cap).map(|c| c.name.clone()).unwrap_or_default()
    };
    let asked: Vec<_> = asked
        .unwrap_or_default()
        .into_iter()
        .map(|(_, peer, cap)| (peer, cap, name(cap)))
        .collect();
    if asked.is_empty() {
        return MiOutcome::Done(json!([]));
    }
    let mut diffs = module.diffs.lock();
    if diffs.waiting.len() >= DIFFS_MAX {
        return MiOutcome::failed(500, "Too many comparisons wait");
    }
    diffs.last += 1;
    let (id, request) = (diffs.last, call.request);
    diffs.waiting.push(Diff { id, request, asked, lines: Vec::new() });
    drop(diffs);
    call.cx.set_timer(now.after_ms(PATIENCE_MS), Timer { kind: 1, id });
    MiOutcome::Later
}

/// A peer has said what it has.
pub(crate) fn found(
    module: &ClustererModule,
    cx: &mut Cx<'_>,
    peer: u32,
    cap: CapId,
    difference: &Difference,
) {
    let mut done = Vec::new();
    {
        let mut diffs = module.diffs.lock();
        for diff in &mut diffs.waiting {
            let Some(at) = diff.asked.iter().position(|a| (a.0, a.1) == (peer, cap)) else {
                continue;
            };
            let (_, _, name) = diff.asked.remove(at);
            diff.lines.extend(lines(peer, &name, difference));
        }
        let (over, rest) =
            std::mem::take(&mut diffs.waiting).into_iter().partition(|d| d.asked.is_empty());
        done.extend::<Vec<Diff>>(over);
        diffs.waiting = rest;
    }
    for diff in done {
        cx.mi_reply(diff.request, Ok(Json::Array(diff.lines)));
    }
}

/// Who has not answered by now will not.
pub(crate) fn late(module: &ClustererModule, cx: &mut Cx<'_>, id: u64) {
    let mut diffs = module.diffs.lock();
    let Some(at) = diffs.waiting.iter().position(|d| d.id == id) else { return };
    let mut diff = diffs.waiting.remove(at);
    drop(diffs);
    let silent = diff.asked.iter().map(|(peer, _, name)| {
        json!({"node": peer, "what": name, "record": "-", "how": "the node does not answer"})
    });
    diff.lines.extend(silent);
    cx.mi_reply(diff.request, Ok(Json::Array(diff.lines)));
}

fn lines(peer: u32, what: &str, difference: &Difference) -> Vec<Json> {
    let groups = [
        (&difference.missing_here, "missing here"),
        (&difference.missing_there, "missing there"),
        (&difference.unequal, "not equal"),
    ];
    let line =
        |record: &str, how: &str| json!({"node": peer, "what": what, "record": record, "how": how});
    let mut lines: Vec<Json> = groups
        .into_iter()
        .flat_map(|(names, how)| names.iter().map(move |n| (String::from_utf8_lossy(n), how)))
        .map(|(name, how)| line(&name, how))
        .collect();
    if difference.cut_short {
        lines.push(line("-", "there is more than is listed"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_record_is_a_line_with_its_node() {
        let difference = Difference {
            missing_here: vec!["location a sip:a@x".into()],
            unequal: vec!["location b sip:b@x".into()],
            cut_short: true,
            ..Difference::default()
        };
        let lines = lines(2, "usrloc-contact-repl", &difference);
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0]["how"], "missing here");
        assert_eq!(lines[1]["record"], "location b sip:b@x");
    }
}
