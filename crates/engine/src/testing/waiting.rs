//! A module whose functions answer later, for tests of whatever waits.

use std::sync::Arc;

use tandem_clock::MS;
use tandem_script::host::Called;
use tandem_script::program::VarId;
use tandem_script::sig::{ArgKind, ArgSig, AsyncUse, FunctionSig, Routes};
use tandem_script::value::Value;

use crate::module::{Call, Cx, FunctionDef, Module, ModuleDef, Timer};
use crate::table::{arg, optional};

const ARGS: &[ArgSig] = &[arg("ms", ArgKind::Int), optional("out", ArgKind::Var)];

const fn row(
    name: &'static str,
    async_use: AsyncUse,
    run: fn(&mut Call<'_, '_, '_>) -> Called,
) -> FunctionDef {
    let help = "Answers after so many milliseconds with their number.";
    FunctionDef { sig: FunctionSig { name, args: ARGS, routes: Routes::ANY, async_use, help }, run }
}

/// `wait(ms[, $out])` answers later, `at_once(ms[, $out])` now: both return the number and store
/// it in the variable. `wait_only` is for `async()` and `launch()`.
pub static WAITING: ModuleDef = ModuleDef {
    name: "waiting",
    help: "Functions that answer later.",
    dependencies: &[],
    params: &[],
    functions: &[
        row("wait", AsyncUse::Both, wait),
        row("wait_only", AsyncUse::Only, wait),
        row("at_once", AsyncUse::Both, at_once),
    ],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build: |_| Ok(Arc::new(Waiting::default())),
};

/// What waits: run, answer, variable.
type Waits = (u64, i32, Option<VarId>);

#[derive(Default)]
struct Waiting(parking_lot::Mutex<Vec<Waits>>);

fn wait(call: &mut Call<'_, '_, '_>) -> Called {
    let (Some(state), Some(ms)) = (call.state::<Waiting>(), call.int(0)) else {
        return Called::Returned(-1);
    };
    let run = call.suspend();
    state.0.lock().push((run, ms, call.var(1)));
    let at = call.cx.now.mono_ns + u64::from(ms.unsigned_abs()) * MS;
    call.cx.set_timer(at, Timer { kind: 0, id: run });
    Called::Suspended
}

fn at_once(call: &mut Call<'_, '_, '_>) -> Called {
    let ms = call.int(0).unwrap_or(-1);
    // The variable is writable, or the script would not have compiled.
    let _ = call.set_var(1, Value::Int(ms));
    Called::Returned(ms)
}

impl Module for Waiting {
    fn timer(&self, cx: &mut Cx<'_>, timer: Timer) {
        let mut waiting = self.0.lock();
        let Some(at) = waiting.iter().position(|(run, ..)| *run == timer.id) else { return };
        let (run, ms, out) = waiting.swap_remove(at);
        drop(waiting);
        if let Some(var) = out {
            let _ = cx.assign_suspended(run, var, Value::Int(ms));
        }
        cx.resume(run, ms);
    }
}
