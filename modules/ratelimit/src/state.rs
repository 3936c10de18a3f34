//! All pipes, and the parameters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;
use tandem_clock::{MS, Now, SEC};
use tandem_engine::module::{Build, BuildError, Cx, Module, Timer};
use tandem_engine::replication::Replicated;
use tandem_engine::table::{moot, param};
use tandem_script::sig::{Dependency, ParamKind, ParamSig};

use crate::pipe::{Algorithm, Pipe, Rules};

/// Pipes of one node; what is one more passes unchecked, and that is told.
const PIPES_MAX: usize = 100_000;
/// Timers.
const TURN: u32 = 0;
const SEND: u32 = 1;
const BRIDGE: u32 = 2;

pub(crate) const DEPENDENCIES: &[Dependency] =
    &[Dependency { module: "clusterer", when_param: "pipe_replication_cluster" }];

const fn int(name: &'static str, default: &'static str, help: &'static str) -> ParamSig {
    param(name, ParamKind::Int, Some(default), help)
}

pub(crate) const PARAMS: &[ParamSig] = &[
    int("timer_interval", "10", "Seconds of an interval, in which is counted."),
    int("expire_time", "3600", "Seconds for which a pipe that is not used is kept."),
    moot("hash_size", ParamKind::Int, "tables grow by themselves"),
    ParamSig {
        check: Some(check_algorithm),
        ..param(
            "default_algorithm",
            ParamKind::Str,
            Some("TAILDROP"),
            "TAILDROP, RED, SBT, FEEDBACK or NETWORK, for pipes that name none.",
        )
    },
    int("repl_buffer_threshold", "32767", "Bytes of a packet of counters at most."),
    int("repl_timer_interval", "200", "Milliseconds between packets of counters."),
    int("repl_timer_expire", "10", "Seconds for which the count of another node is believed."),
    int("bridge_replication", "0", "1: clusters tell each other over the bridges of clusterer."),
    int("bridge_repl_timer_interval", "500", "Milliseconds between packets over a bridge."),
    int("bridge_repl_timer_expire", "20", "Seconds for which another cluster's count is believed."),
    int("pipe_replication_cluster", "0", "Cluster that shares pipes; 0: none."),
    int("window_size", "10", "Seconds that SBT looks back."),
    int("slot_period", "200", "Milliseconds of a slot of SBT."),
    param(
        "cachedb_url",
        ParamKind::Str,
        None,
        "The store of pipes \"name/s\", which all who use it share: \"local:group:///collection\".",
    ),
    param("db_prefix", ParamKind::Str, Some("rl_pipe_"), "What their keys begin with."),
    int("limit_per_interval", "0", "1: limits are those of an interval; 0: of a second."),
];

/// How FEEDBACK follows the load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pid {
    pub(crate) ki: f64,
    pub(crate) kp: f64,
    pub(crate) kd: f64,
    sum: f64,
    last: f64,
}

impl Pid {
    pub(crate) fn new(ki: f64, kp: f64, kd: f64) -> Self {
        Self { ki, kp, kd, sum: 0.0, last: 0.0 }
    }

    /// Of a hundred, how many to refuse so that the load comes to its limit.
    fn drop_rate(&mut self, load: f64, limit: f64) -> u32 {
        let error = load - limit;
        self.sum = (self.sum + error).clamp(-100.0, 100.0);
        let out = self.kp * error + self.ki * self.sum + self.kd * (error - self.last);
        self.last = error;
        out.clamp(0.0, 95.0) as u32
    }
}

/// The state of the module.
pub(crate) struct RateLimit {
    pub(crate) pipes: Mutex<BTreeMap<String, Pipe>>,
    pub(crate) pid: Mutex<Pid>,
    pub(crate) default: Algorithm,
    rules: Rules,
    drop_rate: AtomicU32,
    waiting: AtomicU64,
    /// The store of shared pipes, and what their keys begin with.
    store: Option<String>,
    prefix: String,
    expire_s: u64,
    pub(crate) cluster: u32,
    pub(crate) packet_bytes: usize,
    send_ms: u64,
    pub(crate) believe_s: u64,
    /// `bridge_replication`: milliseconds between packets; `None`: off.
    bridge_ms: Option<u64>,
    pub(crate) believe_bridge_s: u64,
    pub(crate) slot: u16,
}

impl RateLimit {
    pub(crate) fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
        let number = |name: &'static str, least: u32| {
            let number = build.int(name).and_then(|n| u32::try_from(n).ok());
            let fine = number.filter(|n| *n >= least);
            fine.ok_or_else(|| BuildError::new(name, format!("{least} or more is wanted")))
        };
        let slot_ms = u64::from(number("slot_period", 1)?);
        let window_ms = u64::from(number("window_size", 1)?) * 1_000;
        if slot_ms > window_ms {
            return Err(BuildError::new("slot_period", "a slot is longer than the window"));
        }
        let rules = Rules {
            interval_s: number("timer_interval", 1)?,
            per_interval: build.int("limit_per_interval") == Some(1),
            slot_ms,
            slots: usize::try_from(window_ms.div_ceil(slot_ms)).unwrap_or(usize::MAX),
            drop_rate: 0,
            waiting: 0,
        };
        let url = build.text("cachedb_url").map(|url| {
            // `local:group://host/collection` is known by what stands before the slashes.
            url.split("://").next().unwrap_or(url).to_owned()
        });
        let default = build.text("default_algorithm").and_then(Algorithm::of);
        Ok(Arc::new(Self {
            pipes: Mutex::default(),
            pid: Mutex::new(Pid::new(-25.0, 0.0, 0.0)),
            default: default.unwrap_or(Algorithm::TailDrop),
            rules,
            drop_rate: AtomicU32::new(0),
            waiting: AtomicU64::new(0),
            store: url,
            prefix: build.text("db_prefix").unwrap_or_default().to_owned(),
            expire_s: u64::from(number("expire_time", 1)?),
            cluster: number("pipe_replication_cluster", 0)?,
            packet_bytes: number("repl_buffer_threshold", 100)? as usize,
            send_ms: u64::from(number("repl_timer_interval", 10)?),
            believe_s: u64::from(number("repl_timer_expire", 1)?),
            bridge_ms: Some(u64::from(number("bridge_repl_timer_interval", 10)?))
                .filter(|_| build.int("bridge_replication").is_some_and(|n| n != 0)),
            believe_bridge_s: u64::from(number("bridge_repl_timer_expire", 1)?),
            slot: build.slot,
        }))
    }

    pub(crate) fn rules(&self) -> Rules {
        let drop_rate = self.drop_rate.load(Ordering::Relaxed);
        Rules { drop_rate, waiting: self.waiting.load(Ordering::Relaxed), ..self.rules }
    }

    /// Whether the counts of other clusters are heard.
    pub(crate) fn is_bridged(&self) -> bool {
        self.bridge_ms.is_some()
    }

    pub(crate) fn drop_rate(&self) -> u32 {
        self.drop_rate.load(Ordering::Relaxed)
    }

    /// Counts one in the store that all share, for the interval that the first one began; gives
    /// the sum.
    ///
    /// # Errors
    /// That there is no store, or what it says.
    pub(crate) fn count_in_store(&self, cx: &mut Cx<'_>, name: &str) -> Result<i32, String> {
        let id = self.store.as_deref().ok_or("a pipe in a store (/s) needs cachedb_url")?;
        let key = format!("{}{name}", self.prefix);
        let interval_s = self.rules.interval_s;
        cx.with_cache(id, |cache, cx| {
            let is_new = cache.fetch(cx, id, key.as_bytes())?.is_none();
            cache.add(cx, id, key.as_bytes(), 1, if is_new { interval_s } else { 0 })
        })
    }

    /// Runs something on a pipe, made if it is not there; `None`: there are too many.
    pub(crate) fn with_pipe<R>(
        &self,
        name: &str,
        new: impl FnOnce() -> Pipe,
        run: impl FnOnce(&mut Pipe) -> R,
    ) -> Option<R> {
        let mut pipes = self.pipes.lock();
        if pipes.len() >= PIPES_MAX && !pipes.contains_key(name) {
            return None;
        }
        Some(run(pipes.entry(name.to_owned()).or_insert_with(new)))
    }

    fn turn(&self, now: Now, load: u64) {
        let mut pipes = self.pipes.lock();
        let oldest = now.mono_ns.saturating_sub(self.expire_s * SEC);
        pipes.retain(|_, pipe| pipe.used >= oldest);
        pipes.values_mut().for_each(|pipe| pipe.turn(now));
        let limit = pipes.values().find(|p| p.algorithm == Algorithm::Feedback).map(|p| p.limit);
        drop(pipes);
        let rate =
            limit.map_or(0, |limit| self.pid.lock().drop_rate(load as f64, f64::from(limit)));
        self.drop_rate.store(rate, Ordering::Relaxed);
    }
}

impl Module for RateLimit {
    fn start(&self, cx: &mut Cx<'_>) {
        let at = cx.now.after_s(u64::from(self.rules.interval_s));
        cx.set_timer(at, Timer { kind: TURN, id: 0 });
        if self.cluster != 0 {
            cx.set_timer(cx.now.mono_ns + self.send_ms * MS, Timer { kind: SEND, id: 0 });
            if let Some(ms) = self.bridge_ms {
                cx.set_timer(cx.now.mono_ns + ms * MS, Timer { kind: BRIDGE, id: 0 });
            }
        }
    }

    fn timer(&self, cx: &mut Cx<'_>, timer: Timer) {
        let at = if timer.kind == BRIDGE {
            self.send_bridged(cx);
            cx.now.mono_ns + self.bridge_ms.unwrap_or(1_000) * MS
        } else if timer.kind == TURN {
            let load = cx.node.statistic("load:load", cx.now).unwrap_or(0);
            // It costs something to measure, so it is asked for by those alone who go by it.
            if self.pipes.lock().values().any(|pipe| pipe.algorithm == Algorithm::Network) {
                let waiting = cx.node.statistic("net:waiting_udp", cx.now).unwrap_or(0);
                self.waiting.store(waiting, Ordering::Relaxed);
            }
            self.turn(cx.now, load);
            cx.now.after_s(u64::from(self.rules.interval_s))
        } else {
            self.send(cx);
            cx.now.mono_ns + self.send_ms * MS
        };
        cx.set_timer(at, timer);
    }

    fn replicated(&self) -> Option<&dyn Replicated> {
        (self.cluster != 0).then_some(self as &dyn Replicated)
    }
}

pub(crate) fn check_algorithm(text: &str) -> Result<(), String> {
    match Algorithm::of(text) {
        Some(_) => Ok(()),
        None => Err(format!("`{text}` is none of TAILDROP, RED, SBT, FEEDBACK and NETWORK")),
    }
}
