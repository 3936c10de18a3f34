//! `event_datagram`: Events to outside programs as UDP and unix datagrams.

use std::sync::Arc;

use tandem_engine::module::{Build, BuildError, Module, ModuleDef};

/// The table of `event_datagram`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "event_datagram",
    help: "Events to outside programs as UDP and unix datagrams.",
    dependencies: &[],
    params: &[],
    functions: &[],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build,
};

struct EventDatagram;

impl Module for EventDatagram {}

fn build(_from: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    Ok(Arc::new(EventDatagram))
}
