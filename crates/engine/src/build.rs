//! From a checked script to a node.

mod sockets;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI8, AtomicU32, AtomicU64};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tandem_clock::{Chance, Now};
use tandem_db::DbUrl;
use tandem_script::program::{Place, Program, Setting};
use tandem_script::sig::Routes;
use tandem_script::{Diag, Span};
use tandem_sip::Message;

use crate::blacklist::Blacklists;
use crate::catalogue::Modules;
use crate::core::{Profiling, SLOT as CORE};
use crate::dns::{Dns, DnsSettings};
use crate::events::Events;
use crate::load::{Load, Memory};
use crate::log::{LogOutput, LogOutputs};
use crate::membership::Membership;
use crate::mi::Registry;
use crate::module::{Build, BuildError, Module, ModuleDef, ParamValue};
use crate::node::{Node, Settings, Slot};
use crate::outbox::Outbox;
use crate::reports::{MAIN, Reports};
use crate::script::Present;
use crate::sockets::Sockets;
use crate::startup::Startup;
use crate::stats::Stats;
use crate::stream::{StreamSettings, Streams};

/// What a node is built from, besides its script.
pub struct NodeOptions {
    pub chance: Chance,
    pub now: Now,
    /// How many workers will step the node.
    pub workers: usize,
    pub command_line: Vec<String>,
}

/// A request of our own making, for routes that have no message.
const DUMMY: &[u8] = b"OPTIONS sip:event@tandem.invalid SIP/2.0\r\n\
Via: SIP/2.0/UDP 0.0.0.0;branch=z9hG4bKevent\r\nFrom: <sip:event@tandem.invalid>;tag=event\r\n\
To: <sip:event@tandem.invalid>\r\nCall-ID: event\r\nCSeq: 1 OPTIONS\r\n\
Content-Length: 0\r\n\r\n";

type Values = BTreeMap<String, Vec<ParamValue>>;

impl Node {
    /// Builds the node: sockets, then every loaded module after those it depends on.
    ///
    /// # Errors
    /// What the operator has to change, each with its place in the script.
    pub fn build(
        program: Program,
        modules: Modules,
        mut options: NodeOptions,
    ) -> Result<Arc<Self>, Vec<Diag>> {
        let program = Arc::new(program);
        let globals = globals(&program, modules);
        let sockets = sockets::build(&program, modules, &globals)?;
        let mut builder = Builder {
            program: &program,
            modules,
            sockets: &sockets,
            globals: &globals,
            chance: &mut options.chance,
            built: modules.iter().map(|_| None).collect(),
            databases: Vec::new(),
            faults: Vec::new(),
        };
        builder.build_all();
        let Builder { built, databases, faults, .. } = builder;
        if !faults.is_empty() {
            return Err(faults);
        }
        let dummy = Message::parse(Bytes::from_static(DUMMY))
            .map_err(|e| vec![fault(Span::default(), e.to_string())])?;
        let (slots, counters) = slots(modules, built);
        let membership = Membership::new(&slots);
        let node_id = membership.node_id();
        let stream_settings = stream_settings(&program, &globals, &slots);
        let streams = Streams::new(stream_settings, &sockets, options.chance.hash_key());
        let dns = Dns::new(DnsSettings::read(&globals), options.chance.hash_key().state());
        let blacklists = blacklists(&globals);
        let reports = Reports::default();
        reports.set("core", MAIN, -1, "initializing");
        Ok(Arc::new(Self {
            events: events(&program, &slots),
            reports,
            script: Present::new(Arc::clone(&program)),
            mi: registry(&slots),
            stats: Stats::new(options.workers, counters),
            settings: settings(&program, &globals),
            log_outputs: log_outputs(&globals),
            quarantine: crate::quarantine::Quarantine::default(),
            log_level: AtomicI8::new(log_level(&globals)),
            xlog_level: AtomicI8::new(level(&globals, "xlog_level")),
            pid: AtomicU32::new(0),
            folder: Mutex::default(),
            advertised: RwLock::default(),
            load: Load::new(options.workers, options.now.mono_ns),
            memory: Memory::default(),
            profiling: Profiling::new(options.workers),
            gate_mode: membership.gate_mode(),
            outbox: Outbox::new(node_id),
            keys: crate::keys::Keys::new(node_id, &mut options.chance.fork()),
            membership,
            catching_up: Default::default(),
            gates: Mutex::default(),
            startup: Startup::new(options.now.mono_ns),
            table_versions: Default::default(),
            zone: Default::default(),
            suspended: Mutex::new(std::collections::HashMap::with_hasher(
                options.chance.hash_key().state(),
            )),
            early_answers: Mutex::default(),
            next_run: AtomicU64::new(1),
            keepalives: AtomicU64::new(0),
            mi_waiting: Mutex::default(),
            early: early(&slots),
            is_screened: slots.iter().flat_map(|s| &s.state).any(|m| m.screens()),
            modules: slots,
            streams,
            tag_key: options.chance.hash_key().state(),
            databases,
            started: options.now,
            command_line: options.command_line,
            program,
            sockets,
            dummy,
            dns,
            blacklists,
        }))
    }
}

struct Builder<'a> {
    program: &'a Arc<Program>,
    modules: Modules,
    sockets: &'a Sockets,
    globals: &'a Values,
    chance: &'a mut Chance,
    built: Vec<Option<Arc<dyn Module>>>,
    databases: Vec<DbUrl>,
    faults: Vec<Diag>,
}

impl Builder<'_> {
    fn build_all(&mut self) {
        self.build_one(CORE, Span::default());
        // A module comes after those it depends on, whatever the order of loading.
        let mut waiting: Vec<(u16, Span)> =
            self.program.modules.iter().map(|m| (m.module, m.span)).collect();
        while !waiting.is_empty() {
            let before = waiting.len();
            let names: Vec<&str> = waiting.iter().filter_map(|(m, _)| self.name(*m)).collect();
            let (now, later): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(m, _)| {
                let needs = self.modules.get(usize::from(*m)).map_or(&[][..], |d| d.dependencies);
                !needs.iter().any(|d| names.contains(&d.module))
            });
            for (module, span) in &now {
                self.build_one(*module, *span);
            }
            waiting = later;
            if waiting.len() == before {
                // Modules that need each other: the tables are wrong, not the script.
                let (_, span) = waiting.swap_remove(0);
                self.faults.push(fault(span, "modules depend on each other in a circle"));
                return;
            }
        }
    }

    fn name(&self, module: u16) -> Option<&'static str> {
        self.modules.get(usize::from(module)).map(|d| d.name)
    }

    /// Whether a module that this one needs is loaded and could not be built: that was said.
    fn lacks(&self, def: &ModuleDef) -> bool {
        def.dependencies.iter().any(|d| {
            let loaded = self.program.modules.iter().find(|m| m.name == d.module);
            loaded
                .is_some_and(|m| self.built.get(usize::from(m.module)).is_some_and(Option::is_none))
        })
    }

    fn build_one(&mut self, module: u16, span: Span) {
        let Some(def) = self.modules.get(usize::from(module)) else { return };
        if self.lacks(def) {
            return;
        }
        let values = values(self.program, module, def);
        let loaded_names: Vec<&'static str> =
            self.program.modules.iter().filter_map(|m| self.name(m.module)).collect();
        let mut build = Build {
            values: &values,
            globals: self.globals,
            built: &self.built,
            databases: &mut self.databases,
            loaded_names: &loaded_names,
            program: self.program,
            sockets: self.sockets,
            chance: self.chance,
            slot: module,
        };
        match (def.build)(&mut build) {
            Ok(state) => {
                if let Some(place) = self.built.get_mut(usize::from(module)) {
                    *place = Some(state);
                }
            }
            Err(error) => self.faults.push(self.explain(module, span, error)),
        }
    }

    /// Puts the error under the last `modparam` of the parameter, or under `loadmodule`.
    fn explain(&self, module: u16, loaded: Span, error: BuildError) -> Diag {
        let param = self
            .modules
            .get(usize::from(module))
            .and_then(|d| d.params.iter().position(|p| p.name == error.param));
        let span = self
            .program
            .modparams
            .iter()
            .rev()
            .find(|p| p.module == module && Some(usize::from(p.param)) == param)
            .map_or(loaded, |p| p.span);
        let name = self.name(module).unwrap_or_default();
        fault(span, format!("{name}: {}", error.message)).maybe_help(error.help)
    }
}

fn fault(span: Span, message: impl Into<String>) -> Diag {
    Diag::error("E0900", span, message)
}

fn value(setting: &Setting) -> ParamValue {
    match setting {
        Setting::Int(n) => ParamValue::Int(*n),
        Setting::Str(s) => ParamValue::Str(s.clone()),
    }
}

/// The values of a module's parameters: those of the script, else the defaults of the table.
fn values(program: &Program, module: u16, def: &ModuleDef) -> Values {
    let mut values = Values::new();
    for (index, param) in def.params.iter().enumerate() {
        let given = program
            .modparams
            .iter()
            .filter(|p| p.module == module && usize::from(p.param) == index)
            .map(|p| value(&p.value));
        let mut given: Vec<ParamValue> = given.collect();
        if given.is_empty() {
            given.extend(param.default.map(default_value));
        }
        if !given.is_empty() {
            values.insert(param.name.to_owned(), given);
        }
    }
    values
}

fn globals(program: &Program, modules: Modules) -> Values {
    let mut values = Values::new();
    for param in modules.first().map_or(&[][..], |core| core.params) {
        if let Some(default) = param.default {
            values.entry(param.name.to_owned()).or_insert_with(|| vec![default_value(default)]);
        }
    }
    let multiple = |name: &str| {
        let core = modules.first().map_or(&[][..], |core| core.params);
        core.iter().any(|p| p.name == name && p.multiple)
    };
    for global in &program.globals {
        let given = value(&global.value);
        match values.get_mut(global.name) {
            Some(all) if multiple(global.name) => all.push(given),
            _ => drop(values.insert(global.name.to_owned(), vec![given])),
        }
    }
    values
}

fn default_value(text: &str) -> ParamValue {
    text.parse().map_or_else(|_| ParamValue::Str(text.to_owned()), ParamValue::Int)
}

fn global_int(globals: &Values, name: &str) -> Option<i32> {
    match globals.get(name).and_then(|v| v.last()) {
        Some(ParamValue::Int(n)) => Some(*n),
        _ => None,
    }
}

fn global_text<'a>(globals: &'a Values, name: &str) -> Option<&'a str> {
    match globals.get(name).and_then(|v| v.last()) {
        Some(ParamValue::Str(s)) => Some(s),
        _ => None,
    }
}

/// The lists of the script; their texts were checked with it.
fn blacklists(globals: &Values) -> Blacklists {
    let given = globals.get("dst_blacklist").map_or(&[][..], Vec::as_slice);
    let texts = given.iter().filter_map(|value| match value {
        ParamValue::Str(text) => Some(text),
        ParamValue::Int(_) => None,
    });
    let lists = texts.filter_map(|text| crate::blacklist::parse(text).ok()).collect();
    Blacklists::new(lists, global_int(globals, "disable_dns_blacklist") == Some(0))
}

fn level(globals: &Values, name: &str) -> i8 {
    global_int(globals, name).unwrap_or(2).clamp(-3, 4) as i8
}

fn log_level(globals: &Values) -> i8 {
    if debugs(globals) { 4 } else { level(globals, "log_level") }
}

fn debugs(globals: &Values) -> bool {
    global_int(globals, "debug_mode").is_some_and(|n| n != 0)
}

fn settings(program: &Program, globals: &Values) -> Settings {
    let on = |name: &str| global_int(globals, name).is_some_and(|n| n != 0);
    let positive = |name: &str| {
        global_int(globals, name).and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0)
    };
    let line = |name: &str, header: &str| {
        let own = format!("{header}: Tandem ({})", env!("CARGO_PKG_VERSION"));
        let line = global_text(globals, name).map_or(own, |l| l.trim_end().to_owned());
        on("server_signature").then(|| line.into_bytes())
    };
    Settings {
        server_header: line("server_header", "Server"),
        user_agent: line("user_agent_header", "User-Agent"),
        sip_warning: on("sip_warning"),
        check_via: on("check_via"),
        stateless_replies: !on("disable_stateless_fwd") || program.calls(CORE, "forward"),
        stderr: on("stderror_enabled") || debugs(globals),
        log_events: on("log_event_enabled"),
        slow_message_us: positive("exec_msg_threshold"),
        memory_percent: positive("event_shm_threshold"),
        private_memory_percent: positive("event_pkg_threshold"),
        log_prefix: global_text(globals, "log_prefix").unwrap_or_default().to_owned(),
        abort_on_assert: on("abort_on_assert"),
        recv_buffer_bytes: global_int(globals, "maxbuffer").and_then(|n| usize::try_from(n).ok()),
    }
}

fn log_outputs(globals: &Values) -> LogOutputs {
    let output = |name| {
        let level = global_int(globals, name).filter(|n| *n != 0);
        LogOutput::new(level.map(|n| n.clamp(-3, 4) as i8))
    };
    LogOutputs {
        stderr: output("stderror_level_filter"),
        syslog: output("syslog_level_filter"),
        event: output("log_event_level_filter"),
    }
}

fn stream_settings(program: &Program, globals: &Values, slots: &[Slot]) -> StreamSettings {
    let number = |name: &str| match globals.get(name).and_then(|v| v.last()) {
        Some(ParamValue::Int(n)) => u32::try_from(*n).ok(),
        _ => None,
    };
    let mask = |global: &str, names: &[String]| match globals.get(global).and_then(|v| v.last()) {
        Some(ParamValue::Str(name)) => {
            let bit = names.iter().position(|f| f == name);
            bit.and_then(|bit| 1u32.checked_shl(bit as u32)).unwrap_or(0)
        }
        _ => 0,
    };
    let options = slots.iter().filter_map(|s| s.state.as_ref()).find_map(|m| m.stream_options());
    StreamSettings {
        lifetime_s: number("tcp_connection_lifetime").unwrap_or(120),
        connect_timeout_ms: number("tcp_connect_timeout").unwrap_or(100),
        connections_max: number("tcp_max_connections").unwrap_or(2048) as usize,
        message_s: number("tcp_max_msg_time").unwrap_or(4).max(1),
        backlog: number("tcp_socket_backlog").unwrap_or(1024).max(1),
        accept_aliases: number("tcp_accept_aliases").unwrap_or(0) != 0,
        keepalive: number("tcp_keepalive").unwrap_or(1) != 0,
        keep_count: number("tcp_keepcount").filter(|n| *n > 0),
        keep_idle_s: number("tcp_keepidle").filter(|n| *n > 0),
        keep_interval_s: number("tcp_keepinterval").filter(|n| *n > 0),
        no_new_conn: mask("tcp_no_new_conn_bflag", &program.branch_flags),
        no_new_conn_reply: mask("tcp_no_new_conn_rplflag", &program.message_flags),
        proto: options.unwrap_or_default(),
    }
}

fn slots(modules: Modules, built: Vec<Option<Arc<dyn Module>>>) -> (Vec<Slot>, usize) {
    let mut stat_base = 0;
    let slots = modules.iter().zip(built).map(|(def, state)| {
        let slot = Slot { def, state, stat_base };
        stat_base += def.statistics.len();
        slot
    });
    let slots: Vec<Slot> = slots.collect();
    (slots, stat_base)
}

/// The events of the loaded modules; what the script has a route for is known as well.
fn events(program: &Program, slots: &[Slot]) -> Events {
    let loaded = || slots.iter().filter_map(|s| s.state.as_ref().map(|state| (s.def, state)));
    let published = loaded().flat_map(|(def, _)| def.events).map(|e| e.name.to_owned());
    let routes = program.routes_of(Routes::EVENT).map(|(_, r)| r.name.clone());
    let transports = loaded().flat_map(|(_, state)| state.event_transports());
    Events::new(published.chain(routes).collect(), transports.collect())
}

fn registry(slots: &[Slot]) -> Registry {
    let mut registry = Registry::default();
    for (n, slot) in slots.iter().enumerate().filter(|(_, s)| s.state.is_some()) {
        for def in slot.def.mi {
            registry.add(n as u16, def);
        }
    }
    registry
}

/// The place of a diagnostic for a log line: `file:line:column`.
pub fn place_text(program: &Program, place: Place) -> String {
    format!("{}:{}:{}", program.file_name(place), place.line, place.column)
}

/// The slots of the modules that know replies at first sight.
fn early(slots: &[Slot]) -> Vec<u16> {
    let knows = |slot: &Slot| slot.state.as_ref().is_some_and(|m| m.knows_replies());
    (0..).zip(slots).filter(|(_, slot)| knows(slot)).map(|(n, _)| n).collect()
}
