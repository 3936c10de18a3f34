//! `event_routing`: routes and runs that wait for an event.
//!
//! A filter is an AVP whose values are `parameter=pattern`; an event fits when all of them do.
//! The parameters of the event become AVPs where it was waited for.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use regex::bytes::Regex;
use tandem_engine::context::Ctx;
use tandem_engine::glob;
use tandem_engine::log::Level;
use tandem_engine::module::{Build, BuildError, Call, Cx, FunctionDef, Module, ModuleDef, Timer};
use tandem_engine::table::{arg, literal};
use tandem_script::host::Called;
use tandem_script::program::{Ready, RouteId};
use tandem_script::sig::{ArgKind, ArgSig, AsyncUse, FunctionSig, Routes};
use tandem_script::value::Value;
use tandem_tm::Tm;

/// Runs and routes that wait, together.
const WAITS_MAX: usize = 100_000;
/// Conditions of one filter.
const FILTERS_MAX: usize = 32;
/// The time was over.
const TIMED_OUT: i32 = -2;

/// The table of `event_routing`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "event_routing",
    help: "Routes and runs that wait for an event.",
    dependencies: &[],
    params: &[],
    functions: FUNCTIONS,
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build,
};

const NOTIFY: &[ArgSig] = &[
    arg("event", ArgKind::Str),
    arg("filter", ArgKind::Var),
    literal("route", ArgKind::Route(Routes::REQUEST)),
    arg("timeout", ArgKind::Int),
];
const WAIT: &[ArgSig] =
    &[arg("event", ArgKind::Str), arg("filter", ArgKind::Var), arg("timeout", ArgKind::Int)];
const NOTIFY_ROUTES: Routes =
    Routes::REQUEST.or(Routes::FAILURE).or(Routes::ONREPLY).or(Routes::BRANCH).or(Routes::EVENT);

const FUNCTIONS: &[FunctionDef] = &[
    FunctionDef {
        sig: FunctionSig {
            name: "notify_on_event",
            args: NOTIFY,
            routes: NOTIFY_ROUTES,
            async_use: AsyncUse::No,
            help: "Runs a route on this message for each event that fits the filter, for so many \
                   seconds.",
        },
        run: notify_on_event,
    },
    FunctionDef {
        sig: FunctionSig {
            name: "wait_for_event",
            args: WAIT,
            routes: Routes::ANY,
            async_use: AsyncUse::Both,
            help: "Waits for an event that fits the filter: 1; -2 when the seconds are over.",
        },
        run: wait_for_event,
    },
];

/// What waits for events of one name.
struct Wait {
    id: u64,
    /// Parameters, and what their values have to look like.
    filter: Vec<(Bytes, Regex)>,
    what: What,
}

enum What {
    Run(u64),
    /// On a copy of the message, with the AVPs as they were.
    Route(RouteId, Box<Ctx>),
}

#[derive(Default)]
struct Waits {
    by_event: BTreeMap<String, Vec<Wait>>,
    count: usize,
    last: u64,
}

#[derive(Default)]
struct EventRouting(Mutex<Waits>);

fn build(_: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    Ok(Arc::new(EventRouting::default()))
}

fn wait_for_event(call: &mut Call<'_, '_, '_>) -> Called {
    let (event, filter) = match asked(call) {
        Ok(asked) => asked,
        Err(why) => return call.complain(Level::Error, why),
    };
    let timeout_s = call.int(2).unwrap_or(0);
    let run = call.suspend();
    if let Err(why) = add(call, event, filter, What::Run(run), timeout_s) {
        call.complain(Level::Error, why);
        call.cx.resume(run, -1);
    }
    Called::Suspended
}

fn notify_on_event(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(Ready::Route(route)) = call.ready(2).cloned() else { return Called::Returned(-1) };
    let (event, filter) = match asked(call) {
        Ok(asked) => asked,
        Err(why) => return call.complain(Level::Error, why),
    };
    let timeout_s = call.int(3).unwrap_or(0);
    let mut ctx = call.ctx.for_target(call.ctx.target.clone(), Routes::REQUEST);
    ctx.avps = call.ctx.avps.clone();
    match add(call, event, filter, What::Route(route, Box::new(ctx)), timeout_s) {
        Ok(()) => Called::Returned(1),
        Err(why) => call.complain(Level::Error, why),
    }
}

/// Event and filter of a call.
fn asked(call: &mut Call<'_, '_, '_>) -> Result<(String, Vec<(Bytes, Regex)>), String> {
    let event = String::from_utf8_lossy(&call.text(0)).into_owned();
    if !call.cx.node.events.publish(&event) {
        return Err("there are too many events".into());
    }
    let mut filter = Vec::new();
    for value in call.list(1).into_iter().take(FILTERS_MAX) {
        let text = value.into_bytes().unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let (name, pattern) = text
            .split_once('=')
            .ok_or_else(|| format!("`{text}` is not of the form parameter=pattern"))?;
        let name = Bytes::copy_from_slice(name.trim().as_bytes());
        filter.push((name, glob::compile(pattern)?));
    }
    Ok((event, filter))
}

fn add(
    call: &mut Call<'_, '_, '_>,
    event: String,
    filter: Vec<(Bytes, Regex)>,
    what: What,
    timeout_s: i32,
) -> Result<(), String> {
    let state = call.state::<EventRouting>().ok_or("event_routing is not there")?;
    let seconds = u64::try_from(timeout_s).ok().filter(|s| *s > 0);
    let seconds = seconds.ok_or("a time of 1 second or more is wanted")?;
    let mut waits = state.0.lock();
    if waits.count >= WAITS_MAX {
        return Err(format!("more than {WAITS_MAX} wait for events"));
    }
    waits.last += 1;
    waits.count += 1;
    let id = waits.last;
    waits.by_event.entry(event).or_default().push(Wait { id, filter, what });
    drop(waits);
    call.cx.node.events.listen(1);
    let at = call.cx.now.after_s(seconds);
    call.cx.set_timer(at, Timer { kind: 0, id });
    Ok(())
}

impl Waits {
    /// Takes the waits that `goes` says, of one event or of all.
    fn take(&mut self, event: Option<&str>, goes: impl Fn(&Wait) -> bool) -> Vec<Wait> {
        let mut taken = Vec::new();
        for (name, list) in &mut self.by_event {
            if event.is_none_or(|event| event == name) {
                taken.extend(list.extract_if(.., |wait| goes(wait)));
            }
        }
        self.by_event.retain(|_, list| !list.is_empty());
        self.count = self.count.saturating_sub(taken.len());
        taken
    }
}

impl Wait {
    fn fits(&self, params: &[(Bytes, Value)]) -> bool {
        self.filter.iter().all(|(name, pattern)| {
            let value = params.iter().find(|(n, _)| n == name).map(|(_, value)| value);
            value.is_some_and(|value| pattern.is_match(&value.text().unwrap_or_default()))
        })
    }
}

fn put(ctx: &mut Ctx, params: &[(Bytes, Value)]) {
    for (name, value) in params {
        // More than a message holds is left out.
        let _ = ctx.avps.insert(name, value.clone(), false);
    }
    // For functions that take them from an event.
    ctx.params = params.to_vec();
}

/// The route works on the transaction of the request, if that waits still.
fn come_back(cx: &Cx<'_>, ctx: &mut Ctx) {
    if let Some((slot, tm)) = cx.node.find::<Tm>()
        && let Some(tx) = tm.transaction_of_request(&ctx.msg)
    {
        tm.visit(slot, ctx, tx);
    }
}

impl Module for EventRouting {
    fn event(&self, cx: &mut Cx<'_>, event: &str, params: &[(Bytes, Value)]) {
        let mut routes = Vec::new();
        let runs = {
            let mut waits = self.0.lock();
            for wait in waits.by_event.get(event).into_iter().flatten() {
                if let What::Route(route, ctx) = &wait.what
                    && wait.fits(params)
                {
                    let mut copy = ctx.for_target(ctx.target.clone(), Routes::REQUEST);
                    copy.avps = ctx.avps.clone();
                    routes.push((*route, copy));
                }
            }
            waits.take(Some(event), |w| matches!(w.what, What::Run(_)) && w.fits(params))
        };
        cx.node.events.listen(-(runs.len() as isize));
        for wait in runs {
            let What::Run(run) = wait.what else { continue };
            cx.with_suspended(run, |ctx| put(ctx, params));
            cx.resume(run, 1);
        }
        for (route, mut ctx) in routes {
            put(&mut ctx, params);
            come_back(cx, &mut ctx);
            // When too many routes wait already, the event is lost, which the worker tells.
            let _ = cx.run_route(route, Box::new(ctx), 0);
        }
    }

    fn timer(&self, cx: &mut Cx<'_>, timer: Timer) {
        let over = self.0.lock().take(None, |wait| wait.id == timer.id);
        cx.node.events.listen(-(over.len() as isize));
        for wait in over {
            if let What::Run(run) = wait.what {
                cx.resume(run, TIMED_OUT);
            }
        }
    }
}
