//! `mi_datagram`: Management commands over UDP and unix datagrams.

use std::sync::Arc;

use tandem_engine::module::{Build, BuildError, Module, ModuleDef};

/// The table of `mi_datagram`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "mi_datagram",
    help: "Management commands over UDP and unix datagrams.",
    dependencies: &[],
    params: &[],
    functions: &[],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build,
};

struct MiDatagram;

impl Module for MiDatagram {}

fn build(_from: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    Ok(Arc::new(MiDatagram))
}
