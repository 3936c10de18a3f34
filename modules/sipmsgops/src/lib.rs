//! `sipmsgops`: questions about a message, and changes of its headers, body and URI.

mod body;
mod codecs;
mod expressions;
mod headers;
mod json;
mod lists;
mod reply;
mod sdp;
mod table;
mod uri;
mod validate;

use std::sync::Arc;

use tandem_engine::module::{Call, Module, ModuleDef};
use tandem_script::host::Called;
use tandem_script::program::Ready;

/// The table of `sipmsgops`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "sipmsgops",
    help: "Questions about a message, and changes of its headers, body and URI.",
    dependencies: &[],
    params: &[],
    functions: table::FUNCTIONS,
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build: |_| Ok(Arc::new(SipMsgOps)),
};

struct SipMsgOps;

impl Module for SipMsgOps {}

const YES: Called = Called::Returned(1);
const NO: Called = Called::Returned(-1);

fn said(yes: bool) -> Called {
    if yes { YES } else { NO }
}

fn is_method(call: &mut Call<'_, '_, '_>) -> Called {
    let method = call.ctx.msg.method_bytes();
    let same = |name: &str| name.as_bytes().eq_ignore_ascii_case(method);
    match call.ready(0) {
        Some(Ready::Methods(names)) => said(names.iter().any(|n| same(n))),
        _ => {
            let text = call.text(0);
            let text = String::from_utf8_lossy(&text);
            said(text.split('|').any(|n| same(n.trim())))
        }
    }
}

fn has_totag(call: &mut Call<'_, '_, '_>) -> Called {
    said(call.ctx.msg.to_tag().is_some())
}
