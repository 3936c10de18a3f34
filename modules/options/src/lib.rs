//! `options`: Answers OPTIONS requests.

use std::sync::Arc;

use tandem_engine::module::{Build, BuildError, Module, ModuleDef};

/// The table of `options`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "options",
    help: "Answers OPTIONS requests.",
    dependencies: &[],
    params: &[],
    functions: &[],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build,
};

struct Options;

impl Module for Options {}

fn build(_from: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    Ok(Arc::new(Options))
}
