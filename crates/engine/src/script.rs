//! The script that runs now, and how another version of it takes its place.
//!
//! Only routes can change. A run keeps the version that it started with; what is started later
//! finds its route in the new one, because a route keeps its number as long as its name exists
//! (`Program::keep_numbers`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use tandem_script::program::{Program, RouteId};
use tandem_script::sig::Routes;

use crate::effect::Effect;
use crate::log::Level;
use crate::mi::{MiCall, MiOutcome, RpcError};
use crate::module::Cx;

/// One version of the script.
///
/// Each worker has a copy of its own, so that counting its users touches no memory that other
/// workers touch.
#[derive(Clone, Debug)]
pub struct Script {
    pub program: Arc<Program>,
    pub(crate) event_routes: Arc<BTreeMap<String, RouteId>>,
    /// `route`, `onreply_route`, `error_route` and `startup_route`.
    pub(crate) main: Option<RouteId>,
    pub(crate) onreply: Option<RouteId>,
    pub(crate) error: Option<RouteId>,
    pub(crate) startup: Option<RouteId>,
    /// It judges requests itself, also those that lack what every request has.
    pub(crate) judges: bool,
    /// Counts the versions.
    pub(crate) version: u64,
}

/// The function with which a script judges requests.
const JUDGE: &str = "sipmsg_validate";

impl Script {
    pub(crate) fn new(program: Arc<Program>, version: u64) -> Arc<Self> {
        let named = program.routes_of(Routes::EVENT).map(|(id, r)| (r.name.clone(), id));
        let event_routes = Arc::new(named.collect());
        let unnamed = |kind| program.route_named(kind, "");
        let (main, onreply) = (unnamed(Routes::REQUEST), unnamed(Routes::ONREPLY));
        let (error, startup) = (unnamed(Routes::ERROR), unnamed(Routes::STARTUP));
        let judges = program.modules.iter().any(|m| program.calls(m.module, JUDGE));
        Arc::new(Self { program, event_routes, main, onreply, error, startup, judges, version })
    }
}

/// The place of the present version. Workers keep a copy and look here only when the number
/// tells them to.
#[derive(Debug)]
pub(crate) struct Present {
    script: RwLock<Arc<Script>>,
    version: AtomicU64,
}

impl Present {
    pub(crate) fn new(program: Arc<Program>) -> Self {
        Self { script: RwLock::new(Script::new(program, 0)), version: AtomicU64::new(0) }
    }

    pub(crate) fn get(&self) -> Arc<Script> {
        Arc::clone(&self.script.read())
    }

    /// Renews a worker's copy if it is not the present one.
    pub(crate) fn renew(&self, copy: &mut Arc<Script>) {
        if self.version.load(Ordering::Acquire) != copy.version {
            *copy = Arc::new(Script::clone(&self.get()));
        }
    }

    fn put(&self, program: Program) -> Arc<Script> {
        let mut place = self.script.write();
        *place = Script::new(Arc::new(program), place.version + 1);
        self.version.store(place.version, Ordering::Release);
        Arc::clone(&place)
    }
}

/// `core:reload_routes`: the binary reads the files again and answers with
/// [`crate::effect::Input::ScriptLoaded`].
pub(crate) fn reload_routes(call: &mut MiCall<'_, '_>) -> MiOutcome {
    call.cx.out.push(Effect::LoadScript { request: call.request });
    MiOutcome::Later
}

/// A new version was read: takes it, unless more than routes differ.
pub(crate) fn loaded(cx: &mut Cx<'_>, request: u64, result: Result<Box<Program>, String>) {
    let answer = result.and_then(|program| take(cx, *program));
    match answer {
        Ok(()) => {
            cx.log(Level::Notice, "the routes of the script were read again and are in use");
            cx.mi_reply(request, Ok("OK".into()));
        }
        Err(why) => {
            for line in why.lines() {
                cx.log(Level::Error, format!("reload_routes: {line}"));
            }
            let error = RpcError { code: 500, message: "reload failed".into(), data: Some(why) };
            cx.mi_reply(request, Err(error));
        }
    }
}

fn take(cx: &mut Cx<'_>, mut program: Program) -> Result<(), String> {
    let present = cx.node.script.get();
    let differences = present.program.config_differences(&program);
    if !differences.is_empty() {
        let mut why = "only routes can be read again; restart to change".to_owned();
        for line in differences {
            why += &format!("\n{line}");
        }
        return Err(why);
    }
    program.keep_numbers(&present.program);
    cx.worker.script = Arc::new(Script::clone(&cx.node.script.put(program)));
    crate::run::start_timer_routes(cx);
    Ok(())
}
