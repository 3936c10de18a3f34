//! Module parameters, which are all of the state.

use std::sync::Arc;

use tandem_engine::module::{Build, BuildError, Module};
use tandem_engine::table::param;
use tandem_script::sig::{ParamKind, ParamSig};

pub(crate) const PARAMS: &[ParamSig] = &[
    param("append_fromtag", ParamKind::Int, Some("1"), "Put ftag=, the From tag, in Record-Route."),
    param(
        "enable_double_rr",
        ParamKind::Int,
        Some("1"),
        "Two Record-Routes when a request leaves from another socket than it came to.",
    ),
    param("add_username", ParamKind::Int, Some("0"), "Put the R-URI's user in Record-Route."),
    param(
        "enable_socket_mismatch_warning",
        ParamKind::Int,
        Some("1"),
        "Log when a preset Record-Route leads to another host.",
    ),
];

/// The parameters.
#[derive(Debug)]
pub(crate) struct Rr {
    pub(crate) fromtag: bool,
    pub(crate) double: bool,
    pub(crate) username: bool,
    /// Preset hosts that are not ours are told.
    pub(crate) warns: bool,
}

impl Rr {
    pub(crate) fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
        let on = |name| build.int(name).is_some_and(|n| n != 0);
        Ok(Arc::new(Self {
            fromtag: on("append_fromtag"),
            double: on("enable_double_rr"),
            username: on("add_username"),
            warns: on("enable_socket_mismatch_warning"),
        }))
    }
}

impl Module for Rr {}
