//! Management commands.

use std::sync::Arc;

use serde_json::{Value as Json, json};
use tandem_engine::glob;
use tandem_engine::mi::{MiCall, MiDef, MiOutcome};
use tandem_engine::table::{command, mi_text};

use crate::pipe::{Algorithm, Pipe};
use crate::state::{Pid, RateLimit};

pub(crate) const COMMANDS: &[MiDef] = &[
    command(
        "ratelimit:list",
        &["rl_list"],
        &[&[], &[mi_text("pipe")], &[mi_text("filter")], &[mi_text("filter_out")]],
        "The pipes, one, or those that fit a pattern or do not.",
        list,
    ),
    command(
        "ratelimit:reset_pipe",
        &["rl_reset_pipe"],
        &[&[mi_text("pipe")]],
        "Sets a pipe to 0.",
        reset,
    ),
    command(
        "ratelimit:set_pid",
        &["rl_set_pid"],
        &[&[mi_text("ki"), mi_text("kp"), mi_text("kd")]],
        "Sets how FEEDBACK follows the load.",
        set_pid,
    ),
    command(
        "ratelimit:get_pid",
        &["rl_get_pid"],
        &[&[]],
        "How FEEDBACK follows the load.",
        get_pid,
    ),
    command(
        "ratelimit:dump_pipe",
        &["rl_dump_pipe"],
        &[&[mi_text("pipe")]],
        "A pipe with its window and what other nodes count.",
        dump,
    ),
];

fn state(call: &MiCall<'_, '_>) -> Option<Arc<RateLimit>> {
    call.cx.node.module::<RateLimit>(call.cx.slot)
}

fn row(call: &MiCall<'_, '_>, state: &RateLimit, name: &str, pipe: &mut Pipe) -> Json {
    let (now, rules) = (call.cx.now, state.rules());
    let counter = pipe.own(now, &rules).saturating_add(pipe.others(now));
    let algorithm = pipe.algorithm.text();
    json!({"id": name, "algorithm": algorithm, "limit": pipe.limit, "counter": counter})
}

fn list(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let Some(state) = state(call) else { return MiOutcome::failed(404, "Pipe Not Found") };
    let mut pipes = state.pipes.lock();
    if let Some(name) = call.text("pipe") {
        return match pipes.get_mut(&name) {
            Some(pipe) => MiOutcome::Done(json!({"Pipe": row(call, &state, &name, pipe)})),
            None => MiOutcome::failed(404, "Pipe Not Found"),
        };
    }
    let (only, without) = (call.text("filter"), call.text("filter_out"));
    let compiled = |text: &Option<String>| text.as_deref().map(glob::compile).transpose();
    let (Ok(only), Ok(without)) = (compiled(&only), compiled(&without)) else {
        return MiOutcome::failed(400, "Bad parameter value");
    };
    let rows: Vec<Json> = pipes
        .iter_mut()
        .filter(|(name, _)| only.as_ref().is_none_or(|re| re.is_match(name.as_bytes())))
        .filter(|(name, _)| !without.as_ref().is_some_and(|re| re.is_match(name.as_bytes())))
        .map(|(name, pipe)| row(call, &state, name, pipe))
        .collect();
    MiOutcome::Done(json!({"Pipes": rows, "drop_rate": state.drop_rate()}))
}

fn reset(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let name = call.text("pipe").unwrap_or_default();
    let found = state(call).is_some_and(|state| {
        let mut pipes = state.pipes.lock();
        pipes.get_mut(&name).map(Pipe::reset).is_some()
    });
    if found { MiOutcome::ok() } else { MiOutcome::failed(500, "Internal error") }
}

fn set_pid(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let number = |name: &str| {
        let number = call.text(name).and_then(|text| text.parse::<f64>().ok());
        number.filter(|n| n.is_finite())
    };
    match (state(call), number("ki"), number("kp"), number("kd")) {
        (Some(state), Some(ki), Some(kp), Some(kd)) => {
            *state.pid.lock() = Pid::new(ki, kp, kd);
            MiOutcome::ok()
        }
        _ => MiOutcome::failed(400, "Bad parameter value"),
    }
}

fn get_pid(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let Some(state) = state(call) else { return MiOutcome::failed(500, "Internal error") };
    let Pid { ki, kp, kd, .. } = *state.pid.lock();
    let [ki, kp, kd] = [ki, kp, kd].map(|n| format!("{n:.3}"));
    MiOutcome::Done(json!({"PID": {"ki": ki, "kp": kp, "kd": kd}}))
}

fn dump(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let name = call.text("pipe").unwrap_or_default();
    let Some(state) = state(call) else { return MiOutcome::failed(404, "Pipe not found") };
    let (now, rules) = (call.cx.now, state.rules());
    let mut pipes = state.pipes.lock();
    let Some(pipe) = pipes.get_mut(&name) else {
        return MiOutcome::failed(404, "Pipe not found");
    };
    let own = pipe.own(now, &rules);
    let nodes = pipe.remote.iter().filter(|(_, (_, until))| *until > now.mono_ns);
    let nodes: Vec<Json> =
        nodes.map(|(id, (count, _))| json!({"MachineID": id, "NodeCounter": count})).collect();
    let total = own.saturating_add(pipe.others(now));
    let mut out = json!({
        "Pipe": name,
        "Algorithm": pipe.algorithm.text(),
        "Counter": own,
        "Replication Nodes": nodes,
        "Total": total,
    });
    if pipe.algorithm == Algorithm::Sbt {
        let buckets = pipe.slots().enumerate();
        let buckets: Vec<Json> = buckets.map(|(at, n)| json!({"Index": at, "Count": n})).collect();
        let window = json!({"Window Size": rules.slots, "Buckets": buckets, "Bucket Total": own});
        out["Window"] = window;
    }
    MiOutcome::Done(out)
}
