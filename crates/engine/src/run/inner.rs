//! Blocks that run inside a function of another run.

use std::sync::Arc;

use tandem_script::program::RouteId;
use tandem_script::value::Value;
use tandem_script::vm::{self, RunState, Step, Vars};

use super::{After, RunHost, Suspended, count_cut, end_of, parked};
use crate::context::Ctx;
use crate::log::Level;
use crate::module::{Call, Cx, RouteEnd};

/// Blocks inside of each other before their chain is taken for a loop.
const NESTED_ROUTES_MAX: u32 = 8;

/// What became of a block that a function has started.
#[must_use]
pub enum Inner {
    /// It is over, and its context is back.
    Ended(Box<Ctx>, RouteEnd),
    /// One of its functions waits. The context comes to [`crate::module::Module::route_ended`].
    Waits,
}

impl Cx<'_> {
    /// Runs a block on a context of its own, inside this step. It must not wait: a function that
    /// would fails in it.
    pub fn run_nested(&mut self, route: RouteId, ctx: &mut Ctx) -> RouteEnd {
        nested(self, route, ctx, &[]).0
    }

    /// Runs a block on a context of its own, inside this step, for as long as it need not wait.
    /// `token` is what [`crate::module::Module::route_ended`] hears if it does.
    pub fn run_inner(&mut self, route: RouteId, ctx: Box<Ctx>, token: u64) -> Inner {
        inner(self, route, ctx, token)
    }

    /// The `$var`s of a run that waited, while [`crate::module::Module::route_ended`] hears of its
    /// end.
    pub fn left_vars(&mut self) -> Vars {
        self.worker.left_vars.take().unwrap_or_default()
    }

    /// Does something that may run blocks, which see these `$var`s and change them.
    pub fn with_vars<R>(&mut self, vars: &mut Vars, work: impl FnOnce(&mut Self) -> R) -> R {
        std::mem::swap(&mut self.worker.vars, vars);
        let result = work(self);
        std::mem::swap(&mut self.worker.vars, vars);
        result
    }

    /// What a run that waits finds in its `$var`s when it goes on.
    pub fn leave_vars(&self, run: u64, vars: Vars) {
        if let Some(suspended) = self.node.suspended.lock().get_mut(&run) {
            suspended.run.vars = vars;
        }
    }
}

impl Call<'_, '_, '_> {
    /// Runs a block on the context of this call, with `$param(1)` and so on; with the return code
    /// of the block. It must not wait.
    pub fn run_nested(&mut self, route: RouteId, params: &[Value]) -> (RouteEnd, i32) {
        self.sharing_vars(|call| nested(call.cx, route, call.ctx, params))
    }

    /// Does something that may run blocks inside this call, which see its `$var`s and leave theirs
    /// to it. Arguments are read before: what is done here sees none of them.
    pub fn sharing_vars<R>(&mut self, work: impl FnOnce(&mut Self) -> R) -> R {
        std::mem::swap(&mut self.cx.worker.vars, &mut self.running.run.vars);
        let result = work(self);
        std::mem::swap(&mut self.cx.worker.vars, &mut self.running.run.vars);
        result
    }
}

fn nested(cx: &mut Cx<'_>, route: RouteId, ctx: &mut Ctx, params: &[Value]) -> (RouteEnd, i32) {
    if !may_nest(cx) {
        return (RouteEnd::FAILED, 0);
    }
    let script = Arc::clone(&cx.worker.script);
    let program = &script.program;
    let kept = ctx.block;
    if let Some(block) = program.route(route) {
        ctx.block = block.kind;
    }
    cx.worker.nested += 1;
    let mut run = RunState::start(program, route, params);
    run.vars = std::mem::take(&mut cx.worker.vars);
    let mut step = vm::run(program, &mut run, &mut RunHost::of(cx, ctx, &script));
    // Nobody can wait here: the function has failed, and the block goes on, within the limit of
    // its steps.
    while step == Step::Suspended {
        (cx.worker.suspending, cx.worker.async_timeout_s) = (None, None);
        cx.log(Level::Error, "a function that waits fails where a route cannot wait");
        step = vm::resume(program, &mut run, -1, &mut RunHost::of(cx, ctx, &script));
    }
    cx.worker.vars = std::mem::take(&mut run.vars);
    cx.worker.nested -= 1;
    ctx.block = kept;
    match step {
        Step::Done { code, how } => {
            count_cut(cx, how);
            (end_of(how), code)
        }
        Step::Suspended => (RouteEnd::FAILED, 0),
    }
}

fn inner(cx: &mut Cx<'_>, route: RouteId, mut ctx: Box<Ctx>, token: u64) -> Inner {
    if !may_nest(cx) {
        return Inner::Ended(ctx, RouteEnd::FAILED);
    }
    let script = Arc::clone(&cx.worker.script);
    if let Some(block) = script.program.route(route) {
        ctx.block = block.kind;
    }
    cx.worker.nested += 1;
    let mut run = RunState::start(&script.program, route, &[]);
    run.vars = std::mem::take(&mut cx.worker.vars);
    cx.worker.async_timeout_s = None;
    let step = vm::run(&script.program, &mut run, &mut RunHost::of(cx, &mut ctx, &script));
    cx.worker.nested -= 1;
    match step {
        Step::Done { how, .. } => {
            cx.worker.vars = run.vars;
            count_cut(cx, how);
            Inner::Ended(ctx, end_of(how))
        }
        Step::Suspended => {
            cx.worker.vars = run.vars.clone();
            let key = cx.worker.suspending.take();
            let after = After::Module(cx.slot, token);
            let waits = Suspended { ctx, script, run: Box::new(run), after };
            match parked::keep(cx, key, waits) {
                Ok(()) => Inner::Waits,
                Err(it) => Inner::Ended(it.ctx, RouteEnd::FAILED),
            }
        }
    }
}

fn may_nest(cx: &mut Cx<'_>) -> bool {
    let may = cx.worker.nested < NESTED_ROUTES_MAX;
    if !may {
        cx.log(Level::Error, "routes started by routes are nested too deep");
    }
    may
}
