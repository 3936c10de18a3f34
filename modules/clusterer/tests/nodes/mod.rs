//! Nodes in memory, joined by streams that can be cut.

#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use serde_json::{Value as Json, json};
use tandem_clock::{Chance, MS, Now};
use tandem_cluster::ConnId;
use tandem_db::memory::MemoryDb;
use tandem_engine::build::NodeOptions;
use tandem_engine::catalogue::{Modules, Tables};
use tandem_engine::effect::{BinInput, Effect, Input, Out};
use tandem_engine::node::Node;
use tandem_engine::testing::Files;
use tandem_engine::worker::Worker;

/// One end of a stream: the node and its name for it.
type End = (usize, ConnId);

pub(crate) struct Nodes {
    pub(crate) now: Now,
    workers: Vec<Worker>,
    streams: BTreeMap<End, End>,
    accepted: u64,
    answers: BTreeMap<u64, Json>,
    asked: u64,
    cut: bool,
    pub(crate) db: MemoryDb,
    /// Log lines with the number of their node, from 1.
    pub(crate) logs: Vec<(usize, String)>,
}

impl Nodes {
    /// Node n listens on 127.0.0.n.
    pub(crate) fn new(modules: Modules, scripts: &[String]) -> Self {
        Self::with_database(modules, scripts, |_| {})
    }

    pub(crate) fn with_database(
        modules: Modules,
        scripts: &[String],
        fill: impl FnOnce(&mut MemoryDb),
    ) -> Self {
        let now = Now { mono_ns: 1_000_000 * MS, unix_ms: 1_800_000_000_000 };
        let workers = scripts.iter().enumerate().map(|(n, s)| worker(modules, n, s, now));
        let mut nodes = Self {
            now,
            workers: workers.collect(),
            streams: BTreeMap::new(),
            accepted: 0,
            answers: BTreeMap::new(),
            asked: 0,
            cut: false,
            db: MemoryDb::with_tables(tandem_db::schema::tables()),
            logs: Vec::new(),
        };
        fill(&mut nodes.db);
        for at in 0..nodes.workers.len() {
            let mut out = Out::default();
            nodes.workers[at].start(now, &mut out);
            nodes.carry_out(at, out);
        }
        nodes
    }

    pub(crate) fn advance_ms(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(20) {
            self.now = self.now.plus_ns(20 * MS);
            for at in 0..self.workers.len() {
                self.step(at, Input::Tick);
            }
        }
    }

    /// All streams break, and no new ones come up until `heal`.
    pub(crate) fn cut(&mut self) {
        self.cut = true;
        for end in std::mem::take(&mut self.streams).into_keys() {
            self.step(end.0, Input::Bin(BinInput::Closed { conn: end.1 }));
        }
    }

    pub(crate) fn heal(&mut self) {
        self.cut = false;
    }

    /// A command to a node, counted from 1: its result or its error.
    pub(crate) fn mi(&mut self, node: usize, method: &str, params: Json) -> Json {
        self.asked += 1;
        let request = self.asked;
        let mut object = json!({"jsonrpc": "2.0", "id": request, "method": method});
        if !params.is_null() {
            object["params"] = params;
        }
        self.step(node - 1, Input::Mi { request, text: Bytes::from(object.to_string()) });
        let answer = self.answers.remove(&request).unwrap_or(Json::Null);
        answer.get("result").or(answer.get("error")).cloned().unwrap_or(Json::Null)
    }

    /// An OPTIONS to a node, which runs its route.
    pub(crate) fn options(&mut self, node: usize) {
        let text = "OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKx\r\n\
            From: <sip:f@h>;tag=f\r\nTo: <sip:a@h>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n\
            Content-Length: 0\r\n\r\n";
        let worker = &self.workers[node - 1];
        let socket = worker.node().sockets.iter().next().unwrap().0;
        self.step(
            node - 1,
            Input::Datagram {
                socket,
                source: "127.0.0.9:5060".parse().unwrap(),
                local_ip: [127, 0, 0, 1].into(),
                payload: Bytes::from_static(text.as_bytes()),
            },
        );
    }

    /// Takes the lines of a node that begin with `#`.
    pub(crate) fn said(&mut self, node: usize) -> Vec<String> {
        let (mine, rest) = std::mem::take(&mut self.logs)
            .into_iter()
            .partition(|(n, text)| *n == node && text.starts_with('#'));
        self.logs = rest;
        let mine: Vec<(usize, String)> = mine;
        mine.into_iter().map(|(_, text)| text).collect()
    }

    fn step(&mut self, at: usize, input: Input) {
        let mut out = Out::default();
        self.workers[at].step(self.now, input, &mut out);
        self.workers[at].finish(self.now, &mut out);
        self.carry_out(at, out);
    }

    fn carry_out(&mut self, at: usize, out: Out) {
        for effect in out.effects {
            match effect {
                Effect::BinConnect { conn, peer, .. } => self.connect(at, conn, peer),
                Effect::BinWrite { conn, bytes } => {
                    if let Some(&(to, other)) = self.streams.get(&(at, conn)) {
                        self.step(to, Input::Bin(BinInput::Data { conn: other, bytes }));
                    }
                }
                Effect::BinClose { conn } => {
                    if let Some(other) = self.streams.remove(&(at, conn)) {
                        self.streams.remove(&other);
                        self.step(other.0, Input::Bin(BinInput::Closed { conn: other.1 }));
                    }
                }
                Effect::MiReply { request, text } => {
                    let json = serde_json::from_slice(&text).unwrap_or(Json::Null);
                    self.answers.insert(request, json);
                }
                Effect::Db { query, ask, .. } => {
                    let result = self.db.execute(&ask);
                    self.step(at, Input::Db { query, result });
                }
                Effect::ReadFile { token, .. } => {
                    self.step(at, Input::FileRead { token, result: Ok(None) });
                }
                Effect::WriteFile { token, .. } => {
                    self.step(at, Input::FileWritten { token, result: Ok(()) });
                }
                Effect::Log { text, .. } => self.logs.push((at + 1, text)),
                Effect::Fatal { text } => panic!("node {}: {text}", at + 1),
                _ => {}
            }
        }
    }

    fn connect(&mut self, at: usize, conn: ConnId, peer: SocketAddr) {
        let to = (0..self.workers.len()).find(|n| bin_address(*n) == peer);
        let Some(to) = to.filter(|_| !self.cut) else {
            self.step(at, Input::Bin(BinInput::ConnectFailed { conn }));
            return;
        };
        self.accepted += 1;
        let other = ConnId::Accepted(self.accepted);
        self.streams.insert((at, conn), (to, other));
        self.streams.insert((to, other), (at, conn));
        self.step(to, Input::Bin(BinInput::Accepted { conn: other, peer: bin_address(at) }));
        self.step(at, Input::Bin(BinInput::Connected { conn }));
    }
}

fn bin_address(n: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1 + n as u8], 5566))
}

fn worker(modules: Modules, n: usize, script: &str, now: Now) -> Worker {
    let mut files = Files([("t.cfg".to_owned(), script.to_owned())].into());
    let (program, diags, map) =
        Tables::new(modules).with(|c| tandem_script::compile(&mut files, "t.cfg", c));
    let render = |d: &[_]| tandem_script::diag::render_all(d, &map);
    let program = program.unwrap_or_else(|| panic!("{}", render(&diags)));
    let mut chance = Chance::from_number(1 + n as u64);
    let command_line = Vec::new();
    let options = NodeOptions { chance: chance.fork(), now, workers: 1, command_line };
    let node = Node::build(program, modules, options).unwrap_or_else(|d| panic!("{}", render(&d)));
    Worker::new(node, 0, chance, now)
}
