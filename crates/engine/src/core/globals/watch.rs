//! What is told of the node while it runs.

use tandem_script::sig::{ParamKind, ParamSig};

use super::global;

use ParamKind::Int;

pub(super) const GLOBALS: &[ParamSig] = &[
    global(
        "exec_msg_threshold",
        Int,
        Some("0"),
        &["execmsgthreshold"],
        "Microseconds; messages that take longer are counted, logged, and raise E_CORE_THRESHOLD.",
    ),
    global(
        "event_shm_threshold",
        Int,
        Some("0"),
        &[],
        "Percent of the memory (-m) above which E_CORE_SHM_THRESHOLD is raised; 0: never.",
    ),
    global(
        "event_pkg_threshold",
        Int,
        Some("0"),
        &[],
        "Percent of the memory (-m) above which E_CORE_PKG_THRESHOLD is raised; 0: never. The \
         threads of a node share one memory.",
    ),
    global("log_event_enabled", Int, Some("0"), &[], "1: log lines raise E_CORE_LOG."),
    global(
        "log_event_level_filter",
        Int,
        Some("0"),
        &[],
        "Lines above this level raise no E_CORE_LOG; 0: all do.",
    ),
];
