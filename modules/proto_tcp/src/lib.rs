//! `proto_tcp`: SIP over TCP.

use std::sync::Arc;

use tandem_engine::module::{Build, BuildError, Module, ModuleDef};

/// The table of `proto_tcp`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "proto_tcp",
    help: "SIP over TCP.",
    dependencies: &[],
    params: &[],
    functions: &[],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build,
};

struct ProtoTcp;

impl Module for ProtoTcp {}

fn build(_from: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    Ok(Arc::new(ProtoTcp))
}
