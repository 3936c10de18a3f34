//! `domain`: The domains this server is responsible for.

use std::sync::Arc;

use tandem_engine::module::{Build, BuildError, Module, ModuleDef};

/// The table of `domain`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "domain",
    help: "The domains this server is responsible for.",
    dependencies: &[],
    params: &[],
    functions: &[],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build,
};

struct Domain;

impl Module for Domain {}

fn build(_from: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    Ok(Arc::new(Domain))
}
