//! `dispatcher`: requests are dealt out to the destinations of a set.
//!
//! # Files
//! `sets.rs` is a table in memory, `select.rs` the algorithms, `functions.rs` what scripts call,
//! `freeswitch.rs` the weights that
//! servers tell, `targets.rs` what happens to the states of destinations (the rest of that is in the crate
//! `targets`), `state.rs` the module. `mi.rs` has the commands.

mod freeswitch;
mod functions;
mod mi;
mod params;
mod select;
mod sets;
mod state;
mod targets;

use tandem_engine::module::{EventDef, FunctionDef, ModuleDef};
use tandem_engine::table::{arg, function, optional};
use tandem_script::sig::{ArgKind, ArgSig, Dependency, Routes};

use crate::functions::Into;
pub use crate::state::Dispatcher;

/// The table of `dispatcher`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "dispatcher",
    help: "Requests are dealt out to the destinations of a set.",
    dependencies: &[
        Dependency { module: "tm", when_param: "ds_ping_interval" },
        Dependency { module: "clusterer", when_param: "cluster_id" },
        Dependency { module: "freeswitch", when_param: "fetch_freeswitch_stats" },
    ],
    params: params::PARAMS,
    functions: FUNCTIONS,
    variables: &[],
    mi: mi::COMMANDS,
    statistics: &[],
    events: &[EventDef {
        name: "E_DISPATCHER_STATUS",
        params: &["partition", "group", "address", "status"],
        help: "A destination became active or ceased to be.",
    }],
    build: Dispatcher::build,
};

const PARTITION: ArgSig = optional("partition", ArgKind::Str);
const SELECT: &[ArgSig] = &[
    arg("set", ArgKind::Int),
    arg("alg", ArgKind::Int),
    ArgSig { check: Some(functions::check_flags), ..optional("flags", ArgKind::Str) },
    PARTITION,
    optional("max_res", ArgKind::Int),
];
const REQUESTS: Routes = Routes::REQUEST.or(Routes::FAILURE);
const SENDING: Routes = REQUESTS.or(Routes::BRANCH).or(Routes::LOCAL);

const FUNCTIONS: &[FunctionDef] = &[
    function(
        "ds_select_dst",
        SELECT,
        SENDING,
        "Chooses a destination of a set into $du. Flags: f keeps the others to be tried, u hashes \
         the user part only, d the last one is for the end, a adds to what was kept.",
        |call| functions::select(call, Into::Hop),
    ),
    function(
        "ds_select_domain",
        SELECT,
        SENDING,
        "The same into the domain of the R-URI.",
        |call| functions::select(call, Into::Domain),
    ),
    function(
        "ds_next_dst",
        &[PARTITION],
        REQUESTS,
        "Takes the next destination into $du.",
        |call| functions::next(call, Into::Hop),
    ),
    function(
        "ds_next_domain",
        &[PARTITION],
        REQUESTS,
        "Takes the next destination into the domain of the R-URI.",
        |call| functions::next(call, Into::Domain),
    ),
    function(
        "ds_mark_dst",
        &[optional("state", ArgKind::Str), PARTITION],
        REQUESTS,
        "Makes the destination in use inactive (i), active (a) or, after ds_probing_threshold \
         calls, probing (p).",
        functions::mark,
    ),
    function(
        "ds_is_in_list",
        &[
            arg("ip", ArgKind::Str),
            arg("port", ArgKind::Int),
            optional("set", ArgKind::Int),
            PARTITION,
            optional("active_only", ArgKind::Int),
            optional("pattern", ArgKind::Str),
        ],
        SENDING.or(Routes::ONREPLY),
        "Whether a destination is at an address; the pattern is one for its attributes.",
        functions::is_in_list,
    ),
    function(
        "ds_count",
        &[
            arg("set", ArgKind::Int),
            arg("filter", ArgKind::Str),
            arg("result", ArgKind::Var),
            PARTITION,
        ],
        SENDING.or(Routes::TIMER).or(Routes::EVENT),
        "Counts the destinations of a set in the states a, i and p.",
        functions::count_of,
    ),
    function(
        "ds_push_script_attrs",
        &[
            arg("attrs", ArgKind::Str),
            arg("ip", ArgKind::Str),
            arg("port", ArgKind::Int),
            optional("set", ArgKind::Int),
            PARTITION,
        ],
        Routes::ANY,
        "Sets the attributes of the script of what is at an address.",
        functions::push,
    ),
    function(
        "ds_get_script_attrs",
        &[arg("uri", ArgKind::Str), arg("set", ArgKind::Int), PARTITION, arg("out", ArgKind::Var)],
        Routes::ANY,
        "Reads the attributes of the script of a destination.",
        functions::get,
    ),
];
