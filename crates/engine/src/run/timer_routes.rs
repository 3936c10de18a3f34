//! Timer routes: their timers, and what happens when one fires.

use std::sync::Arc;

use tandem_script::program::RouteId;
use tandem_script::sig::Routes;

use crate::module::{Cx, Timer};
use crate::node::Job;
use crate::worker::timer;

/// Sets the timers of the timer routes of the present script; those of another version mean
/// nothing any more.
pub(crate) fn start_timer_routes(cx: &mut Cx<'_>) {
    let script = Arc::clone(&cx.worker.script);
    for (route, block) in script.program.routes_of(Routes::TIMER) {
        let timer = Timer { kind: timer::ROUTE, id: script.version << 32 | u64::from(route.0) };
        let at = cx.now.after_s(u64::from(block.interval_s));
        cx.worker.set_timer(at, crate::core::SLOT, timer);
    }
}

/// A timer of a timer route fired.
pub(crate) fn timer_route(cx: &mut Cx<'_>, timer: Timer) {
    let route = RouteId(timer.id as u32);
    let interval_s = cx.worker.script.program.route(route).map(|r| r.interval_s.max(1));
    let (Some(interval_s), true) = (interval_s, timer.id >> 32 == cx.worker.script.version) else {
        return;
    };
    let at = cx.now.after_s(u64::from(interval_s));
    cx.worker.set_timer(at, crate::core::SLOT, timer);
    cx.worker.add_job(Job::Event { route, params: Vec::new() });
}
