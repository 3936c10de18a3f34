//! `drouting`: calls go where their number says.
//!
//! # Files
//! `prefix.rs` is the tree of digits, `rules.rs` the rules in it, `destinations.rs` gateways and
//! carriers, `table.rs` all of them for one partition. `load.rs` brings them from the database,
//! `partitions.rs` the list of partitions, `kept.rs` all of it from a file; `names.rs` looks names
//! of gateways up. `quality.rs` is the door for qrouting. `functions.rs` routes, `tries.rs` keeps
//! what a request has left to try, `known.rs` tells who is a gateway. `status.rs` has the states,
//! `targets.rs` what happens to them (the rest of that is in the crate `targets`), `state.rs` the
//! module. `mi.rs` has the commands, `explain.rs` the ones that say why.

mod destinations;
mod explain;
mod functions;
mod kept;
mod known;
mod load;
mod mi;
mod names;
mod params;
mod partitions;
mod prefix;
mod quality;
mod rules;
mod state;
mod status;
mod table;
mod targets;
mod texts;
mod tries;

use tandem_engine::module::{EventDef, FunctionDef, ModuleDef};
use tandem_engine::table::{arg, function, optional};
use tandem_script::sig::{ArgKind, ArgSig, Dependency, Routes};

pub use crate::quality::{Candidate, Quality, QualityRule, RuleName};
pub use crate::state::Drouting;

/// The table of `drouting`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "drouting",
    help: "Calls go where their number says: rules by prefix, gateways, carriers.",
    dependencies: &[
        Dependency { module: "tm", when_param: "probing_interval" },
        Dependency { module: "clusterer", when_param: "cluster_id" },
    ],
    params: params::PARAMS,
    functions: FUNCTIONS,
    variables: &[],
    mi: mi::COMMANDS,
    statistics: &[],
    events: &[EventDef {
        name: "E_DROUTING_STATUS",
        params: &["partition", "gwid", "address", "status", "reason"],
        help: "A gateway went into or out of service.",
    }],
    build: Drouting::build,
};

const fn flags(check: fn(&str) -> Result<(), String>) -> ArgSig {
    ArgSig { check: Some(check), ..optional("flags", ArgKind::Str) }
}

const ROUTE_FLAGS: ArgSig = flags(functions::check_flags);
const KNOWN_FLAGS: ArgSig = flags(known::check_flags);
const TYPE: ArgSig = optional("type", ArgKind::Int);
const RULE_ATTRS: ArgSig = optional("rule_attrs", ArgKind::Var);
const GW_ATTRS: ArgSig = optional("gw_attrs", ArgKind::Var);
const CARRIER_ATTRS: ArgSig = optional("carrier_attrs", ArgKind::Var);
const PARTITION: ArgSig = optional("partition", ArgKind::Str);
const FROM_ROUTES: Routes =
    Routes::REQUEST.or(Routes::FAILURE).or(Routes::ONREPLY).or(Routes::BRANCH);

const DO_ROUTING: &[ArgSig] = &[
    optional("groupID", ArgKind::Int),
    ROUTE_FLAGS,
    optional("gw_whitelist", ArgKind::Str),
    RULE_ATTRS,
    GW_ATTRS,
    CARRIER_ATTRS,
    PARTITION,
];

const FUNCTIONS: &[FunctionDef] = &[
    function(
        "do_routing",
        DO_ROUTING,
        Routes::ANY,
        "Routes by the number in the R-URI. Flags: F use_next_gw() goes on with further rules, L \
         the prefix is the whole number, C only looks. -1: no rule; -2: no destination is up.",
        functions::do_routing,
    ),
    function(
        "route_to_carrier",
        &[arg("carriers", ArgKind::Str), GW_ATTRS, CARRIER_ATTRS, PARTITION],
        Routes::ANY,
        "Routes to carriers by their ids.",
        functions::route_to_carrier,
    ),
    function(
        "route_to_gw",
        &[arg("gw_ids", ArgKind::Str), GW_ATTRS, CARRIER_ATTRS, PARTITION],
        Routes::ANY,
        "Routes to gateways by their ids.",
        functions::route_to_gw,
    ),
    function(
        "use_next_gw",
        &[RULE_ATTRS, GW_ATTRS, CARRIER_ATTRS, PARTITION],
        functions::NEXT_ROUTES,
        "Takes the next destination that is left.",
        functions::use_next_gw,
    ),
    function(
        "is_from_gw",
        &[TYPE, KNOWN_FLAGS, GW_ATTRS, CARRIER_ATTRS, PARTITION],
        FROM_ROUTES,
        "Whether the sender is a gateway. Flags: s strips, p prefixes, i and c fill the id AVPs, \
         n any port, r same protocol.",
        known::is_from_gw,
    ),
    function(
        "goes_to_gw",
        &[TYPE, KNOWN_FLAGS, GW_ATTRS, CARRIER_ATTRS, PARTITION],
        FROM_ROUTES.or(Routes::LOCAL),
        "Whether the request goes to a gateway.",
        known::goes_to_gw,
    ),
    function(
        "dr_is_gw",
        &[arg("uri", ArgKind::Str), TYPE, KNOWN_FLAGS, GW_ATTRS, CARRIER_ATTRS, PARTITION],
        Routes::ANY,
        "Whether the host of a URI is a gateway.",
        known::dr_is_gw,
    ),
    function(
        "dr_disable",
        &[PARTITION],
        FROM_ROUTES.or(Routes::LOCAL),
        "Takes the gateway that was used last out of service, until a probe finds it alive.",
        functions::dr_disable,
    ),
    function(
        "dr_match",
        &[
            arg("groupID", ArgKind::Int),
            ROUTE_FLAGS,
            arg("number", ArgKind::Str),
            RULE_ATTRS,
            PARTITION,
        ],
        FROM_ROUTES.or(Routes::LOCAL),
        "Whether a rule fits a number.",
        functions::dr_match,
    ),
];
