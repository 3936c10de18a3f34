//! `statistics`: Counters that scripts define, feed and read.

use std::sync::Arc;

use tandem_engine::module::{Build, BuildError, Module, ModuleDef};

/// The table of `statistics`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "statistics",
    help: "Counters that scripts define, feed and read.",
    dependencies: &[],
    params: &[],
    functions: &[],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build,
};

struct Statistics;

impl Module for Statistics {}

fn build(_from: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    Ok(Arc::new(Statistics))
}
