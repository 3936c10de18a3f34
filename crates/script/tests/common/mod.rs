//! A small catalogue, files in memory and a host that remembers what happened.
#![allow(dead_code, unreachable_pub)]

use std::collections::HashMap;

use tandem_script::host::{ArgValue, Assign, Called, Host, Index, VarAccess};
use tandem_script::known::Known;
use tandem_script::program::{Call, Place, Ready, RouteId};
use tandem_script::sig::*;
use tandem_script::source::{Loaded, Loader};
use tandem_script::value::Value;
use tandem_script::vm::{self, RunState, Running, Step};
use tandem_script::{Diag, Program, SourceMap};

#[derive(Default)]
pub struct Files(pub HashMap<String, String>);

impl Loader for Files {
    fn load(&mut self, path: &str, _from: Option<&str>) -> Result<Loaded, String> {
        let text = self.0.get(path).ok_or_else(|| "no such file".to_owned())?;
        Ok(Loaded { name: path.to_owned(), text: text.clone().into_bytes() })
    }
}

const fn arg(name: &'static str, kind: ArgKind, optional: bool) -> ArgSig {
    ArgSig { name, kind, optional, is_static: false, check: None }
}

const fn fixed(name: &'static str, kind: ArgKind) -> ArgSig {
    ArgSig { name, kind, optional: false, is_static: true, check: None }
}

const fn func(name: &'static str, args: &'static [ArgSig], routes: Routes) -> FunctionSig {
    FunctionSig { name, args, routes, async_use: AsyncUse::No, help: "" }
}

const fn both(name: &'static str, args: &'static [ArgSig]) -> FunctionSig {
    FunctionSig { name, args, routes: Routes::ANY, async_use: AsyncUse::Both, help: "" }
}

const fn var(name: &'static str, bits: (bool, bool, bool)) -> VariableSig {
    let (writable, takes_name, takes_index) = bits;
    VariableSig { name, writable, takes_name, takes_index, help: "" }
}

const fn param(name: &'static str, kind: ParamKind) -> ParamSig {
    ParamSig {
        name,
        kind,
        default: None,
        multiple: false,
        old_names: &[],
        check: None,
        moot: None,
        help: "",
    }
}

const fn many(name: &'static str, kind: ParamKind) -> ParamSig {
    ParamSig { multiple: true, ..param(name, kind) }
}

const fn flag(name: &'static str, takes_value: bool, old: &'static str) -> FlagSig {
    FlagSig { name, takes_value, old, help: "" }
}

const SAVE_FLAGS: &[FlagSig] =
    &[flag("no-reply", false, "r"), flag("max-contacts", true, "c"), flag("path-off", false, "")];
const NAT_FLAGS: &[FlagSig] = &[
    flag("private-contact", false, "1"),
    flag("diff-ip-src-via", false, "2"),
    flag("diff-port-src-via", false, "16"),
];

fn positive(text: &str) -> Result<(), String> {
    match text.parse::<i32>() {
        Ok(n) if n > 0 => Ok(()),
        _ => Err("must be at least 1".to_owned()),
    }
}

const REQ: Routes = Routes::REQUEST;

const CORE: ModuleSig = ModuleSig {
    name: "core",
    help: "",
    dependencies: &[],
    params: &[
        param("log_level", ParamKind::Int),
        param("stderror_enabled", ParamKind::Int),
        param("udp_workers", ParamKind::Int),
        param("max_while_loops", ParamKind::Int),
        param("enable_asserts", ParamKind::Int),
        param("xlog_level", ParamKind::Int),
        param("user_agent_header", ParamKind::Str),
        many("mpath", ParamKind::Str),
    ],
    functions: &[
        func("setflag", &[fixed("flag", ArgKind::MessageFlag)], Routes::ANY),
        func("isflagset", &[fixed("flag", ArgKind::MessageFlag)], Routes::ANY),
        func(
            "setbflag",
            &[fixed("flag", ArgKind::BranchFlag), arg("branch", ArgKind::Int, true)],
            Routes::ANY,
        ),
        func("sethost", &[arg("host", ArgKind::Str, false)], Routes::ANY),
        func("is_myself", &[arg("host", ArgKind::Str, false)], Routes::ANY),
        func("ret", &[arg("code", ArgKind::Int, false)], Routes::ANY),
        func("trace", &[arg("text", ArgKind::Str, false)], Routes::ANY),
        both("fetch", &[arg("out", ArgKind::Var, false), arg("text", ArgKind::Str, true)]),
        FunctionSig {
            async_use: AsyncUse::Only,
            ..both("wait", &[ArgSig { check: Some(positive), ..arg("s", ArgKind::Int, false) }])
        },
    ],
    variables: &[
        var("avp", (true, true, true)),
        var("hdr", (false, true, true)),
        var("ru", (true, false, false)),
        var("rU", (true, false, false)),
        var("rd", (true, false, false)),
        var("rm", (false, false, false)),
        var("fu", (false, false, false)),
        var("si", (false, false, false)),
        var("sp", (false, false, false)),
        var("err.info", (false, false, false)),
    ],
    events: &["E_CORE_THRESHOLD"],
};

const TM: ModuleSig = ModuleSig {
    name: "tm",
    help: "",
    dependencies: &[],
    params: &[ParamSig { check: Some(positive), ..param("fr_timeout", ParamKind::Int) }],
    functions: &[
        func("t_relay", &[], REQ.or(Routes::FAILURE)),
        func("t_on_failure", &[arg("route", ArgKind::Route(Routes::FAILURE), false)], Routes::ANY),
        func("t_was_cancelled", &[], Routes::FAILURE),
        func("t_check_status", &[arg("expr", ArgKind::Regex, false)], Routes::ANY),
        func(
            "t_reply",
            &[arg("code", ArgKind::Int, false), arg("reason", ArgKind::Str, false)],
            REQ.or(Routes::FAILURE),
        ),
        func("is_method", &[arg("name", ArgKind::Methods, false)], Routes::ANY),
    ],
    variables: &[var("T_branch_idx", (false, false, false))],
    events: &[],
};

const SL: ModuleSig = ModuleSig {
    name: "sl",
    functions: &[func(
        "send_reply",
        &[arg("code", ArgKind::Int, false), arg("reason", ArgKind::Str, false)],
        REQ,
    )],
    params: &[],
    variables: &[],
    ..TM
};

const REGISTRAR: ModuleSig = ModuleSig {
    name: "registrar",
    help: "",
    dependencies: &[Dependency { module: "usrloc", when_param: "" }],
    params: &[
        param("max_contacts", ParamKind::Int),
        param("received_avp", ParamKind::Var),
        param("tcp_persistent_flag", ParamKind::MessageFlag),
    ],
    functions: &[
        func(
            "save",
            &[
                fixed("domain", ArgKind::Str),
                arg("flags", ArgKind::Flags(SAVE_FLAGS), true),
                arg("aor", ArgKind::Str, true),
                arg("ownership_tag", ArgKind::SharingTag, true),
            ],
            REQ,
        ),
        func("lookup", &[fixed("domain", ArgKind::Str), arg("aor", ArgKind::Str, true)], REQ),
    ],
    variables: &[],
    events: &[],
};

const USRLOC: ModuleSig = ModuleSig {
    name: "usrloc",
    dependencies: &[Dependency { module: "clusterer", when_param: "location_cluster" }],
    params: &[
        param("location_cluster", ParamKind::Int),
        param("nat_bflag", ParamKind::BranchFlag),
        param("cluster_sharing_tag", ParamKind::Str),
    ],
    functions: &[],
    variables: &[],
    ..TM
};

const CLUSTERER: ModuleSig = ModuleSig {
    name: "clusterer",
    params: &[
        ParamSig { old_names: &["current_id"], ..param("my_node_id", ParamKind::Int) },
        many("sharing_tag", ParamKind::Str),
    ],
    functions: &[],
    variables: &[var("cluster.sh_tag", (true, true, false))],
    events: &["E_CLUSTERER_SHARING_TAG_CHANGED"],
    ..TM
};

const NATHELPER: ModuleSig = ModuleSig {
    name: "nathelper",
    params: &[param("received_avp", ParamKind::Var), param("sipping_bflag", ParamKind::BranchFlag)],
    functions: &[func(
        "nat_uac_test",
        &[arg("flags", ArgKind::Flags(NAT_FLAGS), false)],
        Routes::ANY,
    )],
    variables: &[],
    ..TM
};

pub const MODULES: &[ModuleSig] = &[CORE, TM, SL, REGISTRAR, USRLOC, CLUSTERER, NATHELPER];

pub fn compile_files(files: &[(&str, &str)]) -> (Option<Program>, Vec<Diag>, SourceMap) {
    let known = Known::builtin();
    let mut loader = Files::default();
    for (name, text) in files {
        loader.0.insert((*name).to_owned(), (*text).to_owned());
    }
    let catalogue = Catalogue { modules: MODULES, known: &known };
    let main = files.first().map_or("", |f| f.0);
    tandem_script::compile(&mut loader, main, &catalogue)
}

pub fn program(text: &str) -> Program {
    let (program, diags, map) = compile_files(&[("t.cfg", text)]);
    match program {
        Some(program) => program,
        None => panic!("{}", tandem_script::diag::render_all(&diags, &map)),
    }
}

/// Remembers calls and lines; suspends when told to.
#[derive(Default)]
pub struct World {
    pub trace: Vec<String>,
    /// AVPs, newest last.
    pub avps: HashMap<Vec<u8>, Vec<Value>>,
    pub values: HashMap<&'static str, Value>,
    /// One decision per call, used in turn; empty: never suspend.
    pub suspend: Vec<bool>,
    pub calls: usize,
    pub answer: i32,
}

fn core_var(var: &VarAccess<'_>) -> &'static str {
    MODULES[usize::from(var.module)].variables[usize::from(var.variable)].name
}

pub fn show(value: &Value) -> String {
    value.text().map_or("<null>".to_owned(), |t| String::from_utf8_lossy(&t).into_owned())
}

impl Host for World {
    fn get(&mut self, var: VarAccess<'_>) -> Value {
        if core_var(&var) != "avp" {
            return self.values.get(core_var(&var)).cloned().unwrap_or_default();
        }
        let Some(list) = self.avps.get(var.name) else { return Value::Null };
        match var.index {
            Index::None => list.last().cloned().unwrap_or_default(),
            Index::At(i) if i >= 0 => {
                list.iter().rev().nth(i as usize).cloned().unwrap_or_default()
            }
            Index::At(i) => usize::try_from(-(i64::from(i)) - 1)
                .ok()
                .and_then(|n| list.get(n))
                .cloned()
                .unwrap_or_default(),
            _ => Value::Null,
        }
    }

    fn set(&mut self, var: VarAccess<'_>, how: Assign, value: Value) -> Result<(), String> {
        if core_var(&var) != "avp" {
            self.values.insert(core_var(&var), value);
            return Ok(());
        }
        let list = self.avps.entry(var.name.to_vec()).or_default();
        if how == Assign::Replace {
            list.clear();
        }
        if value.is_null() {
            list.pop();
        } else {
            list.push(value);
        }
        Ok(())
    }

    fn call(
        &mut self,
        module: u16,
        function: u16,
        _call: &Call,
        args: &[ArgValue],
        running: &mut Running<'_>,
    ) -> Called {
        let name = MODULES[usize::from(module)].functions[usize::from(function)].name;
        let mut rc = 1;
        let mut shown = Vec::new();
        for arg in args {
            shown.push(match arg {
                ArgValue::None => "-".to_owned(),
                ArgValue::Value(v) => {
                    if name == "ret" {
                        rc = v.int().unwrap_or(-9);
                    }
                    show(v)
                }
                ArgValue::Var(var) => {
                    running.set(*var, Value::str("fetched"), self).expect("writable");
                    running.program.var_text(*var).to_owned()
                }
                ArgValue::Ready(Ready::Flags(f)) => format!("flags {:b} {:?}", f.bits, f.values),
                ArgValue::Ready(Ready::Regex(r)) => format!("regex {r}"),
                ArgValue::Ready(other) => format!("{other:?}"),
            });
        }
        self.trace.push(format!("{name}({})", shown.join(", ")));
        let suspend = !self.suspend.is_empty() && self.suspend[self.calls % self.suspend.len()];
        self.calls += 1;
        self.answer = rc;
        if suspend { Called::Suspended } else { Called::Returned(rc) }
    }

    fn log(&mut self, level: i32, text: &[u8], place: Place) {
        self.trace.push(format!("[{level}] {} @{}", String::from_utf8_lossy(text), place.line));
    }

    fn resolve(&mut self, name: &str) -> Option<std::net::IpAddr> {
        (name == "pbx.example.org").then(|| [10, 9, 9, 9].into())
    }

    fn begin_async(&mut self, _route: RouteId, timeout_s: Option<i32>) -> Result<bool, String> {
        self.trace.push(format!("async {timeout_s:?}"));
        Ok(true)
    }
}

/// Runs the request route to its end, resuming as often as needed.
pub fn run(program: &Program, world: &mut World) -> (i32, vm::End) {
    let route = program.route_named(Routes::REQUEST, "").expect("a route");
    let mut state = RunState::start(program, route, &[]);
    let mut step = vm::run(program, &mut state, world);
    loop {
        match step {
            Step::Done { code, how } => return (code, how),
            Step::Suspended => step = vm::resume(program, &mut state, world.answer, world),
        }
    }
}

/// Runs `body` in a request route and gives the lines of xlog and calls.
pub fn lines(body: &str) -> Vec<String> {
    let program = program(&format!("route {{\n{body}\n}}\n"));
    let mut world = World::default();
    run(&program, &mut world);
    world.trace.iter().map(|l| l.split(" @").next().unwrap_or_default().to_owned()).collect()
}
