//! `uac_redirect`: calls follow where a 3xx leads.
//!
//! `get_redirects()` makes branches of the Contacts of the 3xx that the failure route looks at,
//! the most wanted first, as far as the filters let them.

mod filter;

use std::sync::Arc;

use bytes::Bytes;
use tandem_engine::context::{BRANCHES_MAX, Branch};
use tandem_engine::log::Level;
use tandem_engine::module::{Build, BuildError, Call, FunctionDef, Module, ModuleDef};
use tandem_engine::table::{arg, function, needs, optional, param};
use tandem_script::host::Called;
use tandem_script::program::Ready;
use tandem_script::sig::{ArgKind, ArgSig, ParamKind, ParamSig, Routes};
use tandem_script::vm::compile_posix;
use tandem_sip::{HeaderName, NameAddr, Uri};

use crate::filter::{Filters, Kind, Own};

const YES: Called = Called::Returned(1);
const NO: Called = Called::Returned(-1);

const fn expression(name: &'static str, help: &'static str) -> ParamSig {
    ParamSig { check: Some(check_expression), ..param(name, ParamKind::Str, None, help) }
}

/// The table of `uac_redirect`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "uac_redirect",
    help: "Calls follow where a 3xx leads.",
    dependencies: &[needs("tm")],
    params: &[
        expression("deny_filter", "Contacts that match are left out."),
        expression("accept_filter", "Contacts that match are taken, whatever denies them."),
        ParamSig {
            check: Some(check_default),
            ..param(
                "default_filter",
                ParamKind::Str,
                Some("accept"),
                "accept or deny: what becomes of Contacts that match no filter.",
            )
        },
    ],
    functions: FUNCTIONS,
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build,
};

const FILTER: &[ArgSig] = &[
    arg("re", ArgKind::Regex),
    ArgSig { check: Some(filter::check_flags), ..arg("flags", ArgKind::Str) },
];
const REDIRECTS: &[ArgSig] =
    &[optional("max_total", ArgKind::Int), optional("max_branch", ArgKind::Int)];

const FUNCTIONS: &[FunctionDef] = &[
    function(
        "set_deny_filter",
        FILTER,
        Routes::FAILURE,
        "Adds a filter for this call. Flags: reset_added, reset_default, reset_all drop others \
         first; empty drops none.",
        |call| add(call, Kind::Deny),
    ),
    function(
        "set_accept_filter",
        FILTER,
        Routes::FAILURE,
        "The same for Contacts that are taken.",
        |call| add(call, Kind::Accept),
    ),
    function(
        "get_redirects",
        REDIRECTS,
        Routes::FAILURE,
        "Makes branches of the Contacts of the 3xx, so many at most.",
        get_redirects,
    ),
];

fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    let compiled = |name: &'static str| {
        let text = build.text(name).filter(|text| !text.is_empty());
        let compiled = text.map(|text| compile_posix(text.as_bytes(), true, false)).transpose();
        compiled.map(|re| re.map(Arc::new)).map_err(|why| BuildError::new(name, why))
    };
    Ok(Arc::new(Filters {
        deny: compiled("deny_filter")?,
        accept: compiled("accept_filter")?,
        default_accepts: build.text("default_filter") != Some("deny"),
    }))
}

impl Module for Filters {}

fn add(call: &mut Call<'_, '_, '_>, kind: Kind) -> Called {
    let regex = match call.ready(0) {
        Some(Ready::Regex(regex)) => Arc::clone(regex),
        _ => match compile_posix(&call.text(0), true, false) {
            Ok(regex) => Arc::new(regex),
            Err(why) => return call.complain(Level::Error, why),
        },
    };
    let flags = String::from_utf8_lossy(&call.text(1)).into_owned();
    let slot = call.cx.slot;
    match call.ctx.section_mut::<Own>(slot).add(kind, regex, &flags) {
        Ok(()) => YES,
        Err(why) => call.complain(Level::Error, why),
    }
}

fn get_redirects(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<Filters>() else { return NO };
    let Some(reply) = call.ctx.reply.clone().filter(|r| r.status() / 100 == 3) else {
        return NO;
    };
    let most = |at: usize| {
        let given = call.int(at).and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
        given.unwrap_or(BRANCHES_MAX)
    };
    let most = most(0).min(most(1));
    let slot = call.cx.slot;
    let mut found: Vec<(u16, Bytes)> = Vec::new();
    for value in reply.values(HeaderName::Contact) {
        let Ok(addr) = NameAddr::parse(value.bytes) else { continue };
        let is_sip = Uri::parse(addr.uri).is_ok_and(|uri| uri.is_sip() || uri.is_sips());
        let own = call.ctx.section_mut::<Own>(slot);
        if is_sip && state.takes(own, addr.uri) {
            found.push((q_of(&addr), Bytes::copy_from_slice(addr.uri)));
        }
    }
    // The most wanted first; equal ones as they stand.
    found.sort_by_key(|(q, _)| std::cmp::Reverse(*q));
    let room = BRANCHES_MAX.saturating_sub(call.ctx.branches.len());
    let new = found.into_iter().take(most.min(room));
    let new: Vec<Branch> =
        new.map(|(q, uri)| Branch { uri: Some(uri), q: Some(q), ..Branch::default() }).collect();
    if new.is_empty() {
        return NO;
    }
    call.ctx.branches.extend(new);
    YES
}

/// q in thousandths; without one the Contact is wanted most.
fn q_of(addr: &NameAddr<'_>) -> u16 {
    let text = addr.params.value(b"q").and_then(|text| std::str::from_utf8(text).ok());
    let q = text.and_then(|text| text.parse::<f32>().ok()).filter(|q| (0.0..=1.0).contains(q));
    q.map_or(1_000, |q| (q * 1_000.0).round() as u16)
}

fn check_expression(text: &str) -> Result<(), String> {
    compile_posix(text.as_bytes(), true, false).map(|_| ())
}

fn check_default(text: &str) -> Result<(), String> {
    match text {
        "accept" | "deny" => Ok(()),
        _ => Err("it is accept or deny".into()),
    }
}
