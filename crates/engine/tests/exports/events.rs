//! Events of the core.

use tandem_engine::effect::Input;
use tandem_engine::testing::Check;

use super::{node, tcp};

pub(super) const CHECKS: &[Check] = &[
    ("event E_CORE_TCP_DISCONNECT", tcp::ended),
    ("event E_CORE_SR_STATUS_CHANGED", || {
        let line = "xlog(\"L_NOTICE\", \"$param(group) $param(status) $param(old_status)\");";
        let route = format!("exit; }}\nevent_route[E_CORE_SR_STATUS_CHANGED] {{ {line}");
        let mut node = node("", &route);
        assert_eq!(node.logs().pop().unwrap().1, "core 1 -1", "the node is running");
        node.step(Input::Shutdown);
        assert_eq!(node.logs().pop().unwrap().1, "core -2 1", "the node ends");
    }),
];
