//! The globals of a script. Every one in this table is read by the code that its help names.

mod dns;
mod moot;
mod names;
mod script;
mod tcp;
mod watch;

use tandem_script::sig::{ParamKind, ParamSig};

use crate::table::{count, join};

const fn global(
    name: &'static str,
    kind: ParamKind,
    default: Option<&'static str>,
    old_names: &'static [&'static str],
    help: &'static str,
) -> ParamSig {
    ParamSig { name, kind, default, multiple: false, old_names, check: None, moot: None, help }
}

/// All of them.
pub(super) static ALL: [ParamSig; count(PARTS)] = join(PARTS);

const PARTS: &[&[ParamSig]] = &[
    GLOBALS,
    names::GLOBALS,
    dns::GLOBALS,
    script::GLOBALS,
    tcp::GLOBALS,
    watch::GLOBALS,
    moot::GLOBALS,
];

const GLOBALS: &[ParamSig] = &[
    global(
        "log_level",
        ParamKind::Int,
        Some("2"),
        &["debug"],
        "Lines up to this level are written: -3 alert to 4 debug.",
    ),
    global(
        "stderror_enabled",
        ParamKind::Int,
        Some("1"),
        &["log_stderror"],
        "Whether log lines go to standard error.",
    ),
    global(
        "udp_workers",
        ParamKind::Int,
        None,
        &["children"],
        "Worker threads; default: one a core.",
    ),
    global("server_header", ParamKind::Str, None, &[], "The Server header line of replies."),
    global(
        "server_signature",
        ParamKind::Int,
        Some("1"),
        &[],
        "Whether replies carry the Server header.",
    ),
    global("db_default_url", ParamKind::Str, None, &[], "Database of modules that are given none."),
    global(
        "state_dir",
        ParamKind::Str,
        None,
        &[],
        "Folder of the node's own state: who held which sharing tag.",
    ),
    global(
        "max_while_loops",
        ParamKind::Int,
        Some("10000"),
        &[],
        "Rounds after which a `while` is ended.",
    ),
    global(
        "mpath",
        ParamKind::Str,
        None,
        &[],
        "Folder of modules; they are built in, so that nothing is searched.",
    ),
    global(
        "syslog_enabled",
        ParamKind::Int,
        None,
        &[],
        "Whether log lines go to syslog; default: when they do not go to standard error.",
    ),
    global(
        "syslog_facility",
        ParamKind::Str,
        None,
        &["log_facility"],
        "Facility in syslog; default: LOG_DAEMON.",
    ),
    global("syslog_name", ParamKind::Str, None, &["log_name"], "Name in syslog."),
    global("wdir", ParamKind::Str, None, &["workdir"], "Working folder."),
    global("chroot", ParamKind::Str, None, &[], "Root folder."),
];
