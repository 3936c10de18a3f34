//! `tandem modules`: the export tables, as they are in the code.

use std::process::ExitCode;

use serde_json::{Value as Json, json};
use tandem_engine::module::ModuleDef;
use tandem_engine::stats::StatKind;
use tandem_script::sig::{ArgSig, Routes};

/// Prints the modules of this build.
pub fn print(json: bool) -> ExitCode {
    let modules = crate::modules();
    if json {
        let all: Vec<Json> = modules.iter().map(|m| module(m)).collect();
        println!("{:#}", Json::from(all));
    } else {
        for m in modules {
            println!("{:12} {}", m.name, m.help);
        }
    }
    ExitCode::SUCCESS
}

fn module(def: &ModuleDef) -> Json {
    json!({
        "name": def.name,
        "help": def.help,
        "dependencies": def.dependencies.iter().map(|d| d.module).collect::<Vec<_>>(),
        "params": def.params.iter().map(|p| json!({
            "name": p.name,
            "type": format!("{:?}", p.kind),
            "default": p.default,
            "old_names": p.old_names,
            "moot": p.moot,
            "help": p.help,
        })).collect::<Vec<_>>(),
        "functions": def.functions.iter().map(|f| json!({
            "name": f.sig.name,
            "args": f.sig.args.iter().map(arg).collect::<Vec<_>>(),
            "routes": routes(f.sig.routes),
            "help": f.sig.help,
        })).collect::<Vec<_>>(),
        "variables": def.variables.iter().map(|v| json!({
            "name": format!("${}", v.sig.name),
            "access": if v.sig.writable { "rw" } else { "r" },
            "takes_name": v.sig.takes_name,
            "takes_index": v.sig.takes_index,
            "help": v.sig.help,
        })).collect::<Vec<_>>(),
        "mi": def.mi.iter().map(|c| json!({
            "name": c.name,
            "old_names": c.old_names,
            "param_sets": c.param_sets.iter()
                .map(|s| s.iter().map(|p| p.name).collect::<Vec<_>>())
                .collect::<Vec<_>>(),
            "help": c.help,
        })).collect::<Vec<_>>(),
        "statistics": def.statistics.iter().map(|s| json!({
            "name": format!("{}:{}", def.name, s.name),
            "kind": if s.kind == StatKind::Counter { "counter" } else { "function" },
            "help": s.help,
        })).collect::<Vec<_>>(),
        "events": def.events.iter().map(|e| json!({
            "name": e.name,
            "params": e.params,
            "help": e.help,
        })).collect::<Vec<_>>(),
    })
}

fn arg(arg: &ArgSig) -> Json {
    let kind = format!("{:?}", arg.kind);
    let kind = kind.split(['(', ' ']).next().unwrap_or_default().to_owned();
    json!({"name": arg.name, "type": kind, "optional": arg.optional, "static": arg.is_static})
}

/// The names of the kinds of blocks in a set.
pub(crate) fn routes(routes: Routes) -> Vec<&'static str> {
    let all = [
        (Routes::REQUEST, "request"),
        (Routes::FAILURE, "failure"),
        (Routes::ONREPLY, "onreply"),
        (Routes::BRANCH, "branch"),
        (Routes::ERROR, "error"),
        (Routes::LOCAL, "local"),
        (Routes::STARTUP, "startup"),
        (Routes::TIMER, "timer"),
        (Routes::EVENT, "event"),
    ];
    all.iter().filter(|(r, _)| routes.allows(*r)).map(|(_, name)| *name).collect()
}
