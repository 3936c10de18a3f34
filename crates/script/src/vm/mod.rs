//! The machine that runs a [`Program`]. A run stops at any call whose answer comes later and
//! goes on, on any thread, with [`resume`].

mod access;
mod eval;
mod exec;
mod observe;
mod ops;
mod vars;

use bytes::Bytes;
use smallvec::SmallVec;

pub use access::{assign_output, assign_var, eval_var, kind_name};
pub use eval::expand;
pub use ops::compile_posix;
pub(crate) use ops::compile_regex;
pub use vars::Vars;

use crate::host::{Assign, Host};
use crate::program::{FormatId, Place, Program, RouteId, VarId, VarTarget};
use crate::sig::VariableSig;
use crate::value::Value;

/// Instructions of one run, resumptions included. Far above any sane script; stops loops that
/// the limit of `while` alone would let run for hours when nested.
pub const STEPS_MAX: u32 = 1_000_000;
/// Routes within routes.
pub const ROUTE_DEPTH_MAX: usize = 100;
/// Bytes of one text that formatting or `+` builds.
pub const TEXT_BYTES_MAX: usize = 256 << 10;

/// Values of one list that a function reads.
const LIST_MAX: i32 = 10_000;

pub const L_ERR: i32 = -1;
pub const L_WARN: i32 = 1;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Off the end of the block, or `return` in it.
    Fell,
    /// `exit`, `return(0)`, or a function that returned 0.
    Exit,
    /// `drop`: like exit, and the default action of the block is vetoed.
    Drop,
    /// A failed `assert()`.
    Assert,
    /// The run was ended by a limit; it was logged.
    Limit,
}

/// What [`run`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `code` is the return code of the block.
    Done { code: i32, how: End },
    /// A function answers later: [`resume`].
    Suspended,
}

/// Where a run stands. Owns all it needs and is `Send`.
#[derive(Clone, Debug, Default)]
pub struct RunState {
    /// The `$var` table: lend the worker's before [`run`], take it back at the end.
    pub vars: Vars,
    pc: usize,
    rc: i32,
    /// Outcome of the last condition: 1, 0, or -1 for an error.
    test: i8,
    /// The condition called a function or route.
    called: bool,
    stack: SmallVec<[Item; 4]>,
    loops: SmallVec<[u32; 4]>,
    frames: SmallVec<[Frame; 2]>,
    named: Vec<(Bytes, Value)>,
    returned: SmallVec<[Value; 1]>,
    steps: u32,
    /// Depth of texts that are expanded at run time inside each other.
    expanding: u8,
    pending: Pending,
    /// Names of the `$var`s that the function in wait has written.
    outputs: SmallVec<[Bytes; 1]>,
    trace: Option<Box<observe::Trace>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Pending {
    #[default]
    Nothing,
    Call,
    Async(RouteId),
    /// A function that `launch()` started beside the script, and the route behind it.
    Launch(Option<RouteId>),
}

/// A stack cell. An integer literal has no text, an integer from a variable has.
#[derive(Clone, Debug)]
enum Item {
    Literal(Value),
    Value(Value),
    /// An operation on the way failed and was logged.
    Failed,
}

#[derive(Clone, Debug)]
struct Frame {
    route: RouteId,
    /// Where the caller goes on; unused in the first frame.
    back: usize,
    params: SmallVec<[Value; 2]>,
    stack_base: usize,
    loops_base: usize,
}

enum Flow {
    Next,
    Stop(Step),
}

impl RunState {
    /// A run of a block, to be given to [`run`]. `params` are `$param(1)`, `$param(2)`, ...
    pub fn start(program: &Program, route: RouteId, params: &[Value]) -> Self {
        let mut run = Self::default();
        run.restart(program, route, params);
        run
    }

    /// As [`RunState::start`], in the place of a run that is over. Its `$var` table stays.
    pub fn restart(&mut self, program: &Program, route: RouteId, params: &[Value]) {
        let Self {
            vars: _,
            pc,
            rc,
            test,
            called,
            stack,
            loops,
            frames,
            named,
            returned,
            steps,
            expanding,
            pending,
            outputs,
            trace,
        } = self;
        (*pc, *rc, *test, *called) = (0, 1, 0, false);
        (*steps, *expanding, *pending) = (STEPS_MAX, 0, Pending::Nothing);
        *trace = None;
        stack.clear();
        loops.clear();
        frames.clear();
        named.clear();
        returned.clear();
        outputs.clear();
        self.enter(program, route, SmallVec::from(params));
    }

    /// What `launch()` starts: it waits for its function, then `route` runs with `text` as
    /// `$param(1)`; to be given to [`resume`]. Its `$var` table is its own.
    pub fn launched(program: &Program, route: Option<RouteId>, text: Option<Bytes>) -> Self {
        let named = text.map(|t| (Bytes::from_static(b"1"), Value::Str(t))).into_iter().collect();
        let (vars, pending) = (Vars::new(program), Pending::Launch(route));
        Self { vars, rc: 1, steps: STEPS_MAX, pending, named, ..Self::default() }
    }

    /// Named parameters of an event: `$param(name)`.
    #[must_use]
    pub fn with_named(mut self, named: Vec<(Bytes, Value)>) -> Self {
        self.named = named;
        self
    }

    /// Sets what `$rc` is at the start, as for the route of `async()`.
    #[must_use]
    pub fn with_code(mut self, code: i32) -> Self {
        self.rc = code;
        self
    }

    /// The block that runs now.
    pub fn route(&self) -> Option<RouteId> {
        self.frames.last().map(|f| f.route)
    }

    /// The place of the instruction that ran last.
    pub fn place(&self, program: &Program) -> Place {
        self.pc.checked_sub(1).and_then(|at| program.places.get(at)).copied().unwrap_or_default()
    }

    /// Bytes that this run keeps alive beyond its own size, for limits on suspended runs.
    pub fn bytes_held(&self) -> usize {
        let size = |v: &Value| match v {
            Value::Str(s) | Value::Both(_, s) => s.len(),
            Value::Null | Value::Int(_) => 0,
        };
        let params = self.frames.iter().flat_map(|f| f.params.iter()).map(size).sum::<usize>();
        let named = self.named.iter().map(|(n, v)| n.len() + size(v)).sum::<usize>();
        params + named + self.vars.bytes_held()
    }

    fn enter(&mut self, program: &Program, route: RouteId, params: SmallVec<[Value; 2]>) {
        let (stack_base, loops_base) = (self.stack.len(), self.loops.len());
        self.frames.push(Frame { route, back: self.pc, params, stack_base, loops_base });
        self.pc = program.route(route).map_or(usize::MAX, |r| r.entry as usize);
    }
}

/// Runs until the end or until a function suspends.
pub fn run<H: Host + ?Sized>(program: &Program, run: &mut RunState, host: &mut H) -> Step {
    run.vars.adapt(program);
    exec::run(program, run, host)
}

/// In the place of a return code: the function that the run waits for is called once more, and its
/// arguments are read anew.
pub const CALL_AGAIN: i32 = i32::MIN;

/// Goes on after [`Step::Suspended`] with the function's return code. On a run that does not
/// wait the code is only noted.
pub fn resume<H: Host + ?Sized>(
    program: &Program,
    run: &mut RunState,
    rc: i32,
    host: &mut H,
) -> Step {
    run.vars.adapt(program);
    exec::resume(program, run, rc, host)
}

/// The run during [`Host::call`]: reads and writes the variables that arguments name.
#[derive(Debug)]
pub struct Running<'a> {
    pub program: &'a Program,
    pub run: &'a mut RunState,
}

impl Running<'_> {
    pub fn get<H: Host + ?Sized>(&mut self, var: VarId, host: &mut H) -> Value {
        eval_var(self.program, self.run, var, host)
    }

    /// Every value of a list variable, the newest first, up to the first null. What the machine
    /// itself holds is one value.
    pub fn list<H: Host + ?Sized>(&mut self, var: VarId, host: &mut H) -> Vec<Value> {
        let target = self.program.vars.get(var.0 as usize).map(|v| v.target);
        let most = if matches!(target, Some(VarTarget::Module(..))) { LIST_MAX } else { 1 };
        let values = (0..most).map(|at| access::eval_at(self.program, self.run, var, at, host));
        values.take_while(|v| !v.is_null()).collect()
    }

    /// Assigns a variable; the error says why the host refused.
    pub fn set<H: Host + ?Sized>(
        &mut self,
        var: VarId,
        value: Value,
        host: &mut H,
    ) -> Result<(), String> {
        assign_var(self.program, self.run, var, Assign::Set, value, host)
    }

    pub fn place(&self) -> Place {
        self.run.place(self.program)
    }

    /// From here on the run says in the log what it does, statement by statement, at a level and
    /// with a text that is expanded each time.
    pub fn start_trace(&mut self, level: i32, format: Option<FormatId>, info: Bytes) {
        self.run.trace = Some(Box::new(observe::Trace { level, format, info }));
    }

    /// Ends [`Running::start_trace`]; the end of the run does so as well.
    pub fn stop_trace(&mut self) {
        self.run.trace = None;
    }
}

const fn own(name: &'static str, access: (bool, bool, bool), help: &'static str) -> VariableSig {
    let (writable, takes_name, takes_index) = access;
    VariableSig { name, writable, takes_name, takes_index, help }
}

/// The variables that the machine itself answers.
pub const VARIABLES: &[VariableSig] = &[
    own("var", (true, true, false), "script variable of the worker, never cleared"),
    own("rc", (false, false, false), "code of the last action"),
    own("retcode", (false, false, false), "code of the last action"),
    own("param", (false, true, false), "parameter of the route by number, of the event by name"),
    own("return", (false, true, false), "extra value of the last return(), from 0"),
    own("route", (false, false, true), "the running block; [-1] the first one, [*] all"),
    own("route.name", (false, false, true), "name of the running block"),
    own("route.type", (false, false, true), "kind of the running block"),
    own("cfg_line", (false, false, false), "line of the script"),
    own("cfg_file", (false, false, false), "file of the script"),
];
