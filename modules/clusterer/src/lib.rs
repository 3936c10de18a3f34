//! `clusterer`: which nodes there are, who holds which sharing tag, and the commands around it.
//!
//! The machine itself is `tandem-cluster`, driven by the node. This module is its face: it reads
//! the configuration (parameters, rows of a database, the state file), answers commands and
//! raises events.

mod config;
mod mi;
mod params;
mod rows;
mod variables;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value as Json;
use tandem_cluster::{ActivationId, Effect as News};
use tandem_db::{DbError, Rows};
use tandem_engine::effect::Effect;
use tandem_engine::gate::GateMode;
use tandem_engine::log::Level;
use tandem_engine::module::{Cx, EventDef, Module, ModuleDef};
use tandem_engine::node::Node;
use tandem_engine::table::gauge;
use tandem_script::value::Value;

use config::{NodeRow, Settings};

/// The table of `clusterer`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "clusterer",
    help: "Nodes that replicate to each other, and who of them acts.",
    dependencies: &[tandem_engine::table::needs("proto_bin")],
    params: params::PARAMS,
    functions: &[],
    variables: variables::VARIABLES,
    mi: mi::COMMANDS,
    statistics: &[
        gauge("clusterer_nodes", "Nodes known, without this one."),
        gauge("clusterer_nodes_up", "Nodes whose link is up."),
        gauge("clusterer_nodes_down", "Nodes whose link is not up."),
    ],
    events: &[
        EventDef {
            name: NODE_EVENT,
            params: &["cluster_id", "node_id", "new_state"],
            help: "A node became reachable (1) or unreachable (0).",
        },
        EventDef {
            name: TAG_EVENT,
            params: &["name", "cluster", "state", "reason"],
            help: "This node took a sharing tag (active) or gave it up (backup).",
        },
    ],
    build: params::build,
};

const NODE_EVENT: &str = "E_CLUSTERER_NODE_STATE_CHANGED";
const TAG_EVENT: &str = "E_CLUSTERER_SHARING_TAG_CHANGED";

/// Tokens of what was asked at start.
const STATE_FILE: u64 = 1;
const NODE_ROWS: u64 = 2;

/// The module's state: its settings, and what is under way.
pub struct ClustererModule {
    settings: Settings,
    /// The content of the state file, between reading it and configuring the machine.
    saved: Mutex<Option<Bytes>>,
    /// Ids of the rows, which `list` shows.
    row_ids: Mutex<BTreeMap<(u32, u32), i64>>,
    /// Commands that wait for an activation to be announced.
    waiting: Mutex<BTreeMap<ActivationId, u64>>,
}

impl ClustererModule {
    fn new(settings: Settings) -> Self {
        Self {
            settings,
            saved: Mutex::default(),
            row_ids: Mutex::default(),
            waiting: Mutex::default(),
        }
    }

    /// Builds the machine's configuration and starts it.
    fn configure(&self, cx: &mut Cx<'_>, rows: Vec<NodeRow>) {
        let saved = self.saved.lock().take();
        match config::config(cx, &self.settings, &rows, saved) {
            Ok(config) => {
                let ids = rows.iter().map(|r| ((r.cluster, r.node), r.id));
                self.row_ids.lock().extend(ids);
                let node = Arc::clone(cx.node);
                node.membership().configure(cx, config);
                cx.end_startup();
            }
            Err(text) => cx.out.push(Effect::Fatal { text: format!("clusterer: {text}") }),
        }
    }
}

impl Module for ClustererModule {
    fn identity(&self) -> Option<(u32, GateMode)> {
        Some((self.settings.my_node_id, self.settings.gate))
    }

    fn start(&self, cx: &mut Cx<'_>) {
        cx.begin_startup();
        cx.read_file("tags", STATE_FILE);
    }

    fn file_read(&self, cx: &mut Cx<'_>, _token: u64, result: Result<Option<Bytes>, String>) {
        match result {
            Ok(saved) => *self.saved.lock() = saved,
            Err(e) => cx.log(Level::Warning, format!("clusterer: {e}")),
        }
        match &self.settings.database {
            Some(db) => cx.query(db.id, db.select(), NODE_ROWS),
            None => self.configure(cx, self.settings.nodes.clone()),
        }
    }

    fn db(&self, cx: &mut Cx<'_>, _token: u64, result: Result<Rows, DbError>) {
        let Some(db) = &self.settings.database else { return };
        match result {
            Ok(rows) => {
                let (nodes, problems) = rows::nodes(db, &rows);
                for problem in problems {
                    cx.log(Level::Error, format!("clusterer: {problem}"));
                }
                self.configure(cx, nodes);
            }
            Err(e) => {
                let text = format!("clusterer: table {} cannot be read: {e}", db.table);
                cx.out.push(Effect::Fatal { text });
            }
        }
    }

    fn cluster_news(&self, cx: &mut Cx<'_>, news: &News) {
        match news {
            News::Activated { id, not_told, .. } => {
                let request = self.waiting.lock().remove(id);
                if let Some(request) = request {
                    cx.mi_reply(request, Ok(Json::from(mi::activated(not_told))));
                }
            }
            News::TagChanged { name, cluster, active, epoch, reason } => {
                let state = if *active { "active" } else { "backup" };
                let why = &reason.text;
                let by = if reason.by.is_empty() { "" } else { &format!(" (by {})", reason.by) };
                cx.log(
                    Level::Notice,
                    format!(
                        "sharing tag {name}/{cluster} is now {state}: {why}{by}, epoch {epoch}"
                    ),
                );
                let text = |s: &str| Value::str(s.to_owned().into_bytes());
                let params = vec![
                    ("name", text(name)),
                    ("cluster", Value::Int(*cluster as i32)),
                    ("state", text(state)),
                    ("reason", text(why)),
                ];
                cx.raise(TAG_EVENT, params);
            }
            News::NodeState { cluster, node, up } => {
                let state = if *up { "up" } else { "down" };
                cx.log(Level::Notice, format!("node {node} of cluster {cluster} is {state}"));
                let params = vec![
                    ("cluster_id", Value::Int(*cluster as i32)),
                    ("node_id", Value::Int(*node as i32)),
                    ("new_state", Value::Int(i32::from(*up))),
                ];
                cx.raise(NODE_EVENT, params);
            }
            News::CapState { cluster, report, .. } => {
                cx.log(Level::Info, format!("cluster {cluster}: {report}"));
            }
            _ => {}
        }
    }

    fn statistic(&self, node: &Node, _now: tandem_clock::Now, index: usize) -> u64 {
        let Some(status) = node.membership().status() else { return 0 };
        let mut links = status.clusters.iter().flat_map(|c| &c.nodes);
        match index {
            0 => links.count() as u64,
            1 => links.filter(|n| n.link_state == "Up").count() as u64,
            _ => links.by_ref().filter(|n| n.link_state != "Up").count() as u64,
        }
    }
}
