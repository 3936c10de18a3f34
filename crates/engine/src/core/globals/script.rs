//! What decides how a script runs, and which of its lines are written.

use tandem_script::sig::{ParamKind, ParamSig};

use super::global;

use ParamKind::{Int, Str};

const FORMAT: &str = "How log lines are written: plain_text, json or json_cee.";

pub(super) const GLOBALS: &[ParamSig] = &[
    global("enable_asserts", Int, Some("0"), &[], "Whether assert() is evaluated."),
    global("abort_on_assert", Int, Some("0"), &[], "Whether a failed assert() ends the node."),
    global("xlog_level", Int, Some("2"), &[], "Lines of xlog() up to this level are written."),
    global("xlog_print_level", Int, Some("2"), &[], "Level of an xlog() that names none."),
    global("debug_mode", Int, Some("0"), &[], "log_level 4, lines on standard error, one worker."),
    global("log_prefix", Str, None, &[], "Text before every log line."),
    global("stderror_log_format", Str, Some("plain_text"), &[], FORMAT),
    global("syslog_log_format", Str, Some("plain_text"), &[], FORMAT),
    global(
        "syslog_level_filter",
        Int,
        Some("0"),
        &[],
        "Lines above this level do not go to syslog; 0: all go.",
    ),
    global("open_files_limit", Int, None, &[], "Files that the process may have open."),
    global("disable_core_dump", Int, Some("0"), &[], "Whether no core file is written."),
    global(
        "stderror_level_filter",
        Int,
        Some("0"),
        &[],
        "Lines above this level do not go to standard error; 0: all go.",
    ),
];
