//! `freeswitch`: what FreeSWITCH servers bear, as they tell it.
//!
//! Each server is listened to over one connection to its event socket. Modules that deal calls out
//! say whom they watch ([`FreeSwitch::watch`]), are told when a load is new, and read it
//! ([`FreeSwitch::load`]). Every node listens for itself: nothing is replicated, and nobody needs a
//! duty. A server that is slow, silent, lying or gone costs a warning; its last load stays.
//!
//! # Files
//! `url.rs` where a server is; `frame.rs` what comes over an event socket, `load.rs` what a
//! HEARTBEAT says, `session.rs` the conversation, `server.rs` one server with its connections,
//! `state.rs` the module.

pub mod frame;
mod load;
mod server;
mod session;
mod state;
mod url;

use tandem_engine::module::ModuleDef;
use tandem_engine::table::{moot, param};
use tandem_script::sig::{ParamKind, ParamSig};

pub use crate::load::Load;
pub use crate::state::{FreeSwitch, Watcher};
pub use crate::url::FsUrl;

const fn int(name: &'static str, default: &'static str, help: &'static str) -> ParamSig {
    param(name, ParamKind::Int, Some(default), help)
}

/// The table of `freeswitch`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "freeswitch",
    help: "Listens to FreeSWITCH servers, so that dispatcher and load_balancer know their load.",
    dependencies: &[],
    params: &[
        int(
            "event_heartbeat_interval",
            "1",
            "Seconds between the HEARTBEATs of a server, as event-heartbeat-interval in its \
             switch.conf.xml says. When three are missing, and 10 s are over, it is asked whether \
             it is there.",
        ),
        int("esl_connect_timeout", "5000", "Milliseconds that a connection may take."),
        int("esl_cmd_timeout", "5000", "Milliseconds that an answer may take."),
        moot("esl_cmd_polling_itv", ParamKind::Int, "answers are not polled for"),
    ],
    functions: &[],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build: FreeSwitch::build,
};
