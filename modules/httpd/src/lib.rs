//! `httpd`: The HTTP listener that other modules hang their pages on.

use std::sync::Arc;

use tandem_engine::module::{Build, BuildError, Module, ModuleDef};

/// The table of `httpd`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "httpd",
    help: "The HTTP listener that other modules hang their pages on.",
    dependencies: &[],
    params: &[],
    functions: &[],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build,
};

struct Httpd;

impl Module for Httpd {}

fn build(_from: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    Ok(Arc::new(Httpd))
}
