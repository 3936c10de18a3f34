//! `mi_http`: Management commands over HTTP.

use std::sync::Arc;

use tandem_engine::module::{Build, BuildError, Module, ModuleDef};

/// The table of `mi_http`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "mi_http",
    help: "Management commands over HTTP.",
    dependencies: &[],
    params: &[],
    functions: &[],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build,
};

struct MiHttp;

impl Module for MiHttp {}

fn build(_from: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    Ok(Arc::new(MiHttp))
}
