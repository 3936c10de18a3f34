//! `domain`: which domains this service serves, by a table.
//!
//! With `db_mode` 1 the table is in memory, loaded at start and by `domain:reload`; with 0 each
//! question goes to the database and suspends the run.

mod mi;
mod params;
mod state;
mod table;

use tandem_engine::module::{Call, FunctionDef, ModuleDef};
use tandem_engine::table::{arg, function, optional};
use tandem_script::host::Called;
use tandem_script::sig::{ArgKind, ArgSig, Routes};
use tandem_sip::Uri;

use crate::state::Domain;

/// The table of `domain`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "domain",
    help: "Which domains are served here.",
    dependencies: &[],
    params: params::PARAMS,
    functions: FUNCTIONS,
    variables: &[],
    mi: mi::COMMANDS,
    statistics: &[],
    events: &[],
    build: Domain::build,
};

const ROUTES: Routes = Routes::REQUEST.or(Routes::FAILURE).or(Routes::BRANCH).or(Routes::LOCAL);
const ATTRS: &[ArgSig] = &[optional("attrs", ArgKind::Var)];
const DOMAIN: &[ArgSig] = &[arg("domain", ArgKind::Str), optional("attrs", ArgKind::Var)];

const FUNCTIONS: &[FunctionDef] = &[
    function("is_from_local", ATTRS, ROUTES, "Whether the domain of From is ours.", is_from_local),
    function(
        "is_uri_host_local",
        ATTRS,
        ROUTES,
        "Whether the domain of the R-URI (in a failure route: of the first branch) is ours.",
        is_uri_host_local,
    ),
    function("is_domain_local", DOMAIN, ROUTES, "Whether a domain is ours.", is_domain_local),
];

fn is_from_local(call: &mut Call<'_, '_, '_>) -> Called {
    let from = call.ctx.msg.from().ok().map(|from| from.uri);
    let host = from.and_then(|uri| Some(Uri::parse(uri).ok()?.host.to_vec()));
    state::ask(call, host.unwrap_or_default(), 0)
}

fn is_uri_host_local(call: &mut Call<'_, '_, '_>) -> Called {
    let branch = call.ctx.branches.first().and_then(|branch| branch.uri.as_deref());
    let branch = branch.filter(|_| call.ctx.block == Routes::FAILURE);
    let uri = branch.unwrap_or_else(|| call.ctx.request_uri());
    let host = Uri::parse(uri).map(|uri| uri.host.to_vec());
    state::ask(call, host.unwrap_or_default(), 0)
}

fn is_domain_local(call: &mut Call<'_, '_, '_>) -> Called {
    let host = call.text(0).to_vec();
    state::ask(call, host, 1)
}
