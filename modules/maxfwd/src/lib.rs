//! `maxfwd`: the hop limit of requests (RFC 3261 16.3, 16.6 step 3).

use std::sync::Arc;

use bytes::Bytes;

use tandem_engine::module::{Build, BuildError, Call, Module, ModuleDef};
use tandem_engine::table::{arg, function, param};
use tandem_script::host::Called;
use tandem_script::sig::{ArgKind, ArgSig, ParamKind, Routes};
use tandem_sip::HeaderName;

const MAX_VALUE: &[ArgSig] = &[arg("max_value", ArgKind::Int)];

/// The table of `maxfwd`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "maxfwd",
    help: "The hop limit of requests.",
    dependencies: &[],
    params: &[param("max_limit", ParamKind::Int, Some("256"), "Larger values are lowered to it.")],
    functions: &[
        function(
            "mf_process_maxfwd_header",
            MAX_VALUE,
            Routes::REQUEST,
            "Takes one off Max-Forwards, or adds the header: 1 taken off, 2 added, -1 it was 0.",
            process,
        ),
        function(
            "is_maxfwd_lt",
            MAX_VALUE,
            Routes::REQUEST.or(Routes::FAILURE).or(Routes::BRANCH),
            "Tests whether Max-Forwards is lower: 1 lower, -1 not, -2 absent, -3 unreadable.",
            is_lower,
        ),
    ],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build,
};

struct MaxFwd {
    max_limit: u32,
}

impl Module for MaxFwd {}

fn build(from: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    let max_limit = from
        .int("max_limit")
        .and_then(|n| u32::try_from(n).ok())
        .filter(|n| (1..=256).contains(n))
        .ok_or_else(|| BuildError::new("max_limit", "a hop limit goes from 1 to 256"))?;
    Ok(Arc::new(MaxFwd { max_limit }))
}

fn process(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<MaxFwd>() else { return Called::Returned(-2) };
    let wanted = call.int(0).and_then(|n| u32::try_from(n).ok()).unwrap_or(70);
    let ctx = &mut *call.ctx;
    let Ok(present) = ctx.msg.max_forwards() else { return Called::Returned(-2) };
    let Some(present) = present else {
        let line = format!("Max-Forwards: {}\r\n", wanted.min(state.max_limit));
        ctx.edits.append_header(&ctx.msg, line);
        return Called::Returned(2);
    };
    if present == 0 {
        return Called::Returned(-1);
    }
    if let Some(header) = ctx.msg.header(HeaderName::MaxForwards) {
        let next = (present - 1).min(state.max_limit);
        ctx.edits.replace(header.value_span(), hops(next));
    }
    Called::Returned(1)
}

/// The number as text; the usual ones without an allocation.
fn hops(number: u32) -> Bytes {
    const WIDTH: usize = 2;
    static TEXTS: [[u8; WIDTH]; 100] = {
        let mut texts = [[0; WIDTH]; 100];
        let mut n = 0;
        while n < 100 {
            texts[n] = [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
            n += 1;
        }
        texts
    };
    match TEXTS.get(number as usize) {
        Some([b'0', digit]) => Bytes::from_static(std::slice::from_ref(digit)),
        Some(text) => Bytes::from_static(text),
        None => Bytes::from(number.to_string()),
    }
}

fn is_lower(call: &mut Call<'_, '_, '_>) -> Called {
    let limit = call.int(0).and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    Called::Returned(match call.ctx.msg.max_forwards() {
        Ok(Some(present)) if present < limit => 1,
        Ok(Some(_)) => -1,
        Ok(None) => -2,
        Err(_) => -3,
    })
}
