//! The process: what it is, since when, what it understands.

use serde_json::{Value as Json, json};

use super::command;
use crate::log::Level;
use crate::mi::{MiCall, MiDef, MiKind, MiOutcome, MiParam};

const COMMAND: &[MiParam] = &[MiParam { name: "command", kind: MiKind::Str }];
const MI_CMD: &[MiParam] = &[MiParam { name: "mi_cmd", kind: MiKind::Str }];
const LEVEL: &[MiParam] = &[MiParam { name: "level", kind: MiKind::Int }];

pub(super) const COMMANDS: &[MiDef] = &[
    command("core:uptime", &["uptime"], &[&[]], "How long the node has been running.", uptime),
    command("core:version", &["version"], &[&[]], "The version of the node.", version),
    command("core:arg", &["arg"], &[&[]], "The command line.", arg),
    command("core:which", &["which"], &[&[], COMMAND], "The commands the node knows.", which),
    command(
        "core:reload_routes",
        &["reload_routes"],
        &[&[]],
        "Reads the script again and takes its routes.",
        crate::script::reload_routes,
    ),
    command("core:help", &["help"], &[&[], MI_CMD], "What a command does.", help),
    command("core:log_level", &["log_level"], &[&[], LEVEL], "Reads or sets log_level.", log_level),
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
