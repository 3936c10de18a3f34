//! `load_balancer`: calls go to the destination with the most room for them.
//!
//! A destination has resources, each with a size: so many calls to the PSTN, so many with
//! transcoding. The load of a resource is the number of dialogs that are in a profile of its own
//! (`load.rs`), so it is never counted up and down, and is there after a failover.
//!
//! # Files
//! `table.rs` has the destinations, `load.rs` what they bear, `choose.rs` the choice, `session.rs`
//! what a call remembers of it; `functions.rs` and `lookup.rs` are what scripts call, `mi.rs` the
//! commands. `freeswitch.rs` has the sizes that servers tell. `targets.rs` is what happens to states (the rest of that is in the crate `targets`),
//! `state.rs` the module.

mod choose;
mod freeswitch;
mod functions;
mod load;
mod lookup;
mod mi;
mod params;
mod session;
mod state;
mod table;
mod targets;

use tandem_engine::module::{EventDef, FunctionDef, ModuleDef};
use tandem_engine::table::{arg, function, needs, optional};
use tandem_script::sig::{ArgKind, ArgSig, Dependency, Routes};

pub use crate::state::LoadBalancer;

/// The table of `load_balancer`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "load_balancer",
    help: "Calls go to the destination with the most room for them.",
    dependencies: &[
        needs("dialog"),
        Dependency { module: "tm", when_param: "probing_interval" },
        Dependency { module: "clusterer", when_param: "cluster_id" },
        Dependency { module: "freeswitch", when_param: "fetch_freeswitch_stats" },
    ],
    params: params::PARAMS,
    functions: FUNCTIONS,
    variables: &[],
    mi: mi::COMMANDS,
    statistics: &[],
    events: &[EventDef {
        name: targets::EVENT,
        params: &["group", "uri", "status"],
        help: "A destination was enabled or disabled.",
    }],
    build: LoadBalancer::build,
};

const ROUTES: Routes = Routes::REQUEST.or(Routes::FAILURE).or(Routes::BRANCH);
const ATTRS: ArgSig = optional("attrs", ArgKind::Var);
const RESOURCES: ArgSig =
    ArgSig { check: Some(session::check_resources), ..arg("resources", ArgKind::Str) };
const START: &[ArgSig] = &[
    arg("grp", ArgKind::Int),
    RESOURCES,
    ArgSig { check: Some(choose::Flags::check), ..optional("flags", ArgKind::Str) },
    ATTRS,
];

const FUNCTIONS: &[FunctionDef] = &[
    function(
        "lb_start",
        START,
        ROUTES,
        "Chooses the destination of a group with the most room for \"resource;resource\" into $du \
         and counts the call there. Flags: n also where there is no room, r by the share that is \
         free, s by chance among equals. -2: all are full; -3: none is enabled; -4: no such \
         resource.",
        functions::start,
    ),
    function(
        "lb_start_or_next",
        START,
        ROUTES,
        "lb_start() the first time for a call, then lb_next().",
        functions::start_or_next,
    ),
    function(
        "load_balance",
        START,
        ROUTES,
        "Older name of lb_start_or_next().",
        functions::start_or_next,
    ),
    function(
        "lb_next",
        &[ATTRS],
        ROUTES,
        "Chooses another destination for the call, as lb_start() was asked to. -2: all others are \
         full; -3: there is no other.",
        functions::next,
    ),
    function("lb_reset", &[], ROUTES, "The call is counted nowhere any more.", functions::reset),
    function(
        "lb_is_started",
        &[],
        ROUTES,
        "Whether a destination was chosen for the call.",
        functions::is_started,
    ),
    function(
        "lb_disable_dst",
        &[],
        ROUTES,
        "Disables the destination that was chosen last, until a probe finds it alive.",
        functions::disable,
    ),
    function(
        "lb_is_destination",
        &[
            arg("ip", ArgKind::Str),
            arg("port", ArgKind::Int),
            optional("group", ArgKind::Int),
            optional("active", ArgKind::Int),
            ATTRS,
        ],
        ROUTES.or(Routes::ONREPLY).or(Routes::LOCAL),
        "Whether a destination is at an address; port 0 is any, group -1 any; active 1: an \
         enabled one.",
        lookup::is_destination,
    ),
    function(
        "lb_count_call",
        &[
            arg("ip", ArgKind::Str),
            arg("port", ArgKind::Int),
            arg("grp", ArgKind::Int),
            RESOURCES,
            optional("undo", ArgKind::Int),
        ],
        ROUTES,
        "Counts the call as load of the destination at an address, e.g. of one that it came from; \
         undo 1: no longer.",
        lookup::count_call,
    ),
];
