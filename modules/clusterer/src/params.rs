//! Parameters, and the state built from them.

use std::sync::Arc;

use tandem_cluster::TagConfig;
use tandem_engine::gate::GateMode;
use tandem_engine::module::{Build, BuildError, Module, ParamValue};
use tandem_engine::table::{moot, param};
use tandem_script::sig::{ParamKind, ParamSig};

use crate::ClustererModule;
use crate::config::{Columns, Database, NodeRow, Settings, Timing, parse_node_info};
use crate::remote;

const fn int(name: &'static str, default: &'static str, help: &'static str) -> ParamSig {
    param(name, ParamKind::Int, Some(default), help)
}

const fn column(name: &'static str, default: &'static str) -> ParamSig {
    param(name, ParamKind::Str, Some(default), "Name of a column of the node table.")
}

pub(crate) const PARAMS: &[ParamSig] = &[
    ParamSig {
        old_names: &["current_id"],
        ..param("my_node_id", ParamKind::Int, None, "Id of this node, 1 or more.")
    },
    int("db_mode", "1", "1: the nodes are rows of a database; 0: they are parameters."),
    param("db_url", ParamKind::Str, None, "Database with the node table."),
    param("db_table", ParamKind::Str, Some("clusterer"), "The node table."),
    param(
        "db_bridges_table",
        ParamKind::Str,
        Some("clusterer_bridge"),
        "Table of the links to other clusters, over which the counters of ratelimit go.",
    ),
    column("id_col", "id"),
    column("cluster_id_col", "cluster_id"),
    column("node_id_col", "node_id"),
    column("url_col", "url"),
    column("state_col", "state"),
    column("no_ping_retries_col", "no_ping_retries"),
    column("priority_col", "priority"),
    column("sip_addr_col", "sip_addr"),
    column("flags_col", "flags"),
    column("description_col", "description"),
    ParamSig {
        multiple: true,
        ..param(
            "my_node_info",
            ParamKind::Str,
            None,
            "This node: cluster_id=, url=, ... (db_mode 0).",
        )
    },
    ParamSig {
        multiple: true,
        ..param(
            "neighbor_node_info",
            ParamKind::Str,
            None,
            "A peer: cluster_id=, node_id=, url=, ...",
        )
    },
    ParamSig {
        multiple: true,
        check: Some(check_sharing_tag),
        ..param("sharing_tag", ParamKind::Str, None, "name/cluster=active or name/cluster=backup.")
    },
    int("ping_interval", "4", "Seconds between probes of a link."),
    int("ping_timeout", "1000", "Milliseconds to wait for the answer to a probe."),
    int(
        "node_timeout",
        "60",
        "Seconds before a failed node is probed again; a Tandem node after ping_interval, if that \
         is less.",
    ),
    int("seed_fallback_interval", "5", "Seconds a seed waits for a donor."),
    int("sync_timeout", "15", "Seconds of silence after which a sync has failed."),
    int("sync_packet_size", "32768", "Size at which a sync packet is closed."),
    int("enable_rerouting", "1", "0: a node without a direct link is not reached through others."),
    int("enable_stats", "1", "0: the statistics of this module stay 0."),
    moot(
        "dispatch_jobs",
        ParamKind::Int,
        "one worker reads all links: what peers send is handled in its order",
    ),
    param(
        "mi_commands",
        ParamKind::Str,
        Some(remote::DEFAULT_COMMANDS),
        "Commands that other nodes may run here, separated by commas; empty: none.",
    ),
    int("discovery", "1", "0: unknown nodes may not describe themselves (db_mode 0)."),
    ParamSig {
        check: Some(check_gate),
        ..param(
            "replication_gate",
            ParamKind::Str,
            Some("acked"),
            "When a reply leaves: off, sent, or acked by a peer.",
        )
    },
];

fn check_sharing_tag(text: &str) -> Result<(), String> {
    parse_sharing_tag(text).map(drop)
}

/// `name/cluster=active`.
fn parse_sharing_tag(text: &str) -> Result<TagConfig, String> {
    let form = || "a sharing tag is written name/cluster_id=active or =backup".to_owned();
    let (tag, state) = text.split_once('=').ok_or_else(form)?;
    let (name, cluster) = tag.trim().split_once('/').ok_or_else(form)?;
    let cluster = cluster.trim().parse().ok().filter(|c| *c >= 1);
    let cluster = cluster.ok_or_else(|| format!("`{}` is no cluster id", tag.trim()))?;
    let active_in_file = match state.trim() {
        "active" => true,
        "backup" => false,
        other => return Err(format!("`{other}` is neither active nor backup")),
    };
    if name.trim().is_empty() {
        return Err(form());
    }
    Ok(TagConfig { name: name.trim().to_owned(), cluster, active_in_file })
}

fn check_gate(text: &str) -> Result<(), String> {
    GateMode::parse(text).map(drop).ok_or_else(|| "write off, sent or acked".into())
}

pub(crate) fn build(from: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    let my_node_id = from
        .int("my_node_id")
        .and_then(|id| u32::try_from(id).ok())
        .filter(|id| *id >= 1)
        .ok_or_else(|| {
            BuildError::new("my_node_id", "this node needs an id of 1 or more")
                .help("add modparam(\"clusterer\", \"my_node_id\", 1)")
        })?;
    let db_mode = from.int("db_mode") != Some(0);
    let database = if db_mode { Some(database(from)?) } else { None };
    let nodes = if db_mode { Vec::new() } else { nodes(from, my_node_id)? };
    let tags = texts(from, "sharing_tag")
        .iter()
        .map(|t| parse_sharing_tag(t).map_err(|e| BuildError::new("sharing_tag", e)))
        .collect::<Result<_, _>>()?;
    let gate = from.text("replication_gate").and_then(GateMode::parse).unwrap_or_default();
    Ok(Arc::new(ClustererModule::new(Settings {
        my_node_id,
        database,
        nodes,
        tags,
        used_tags: from.program.sharing_tags.clone(),
        gate,
        discovery: from.int("discovery") != Some(0),
        rerouting: from.int("enable_rerouting") != Some(0),
        has_statistics: from.int("enable_stats") != Some(0),
        remote_commands: remote::commands(from.text("mi_commands").unwrap_or_default()),
        timing: timing(from)?,
    })))
}

fn timing(from: &Build<'_>) -> Result<Timing, BuildError> {
    let positive = |name: &'static str| {
        let value = from.int(name).and_then(|n| u32::try_from(n).ok()).filter(|n| *n >= 1);
        value.ok_or_else(|| BuildError::new(name, "not a positive number"))
    };
    Ok(Timing {
        ping_interval_s: positive("ping_interval")?,
        ping_timeout_ms: positive("ping_timeout")?,
        node_timeout_s: positive("node_timeout")?,
        seed_fallback_interval_s: positive("seed_fallback_interval")?,
        sync_timeout_s: positive("sync_timeout")?,
        sync_packet_size: positive("sync_packet_size")? as usize,
    })
}

fn database(from: &mut Build<'_>) -> Result<Database, BuildError> {
    let url = from.text("db_url").or_else(|| from.global_text("db_default_url"));
    let url = url.map(str::to_owned).ok_or_else(|| {
        BuildError::new("db_url", "db_mode 1 needs the database with the node table")
            .help("set db_url, or db_mode to 0 and describe the nodes with my_node_info")
    })?;
    let id = from.database(&url).map_err(|e| BuildError::new("db_url", e))?;
    let text = |name: &str| from.text(name).unwrap_or_default().to_owned();
    Ok(Database {
        id,
        table: text("db_table"),
        bridges_table: text("db_bridges_table"),
        columns: Columns {
            id: text("id_col"),
            cluster: text("cluster_id_col"),
            node: text("node_id_col"),
            url: text("url_col"),
            state: text("state_col"),
            retries: text("no_ping_retries_col"),
            priority: text("priority_col"),
            sip_addr: text("sip_addr_col"),
            flags: text("flags_col"),
            description: text("description_col"),
        },
    })
}

fn nodes(from: &Build<'_>, me: u32) -> Result<Vec<NodeRow>, BuildError> {
    let mut nodes = Vec::new();
    for (param, own) in [("my_node_info", Some(me)), ("neighbor_node_info", None)] {
        for text in texts(from, param) {
            let node = parse_node_info(&text, own).map_err(|e| BuildError::new(param, e))?;
            nodes.push(node);
        }
    }
    Ok(nodes)
}

fn texts(from: &Build<'_>, name: &str) -> Vec<String> {
    let values = from.all(name).iter().filter_map(|v| match v {
        ParamValue::Str(s) => Some(s.clone()),
        ParamValue::Int(_) => None,
    });
    values.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sharing_tag_has_a_name_a_cluster_and_a_state() {
        let tag = parse_sharing_tag("service/1=active").unwrap();
        assert_eq!((tag.name.as_str(), tag.cluster, tag.active_in_file), ("service", 1, true));
        assert!(!parse_sharing_tag("vip/2 = backup").unwrap().active_in_file);
        for wrong in ["service=active", "service/1", "service/x=active", "s/1=on", "/1=active"] {
            assert!(parse_sharing_tag(wrong).is_err(), "{wrong}");
        }
    }
}
