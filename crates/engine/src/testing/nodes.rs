//! Several nodes in memory, joined by streams that can be cut, on one clock and one database.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use serde_json::{Value as Json, json};
use tandem_bin::{Framer, Packet};
use tandem_clock::{Chance, MS, Now};
use tandem_cluster::ConnId;
use tandem_db::memory::MemoryDb;

use super::{Files, Spool, evidence};
use crate::build::NodeOptions;
use crate::catalogue::{Modules, Tables};
use crate::effect::{BinInput, Effect, Input, Out};
use crate::node::Node;
use crate::sockets::Proto;
use crate::worker::Worker;

/// The type of the packets that carry records when nodes meet.
const RECORDS: u32 = 5;

/// One end of a stream: the node and its name for it.
type End = (usize, ConnId);

/// Looks at the nodes when a datagram leaves, e.g. counts what each of them has stored.
pub type Witness = fn(&Worker) -> usize;

/// The nodes; they are counted from 0.
pub struct Nodes {
    pub now: Now,
    /// `None`: it does not run, or the test plays it itself.
    pub workers: Vec<Option<Worker>>,
    /// The database behind every url of the scripts.
    pub db: MemoryDb,
    /// The spools of the nodes, which outlive them.
    pub spools: BTreeMap<usize, Spool>,
    /// Files that every node finds.
    pub files: BTreeMap<String, String>,
    /// Log lines with their node.
    pub logs: Vec<(usize, String)>,
    /// What was sent, with what the witness saw at each running node when it left.
    pub sent: Vec<(String, Vec<usize>)>,
    /// The same with the node that sent it, and where to.
    pub datagrams: Vec<(usize, SocketAddr, String)>,
    modules: Modules,
    scripts: Vec<String>,
    witness: Option<Witness>,
    streams: BTreeMap<End, End>,
    accepted: u64,
    answers: BTreeMap<u64, Json>,
    asked: u64,
    cut: bool,
    parted: bool,
    holds: bool,
    held: Vec<(usize, ConnId, Bytes)>,
}

impl Nodes {
    /// Starts a node for each script; an empty one stands for a node that the test plays.
    pub fn new(modules: Modules, scripts: Vec<String>) -> Self {
        let mut nodes = Self::asleep(modules, scripts);
        nodes.boot_all();
        nodes
    }

    /// The same before any of them has started.
    pub fn asleep(modules: Modules, scripts: Vec<String>) -> Self {
        Self {
            now: Now { mono_ns: 1_000_000 * MS, unix_ms: 1_800_000_000_000 },
            workers: scripts.iter().map(|_| None).collect(),
            db: MemoryDb::with_tables(tandem_db::schema::tables()),
            spools: BTreeMap::new(),
            files: BTreeMap::new(),
            logs: Vec::new(),
            sent: Vec::new(),
            datagrams: Vec::new(),
            modules,
            scripts,
            witness: None,
            streams: BTreeMap::new(),
            accepted: 0,
            answers: BTreeMap::new(),
            asked: 0,
            cut: false,
            parted: false,
            holds: false,
            held: Vec::new(),
        }
    }

    /// Has `witness` look at every node whenever something is sent.
    pub fn watch(&mut self, witness: Witness) {
        self.witness = Some(witness);
    }

    /// Starts every node that has a script.
    pub fn boot_all(&mut self) {
        for at in 0..self.scripts.len() {
            if self.scripts.get(at).is_some_and(|script| !script.is_empty()) {
                self.boot(at);
            }
        }
    }

    /// Starts a node.
    ///
    /// # Panics
    /// With the rendered errors of its script.
    pub fn boot(&mut self, at: usize) {
        let script = self.scripts.get(at).cloned().unwrap_or_default();
        evidence::note(&script);
        let mut files = Files([("t.cfg".to_owned(), script)].into());
        let (program, diags, map) =
            Tables::new(self.modules).with(|c| tandem_script::compile(&mut files, "t.cfg", c));
        let render = |d: &[_]| tandem_script::diag::render_all(d, &map);
        let program = program.unwrap_or_else(|| panic!("{}", render(&diags)));
        let now = self.now;
        let mut chance = Chance::from_number(now.unix_ms + at as u64);
        let command_line = Vec::new();
        let options = NodeOptions { chance: chance.fork(), now, workers: 1, command_line };
        let node = Node::build(program, self.modules, options);
        let node = node.unwrap_or_else(|d| panic!("{}", render(&d)));
        let mut worker = Worker::new(node, 0, chance, now);
        let mut out = Out::default();
        worker.start(now, &mut out);
        if let Some(place) = self.workers.get_mut(at) {
            *place = Some(worker);
        }
        self.carry_out(at, out);
    }

    /// A node that runs.
    ///
    /// # Panics
    /// If it does not.
    pub fn node(&self, at: usize) -> &Node {
        match self.workers.get(at).and_then(Option::as_ref) {
            Some(worker) => worker.node(),
            None => panic!("node {at} does not run"),
        }
    }

    /// The node is gone at once; its streams break.
    pub fn kill(&mut self, at: usize) {
        if let Some(place) = self.workers.get_mut(at) {
            *place = None;
        }
        let broken: Vec<(End, End)> =
            self.streams.iter().filter(|(a, _)| a.0 == at).map(|(a, b)| (*a, *b)).collect();
        for (mine, theirs) in broken {
            self.streams.remove(&mine);
            self.streams.remove(&theirs);
            self.step(theirs.0, Input::Bin(BinInput::Closed { conn: theirs.1 }));
        }
    }

    /// All streams break, and no new ones come up until [`Nodes::heal`].
    pub fn cut(&mut self) {
        self.cut = true;
        for end in std::mem::take(&mut self.streams).into_keys() {
            self.step(end.0, Input::Bin(BinInput::Closed { conn: end.1 }));
        }
    }

    /// Nothing gets through any more, and nobody is told: streams stay until a node gives them up.
    pub fn part(&mut self) {
        (self.cut, self.parted) = (true, true);
    }

    /// Holds back what nodes tell each other of their records when they meet, or lets it come:
    /// what they change meanwhile may overtake it.
    pub fn hold_records(&mut self, hold: bool) {
        self.holds = hold;
        if !hold {
            for (at, conn, bytes) in std::mem::take(&mut self.held) {
                self.deliver((at, conn), bytes);
            }
        }
    }

    fn deliver(&mut self, from: End, bytes: Bytes) {
        if let Some(&(to, other)) = self.streams.get(&from)
            && !self.parted
        {
            self.step(to, Input::Bin(BinInput::Data { conn: other, bytes }));
        }
    }

    /// What is left of a write when records are held back.
    fn held_back(&mut self, at: usize, conn: ConnId, bytes: Bytes) -> Bytes {
        let mut framer = Framer::default();
        framer.push(&bytes);
        let mut rest = Vec::new();
        while let Ok(Some(frame)) = framer.next_frame() {
            let packet = Packet::decode(frame.clone());
            if packet.is_ok_and(|p| p.capability == "tandem" && p.packet_type == RECORDS) {
                self.held.push((at, conn, frame));
            } else {
                rest.extend_from_slice(&frame);
            }
        }
        rest.into()
    }

    /// The nodes see each other again. What was sent while they were parted is lost with its stream.
    pub fn heal(&mut self) {
        let was_parted = std::mem::take(&mut self.parted);
        if was_parted {
            self.cut();
        }
        self.cut = false;
    }

    /// Lets time pass in steps of 10 ms.
    pub fn advance_ms(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(10) {
            self.now = self.now.plus_ns(10 * MS);
            (0..self.workers.len()).for_each(|at| self.step(at, Input::Tick));
        }
    }

    /// Runs a management command; the whole JSON-RPC answer, null if there was none.
    pub fn mi(&mut self, at: usize, method: &str, params: Json) -> Json {
        self.asked += 1;
        let request = self.asked;
        let mut object = json!({"jsonrpc": "2.0", "id": request, "method": method});
        if !params.is_null() {
            object["params"] = params;
        }
        evidence::note(&object.to_string());
        self.step(at, Input::Mi { request, text: Bytes::from(object.to_string()) });
        self.answers.remove(&request).unwrap_or(Json::Null)
    }

    /// Feeds a datagram to the first SIP socket of a node. Line ends may be plain newlines.
    ///
    /// # Panics
    /// If the node does not run, or has no such socket.
    pub fn udp(&mut self, at: usize, from: &str, text: &str) {
        let payload = Bytes::from(text.replace("\r\n", "\n").replace('\n', "\r\n"));
        let socket = self.node(at).sockets.of(Proto::Udp).next().map(|(id, s)| (id, s.addr.ip()));
        let Some((socket, local_ip)) = socket else { panic!("node {at} has no UDP socket") };
        let source = from.parse().unwrap_or_else(|_| panic!("not an address: {from}"));
        self.step(at, Input::Datagram { socket, source, local_ip, payload });
    }

    /// Takes the log lines of a node that begin with `#`.
    pub fn said(&mut self, at: usize) -> Vec<String> {
        let (mine, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.logs)
            .into_iter()
            .partition(|(n, text)| *n == at && text.starts_with('#'));
        self.logs = rest;
        mine.into_iter().map(|(_, text)| text).collect()
    }

    /// Feeds any input and carries the effects out.
    pub fn step(&mut self, at: usize, input: Input) {
        let mut out = Out::default();
        let Some(Some(worker)) = self.workers.get_mut(at) else { return };
        worker.step(self.now, input, &mut out);
        worker.finish(self.now, &mut out);
        self.carry_out(at, out);
    }

    fn carry_out(&mut self, at: usize, out: Out) {
        for effect in out.effects {
            match effect {
                Effect::BinConnect { conn, peer, .. } => self.connect(at, conn, peer),
                Effect::BinWrite { conn, bytes } => {
                    let bytes = if self.holds { self.held_back(at, conn, bytes) } else { bytes };
                    if !bytes.is_empty() {
                        self.deliver((at, conn), bytes);
                    }
                }
                Effect::BinClose { conn } => {
                    if let Some(other) = self.streams.remove(&(at, conn)) {
                        self.streams.remove(&other);
                        if !self.parted {
                            self.step(other.0, Input::Bin(BinInput::Closed { conn: other.1 }));
                        }
                    }
                }
                Effect::MiReply { request, text } => {
                    let json = serde_json::from_slice(&text).unwrap_or(Json::Null);
                    evidence::note(&String::from_utf8_lossy(&text));
                    self.answers.insert(request, json);
                }
                Effect::ReadFile { token, name } => {
                    let found = self.files.get(&name).map(|text| Bytes::from(text.clone()));
                    self.step(at, Input::FileRead { token, result: Ok(found) });
                }
                Effect::WriteFile { token, .. } => {
                    self.step(at, Input::FileWritten { token, result: Ok(()) });
                }
                Effect::Spool { token, ask } => {
                    let spool = self.spools.entry(at).or_default();
                    let result = spool.ask(ask);
                    self.step(at, Input::Spool { token, result });
                }
                Effect::Db { query, ask, .. } => {
                    let result = self.db.execute(&ask);
                    self.step(at, Input::Db { query, result });
                }
                Effect::Log { text, .. } => self.logs.push((at, text)),
                Effect::Fatal { text } => panic!("node {at}: {text}"),
                Effect::Send(send) => {
                    let seen = self.witness.map(|see| {
                        self.workers.iter().map(|w| w.as_ref().map_or(0, see)).collect()
                    });
                    let text = String::from_utf8_lossy(&send.payload).into_owned();
                    self.datagrams.push((at, send.to, text.clone()));
                    self.sent.push((text, seen.unwrap_or_default()));
                }
                _ => {}
            }
        }
    }

    fn connect(&mut self, at: usize, conn: ConnId, peer: SocketAddr) {
        let listens = |worker: &Worker| worker.node().sockets.iter().any(|(_, s)| s.addr == peer);
        let to = self.workers.iter().position(|w| w.as_ref().is_some_and(listens));
        let Some(to) = to.filter(|_| !self.cut) else {
            self.step(at, Input::Bin(BinInput::ConnectFailed { conn }));
            return;
        };
        self.accepted += 1;
        let other = ConnId::Accepted(self.accepted);
        self.streams.insert((at, conn), (to, other));
        self.streams.insert((to, other), (at, conn));
        // A node connects from the address of its BIN socket.
        let own = self.node(at).sockets.iter().find(|(_, s)| s.addr.port() == peer.port());
        let from = SocketAddr::new(own.map_or(peer.ip(), |(_, s)| s.addr.ip()), 40_000);
        self.step(to, Input::Bin(BinInput::Accepted { conn: other, peer: from }));
        self.step(at, Input::Bin(BinInput::Connected { conn, local: Some(from) }));
    }
}
