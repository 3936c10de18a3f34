//! `event_route`: Nothing: event routes are part of the core; loading it is harmless.

use std::sync::Arc;

use tandem_engine::module::{Build, BuildError, Module, ModuleDef};

/// The table of `event_route`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "event_route",
    help: "Nothing: event routes are part of the core; loading it is harmless.",
    dependencies: &[],
    params: &[],
    functions: &[],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build,
};

struct EventRoute;

impl Module for EventRoute {}

fn build(_from: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    Ok(Arc::new(EventRoute))
}
