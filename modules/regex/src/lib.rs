//! `regex`: Perl-compatible expressions, and groups of them in a file.

mod groups;
mod pcre;

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tandem_engine::effect::Effect;
use tandem_engine::log::Level;
use tandem_engine::mi::{MiCall, MiDef, MiOutcome, RpcError};
use tandem_engine::module::{Build, BuildError, Call, Cx, Module, ModuleDef};
use tandem_engine::table::{arg, function, mi_int, mi_text, optional, param};
use tandem_script::host::Called;
use tandem_script::sig::{ArgKind, ArgSig, ParamKind, Routes};

use crate::groups::Limits;
pub use crate::pcre::{Flags, Pcre};

/// Expressions that scripts compute and that are kept compiled.
const KEPT_MAX: usize = 256;
/// Commands that wait for the file.
const RELOADS_MAX: usize = 100;
/// The token of the file at start; commands count up from the next.
const START: u64 = 0;

const YES: Called = Called::Returned(1);
const NO: Called = Called::Returned(-1);

/// The table of `regex`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "regex",
    help: "Perl-compatible expressions, and groups of them in a file.",
    dependencies: &[],
    params: &[
        param(
            "file",
            ParamKind::Str,
            None,
            "File of groups; a relative name is beside the script.",
        ),
        param("max_groups", ParamKind::Int, Some("20"), "Groups in the file at most."),
        param("group_max_size", ParamKind::Int, Some("8192"), "Bytes of a group at most."),
        param("pcre_caseless", ParamKind::Int, Some("0"), "1: case is ignored, everywhere."),
        param("pcre_multiline", ParamKind::Int, Some("0"), "1: ^ and $ match at line ends."),
        param("pcre_dotall", ParamKind::Int, Some("0"), "1: a dot matches line ends, too."),
        param("pcre_extended", ParamKind::Int, Some("0"), "1: blanks in expressions are nothing."),
    ],
    functions: &[
        function("pcre_match", MATCH, ROUTES, "Whether a text has a match.", pcre_match),
        function(
            "pcre_match_group",
            GROUP,
            ROUTES,
            "Whether a text matches a group of the file; without a number, group 0.",
            pcre_match_group,
        ),
    ],
    variables: &[],
    mi: &[
        MiDef {
            name: "regex:reload",
            old_names: &["regex_reload"],
            param_sets: &[&[]],
            help: "Reads the file of groups again.",
            run: reload,
        },
        MiDef {
            name: "regex:match",
            old_names: &["regex_match"],
            param_sets: &[&[mi_text("string"), mi_text("pcre_regex")]],
            help: "Whether a text has a match.",
            run: mi_match,
        },
        MiDef {
            name: "regex:match_group",
            old_names: &["regex_match_group"],
            param_sets: &[&[mi_text("string"), mi_int("group")]],
            help: "Whether a text matches a group of the file.",
            run: mi_match_group,
        },
    ],
    statistics: &[],
    events: &[],
    build,
};

const ROUTES: Routes = Routes(Routes::ANY.0 & !Routes::ERROR.0);
const MATCH: &[ArgSig] = &[
    arg("string", ArgKind::Str),
    ArgSig { check: Some(check_expression), ..arg("regex", ArgKind::Str) },
];
const GROUP: &[ArgSig] = &[arg("string", ArgKind::Str), optional("group", ArgKind::Int)];

/// Expressions by their text, in the order in which they were first used.
type Kept = Vec<(Bytes, Arc<Pcre>)>;

struct Regex {
    file: Option<String>,
    flags: Flags,
    limits: Limits,
    groups: RwLock<Arc<Vec<Option<Pcre>>>>,
    kept: Mutex<Kept>,
    /// Tokens and commands.
    reloads: Mutex<(u64, Vec<(u64, u64)>)>,
}

fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    let on = |name: &str| build.int(name).is_some_and(|n| n != 0);
    let size = |name: &'static str| {
        let size = build.int(name).and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
        size.ok_or_else(|| BuildError::new(name, "1 or more is wanted"))
    };
    let flags = Flags {
        caseless: on("pcre_caseless"),
        multiline: on("pcre_multiline"),
        dotall: on("pcre_dotall"),
        extended: on("pcre_extended"),
    };
    Ok(Arc::new(Regex {
        file: build.text("file").filter(|file| !file.is_empty()).map(str::to_owned),
        flags,
        limits: Limits { groups: size("max_groups")?, group_bytes: size("group_max_size")? },
        groups: RwLock::default(),
        kept: Mutex::default(),
        reloads: Mutex::new((START, Vec::new())),
    }))
}

impl Regex {
    fn group(&self, number: usize, text: &[u8]) -> Option<Result<bool, String>> {
        let groups = Arc::clone(&self.groups.read());
        Some(groups.get(number)?.as_ref()?.is_match(text))
    }

    /// A computed expression, compiled once as long as few others come.
    fn compiled(&self, text: &Bytes) -> Result<Arc<Pcre>, String> {
        if let Some((_, known)) = self.kept.lock().iter().find(|(known, _)| known == text) {
            return Ok(Arc::clone(known));
        }
        let made = Arc::new(Pcre::compile(&String::from_utf8_lossy(text), self.flags)?);
        let mut kept = self.kept.lock();
        if kept.len() >= KEPT_MAX {
            kept.remove(0);
        }
        kept.push((text.clone(), Arc::clone(&made)));
        Ok(made)
    }
}

impl Module for Regex {
    fn start(&self, cx: &mut Cx<'_>) {
        if let Some(file) = &self.file {
            cx.begin_startup();
            cx.read_beside_script(file, START);
        }
    }

    fn file_read(&self, cx: &mut Cx<'_>, token: u64, result: Result<Option<Bytes>, String>) {
        let file = self.file.as_deref().unwrap_or_default();
        let read = result.and_then(|text| text.ok_or_else(|| "there is no such file".into()));
        let read = read.and_then(|text| {
            groups::parse(&String::from_utf8_lossy(&text), self.flags, self.limits)
        });
        let result = read.map(|groups| *self.groups.write() = Arc::new(groups));
        let result = result.map_err(|why| format!("regex: {file}: {why}"));
        if token == START {
            return match result {
                Ok(()) => cx.end_startup(),
                Err(text) => cx.out.push(Effect::Fatal { text }),
            };
        }
        let mut reloads = self.reloads.lock();
        let at = reloads.1.iter().position(|(asked, _)| *asked == token);
        let Some((_, request)) = at.map(|at| reloads.1.swap_remove(at)) else { return };
        drop(reloads);
        let answer = result.map(|()| "OK".into()).map_err(|why| {
            cx.log(Level::Error, why);
            RpcError { code: 500, message: "Internal error".into(), data: None }
        });
        cx.mi_reply(request, answer);
    }
}

fn pcre_match(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<Regex>() else { return NO };
    let (text, expression) = (call.text(0), call.text(1));
    let found = state.compiled(&expression).and_then(|regex| regex.is_match(&text));
    told(call, found)
}

fn pcre_match_group(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<Regex>() else { return NO };
    let number = call.int(1).unwrap_or(0);
    let text = call.text(0);
    match usize::try_from(number).ok().and_then(|number| state.group(number, &text)) {
        Some(found) => told(call, found),
        None => call.complain(Level::Error, format!("there is no group {number} of expressions")),
    }
}

fn told(call: &mut Call<'_, '_, '_>, found: Result<bool, String>) -> Called {
    match found {
        Ok(true) => YES,
        Ok(false) => NO,
        Err(why) => call.complain(Level::Error, why),
    }
}

fn reload(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let state = call.cx.node.module::<Regex>(call.cx.slot);
    let Some((state, file)) = state.and_then(|s| Some((Arc::clone(&s), s.file.clone()?))) else {
        return MiOutcome::failed(403, "Group matching not enabled");
    };
    let token = {
        let mut reloads = state.reloads.lock();
        if reloads.1.len() >= RELOADS_MAX {
            return MiOutcome::failed(500, "Internal error");
        }
        reloads.0 += 1;
        let token = reloads.0;
        reloads.1.push((token, call.request));
        token
    };
    call.cx.read_beside_script(&file, token);
    MiOutcome::Later
}

fn mi_match(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let text = call.text("string").unwrap_or_default();
    let expression = call.text("pcre_regex").unwrap_or_default();
    let state = call.cx.node.module::<Regex>(call.cx.slot);
    match Pcre::compile(&expression, state.map_or_else(Flags::default, |state| state.flags)) {
        Ok(regex) => verdict(Some(regex.is_match(text.as_bytes()))),
        Err(_) => MiOutcome::failed(500, "Error pcre_re compilation"),
    }
}

fn mi_match_group(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let state = call.cx.node.module::<Regex>(call.cx.slot).filter(|state| state.file.is_some());
    let Some(state) = state else {
        return MiOutcome::failed(500, "Error group matching is disabled");
    };
    let text = call.text("string").unwrap_or_default();
    let group = call.int("group").and_then(|group| usize::try_from(group).ok());
    verdict(group.and_then(|group| state.group(group, text.as_bytes())))
}

fn verdict(found: Option<Result<bool, String>>) -> MiOutcome {
    match found {
        Some(Ok(true)) => MiOutcome::Done("Match".into()),
        Some(Ok(false)) => MiOutcome::Done("Not Match".into()),
        Some(Err(_)) => MiOutcome::failed(500, "Error"),
        None => MiOutcome::failed(500, "Error invalid pcre index"),
    }
}

fn check_expression(text: &str) -> Result<(), String> {
    Pcre::compile(text, Flags::default()).map(|_| ())
}
