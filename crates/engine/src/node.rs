//! A node: shared state, and workers that step it.
//!
//! `Worker::step(now, input, out)` is the whole interface. Workers share the node behind locks of
//! their own parts; none of them is held while a script runs.

use std::any::Any;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI8, AtomicU32, AtomicU64, Ordering};

use ahash::RandomState;
use bytes::{Bytes, BytesMut};
use parking_lot::{Mutex, RwLock};
use serde_json::Value as Json;
use tandem_clock::{Chance, Mono, Now, Wheel};
use tandem_db::DbUrl;
use tandem_script::program::{Program, RouteId};
use tandem_script::value::Value;
use tandem_script::vm::{RunState, Vars};
use tandem_sip::Message;

use crate::attached::{Attached, TxMoment};
use crate::blacklist::Blacklists;
use crate::context::{Ctx, OwnVia, Source};
use crate::core::Profiling;
use crate::dns::Dns;
use crate::events::Events;
use crate::gate::{GateMode, GateTable};
use crate::held::Held;
use crate::load::{Load, Memory};
use crate::log::LogOutputs;
use crate::log::{Flood, Level};
use crate::membership::Membership;
use crate::mi::{MiDef, Registry, RpcError, reply_error, reply_result};
use crate::module::{Module, ModuleDef, Timer};
use crate::outbox::Outbox;
use crate::quarantine::Quarantine;
use crate::reports::Reports;
use crate::run::Suspended;
use crate::script::{Present, Script};
use crate::sockets::Sockets;
use crate::startup::Startup;
use crate::stats::Stats;
use crate::stream::{Proxied, Streams};

/// Runs that wait for an answer, at most; a function that would be one more fails.
pub const SUSPENDED_MAX: usize = 100_000;
/// Routes that wait to be run by one worker, at most; further ones are dropped and counted.
const JOBS_MAX: usize = 100_000;
/// Hosts and ports that scripts advertise.
const ADVERTISED_MAX: usize = 1_000;
/// Management requests that wait for a later answer, at most.
const MI_WAITING_MAX: usize = 1_000;

/// The state that all workers of a node share.
pub struct Node {
    pub program: Arc<Program>,
    pub sockets: Sockets,
    /// Connections that carry SIP.
    pub streams: Streams,
    pub stats: Stats,
    /// In the order of [`crate::effect::DatabaseId`].
    pub databases: Vec<DbUrl>,
    /// Monotonic and wall time of the start.
    pub started: Now,
    /// The command line, for the `arg` command.
    pub command_line: Vec<String>,
    pub gate_mode: GateMode,
    pub outbox: Outbox,
    /// How busy the workers are.
    pub load: Load,
    /// Memory of the process.
    pub memory: Memory,
    /// What is told of the work of each worker.
    pub(crate) profiling: Profiling,
    /// Names that are looked up.
    pub dns: Dns,
    /// Destinations that are not to be used.
    pub blacklists: Blacklists,
    /// Who listens to what.
    pub events: Events,
    /// How ready each part of the node is.
    pub reports: Reports,
    /// What seals texts that others carry for this node.
    pub keys: crate::keys::Keys,
    pub(crate) membership: Membership,
    pub(crate) catching_up: crate::catching_up::CatchingUp,
    /// A table for each cluster.
    pub(crate) gates: Mutex<BTreeMap<u32, GateTable>>,
    pub(crate) startup: Startup,
    pub(crate) table_versions: crate::table_versions::TableVersions,
    /// What clock scripts and tables mean.
    pub zone: crate::zone::Zone,
    pub(crate) mi: Registry,
    pub(crate) modules: Vec<Slot>,
    /// Whether a module judges requests before the script sees them.
    pub(crate) is_screened: bool,
    /// Slots of the modules that know replies at first sight.
    pub(crate) early: Vec<u16>,
    pub(crate) suspended: Mutex<HashMap<u64, Suspended, RandomState>>,
    /// Return codes for runs that are not in `suspended`, whose lock is taken first.
    pub(crate) early_answers: Mutex<BTreeMap<u64, i32>>,
    pub(crate) next_run: AtomicU64,
    /// Datagrams that only keep a way open.
    pub(crate) keepalives: AtomicU64,
    pub(crate) script: Present,
    pub(crate) log_level: AtomicI8,
    pub(crate) xlog_level: AtomicI8,
    pub(crate) pid: AtomicU32,
    pub(crate) folder: Mutex<String>,
    /// Hosts and ports that scripts advertised, so that replies to them are known as ours.
    pub(crate) advertised: RwLock<Vec<OwnVia>>,
    pub(crate) dummy: Message,
    pub(crate) mi_waiting: Mutex<BTreeMap<u64, Json>>,
    pub(crate) settings: Settings,
    pub(crate) log_outputs: LogOutputs,
    /// Calls that are left alone, since a bug came to light in them.
    pub(crate) quarantine: Quarantine,
    /// Key of the tags that stateless replies carry.
    pub(crate) tag_key: RandomState,
}

/// Globals that the message path reads.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Value of the Server header line of replies, the whole line; `None`: none.
    pub server_header: Option<Vec<u8>>,
    /// The User-Agent header line of our own requests; `None`: none.
    pub user_agent: Option<Vec<u8>>,
    /// Replies carry a Warning header that says what was seen of the request.
    pub sip_warning: bool,
    /// Replies whose topmost Via is not ours are dropped.
    pub check_via: bool,
    /// Replies that no transaction knows go on by their Vias.
    pub stateless_replies: bool,
    /// Whether log lines go to standard error.
    pub stderr: bool,
    /// Log lines raise E_CORE_LOG.
    pub log_events: bool,
    /// Microseconds above which a message took too long; `None`: nobody asks.
    pub slow_message_us: Option<u64>,
    /// Percent of the memory above which E_CORE_SHM_THRESHOLD is raised.
    pub memory_percent: Option<u64>,
    /// The same for E_CORE_PKG_THRESHOLD.
    pub private_memory_percent: Option<u64>,
    /// Text before every log line.
    pub log_prefix: String,
    /// The largest receive buffer of a UDP socket (`maxbuffer`).
    pub recv_buffer_bytes: Option<usize>,
    /// A failed assertion ends the node.
    pub abort_on_assert: bool,
}

/// A module's place: its table, its state if it was loaded, the base of its counters.
pub(crate) struct Slot {
    pub(crate) def: &'static ModuleDef,
    pub(crate) state: Option<Arc<dyn Module>>,
    pub(crate) stat_base: usize,
}

impl Node {
    /// The state of the module in a slot.
    pub fn module<T: Module>(&self, slot: u16) -> Option<Arc<T>> {
        let state = self.modules.get(usize::from(slot))?.state.as_ref()?;
        let any: Arc<dyn Any + Send + Sync> = Arc::clone(state) as _;
        any.downcast::<T>().ok()
    }

    /// The state of a module by its type, with its slot.
    pub fn find<T: Module>(&self) -> Option<(u16, Arc<T>)> {
        self.loaded().find_map(|(slot, _, state)| {
            let any: &dyn Any = state.as_ref();
            any.is::<T>().then(|| self.module::<T>(slot).map(|m| (slot, m))).flatten()
        })
    }

    /// The loaded modules with their slots, in slot order.
    pub fn loaded(&self) -> impl Iterator<Item = (u16, &'static ModuleDef, &Arc<dyn Module>)> {
        let numbered = self.modules.iter().enumerate();
        numbered.filter_map(|(n, s)| s.state.as_ref().map(|state| (n as u16, s.def, state)))
    }

    /// The management command that a name means.
    pub fn command(&self, name: &str) -> Result<&'static MiDef, RpcError> {
        self.mi.find(name).map(|found| found.def)
    }

    pub(crate) fn stat_base(&self, slot: u16) -> usize {
        self.modules.get(usize::from(slot)).map_or(usize::MAX / 2, |s| s.stat_base)
    }

    /// Whether lines of this level are written.
    pub fn logs(&self, level: Level) -> bool {
        level as i8 <= self.log_level.load(Ordering::Relaxed)
    }

    pub fn log_level(&self) -> i8 {
        self.log_level.load(Ordering::Relaxed)
    }

    /// Whether lines of `xlog()` of this level are written.
    pub fn xlogs(&self, level: Level) -> bool {
        level as i8 <= self.xlog_level.load(Ordering::Relaxed)
    }

    pub fn xlog_level(&self) -> i8 {
        self.xlog_level.load(Ordering::Relaxed)
    }

    pub fn set_xlog_level(&self, level: Level) {
        self.xlog_level.store(level as i8, Ordering::Relaxed);
    }

    /// The User-Agent header line of our own requests, without its end.
    pub fn user_agent(&self) -> Option<&[u8]> {
        self.settings.user_agent.as_deref()
    }

    /// The largest receive buffer of a UDP socket, if the script names one.
    pub fn recv_buffer_bytes(&self) -> Option<usize> {
        self.settings.recv_buffer_bytes
    }

    /// Text before every log line (`log_prefix`).
    pub fn log_prefix(&self) -> &str {
        &self.settings.log_prefix
    }

    /// Whether a line of this level goes to standard error.
    pub fn writes_stderr_at(&self, level: Level) -> bool {
        self.settings.stderr && self.log_outputs.stderr.takes(level)
    }

    /// The value of `-o NAME=VALUE` in the command line; the last one counts.
    pub fn option(&self, name: &str) -> Option<&str> {
        let args = &self.command_line;
        let behind = args.iter().zip(args.iter().skip(1));
        let apart = behind.filter(|(flag, _)| *flag == "-o").map(|(_, value)| value.as_str());
        let joined = args.iter().filter_map(|arg| arg.strip_prefix("-o").filter(|v| !v.is_empty()));
        let all = joined.chain(apart).filter_map(|pair| pair.split_once('='));
        all.filter(|(known, _)| *known == name).map(|(_, value)| value).next_back()
    }

    pub fn set_log_level(&self, level: Level) {
        self.log_level.store(level as i8, Ordering::Relaxed);
    }

    pub(crate) fn event_route(&self, event: &str) -> Option<RouteId> {
        self.script.get().event_routes.get(event).copied()
    }

    /// The version of the script that runs now. [`Node::program`] is the one of the start: what
    /// is not a route is the same in both.
    pub fn script(&self) -> Arc<Script> {
        self.script.get()
    }

    /// Who gets log lines, and how much of them.
    pub fn log_outputs(&self) -> &LogOutputs {
        &self.log_outputs
    }

    /// Microseconds above which a message took too long (`exec_msg_threshold`).
    pub fn slow_message_us(&self) -> Option<u64> {
        self.settings.slow_message_us
    }

    /// Whether log lines go to standard error (`stderror_enabled`).
    pub fn writes_stderr(&self) -> bool {
        self.settings.stderr
    }

    /// Remembers what a script advertises in a Via.
    pub(crate) fn advertise(&self, via: &OwnVia) {
        let via = OwnVia { rport: false, params: Bytes::new(), ..via.clone() };
        if self.advertised.read().contains(&via) {
            return;
        }
        let mut known = self.advertised.write();
        if known.len() < ADVERTISED_MAX {
            known.push(via);
        }
    }

    /// The id of the process; 0: nobody has said.
    pub fn pid(&self) -> u32 {
        self.pid.load(Ordering::Relaxed)
    }

    /// The folder the process runs in.
    pub fn folder(&self) -> String {
        self.folder.lock().clone()
    }

    /// Says which folder the process runs in.
    pub fn set_folder(&self, folder: impl Into<String>) {
        *self.folder.lock() = folder.into();
    }

    /// Says which process this is.
    pub fn set_pid(&self, pid: u32) {
        self.pid.store(pid, Ordering::Relaxed);
    }

    /// Whether start-up is over.
    pub fn is_ready(&self) -> bool {
        self.startup.is_over()
    }

    /// The cluster, its links and its tags.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Keeps the id of a request that is answered later; false when too many wait.
    pub(crate) fn park_mi(&self, request: u64, id: Json) -> bool {
        let mut waiting = self.mi_waiting.lock();
        let room = waiting.len() < MI_WAITING_MAX;
        if room {
            waiting.insert(request, id);
        }
        room
    }

    /// The text of a late answer, if the request still waits.
    pub(crate) fn finish_mi(&self, request: u64, result: Result<Json, RpcError>) -> Option<String> {
        let id = self.mi_waiting.lock().remove(&request)?;
        Some(match result {
            Ok(json) => reply_result(&id, json),
            Err(error) => reply_error(&id, &error),
        })
    }

    /// Sends that left after an acknowledgement and without one, and those waiting now.
    pub fn gate_totals(&self) -> (u64, u64, usize) {
        let gates = self.gates.lock();
        gates.values().fold((0, 0, 0), |(opened, ungated, waiting), gate| {
            let (o, u) = gate.totals();
            (opened + o, ungated + u, waiting + gate.len())
        })
    }
}

/// A route to run when the current step is over.
pub(crate) enum Job {
    Event {
        route: RouteId,
        params: Vec<(Bytes, Value)>,
    },
    Route {
        route: RouteId,
        ctx: Box<Ctx>,
        done: Option<(u16, u64)>,
    },
    Resume {
        run: u64,
        code: i32,
    },
    /// A message that another node got is taken as if it had come here.
    Message {
        msg: Message,
        source: Source,
    },
    /// A reply to a local request is told to the module that sent it.
    Told {
        slot: u16,
        token: u64,
        code: u16,
        reply: Option<Message>,
    },
    /// A module comes back to something after this step.
    Soon {
        slot: u16,
        timer: Timer,
    },
    /// A module hears that a peer has its changes; slot and number.
    Acknowledged {
        number: u64,
    },
    /// A module hears of a transaction that it attached a section to.
    Transaction {
        attached: Attached,
        moment: TxMoment,
    },
}

/// What one worker owns.
pub struct WorkerState {
    /// 0 is the worker that also has management, databases and timer routes.
    pub id: usize,
    pub chance: Chance,
    pub(crate) wheel: Wheel<(u16, Timer)>,
    pub(crate) jobs: VecDeque<Job>,
    pub(crate) vars: Vars,
    /// The version of the script that new runs take.
    pub(crate) script: Arc<Script>,
    /// Seconds after which the `async()` of the run at hand goes on without its answer.
    pub(crate) async_timeout_s: Option<u32>,
    /// The run key taken by a function of the run at hand that suspends.
    pub(crate) suspending: Option<u64>,
    /// `$var`s of the run whose end a module is being told.
    pub(crate) left_vars: Option<Vars>,
    pub(crate) jobs_dropped: u64,
    /// A timer for overdue gates runs.
    pub(crate) watches_gates: bool,
    /// Depth of routes that functions started inside themselves.
    pub(crate) nested: u32,
    /// The message at hand came from another node.
    pub(crate) from_peer: bool,
    /// The Call-ID of the message at hand, hashed; 0: there is none.
    pub(crate) at_hand: u64,
    /// What the worker has taken up, while it is profiled.
    pub(crate) profiled: Option<&'static str>,
    /// Who speaks through a load balancer in the message at hand.
    pub(crate) proxied: Option<Proxied>,
    /// Requests that wait until the node can answer them.
    pub(crate) held: Held,
    /// The message at hand is one that has waited.
    pub(crate) releases: bool,
    /// Messages received so far.
    pub(crate) messages: u32,
    /// `$log_level` and `$xlog_level` of this worker, when a script has set them.
    pub(crate) log_level: Option<Level>,
    pub(crate) xlog_level: Option<Level>,
    /// What it has written into the log of late.
    pub(crate) flood: Flood,
    /// A run that has ended, for the next one to take its place without making a new one.
    pub(crate) spare_run: Option<Box<RunState>>,
    /// Where a reply is put together.
    pub(crate) reply_text: Vec<u8>,
    /// The memory of replies that leave at once.
    pub(crate) replies: BytesMut,
}

impl WorkerState {
    pub(crate) fn new(id: usize, chance: Chance, now: Now, script: Arc<Script>) -> Self {
        Self {
            id,
            chance,
            wheel: Wheel::new(now.mono_ns),
            jobs: VecDeque::new(),
            vars: Vars::default(),
            script,
            async_timeout_s: None,
            suspending: None,
            left_vars: None,
            jobs_dropped: 0,
            at_hand: 0,
            watches_gates: false,
            nested: 0,
            from_peer: false,
            profiled: None,
            proxied: None,
            held: Held::default(),
            releases: false,
            messages: 0,
            log_level: None,
            xlog_level: None,
            flood: Flood::default(),
            spare_run: None,
            reply_text: Vec::new(),
            replies: BytesMut::new(),
        }
    }

    pub(crate) fn set_timer(&mut self, at: Mono, slot: u16, timer: Timer) {
        self.wheel.insert(at, (slot, timer));
    }

    /// Whether another route may wait; counts one that has to be refused.
    pub(crate) fn has_room_for_job(&mut self) -> bool {
        let room = self.jobs.len() < JOBS_MAX;
        self.jobs_dropped += u64::from(!room);
        room
    }

    pub(crate) fn add_job(&mut self, job: Job) {
        if self.jobs.len() < JOBS_MAX {
            self.jobs.push_back(job);
        } else {
            self.jobs_dropped += 1;
        }
    }
}
