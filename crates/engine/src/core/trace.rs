//! `script_trace()`: what a run does, in the log.

use tandem_script::host::Called;
use tandem_script::program::Ready;
use tandem_script::sig::{ArgKind, ArgSig, Routes};

use crate::log::Level;
use crate::module::FunctionDef;
use crate::table::{function, optional};

const TRACE: &[ArgSig] = &[
    optional("log_level", ArgKind::Int),
    optional("pv_format", ArgKind::Format),
    ArgSig { is_static: true, ..optional("info", ArgKind::Str) },
];

pub(super) const FUNCTIONS: &[FunctionDef] = &[function(
    "script_trace",
    TRACE,
    Routes::ANY,
    "From here on each statement of the run leaves a line in the log, with a text that is \
     expanded each time and a word to tell the traces apart; without arguments it stops.",
    |call| {
        if !(0..TRACE.len()).any(|at| call.given(at)) {
            call.running.stop_trace();
            return Called::Returned(1);
        }
        let format = match call.ready(1) {
            Some(Ready::Format(format)) => Some(*format),
            _ => None,
        };
        let level = call.int(0).unwrap_or(Level::Notice as i32);
        let info = call.text(2);
        call.running.start_trace(level, format, info);
        Called::Returned(1)
    },
)];
