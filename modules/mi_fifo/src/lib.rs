//! `mi_fifo`: management commands through a named pipe.
//!
//! The transport is the binary's; this module says where the pipe is and who may write to it.

use std::sync::Arc;

use tandem_engine::endpoint::{
    Endpoint, FifoOptions, Owner, PRETTY_PRINTING, TRACE_BWLIST, TRACE_DESTINATION, permissions,
    pretty,
};
use tandem_engine::module::{Build, BuildError, Module, ModuleDef};
use tandem_engine::table::param;
use tandem_script::sig::ParamKind;

/// The table of `mi_fifo`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "mi_fifo",
    help: "Management commands through a named pipe.",
    dependencies: &[],
    params: &[
        param("fifo_name", ParamKind::Str, Some("/tmp/opensips_fifo"), "Path of the pipe."),
        param("fifo_mode", ParamKind::Int, Some("432"), "Permissions of the pipe (0660)."),
        param("fifo_group", ParamKind::IntOrStr, None, "Group of the pipe."),
        param("fifo_user", ParamKind::IntOrStr, None, "Owner of the pipe."),
        param("reply_dir", ParamKind::Str, Some("/tmp/"), "Folder of the pipes for answers."),
        TRACE_DESTINATION,
        TRACE_BWLIST,
        PRETTY_PRINTING,
    ],
    functions: &[],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build,
};

struct MiFifo(FifoOptions);

impl Module for MiFifo {
    fn endpoints(&self) -> Vec<Endpoint> {
        vec![Endpoint::Fifo(self.0.clone())]
    }
}

fn build(from: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    let mode = permissions(from, "fifo_mode")?;
    let path = from.text("fifo_name").unwrap_or_default();
    if path.is_empty() {
        return Err(BuildError::new("fifo_name", "the path of the pipe is empty"));
    }
    Ok(Arc::new(MiFifo(FifoOptions {
        path: path.into(),
        mode,
        user: Owner::of(from.all("fifo_user")),
        group: Owner::of(from.all("fifo_group")),
        reply_dir: from.text("reply_dir").unwrap_or("/tmp/").into(),
        pretty: pretty(from),
    })))
}
