//! Script functions.

use tandem_engine::module::FunctionDef;
use tandem_engine::table::{function, optional};
use tandem_script::sig::{ArgKind, Routes};

use crate::{publish, subscribe};

/// The function table.
pub(crate) const FUNCTIONS: &[FunctionDef] = &[
    function(
        "handle_publish",
        &[optional("sender_uri", ArgKind::Str)],
        Routes::REQUEST,
        "Takes a PUBLISH, answers it and notifies the watchers; sender_uri, who publishes for a \
         shared line, is not notified.",
        publish::handle_publish,
    ),
    function(
        "handle_subscribe",
        &[optional("force_active", ArgKind::Int), optional("sharing_tag", ArgKind::SharingTag)],
        Routes::REQUEST,
        "Takes a SUBSCRIBE, answers it and notifies its sender. force_active 1: without asking \
         rules. sharing_tag: the node that holds it notifies, and ends the subscription.",
        subscribe::handle_subscribe,
    ),
];
