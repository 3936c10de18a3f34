//! `sipmsgops`: questions about a message, and changes of its headers.

use std::sync::Arc;

use tandem_engine::module::{Call, FunctionDef, Module, ModuleDef};
use tandem_engine::table::{arg, function, optional};
use tandem_script::host::Called;
use tandem_script::program::Ready;
use tandem_script::sig::{ArgKind, ArgSig, Routes};
use tandem_sip::Uri;

const ALL: Routes =
    Routes::REQUEST.or(Routes::FAILURE).or(Routes::ONREPLY).or(Routes::BRANCH).or(Routes::LOCAL);
const REQUESTS: Routes = Routes::REQUEST.or(Routes::FAILURE).or(Routes::BRANCH).or(Routes::LOCAL);
const REPLIES: Routes = Routes::REQUEST.or(Routes::FAILURE).or(Routes::BRANCH).or(Routes::ERROR);

const TEXT: &[ArgSig] = &[arg("txt", ArgKind::Str)];
const HEADER: &[ArgSig] = &[arg("hname", ArgKind::Str)];
const LINE: &[ArgSig] = &[arg("txt", ArgKind::Str), optional("hdr_anchor", ArgKind::Str)];
const METHOD: &[ArgSig] = &[arg("name", ArgKind::Methods)];
const MIME: &[ArgSig] = &[optional("mime", ArgKind::Str)];
const URI_PARAM: &[ArgSig] = &[arg("param", ArgKind::Str), optional("value", ArgKind::Str)];

/// The table of `sipmsgops`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "sipmsgops",
    help: "Questions about a message, and changes of its headers.",
    dependencies: &[],
    params: &[],
    functions: FUNCTIONS,
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build: |_| Ok(Arc::new(SipMsgOps)),
};

const FUNCTIONS: &[FunctionDef] = &[
    function("is_method", METHOD, ALL, "Whether the method is one of `A|B`.", is_method),
    function("has_totag", &[], ALL, "Whether To has a tag.", has_totag),
    function("is_present_hf", HEADER, ALL, "Whether a header is there.", is_present_hf),
    function("append_hf", LINE, ALL, "Adds header lines behind a header, or all.", append_hf),
    function("insert_hf", LINE, ALL, "Adds header lines before a header, or all.", insert_hf),
    function("remove_hf", HEADER, ALL, "Removes all headers of a name.", remove_hf),
    function("append_to_reply", TEXT, REPLIES, "Adds header lines to our reply.", append_to_reply),
    function("has_body", MIME, ALL, "Whether there is a body, of a type if given.", has_body),
    function(
        "ruri_has_param",
        URI_PARAM,
        REQUESTS,
        "Whether the R-URI has a parameter.",
        ruri_has_param,
    ),
];

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

fn is_present_hf(call: &mut Call<'_, '_, '_>) -> Called {
    let name = call.text(0);
    said(call.ctx.msg.header_by_text(trim_colon(&name)).is_some())
}

fn append_hf(call: &mut Call<'_, '_, '_>) -> Called {
    let (lines, anchor) = (lines(&call.text(0)), call.text(1));
    let ctx = &mut *call.ctx;
    match ctx.msg.headers_by_text(trim_colon(&anchor)).last().filter(|_| !anchor.is_empty()) {
        Some(header) => ctx.edits.insert_after(header.span().end, lines),
        None if anchor.is_empty() => ctx.edits.append_header(&ctx.msg, lines),
        None => return NO,
    }
    YES
}

fn insert_hf(call: &mut Call<'_, '_, '_>) -> Called {
    let (lines, anchor) = (lines(&call.text(0)), call.text(1));
    let ctx = &mut *call.ctx;
    match ctx.msg.header_by_text(trim_colon(&anchor)).filter(|_| !anchor.is_empty()) {
        Some(header) => ctx.edits.insert_before(header.span().start, lines),
        None if anchor.is_empty() => ctx.edits.prepend_header(&ctx.msg, lines),
        None => return NO,
    }
    YES
}

fn remove_hf(call: &mut Call<'_, '_, '_>) -> Called {
    let name = call.text(0);
    let ctx = &mut *call.ctx;
    let mut removed = false;
    for header in ctx.msg.headers_by_text(trim_colon(&name)) {
        ctx.edits.remove(header.span());
        removed = true;
    }
    said(removed)
}

fn append_to_reply(call: &mut Call<'_, '_, '_>) -> Called {
    let lines = lines(&call.text(0));
    call.ctx.reply_headers.extend_from_slice(&lines);
    YES
}

fn has_body(call: &mut Call<'_, '_, '_>) -> Called {
    let wanted = call.text(0);
    let msg = &call.ctx.msg;
    if msg.body().is_empty() {
        return NO;
    }
    let media = |t: &[u8]| t.split(|b| *b == b';').next().unwrap_or_default().trim_ascii().to_vec();
    let present = msg.content_type().map(media);
    said(wanted.is_empty() || present.is_some_and(|p| p.eq_ignore_ascii_case(&wanted)))
}

fn ruri_has_param(call: &mut Call<'_, '_, '_>) -> Called {
    let (name, wanted, given) = (call.text(0), call.text(1), call.given(1));
    let Ok(uri) = Uri::parse(call.ctx.request_uri()) else { return NO };
    said(match uri.param(&name) {
        None => false,
        Some(_) if !given => true,
        Some(value) => value.unwrap_or_default().eq_ignore_ascii_case(&wanted),
    })
}

fn trim_colon(name: &[u8]) -> &[u8] {
    name.strip_suffix(b":").unwrap_or(name).trim_ascii()
}

/// Header lines with a proper line end at the end, so that a forgotten one cannot join two
/// headers.
fn lines(text: &[u8]) -> Vec<u8> {
    let mut out = text.trim_ascii_end().to_vec();
    if !out.is_empty() {
        out.extend_from_slice(b"\r\n");
    }
    out
}
