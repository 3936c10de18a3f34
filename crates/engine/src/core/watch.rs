//! What the node tells of itself: slow messages, memory, log lines, and bugs.

use bytes::Bytes;
use tandem_clock::Now;
use tandem_script::value::Value;

use crate::core::stat;
use crate::date;
use crate::effect::{Effect, Out};
use crate::log::Level;
use crate::module::{Cx, EventDef, Timer};
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

/// Lines of one step that become events, at most.
const LINES_MAX: usize = 64;

impl Worker {
    /// A message took so long; the binary has measured it, when [`crate::node::Node`] asks for it.
    pub fn took(&mut self, now: Now, us: u64, out: &mut Out) {
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

/// Asks once a second how much memory is in use.
pub(super) fn start(cx: &mut Cx<'_>) {
    if cx.node.settings.memory_percent.is_some() {
        again(cx, 0);
    }
}

/// The timer of [`start`]; the id is the percentage that was told last.
pub(crate) fn look_at_memory(cx: &mut Cx<'_>, timer: Timer) {
    let Some(most) = cx.node.settings.memory_percent else { return };
    let (used, total) = (cx.node.memory.used(), cx.node.memory.total());
    let percent = used.saturating_mul(100).checked_div(total).unwrap_or(0);
    let (is_above, was_above) = (percent > most, timer.id > most);
    if (is_above || was_above) && percent != timer.id {
        let params = vec![
            ("usage", number(percent)),
            ("threshold", number(most)),
            ("used", number(used)),
            ("size", number(total)),
        ];
        cx.raise(SHM_THRESHOLD.name, params);
    }
    again(cx, percent);
}

fn again(cx: &mut Cx<'_>, id: u64) {
    let timer = Timer { kind: timer::MEMORY, id };
    cx.worker.set_timer(cx.now.after_s(1), super::SLOT, timer);
}

fn number(n: u64) -> Value {
    Value::Int(n.min(i32::MAX as u64) as i32)
}
