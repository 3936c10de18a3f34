//! Replies that a module knows at first sight: those to its own pings, which come by the thousand
//! and mean nothing to anybody else.

use std::sync::Arc;

use crate::core::stat;
use crate::module::Cx;

/// Whether a module has taken a datagram before it is read. Where the script has an onreply_route
/// of all replies, or Vias are to be checked, every reply is read first.
pub(crate) fn is_taken(cx: &mut Cx<'_>, payload: &[u8]) -> bool {
    if cx.node.early.is_empty()
        || !payload.starts_with(b"SIP/2.0 ")
        || cx.node.settings.check_via
        || cx.worker.script.onreply.is_some()
    {
        return false;
    }
    let node = Arc::clone(cx.node);
    let is_taken = node.early.iter().any(|slot| {
        let module = node.modules.get(usize::from(*slot)).and_then(|s| s.state.as_ref());
        module.is_some_and(|module| cx.for_slot(*slot, |cx| module.takes_reply(cx, payload)))
    });
    if is_taken {
        cx.count(stat::RCV_REPLIES, 1);
    }
    is_taken
}
