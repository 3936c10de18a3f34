//! Script runs: the virtual machine's door to the node, and what starts, suspends and ends runs.

mod inner;
mod kinds;
mod parked;
mod timer_routes;

use std::sync::Arc;

use bytes::Bytes;
use tandem_script::host::{ArgValue, Assign, Called, Host, Profiled, VarAccess};
use tandem_script::program::{Call as CallSite, Place, Program, Ready, RouteId, VarId};
use tandem_script::sig::{FunctionSig, Routes};
use tandem_script::value::Value;
use tandem_script::vm::{self, End, RunState, Running, Step};

use crate::context::{Ctx, ErrorKind, ScriptError, Source};
use crate::core::stat;
use crate::effect::Effect;
use crate::log::Level;
use crate::module::{Call, Cx, Module, RouteEnd, Timer, VarCall};
use crate::node::Node;
use crate::script::Script;
use crate::sockets::SocketId;
use crate::worker::{after_onreply, next_run, timer};

pub use inner::Inner;
pub(crate) use timer_routes::{start_timer_routes, timer_route};

/// What `$rc` is in the route of an `async()` whose time was over before its answer came.
pub(crate) const ASYNC_TIMED_OUT: i32 = -2;

/// Answers to runs that are not parked which are kept; the oldest goes first.
const EARLY_MAX: usize = 4_096;

/// A run that waits for an answer, with everything it needs to go on anywhere.
pub(crate) struct Suspended {
    pub(crate) ctx: Box<Ctx>,
    /// The version of the script that it started with.
    pub(crate) script: Arc<Script>,
    pub(crate) run: Box<RunState>,
    after: After,
}

/// What follows when a run has ended.
#[derive(Clone, Copy, Debug)]
enum After {
    Nothing,
    /// It was a task of the start.
    Startup,
    /// A reply goes on to the transactions.
    Reply,
    /// The module that started the route takes the context back.
    Module(u16, u64),
}

/// What the virtual machine sees of the node.
pub(crate) struct RunHost<'a, 'b> {
    pub(crate) cx: &'a mut Cx<'b>,
    pub(crate) ctx: &'a mut Ctx,
    /// The version of the script that this run belongs to.
    program: &'a Program,
    /// The same, when something may be started that outlives the run.
    shared: Option<&'a Arc<Script>>,
}

impl<'a, 'b> RunHost<'a, 'b> {
    fn of(cx: &'a mut Cx<'b>, ctx: &'a mut Ctx, script: &'a Arc<Script>) -> Self {
        Self { cx, ctx, program: &script.program, shared: Some(script) }
    }
}

impl Host for RunHost<'_, '_> {
    fn get(&mut self, access: VarAccess<'_>) -> Value {
        let def = self.cx.node.modules.get(usize::from(access.module)).map(|s| s.def);
        let Some(var) = def.and_then(|d| d.variables.get(usize::from(access.variable))) else {
            return Value::Null;
        };
        let ctx = &mut *self.ctx;
        self.cx.for_slot(access.module, |cx| (var.get)(&mut VarCall { cx, ctx, access }))
    }

    fn set(&mut self, access: VarAccess<'_>, how: Assign, value: Value) -> Result<(), String> {
        let def = self.cx.node.modules.get(usize::from(access.module)).map(|s| s.def);
        let set = def.and_then(|d| d.variables.get(usize::from(access.variable))?.set);
        let Some(set) = set else { return Err("this variable cannot be written".into()) };
        let ctx = &mut *self.ctx;
        self.cx.for_slot(access.module, |cx| set(&mut VarCall { cx, ctx, access }, how, value))
    }

    fn call(
        &mut self,
        module: u16,
        function: u16,
        site: &CallSite,
        args: &[ArgValue],
        running: &mut Running<'_>,
    ) -> Called {
        let def = self.cx.node.modules.get(usize::from(module)).map(|s| s.def);
        let Some(function) = def.and_then(|d| d.functions.get(usize::from(function))) else {
            return Called::Returned(-1);
        };
        let FunctionSig { name, routes, .. } = function.sig;
        if let Some(why) = kinds::refusal(name, routes, self.ctx.block) {
            self.log(Level::Error as i32, why.as_bytes(), running.place());
            return Called::Returned(-1);
        }
        let ctx = &mut *self.ctx;
        self.cx.for_slot(module, |cx| (function.run)(&mut Call { cx, ctx, args, site, running }))
    }

    fn log(&mut self, level: i32, text: &[u8], place: Place) {
        let level = Level::from_number(level);
        if !self.cx.logs(level) {
            return;
        }
        let text = String::from_utf8_lossy(text);
        let text = text.trim_end_matches('\n');
        let program = self.program;
        // The place helps with complaints.
        let line = match place.line {
            0 => text.to_owned(),
            _ if level > Level::Warning => text.to_owned(),
            line => format!("{}:{line}:{}: {text}", program.file_name(place), place.column),
        };
        self.cx.log(level, line);
    }

    fn logs(&self, level: i32) -> bool {
        self.cx.logs(Level::from_number(level))
    }

    /// A line of `xlog` says what its author wanted, and no more.
    fn xlog(&mut self, level: i32, text: &[u8], _place: Place) {
        let text = String::from_utf8_lossy(text);
        self.cx.out.log(Level::from_number(level), text.trim_end_matches('\n'));
    }

    fn xlogs(&self, level: i32) -> bool {
        self.cx.xlogs(Level::from_number(level))
    }

    fn profiles(&self) -> bool {
        crate::core::profiles(self.cx, self.ctx)
    }

    fn profile(&mut self, what: &Profiled<'_>) {
        let file = self.program.file_name(what.place);
        crate::core::tell_script(self.cx, self.ctx, file, what);
    }

    fn resolve(&mut self, name: &str) -> Option<std::net::IpAddr> {
        self.cx.resolve_now(name)
    }

    fn begin_async(&mut self, _route: RouteId, timeout_s: Option<i32>) -> Result<bool, String> {
        let node = Arc::clone(self.cx.node);
        let ctx = &mut *self.ctx;
        let routes = Routes::REQUEST.or(Routes::ONREPLY);
        if let Some(why) = kinds::refusal("async", routes, ctx.block) {
            return Err(why);
        }
        let begun = node
            .loaded()
            .find_map(|(slot, _, m)| self.cx.for_slot(slot, |cx| m.begin_async(cx, ctx)));
        let begun = begun.unwrap_or_else(|| Err("async() needs the module tm".to_owned()))?;
        self.cx.worker.async_timeout_s = timeout_s.and_then(|s| u32::try_from(s).ok());
        Ok(begun)
    }

    fn launch(
        &mut self,
        site: &CallSite,
        args: &[ArgValue],
        route: Option<RouteId>,
        text: Option<Bytes>,
    ) -> i32 {
        let node = Arc::clone(self.cx.node);
        let def = node.modules.get(usize::from(site.module)).map(|s| s.def);
        let Some(function) = def.and_then(|d| d.functions.get(usize::from(site.function))) else {
            return -1;
        };
        let mut ctx = Box::new(dummy_context(&node, Routes::EVENT));
        let mut run = RunState::launched(self.program, route, text);
        let mut running = Running { program: self.program, run: &mut run };
        let called = self.cx.for_slot(site.module, |cx| {
            let ctx = &mut ctx;
            (function.run)(&mut Call { cx, ctx, args, site, running: &mut running })
        });
        let key = match called {
            Called::Returned(_) if route.is_none() => return 1,
            Called::Returned(code) => {
                let key = next_run(&node);
                self.cx.resume(key, code);
                Some(key)
            }
            Called::Suspended => self.cx.worker.suspending.take(),
        };
        let Some(script) = self.shared.map(Arc::clone) else { return -1 };
        let waits = Suspended { ctx, script, run: Box::new(run), after: After::Nothing };
        if parked::keep(self.cx, key, waits).is_ok() { 1 } else { -1 }
    }
}

/// Runs the main block on a request.
pub(crate) fn request_route(cx: &mut Cx<'_>, ctx: Box<Ctx>) {
    let Some(route) = cx.worker.script.main else { return };
    begin(cx, route, ctx, After::Nothing, &[]);
}

/// Runs error_route, if the script has one, on a request that is not to be processed; without
/// one the request is answered with what is wrong.
pub(crate) fn error_route(cx: &mut Cx<'_>, mut ctx: Box<Ctx>) {
    match cx.worker.script.error {
        Some(route) => {
            ctx.block = Routes::ERROR;
            begin(cx, route, ctx, After::Nothing, &[]);
        }
        None => {
            crate::own_reply::reply_error(cx, &mut ctx);
        }
    }
}

/// Runs the unnamed onreply_route; the context comes back when transactions may look at it now.
pub(crate) fn core_onreply(cx: &mut Cx<'_>, ctx: Box<Ctx>) -> Option<Box<Ctx>> {
    let Some(route) = cx.worker.script.onreply else {
        return Some(ctx);
    };
    begin(cx, route, ctx, After::Reply, &[]);
    None
}

/// Runs startup_route, before anything is served.
pub(crate) fn startup_route(cx: &mut Cx<'_>) {
    if let Some(route) = cx.worker.script.startup {
        cx.begin_startup();
        without_message(cx, route, Vec::new(), After::Startup);
    }
}

/// Runs a block that has no message of its own: event, timer.
pub(crate) fn event(cx: &mut Cx<'_>, route: RouteId, params: Vec<(Bytes, Value)>) {
    without_message(cx, route, params, After::Nothing);
}

fn without_message(cx: &mut Cx<'_>, route: RouteId, params: Vec<(Bytes, Value)>, after: After) {
    let kind = cx.worker.script.program.route(route).map_or(Routes::EVENT, |r| r.kind);
    let ctx = Box::new(dummy_context(cx.node, kind));
    let values: Vec<Value> = params.iter().map(|(_, value)| value.clone()).collect();
    let run = RunState::start(&cx.worker.script.program, route, &values).with_named(params);
    drive(cx, Box::new(run), ctx, after);
}

/// Runs a block for a module, which gets the context back.
pub(crate) fn route(cx: &mut Cx<'_>, route: RouteId, mut ctx: Box<Ctx>, done: Option<(u16, u64)>) {
    if let Some(block) = cx.worker.script.program.route(route) {
        ctx.block = block.kind;
    }
    let after = done.map_or(After::Nothing, |(slot, token)| After::Module(slot, token));
    begin(cx, route, ctx, after, &[]);
}

/// Continues a suspended run with the return code of the function it waits for.
pub(crate) fn resume(cx: &mut Cx<'_>, run: u64, code: i32) {
    let mut table = cx.node.suspended.lock();
    let Some(suspended) = table.remove(&run) else {
        // The answer came twice or too late; or so soon, from another worker, that the run is
        // not parked yet and finds it when it is.
        let mut early = cx.node.early_answers.lock();
        early.insert(run, code);
        if early.len() > EARLY_MAX {
            early.pop_first();
        }
        return;
    };
    drop(table);
    go_on(cx, suspended, Some(code));
}

fn begin(cx: &mut Cx<'_>, route: RouteId, ctx: Box<Ctx>, after: After, params: &[Value]) {
    let mut run = cx.worker.spare_run.take().unwrap_or_default();
    run.restart(&cx.worker.script.program, route, params);
    drive(cx, run, ctx, after);
}

fn drive(cx: &mut Cx<'_>, run: Box<RunState>, ctx: Box<Ctx>, after: After) {
    let script = Arc::clone(&cx.worker.script);
    go_on(cx, Suspended { ctx, script, run, after }, None);
}

/// Runs until the end or until a function suspends, and does what follows. `code` is the answer
/// that a suspended run waited for.
fn go_on(cx: &mut Cx<'_>, mut it: Suspended, code: Option<i32>) {
    let resumed = code.is_some();
    if !resumed {
        it.run.vars = std::mem::take(&mut cx.worker.vars);
    }
    cx.worker.async_timeout_s = None;
    let mut host = RunHost::of(cx, &mut it.ctx, &it.script);
    let step = match code {
        None => vm::run(&it.script.program, &mut it.run, &mut host),
        Some(code) => vm::resume(&it.script.program, &mut it.run, code, &mut host),
    };
    match step {
        Step::Done { how, .. } => {
            // A run that was suspended worked on a table of its own, which ends with it.
            if !resumed {
                cx.worker.vars = std::mem::take(&mut it.run.vars);
            }
            if how == End::Assert && assertion_failed(cx, &it) {
                let Some(route) = it.script.error else { return };
                it.ctx.block = Routes::ERROR;
                it.ctx.error = ScriptError {
                    kind: ErrorKind::Assertion,
                    code: 500,
                    reason: "Server Internal Error".into(),
                };
                return begin(cx, route, it.ctx, it.after, &[]);
            }
            count_cut(cx, how);
            let Suspended { ctx, mut run, after, .. } = it;
            if resumed && matches!(after, After::Module(..)) {
                cx.worker.left_vars = Some(std::mem::take(&mut run.vars));
            }
            cx.worker.spare_run = Some(run);
            finish(cx, ctx, after, end_of(how));
            cx.worker.left_vars = None;
        }
        Step::Suspended => {
            if !resumed {
                cx.worker.vars = it.run.vars.clone();
            }
            park(cx, it);
        }
    }
}

/// Whether error_route takes over after a failed assertion: not in replies and requests of our
/// own, and not after itself (script-language: "Control flow").
fn assertion_failed(cx: &mut Cx<'_>, it: &Suspended) -> bool {
    if cx.node.settings.abort_on_assert {
        cx.out.push(Effect::Fatal { text: "an assertion of the script failed".into() });
    }
    let without = Routes::ONREPLY.or(Routes::LOCAL).or(Routes::ERROR);
    !without.allows(it.ctx.block) && it.script.error.is_some()
}

fn park(cx: &mut Cx<'_>, mut it: Suspended) {
    if matches!(it.after, After::Nothing) {
        tell(cx, &mut it.ctx, |module, cx, ctx| module.request_waits(cx, ctx));
    }
    let key = cx.worker.suspending.take();
    if let Some(seconds) = cx.worker.async_timeout_s.take()
        && let Some(id) = key
    {
        let at = cx.now.after_s(u64::from(seconds));
        cx.worker.set_timer(at, crate::core::SLOT, Timer { kind: timer::ASYNC, id });
    }
    if let Err(it) = parked::keep(cx, key, it) {
        finish(cx, it.ctx, it.after, RouteEnd::FAILED);
    }
}

/// The machine has logged the place.
fn count_cut(cx: &Cx<'_>, how: End) {
    if how == End::Limit {
        cx.count_core(stat::CUT_RUNS, 1);
    }
}

fn end_of(how: End) -> RouteEnd {
    RouteEnd { dropped: how == End::Drop, failed: matches!(how, End::Limit | End::Assert) }
}

fn finish(cx: &mut Cx<'_>, mut ctx: Box<Ctx>, after: After, end: RouteEnd) {
    match after {
        After::Nothing => {
            if end.dropped && ctx.block == Routes::REQUEST {
                cx.count(stat::DROP_REQUESTS, 1);
            }
            tell(cx, &mut ctx, |module, cx, ctx| module.request_ended(cx, ctx));
        }
        After::Startup => cx.end_startup(),
        After::Reply => {
            // `drop` vetoes provisional replies only (script-language: "Control flow").
            if end.dropped && ctx.msg.status() < 200 {
                cx.count(stat::DROP_REPLIES, 1);
            } else {
                after_onreply(cx, ctx);
            }
        }
        After::Module(slot, token) => {
            let node = Arc::clone(cx.node);
            if let Some(module) = node.modules.get(usize::from(slot)).and_then(|s| s.state.as_ref())
            {
                cx.for_slot(slot, |cx| module.route_ended(cx, token, ctx, end));
            }
        }
    }
}

/// Tells the modules, if one attached something to the message, what its run does.
fn tell(cx: &mut Cx<'_>, ctx: &mut Ctx, what: impl Fn(&dyn Module, &mut Cx<'_>, &mut Ctx)) {
    if !ctx.has_sections() {
        return;
    }
    let node = Arc::clone(cx.node);
    for (slot, _, module) in node.loaded() {
        cx.for_slot(slot, |cx| what(&**module, cx, ctx));
    }
}

fn dummy_context(node: &Node, block: Routes) -> Ctx {
    let any = std::net::Ipv4Addr::UNSPECIFIED;
    let source = Source { addr: (any, 0).into(), socket: SocketId(0), local_ip: any.into() };
    Ctx::new(node.dummy.clone(), source, block)
}

pub(crate) fn host<'a, 'b>(
    cx: &'a mut Cx<'b>,
    ctx: &'a mut Ctx,
    program: &'a Program,
) -> RunHost<'a, 'b> {
    RunHost { cx, ctx, program, shared: None }
}

impl Call<'_, '_, '_> {
    /// Makes this call wait. The number identifies the run for [`Cx::resume`]; the function
    /// returns [`Called::Suspended`] next.
    pub fn suspend(&mut self) -> u64 {
        let key = next_run(self.cx.node);
        self.cx.worker.suspending = Some(key);
        key
    }

    /// Reads a variable that an argument names.
    pub fn get_var(&mut self, index: usize) -> Value {
        let Some(ArgValue::Var(var)) = self.args.get(index) else { return Value::Null };
        self.running.get(*var, &mut host(self.cx, self.ctx, self.running.program))
    }

    /// Every value of the list that an argument names (`$avp(x)`), the newest first.
    pub fn list(&mut self, index: usize) -> Vec<Value> {
        let Some(ArgValue::Var(var)) = self.args.get(index) else { return Vec::new() };
        self.running.list(*var, &mut host(self.cx, self.ctx, self.running.program))
    }

    /// The variable that an argument names, to be written later with
    /// [`Cx::assign_suspended`].
    pub fn var(&self, index: usize) -> Option<VarId> {
        match self.args.get(index)? {
            ArgValue::Var(var) => Some(*var),
            _ => None,
        }
    }

    /// The variables that an argument lists, to be written now with [`Call::write`] or later with
    /// [`Cx::assign_suspended`].
    pub fn vars(&self, index: usize) -> Arc<[VarId]> {
        match self.ready(index) {
            Some(Ready::Vars(vars)) => Arc::clone(vars),
            _ => Arc::from([]),
        }
    }

    /// Expands the variables of a text that is known at run time only.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn expand(&mut self, text: &[u8]) -> Result<Bytes, String> {
        let program = self.running.program;
        let mut host = host(self.cx, self.ctx, program);
        vm::expand(program, self.running.run, text, &mut host)
    }

    /// Writes a variable by its number.
    ///
    /// # Errors
    /// If the variable cannot have this value.
    pub fn write(&mut self, var: VarId, value: Value) -> Result<(), String> {
        let mut host = host(self.cx, self.ctx, self.running.program);
        self.running.set(var, value, &mut host)
    }

    /// A variable as the script writes it.
    pub fn var_text(&self, var: VarId) -> &str {
        self.running.program.var_text(var)
    }

    /// Reads a variable that a parameter names.
    pub fn read(&mut self, var: VarId) -> Value {
        self.running.get(var, &mut host(self.cx, self.ctx, self.running.program))
    }

    /// Writes a variable that an argument names.
    pub fn set_var(&mut self, index: usize, value: Value) -> Result<(), String> {
        let Some(ArgValue::Var(var)) = self.args.get(index) else { return Ok(()) };
        let mut host = host(self.cx, self.ctx, self.running.program);
        self.running.set(*var, value, &mut host)
    }
}

impl Cx<'_> {
    /// A context without a message of its own, for a block that a module starts by itself.
    pub fn own_context(&self, block: Routes) -> Ctx {
        dummy_context(self.node, block)
    }

    /// The script that new runs belong to.
    pub fn program(&self) -> &Program {
        &self.worker.script.program
    }

    /// The unnamed block of a kind, such as local_route.
    pub fn unnamed_route(&self, kind: Routes) -> Option<RouteId> {
        let program = &self.worker.script.program;
        let mut all = program.routes_of(kind);
        all.find(|(_, route)| route.name.is_empty()).map(|(id, _)| id)
    }

    /// The block `route[name]`.
    pub fn named_route(&self, name: &str) -> Option<RouteId> {
        let program = &self.worker.script.program;
        let mut all = program.routes_of(Routes::REQUEST);
        all.find(|(_, route)| route.name == name).map(|(id, _)| id)
    }
}
