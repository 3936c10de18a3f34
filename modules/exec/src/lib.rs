//! `exec`: commands of the shell. The run waits, and no worker does.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tandem_engine::context::Ctx;
use tandem_engine::effect::{Command, Ended};
use tandem_engine::log::Level;
use tandem_engine::module::{Build, BuildError, Call, Cx, FunctionDef, Module, ModuleDef};
use tandem_engine::table::{arg, optional, param};
use tandem_script::host::Called;
use tandem_script::program::VarId;
use tandem_script::sig::{ArgKind, ArgSig, AsyncUse, FunctionSig, ParamKind, Routes};
use tandem_script::value::Value;
use tandem_sip::Uri;

/// Commands that run at the same time.
const RUNNING_MAX: usize = 64;
/// Environment variables that a script adds.
const ENV_MAX: usize = 256;

/// The table of `exec`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "exec",
    help: "Commands of the shell.",
    dependencies: &[],
    params: &[
        param(
            "time_to_kill",
            ParamKind::Int,
            Some("0"),
            "Seconds after which a command is asked to end; 0: never.",
        ),
        param(
            "setvars",
            ParamKind::Int,
            Some("0"),
            "1: the message is in the environment: SIP_RURI, SIP_HF_FROM and the like.",
        ),
    ],
    functions: &[FunctionDef {
        sig: FunctionSig {
            name: "exec",
            args: EXEC,
            routes: ROUTES,
            async_use: AsyncUse::Both,
            help: "Runs a command of the shell; 1 when it ends with 0. Quote what comes from a \
                   message, or hand it over as input or in the environment.",
        },
        run: exec,
    }],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build,
};

const ROUTES: Routes = Routes(Routes::ANY.0 & !Routes::BRANCH.0 & !Routes::ERROR.0);
const EXEC: &[ArgSig] = &[
    arg("command", ArgKind::Str),
    optional("stdin", ArgKind::Str),
    optional("stdout", ArgKind::Var),
    optional("stderr", ArgKind::Var),
    optional("env_avp", ArgKind::Var),
];

struct Exec {
    ends_after_s: u32,
    setvars: bool,
    /// Where the outputs of each waiting run go.
    running: Mutex<BTreeMap<u64, [Option<VarId>; 2]>>,
}

fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    let ends_after_s = build.int("time_to_kill").and_then(|n| u32::try_from(n).ok());
    let why = || BuildError::new("time_to_kill", "0 or more seconds are wanted");
    Ok(Arc::new(Exec {
        ends_after_s: ends_after_s.ok_or_else(why)?,
        setvars: build.int("setvars").is_some_and(|n| n != 0),
        running: Mutex::default(),
    }))
}

fn exec(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<Exec>() else { return Called::Returned(-1) };
    let command = String::from_utf8_lossy(&call.text(0)).into_owned();
    if command.contains('\0') {
        return call.complain(Level::Error, "a command has no zero byte");
    }
    if state.running.lock().len() >= RUNNING_MAX {
        return call.complain(Level::Error, format!("{RUNNING_MAX} commands run already"));
    }
    let mut env = if state.setvars { of_message(call.ctx) } else { Vec::new() };
    for value in call.list(4).into_iter().take(ENV_MAX) {
        let text = value.into_bytes().unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let Some((name, value)) = text.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return call.complain(Level::Error, format!("`{text}` is not of the form NAME=value"));
        };
        env.push((name.to_owned(), value.to_owned()));
    }
    env.iter_mut().for_each(|(_, value)| value.retain(|c| c != '\0'));
    let ends_after_s = Some(state.ends_after_s).filter(|s| *s > 0);
    let outputs = [call.var(2), call.var(3)];
    let wants = outputs.map(|var| var.is_some());
    let program = Command { command, stdin: call.text(1), env, ends_after_s, wants };
    let run = call.suspend();
    state.running.lock().insert(run, outputs);
    call.cx.run_program(program, run);
    Called::Suspended
}

impl Module for Exec {
    fn program_ended(&self, cx: &mut Cx<'_>, run: u64, result: Result<Ended, String>) {
        let Some(vars) = self.running.lock().remove(&run) else { return };
        let ended = match result {
            Ok(ended) => ended,
            Err(why) => {
                cx.log(Level::Error, format!("exec: {why}"));
                return cx.resume(run, -1);
            }
        };
        for (var, text) in vars.into_iter().zip([ended.stdout, ended.stderr]) {
            let Some(var) = var else { continue };
            if let Err(why) = cx.assign_suspended(run, var, Value::Str(text)) {
                cx.log(Level::Error, format!("exec: {why}"));
                return cx.resume(run, -1);
            }
        }
        cx.resume(run, if ended.status == 0 { 1 } else { -1 });
    }
}

/// The message as variables of the environment.
fn of_message(ctx: &Ctx) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let user = |uri: &[u8]| {
        let user = Uri::parse(uri).ok().and_then(|uri| uri.user);
        text(user.unwrap_or_default())
    };
    let mut env = vec![
        ("SIP_SRCIP".to_owned(), ctx.source.addr.ip().to_canonical().to_string()),
        ("SIP_RURI".to_owned(), text(ctx.request_uri())),
        ("SIP_USER".to_owned(), user(ctx.request_uri())),
    ];
    if ctx.msg.is_request() {
        env.push(("SIP_METHOD".to_owned(), text(ctx.msg.method_bytes())));
        env.push(("SIP_ORURI".to_owned(), text(ctx.msg.request_uri())));
        env.push(("SIP_OUSER".to_owned(), user(ctx.msg.request_uri())));
    }
    let mut headers: BTreeMap<String, Vec<Bytes>> = BTreeMap::new();
    for header in ctx.msg.all_headers() {
        let name = match header.name().as_str() {
            "" => text(header.name_bytes()),
            name => name.to_owned(),
        };
        let letters = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
        let name: String = letters.collect::<String>().to_ascii_uppercase();
        let value = Bytes::copy_from_slice(&header.unfolded());
        headers.entry(name).or_default().push(value);
    }
    for (name, values) in headers.into_iter().take(ENV_MAX) {
        env.push((format!("SIP_HF_{name}"), text(&values.join(&b", "[..]))));
    }
    env
}
