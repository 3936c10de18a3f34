//! What a script has without loading anything: the pseudo module `core`, in slot 0.
//!
//! Its parameters are the globals of a script.

mod blacklists;
mod branches;
mod cache;
mod events;
mod flags;
mod globals;
mod mi;
mod profiling;
mod routing;
pub(crate) mod sending;
mod stats;
mod status;
mod target;
mod tcp;
mod text;
mod trace;
mod variables;
mod watch;

use std::sync::Arc;

use bytes::Bytes;
use tandem_clock::Now;

use crate::module::{Cx, EventDef, FunctionDef, Module, ModuleDef};
use crate::node::Node;
use crate::table::{count, join};
use crate::transport::{Hop, HopError};

/// Where the node keeps its key.
const KEY_FILE: &str = "key";

/// The slot of `core`.
pub(crate) const SLOT: u16 = 0;

pub(crate) use profiling::{Profiling, profiles, tell_script};
pub(crate) use stats::stat;
pub(crate) use watch::look_at_memory;

/// The table of `core`.
pub static CORE: ModuleDef = ModuleDef {
    name: "core",
    help: "What a script has without loading anything.",
    dependencies: &[],
    params: &globals::ALL,
    functions: &FUNCTIONS,
    variables: &variables::VARIABLES,
    mi: &mi::COMMANDS,
    statistics: stats::STATISTICS,
    events: &[
        EventDef {
            name: crate::reports::STATUS_CHANGED,
            params: &["group", "identifier", "status", "details", "old_status"],
            help: "The status of a part of the node has changed.",
        },
        EventDef {
            name: crate::stream::DISCONNECTED,
            params: &["src_ip", "src_port", "dst_ip", "dst_port", "proto"],
            help: "A connection that carried SIP has ended.",
        },
        watch::THRESHOLD,
        watch::SHM_THRESHOLD,
        watch::PKG_THRESHOLD,
        watch::AUTO_SCALE,
        profiling::PROC,
        profiling::SCRIPT_EVENT,
        watch::LOG,
    ],
    build: |_| Ok(Arc::new(Core { waiting: sending::Waiting::default() })),
};

const SINGLE: &[FunctionDef] = &[
    flags::SETFLAG,
    flags::RESETFLAG,
    flags::ISFLAGSET,
    flags::SETBFLAG,
    flags::RESETBFLAG,
    flags::ISBFLAGSET,
    target::SETHOST,
    target::SETHOSTPORT,
    target::SETUSER,
    target::SETUSERPASS,
    target::SETPORT,
    target::SETURI,
    target::PREFIX,
    target::STRIP,
    target::STRIP_TAIL,
    target::REVERT_URI,
    target::SETDSTURI,
    target::RESETDSTURI,
    target::ISDSTURISET,
    target::FORCE_RPORT,
    target::FORCE_SEND_SOCKET,
    tcp::FORCE_TCP_ALIAS,
    tcp::TCP_CLOSE_CONN,
    target::IS_MYSELF,
    target::SOCKET_BELONGS_TO_BOND,
    events::RAISE_EVENT,
    events::SUBSCRIBE_EVENT,
    events::SR_CHECK_STATUS,
];

const PARTS: &[&[FunctionDef]] = &[
    SINGLE,
    blacklists::FUNCTIONS,
    branches::FUNCTIONS,
    routing::FUNCTIONS,
    text::FUNCTIONS,
    trace::FUNCTIONS,
    cache::FUNCTIONS,
];

static FUNCTIONS: [FunctionDef; count(PARTS)] = join(PARTS);

/// The core has little state of its own: it is the node.
struct Core {
    waiting: sending::Waiting,
}

impl Module for Core {
    /// The node's key is there before it serves.
    fn start(&self, cx: &mut Cx<'_>) {
        cx.begin_startup();
        cx.read_file(KEY_FILE, 0);
        watch::start(cx);
    }

    fn file_read(&self, cx: &mut Cx<'_>, _token: u64, result: Result<Option<Bytes>, String>) {
        let node = Arc::clone(cx.node);
        let found = result.ok().flatten();
        if !found.is_some_and(|key| node.keys.restore(&key)) {
            cx.write_file(KEY_FILE, node.keys.text().into());
        }
        node.membership().tell_key(cx.now, node.keys.own());
        cx.end_startup();
    }

    fn cluster_news(&self, cx: &mut Cx<'_>, news: &tandem_cluster::Effect) {
        if let tandem_cluster::Effect::NodeKey { node, key } = news {
            cx.node.keys.learn(*node, key);
        }
    }

    fn statistic(&self, node: &Node, now: Now, index: usize) -> u64 {
        stats::value(node, now, index)
    }

    fn resolved(&self, cx: &mut Cx<'_>, token: u64, result: Result<Vec<Hop>, HopError>) {
        sending::resolved(self, cx, token, result);
    }

    fn dynamic_statistics(&self, node: &Node, now: Now) -> Vec<(String, u64)> {
        stats::of_workers(node, now)
    }
}
