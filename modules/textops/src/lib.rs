//! `textops`: Search and replace in messages by expression.

use std::sync::Arc;

use tandem_engine::module::{Build, BuildError, Module, ModuleDef};

/// The table of `textops`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "textops",
    help: "Search and replace in messages by expression.",
    dependencies: &[],
    params: &[],
    functions: &[],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build,
};

struct Textops;

impl Module for Textops {}

fn build(_from: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    Ok(Arc::new(Textops))
}
