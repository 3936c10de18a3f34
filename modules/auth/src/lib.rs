//! `auth`: Digest authentication of requests (RFC 3261 22, RFC 8760).

use std::sync::Arc;

use tandem_engine::module::{Build, BuildError, Module, ModuleDef};

/// The table of `auth`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "auth",
    help: "Digest authentication of requests (RFC 3261 22, RFC 8760).",
    dependencies: &[],
    params: &[],
    functions: &[],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build,
};

struct Auth;

impl Module for Auth {}

fn build(_from: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    Ok(Arc::new(Auth))
}
