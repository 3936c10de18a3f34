//! The process: what it is, since when, what it understands.

use serde_json::{Value as Json, json};

use crate::effect::Effect;
use crate::log::Level;
use crate::mi::{MiCall, MiDef, MiKind, MiOutcome, MiParam, RpcError};
use crate::node::Node;
use crate::sockets::Proto;
use crate::table::{command, mi_int, mi_text};

const COMMAND: &[MiParam] = &[MiParam { name: "command", kind: MiKind::Str }];
const MI_CMD: &[MiParam] = &[MiParam { name: "mi_cmd", kind: MiKind::Str }];
const LEVEL: &[MiParam] = &[mi_int("level")];
const LEVEL_PID: &[MiParam] = &[mi_int("level"), mi_int("pid")];
const CONSUMER: &[MiParam] = &[mi_text("consumer")];
const CONSUMER_LEVEL: &[MiParam] = &[mi_text("consumer"), mi_int("level_filter")];
const CONSUMER_MUTE: &[MiParam] = &[mi_text("consumer"), mi_int("mute_state")];
const REVISION: &[MiParam] = &[mi_text("revision")];

pub(super) const COMMANDS: &[MiDef] = &[
    command("core:uptime", &["uptime"], &[&[]], "How long the node has been running.", uptime),
    command(
        "core:version",
        &["version"],
        &[&[], REVISION],
        "The version of the node, and the revision it was built from.",
        version,
    ),
    command("core:pwd", &["pwd"], &[&[]], "The folder the server runs in.", pwd),
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
    command("core:ps", &["ps"], &[&[]], "The workers of the server.", ps),
    command("core:kill", &["kill"], &[&[]], "Ends the server in order.", kill),
    command(
        "core:log_level",
        &["log_level"],
        &[&[], LEVEL, LEVEL_PID],
        "Reads or sets log_level.",
        log_level,
    ),
    command(
        "core:xlog_level",
        &["xlog_level"],
        &[&[], LEVEL],
        "Reads or sets xlog_level.",
        xlog_level,
    ),
    command(
        "core:log_level_filter",
        &["log_level_filter"],
        &[CONSUMER, CONSUMER_LEVEL],
        "Reads or sets the level above which lines do not go to stderror, syslog or event; 0: all.",
        log_level_filter,
    ),
    command(
        "core:log_mute_state",
        &["log_mute_state"],
        &[CONSUMER, CONSUMER_MUTE],
        "Reads or sets whether nothing goes to stderror, syslog or event.",
        log_mute_state,
    ),
];

fn version(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let platform = format!("{}/{}", std::env::consts::ARCH, std::env::consts::OS);
    let server = format!("Tandem ({} ({platform}))", env!("CARGO_PKG_VERSION"));
    match call.text("revision") {
        None => MiOutcome::Done(json!({"Server": server})),
        // Whoever packages the server may say what it was built from.
        Some(_) => {
            let revision = option_env!("TANDEM_REVISION").unwrap_or("unknown");
            MiOutcome::Done(json!({"Server": server, "git": revision}))
        }
    }
}

fn pwd(call: &mut MiCall<'_, '_>) -> MiOutcome {
    MiOutcome::Done(json!({"WD": call.cx.node.folder()}))
}

/// The workers: one for everything but SIP, and those that take datagrams.
pub(in crate::core) fn workers(node: &Node) -> Vec<(usize, String)> {
    let socket = node.sockets.of(Proto::Udp).next().map(|(_, s)| s.text().to_owned());
    let receiver = format!("SIP receiver {}", socket.unwrap_or_default());
    let name = |id: usize| if id == 0 { "attendant".to_owned() } else { receiver.clone() };
    (0..node.load.workers()).map(|id| (id, name(id))).collect()
}

fn ps(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let node = call.cx.node;
    let rows = workers(node).into_iter();
    let rows = rows.map(|(id, kind)| json!({"ID": id, "PID": node.pid(), "Type": kind}));
    MiOutcome::Done(json!({"Processes": rows.collect::<Json>()}))
}

fn kill(call: &mut MiCall<'_, '_>) -> MiOutcome {
    call.cx.out.push(Effect::Stop { failed: false });
    MiOutcome::ok()
}

fn uptime(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let (now, started) = (call.cx.now, call.cx.node.started);
    let seconds = now.mono_ns.saturating_sub(started.mono_ns) / tandem_clock::SEC;
    MiOutcome::Done(json!({
        "Now": crate::date::ctime(call.cx.wall_s()),
        "Up since": crate::date::ctime(call.cx.node.zone.wall_s(started.unix_s())),
        "Up time": format!("{seconds} [sec]"),
    }))
}

fn arg(call: &mut MiCall<'_, '_>) -> MiOutcome {
    MiOutcome::Done(Json::from(call.cx.node.command_line.clone()))
}

fn which(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let commands = &call.cx.node.mi;
    let Some(wanted) = call.text("command") else {
        return MiOutcome::Done(commands.names().map(Json::from).collect());
    };
    // `usrloc:` names a whole group; anything else is a command by any of its names.
    let group = |n: &&str| wanted.ends_with(':') && n.starts_with(&wanted);
    let mut found: Vec<Json> = commands.names().filter(group).map(Json::from).collect();
    found.extend(commands.find(&wanted).ok().map(|one| Json::from(one.def.name)));
    if found.is_empty() {
        return MiOutcome::failed(404, "unknown MI command");
    }
    MiOutcome::Done(Json::from(found))
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
    let node = call.cx.node;
    let Some(level) = call.int("level") else {
        let row = |(_, kind): (usize, String)| json!({"PID": node.pid(), "Log level": node.log_level(), "Type": kind});
        let rows = workers(node).into_iter().map(row).collect::<Json>();
        return MiOutcome::Done(json!({"Processes": rows}));
    };
    let level = Level::from_number(level.clamp(-3, 4) as i32);
    match call.int("pid") {
        None => {
            node.set_log_level(level);
            MiOutcome::Done(json!({"New global log level": node.log_level()}))
        }
        // All workers are threads of one process, which has one level.
        Some(pid) if pid == i64::from(node.pid()) => {
            node.set_log_level(level);
            MiOutcome::Done(json!({"Log level": node.log_level()}))
        }
        Some(_) => MiOutcome::Failed(RpcError::invalid_params("Bad PID")),
    }
}

fn xlog_level(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let node = call.cx.node;
    let Some(level) = call.int("level") else {
        return MiOutcome::Done(json!({"xLog Level": node.xlog_level()}));
    };
    node.set_xlog_level(Level::from_number(level.clamp(-3, 4) as i32));
    MiOutcome::Done(json!({"New xLog level": node.xlog_level()}))
}

fn log_level_filter(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let name = call.text("consumer").unwrap_or_default();
    let Some(output) = call.cx.node.log_outputs.named(&name) else { return unknown_consumer() };
    if !call.has("level_filter") {
        return MiOutcome::Done(json!({"Log level filter": output.filter()}));
    }
    match call.int("level_filter").filter(|level| (-3..=4).contains(level)) {
        Some(level) => output.set_filter(level as i8),
        None => return MiOutcome::Failed(RpcError::invalid_params("Bad level")),
    }
    MiOutcome::ok()
}

fn log_mute_state(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let name = call.text("consumer").unwrap_or_default();
    let Some(output) = call.cx.node.log_outputs.named(&name) else { return unknown_consumer() };
    if !call.has("mute_state") {
        return MiOutcome::Done(json!({"mute state": i32::from(output.is_muted())}));
    }
    output.mute(call.int("mute_state").unwrap_or(0) != 0);
    MiOutcome::ok()
}

fn unknown_consumer() -> MiOutcome {
    MiOutcome::failed(404, "Unknown log consumer")
}
