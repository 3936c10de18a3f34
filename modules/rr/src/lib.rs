//! The `rr` module: Record-Route and Route (RFC 3261 16.4, 16.6, 16.12; RFC 5658).
//!
//! `record_route()` asks for a header that is written when the request leaves, because only then
//! its socket is known; `loose_route()` takes the node's own Routes off a request of a dialog
//! and says where it goes next, strict routers included.
//!
//! # What is not here
//! Matching of dialogs.
//!
//! # Files
//! `route.rs` is `loose_route`; `record.rs` the functions that write; `params.rs` parameters and
//! state.

mod params;
mod record;
mod route;

use bytes::Bytes;
use tandem_engine::context::Ctx;
use tandem_engine::module::ModuleDef;
use tandem_engine::node::Node;
use tandem_engine::table::variable;
use tandem_script::value::Value;

/// The parameters of our Route that `loose_route()` took off a message, from the first `;` on.
pub fn taken_params(node: &Node, ctx: &Ctx) -> Option<Bytes> {
    let (slot, _) = node.find::<params::Rr>()?;
    ctx.section::<route::Taken>(slot)?.params.clone()
}

/// The table of the module.
pub static MODULE: ModuleDef = ModuleDef {
    name: "rr",
    help: "Record-Route and Route: requests of a dialog take the same way.",
    dependencies: &[],
    params: params::PARAMS,
    functions: &[
        route::LOOSE_ROUTE,
        route::CHECK_ROUTE_PARAM,
        route::IS_DIRECTION,
        record::RECORD_ROUTE,
        record::RECORD_ROUTE_PRESET,
        record::ADD_RR_PARAM,
    ],
    variables: &[variable("rr_params", "URI parameters of our Route that was taken off.", |c| {
        let section = c.ctx.section::<route::Taken>(c.cx.slot);
        section.and_then(|s| s.params.clone()).map_or(Value::Null, Value::Str)
    })],
    mi: &[],
    statistics: &[],
    events: &[],
    build: params::Rr::build,
};
