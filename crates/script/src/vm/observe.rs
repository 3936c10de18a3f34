//! Runs that are watched: `script_trace()` writes what a run does, a profile tells when its routes
//! and functions begin and end. Nothing of this costs a run that nobody watches.

use bytes::Bytes;
use smallvec::SmallVec;

use super::access::format_text;
use super::exec::one;
use super::{Flow, RunState, STEPS_MAX, Step, kind_name};
use crate::host::{Host, Profiled};
use crate::program::{Call, FormatId, Op, Place, Program, RouteId};

/// What `script_trace()` asked for.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    pub(super) level: i32,
    pub(super) format: Option<FormatId>,
    pub(super) info: Bytes,
}

/// The routes that a run is in.
type Routes = SmallVec<[RouteId; 4]>;

pub(super) fn run<H: Host + ?Sized>(program: &Program, run: &mut RunState, host: &mut H) -> Step {
    let profiles = host.profiles();
    if profiles && run.steps == STEPS_MAX {
        told(program, &Routes::new(), &routes(run), 0, host);
    }
    loop {
        let at = run.pc;
        trace(program, run, at, host);
        if !profiles {
            if let Flow::Stop(step) = one(program, run, host) {
                return step;
            }
            continue;
        }
        let before = routes(run);
        let site = site(program, at);
        if let Some(site) = site {
            host.profile(&function(site, before.len(), None));
        }
        let flow = one(program, run, host);
        if let Some(site) = site {
            host.profile(&function(site, before.len(), Some(run.rc)));
        }
        told(program, &before, &routes(run), run.rc, host);
        if let Flow::Stop(step) = flow {
            return step;
        }
    }
}

fn routes(run: &RunState) -> Routes {
    run.frames.iter().map(|f| f.route).collect()
}

/// Tells which routes were left, the innermost first, and which were entered.
fn told<H: Host + ?Sized>(
    program: &Program,
    before: &[RouteId],
    after: &[RouteId],
    status: i32,
    host: &mut H,
) {
    let same = before.iter().zip(after).take_while(|(a, b)| a == b).count();
    let mut tell = |depth: usize, id: RouteId, ends: bool| {
        let Some(route) = program.route(id) else { return };
        let status = if ends { status } else { 0 };
        let (name, kind, place) = (route.name.as_str(), kind_name(route.kind), route.place);
        host.profile(&Profiled { ends, name, kind, depth, place, status });
    };
    for (depth, id) in before.iter().enumerate().skip(same).rev() {
        tell(depth, *id, true);
    }
    for (depth, id) in after.iter().enumerate().skip(same) {
        tell(depth, *id, false);
    }
}

fn function(site: &Call, depth: usize, status: Option<i32>) -> Profiled<'_> {
    let (ends, status) = (status.is_some(), status.unwrap_or(0));
    Profiled { ends, name: site.name, kind: "function", depth, place: site.place, status }
}

/// The call that an instruction makes.
fn site(program: &Program, at: usize) -> Option<&Call> {
    let id = match program.code.get(at)? {
        Op::Call(id) => *id,
        Op::Async(i) | Op::Launch(i) => program.detached.get(*i as usize)?.call,
        _ => return None,
    };
    program.call(id)
}

/// Writes the line of the statement that begins here, if the run is traced.
fn trace<H: Host + ?Sized>(program: &Program, run: &mut RunState, at: usize, host: &mut H) {
    let Some(level) = run.trace.as_ref().map(|t| t.level) else { return };
    if !host.logs(level) {
        return;
    }
    let Some(place) = program.places.get(at).copied() else { return };
    let wanted = u32::try_from(at).unwrap_or(u32::MAX);
    let first = program.statements.partition_point(|s| s.at < wanted);
    let begun = program.statements.iter().skip(first).take_while(|s| s.at == wanted);
    for name in begun.map(|s| s.name) {
        line(program, run, place, name, host);
    }
    match program.code.get(at) {
        Some(Op::Route(_)) => line(program, run, place, "core route", host),
        Some(Op::Call(id)) => {
            let Some(site) = program.call(*id) else { return };
            let owner = if site.module == 0 { "core" } else { "module" };
            line(program, run, site.place, &format!("{owner} {}", site.name), host);
        }
        _ => {}
    }
}

fn line<H: Host + ?Sized>(
    program: &Program,
    run: &mut RunState,
    place: Place,
    what: &str,
    host: &mut H,
) {
    let Some(trace) = run.trace.clone() else { return };
    let text = trace.format.map(|FormatId(format)| format_text(program, run, format, host));
    let info = String::from_utf8_lossy(&trace.info);
    let text = text.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let line = format!("[line {}][{info}][{what}] -> ({text})", place.line);
    host.log(trace.level, line.as_bytes(), Place::default());
}
