//! Remote-Party-ID, the forerunner of P-Asserted-Identity.

use bytes::Bytes;
use tandem_engine::module::Call;
use tandem_script::host::Called;
use tandem_sip::{NameAddr, Uri};

use crate::authorize::Auth;

fn rpid(call: &Call<'_, '_, '_>, auth: &Auth) -> Option<Bytes> {
    call.ctx.avps.first(&auth.params.rpid_avp).into_bytes().filter(|text| !text.is_empty())
}

pub(crate) fn is_rpid_user_e164(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(auth) = call.state::<Auth>() else { return Called::Returned(-1) };
    let is_number = rpid(call, &auth).is_some_and(|text| {
        let uri = NameAddr::parse(&text).map_or(&text[..], |addr| addr.uri);
        let user = Uri::parse(uri).ok().and_then(|uri| uri.user);
        is_e164(user.unwrap_or(&text))
    });
    Called::Returned(if is_number { 1 } else { -1 })
}

/// `+` and 2 to 15 digits.
fn is_e164(user: &[u8]) -> bool {
    let digits = user.strip_prefix(b"+").unwrap_or_default();
    (2..=15).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit)
}

pub(crate) fn append_rpid_hf(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(auth) = call.state::<Auth>() else { return Called::Returned(-1) };
    let Some(rpid) = rpid(call, &auth) else { return Called::Returned(-1) };
    let affix = |index, default: &Bytes| match call.given(index) {
        true => call.text(index),
        false => default.clone(),
    };
    let (prefix, suffix) = (affix(0, &auth.params.rpid_prefix), affix(1, &auth.params.rpid_suffix));
    let mut line = [&b"Remote-Party-ID: "[..], &prefix, &rpid, &suffix].concat();
    line.retain(|b| !matches!(b, b'\r' | b'\n'));
    line.extend_from_slice(b"\r\n");
    let ctx = &mut *call.ctx;
    ctx.edits.append_header(&ctx.msg, line);
    Called::Returned(1)
}
