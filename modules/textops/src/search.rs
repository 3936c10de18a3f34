//! `search*()`.

use tandem_engine::module::Call;
use tandem_script::host::Called;

use crate::text::{Part, Text};
use crate::{NO, YES, expression};

pub(crate) fn search(call: &mut Call<'_, '_, '_>) -> Called {
    has(call, Part::Message)
}

pub(crate) fn search_body(call: &mut Call<'_, '_, '_>) -> Called {
    has(call, Part::Body)
}

pub(crate) fn search_append(call: &mut Call<'_, '_, '_>) -> Called {
    append(call, Part::HeadersAndBody)
}

pub(crate) fn search_append_body(call: &mut Call<'_, '_, '_>) -> Called {
    append(call, Part::Body)
}

fn has(call: &mut Call<'_, '_, '_>, part: Part) -> Called {
    let Some(expression) = expression(call, true) else { return NO };
    let text = Text::of(call.ctx, part);
    if expression.is_match(&text.bytes) { YES } else { NO }
}

fn append(call: &mut Call<'_, '_, '_>, part: Part) -> Called {
    let Some(expression) = expression(call, true) else { return NO };
    let added = call.text(1).to_vec();
    let text = Text::of(call.ctx, part);
    let Some(found) = expression.find(&text.bytes) else { return NO };
    let end = found.end();
    if text.change(call.ctx, vec![(end, end, added)]) { YES } else { NO }
}
