//! A worker: takes inputs one at a time, and ends each batch by handing changes to the cluster.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tandem_clock::{Chance, MS, Mono, Now};
use tandem_script::sig::Routes;
use tandem_sip::{Message, Method, ParseError};

use crate::context::{Ctx, Source};
use crate::core::stat;
use crate::early;
use crate::effect::{Effect, Input, Out};
use crate::gate::{GATE_NS, GateMode, GateTable};
use crate::held;
use crate::log::Level;
use crate::mi;
use crate::module::{Cx, OWN_FILE, RouteEnd, Timer, split_slot};
use crate::node::{Job, Node, WorkerState};
use crate::reports::MAIN;
use crate::run;
use crate::script::Script;
use crate::stream::{BadProxy, Begin, Proxied, read_proxy};
use crate::{transport, unfit};

/// Timers of the engine itself, which uses the slot of `core`.
pub(crate) mod timer {
    /// The oldest gate may be overdue.
    pub(crate) const GATES: u32 = 0;
    /// A timer route; the id is its route.
    pub(crate) const ROUTE: u32 = 1;
    /// A connection may have been without traffic for too long; the id is its own.
    pub(crate) const STREAM_IDLE: u32 = 3;
    /// A message that has begun may be late; the id is that of its connection.
    pub(crate) const STREAM_MESSAGE: u32 = 4;
    /// The time for an answer of the DNS is over; the id is its query.
    pub(crate) const DNS: u32 = 5;
    /// The time of an `async()` is over; the id is its run.
    pub(crate) const ASYNC: u32 = 2;
    /// The memory in use is looked at; the id is the percentage that was told last.
    pub(crate) const MEMORY: u32 = 6;
}

const CORE: u16 = crate::core::SLOT;

/// Rounds of jobs that lead to jobs at the end of a batch; what is left waits for the next.
const SETTLES_MAX: usize = 8;

/// One of the workers of a node. The binary runs each on a thread of its own; the simulator
/// steps them in the order its seed says.
pub struct Worker {
    node: Arc<Node>,
    pub(crate) state: WorkerState,
    fired: Vec<(u16, Timer)>,
}

impl Worker {
    pub fn new(node: Arc<Node>, id: usize, chance: Chance, now: Now) -> Self {
        let script = Arc::new(Script::clone(&node.script()));
        let mut state = WorkerState::new(id, chance, now, script);
        for (name, value) in node.loaded().flat_map(|(_, _, module)| module.preset_vars()) {
            state.vars.preset(&name, value);
        }
        Self { node, state, fired: Vec::new() }
    }

    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Its number among the workers of the node.
    pub fn id(&self) -> usize {
        self.state.id
    }

    /// Starts the node: startup route, modules, timer routes. Called once, on worker 0.
    pub fn start(&mut self, now: Now, out: &mut Out) {
        let node = Arc::clone(&self.node);
        let mut cx = self.cx(now, out);
        for (slot, _, module) in node.loaded() {
            cx.for_slot(slot, |cx| module.start(cx));
        }
        run::startup_route(&mut cx);
        run::start_timer_routes(&mut cx);
        cx.end_startup();
        self.finish(now, out);
    }

    /// Takes one input. Effects that need the end of the batch come with [`Worker::finish`].
    pub fn step(&mut self, now: Now, input: Input, out: &mut Out) {
        self.node.script.renew(&mut self.state.script);
        let from = out.effects.len();
        self.begin_profile(now, &input, out);
        self.take(now, input, out);
        self.tell_logs(now, from, out);
    }

    fn take(&mut self, now: Now, input: Input, out: &mut Out) {
        match input {
            Input::Datagram { socket, source, local_ip, payload } => {
                let socket = self.node.sockets.arrived(socket, local_ip);
                let source = Source { addr: source, socket, local_ip };
                self.datagram(now, source, payload, out);
            }
            Input::SendFailed { ticket, error } => {
                self.tell_module(now, ticket, out, |module, cx, id| {
                    module.send_failed(cx, id, error)
                });
            }
            Input::Db { query, result } => {
                self.node.startup.hear(now.mono_ns);
                let (slot, database) = split_slot(query);
                if slot == CORE {
                    return self.cx(now, out).versions_read(database, result);
                }
                self.tell_module(now, query, out, |module, cx, id| module.db(cx, id, result));
            }
            Input::DbNews { database, news } => {
                let node = Arc::clone(&self.node);
                let Some(url) = node.databases.get(usize::from(database.0)) else { return };
                let mut cx = self.cx(now, out);
                for (slot, _, module) in node.loaded() {
                    cx.for_slot(slot, |cx| module.db_news(cx, url, &news));
                }
            }
            Input::Dns { query, answer } => {
                crate::dns::answered(&mut self.cx(now, out), query, &answer);
            }
            Input::Stream(event) => self.stream(now, event, out),
            Input::Bin(event) => {
                let node = Arc::clone(&self.node);
                node.membership.bin(&mut self.cx(now, out), event);
            }
            Input::Mi { request, text } => self.management(now, request, text, out),
            Input::FileWritten { token, result } => {
                let node = Arc::clone(&self.node);
                let (_, token) = split_slot(token);
                let mut cx = self.cx(now, out);
                match result {
                    Err(e) if token == OWN_FILE => {
                        cx.log(
                            Level::Warning,
                            format!("a file of the node's state could not be written: {e}"),
                        );
                    }
                    _ => node.membership.persisted(&mut cx, token, result),
                }
            }
            Input::FileRead { token, result } => {
                self.tell_module(now, token, out, |module, cx, id| {
                    module.file_read(cx, id, result)
                });
            }
            Input::Spool { token, result } => {
                self.tell_module(now, token, out, |module, cx, id| module.spool(cx, id, result));
            }
            Input::ProgramEnded { token, result } => {
                self.tell_module(now, token, out, |module, cx, id| {
                    module.program_ended(cx, id, result)
                });
            }
            Input::Client(news) => crate::client::told(self, now, news, out),
            Input::Http { request, slot, ask } => {
                let number = crate::module::with_slot(slot, request);
                self.tell_module(now, number, out, |module, cx, id| module.http(cx, id, ask));
            }
            Input::Addresses(addresses) => {
                self.node.sockets.set_held(&addresses);
                let node = Arc::clone(&self.node);
                node.membership.addresses(&mut self.cx(now, out), &addresses);
            }
            Input::Host(addresses) => {
                if !self.node.sockets.set_host(&addresses) {
                    let text = "this host has had more addresses than a socket that listens on all \
                                of them can tell apart; write a `socket` for each that matters";
                    self.cx(now, out).log(Level::Warning, text);
                }
            }
            Input::ScriptLoaded { request, result } => {
                crate::script::loaded(&mut self.cx(now, out), request, result);
            }
            Input::Tick => {}
            Input::Shutdown => self.shutdown(now, out),
        }
        self.run_jobs(now, out);
    }

    /// Ends a batch: fires what is due, hands changes to the cluster, opens or sets gates.
    pub fn finish(&mut self, now: Now, out: &mut Out) {
        let from = out.effects.len();
        self.release_held(now, out);
        self.fire(now, out);
        self.tell_logs(now, from, out);
        self.settle(now, out);
        let node = Arc::clone(&self.node);
        if self.state.id == 0 {
            node.membership.answer_questions(&mut self.cx(now, out));
        }
        if node.membership.is_driver(self.state.id) {
            node.membership.turn(&mut self.cx(now, out));
            self.settle(now, out);
            node.membership.turn(&mut self.cx(now, out));
        } else {
            node.membership.wake_driver(&mut self.cx(now, out));
        }
        self.route_streams(now, out);
        if self.state.jobs_dropped > 0 {
            let n = std::mem::take(&mut self.state.jobs_dropped);
            out.log(Level::Error, format!("{n} routes were not run: too many are waiting"));
        }
    }

    /// When [`Worker::finish`] wants to be called again at the latest.
    pub fn next_deadline(&self) -> Option<Mono> {
        let membership = &self.node.membership;
        let driver = membership.is_driver(self.state.id);
        let cluster = driver.then(|| membership.next_deadline()).flatten();
        let held = self.state.held.next_deadline();
        self.state.wheel.next_deadline().into_iter().chain(cluster).chain(held).min()
    }

    pub(crate) fn cx<'a>(&'a mut self, now: Now, out: &'a mut Out) -> Cx<'a> {
        Cx { now, node: &self.node, worker: &mut self.state, out, slot: CORE }
    }

    pub(crate) fn tell_module(
        &mut self,
        now: Now,
        number: u64,
        out: &mut Out,
        tell: impl FnOnce(&dyn crate::module::Module, &mut Cx<'_>, u64),
    ) {
        let (slot, id) = split_slot(number);
        let node = Arc::clone(&self.node);
        let Some(module) = node.modules.get(usize::from(slot)).and_then(|s| s.state.as_ref())
        else {
            return;
        };
        self.cx(now, out).for_slot(slot, |cx| tell(module.as_ref(), cx, id));
    }

    fn datagram(&mut self, now: Now, source: Source, payload: Bytes, out: &mut Out) {
        // What an earlier datagram said of its sender is not true of this one.
        self.state.proxied = None;
        if self.is_keepalive(&payload) {
            return;
        }
        let Ok(payload) = self.without_proxy(source, payload) else {
            return self.cx(now, out).count_core(stat::BAD_MSG_HDR, 1);
        };
        if self.is_keepalive(&payload) {
            return;
        }
        if early::is_taken(&mut self.cx(now, out), &payload) {
            return;
        }
        if !begins_like_sip(&payload) {
            return self.cx(now, out).count_core(stat::BAD_MSG_HDR, 1);
        }
        match Message::parse(payload.clone()) {
            Ok(msg) => self.message(now, msg, source, out),
            Err(error) => unreadable(&mut self.cx(now, out), &payload, source, error),
        }
    }

    /// Counts the keepalives of phones: blank lines, zero bytes, a few stray bytes.
    fn is_keepalive(&self, payload: &Bytes) -> bool {
        let is_one = payload.len() < 20;
        if is_one {
            self.node.keepalives.fetch_add(1, Ordering::Relaxed);
        }
        is_one
    }

    /// A datagram without the header of the PROXY protocol, which is remembered for the message.
    fn without_proxy(&mut self, source: Source, payload: Bytes) -> Result<Bytes, BadProxy> {
        if !self.node.sockets.get(source.socket).is_some_and(|s| s.proxy.reads) {
            return Ok(payload);
        }
        match read_proxy(&payload)? {
            Begin::Header(proxied, bytes) => {
                self.set_proxied(proxied);
                Ok(payload.slice(bytes.min(payload.len())..))
            }
            Begin::Plain | Begin::Partial => Ok(payload),
        }
    }

    /// Who speaks through a load balancer in the next message.
    pub(crate) fn set_proxied(&mut self, proxied: Option<Proxied>) {
        self.state.proxied = proxied;
    }

    /// Takes a message that can be read, whatever brought it.
    pub(crate) fn message(&mut self, now: Now, msg: Message, source: Source, out: &mut Out) {
        let call = self.node.tag_key.hash_one(msg.call_id().unwrap_or_default()).max(1);
        self.state.at_hand = call;
        let mut cx = self.cx(now, out);
        if cx.node.quarantine.holds(now, call) {
            cx.count_core(stat::QUARANTINED, 1);
        } else if msg.is_request() {
            request(&mut cx, msg, source);
        } else {
            reply(&mut cx, msg, source);
        }
        self.state.at_hand = 0;
        self.state.proxied = None;
    }

    /// Forgets what was begun. Gives the call that was at hand, 0 for none.
    pub(crate) fn reset_after_failure(&mut self) -> u64 {
        let state = &mut self.state;
        (state.nested, state.suspending, state.async_timeout_s) = (0, None, None);
        state.from_peer = false;
        (state.proxied, state.releases) = (None, false);
        std::mem::take(&mut state.at_hand)
    }

    pub(crate) fn management(&mut self, now: Now, request: u64, text: Bytes, out: &mut Out) {
        let Some(text) = self.hold_command(now, request, text) else { return };
        let mut cx = self.cx(now, out);
        if let Some(answer) = mi::execute(&mut cx, request, &text) {
            out.push(Effect::MiReply { request, text: Bytes::from(answer) });
        }
    }

    fn shutdown(&mut self, now: Now, out: &mut Out) {
        let node = Arc::clone(&self.node);
        let mut cx = self.cx(now, out);
        cx.set_status("core", MAIN, -2, "terminating");
        for (slot, _, module) in node.loaded() {
            cx.for_slot(slot, |cx| module.shutdown(cx));
        }
        let mut cx = self.cx(now, out);
        for gate in node.gates.lock().values_mut() {
            gate.abandon(|gated| cx.go_on(gated));
        }
    }

    fn fire(&mut self, now: Now, out: &mut Out) {
        if self.state.wheel.next_deadline().is_none_or(|at| at > now.mono_ns) {
            return;
        }
        let mut fired = std::mem::take(&mut self.fired);
        self.state.wheel.pop_due(now.mono_ns, &mut fired);
        for (slot, timer) in fired.drain(..) {
            if slot == CORE {
                self.own_timer(now, timer, out);
            } else {
                let number = crate::module::with_slot(slot, 0);
                self.tell_module(now, number, out, |module, cx, _| module.timer(cx, timer));
            }
        }
        self.fired = fired;
    }

    fn own_timer(&mut self, now: Now, timer: Timer, out: &mut Out) {
        if timer.kind == timer::GATES {
            let node = Arc::clone(&self.node);
            let mut gates = node.gates.lock();
            let mut cx = self.cx(now, out);
            for gate in gates.values_mut() {
                gate.expire(now, |gated| cx.go_on(gated));
            }
            let next = gates.values().filter_map(GateTable::next_deadline).min();
            drop(gates);
            self.state.watches_gates = false;
            if let Some(at) = next {
                self.watch_gates(at);
            }
        } else if matches!(timer.kind, timer::STREAM_IDLE | timer::STREAM_MESSAGE) {
            self.stream_timer(now, timer, out);
        } else if timer.kind == timer::DNS {
            let answer = tandem_dns::Answer::failure();
            crate::dns::answered(&mut self.cx(now, out), timer.id, &answer);
        } else if timer.kind == timer::MEMORY {
            crate::core::look_at_memory(&mut self.cx(now, out), timer);
        } else if timer.kind == timer::ROUTE {
            run::timer_route(&mut self.cx(now, out), timer);
        } else if timer.kind == timer::ASYNC {
            let run = timer.id;
            self.state.add_job(Job::Resume { run, code: run::ASYNC_TIMED_OUT });
        }
    }

    /// Comes back to the gates a moment after `at`; one timer serves every batch until then.
    fn watch_gates(&mut self, at: Mono) {
        if !std::mem::replace(&mut self.state.watches_gates, true) {
            let timer = Timer { kind: timer::GATES, id: 0 };
            self.state.set_timer(at.saturating_add(MS), CORE, timer);
        }
    }

    /// Runs jobs and hands their changes on, until no gate that opens at once has more to do.
    fn settle(&mut self, now: Now, out: &mut Out) {
        for _ in 0..SETTLES_MAX {
            self.run_jobs(now, out);
            self.flush(now, out);
            if self.state.jobs.is_empty() {
                return;
            }
        }
    }

    fn run_jobs(&mut self, now: Now, out: &mut Out) {
        while let Some(job) = self.state.jobs.pop_front() {
            let mut cx = self.cx(now, out);
            match job {
                Job::Event { route, params } => run::event(&mut cx, route, params),
                Job::Route { route, ctx, done } => run::route(&mut cx, route, ctx, done),
                Job::Resume { run, code } => run::resume(&mut cx, run, code),
                Job::Message { msg, source } => {
                    self.state.from_peer = true;
                    self.message(now, msg, source, out);
                    self.state.from_peer = false;
                }
                Job::Transaction { attached, moment } => {
                    for (slot, section) in attached.iter() {
                        let number = crate::module::with_slot(*slot, 0);
                        self.tell_module(now, number, out, |module, cx, _| {
                            module.transaction(cx, section, &moment);
                        });
                    }
                }
                Job::Soon { slot, timer } => {
                    let number = crate::module::with_slot(slot, 0);
                    self.tell_module(now, number, out, |module, cx, _| module.timer(cx, timer));
                }
                Job::Acknowledged { number } => {
                    self.tell_module(now, number, out, |module, cx, token| {
                        module.acknowledged(cx, token);
                    });
                }
                Job::Told { slot, token, code, reply } => {
                    let number = crate::module::with_slot(slot, token);
                    self.tell_module(now, number, out, |module, cx, token| {
                        module.local_reply(cx, token, code, reply.as_ref());
                    });
                }
            }
        }
    }

    /// Hands the batch's changes to the cluster and decides when the gated sends leave.
    fn flush(&mut self, now: Now, out: &mut Out) {
        let gated = std::mem::take(&mut out.gated);
        if gated.is_empty() && !self.node.outbox.is_dirty() {
            return;
        }
        let flushed = self.node.membership.flush(now, &self.node.outbox);
        if flushed.has_output && !self.node.membership.is_driver(self.state.id) {
            out.push(Effect::Wake);
        }
        for error in flushed.lost {
            out.log(Level::Error, format!("a change could not be replicated: {error}"));
        }
        if gated.is_empty() {
            return;
        }
        let node = Arc::clone(&self.node);
        let mut gates = node.gates.lock();
        match flushed.mark.filter(|_| self.node.gate_mode == GateMode::Acked) {
            Some((cluster, mark)) => {
                let open = gates.entry(cluster).or_default().wait(now, mark, gated);
                drop(gates);
                let mut cx = self.cx(now, out);
                open.into_iter().for_each(|gated| cx.go_on(gated));
                self.watch_gates(now.mono_ns + GATE_NS);
            }
            None => {
                if self.node.gate_mode == GateMode::Acked {
                    gates.entry(0).or_default().count_ungated(gated.len());
                }
                drop(gates);
                let mut cx = self.cx(now, out);
                gated.into_iter().for_each(|gated| cx.go_on(gated));
            }
        }
    }
}

/// Whether the first byte may be one of a message. STUN and media that stray to this port, and
/// floods of noise, are counted and not worth a line each.
fn begins_like_sip(payload: &[u8]) -> bool {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b);
    payload.first().is_some_and(|b| is_token(*b) || matches!(b, b'\r' | b'\n'))
}

fn request(cx: &mut Cx<'_>, msg: Message, source: Source) {
    let Some(msg) = held::hold(cx, msg, source) else { return };
    cx.count(stat::RCV_REQUESTS, 1);
    if msg.method() == Method::Ack && absorbed(cx, &msg) {
        return;
    }
    if msg.method() == Method::Cancel && takes_cancel(cx, &msg, &source) {
        return;
    }
    let problem = msg.validate().err();
    let mut ctx = Box::new(Ctx::new(msg, source, Routes::REQUEST));
    ctx.id = next_message(cx);
    ctx.proxied = cx.worker.proxied.take().map(Box::new);
    if let Some(problem) = problem {
        let Some(judged) = unfit::refuse(cx, ctx, &problem) else { return };
        ctx = judged;
    }
    if cx.node.is_screened && !screened(cx, &mut ctx) {
        cx.count(stat::DROP_REQUESTS, 1);
        return;
    }
    run::request_route(cx, ctx);
}

/// Whether every module that judges requests lets one through.
fn screened(cx: &mut Cx<'_>, ctx: &mut Ctx) -> bool {
    let node = Arc::clone(cx.node);
    let mut judges = node.loaded().filter(|(.., module)| module.screens());
    judges.all(|(slot, _, module)| cx.for_slot(slot, |cx| module.screen(cx, ctx)))
}

/// Answers a request that cannot be read, if enough of it can.
fn unreadable(cx: &mut Cx<'_>, payload: &[u8], source: Source, error: ParseError) {
    cx.count(stat::BAD_MSG_HDR, 1);
    if !payload.starts_with(b"SIP/") {
        cx.count(stat::ERR_REQUESTS, 1);
    }
    cx.log(Level::Info, format!("unreadable message from {}: {error}", source.addr));
    if let Some(msg) = Message::salvage(payload) {
        let mut ctx = Box::new(Ctx::new(msg, source, Routes::REQUEST));
        ctx.error.code = 400;
        ctx.error.reason = format!("Bad message: {}", error.kind);
        run::error_route(cx, ctx);
    }
}

fn next_message(cx: &mut Cx<'_>) -> u32 {
    cx.worker.messages = cx.worker.messages.wrapping_add(1);
    cx.worker.messages
}

fn absorbed(cx: &mut Cx<'_>, ack: &Message) -> bool {
    let node = Arc::clone(cx.node);
    node.loaded().any(|(slot, _, module)| cx.for_slot(slot, |cx| module.absorbs(cx, ack)))
}

/// Whether a CANCEL is dealt with before any script sees it: on anycast sockets only.
fn takes_cancel(cx: &mut Cx<'_>, msg: &Message, source: &Source) -> bool {
    if !cx.node.sockets.get(source.socket).is_some_and(|s| s.anycast) {
        return false;
    }
    let node = Arc::clone(cx.node);
    node.loaded()
        .any(|(slot, _, module)| cx.for_slot(slot, |cx| module.takes_cancel(cx, msg, source)))
}

fn reply(cx: &mut Cx<'_>, msg: Message, source: Source) {
    cx.count(stat::RCV_REPLIES, 1);
    if cx.node.settings.check_via && !transport::is_our_reply(cx.node, &msg) {
        cx.count(stat::ERR_REPLIES, 1);
        return;
    }
    let mut ctx = Box::new(Ctx::new(msg, source, Routes::ONREPLY));
    ctx.id = next_message(cx);
    ctx.proxied = cx.worker.proxied.take().map(Box::new);
    // The core's onreply route runs before any transaction is looked for.
    if let Some(ctx) = run::core_onreply(cx, ctx) {
        after_onreply(cx, ctx);
    }
}

/// Offers a reply to the modules that keep transactions; what nobody owns goes by its Via.
pub(crate) fn after_onreply(cx: &mut Cx<'_>, ctx: Box<Ctx>) {
    let node = Arc::clone(cx.node);
    let mut ctx = ctx;
    for (slot, _, module) in node.loaded() {
        match cx.for_slot(slot, |cx| module.reply(cx, ctx)) {
            None => return,
            Some(back) => ctx = back,
        }
    }
    // Only what was sent from here goes on: this node is no reflector.
    if cx.node.settings.stateless_replies && transport::is_our_reply(cx.node, &ctx.msg) {
        for (slot, _, module) in node.loaded() {
            cx.for_slot(slot, |cx| module.reply_passes(cx, &ctx.msg));
        }
        transport::forward_reply(cx, &ctx);
    } else {
        cx.count(stat::ERR_REPLIES, 1);
    }
}

impl RouteEnd {
    pub(crate) const FAILED: Self = Self { dropped: false, failed: true };
}

/// The number for a run that suspends.
pub(crate) fn next_run(node: &Node) -> u64 {
    node.next_run.fetch_add(1, Ordering::Relaxed)
}
