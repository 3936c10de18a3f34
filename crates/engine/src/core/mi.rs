//! Commands that every node has.

use serde_json::{Map, Value as Json, json};
use tandem_clock::Now;

use crate::log::Level;
use crate::mi::{MiCall, MiDef, MiKind, MiOutcome, MiParam};
use crate::node::Node;
use crate::stats::StatKind;

const STATISTICS: &[MiParam] = &[MiParam { name: "statistics", kind: MiKind::Array }];
const COMMAND: &[MiParam] = &[MiParam { name: "command", kind: MiKind::Str }];
const MI_CMD: &[MiParam] = &[MiParam { name: "mi_cmd", kind: MiKind::Str }];
const LEVEL: &[MiParam] = &[MiParam { name: "level", kind: MiKind::Int }];

const fn command(
    name: &'static str,
    old_names: &'static [&'static str],
    param_sets: &'static [&'static [MiParam]],
    help: &'static str,
    run: fn(&mut MiCall<'_, '_>) -> MiOutcome,
) -> MiDef {
    MiDef { name, old_names, param_sets, help, run }
}

pub(super) const COMMANDS: &[MiDef] = &[
    command("statistics:get", &["get_statistics"], &[STATISTICS], "Values of statistics.", get),
    command(
        "statistics:list",
        &["list_statistics"],
        &[&[], STATISTICS],
        "Kinds of statistics.",
        list,
    ),
    command("statistics:reset", &["reset_statistics"], &[STATISTICS], "Sets counters to 0.", reset),
    command(
        "statistics:reset_all",
        &["reset_all_statistics"],
        &[&[]],
        "Sets all counters to 0.",
        reset_all,
    ),
    command("core:uptime", &["uptime"], &[&[]], "How long the node has been running.", uptime),
    command("core:version", &["version"], &[&[]], "The version of the node.", version),
    command("core:arg", &["arg"], &[&[]], "The command line.", arg),
    command("core:which", &["which"], &[&[], COMMAND], "The commands the node knows.", which),
    command("core:help", &["help"], &[&[], MI_CMD], "What a command does.", help),
    command("core:log_level", &["log_level"], &[&[], LEVEL], "Reads or sets log_level.", log_level),
    command(
        "tandem:status",
        &[],
        &[&[]],
        "Who is active, since when and why; what is in step.",
        super::status::status,
    ),
];

fn version(_: &mut MiCall<'_, '_>) -> MiOutcome {
    let platform = format!("{}/{}", std::env::consts::ARCH, std::env::consts::OS);
    MiOutcome::Done(json!({
        "Server": format!("Tandem ({} ({platform}))", env!("CARGO_PKG_VERSION"))
    }))
}

fn uptime(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let (now, started) = (call.cx.now, call.cx.node.started);
    let seconds = now.mono_ns.saturating_sub(started.mono_ns) / tandem_clock::SEC;
    MiOutcome::Done(json!({
        "Now": crate::date::ctime(now.unix_s()),
        "Up since": crate::date::ctime(started.unix_s()),
        "Up time": format!("{seconds} [sec]"),
    }))
}

fn arg(call: &mut MiCall<'_, '_>) -> MiOutcome {
    MiOutcome::Done(Json::from(call.cx.node.command_line.clone()))
}

fn which(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let names = call.cx.node.mi.names();
    match call.text("command") {
        None => MiOutcome::Done(names.map(Json::from).collect()),
        Some(command) => {
            let prefix = format!("{command}:");
            let group: Vec<Json> =
                names.filter(|n| n.starts_with(&prefix) || *n == command).map(Json::from).collect();
            if group.is_empty() {
                return MiOutcome::failed(404, "unknown MI command");
            }
            MiOutcome::Done(Json::from(group))
        }
    }
}

fn help(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let Some(name) = call.text("mi_cmd") else {
        return MiOutcome::Done(json!({"Help": "help COMMAND; `which` lists the commands"}));
    };
    match call.cx.node.mi.find(&name) {
        Ok(found) => {
            let exporter = call.cx.node.modules.get(usize::from(found.slot)).map(|s| s.def.name);
            MiOutcome::Done(json!({"Help": found.def.help, "Exported by": exporter}))
        }
        Err(_) => MiOutcome::failed(404, "unknown MI command"),
    }
}

fn log_level(call: &mut MiCall<'_, '_>) -> MiOutcome {
    if let Some(level) = call.int("level") {
        let level = Level::from_number(level.clamp(-3, 4) as i32);
        call.cx.node.set_log_level(level);
    }
    MiOutcome::Done(json!({"Log level": call.cx.node.log_level()}))
}

fn wanted(call: &MiCall<'_, '_>) -> Vec<String> {
    let names = call.array("statistics").unwrap_or_default();
    names.iter().filter_map(Json::as_str).map(String::from).collect()
}

fn get(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let mut result = Map::new();
    for name in wanted(call) {
        for (full, _, value) in call.cx.node.statistics(call.cx.now) {
            if selects(&name, &full) {
                result.insert(full, value.into());
            }
        }
    }
    MiOutcome::Done(Json::Object(result))
}

fn list(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let mut names = wanted(call);
    if names.is_empty() {
        names.push("all".into());
    }
    let mut result = Map::new();
    for (full, kind, _) in call.cx.node.statistics(call.cx.now) {
        if names.iter().any(|n| selects(n, &full)) {
            let text = match kind {
                StatKind::Counter => "incremental",
                StatKind::Function => "non-incremental",
            };
            result.insert(full, text.into());
        }
    }
    MiOutcome::Done(Json::Object(result))
}

/// `reset` takes names without a group only, as in the field.
fn reset(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let mut any = false;
    for name in wanted(call) {
        any |= call.cx.node.reset_statistic(&name);
    }
    if any { MiOutcome::ok() } else { MiOutcome::failed(404, "Statistics Not Found") }
}

fn reset_all(call: &mut MiCall<'_, '_>) -> MiOutcome {
    call.cx.node.reset_all_statistics();
    MiOutcome::ok()
}

/// `name`, `group:`, `group:name` or `all`.
fn selects(wanted: &str, full: &str) -> bool {
    let (group, name) = full.split_once(':').unwrap_or(("", full));
    wanted == "all"
        || wanted == full
        || wanted == name
        || wanted.strip_suffix(':').is_some_and(|g| g == group)
}

impl Node {
    /// Every statistic as `group:name`, its kind and its value.
    pub fn statistics(&self, now: Now) -> Vec<(String, StatKind, u64)> {
        let mut all = Vec::new();
        for (slot, def, module) in self.loaded() {
            for (index, stat) in def.statistics.iter().enumerate() {
                let value = match stat.kind {
                    StatKind::Counter => self.counter(slot, index),
                    StatKind::Function => module.statistic(self, now, index),
                };
                all.push((format!("{}:{}", def.name, stat.name), stat.kind, value));
            }
            for (name, value) in module.dynamic_statistics(self, now) {
                all.push((format!("{}:{name}", def.name), StatKind::Function, value));
            }
        }
        all
    }

    /// One statistic by `name` or `group:name`.
    pub fn statistic(&self, name: &str, now: Now) -> Option<u64> {
        let all = self.statistics(now);
        all.into_iter()
            .find(|(full, ..)| selects(name, full) && name != "all")
            .map(|(_, _, value)| value)
    }

    /// The value of a counter of a module.
    pub fn counter(&self, slot: u16, index: usize) -> u64 {
        self.stats.read(crate::stats::StatId(self.stat_base(slot) + index))
    }

    fn reset_statistic(&self, name: &str) -> bool {
        let mut found = false;
        for (slot, def, _) in self.loaded() {
            for (index, stat) in def.statistics.iter().enumerate().filter(|(_, s)| s.name == name) {
                found = true;
                if stat.kind == StatKind::Counter && stat.resettable {
                    self.stats.reset(crate::stats::StatId(self.stat_base(slot) + index));
                }
            }
        }
        found
    }

    fn reset_all_statistics(&self) {
        for (_, def, _) in self.loaded() {
            def.statistics.iter().for_each(|s| {
                self.reset_statistic(s.name);
            });
        }
    }
}
