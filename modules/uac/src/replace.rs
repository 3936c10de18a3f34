//! Other names in From and To.

use bytes::Bytes;
use tandem_dialog::{Created, Dialogs, Flags};
use tandem_engine::context::{Ctx, RecordRoute};
use tandem_engine::log::Level;
use tandem_engine::module::Call;
use tandem_script::host::Called;
use tandem_script::sig::Routes;
use tandem_sip::{HeaderName, Method, NameAddr, Params, Uri};

use crate::params::{Mode, Uac};
use crate::store;

const YES: Called = Called::Returned(1);
const NO: Called = Called::Returned(-1);

/// Which of the two was changed when the dialog was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    From,
    To,
}

impl Which {
    fn header(self) -> HeaderName {
        match self {
            Self::From => HeaderName::From,
            Self::To => HeaderName::To,
        }
    }

    /// The header in a request that goes the other way.
    fn other(self) -> Self {
        match self {
            Self::From => Self::To,
            Self::To => Self::From,
        }
    }

    fn param(self, uac: &Uac) -> &[u8] {
        match self {
            Self::From => &uac.from_param,
            Self::To => &uac.to_param,
        }
    }
}

pub(crate) fn uac_replace_from(call: &mut Call<'_, '_, '_>) -> Called {
    replace(call, Which::From)
}

pub(crate) fn uac_replace_to(call: &mut Call<'_, '_, '_>) -> Called {
    replace(call, Which::To)
}

pub(crate) fn uac_restore_from(call: &mut Call<'_, '_, '_>) -> Called {
    restore_by_hand(call, Which::From)
}

pub(crate) fn uac_restore_to(call: &mut Call<'_, '_, '_>) -> Called {
    restore_by_hand(call, Which::To)
}

fn replace(call: &mut Call<'_, '_, '_>, which: Which) -> Called {
    let Some(uac) = call.state::<Uac>() else { return NO };
    let display = call.given(0).then(|| call.text(0));
    let uri = call.text(1);
    if !uri.is_empty() && Uri::parse(&uri).is_err() {
        let text = String::from_utf8_lossy(&uri).into_owned();
        return call.complain(Level::Error, format!("`{text}` is not a URI"));
    }
    if display.as_ref().is_some_and(|text| text.iter().any(|b| matches!(b, b'\r' | b'\n'))) {
        return call.complain(Level::Error, "a display name is on one line");
    }
    let Some(old) = uri_of(call.ctx, which) else {
        return call.complain(Level::Error, "the header cannot be read");
    };
    if uac.force_dialog
        && let Some(end) = with_dialog(call)
    {
        return end;
    }
    if !write(call.ctx, which, display.as_deref(), &uri) {
        return NO;
    }
    if uac.mode == Mode::None {
        return YES;
    }
    call.ctx.rewritten.names = true;
    // A request of a dialog has its Record-Route already.
    if uri.is_empty() || call.ctx.msg.to_tag().is_some() {
        return YES;
    }
    let Some(text) = store::encode(&old, &uri, &uac.key) else {
        return call.complain(Level::Error, "the URI is too long to be kept in the Record-Route");
    };
    keep(call.ctx, which.param(&uac), &text);
    YES
}

/// Makes the dialog of a call that has none yet; `Some`: the function ends with this.
fn with_dialog(call: &mut Call<'_, '_, '_>) -> Option<Called> {
    let begins = call.ctx.msg.method() == Method::Invite && call.ctx.msg.to_tag().is_none();
    if !begins || call.ctx.block != Routes::REQUEST {
        return None;
    }
    let (slot, dialogs) = call.cx.node.find::<Dialogs>()?;
    let ctx = &mut *call.ctx;
    match call.cx.for_slot(slot, |cx| dialogs.create(cx, ctx, Flags::NONE)) {
        Ok(Created::New | Created::Known) => None,
        Ok(Created::DealtWith) => Some(Called::Returned(0)),
        Err(why) => Some(call.complain(Level::Error, format!("force_dialog: {why}"))),
    }
}

/// Puts the text into the Record-Route, which may be asked for later; once.
pub(crate) fn keep(ctx: &mut Ctx, name: &[u8], text: &str) {
    let route = ctx.record_route.get_or_insert_with(RecordRoute::default);
    let old = [b";", name, b"="].concat();
    let params = route.params.split(|b| *b == b';').filter(|p| !p.is_empty());
    let mut kept = Vec::new();
    for param in params.filter(|p| !p.starts_with(old.get(1..).unwrap_or_default())) {
        kept.extend_from_slice(&[b";", param].concat());
    }
    kept.extend_from_slice(&[&old, text.as_bytes()].concat());
    route.params = Bytes::from(kept);
}

fn restore_by_hand(call: &mut Call<'_, '_, '_>, which: Which) -> Called {
    let Some(uac) = call.state::<Uac>() else { return NO };
    if uac.mode != Mode::Manual {
        return call.complain(Level::Error, "this is for restore_mode \"manual\"");
    }
    let Some(params) = tandem_rr::taken_params(call.cx.node, call.ctx) else { return NO };
    if restore(&uac, call.ctx, &params, which) { YES } else { NO }
}

/// Restores what was changed in `which` when the dialog was made: the caller's requests get what
/// the callee knows, and the callee's what the caller knows. False without a stored text.
pub(crate) fn restore(uac: &Uac, ctx: &mut Ctx, params: &[u8], which: Which) -> bool {
    let params = Params::new(params);
    let Some(text) = params.value(which.param(uac)) else { return false };
    let upstream = params.value(b"ftag").is_some_and(|tag| ctx.msg.from_tag() != Some(tag));
    let place = if upstream { which.other() } else { which };
    let Some(uri) = uri_of(ctx, place).and_then(|old| store::decode(text, &old, &uac.key)) else {
        return false;
    };
    if Uri::parse(&uri).is_err() || !write(ctx, place, None, &uri) {
        return false;
    }
    ctx.rewritten.names = true;
    true
}

/// Gives a request within a dialog the URI that its receiver knows; an empty one is left alone.
pub(crate) fn rename(ctx: &mut Ctx, which: Which, uri: &[u8]) {
    let differs = uri_of(ctx, which).is_some_and(|old| old != uri);
    if !uri.is_empty() && differs && write(ctx, which, None, uri) {
        ctx.rewritten.names = true;
    }
}

fn uri_of(ctx: &Ctx, which: Which) -> Option<Vec<u8>> {
    let header = ctx.msg.header(which.header())?;
    Some(NameAddr::parse(header.value()).ok()?.uri.to_vec())
}

/// Writes the header anew. An empty URI is the old one; no display name is the old one, an empty
/// one is none.
fn write(ctx: &mut Ctx, which: Which, display: Option<&[u8]>, uri: &[u8]) -> bool {
    let Some(header) = ctx.msg.header(which.header()) else { return false };
    let (span, value) = (header.value_span(), header.value());
    let Ok(addr) = NameAddr::parse(value) else { return false };
    let mut out = match display {
        None => addr.display.to_vec(),
        Some(b"") => Vec::new(),
        Some(text) => quoted(text),
    };
    if !out.is_empty() {
        out.push(b' ');
    }
    let uri = if uri.is_empty() { addr.uri } else { uri };
    out.extend_from_slice(&[b"<", uri, b">"].concat());
    out.extend_from_slice(behind_uri(value, addr.uri));
    ctx.edits.replace(span, out);
    true
}

/// The parameters as they are written, from their `;` on.
fn behind_uri<'a>(value: &'a [u8], uri: &[u8]) -> &'a [u8] {
    let end = (uri.as_ptr() as usize + uri.len()).saturating_sub(value.as_ptr() as usize);
    let rest = value.get(end..).unwrap_or_default().trim_ascii_start();
    let rest = rest.strip_prefix(b">").unwrap_or(rest);
    rest.trim_ascii_start()
}

fn quoted(text: &[u8]) -> Vec<u8> {
    if text.len() > 1 && text.starts_with(b"\"") && text.ends_with(b"\"") {
        return text.to_vec();
    }
    let mut out = vec![b'"'];
    for b in text {
        if matches!(b, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*b);
    }
    out.push(b'"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_display_name_gets_its_quotes_and_keeps_those_it_has() {
        assert_eq!(quoted(b"Bob"), b"\"Bob\"");
        assert_eq!(quoted(b"\"Bob\""), b"\"Bob\"");
        assert_eq!(quoted(b"a\"b\\"), b"\"a\\\"b\\\\\"");
    }
}
