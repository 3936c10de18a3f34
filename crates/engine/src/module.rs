//! What a module is: a table of what it offers, and a state built from its parameters.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value as Json;
use tandem_clock::{Mono, Now};
use tandem_db::{DbError, DbUrl, Query, Rows};
use tandem_script::host::{Assign, Called};
use tandem_script::program::RouteId;
use tandem_script::sig::{Dependency, FunctionSig, ParamSig, VariableSig};
use tandem_script::value::Value;
use tandem_sip::Message;

use crate::attached::{Attached, Section, TxMoment};
pub use crate::call::{Call, VarCall};
use crate::context::{Ctx, Fate, Source};
use crate::dialog::DialogEvent;
use crate::effect::{DatabaseId, DbNews, Effect, Out, Send, SpoolAnswer, SpoolAsk};
use crate::endpoint::{Endpoint, HttpAnswer, HttpAsk};
use crate::gate::{GateMode, Gated};
use crate::mi::{MiDef, RpcError};
use crate::node::{Job, Node, WorkerState};
use crate::replication::Replicated;
use crate::reports::MAIN;
use crate::sockets::SocketId;
use crate::stats::{StatDef, StatId};
use crate::stream::StreamOptions;
use crate::transport::{Hop, HopError};

mod parameters;

pub use parameters::{Build, BuildError, ParamValue};

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

/// The running state of a module. Every method has a default: a module says only what it does.
pub trait Module: Any + std::marker::Send + Sync {
    /// Called once, when all modules are built; may ask for queries and files. A start-up task
    /// counted with [`Cx::begin_startup`] keeps the node from being ready.
    fn start(&self, _cx: &mut Cx<'_>) {}

    /// A timer set with [`Cx::set_timer`] fired.
    fn timer(&self, _cx: &mut Cx<'_>, _timer: Timer) {}

    /// A query asked with [`Cx::query`] is answered.
    fn db(&self, _cx: &mut Cx<'_>, _token: u64, _result: Result<Rows, DbError>) {}

    /// A database on a server came or went, or was slow. Every module is told.
    fn db_news(&self, _cx: &mut Cx<'_>, _url: &DbUrl, _news: &DbNews) {}

    /// A search begun with [`Cx::resolve`] has ended.
    fn resolved(&self, _cx: &mut Cx<'_>, _token: u64, _result: Result<Vec<Hop>, HopError>) {}

    /// A request that this module sent through a module of transactions has this reply; `None`:
    /// the code is one of this node's own, because nobody has answered, or a 2xx of which only the
    /// code was wanted. Provisional replies come too; after one of 200 or more nothing comes any
    /// more.
    fn local_reply(&self, _cx: &mut Cx<'_>, _token: u64, _code: u16, _reply: Option<&Message>) {}

    /// Something happened to a transaction that this module attached `section` to.
    fn transaction(&self, _cx: &mut Cx<'_>, _section: &Section, _moment: &TxMoment) {}

    /// A request to which this module attached `section` was answered without a transaction.
    fn replied_stateless(&self, _cx: &mut Cx<'_>, _section: &Section, _reply: &Bytes) {}

    /// Something happened to a dialog in which this module keeps a section.
    fn dialog(&self, _cx: &mut Cx<'_>, _event: &DialogEvent<'_>) {}

    /// Whether a dialog that another kind of node has made is this module's concern, although it
    /// has no section in it: its end is told like that of others.
    fn adopts(&self, _record: &(dyn Any + std::marker::Send + Sync)) -> bool {
        false
    }

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

    /// Whether a transaction of this module waits for an ACK: then no other module absorbs it.
    fn awaits_ack(&self, _ack: &Message) -> bool {
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

    /// A reply that no module owns goes on by its Via.
    fn reply_passes(&self, _cx: &mut Cx<'_>, _reply: &Message) {}

    /// Whether [`Module::takes_reply`] is to be asked.
    fn knows_replies(&self) -> bool {
        false
    }

    /// A datagram that begins like a reply, before it is read: true, it was this module's.
    fn takes_reply(&self, _cx: &mut Cx<'_>, _bytes: &[u8]) -> bool {
        false
    }

    /// A request that this module hides came to one socket and leaves from another: hides the
    /// Contact of its sender, as the edits have left it.
    fn hide_sender(
        &self,
        _node: &Node,
        _hides: &crate::context::Hides,
        _sockets: (SocketId, SocketId),
        _msg: &Message,
        _edits: &mut tandem_sip::Edits,
    ) {
    }

    /// A reply to a request that this module hides goes on from one socket to the one that the
    /// request came to: hides its sender as well. Vias are the transaction's matter.
    fn hide_reply(
        &self,
        _cx: &mut Cx<'_>,
        _hides: &crate::context::Hides,
        _sockets: (SocketId, SocketId),
        _request: &Message,
        _reply: &Message,
        _edits: &mut tandem_sip::Edits,
    ) {
    }

    /// Whether this module judges requests before the script sees them.
    fn screens(&self) -> bool {
        false
    }

    /// Judges a request before the script sees it; `false` drops it.
    fn screen(&self, _cx: &mut Cx<'_>, _ctx: &mut Ctx) -> bool {
        true
    }

    /// A Route header of ours was taken off a request of a dialog; `params` are those of its URI.
    fn route_taken(&self, _cx: &mut Cx<'_>, _ctx: &mut Ctx, _params: &[u8]) {}

    /// A request belongs to a dialog whose sides know From and To differently: what its receiver
    /// knows them as; an empty URI is the one that is there.
    fn names_known(&self, _cx: &mut Cx<'_>, _ctx: &mut Ctx, _from: &[u8], _to: &[u8]) {}

    /// A route that this module started with [`Cx::run_route`] has ended.
    fn route_ended(&self, _cx: &mut Cx<'_>, _token: u64, _ctx: Box<Ctx>, _end: RouteEnd) {}

    /// An event was raised, while [`crate::events::Events::listen`] says that somebody waits.
    fn event(&self, _cx: &mut Cx<'_>, _event: &str, _params: &[(Bytes, Value)]) {}

    /// Something happened in a cluster: a tag changed hands, a node came or went, a sync ended.
    fn cluster_news(&self, _cx: &mut Cx<'_>, _news: &tandem_cluster::Effect) {}

    /// One of the first requests came over a connection to which no flow is bound
    /// ([`crate::stream::Flow`]); the script has not seen it yet.
    fn stream_request(&self, _cx: &mut Cx<'_>, _source: &Source, _request: &Message) {}

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

    /// What was asked with [`Cx::ask_spool`] is done, or not.
    fn spool(&self, _cx: &mut Cx<'_>, _token: u64, _result: Result<SpoolAnswer, String>) {}

    /// A command started with [`Cx::run_program`] has ended, or could not be started.
    fn program_ended(
        &self,
        _cx: &mut Cx<'_>,
        _token: u64,
        _result: Result<crate::effect::Ended, String>,
    ) {
    }

    /// Something happened to a connection asked for with [`Cx::ask_client`].
    fn client(&self, _cx: &mut Cx<'_>, _token: u64, _event: crate::client::ClientEvent) {}

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

    /// The values that this module keeps for scripts.
    fn cache(&self) -> Option<&dyn crate::cache::CacheStore> {
        None
    }

    /// The records this module replicates.
    fn replicated(&self) -> Option<&dyn Replicated> {
        None
    }

    /// A second capability of the same module, with records or messages of its own.
    fn replicated_too(&self) -> Option<&dyn Replicated> {
        None
    }

    /// What has to be written exactly once for a call that ends now, as numbers that every node
    /// computes alike; `record` is the dialog.
    fn owes(&self, _record: &(dyn Any + std::marker::Send + Sync)) -> Vec<u64> {
        Vec::new()
    }

    /// Where this node writes what it owes, as a number that names the place wherever it is written
    /// from; 1: a place without identities, 0: it is not known yet.
    fn pays_into(&self) -> u64 {
        1
    }

    /// A peer has what was changed before [`Cx::when_acknowledged`], or nobody waits for it.
    fn acknowledged(&self, _cx: &mut Cx<'_>, _token: u64) {}

    /// What `tandemctl status` shows of this module; `None`: nothing.
    fn status(&self, _node: &Node, _now: Now) -> Option<Json> {
        None
    }

    /// Sends a reply to the request of `ctx` with a transaction, if this module keeps one for
    /// it. `false`: it does not, and the reply goes out without state (signaling's rule).
    fn reply_stateful(&self, _cx: &mut Cx<'_>, _ctx: &mut Ctx, _code: u16, _reason: &[u8]) -> bool {
        false
    }

    /// What became of the request of `ctx` in the transaction that this module keeps for it in
    /// its section, which is that of `slot`; `None`: it keeps none.
    fn fate(&self, _slot: u16, _ctx: &Ctx) -> Option<Fate> {
        None
    }

    /// `async()` stands in a route of the message of `ctx`: what keeps the message while the
    /// function works is made. `Ok(false)`: nothing more is to be done for it. `None`: this
    /// module keeps no messages.
    fn begin_async(&self, _cx: &mut Cx<'_>, _ctx: &mut Ctx) -> Option<Result<bool, String>> {
        None
    }

    /// The run of a request waits, and events of its transaction may come before it goes on: what
    /// the script has done to it so far counts for them.
    fn request_waits(&self, _cx: &mut Cx<'_>, _ctx: &mut Ctx) {}

    /// The run of a request has ended, for good: a suspended one has come back before. What the
    /// module began for the request and nobody took up is let go here.
    fn request_ended(&self, _cx: &mut Cx<'_>, _ctx: &mut Ctx) {}

    /// What this module attached to a message, as bytes that mean the same on another node, to
    /// which the transaction goes; `None`: it is left behind.
    fn section_bytes(&self, _section: &Section) -> Option<Bytes> {
        None
    }

    /// The section of [`Module::section_bytes`] on the node that takes over.
    fn section_of(&self, _bytes: &Bytes) -> Option<Section> {
        None
    }

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
    /// Has the module that hides a request hide a reply to it.
    pub fn hide_reply(
        &mut self,
        hides: &crate::context::Hides,
        sockets: (SocketId, SocketId),
        request: &Message,
        reply: &Message,
        edits: &mut tandem_sip::Edits,
    ) {
        let node = Arc::clone(self.node);
        let module = node.modules.get(usize::from(hides.slot)).and_then(|s| s.state.as_ref());
        if let Some(module) = module {
            self.for_slot(hides.slot, |cx| {
                module.hide_reply(cx, hides, sockets, request, reply, edits);
            });
        }
    }

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

    /// Comes back to [`Module::timer`] after this step: before anything leaves that it sends.
    pub fn come_back(&mut self, timer: Timer) {
        self.worker.add_job(Job::Soon { slot: self.slot, timer });
    }

    /// Asks a database; the answer comes to [`Module::db`] with `token` (48 bits).
    pub fn query(&mut self, database: DatabaseId, ask: Query, token: u64) {
        if !self.node.startup.is_over() {
            self.check_version(database, &ask);
        }
        let query = with_slot(self.slot, token);
        self.out.push(Effect::Db { query, database, ask });
    }

    /// Reads a file of the node's state; the answer comes to [`Module::file_read`].
    pub fn read_file(&mut self, name: &str, token: u64) {
        let token = with_slot(self.slot, token);
        self.out.push(Effect::ReadFile { token, name: name.to_owned() });
    }

    /// Asks the spool; the answer comes to [`Module::spool`] with `token` (48 bits).
    pub fn ask_spool(&mut self, ask: SpoolAsk, token: u64) {
        let token = with_slot(self.slot, token);
        self.out.push(Effect::Spool { token, ask });
    }

    /// Writes a file of the node's state. Nobody is told the end of it; what cannot be written is
    /// missing after a restart.
    pub fn write_file(&mut self, name: &str, bytes: Bytes) {
        let token = with_slot(self.slot, OWN_FILE);
        self.out.push(Effect::WriteFile { token, name: name.to_owned(), bytes });
    }

    /// Runs a command of the shell; its end comes to [`Module::program_ended`].
    pub fn run_program(&mut self, program: crate::effect::Command, token: u64) {
        let token = with_slot(self.slot, token);
        self.out.push(Effect::Run { token, program });
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

    /// Has the module told, through [`Module::acknowledged`], when one Tandem peer has every change
    /// made so far; after 20 ms or without such a peer it is told all the same.
    pub fn when_acknowledged(&mut self, token: u64) {
        self.out.gated.push(Gated::Word(with_slot(self.slot, token)));
    }

    /// Whether a module whose records peers have keeps something with a message.
    pub fn is_replicated(&self, attached: &Attached) -> bool {
        attached.iter().any(|(slot, _)| {
            let module = self.node.modules.get(usize::from(*slot)).and_then(|m| m.state.as_ref());
            module.is_some_and(|module| module.replicated().is_some())
        })
    }

    /// What waited at a gate goes on.
    pub(crate) fn go_on(&mut self, gated: Gated) {
        match gated {
            Gated::Send(send) => self.out.send(send),
            Gated::Word(number) => self.worker.add_job(Job::Acknowledged { number }),
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

    /// Tells the modules at once; nobody who calls this holds a lock.
    pub fn tell_transaction_now(&mut self, attached: &Attached, moment: &TxMoment) {
        let node = Arc::clone(self.node);
        for (slot, section) in attached.iter() {
            let module = node.modules.get(usize::from(*slot)).and_then(|s| s.state.as_ref());
            if let Some(module) = module {
                self.for_slot(*slot, |cx| module.transaction(cx, section, moment));
            }
        }
    }

    /// Tells the modules that attached something to a transaction what happened to it, when no
    /// lock is held any more.
    pub fn tell_transaction(&mut self, attached: &Attached, moment: impl FnOnce() -> TxMoment) {
        if !attached.is_empty() {
            let (attached, moment) = (attached.clone(), moment());
            self.worker.add_job(Job::Transaction { attached, moment });
        }
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

/// The token of files that nobody waits for.
pub(crate) const OWN_FILE: u64 = (1 << 48) - 1;

/// Puts the module's slot above a token of 48 bits.
pub(crate) fn with_slot(slot: u16, token: u64) -> u64 {
    (u64::from(slot) << 48) | (token & ((1 << 48) - 1))
}

/// Parts a number made by [`with_slot`].
pub(crate) fn split_slot(number: u64) -> (u16, u64) {
    ((number >> 48) as u16, number & ((1 << 48) - 1))
}
