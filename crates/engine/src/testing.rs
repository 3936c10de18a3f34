//! A node in memory, for tests of modules: real scripts and real messages, no sockets, and time
//! that passes when the test says so.

mod cover;
pub mod evidence;
mod nodes;
mod spool;
mod waiting;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value as Json, json};
use tandem_clock::{Chance, MS, Now};
use tandem_db::memory::MemoryDb;
use tandem_db::{DbError, Query, Rows};
use tandem_dns::{Answer, Name, Question, Record, RecordKind};
use tandem_script::diag::render_all;
use tandem_script::program::Program;
use tandem_script::source::{Loaded, Loader};

use crate::build::NodeOptions;
use crate::catalogue::{Modules, Tables};
use crate::client::ClientAsk;
use crate::effect::{Command, Effect, Ended, Input, Out};
use crate::endpoint::{HttpAnswer, HttpAsk};
use crate::events::Destination;
use crate::log::Level;
use crate::node::Node;
use crate::sockets::Proto;
use crate::stream::StreamId;
use crate::worker::Worker;

pub use cover::{Check, cover};
pub use nodes::{Nodes, Witness};
pub use spool::Spool;
pub use waiting::WAITING;

/// Files of a script that live in memory.
#[derive(Debug, Default)]
pub struct Files(pub BTreeMap<String, String>);

impl Loader for Files {
    fn load(&mut self, name: &str, _from: Option<&str>) -> Result<Loaded, String> {
        let text = self.0.get(name).ok_or_else(|| format!("no file {name}"))?;
        Ok(Loaded { name: name.to_owned(), text: text.clone().into_bytes() })
    }
}

/// How the commands of a [`TestNode`] end.
pub type Shell = fn(&Command) -> Result<Ended, String>;

/// What the database of a [`TestNode`] does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DbState {
    #[default]
    Up,
    /// Every query fails.
    Down,
    /// Queries wait for [`TestNode::answer_queries`].
    Slow,
}

/// One node with one worker, a database in memory and nobody around it.
pub struct TestNode {
    worker: Worker,
    now: Now,
    sent: Vec<(SocketAddr, Bytes)>,
    tickets: Vec<u64>,
    notified: Vec<(Destination, String)>,
    logs: Vec<(Level, String)>,
    files: BTreeMap<String, Bytes>,
    /// The database behind every url of the script.
    pub db: MemoryDb,
    /// What the database answers to SQL text, which it does not execute.
    pub sql: BTreeMap<String, Rows>,
    /// The files of the spool.
    pub spool: Spool,
    /// How commands of the shell end; none can be started without it.
    pub programs: Option<Shell>,
    /// What `reload_routes` finds.
    pub script: String,
    modules: Modules,
    /// Whether that database answers.
    pub db_state: DbState,
    db_waiting: Vec<(u64, Query)>,
    mi_answers: BTreeMap<u64, Json>,
    mi_texts: BTreeMap<u64, String>,
    next_mi: u64,
    /// What the DNS says; what it does not name is not there.
    pub zone: BTreeMap<Question, Answer>,
    /// The DNS is silent: questions wait for [`TestNode::answer_names`].
    pub dns_silent: bool,
    dns_waiting: Vec<(u64, Question)>,
    http_answers: Vec<HttpAnswer>,
    /// What was asked of connections of modules.
    pub clients: Vec<(u64, ClientAsk)>,
    /// Connections for SIP that were asked for.
    pub connects: Vec<(StreamId, SocketAddr)>,
    /// What was written to connections.
    pub written: Vec<(StreamId, String)>,
    /// Connections that were closed.
    pub closed: Vec<StreamId>,
    fatal: Option<String>,
    stopped: Option<bool>,
}

impl TestNode {
    /// Starts a node.
    ///
    /// # Panics
    /// With the rendered errors, if the script has any.
    pub fn new(script: &str, modules: Modules) -> Self {
        match Self::try_new(script, modules) {
            Ok(node) => node,
            Err(errors) => panic!("{errors}"),
        }
    }

    /// Starts a node, or gives the rendered errors of its script.
    ///
    /// # Errors
    /// What `check` would print.
    pub fn try_new(script: &str, modules: Modules) -> Result<Self, String> {
        Self::with_database(script, modules, |_| {})
    }

    /// Starts a node with rows in its database.
    ///
    /// # Errors
    /// What `check` would print, or why the node could not go on.
    pub fn with_database(
        script: &str,
        modules: Modules,
        fill: impl FnOnce(&mut MemoryDb),
    ) -> Result<Self, String> {
        Self::with_all(script, modules, fill, &[])
    }

    /// A file that the node wrote.
    pub fn file(&self, name: &str) -> Option<String> {
        let bytes = self.files.get(name)?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    }

    /// Starts a node with files beside its script.
    ///
    /// # Errors
    /// What `check` would print, or why the node could not go on.
    pub fn with_files(
        script: &str,
        modules: Modules,
        files: &[(&str, &str)],
    ) -> Result<Self, String> {
        Self::with_all(script, modules, |_| {}, files)
    }

    fn with_all(
        script: &str,
        modules: Modules,
        fill: impl FnOnce(&mut MemoryDb),
        files: &[(&str, &str)],
    ) -> Result<Self, String> {
        let started = Self::started(script, modules, |db, _| fill(db), DbState::Up, files);
        started.inspect_err(|said| evidence::note(said))
    }

    /// Starts a node whose database has not answered anything yet.
    ///
    /// # Panics
    /// With the rendered errors, if the script has any.
    pub fn with_slow_database(script: &str, modules: Modules, db: MemoryDb) -> Self {
        match Self::started(script, modules, |of, _| *of = db, DbState::Slow, &[]) {
            Ok(node) => node,
            Err(errors) => panic!("{errors}"),
        }
    }

    /// Starts a node that finds what an earlier one left.
    ///
    /// # Panics
    /// With the rendered errors, if the script has any.
    pub fn restarted(script: &str, modules: Modules, spool: Spool, db: MemoryDb) -> Self {
        let left = |of: &mut MemoryDb, files: &mut Spool| (*of, *files) = (db, spool);
        match Self::started(script, modules, left, DbState::Up, &[]) {
            Ok(node) => node,
            Err(errors) => panic!("{errors}"),
        }
    }

    fn started(
        script: &str,
        modules: Modules,
        fill: impl FnOnce(&mut MemoryDb, &mut Spool),
        db_state: DbState,
        beside: &[(&str, &str)],
    ) -> Result<Self, String> {
        let now = Now { mono_ns: 1_000_000 * MS, unix_ms: 1_800_000_000_000 };
        let files = beside.iter().map(|(n, t)| ((*n).to_owned(), Bytes::from((*t).to_owned())));
        Self::started_at(now, script, modules, fill, db_state, files.collect())
    }

    /// The same node after a restart, so much later: what it has is its files and its database.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn after_restart(self, after_ms: u64) -> Self {
        self.after_restart_with(after_ms, DbState::Up)
    }

    /// The same when the database is not what it was.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn after_restart_with(mut self, after_ms: u64, db_state: DbState) -> Self {
        self.step(Input::Shutdown);
        let Self { now, script, modules, db, spool, files, .. } = self;
        let now = Now { unix_ms: now.unix_ms + after_ms, ..now };
        let left = |of: &mut MemoryDb, spooled: &mut Spool| (*of, *spooled) = (db, spool);
        let started = Self::started_at(now, &script, modules, left, db_state, files);
        started.unwrap_or_else(|e| panic!("{e}"))
    }

    fn started_at(
        now: Now,
        script: &str,
        modules: Modules,
        fill: impl FnOnce(&mut MemoryDb, &mut Spool),
        db_state: DbState,
        beside: BTreeMap<String, Bytes>,
    ) -> Result<Self, String> {
        evidence::note(script);
        let mut chance = Chance::from_number(1);
        let mut files = Files([("test.cfg".to_owned(), script.to_owned())].into());
        let (program, diags, map) =
            Tables::new(modules).with(|c| tandem_script::compile(&mut files, "test.cfg", c));
        let Some(program) = program else { return Err(render_all(&diags, &map)) };
        let options =
            NodeOptions { chance: chance.fork(), now, workers: 1, command_line: command_line() };
        let node = Node::build(program, modules, options).map_err(|d| render_all(&d, &map))?;
        let mut test = Self {
            worker: Worker::new(node, 0, chance, now),
            now,
            sent: Vec::new(),
            tickets: Vec::new(),
            notified: Vec::new(),
            logs: Vec::new(),
            files: beside,
            db: MemoryDb::with_tables(tandem_db::schema::tables()),
            sql: BTreeMap::new(),
            spool: Spool::default(),
            programs: None,
            script: script.to_owned(),
            modules,
            db_state,
            db_waiting: Vec::new(),
            mi_answers: BTreeMap::new(),
            mi_texts: BTreeMap::new(),
            next_mi: 0,
            zone: BTreeMap::new(),
            dns_silent: false,
            dns_waiting: Vec::new(),
            http_answers: Vec::new(),
            clients: Vec::new(),
            connects: Vec::new(),
            written: Vec::new(),
            closed: Vec::new(),
            fatal: None,
            stopped: None,
        };
        fill(&mut test.db, &mut test.spool);
        let mut out = Out::default();
        test.worker.start(now, &mut out);
        test.carry_out(out);
        match test.fatal.take() {
            Some(text) => Err(text),
            None => Ok(test),
        }
    }

    pub fn node(&self) -> &Arc<Node> {
        self.worker.node()
    }

    pub fn now(&self) -> Now {
        self.now
    }

    /// Feeds a datagram to the first SIP socket. Line ends may be plain newlines.
    pub fn udp(&mut self, from: &str, text: &str) {
        let text = text.replace("\r\n", "\n").replace('\n', "\r\n");
        self.raw_udp(from, Bytes::from(text));
    }

    /// Feeds a datagram as it is.
    pub fn raw_udp(&mut self, from: &str, payload: Bytes) {
        let (socket, local_ip) = self
            .node()
            .sockets
            .of(Proto::Udp)
            .next()
            .map(|(id, s)| (id, s.addr.ip()))
            .unwrap_or((crate::sockets::SocketId(0), IpAddr::from([127, 0, 0, 1])));
        let source = from.parse().unwrap_or_else(|_| panic!("not an address: {from}"));
        self.step(Input::Datagram { socket, source, local_ip, payload });
    }

    /// Lets time pass in steps of one millisecond at most.
    pub fn advance_ms(&mut self, ms: u64) {
        let end = self.now.plus_ns(ms * MS);
        while self.now < end {
            let next = self.worker.next_deadline().unwrap_or(u64::MAX).max(self.now.mono_ns + 1);
            let by = next.min(end.mono_ns) - self.now.mono_ns;
            // Both clocks move together, in whole milliseconds where possible.
            let by = by.div_ceil(MS).max(1) * MS;
            self.now = self.now.plus_ns(by.min(end.mono_ns - self.now.mono_ns).max(1));
            self.step(Input::Tick);
        }
    }

    /// Why the node could not go on, if it said so.
    pub fn fatal(&mut self) -> Option<String> {
        self.fatal.take()
    }

    /// Takes what was sent since the last call.
    pub fn sent(&mut self) -> Vec<(SocketAddr, String)> {
        let text = |bytes: Bytes| String::from_utf8_lossy(&bytes).into_owned();
        self.sent_bytes().into_iter().map(|(to, bytes)| (to, text(bytes))).collect()
    }

    /// As [`TestNode::sent`], byte for byte.
    pub fn sent_bytes(&mut self) -> Vec<(SocketAddr, Bytes)> {
        std::mem::take(&mut self.sent)
    }

    /// Takes what outside subscribers were told since the last call.
    pub fn notified(&mut self) -> Vec<(Destination, String)> {
        std::mem::take(&mut self.notified)
    }

    /// Puts a file where the node reads files.
    pub fn write_file(&mut self, name: &str, text: &str) {
        self.files.insert(name.to_owned(), Bytes::from(text.to_owned()));
    }

    /// Whether the node asked to end, and if so whether something had failed.
    pub fn stopped(&self) -> Option<bool> {
        self.stopped
    }

    /// The ticket of the last datagram that had one, for [`Input::SendFailed`]; 0: none had.
    pub fn last_ticket(&self) -> u64 {
        self.tickets.last().copied().unwrap_or(0)
    }

    /// Takes the tickets of what was sent since the last call.
    pub fn tickets(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.tickets)
    }

    /// Answers the queries that a slow database has not answered; how many there were.
    pub fn answer_queries(&mut self) -> usize {
        let waiting = std::mem::take(&mut self.db_waiting);
        let count = waiting.len();
        for (query, ask) in waiting {
            let result = self.asked(&ask);
            self.step(Input::Db { query, result });
        }
        count
    }

    /// Fails the queries that a slow database has not answered.
    pub fn fail_queries(&mut self) {
        for (query, _) in std::mem::take(&mut self.db_waiting) {
            self.step(Input::Db { query, result: Err(away()) });
        }
    }

    /// Answers the questions that a silent DNS has not answered; how many there were.
    pub fn answer_names(&mut self) -> usize {
        let waiting = std::mem::take(&mut self.dns_waiting);
        let count = waiting.len();
        for (query, question) in waiting {
            let answer = self.dns_answer(&question);
            self.step(Input::Dns { query, answer });
        }
        count
    }

    /// Gives a name addresses.
    ///
    /// # Panics
    /// If it is no name, or one of them no address.
    pub fn host(&mut self, name: &str, ips: &[&str]) {
        let name = Name::parse(name.as_bytes()).unwrap_or_else(|| panic!("no name: {name}"));
        let ips = ips.iter().map(|ip| ip.parse().unwrap_or_else(|_| panic!("no address: {ip}")));
        let answer = Answer::of(ips.map(Record::Ip).collect(), 60);
        self.zone.insert(Question::new(&name, RecordKind::A), answer);
    }

    fn dns_answer(&self, question: &Question) -> Answer {
        self.zone.get(question).cloned().unwrap_or_else(|| Answer::none(60))
    }

    /// Takes the log lines since the last call.
    pub fn logs(&mut self) -> Vec<(Level, String)> {
        std::mem::take(&mut self.logs)
    }

    /// Runs a management command; the whole JSON-RPC answer, null if there was none.
    pub fn mi(&mut self, method: &str, params: Json) -> Json {
        self.next_mi += 1;
        let request = self.next_mi;
        let mut object = json!({"jsonrpc": "2.0", "id": request, "method": method});
        if !params.is_null() {
            object["params"] = params;
        }
        self.step(Input::Mi { request, text: Bytes::from(object.to_string()) });
        self.mi_answers.remove(&request).unwrap_or(Json::Null)
    }

    /// Asks a module for a page; `None`: it has not answered yet.
    pub fn http(&mut self, slot: u16, ask: HttpAsk) -> Option<HttpAnswer> {
        self.step(Input::Http { request: 1, slot, ask });
        self.http_answers.pop()
    }

    /// Takes the text of the answer to a request that was fed as [`Input::Mi`].
    pub fn mi_text(&mut self, request: u64) -> Option<String> {
        self.mi_texts.remove(&request)
    }

    /// Feeds any input and carries the effects out.
    pub fn step(&mut self, input: Input) {
        if let Input::Mi { text, .. } = &input {
            evidence::note(&String::from_utf8_lossy(text));
        }
        let mut out = Out::default();
        self.worker.step(self.now, input, &mut out);
        self.worker.finish(self.now, &mut out);
        self.carry_out(out);
    }

    /// A message took so long.
    pub fn took(&mut self, us: u64) {
        let mut out = Out::default();
        self.worker.took(self.now, us, &mut out);
        self.worker.finish(self.now, &mut out);
        self.carry_out(out);
    }

    /// A worker has begun to help (`up`), or has ended.
    pub fn scaled(&mut self, helper: usize, up: bool) {
        let mut out = Out::default();
        self.worker.scaled(self.now, helper, up, &mut out);
        self.worker.finish(self.now, &mut out);
        self.carry_out(out);
    }

    /// A step has failed by a bug.
    pub fn failed(&mut self) {
        let mut out = Out::default();
        self.worker.failed(self.now, &mut out);
        self.carry_out(out);
    }

    fn asked(&mut self, ask: &Query) -> Result<Rows, DbError> {
        match ask {
            Query::Raw { sql } if self.sql.contains_key(sql) => {
                Ok(self.sql.get(sql).cloned().unwrap_or_default())
            }
            ask => self.db.execute(ask),
        }
    }

    fn compile_again(&self) -> Result<Box<Program>, String> {
        let mut files = Files([("test.cfg".to_owned(), self.script.clone())].into());
        let script = self.node().script();
        let (program, diags, map) = Tables::new(self.modules).with(|c| {
            tandem_script::compile_after(&mut files, "test.cfg", c, Some(&script.program))
        });
        program.map(Box::new).ok_or_else(|| render_all(&diags, &map))
    }

    fn carry_out(&mut self, out: Out) {
        let mut inputs = Vec::new();
        for effect in out.effects {
            match effect {
                Effect::Send(send) => {
                    if send.ticket != 0 {
                        self.tickets.push(send.ticket);
                    }
                    self.sent.push((send.to, send.payload));
                }
                Effect::MiReply { request, text } => {
                    let json = serde_json::from_slice(&text).unwrap_or(Json::Null);
                    self.mi_answers.insert(request, json);
                    let text = String::from_utf8_lossy(&text).into_owned();
                    evidence::note(&text);
                    self.mi_texts.insert(request, text);
                }
                Effect::HttpReply { answer, .. } => self.http_answers.push(answer),
                Effect::Db { query, ask, .. } => match self.db_state {
                    DbState::Up => {
                        let result = self.asked(&ask);
                        inputs.push(Input::Db { query, result });
                    }
                    DbState::Slow => self.db_waiting.push((query, ask)),
                    DbState::Down => {
                        inputs.push(Input::Db { query, result: Err(away()) });
                    }
                },
                Effect::Dns { query, question } if self.dns_silent => {
                    self.dns_waiting.push((query, question));
                }
                Effect::Dns { query, question } => {
                    let answer = self.dns_answer(&question);
                    inputs.push(Input::Dns { query, answer });
                }
                Effect::ReadFile { token, name } => {
                    let result = Ok(self.files.get(&name).cloned());
                    inputs.push(Input::FileRead { token, result });
                }
                Effect::WriteFile { token, name, bytes } => {
                    self.files.insert(name, bytes);
                    inputs.push(Input::FileWritten { token, result: Ok(()) });
                }
                Effect::Spool { token, ask } => {
                    let result = self.spool.ask(ask);
                    inputs.push(Input::Spool { token, result });
                }
                Effect::Run { token, program } => {
                    let none = || Err("there are no commands here".to_owned());
                    let result = self.programs.map_or_else(none, |ends| ends(&program));
                    inputs.push(Input::ProgramEnded { token, result });
                }
                Effect::Client { token, ask } => self.clients.push((token, ask)),
                Effect::Notify { to, payload } => {
                    evidence::note(&String::from_utf8_lossy(&payload));
                    self.notified.push((to, String::from_utf8_lossy(&payload).into_owned()));
                }
                Effect::LoadScript { request } => {
                    let result = self.compile_again();
                    inputs.push(Input::ScriptLoaded { request, result });
                }
                Effect::Log { level, text } => self.logs.push((level, text)),
                Effect::Stop { failed } => self.stopped = Some(failed),
                Effect::Fatal { text } => self.fatal = Some(text),
                Effect::BinConnect { conn, .. } => {
                    inputs.push(Input::Bin(crate::effect::BinInput::ConnectFailed { conn }));
                }
                Effect::StreamConnect { conn, peer, .. } => self.connects.push((conn, peer)),
                Effect::StreamWrite { conn, bytes } => {
                    self.written.push((conn, String::from_utf8_lossy(&bytes).into_owned()));
                }
                Effect::StreamClose { conn } => self.closed.push(conn),
                Effect::BinWrite { .. }
                | Effect::BinClose { .. }
                | Effect::Wake
                | Effect::Ready => {}
            }
        }
        for input in inputs {
            self.step(input);
        }
    }
}

fn away() -> DbError {
    DbError::new(tandem_db::DbErrorKind::Unavailable, "it is away")
}

fn command_line() -> Vec<String> {
    ["tandem", "-f", "test.cfg", "-o", "site=here"].map(str::to_owned).to_vec()
}
