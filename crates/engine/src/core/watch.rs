//! What the node tells of itself: slow messages, memory, log lines, and bugs.

use bytes::Bytes;
use tandem_clock::Now;
use tandem_script::value::Value;

use crate::core::stat;
use crate::date;
use crate::effect::{Effect, Out};
use crate::log::Level;
use crate::module::{Cx, EventDef, Timer};
use crate::node::Node;
use crate::worker::{Worker, timer};

pub(super) const THRESHOLD: EventDef = EventDef {
    name: "E_CORE_THRESHOLD",
    params: &["source", "time", "extra"],
    help: "A message took longer than exec_msg_threshold.",
};
pub(super) const SHM_THRESHOLD: EventDef = EventDef {
    name: "E_CORE_SHM_THRESHOLD",
    params: &["usage", "threshold", "used", "size"],
    help: "The memory in use has passed event_shm_threshold, or has changed above it.",
};
pub(super) const LOG: EventDef = EventDef {
    name: "E_CORE_LOG",
    params: &["time", "pid", "level", "module", "function", "prefix", "message"],
    help: "A line was logged (log_event_enabled).",
};

pub(super) const PKG_THRESHOLD: EventDef = EventDef {
    name: "E_CORE_PKG_THRESHOLD",
    params: &["usage", "threshold", "used", "size", "pid"],
    help: "The memory in use has passed event_pkg_threshold, or has changed above it. Workers are \
           threads of one process: none has memory of its own beside what all share.",
};
pub(super) const AUTO_SCALE: EventDef = EventDef {
    name: "E_CORE_PROC_AUTO_SCALE",
    params: &["group_type", "group_filter", "group_load", "scale", "process_id", "pid"],
    help: "A worker has begun to help the one that reads, whose batches stay full, or has ended.",
};

/// Lines of one step that become events, at most.
const LINES_MAX: usize = 64;

impl Worker {
    /// An input took so long; the binary has measured it, when [`Node::times_steps`] says so.
    pub fn took(&mut self, now: Now, us: u64, out: &mut Out) {
        super::profiling::end_profile(&mut self.cx(now, out), us);
        let Some(most) = self.node().slow_message_us().filter(|most| us > *most) else { return };
        let mut cx = self.cx(now, out);
        cx.count_core(stat::SLOW_MESSAGES, 1);
        let text = format!("a message took {us} us, more than exec_msg_threshold ({most} us)");
        cx.log(Level::Warning, text);
        let params = vec![
            ("source", Value::str("msg processing")),
            ("time", number(us)),
            ("extra", Value::str("")),
        ];
        cx.raise(THRESHOLD.name, params);
    }

    /// A step has failed by a bug. What it was about is left alone for a while, and this worker
    /// goes on as if nothing had begun.
    pub fn failed(&mut self, now: Now, out: &mut Out) {
        let call = self.reset_after_failure();
        let node = std::sync::Arc::clone(self.node());
        let cx = self.cx(now, out);
        cx.count_core(stat::FAILED_STEPS, 1);
        if call != 0 {
            node.quarantine.add(now, call);
        }
    }

    /// Lines that were logged since `from` become events.
    pub(crate) fn tell_logs(&mut self, now: Now, from: usize, out: &mut Out) {
        let node = std::sync::Arc::clone(self.node());
        if !node.settings.log_events {
            return;
        }
        let logged = out.effects.get(from..).unwrap_or_default().iter();
        let lines: Vec<(Level, String)> = logged
            .filter_map(|effect| match effect {
                Effect::Log { level, text } if node.log_outputs.event.takes(*level) => {
                    Some((*level, text.clone()))
                }
                _ => None,
            })
            .take(LINES_MAX)
            .collect();
        let mut cx = self.cx(now, out);
        for (level, text) in lines {
            let params = vec![
                ("time", Value::str(date::ctime(now.unix_s()))),
                ("pid", Value::Int(node.pid() as i32)),
                ("level", Value::str(level.name())),
                ("module", Value::str("")),
                ("function", Value::str("")),
                ("prefix", Value::str(node.log_prefix().to_owned())),
                ("message", Value::Str(Bytes::from(text))),
            ];
            cx.raise(LOG.name, params);
        }
    }
}

impl Node {
    /// Whether the binary is to measure how long a worker takes for an input, for
    /// [`Worker::took`].
    pub fn times_steps(&self, worker: usize, is_message: bool) -> bool {
        self.profiling.level(worker) > 0 || (is_message && self.settings.slow_message_us.is_some())
    }
}

/// Asks once a second how much memory is in use.
pub(super) fn start(cx: &mut Cx<'_>) {
    let settings = &cx.node.settings;
    if settings.memory_percent.is_some() || settings.private_memory_percent.is_some() {
        again(cx, 0);
    }
}

/// The timer of [`start`]; the id is the percentage that was seen last.
pub(crate) fn look_at_memory(cx: &mut Cx<'_>, timer: Timer) {
    let (used, total) = (cx.node.memory.used(), cx.node.memory.total());
    let percent = used.saturating_mul(100).checked_div(total).unwrap_or(0);
    let (shared, private) =
        (cx.node.settings.memory_percent, cx.node.settings.private_memory_percent);
    for (most, event) in [(shared, SHM_THRESHOLD.name), (private, PKG_THRESHOLD.name)] {
        let Some(most) = most else { continue };
        let (is_above, was_above) = (percent > most, timer.id > most);
        if (!is_above && !was_above) || percent == timer.id {
            continue;
        }
        let mut params = vec![
            ("usage", number(percent)),
            ("threshold", number(most)),
            ("used", number(used)),
            ("size", number(total)),
        ];
        if event == PKG_THRESHOLD.name {
            params.push(("pid", number(u64::from(cx.node.pid()))));
        }
        cx.raise(event, params);
    }
    again(cx, percent);
}

impl Worker {
    /// A worker has begun to share the work of this one (`up`), or has nothing to do any more.
    pub fn scaled(&mut self, now: Now, helper: usize, up: bool, out: &mut Out) {
        let node = std::sync::Arc::clone(self.node());
        let socket = node.sockets.of(crate::sockets::Proto::Udp).next();
        let filter = socket.map_or(String::new(), |(_, s)| s.text().to_owned());
        let load = node.load.percent(now, 1, 1);
        let params = vec![
            ("group_type", Value::str("UDP")),
            ("group_filter", Value::str(filter)),
            ("group_load", number(load)),
            ("scale", Value::str(if up { "up" } else { "down" })),
            ("process_id", number(helper as u64)),
            ("pid", number(u64::from(node.pid()))),
        ];
        self.cx(now, out).raise(AUTO_SCALE.name, params);
    }
}

fn again(cx: &mut Cx<'_>, id: u64) {
    let timer = Timer { kind: timer::MEMORY, id };
    cx.worker.set_timer(cx.now.after_s(1), super::SLOT, timer);
}

fn number(n: u64) -> Value {
    Value::Int(n.min(i32::MAX as u64) as i32)
}
