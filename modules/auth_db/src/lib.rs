//! `auth_db`: Digest credentials from a database table.

use std::sync::Arc;

use tandem_engine::module::{Build, BuildError, Module, ModuleDef};

/// The table of `auth_db`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "auth_db",
    help: "Digest credentials from a database table.",
    dependencies: &[],
    params: &[],
    functions: &[],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build,
};

struct AuthDb;

impl Module for AuthDb {}

fn build(_from: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    Ok(Arc::new(AuthDb))
}
