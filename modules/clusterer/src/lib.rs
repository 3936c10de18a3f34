//! `clusterer`: which nodes there are, who holds which sharing tag, and the commands around it.
//!
//! The machine itself is `tandem-cluster`, driven by the node. This module is its face: it reads
//! the configuration (parameters, rows of a database, the state file), answers commands and
//! raises events.

mod config;
mod diff;
mod functions;
mod mi;
mod params;
mod remote;
mod reports;
mod rows;
mod variables;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value as Json;
use tandem_cluster::{ActivationId, Effect as News};
use tandem_db::{DbError, Rows};
use tandem_engine::effect::Effect;
use tandem_engine::gate::GateMode;
use tandem_engine::log::Level;
use tandem_engine::mi::RpcError;
use tandem_engine::module::{Cx, EventDef, Module, ModuleDef, Timer};
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
    functions: functions::FUNCTIONS,
    variables: variables::VARIABLES,
    mi: mi::COMMANDS,
    statistics: &[
        gauge("clusterer_nodes", "Nodes known, without this one."),
        gauge("clusterer_nodes_up", "Nodes whose link is up."),
        gauge("clusterer_nodes_down", "Nodes whose link is not up."),
        gauge("refused_packets", "Packets and BIN connections of others that were refused."),
    ],
    events: &[
        EventDef {
            name: REQUEST_EVENT,
            params: MESSAGE_PARAMS,
            help: "Another node sent a message with cluster_send_req or cluster_broadcast_req.",
        },
        EventDef {
            name: REPLY_EVENT,
            params: MESSAGE_PARAMS,
            help: "Another node answered with cluster_send_rpl.",
        },
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

const MESSAGE_PARAMS: &[&str] = &["cluster_id", "src_id", "msg", "tag"];
pub(crate) const REQUEST_EVENT: &str = "E_CLUSTERER_REQ_RECEIVED";
pub(crate) const REPLY_EVENT: &str = "E_CLUSTERER_RPL_RECEIVED";
const NODE_EVENT: &str = "E_CLUSTERER_NODE_STATE_CHANGED";
const TAG_EVENT: &str = "E_CLUSTERER_SHARING_TAG_CHANGED";

/// Tokens of what was asked at start.
const STATE_FILE: u64 = 1;
const NODE_ROWS: u64 = 2;
pub(crate) const RELOADED_ROWS: u64 = 3;
const BRIDGE_ROWS: u64 = 4;

/// The module's state: its settings, and what is under way.
pub struct ClustererModule {
    settings: Settings,
    /// The content of the state file, between reading it and configuring the machine.
    saved: Mutex<Option<Bytes>>,
    /// Ids of the rows, which `list` shows.
    row_ids: Mutex<BTreeMap<(u32, u32), i64>>,
    /// Commands that wait for an activation to be announced.
    waiting: Mutex<BTreeMap<ActivationId, u64>>,
    pub(crate) reloads: Mutex<Reloads>,
    pub(crate) diffs: Mutex<diff::Diffs>,
}

/// Commands that wait for the node table, in the order of their queries.
/// The place of `refused_packets` in the table.
const REFUSED: usize = 3;

#[derive(Default)]
pub(crate) struct Reloads(VecDeque<u64>);

impl Reloads {
    /// False when too many wait already.
    pub(crate) fn begin(&mut self, request: u64) -> bool {
        let room = self.0.len() < RELOADS_MAX;
        if room {
            self.0.push_back(request);
        }
        room
    }
}

const RELOADS_MAX: usize = 16;

impl ClustererModule {
    fn new(settings: Settings) -> Self {
        Self {
            settings,
            saved: Mutex::default(),
            row_ids: Mutex::default(),
            waiting: Mutex::default(),
            reloads: Mutex::default(),
            diffs: Mutex::default(),
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
                self.ask_bridges(cx);
                reports::begin(cx);
                cx.end_startup();
            }
            Err(text) => cx.out.push(Effect::Fatal { text: format!("clusterer: {text}") }),
        }
    }

    fn ask_bridges(&self, cx: &mut Cx<'_>) {
        if let Some(db) = &self.settings.database {
            cx.query(db.id, db.select_bridges(), BRIDGE_ROWS);
        }
    }

    /// The rows of bridges are here, or there is no such table: few have one.
    fn bridges(&self, cx: &mut Cx<'_>, result: Result<Rows, DbError>) {
        let bridges = match result {
            Ok(rows) => {
                let (bridges, problems) = rows::bridges(&rows);
                for problem in problems {
                    cx.log(Level::Error, format!("clusterer: {problem}"));
                }
                bridges
            }
            Err(e) => {
                return cx.log(Level::Info, format!("clusterer: there are no bridges: {e}"));
            }
        };
        let node = Arc::clone(cx.node);
        node.membership().with(|machine, out| machine.set_bridges(bridges, out));
    }

    /// The rows of a reload are here.
    fn reloaded(&self, cx: &mut Cx<'_>, result: Result<Rows, DbError>) {
        let Some(request) = self.reloads.lock().0.pop_front() else { return };
        let Some(db) = &self.settings.database else { return };
        let clusters = result.map_err(|e| e.to_string()).and_then(|rows| {
            let (nodes, problems) = rows::nodes(db, &rows);
            for problem in problems {
                cx.log(Level::Error, format!("clusterer: {problem}"));
            }
            let clusters = config::clusters(&self.settings, &nodes)?;
            let ids = nodes.iter().map(|r| ((r.cluster, r.node), r.id)).collect();
            *self.row_ids.lock() = ids;
            Ok(clusters)
        });
        let answer = match clusters {
            Ok(clusters) => {
                let now = cx.now;
                let node = Arc::clone(cx.node);
                node.membership().with(|machine, out| machine.reload(now, clusters, out));
                self.ask_bridges(cx);
                Ok(Json::from("OK"))
            }
            Err(text) => {
                cx.log(Level::Error, format!("clusterer: the nodes stay as they were: {text}"));
                Err(RpcError { code: 500, message: "Failed to reload".into(), data: Some(text) })
            }
        };
        cx.mi_reply(request, answer);
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

    fn db(&self, cx: &mut Cx<'_>, token: u64, result: Result<Rows, DbError>) {
        match token {
            RELOADED_ROWS => return self.reloaded(cx, result),
            BRIDGE_ROWS => return self.bridges(cx, result),
            _ => {}
        }
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
        reports::tell(cx, news);
        match news {
            News::Generic { cluster, source, message } => {
                functions::raise(cx, *cluster, *source, message);
            }
            News::Differs { peer, cap, difference, .. } => {
                diff::found(self, cx, *peer, *cap, difference);
            }
            News::Mi { source, command, .. } => remote::run(self, cx, *source, command),
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
            _ => {}
        }
    }

    fn timer(&self, cx: &mut Cx<'_>, timer: Timer) {
        diff::late(self, cx, timer.id);
    }

    fn statistic(&self, node: &Node, _now: tandem_clock::Now, index: usize) -> u64 {
        let shown = node.membership().status().filter(|_| self.settings.has_statistics);
        let Some(status) = shown else { return 0 };
        if index == REFUSED {
            return status.refused;
        }
        let mut links = status.clusters.iter().flat_map(|c| &c.nodes);
        match index {
            0 => links.count() as u64,
            1 => links.filter(|n| n.link_state == "Up").count() as u64,
            _ => links.by_ref().filter(|n| n.link_state != "Up").count() as u64,
        }
    }
}
