//! Headers that are lists of tokens: Supported, Require, Allow...

use bytes::Bytes;
use tandem_engine::context::Ctx;
use tandem_engine::module::Call;
use tandem_script::host::Called;

use crate::headers::trim_colon;
use crate::{NO, YES, said};

/// Lists that one message may have changed, and tokens in one, at most.
const LISTS_MAX: usize = 32;
const TOKENS_MAX: usize = 256;

/// Lists as they were changed: an edit names places of the received message, so the second
/// change of a list has to know the first.
#[derive(Default)]
struct Changed(Vec<(Bytes, Vec<Bytes>)>);

pub(crate) fn list_hdr_has_option(call: &mut Call<'_, '_, '_>) -> Called {
    let (name, option) = (call.text(0), call.text(1));
    let list = current(call.ctx, call.cx.slot, trim_colon(&name));
    said(list.iter().any(|token| token.eq_ignore_ascii_case(option.trim_ascii())))
}

pub(crate) fn list_hdr_add_option(call: &mut Call<'_, '_, '_>) -> Called {
    change(call, |list, option| {
        if !list.iter().any(|token| token.eq_ignore_ascii_case(option)) && list.len() < TOKENS_MAX {
            list.push(Bytes::copy_from_slice(option));
        }
        true
    })
}

pub(crate) fn list_hdr_remove_option(call: &mut Call<'_, '_, '_>) -> Called {
    change(call, |list, option| {
        let before = list.len();
        list.retain(|token| !token.eq_ignore_ascii_case(option));
        list.len() != before
    })
}

/// The tokens of a list with what was changed so far.
fn current(ctx: &Ctx, slot: u16, name: &[u8]) -> Vec<Bytes> {
    let changed = ctx.section::<Changed>(slot);
    if let Some((_, list)) =
        changed.and_then(|c| c.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)))
    {
        return list.clone();
    }
    let values = ctx.msg.headers_by_text(name).flat_map(|header| header.values());
    values.take(TOKENS_MAX).map(|value| Bytes::copy_from_slice(value.bytes)).collect()
}

fn change(
    call: &mut Call<'_, '_, '_>,
    change: impl FnOnce(&mut Vec<Bytes>, &[u8]) -> bool,
) -> Called {
    let (name, option) = (call.text(0), call.text(1));
    let (name, option) = (trim_colon(&name), option.trim_ascii());
    let slot = call.cx.slot;
    let before = current(call.ctx, slot, name);
    let mut list = before.clone();
    if name.is_empty() || option.is_empty() || !change(&mut list, option) {
        return NO;
    }
    if list != before {
        write(call.ctx, name, &before, &list);
        let changed = &mut call.ctx.section_mut::<Changed>(slot).0;
        changed.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        if changed.len() < LISTS_MAX {
            changed.push((Bytes::copy_from_slice(name), list));
        }
    }
    YES
}

/// The list goes where its first header is; without any, what is new goes behind all headers.
fn write(ctx: &mut Ctx, name: &[u8], before: &[Bytes], list: &[Bytes]) {
    let line = |tokens: &[Bytes]| match tokens {
        [] => Vec::new(),
        tokens => [name, b": ", &tokens.join(&b", "[..]), b"\r\n"].concat(),
    };
    let mut headers = ctx.msg.headers_by_text(name).map(|header| header.span());
    let Some(first) = headers.next() else {
        let added: Vec<Bytes> = list.iter().filter(|t| !before.contains(t)).cloned().collect();
        ctx.edits.append_header(&ctx.msg, line(&added));
        return;
    };
    ctx.edits.replace(first, line(list));
    headers.for_each(|span| ctx.edits.remove(span));
}
