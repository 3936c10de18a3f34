//! What a block `route[x]` may call where other kinds of blocks have led to it.

use tandem_script::sig::Routes;
use tandem_script::vm;

/// Why a function is not called; `None` if it is. What is for requests does not judge its kind of
/// block by itself, so it is kept from replies and from what is being sent; a request that failed,
/// and the one that stands for none, are requests.
pub(super) fn refusal(function: &str, routes: Routes, block: Routes) -> Option<String> {
    let sending = Routes::BRANCH.or(Routes::ONREPLY).or(Routes::LOCAL);
    if routes.allows(block) || (!sending.allows(block) && routes.allows(Routes::REQUEST)) {
        return None;
    }
    Some(format!("{function}() cannot be used in {}", vm::kind_name(block)))
}
