//! Requests that lack what every element must check before it acts on them.

use tandem_sip::Invalid;

use crate::context::Ctx;
use crate::core::stat;
use crate::module::Cx;
use crate::run;

/// Leaves a request to `error_route`, or answers it. A script that judges requests itself gets it
/// back, and sees it; it is not sent on whatever the script does.
pub(crate) fn refuse(cx: &mut Cx<'_>, mut ctx: Box<Ctx>, problem: &Invalid) -> Option<Box<Ctx>> {
    let place = match problem {
        Invalid::RequestUri(_) => stat::BAD_URIS,
        _ => stat::BAD_MSG_HDR,
    };
    cx.count(place, 1);
    cx.count(stat::ERR_REQUESTS, 1);
    ctx.error.code = problem.status();
    ctx.error.reason = problem.to_string();
    if cx.worker.script.judges && !matches!(problem, Invalid::Version) {
        ctx.is_unfit = true;
        return Some(ctx);
    }
    run::error_route(cx, ctx);
    None
}
