//! `subst*()`: `/expression/replacement/flags`, with variables in the replacement.

use std::sync::Arc;

use bytes::Bytes;
use tandem_engine::module::Call;
use tandem_engine::uri_edit::{Part as UriPart, with_part};
use tandem_script::host::Called;
use tandem_script::program::{Ready, Subst};
use tandem_sip::Uri;

use crate::text::{Part, Text};
use crate::{NO, YES};

pub(crate) fn subst(call: &mut Call<'_, '_, '_>) -> Called {
    in_message(call, Part::HeadersAndBody)
}

pub(crate) fn subst_body(call: &mut Call<'_, '_, '_>) -> Called {
    in_message(call, Part::Body)
}

pub(crate) fn subst_uri(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(subst) = prepared(call) else { return NO };
    let uri = Bytes::copy_from_slice(call.ctx.request_uri());
    let Some(changed) = changed(call, &subst, &uri) else { return NO };
    if changed.is_empty() {
        return NO;
    }
    call.ctx.target.uri = Some(changed.into());
    YES
}

pub(crate) fn subst_user(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(subst) = prepared(call) else { return NO };
    let uri = Bytes::copy_from_slice(call.ctx.request_uri());
    let Ok(parsed) = Uri::parse(&uri) else { return NO };
    let user = parsed.user.unwrap_or_default();
    let Some(changed) = changed(call, &subst, user) else { return NO };
    match with_part(&uri, UriPart::User, &changed) {
        Some(uri) => {
            call.ctx.target.uri = Some(uri);
            YES
        }
        None => NO,
    }
}

fn prepared(call: &Call<'_, '_, '_>) -> Option<Arc<Subst>> {
    match call.ready(0) {
        Some(Ready::Subst(subst)) => Some(Arc::clone(subst)),
        _ => None,
    }
}

fn in_message(call: &mut Call<'_, '_, '_>, part: Part) -> Called {
    let Some(subst) = prepared(call) else { return NO };
    let text = Text::of(call.ctx, part);
    let changes = changes(call, &subst, &text.bytes);
    if text.change(call.ctx, changes) { YES } else { NO }
}

/// What the matches in a text become, with their places.
fn changes(
    call: &mut Call<'_, '_, '_>,
    subst: &Subst,
    text: &[u8],
) -> Vec<(usize, usize, Vec<u8>)> {
    if !subst.regex().is_match(text) {
        return Vec::new();
    }
    let values = subst.values(|var| call.read(var).into_bytes().unwrap_or_default());
    let found = subst.regex().captures_iter(text).take(subst.times());
    let changes = found.filter_map(|found| {
        let whole = found.get(0)?;
        Some((whole.start(), whole.end(), subst.replaced(&found, &values)))
    });
    changes.collect()
}

/// A text with its matches replaced; `None` if there are none.
fn changed(call: &mut Call<'_, '_, '_>, subst: &Subst, text: &[u8]) -> Option<Vec<u8>> {
    let changes = changes(call, subst, text);
    if changes.is_empty() {
        return None;
    }
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    for (from, to, new) in changes {
        out.extend_from_slice(text.get(at..from).unwrap_or_default());
        out.extend_from_slice(&new);
        at = to;
    }
    out.extend_from_slice(text.get(at..).unwrap_or_default());
    Some(out)
}
