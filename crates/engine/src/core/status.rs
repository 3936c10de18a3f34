//! `tandem:status`: the state of the node as an operator wants to know it.

use std::sync::atomic::Ordering;

use serde_json::{Map, Value as Json, json};
use tandem_cluster::{ClusterStatus, NodeStatus, PeerKind, Status, Step, TagView};

use crate::date::iso;
use crate::mi::{MiCall, MiOutcome};

pub(super) fn status(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let (node, now) = (call.cx.node, call.cx.now);
    let mut answer = Map::new();
    let cluster = node.membership().status();
    answer.insert("node".into(), node.membership().node_id().into());
    answer.insert("running since".into(), iso(node.started.unix_s()).into());
    answer.insert("ready".into(), if node.is_ready() { "yes" } else { "no" }.into());
    if let Some(status) = &cluster {
        answer.insert("tags".into(), status.tags.iter().map(|t| tag(t, status)).collect());
        answer.insert("refused packets".into(), status.refused.into());
        if status.oversized > 0 {
            answer.insert("changes that fit no packet".into(), status.oversized.into());
        }
        let peers = status.clusters.iter().flat_map(|c| c.nodes.iter().map(|n| peer(c, n)));
        answer.insert("peers".into(), peers.collect());
        let steps = status.clusters.iter().flat_map(capabilities);
        answer.insert("in step".into(), steps.collect());
    }
    let sockets = node.sockets.iter().map(|(_, s)| {
        json!({"socket": s.text(), "address here": if s.is_held() { "yes" } else { "no" }})
    });
    answer.insert("sockets".into(), sockets.collect());
    for (_, def, module) in node.loaded() {
        if let Some(state) = module.status(node, now) {
            answer.insert(def.name.into(), state);
        }
    }
    let (open, pings, pongs) = node.streams.totals();
    answer.insert(
        "keepalives".into(),
        json!({
            "datagrams": node.keepalives.load(Ordering::Relaxed),
            "connections": open, "pings": pings, "pongs": pongs,
        }),
    );
    let (acknowledged, ungated, waiting) = node.gate_totals();
    answer.insert(
        "gates".into(),
        json!({"acknowledged": acknowledged, "ungated": ungated, "waiting": waiting}),
    );
    let ahead_ms = node.load.host_clock_ahead_ms();
    if ahead_ms.abs() > HOST_CLOCK_FAR_MS {
        answer.insert("host clock".into(), json!(format!("{ahead_ms} ms ahead of this node")));
    }
    MiOutcome::Done(Json::Object(answer))
}

/// A host's clock that is no further from ours is not worth a line.
const HOST_CLOCK_FAR_MS: i64 = 2_000;

fn tag(tag: &TagView, status: &Status) -> Json {
    let state = match (tag.active, tag.settled) {
        (true, true) => "active",
        (true, false) => "active (settling)",
        (false, _) => "backup",
    };
    let holder = match tag.holder {
        Some(n) if n == status.my_node_id => format!("{n} (this node)"),
        Some(n) => n.to_string(),
        None => "nobody".into(),
    };
    json!({
        "tag": format!("{}/{}", tag.name, tag.cluster),
        "state": state,
        "holder": holder,
        "since": if tag.since_unix_ms == 0 { "-".into() } else { iso(tag.since_unix_ms / 1000) },
        "epoch": tag.epoch,
        "why": if tag.reason.text.is_empty() { "-" } else { &tag.reason.text },
        "by": if tag.reason.by.is_empty() { "-" } else { &tag.reason.by },
    })
}

fn peer(cluster: &ClusterStatus, node: &NodeStatus) -> Json {
    let kind = match node.kind {
        PeerKind::Unproven => "unknown".to_owned(),
        PeerKind::Stock => "OpenSIPS".to_owned(),
        PeerKind::Tandem { level, .. } => format!("Tandem, level {level}"),
    };
    json!({
        "node": node.node,
        "cluster": cluster.cluster,
        "link": node.link_state,
        "kind": kind,
        "url": node.url,
        "clock skew": node.clock_skew_ms.map_or("-".into(), |ms| format!("{ms} ms")),
        "unacknowledged": node.unacked,
        "behind": behind(node),
    })
}

/// How far a peer is behind: records that it has not applied, and the age of the oldest.
fn behind(node: &NodeStatus) -> String {
    let records = node.unacked + node.missed;
    match node.kind {
        PeerKind::Stock if node.missed == 0 => "does not say".into(),
        _ if records > 0 => format!("{records} records, {} ms", node.lag_ms),
        _ if node.behind => "being compared".into(),
        _ => "no".into(),
    }
}

fn capabilities(cluster: &ClusterStatus) -> Vec<Json> {
    let own = cluster.capabilities.iter().map(|cap| {
        json!({
            "what": cap.name,
            "with": format!("cluster {}", cluster.cluster),
            "state": cap.state.details(),
            "measured": "-",
        })
    });
    let peers = cluster.nodes.iter().flat_map(|node| {
        node.steps.iter().map(|step| {
            let (state, measured) = match step.step {
                Step::NeverCompared => ("never compared".to_owned(), "-".to_owned()),
                Step::InStep { at_unix_ms } => ("equal".to_owned(), iso(at_unix_ms / 1000)),
                Step::Differs { buckets, at_unix_ms } => {
                    (format!("{buckets} of 256 parts differ"), iso(at_unix_ms / 1000))
                }
            };
            json!({
                "what": step.name,
                "with": format!("node {}", node.node),
                "state": state,
                "measured": measured,
            })
        })
    });
    own.chain(peers).collect()
}
