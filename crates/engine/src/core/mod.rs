//! What a script has without loading anything: the pseudo module `core`, in slot 0.
//!
//! Its parameters are the globals of a script.

mod events;
mod flags;
mod globals;
mod mi;
mod status;
mod target;
mod variables;

use std::sync::Arc;

use crate::module::{EventDef, Module, ModuleDef};
use crate::table::counter;

/// The slot of `core`.
pub(crate) const SLOT: u16 = 0;

/// Places of the core's counters in its table.
pub(crate) mod stat {
    pub(crate) const RCV_REQUESTS: usize = 0;
    pub(crate) const RCV_REPLIES: usize = 1;
    pub(crate) const FWD_REPLIES: usize = 2;
    pub(crate) const ERR_REPLIES: usize = 3;
    pub(crate) const BAD_MSG_HDR: usize = 4;
}

/// The table of `core`.
pub static CORE: ModuleDef = ModuleDef {
    name: "core",
    help: "What a script has without loading anything.",
    dependencies: &[],
    params: &globals::ALL,
    functions: FUNCTIONS,
    variables: &variables::VARIABLES,
    mi: &mi::COMMANDS,
    statistics: &[
        counter("rcv_requests", "Requests received."),
        counter("rcv_replies", "Replies received."),
        counter("fwd_replies", "Replies forwarded without a transaction."),
        counter("err_replies", "Replies that are not ours or could not be forwarded."),
        counter("bad_msg_hdr", "Messages with a missing or malformed header."),
    ],
    events: &[EventDef {
        name: crate::reports::STATUS_CHANGED,
        params: &["group", "identifier", "status", "details", "old_status"],
        help: "The status of a part of the node has changed.",
    }],
    build: |_| Ok(Arc::new(Core)),
};

const FUNCTIONS: &[crate::module::FunctionDef] = &[
    flags::SETFLAG,
    flags::RESETFLAG,
    flags::ISFLAGSET,
    flags::SETBFLAG,
    flags::RESETBFLAG,
    flags::ISBFLAGSET,
    target::SETHOST,
    target::SETHOSTPORT,
    target::SETUSER,
    target::SETPORT,
    target::SETURI,
    target::PREFIX,
    target::STRIP,
    target::STRIP_TAIL,
    target::REVERT_URI,
    target::SETDSTURI,
    target::RESETDSTURI,
    target::ISDSTURISET,
    target::APPEND_MSG_BRANCH,
    target::FORCE_RPORT,
    target::FORCE_SEND_SOCKET,
    target::IS_MYSELF,
    events::RAISE_EVENT,
    events::SUBSCRIBE_EVENT,
    events::SR_CHECK_STATUS,
];

/// The core has no state of its own: it is the node.
struct Core;

impl Module for Core {}
