//! `cfgutils`: Small tools of scripts: random events, shared variables, locks, time records.

use std::sync::Arc;

use tandem_engine::module::{Build, BuildError, Module, ModuleDef};

/// The table of `cfgutils`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "cfgutils",
    help: "Small tools of scripts: random events, shared variables, locks, time records.",
    dependencies: &[],
    params: &[],
    functions: &[],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build,
};

struct Cfgutils;

impl Module for Cfgutils {}

fn build(_from: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    Ok(Arc::new(Cfgutils))
}
