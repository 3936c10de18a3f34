//! `replace*()`.

use tandem_engine::module::Call;
use tandem_script::host::Called;

use crate::text::{Part, Text};
use crate::{NO, YES, expression};

pub(crate) fn replace(call: &mut Call<'_, '_, '_>) -> Called {
    change(call, Part::HeadersAndBody, true, 1)
}

pub(crate) fn replace_all(call: &mut Call<'_, '_, '_>) -> Called {
    change(call, Part::HeadersAndBody, true, usize::MAX)
}

pub(crate) fn replace_body(call: &mut Call<'_, '_, '_>) -> Called {
    change(call, Part::Body, true, 1)
}

pub(crate) fn replace_body_all(call: &mut Call<'_, '_, '_>) -> Called {
    change(call, Part::Body, true, usize::MAX)
}

pub(crate) fn replace_body_atonce(call: &mut Call<'_, '_, '_>) -> Called {
    change(call, Part::Body, false, usize::MAX)
}

fn change(call: &mut Call<'_, '_, '_>, part: Part, by_line: bool, times: usize) -> Called {
    let Some(expression) = expression(call, by_line) else { return NO };
    let new = call.text(1);
    let text = Text::of(call.ctx, part);
    let found = expression.find_iter(&text.bytes).take(times);
    let changes = found.map(|found| (found.start(), found.end(), new.to_vec())).collect();
    if text.change(call.ctx, changes) { YES } else { NO }
}
