//! What costs time: a level for each worker. At 1 it tells when it takes something up and when it
//! is done with it, at 2 and above what its scripts do as well.
//!
//! A node is given the time of a step once, so what scripts do within one step has the time at
//! which it began; a run that waited goes on at a later one. When a worker is done with an input
//! is what the binary has measured ([`Worker::took`]).

use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use serde_json::{Value as Json, json};
use tandem_clock::Now;
use tandem_script::host::Profiled;
use tandem_script::sig::Routes;
use tandem_script::value::Value;

use super::mi::workers;
use crate::context::Ctx;
use crate::effect::{Input, Out};
use crate::mi::{MiCall, MiDef, MiOutcome, MiParam, RpcError};
use crate::module::{Cx, EventDef};
use crate::table::{command, mi_int};
use crate::worker::Worker;

/// From this level on scripts are told of.
const SCRIPT: u8 = 2;

const PARAMS: &[&str] =
    &["sec", "usec", "session", "verb", "name", "type", "depth", "file", "line", "status"];

pub(super) const PROC: EventDef = EventDef {
    name: "E_PROFILING_PROC",
    params: PARAMS,
    help: "A worker whose profiling level is 1 or more has begun or ended something.",
};
pub(super) const SCRIPT_EVENT: EventDef = EventDef {
    name: "E_PROFILING_SCRIPT",
    params: PARAMS,
    help: "A route or function of a worker whose profiling level is 2 or more begins or ends.",
};

const ID: &[MiParam] = &[mi_int("id")];
const PID: &[MiParam] = &[mi_int("pid")];
const LEVEL: &[MiParam] = &[mi_int("level")];
const ID_LEVEL: &[MiParam] = &[mi_int("id"), mi_int("level")];
const PID_LEVEL: &[MiParam] = &[mi_int("pid"), mi_int("level")];

pub(super) const COMMANDS: &[MiDef] = &[command(
    "core:profiling_proc",
    &["profiling_proc"],
    &[&[], ID, PID, LEVEL, ID_LEVEL, PID_LEVEL],
    "Reads or sets the profiling level of workers: 0 off, 1 what they take up, 2 scripts as well.",
    profiling_proc,
)];

/// The profiling level of each worker.
#[derive(Debug)]
pub(crate) struct Profiling(Vec<AtomicU8>);

impl Profiling {
    pub(crate) fn new(workers: usize) -> Self {
        Self((0..workers.max(1)).map(|_| AtomicU8::new(0)).collect())
    }

    /// The level of a worker.
    pub(crate) fn level(&self, worker: usize) -> u8 {
        self.0.get(worker).map_or(0, |level| level.load(Ordering::Relaxed))
    }

    fn set(&self, worker: usize, level: u8) {
        if let Some(place) = self.0.get(worker) {
            place.store(level, Ordering::Relaxed);
        }
    }
}

fn profiling_proc(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let node = call.cx.node;
    let mut chosen = workers(node);
    if let Some(id) = call.int("id") {
        chosen.retain(|(worker, _)| i64::try_from(*worker) == Ok(id));
    }
    // All workers are threads of one process.
    if call.int("pid").is_some_and(|pid| pid != i64::from(node.pid())) {
        chosen.clear();
    }
    if chosen.is_empty() {
        return MiOutcome::Failed(RpcError::invalid_params("Invalid params"));
    }
    let Some(level) = call.int("level") else {
        let row = |(id, kind): (usize, String)| {
            let level = node.profiling.level(id);
            json!({"ID": id, "PID": node.pid(), "Profiling level": level, "Type": kind})
        };
        return MiOutcome::Done(
            json!({"Processes": chosen.into_iter().map(row).collect::<Json>()}),
        );
    };
    let Ok(level) = u8::try_from(level) else {
        return MiOutcome::Failed(RpcError::invalid_params("Invalid params"));
    };
    chosen.iter().for_each(|(id, _)| node.profiling.set(*id, level));
    MiOutcome::ok()
}

impl Worker {
    /// Tells that this worker takes an input up; the end is told by [`Worker::took`].
    pub(crate) fn begin_profile(&mut self, now: Now, input: &Input, out: &mut Out) {
        if self.node().profiling.level(self.id()) == 0 {
            return;
        }
        let name = match input {
            Input::Datagram { .. } => "UDP message",
            Input::Stream(_) => "TCP event",
            Input::Bin(_) => "BIN event",
            Input::Mi { .. } => "MI command",
            Input::Http { .. } => "HTTP request",
            Input::Db { .. } | Input::DbNews { .. } => "database answer",
            Input::Dns { .. } => "DNS answer",
            Input::Tick => "timer",
            _ => "other",
        };
        let cx = &mut self.cx(now, out);
        cx.worker.profiled = Some(name);
        tell_proc(cx, name, false);
    }
}

/// The worker is done with what [`Worker::begin_profile`] told of, after so many microseconds.
pub(super) fn end_profile(cx: &mut Cx<'_>, us: u64) {
    let Some(name) = cx.worker.profiled.take() else { return };
    let started_us = cx.now.unix_ms.saturating_mul(1_000);
    let ended_us = started_us.saturating_add(us);
    raise(cx, PROC.name, ended_us, cx.worker.messages, "", &process(name, true));
}

fn process(name: &'static str, ends: bool) -> Profiled<'static> {
    let place = tandem_script::program::Place::default();
    Profiled { ends, name, kind: "process", depth: 0, place, status: 0 }
}

fn tell_proc(cx: &mut Cx<'_>, name: &'static str, ends: bool) {
    let us = cx.now.unix_ms.saturating_mul(1_000);
    raise(cx, PROC.name, us, cx.worker.messages, "", &process(name, ends));
}

/// Whether the runs of this context are told of; those of events are not, which would be endless.
pub(crate) fn profiles(cx: &Cx<'_>, ctx: &Ctx) -> bool {
    cx.node.profiling.level(cx.worker.id) >= SCRIPT && ctx.block != Routes::EVENT
}

/// A route or function of a script begins or ends.
pub(crate) fn tell_script(cx: &mut Cx<'_>, ctx: &Ctx, file: &str, what: &Profiled<'_>) {
    let us = cx.now.unix_ms.saturating_mul(1_000);
    raise(cx, SCRIPT_EVENT.name, us, ctx.id, file, what);
}

fn raise(
    cx: &mut Cx<'_>,
    event: &'static str,
    unix_us: u64,
    session: u32,
    file: &str,
    what: &Profiled<'_>,
) {
    let number = |n: u64| Value::Int(n.min(i32::MAX as u64) as i32);
    let text = |t: &str| Value::Str(Bytes::copy_from_slice(t.as_bytes()));
    let params = vec![
        ("sec", number(unix_us / 1_000_000)),
        ("usec", number(unix_us % 1_000_000)),
        ("session", number(u64::from(session))),
        ("verb", text(if what.ends { "end" } else { "start" })),
        ("name", text(what.name)),
        ("type", text(what.kind)),
        ("depth", number(what.depth as u64)),
        ("file", text(file)),
        ("line", number(u64::from(what.place.line))),
        ("status", Value::Int(what.status)),
    ];
    cx.raise(event, params);
}
