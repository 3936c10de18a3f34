//! What a module is: a table of what it offers, and a state built from its parameters.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value as Json;
use tandem_clock::{Chance, HashKey, Mono, Now};
use tandem_db::{Backend, DbError, DbUrl, Query, Rows};
use tandem_script::host::{ArgValue, Assign, Called, VarAccess};
use tandem_script::program::{Call as CallSite, Program, Ready, RouteId, VarId};
use tandem_script::sig::{Dependency, FunctionSig, ParamSig, VariableSig};
use tandem_script::value::Value;
use tandem_script::vm::Running;
use tandem_sip::Message;

use crate::context::{Ctx, Source};
use crate::effect::{DatabaseId, Effect, Out, Send};
use crate::endpoint::{Endpoint, HttpAnswer, HttpAsk};
use crate::gate::GateMode;
use crate::log::Level;
use crate::mi::{MiDef, RpcError};
use crate::node::{Job, Node, WorkerState};
use crate::replication::Replicated;
use crate::reports::MAIN;
use crate::sockets::Sockets;
use crate::stats::{StatDef, StatId};
use crate::stream::StreamOptions;
use crate::transport::{Hop, HopError};

/// A script function of a module's table.
#[derive(Clone, Copy)]
pub struct FunctionDef {
    pub sig: FunctionSig,
    pub run: fn(&mut Call<'_, '_, '_>) -> Called,
}

/// Writes a variable; the error is logged with the place.
pub type Setter = fn(&mut VarCall<'_, '_>, Assign, Value) -> Result<(), String>;

/// A variable of a module's table.
#[derive(Clone, Copy)]
pub struct VariableDef {
    pub sig: VariableSig,
    pub get: fn(&mut VarCall<'_, '_>) -> Value,
    pub set: Option<Setter>,
}

/// An event of a module's table.
#[derive(Clone, Copy, Debug)]
pub struct EventDef {
    pub name: &'static str,
    /// Names of the values, in order.
    pub params: &'static [&'static str],
    pub help: &'static str,
}

/// A module as `loadmodule` finds it: its whole export table.
pub struct ModuleDef {
    pub name: &'static str,
    /// One sentence: what it is for.
    pub help: &'static str,
    pub dependencies: &'static [Dependency],
    pub params: &'static [ParamSig],
    pub functions: &'static [FunctionDef],
    pub variables: &'static [VariableDef],
    pub mi: &'static [MiDef],
    pub statistics: &'static [StatDef],
    pub events: &'static [EventDef],
    pub build: fn(&mut Build<'_>) -> Result<Arc<dyn Module>, BuildError>,
}

/// Why a module cannot be built; shown to the operator under the parameter's line.
#[derive(Debug)]
pub struct BuildError {
    /// Parameter at fault; empty: the module as a whole.
    pub param: &'static str,
    pub message: String,
    pub help: Option<String>,
}

impl BuildError {
    pub fn new(param: &'static str, message: impl Into<String>) -> Self {
        Self { param, message: message.into(), help: None }
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// A value of `modparam` or of a global.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParamValue {
    Int(i32),
    Str(String),
}

/// What a module is built from.
pub struct Build<'a> {
    pub(crate) values: &'a BTreeMap<String, Vec<ParamValue>>,
    pub(crate) globals: &'a BTreeMap<String, Vec<ParamValue>>,
    pub(crate) built: &'a [Option<Arc<dyn Module>>],
    pub(crate) databases: &'a mut Vec<DbUrl>,
    pub(crate) loaded_names: &'a [&'static str],
    pub program: &'a Program,
    pub sockets: &'a Sockets,
    pub chance: &'a mut Chance,
    /// The module's own slot.
    pub slot: u16,
}

impl Build<'_> {
    /// The last value given for an integer parameter, or its default from the table.
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.values.get(name)?.last()? {
            ParamValue::Int(n) => Some(i64::from(*n)),
            ParamValue::Str(s) => s.parse().ok(),
        }
    }

    /// The last value given for a text parameter.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.values.get(name)?.last()? {
            ParamValue::Str(s) => Some(s),
            ParamValue::Int(_) => None,
        }
    }

    /// Every value given for a parameter that may be given several times.
    pub fn all(&self, name: &str) -> &[ParamValue] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    pub fn global_text(&self, name: &str) -> Option<&str> {
        match self.globals.get(name)?.last()? {
            ParamValue::Str(s) => Some(s),
            ParamValue::Int(_) => None,
        }
    }

    pub fn global_int(&self, name: &str) -> Option<i64> {
        match self.globals.get(name)?.last()? {
            ParamValue::Int(n) => Some(i64::from(*n)),
            ParamValue::Str(_) => None,
        }
    }

    /// The state of a module this one uses, built before it.
    pub fn module<T: Module>(&self) -> Option<Arc<T>> {
        self.built.iter().flatten().find_map(|m| {
            let any: Arc<dyn Any + std::marker::Send + Sync> = Arc::clone(m) as _;
            any.downcast::<T>().ok()
        })
    }

    /// The mask of the branch flag that a parameter names; 0 when the parameter is unset.
    pub fn branch_flag(&self, param: &str) -> u32 {
        let name = self.text(param);
        let bit = name.and_then(|n| self.program.branch_flags.iter().position(|f| f == n));
        bit.and_then(|bit| 1u32.checked_shl(bit as u32)).unwrap_or(0)
    }

    /// The mask of the message flag that a parameter names; 0 when the parameter is unset.
    pub fn message_flag(&self, param: &str) -> u32 {
        let name = self.text(param);
        let bit = name.and_then(|n| self.program.message_flags.iter().position(|f| f == n));
        bit.and_then(|bit| 1u32.checked_shl(bit as u32)).unwrap_or(0)
    }

    /// The name of the AVP that a parameter of the form `$avp(name)` names.
    pub fn avp(&self, param: &str) -> Option<Bytes> {
        let name = self.text(param)?.strip_prefix("$avp(")?.strip_suffix(')')?;
        Some(Bytes::copy_from_slice(name.as_bytes()))
    }

    /// The variable that the last value of a parameter of kind `Var` names. `table` is the
    /// module's own parameter table.
    pub fn var(&self, table: &[ParamSig], param: &str) -> Option<VarId> {
        let index = table.iter().position(|p| p.name == param)?;
        let mut given = self.program.modparams.iter().rev();
        given.find(|p| p.module == self.slot && usize::from(p.param) == index)?.var
    }

    /// The database of a parameter, else the one of `db_default_url`; `None` if neither is set.
    ///
    /// # Errors
    /// What is wrong with the url.
    pub fn database_param(
        &mut self,
        param: &'static str,
    ) -> Result<Option<DatabaseId>, BuildError> {
        let url = self.text(param).or_else(|| self.global_text("db_default_url"));
        let Some(url) = url.filter(|u| !u.is_empty()).map(str::to_owned) else { return Ok(None) };
        self.database(&url).map(Some).map_err(|e| BuildError::new(param, e))
    }

    /// A database handle for a url; the same url gives the same handle.
    pub fn database(&mut self, url: &str) -> Result<DatabaseId, String> {
        let url = DbUrl::parse(url).map_err(|e| e.to_string())?;
        let needed = match url.backend {
            Backend::Sqlite => "db_sqlite",
            Backend::MySql => return Err("MySQL is not in Tandem yet; use sqlite://PATH".into()),
            Backend::Postgres => {
                return Err("PostgreSQL is not in Tandem yet; use sqlite://PATH".into());
            }
        };
        if !self.loaded_names.contains(&needed) {
            return Err(format!("this url needs the module {needed}: load it"));
        }
        let at = self.databases.iter().position(|u| *u == url).unwrap_or_else(|| {
            self.databases.push(url);
            self.databases.len() - 1
        });
        u16::try_from(at).map(DatabaseId).map_err(|_| "too many databases".into())
    }

    /// The url behind a handle, without its password.
    pub fn database_text(&self, database: DatabaseId) -> String {
        self.databases.get(usize::from(database.0)).map_or_else(String::new, DbUrl::to_string)
    }

    pub fn hash_key(&mut self) -> HashKey {
        self.chance.hash_key()
    }
}

/// The running state of a module. Every method has a default: a module says only what it does.
pub trait Module: Any + std::marker::Send + Sync {
    /// Called once, when all modules are built; may ask for queries and files. A start-up task
    /// counted with [`Cx::begin_startup`] keeps the node from being ready.
    fn start(&self, _cx: &mut Cx<'_>) {}

    /// A timer set with [`Cx::set_timer`] fired.
    fn timer(&self, _cx: &mut Cx<'_>, _timer: Timer) {}

    /// A query asked with [`Cx::query`] is answered.
    fn db(&self, _cx: &mut Cx<'_>, _token: u64, _result: Result<Rows, DbError>) {}

    /// A search begun with [`Cx::resolve`] has ended.
    fn resolved(&self, _cx: &mut Cx<'_>, _token: u64, _result: Result<Vec<Hop>, HopError>) {}

    /// A request that this module sent through a module of transactions has this reply; `None`:
    /// the code is one of this node's own, because nobody has answered. Provisional replies come
    /// too; after one of 200 or more nothing comes any more.
    fn local_reply(&self, _cx: &mut Cx<'_>, _token: u64, _code: u16, _reply: Option<&Message>) {}

    /// A datagram sent with a ticket of this module did not leave.
    fn send_failed(&self, _cx: &mut Cx<'_>, _token: u64, _error: crate::effect::SendError) {}

    /// What the binary is to open for this module.
    fn endpoints(&self) -> Vec<Endpoint> {
        Vec::new()
    }

    /// Somebody asks for a page that this module hung on the HTTP listener. It answers with
    /// [`Cx::http_reply`], now or later; the default page is not found.
    fn http(&self, cx: &mut Cx<'_>, request: u64, _ask: HttpAsk) {
        let body = Bytes::from_static(b"Not found\n");
        cx.http_reply(request, HttpAnswer { status: 404, content_type: "text/plain", body });
    }

    /// Whether an ACK is for this module alone and no script is to see it.
    fn absorbs(&self, _cx: &mut Cx<'_>, _ack: &Message) -> bool {
        false
    }

    /// Whether a CANCEL to an anycast socket is dealt with by this module, without the script.
    fn takes_cancel(&self, _cx: &mut Cx<'_>, _cancel: &Message, _source: &Source) -> bool {
        false
    }

    /// A reply arrived. `Some`: it was ours and is dealt with; the context comes back otherwise.
    fn reply(&self, _cx: &mut Cx<'_>, ctx: Box<Ctx>) -> Option<Box<Ctx>> {
        Some(ctx)
    }

    /// A Route header of ours was taken off a request of a dialog; `params` are those of its URI.
    fn route_taken(&self, _cx: &mut Cx<'_>, _ctx: &mut Ctx, _params: &[u8]) {}

    /// A route that this module started with [`Cx::run_route`] has ended.
    fn route_ended(&self, _cx: &mut Cx<'_>, _token: u64, _ctx: Box<Ctx>, _end: RouteEnd) {}

    /// Something happened in a cluster: a tag changed hands, a node came or went, a sync ended.
    fn cluster_news(&self, _cx: &mut Cx<'_>, _news: &tandem_cluster::Effect) {}

    /// How connections that carry SIP behave; the transport's alone.
    fn stream_options(&self) -> Option<StreamOptions> {
        None
    }

    /// The key of this node's nonces, which its Tandem peers need; `None`: there is none, or the
    /// configuration gives all nodes the same.
    fn nonce_key(&self) -> Option<Bytes> {
        None
    }

    /// The node's id in its clusters and its gate mode; the clusterer's alone.
    fn identity(&self) -> Option<(u32, GateMode)> {
        None
    }

    /// A file asked for with [`Cx::read_file`] was read; a missing one is `Ok(None)`.
    fn file_read(&self, _cx: &mut Cx<'_>, _token: u64, _result: Result<Option<Bytes>, String>) {}

    /// The value of a statistic of kind `Function`, by its index in the table.
    fn statistic(&self, _node: &Node, _now: Now, _index: usize) -> u64 {
        0
    }

    /// `$var`s that every worker starts with.
    fn preset_vars(&self) -> Vec<(Bytes, Value)> {
        Vec::new()
    }

    /// How outside subscribers of events are reached through this module.
    fn event_transports(&self) -> Vec<crate::events::EventTransport> {
        Vec::new()
    }

    /// Counters whose names are not in the table, by `name` or `group:name`.
    fn own_counters(&self, _now: Now) -> Vec<(String, u64)> {
        Vec::new()
    }

    /// Sets a counter of [`Module::own_counters`] to 0, by its name without group, or all of
    /// them; true when it is one of this module.
    fn reset_own_counter(&self, _name: Option<&str>) -> bool {
        false
    }

    /// Statistics whose names depend on the configuration: `location-users`. A name with a
    /// colon brings its group.
    fn dynamic_statistics(&self, _node: &Node, _now: Now) -> Vec<(String, u64)> {
        Vec::new()
    }

    /// The records this module replicates.
    fn replicated(&self) -> Option<&dyn Replicated> {
        None
    }

    /// What `tandemctl status` shows of this module; `None`: nothing.
    fn status(&self, _node: &Node, _now: Now) -> Option<Json> {
        None
    }

    /// Sends a reply to the request of `ctx` with a transaction, if this module keeps one for
    /// it. `false`: it does not, and the reply goes out without state (signaling's rule).
    fn reply_stateful(&self, _cx: &mut Cx<'_>, _ctx: &mut Ctx, _code: u16, _reason: &[u8]) -> bool {
        false
    }

    /// `async()` stands in a route of the message of `ctx`: what keeps the message while the
    /// function works is made. `Ok(false)`: nothing more is to be done for it. `None`: this
    /// module keeps no messages.
    fn begin_async(&self, _cx: &mut Cx<'_>, _ctx: &mut Ctx) -> Option<Result<bool, String>> {
        None
    }

    /// The run of a request has ended, for good: a suspended one has come back before. What the
    /// module began for the request and nobody took up is let go here.
    fn request_ended(&self, _cx: &mut Cx<'_>, _ctx: &mut Ctx) {}

    /// The node ends.
    fn shutdown(&self, _cx: &mut Cx<'_>) {}
}

/// How a route that a module started ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteEnd {
    /// `drop` was executed.
    pub dropped: bool,
    /// The run was cut off by an error (step budget, depth).
    pub failed: bool,
}

/// A timer as a module set it. It is plain data and cannot be cancelled: when it fires, the
/// module looks whether it still means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    pub kind: u32,
    pub id: u64,
}

/// The world as a module sees it during one step.
pub struct Cx<'a> {
    pub now: Now,
    pub node: &'a Arc<Node>,
    pub worker: &'a mut WorkerState,
    pub out: &'a mut Out,
    /// The module on whose behalf this step runs.
    pub slot: u16,
}

impl Cx<'_> {
    /// The same world for another module.
    pub fn for_slot<R>(&mut self, slot: u16, run: impl FnOnce(&mut Cx<'_>) -> R) -> R {
        let mine = std::mem::replace(&mut self.slot, slot);
        let result = run(self);
        self.slot = mine;
        result
    }

    /// Adds to a counter of this module, by its index in the table.
    pub fn count(&self, index: usize, n: u64) {
        self.node.stats.add(self.worker.id, self.stat_id(self.slot, index), n);
    }

    /// Adds to a counter of the core.
    pub(crate) fn count_core(&self, index: usize, n: u64) {
        self.node.stats.add(self.worker.id, self.stat_id(crate::core::SLOT, index), n);
    }

    fn stat_id(&self, slot: u16, index: usize) -> StatId {
        StatId(self.node.stat_base(slot) + index)
    }

    pub fn set_timer(&mut self, at: Mono, timer: Timer) {
        self.worker.set_timer(at, self.slot, timer);
    }

    /// Asks a database; the answer comes to [`Module::db`] with `token` (48 bits).
    pub fn query(&mut self, database: DatabaseId, ask: Query, token: u64) {
        let query = with_slot(self.slot, token);
        self.out.push(Effect::Db { query, database, ask });
    }

    /// Reads a file of the node's state; the answer comes to [`Module::file_read`].
    pub fn read_file(&mut self, name: &str, token: u64) {
        let token = with_slot(self.slot, token);
        self.out.push(Effect::ReadFile { token, name: name.to_owned() });
    }

    /// Reads a file of the operator's; a relative name is one beside the script. The answer comes
    /// to [`Module::file_read`].
    pub fn read_beside_script(&mut self, name: &str, token: u64) {
        let script = self.node.program.files.first().map_or("", String::as_str);
        let beside = std::path::Path::new(script).parent().unwrap_or("".as_ref());
        let path = std::path::Path::new(&self.node.folder()).join(beside).join(name);
        self.read_file(&path.to_string_lossy(), token);
    }

    /// Sends a datagram; with a token (48 bits, not 0) a failure comes back.
    pub fn send(&mut self, mut send: Send, token: u64) {
        if token != 0 {
            send.ticket = with_slot(self.slot, token);
        }
        self.out.send(send);
    }

    /// Whether lines of this level are written: by `$log_level` of the worker, else by the node's.
    pub fn logs(&self, level: Level) -> bool {
        match self.worker.log_level {
            Some(most) => level <= most,
            None => self.node.logs(level),
        }
    }

    /// The same for lines of `xlog()`.
    pub fn xlogs(&self, level: Level) -> bool {
        match self.worker.xlog_level {
            Some(most) => level <= most,
            None => self.node.xlogs(level),
        }
    }

    pub fn log(&mut self, level: Level, text: impl Into<String>) {
        if self.logs(level) {
            self.out.log(level, text);
        }
    }

    /// A start-up task begins; the node is not ready before [`Cx::end_startup`].
    pub fn begin_startup(&self) {
        self.node.startup.begin();
    }

    pub fn end_startup(&mut self) {
        if self.node.startup.end() {
            self.out.push(Effect::Ready);
            self.set_status("core", MAIN, 1, "running");
        }
    }

    /// Answers a command that ended with [`crate::mi::MiOutcome::Later`].
    pub fn mi_reply(&mut self, request: u64, result: Result<Json, RpcError>) {
        if let Some(text) = self.node.finish_mi(request, result) {
            self.out.push(Effect::MiReply { request, text: Bytes::from(text) });
        }
    }

    /// Answers a request for a page.
    pub fn http_reply(&mut self, request: u64, answer: HttpAnswer) {
        self.out.push(Effect::HttpReply { request, answer });
    }

    /// Tells a module of the reply to a request that it sent through this one, after this step.
    pub fn tell_reply(&mut self, slot: u16, token: u64, code: u16, reply: Option<Message>) {
        self.worker.add_job(Job::Told { slot, token, code, reply });
    }

    /// Takes a message that another node of the cluster got as if it had come here, after this
    /// step.
    pub fn take_message(&mut self, msg: Message, source: Source) {
        self.worker.add_job(Job::Message { msg, source });
    }

    /// Whether the message at hand was handed on by another node.
    pub fn is_handed_on(&self) -> bool {
        self.worker.from_peer
    }

    /// Runs a script block on a context after this step; it comes back to
    /// [`Module::route_ended`] with `token`. When too many routes wait already, the context comes
    /// back at once and the route does not run.
    pub fn run_route(&mut self, route: RouteId, ctx: Box<Ctx>, token: u64) -> Option<Box<Ctx>> {
        if !self.worker.has_room_for_job() {
            return Some(ctx);
        }
        let slot = self.slot;
        self.worker.add_job(Job::Route { route, ctx, done: Some((slot, token)) });
        None
    }
}

/// Puts the module's slot above a token of 48 bits.
pub(crate) fn with_slot(slot: u16, token: u64) -> u64 {
    (u64::from(slot) << 48) | (token & ((1 << 48) - 1))
}

/// Parts a number made by [`with_slot`].
pub(crate) fn split_slot(number: u64) -> (u16, u64) {
    ((number >> 48) as u16, number & ((1 << 48) - 1))
}

/// A script function being called.
pub struct Call<'a, 'b, 'c> {
    pub cx: &'a mut Cx<'b>,
    pub ctx: &'a mut Ctx,
    pub args: &'a [ArgValue],
    pub site: &'a CallSite,
    pub(crate) running: &'a mut Running<'c>,
}

impl Call<'_, '_, '_> {
    /// The state of the module that exports the function.
    pub fn state<T: Module>(&self) -> Option<Arc<T>> {
        self.cx.node.module::<T>(self.cx.slot)
    }

    /// A text argument; empty when omitted or null.
    pub fn text(&self, index: usize) -> Bytes {
        match self.args.get(index) {
            Some(ArgValue::Value(value)) => value.clone().into_bytes().unwrap_or_default(),
            _ => Bytes::new(),
        }
    }

    /// Whether an optional argument was given and is not null.
    pub fn given(&self, index: usize) -> bool {
        match self.args.get(index) {
            None | Some(ArgValue::None | ArgValue::Value(Value::Null)) => false,
            Some(_) => true,
        }
    }

    /// Whether a variable was named as an argument, whatever it holds.
    pub fn given_var(&self, index: usize) -> bool {
        matches!(self.args.get(index), Some(ArgValue::Var(_)))
    }

    pub fn int(&self, index: usize) -> Option<i32> {
        match self.args.get(index)? {
            ArgValue::Value(value) => value.int(),
            _ => None,
        }
    }

    /// What the compiler prepared from a literal argument.
    pub fn ready(&self, index: usize) -> Option<&Ready> {
        match self.args.get(index)? {
            ArgValue::Ready(ready) => Some(ready),
            _ => None,
        }
    }

    /// Says why a function failed, with its place in the script, and returns -1.
    pub fn complain(&mut self, level: Level, text: impl AsRef<str>) -> Called {
        let place = self.site.place;
        let file = self.running.program.file_name(place);
        let place = format!("{file}:{}:{}", place.line, place.column);
        self.cx.log(level, format!("{place}: {}", text.as_ref()));
        Called::Returned(-1)
    }
}

/// A variable being read or written.
pub struct VarCall<'a, 'b> {
    pub cx: &'a mut Cx<'b>,
    pub ctx: &'a mut Ctx,
    pub access: VarAccess<'a>,
}

impl VarCall<'_, '_> {
    pub fn state<T: Module>(&self) -> Option<Arc<T>> {
        self.cx.node.module::<T>(self.cx.slot)
    }
}
