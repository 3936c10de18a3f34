//! The instruction loop.

use bytes::Bytes;
use smallvec::SmallVec;

use super::access::{arg_value, assign_var, eval_var, format_text};
use super::{
    CALL_AGAIN, End, Flow, Frame, Item, L_ERR, L_WARN, Pending, ROUTE_DEPTH_MAX, RunState, Running,
    Step, observe, ops,
};
use crate::host::{ArgValue, Called, Host};
use crate::program::{
    Arg, ArithOp, Call, CallId, CompareOp, Op, Operand, Program, RouteId, RouteTarget, VarId,
};
use crate::sig::Routes;
use crate::value::Value;

pub(super) fn run<H: Host + ?Sized>(program: &Program, run: &mut RunState, host: &mut H) -> Step {
    if program.may_trace || host.profiles() {
        return observe::run(program, run, host);
    }
    loop {
        if let Flow::Stop(step) = one(program, run, host) {
            return step;
        }
    }
}

/// Carries out the next instruction.
#[inline(always)]
pub(super) fn one<H: Host + ?Sized>(program: &Program, run: &mut RunState, host: &mut H) -> Flow {
    let Some(op) = program.code.get(run.pc) else { return Flow::Stop(done(run, End::Fell)) };
    if run.steps == 0 {
        complain(program, run, host, L_ERR, "the run took too many steps and was ended");
        return Flow::Stop(done(run, End::Limit));
    }
    run.steps -= 1;
    run.pc += 1;
    match *op {
        Op::Call(id) => call(program, run, id, host),
        Op::Async(i) => start_async(program, run, i, host),
        Op::Launch(i) => launch(program, run, i, host),
        Op::Route(i) => route(program, run, i, host),
        Op::Return(count) => give_back(run, count),
        Op::Exit => Flow::Stop(done(run, End::Exit)),
        Op::Drop => Flow::Stop(done(run, End::Drop)),
        Op::End => leave(run),
        Op::AssertFailed(text) => assert_failed(program, run, text, host),
        op => {
            plain(program, run, op, host);
            Flow::Next
        }
    }
}

pub(super) fn resume<H: Host + ?Sized>(
    program: &Program,
    run: &mut RunState,
    rc: i32,
    host: &mut H,
) -> Step {
    let flow = match std::mem::take(&mut run.pending) {
        Pending::Nothing => Flow::Next,
        Pending::Call | Pending::Async(_) if rc == CALL_AGAIN => {
            run.pc = run.pc.saturating_sub(1);
            Flow::Next
        }
        Pending::Call => {
            run.outputs.clear();
            called(run, rc)
        }
        Pending::Async(route) => {
            // The worker kept its table; of that of this run only what the function has written
            // stays.
            let outputs = std::mem::take(&mut run.outputs);
            run.vars = run.vars.with_only(program, &outputs);
            continue_in(program, run, route, rc);
            Flow::Next
        }
        Pending::Launch(Some(route)) => {
            continue_in(program, run, route, rc);
            Flow::Next
        }
        Pending::Launch(None) => {
            run.rc = rc;
            Flow::Stop(done(run, End::Fell))
        }
    };
    match flow {
        Flow::Next => self::run(program, run, host),
        Flow::Stop(step) => step,
    }
}

fn done(run: &mut RunState, how: End) -> Step {
    run.frames.clear();
    run.stack.clear();
    run.loops.clear();
    run.pc = usize::MAX;
    Step::Done { code: run.rc, how }
}

fn complain<H: Host + ?Sized>(
    program: &Program,
    run: &RunState,
    host: &mut H,
    level: i32,
    text: &str,
) {
    host.log(level, text.as_bytes(), run.place(program));
}

/// Instructions that neither call nor end.
fn plain<H: Host + ?Sized>(program: &Program, run: &mut RunState, op: Op, host: &mut H) {
    let text = |i: u32| program.strings.get(i as usize).cloned().unwrap_or_default();
    match op {
        Op::Jump(to) => run.pc = to as usize,
        Op::JumpTrue(to) if run.test == 1 => run.pc = to as usize,
        Op::JumpFalse(to) if run.test == 0 => run.pc = to as usize,
        Op::JumpError(to) if run.test < 0 => run.pc = to as usize,
        Op::Condition => run.called = false,
        Op::NoBranch if !run.called => run.rc = 1,
        Op::TestVar(var) => run.test = i8::from(eval_var(program, run, var, host).is_true()),
        Op::TestTop => {
            let item = run.stack.pop().and_then(Item::value);
            run.test = item.map_or(-1, |v| i8::from(v.is_true()));
        }
        Op::TestRc => run.test = i8::from(run.rc > 0),
        Op::Compare(i) => compare(program, run, i, host),
        Op::PushInt(i) => run.stack.push(Item::Literal(Value::Int(i))),
        Op::PushStr(i) => run.stack.push(Item::Literal(Value::Str(text(i)))),
        Op::PushNull => run.stack.push(Item::Literal(Value::Null)),
        Op::PushVar(var) => {
            let value = eval_var(program, run, var, host);
            run.stack.push(Item::Value(value));
        }
        Op::PushTest => run.stack.push(Item::Literal(Value::Int(i32::from(run.test)))),
        Op::PushRc => run.stack.push(Item::Literal(Value::Int(run.rc))),
        Op::Arith(op) => arith(program, run, op, false, host),
        Op::Compound(op) => arith(program, run, op, true, host),
        Op::BitNot => unary(program, run, |i| !i, host),
        Op::Negate => unary(program, run, i32::wrapping_neg, host),
        Op::Store(var, how) => {
            let stored = match run.stack.pop().and_then(Item::value) {
                Some(value) => assign_var(program, run, var, how, value, host),
                // What failed has been logged.
                None => Err(String::new()),
            };
            run.rc = if stored.is_ok() { 1 } else { -1 };
            if let Err(error) = stored
                && !error.is_empty()
            {
                complain(program, run, host, L_ERR, &error);
            }
        }
        Op::Pop => drop(run.stack.pop()),
        Op::Xlog(level, format) => {
            if host.xlogs(level) {
                let line = format_text(program, run, format, host);
                host.xlog(level, &line, run.place(program));
            }
            run.rc = 1;
        }
        Op::Log(level, i) => {
            host.log(level, &text(i), run.place(program));
            run.rc = 1;
        }
        Op::CaseInt(..) | Op::CaseStr(..) => case(program, run, op),
        op => loops(program, run, op, host),
    }
}

fn case(program: &Program, run: &mut RunState, op: Op) {
    let Some(Item::Value(value) | Item::Literal(value)) = run.stack.last() else { return };
    let (hit, to) = match op {
        Op::CaseInt(number, to) => (value.int() == Some(number), to),
        Op::CaseStr(i, to) => {
            let wanted = program.strings.get(i as usize);
            let same =
                wanted.is_some_and(|w| value.text().is_some_and(|t| t.eq_ignore_ascii_case(w)));
            (same, to)
        }
        _ => return,
    };
    if hit {
        run.stack.pop();
        run.pc = to as usize;
    }
}

fn loops<H: Host + ?Sized>(program: &Program, run: &mut RunState, op: Op, host: &mut H) {
    match op {
        Op::LoopEnter => run.loops.push(0),
        Op::LoopLeave => drop(run.loops.pop()),
        Op::LoopCount(out) => {
            let Some(count) = run.loops.last_mut() else { return };
            *count = count.saturating_add(1);
            if *count > program.while_loops_max {
                run.pc = out as usize;
                let text = "max_while_loops reached, the loop was left";
                complain(program, run, host, L_ERR, text);
            }
        }
        Op::ForNext(i, out) => {
            let Some(&(var, list)) = program.fors.get(i as usize) else { return };
            let at = run.loops.last().copied().unwrap_or(0);
            let value = list_entry(program, run, list, at, host);
            if value.is_null() {
                run.pc = out as usize;
                return;
            }
            if let Some(count) = run.loops.last_mut() {
                *count = count.saturating_add(1);
            }
            if let Err(e) = assign_var(program, run, var, crate::host::Assign::Set, value, host) {
                complain(program, run, host, L_ERR, &e);
            }
        }
        // Jumps that were not taken.
        _ => {}
    }
}

/// Entry `at` of the list that `for` walks; the reference itself has the index `[*]`.
fn list_entry<H: Host + ?Sized>(
    program: &Program,
    run: &mut RunState,
    list: VarId,
    at: u32,
    host: &mut H,
) -> Value {
    let at = i32::try_from(at).unwrap_or(i32::MAX);
    super::access::eval_at(program, run, list, at, host)
}

fn compare<H: Host + ?Sized>(program: &Program, run: &mut RunState, i: u32, host: &mut H) {
    let Some(cmp) = program.compares.get(i as usize) else { return };
    let left = eval_var(program, run, cmp.left, host);
    run.test = match &cmp.right {
        Operand::Null => ops::compare_null(cmp.op, &left),
        Operand::Int(i) => ops::compare_int(cmp.op, &left, *i),
        Operand::Str(s) => ops::compare_text(cmp.op, &left, s),
        Operand::Net(net) => ops::compare_net(cmp.op, &left, *net),
        Operand::Regex(regex) => ops::matches(cmp.op, &left, regex),
        Operand::Var(var) => {
            let right = eval_var(program, run, *var, host);
            match cmp.op {
                CompareOp::Match | CompareOp::NoMatch if !left.is_null() && !right.is_null() => {
                    let pattern = right.text().unwrap_or_default();
                    match run.vars.regex(&pattern) {
                        Some(regex) => ops::matches(cmp.op, &left, &regex),
                        None => {
                            complain(program, run, host, L_ERR, "not a valid expression");
                            -1
                        }
                    }
                }
                op => ops::compare_values(op, &left, &right),
            }
        }
    };
    if run.test < 0 {
        let text = "a text cannot be compared with a number; the condition is false";
        complain(program, run, host, L_WARN, text);
    }
}

fn arith<H: Host + ?Sized>(
    program: &Program,
    run: &mut RunState,
    op: ArithOp,
    compound: bool,
    host: &mut H,
) {
    let right = run.stack.pop().unwrap_or(Item::Failed);
    let left = run.stack.pop().unwrap_or(Item::Failed);
    let null = |i: &Item| matches!(i, Item::Value(Value::Null) | Item::Literal(Value::Null));
    let (result, error) = if compound && (null(&left) || null(&right)) {
        (Item::Failed, Some("null in a compound assignment".to_owned()))
    } else {
        ops::arith(op, left, right)
    };
    run.stack.push(result);
    if let Some(error) = error {
        complain(program, run, host, L_ERR, &error);
    }
}

fn unary<H: Host + ?Sized>(
    program: &Program,
    run: &mut RunState,
    apply: fn(i32) -> i32,
    host: &mut H,
) {
    let value = run.stack.pop().and_then(Item::value);
    let int = match &value {
        Some(Value::Null) => Some(0),
        Some(v) => v.int(),
        None => None,
    };
    match int {
        Some(i) => run.stack.push(Item::Value(Value::Int(apply(i)))),
        None => {
            run.stack.push(Item::Failed);
            if value.is_some() {
                complain(program, run, host, L_ERR, "this operator needs an integer");
            }
        }
    }
}

fn call<H: Host + ?Sized>(program: &Program, run: &mut RunState, id: CallId, host: &mut H) -> Flow {
    let Some(site) = program.calls.get(id.0 as usize) else { return Flow::Next };
    let mut made = Args::new();
    let Some(args) = arguments(program, run, site, host, &mut made) else {
        return called(run, -1);
    };
    let mut running = Running { program, run };
    match host.call(site.module, site.function, site, args, &mut running) {
        Called::Returned(rc) => called(run, rc),
        Called::Suspended => {
            run.pending = Pending::Call;
            Flow::Stop(Step::Suspended)
        }
    }
}

/// The return code of a function is here.
fn called(run: &mut RunState, rc: i32) -> Flow {
    run.rc = rc;
    run.called = true;
    if rc == 0 { Flow::Stop(done(run, End::Exit)) } else { Flow::Next }
}

/// The arguments of a call; few functions have more than four.
type Args = SmallVec<[ArgValue; 4]>;

/// The arguments, in `args` if they are made now. `None`: one has the wrong type; it was logged.
fn arguments<'a, H: Host + ?Sized>(
    program: &Program,
    run: &mut RunState,
    site: &'a Call,
    host: &mut H,
    args: &'a mut Args,
) -> Option<&'a [ArgValue]> {
    if let Some(fixed) = &site.fixed {
        return Some(fixed);
    }
    for (i, arg) in site.args.iter().enumerate() {
        args.push(match arg {
            Arg::None => ArgValue::None,
            Arg::Ready(ready) => ArgValue::Ready(ready.clone()),
            Arg::Ref(var) => ArgValue::Var(*var),
            Arg::IntVar(var) => {
                let value = eval_var(program, run, *var, host);
                if matches!(value, Value::Str(_)) {
                    let name = program.var_text(*var);
                    let text = format!("argument {} is an integer, but {name} is a text", i + 1);
                    complain(program, run, host, L_ERR, &text);
                    return None;
                }
                ArgValue::Value(value)
            }
            Arg::StrVar(var) => {
                let value = eval_var(program, run, *var, host);
                ArgValue::Value(value.into_bytes().map_or(Value::Null, Value::Str))
            }
            other => ArgValue::Value(arg_value(program, run, other, host)),
        });
    }
    Some(args)
}

fn start_async<H: Host + ?Sized>(
    program: &Program,
    run: &mut RunState,
    i: u32,
    host: &mut H,
) -> Flow {
    let Some(detached) = program.detached.get(i as usize) else { return Flow::Next };
    let (Some(route), Some(site)) = (detached.route, program.calls.get(detached.call.0 as usize))
    else {
        return Flow::Next;
    };
    match host.begin_async(route, detached.timeout_s) {
        Ok(true) => {}
        Ok(false) => {
            run.rc = 0;
            return Flow::Stop(done(run, End::Exit));
        }
        Err(error) => {
            complain(program, run, host, L_ERR, &error);
            run.rc = -1;
            return Flow::Next;
        }
    }
    let mut made = Args::new();
    let rc = if let Some(args) = arguments(program, run, site, host, &mut made) {
        let mut running = Running { program, run };
        match host.call(site.module, site.function, site, args, &mut running) {
            Called::Returned(rc) => rc,
            Called::Suspended => {
                run.pending = Pending::Async(route);
                return Flow::Stop(Step::Suspended);
            }
        }
    } else {
        -1
    };
    continue_in(program, run, route, rc);
    Flow::Next
}

/// The rest of the run is a block, with nothing to return to.
fn continue_in(program: &Program, run: &mut RunState, route: RouteId, rc: i32) {
    run.frames.clear();
    run.stack.clear();
    run.loops.clear();
    run.outputs.clear();
    run.rc = rc;
    run.enter(program, route, SmallVec::new());
}

fn launch<H: Host + ?Sized>(program: &Program, run: &mut RunState, i: u32, host: &mut H) -> Flow {
    let Some(detached) = program.detached.get(i as usize) else { return Flow::Next };
    let Some(site) = program.calls.get(detached.call.0 as usize) else { return Flow::Next };
    let mut made = Args::new();
    let Some(args) = arguments(program, run, site, host, &mut made) else {
        return called(run, -1);
    };
    let text: Option<Bytes> = arg_value(program, run, &detached.text, host).into_bytes();
    run.rc = host.launch(site, args, detached.route, text);
    run.called = true;
    Flow::Next
}

fn route<H: Host + ?Sized>(program: &Program, run: &mut RunState, i: u32, host: &mut H) -> Flow {
    let Some(route_call) = program.route_calls.get(i as usize) else { return Flow::Next };
    let target = match &route_call.target {
        RouteTarget::Fixed(id) => Some(*id),
        RouteTarget::Dynamic(arg) => {
            let name = arg_value(program, run, arg, host).into_bytes().unwrap_or_default();
            let name = String::from_utf8_lossy(&name).into_owned();
            let found = program.route_named(Routes::REQUEST, &name).filter(|_| !name.is_empty());
            if found.is_none() {
                complain(program, run, host, L_ERR, &format!("there is no route[{name}]"));
            }
            found
        }
    };
    let Some(target) = target else { return called(run, -1) };
    if run.frames.len() >= ROUTE_DEPTH_MAX {
        let text = format!("routes are nested deeper than {ROUTE_DEPTH_MAX}");
        complain(program, run, host, L_ERR, &text);
        return called(run, -1);
    }
    let mut params: SmallVec<[Value; 2]> = SmallVec::new();
    for arg in &route_call.args {
        params.push(arg_value(program, run, arg, host));
    }
    // A block without any action leaves 1.
    run.rc = 1;
    run.enter(program, target, params);
    Flow::Next
}

fn give_back(run: &mut RunState, count: u8) -> Flow {
    let mut values: SmallVec<[Value; 1]> = SmallVec::new();
    for _ in 0..count {
        values.push(run.stack.pop().and_then(Item::value).unwrap_or_default());
    }
    values.reverse();
    run.returned = values;
    run.rc = match run.stack.pop().and_then(Item::value) {
        Some(Value::Int(i) | Value::Both(i, _)) => i,
        Some(Value::Str(_)) => 1,
        Some(Value::Null) | None => -1,
    };
    if run.rc == 0 { Flow::Stop(done(run, End::Exit)) } else { leave(run) }
}

/// The end of the running block.
fn leave(run: &mut RunState) -> Flow {
    let Some(Frame { back, stack_base, loops_base, .. }) = run.frames.pop() else {
        return Flow::Stop(done(run, End::Fell));
    };
    run.called = true;
    run.stack.truncate(stack_base);
    run.loops.truncate(loops_base);
    if run.frames.is_empty() {
        return Flow::Stop(done(run, End::Fell));
    }
    run.pc = back;
    Flow::Next
}

fn assert_failed<H: Host + ?Sized>(
    program: &Program,
    run: &mut RunState,
    text: u32,
    host: &mut H,
) -> Flow {
    let text = program.strings.get(text as usize).cloned().unwrap_or_default();
    let line = [b"assertion failed: ", text.as_ref()].concat();
    host.log(L_ERR, &line, run.place(program));
    Flow::Stop(done(run, End::Assert))
}
