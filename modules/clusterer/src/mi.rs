//! The commands of the cluster.

use serde_json::{Value as Json, json};
use tandem_cluster::{CapState, Reason, Status};
use tandem_engine::mi::{MiCall, MiDef, MiOutcome, MiParam, RpcError};
use tandem_engine::table::{command, mi_int, mi_text};

use crate::ClustererModule;

const TAG: &[MiParam] = &[mi_text("tag")];
const TAG_FORCE: &[MiParam] = &[mi_text("tag"), mi_int("force")];
const OWN_STATUS: &[MiParam] = &[mi_int("cluster_id"), mi_int("status")];
const NODE_STATUS: &[MiParam] = &[mi_int("cluster_id"), mi_int("node_id"), mi_int("status")];
const REMOVE: &[MiParam] = &[mi_int("cluster_id"), mi_int("node_id")];
const CAP_STATUS: &[MiParam] = &[mi_int("cluster_id"), mi_text("capability"), mi_int("status")];

pub(crate) const COMMANDS: &[MiDef] = &[
    command(
        "clusterer:list",
        &["clusterer_list"],
        &[&[]],
        "Nodes and the state of their links.",
        list,
    ),
    command(
        "clusterer:list_topology",
        &["clusterer_list_topology"],
        &[&[]],
        "Which node sees which.",
        topology,
    ),
    command(
        "clusterer:list_cap",
        &["clusterer_list_cap"],
        &[&[]],
        "What is replicated, and whether it is synced.",
        capabilities,
    ),
    command(
        "clusterer:list_shtags",
        &["clusterer_list_shtags"],
        &[&[]],
        "Sharing tags and their state here.",
        list_tags,
    ),
    command(
        "clusterer:shtag_set_active",
        &["clusterer_shtag_set_active"],
        &[TAG, TAG_FORCE],
        "Makes this node the holder of a sharing tag; force=1 for a tag nobody defined.",
        set_active,
    ),
    command(
        "clusterer:set_status",
        &["clusterer_set_status"],
        &[OWN_STATUS, NODE_STATUS],
        "Enables (1) or disables (0) a node, or this node in a cluster.",
        set_status,
    ),
    command(
        "clusterer:set_cap_status",
        &["clusterer_set_cap_status"],
        &[CAP_STATUS],
        "Enables (1) or disables (0) what is replicated.",
        set_cap_status,
    ),
    command(
        "clusterer:reload",
        &["clusterer_reload"],
        &[&[]],
        "Reads the node table again.",
        reload,
    ),
    command(
        "clusterer:remove_node",
        &["clusterer_remove_node"],
        &[REMOVE],
        "Makes the whole cluster forget a node (db_mode 0).",
        |call| remove_node(call).unwrap_or_else(|refused| refused),
    ),
    crate::diff::COMMAND,
    crate::remote::SEND_MI,
    crate::remote::BROADCAST_MI,
];

/// A tag as commands name it.
pub(crate) struct Tag {
    pub(crate) name: String,
    pub(crate) cluster: u32,
}

/// `name/cluster_id`.
pub(crate) fn parse_tag(text: &str) -> Result<Tag, &'static str> {
    let (name, cluster) = text.split_once('/').ok_or("Bad tag format <name/cluster_id>")?;
    if name.is_empty() {
        return Err("Bad tag format <name/cluster_id>");
    }
    let cluster = cluster.parse().ok().filter(|c| *c >= 1).ok_or("Bad cluster ID in tag")?;
    Ok(Tag { name: name.to_owned(), cluster })
}

/// The answer to a successful activation.
pub(crate) fn activated(not_told: &[u32]) -> String {
    match not_told {
        [] => "OK".into(),
        nodes => {
            let nodes: Vec<String> = nodes.iter().map(u32::to_string).collect();
            let s = if nodes.len() == 1 { "" } else { "s" };
            format!("OK, activated alone: node{s} {} not told", nodes.join(", "))
        }
    }
}

fn status(call: &MiCall<'_, '_>) -> Result<Status, MiOutcome> {
    let starting = || MiOutcome::failed(500, "The cluster is still being configured");
    call.cx.node.membership().status().ok_or_else(starting)
}

fn list(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let status = match status(call) {
        Ok(status) => status,
        Err(refused) => return refused,
    };
    let module = call.cx.node.module::<ClustererModule>(call.cx.slot);
    let ids = module.map(|m| m.row_ids.lock().clone()).unwrap_or_default();
    let clusters = status.clusters.iter().map(|c| {
        let nodes = c.nodes.iter().map(|n| {
            json!({
                "node_id": n.node,
                "db_id": ids.get(&(c.cluster, n.node)).copied().unwrap_or(0),
                "url": n.url,
                "link_state": n.link_state,
                "state": if n.enabled { "enabled" } else { "disabled" },
                "next_hop": n.next_hop.map_or("none".into(), |h| h.to_string()),
                "description": n.description,
            })
        });
        json!({"cluster_id": c.cluster, "Nodes": nodes.collect::<Vec<_>>()})
    });
    MiOutcome::Done(json!({"Clusters": clusters.collect::<Vec<_>>()}))
}

fn topology(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let status = match status(call) {
        Ok(status) => status,
        Err(refused) => return refused,
    };
    let clusters = status.clusters.iter().map(|c| {
        let nodes = c.topology.iter().map(|(n, near)| json!({"node_id": n, "Neighbours": near}));
        json!({"cluster_id": c.cluster, "Nodes": nodes.collect::<Vec<_>>()})
    });
    MiOutcome::Done(json!({"Clusters": clusters.collect::<Vec<_>>()}))
}

fn capabilities(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let status = match status(call) {
        Ok(status) => status,
        Err(refused) => return refused,
    };
    let clusters = status.clusters.iter().map(|c| {
        // What only Tandem nodes tell each other is no capability that others know.
        let shown = c.capabilities.iter().filter(|cap| !cap.name.starts_with("tandem-"));
        let caps = shown.map(|cap| {
            let state = match cap.state {
                CapState::Synced => "Ok",
                CapState::NotSynced => "not synced",
                CapState::Pending => "sync pending",
                CapState::InProgress => "sync in progress",
            };
            json!({"name": cap.name, "state": state, "enabled": if cap.enabled { "yes" } else { "no" }})
        });
        json!({"cluster_id": c.cluster, "Capabilities": caps.collect::<Vec<_>>()})
    });
    MiOutcome::Done(json!({"Clusters": clusters.collect::<Vec<_>>()}))
}

fn list_tags(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let Some(tags) = call.cx.node.membership().tags() else {
        return MiOutcome::failed(500, "The cluster is still being configured");
    };
    let tags = tags.snapshot().into_iter().map(|t| {
        let state = if t.active { "active" } else { "backup" };
        json!({"Tag": t.name, "Cluster": t.cluster, "State": state})
    });
    MiOutcome::Done(Json::Array(tags.collect()))
}

fn set_active(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let text = call.text("tag").unwrap_or_default();
    let tag = match parse_tag(&text) {
        Ok(tag) => tag,
        Err(e) => return MiOutcome::failed(400, e),
    };
    let node = std::sync::Arc::clone(call.cx.node);
    let Some(tags) = node.membership().tags() else {
        return MiOutcome::failed(500, "The cluster is still being configured");
    };
    let clusters = node.membership().status().map(|s| s.clusters).unwrap_or_default();
    if !clusters.iter().any(|c| c.cluster == tag.cluster) {
        return MiOutcome::failed(404, "Cluster ID not found");
    }
    let forced = call.int("force") == Some(1);
    if !forced && !tags.is_known(&tag.name, tag.cluster) {
        let known: Vec<String> =
            tags.snapshot().iter().map(|t| format!("{}/{}", t.name, t.cluster)).collect();
        let near = tandem_script::nearest(&text, known.iter().map(String::as_str));
        return MiOutcome::Failed(RpcError {
            code: 404,
            message: "Unknown sharing tag".into(),
            data: Some(match near {
                Some(near) => format!("did you mean {near}?"),
                None => "no script or node uses it; force=1 activates it all the same".into(),
            }),
        });
    }
    let who = format!("command at node {}", node.membership().node_id());
    let reason = Reason::new("MI command", who);
    match node.membership().activate(call.cx, &tag.name, tag.cluster, reason) {
        Some(Ok(id)) => {
            if let Some(module) = node.module::<ClustererModule>(call.cx.slot) {
                module.waiting.lock().insert(id, call.request);
            }
            MiOutcome::Later
        }
        Some(Err(e)) => MiOutcome::failed(500, e.to_string()),
        None => MiOutcome::failed(500, "Internal failure when activating"),
    }
}

/// `status` as a flag.
fn flag(call: &MiCall<'_, '_>) -> Result<bool, MiOutcome> {
    match call.int("status") {
        Some(0) => Ok(false),
        Some(1) => Ok(true),
        _ => Err(MiOutcome::failed(400, "Bad value for 'status'")),
    }
}

pub(crate) fn number(call: &MiCall<'_, '_>, name: &str) -> Result<u32, MiOutcome> {
    let value = call.int(name).and_then(|n| u32::try_from(n).ok()).filter(|n| *n >= 1);
    value.ok_or_else(|| MiOutcome::failed(400, format!("Bad value for '{name}'")))
}

fn set_status(call: &mut MiCall<'_, '_>) -> MiOutcome {
    change_status(call).unwrap_or_else(|refused| refused)
}

fn change_status(call: &mut MiCall<'_, '_>) -> Result<MiOutcome, MiOutcome> {
    let (cluster, enabled) = (number(call, "cluster_id")?, flag(call)?);
    let membership = call.cx.node.membership();
    let node = if call.has("node_id") { number(call, "node_id")? } else { membership.node_id() };
    let now = call.cx.now;
    let done =
        membership.with(|machine, out| machine.set_node_status(now, cluster, node, enabled, out));
    match done {
        Some(Ok(())) => Ok(MiOutcome::ok()),
        Some(Err(tandem_cluster::ClusterError::UnknownCluster(_))) => {
            Err(MiOutcome::failed(404, "Cluster id not found"))
        }
        Some(Err(_)) => Err(MiOutcome::failed(404, "Node id not found")),
        None => Err(MiOutcome::failed(500, "The cluster is still being configured")),
    }
}

fn set_cap_status(call: &mut MiCall<'_, '_>) -> MiOutcome {
    change_cap(call).unwrap_or_else(|refused| refused)
}

fn change_cap(call: &mut MiCall<'_, '_>) -> Result<MiOutcome, MiOutcome> {
    let (cluster, enabled) = (number(call, "cluster_id")?, flag(call)?);
    let name = call.text("capability").unwrap_or_default();
    let status = status(call)?;
    let cluster = status.clusters.iter().find(|c| c.cluster == cluster);
    let cluster = cluster.ok_or_else(|| MiOutcome::failed(404, "Cluster id not found"))?;
    let cap = cluster.capabilities.iter().find(|c| c.name == name);
    let cap = cap.ok_or_else(|| MiOutcome::failed(404, "Capability not found"))?.cap;
    let now = call.cx.now;
    call.cx
        .node
        .membership()
        .with(|machine, out| machine.set_capability_status(now, cap, enabled, out));
    Ok(MiOutcome::ok())
}

/// Reads the node table; the answer comes with the rows.
fn reload(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let failed = || MiOutcome::failed(500, "Failed to reload");
    let Some(module) = call.cx.node.module::<ClustererModule>(call.cx.slot) else {
        return failed();
    };
    let Some(db) = &module.settings.database else {
        return MiOutcome::failed(400, "Non-DB mode");
    };
    if !module.reloads.lock().begin(call.request) {
        return failed();
    }
    call.cx.query(db.id, db.select(), crate::RELOADED_ROWS);
    MiOutcome::Later
}

fn remove_node(call: &mut MiCall<'_, '_>) -> Result<MiOutcome, MiOutcome> {
    let module = call.cx.node.module::<ClustererModule>(call.cx.slot);
    if module.is_some_and(|m| m.settings.database.is_some()) {
        return Err(MiOutcome::failed(400, "Running in DB mode"));
    }
    let (cluster, node) = (number(call, "cluster_id")?, number(call, "node_id")?);
    let now = call.cx.now;
    let membership = call.cx.node.membership();
    match membership.with(|machine, out| machine.remove_node(now, cluster, node, out)) {
        Some(Ok(())) => Ok(MiOutcome::ok()),
        Some(Err(tandem_cluster::ClusterError::UnknownCluster(_))) => {
            Err(MiOutcome::failed(400, "Unknown cluster id"))
        }
        Some(Err(_)) => Err(MiOutcome::failed(400, "Unknown node id")),
        None => Err(MiOutcome::failed(500, "The cluster is still being configured")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_of_a_command_has_a_name_and_a_cluster() {
        assert!(parse_tag("service/1").is_ok_and(|t| t.name == "service" && t.cluster == 1));
        assert_eq!(parse_tag("service").err(), Some("Bad tag format <name/cluster_id>"));
        assert_eq!(parse_tag("service/x").err(), Some("Bad cluster ID in tag"));
    }

    #[test]
    fn success_says_who_could_not_be_told() {
        assert_eq!(activated(&[]), "OK");
        assert_eq!(activated(&[2]), "OK, activated alone: node 2 not told");
        assert_eq!(activated(&[2, 3]), "OK, activated alone: nodes 2, 3 not told");
    }
}
