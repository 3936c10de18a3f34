//! `mi_fifo`: management commands through a named pipe.
//!
//! The transport is the binary's; this module says where the pipe is and who may write to it.

use std::sync::Arc;

use tandem_engine::endpoint::{Endpoint, FifoOptions, Owner};
use tandem_engine::module::{Build, BuildError, Module, ModuleDef, ParamValue};
use tandem_engine::table::{moot, param};
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
        moot("trace_destination", ParamKind::Str, "there is no tracing of commands"),
        moot("trace_bwlist", ParamKind::Str, "there is no tracing of commands"),
        param("pretty_printing", ParamKind::Int, Some("0"), "Indents answers."),
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
    let mode = from
        .int("fifo_mode")
        .and_then(|m| u32::try_from(m).ok())
        .filter(|m| *m <= 0o777)
        .ok_or_else(|| BuildError::new("fifo_mode", "permissions go from 0 to 0777"))?;
    let path = from.text("fifo_name").unwrap_or_default();
    if path.is_empty() {
        return Err(BuildError::new("fifo_name", "the path of the pipe is empty"));
    }
    Ok(Arc::new(MiFifo(FifoOptions {
        path: path.into(),
        mode,
        user: owner(from.all("fifo_user")),
        group: owner(from.all("fifo_group")),
        reply_dir: from.text("reply_dir").unwrap_or("/tmp/").into(),
        pretty: from.int("pretty_printing").unwrap_or(0) != 0,
    })))
}

fn owner(values: &[ParamValue]) -> Option<Owner> {
    values.last().map(|v| match v {
        ParamValue::Int(id) => Owner::Id(id.unsigned_abs()),
        ParamValue::Str(name) => Owner::Name(name.clone()),
    })
}
