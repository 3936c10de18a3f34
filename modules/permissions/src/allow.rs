//! Functions on rule files.

use tandem_engine::context::Ctx;
use tandem_engine::log::Level;
use tandem_engine::module::Call;
use tandem_script::host::Called;
use tandem_sip::{HeaderName, NameAddr, Uri};

use crate::files::{Answer, Asking, By, Names};
use crate::state::Permissions;

const YES: Called = Called::Returned(1);
const NO: Called = Called::Returned(-1);

pub(crate) fn allow_routing(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<Permissions>() else { return NO };
    let names = match call.given(0) {
        true => state.params.names(&String::from_utf8_lossy(&call.text(0))),
        false => state.params.default_names(),
    };
    let mut what = vec![plain(call.ctx.request_uri())];
    if state.params.all_branches {
        let branches = call.ctx.branches.iter().filter_map(|branch| branch.uri.as_deref());
        what.extend(branches.map(plain));
    }
    let from = address(call.ctx, HeaderName::From);
    judge(call, &state, &names, from, what)
}

pub(crate) fn allow_register(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<Permissions>() else { return NO };
    let names = state.params.names(&String::from_utf8_lossy(&call.text(0)));
    let to = address(call.ctx, HeaderName::To);
    let mut what = Vec::new();
    for value in call.ctx.msg.values(HeaderName::Contact) {
        // `*` takes contacts away, and none is a question.
        if value.bytes.trim_ascii() != b"*" {
            let read = NameAddr::parse(value.bytes).ok();
            what.push(read.and_then(|contact| plain(contact.uri)));
        }
    }
    judge(call, &state, &names, to, what)
}

pub(crate) fn allow_uri(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<Permissions>() else { return NO };
    let names = state.params.names(&String::from_utf8_lossy(&call.text(0)));
    let from = address(call.ctx, HeaderName::From);
    let uri = plain(&call.text(1));
    judge(call, &state, &names, from, vec![uri])
}

fn judge(
    call: &mut Call<'_, '_, '_>,
    state: &Permissions,
    names: &Names,
    who: Option<Vec<u8>>,
    what: Vec<Option<Vec<u8>>>,
) -> Called {
    let what: Option<Vec<_>> = what.into_iter().collect();
    let (Some(who), Some(what)) = (who, what) else {
        return call.complain(Level::Warning, "an address that rules ask for cannot be read");
    };
    if let Some(pair) = state.files.lock().there(names) {
        return if what.iter().all(|what| pair.lets(&who, what)) { YES } else { NO };
    }
    let run = call.suspend();
    let answer = state.files.lock().ask(names, Some(Asking { who, what, by: By::Run(run) }));
    match answer {
        // It came in between.
        Answer::There(_) | Answer::Full => call.cx.resume(run, -1),
        Answer::Later(Some(at)) => Permissions::read_pair(call.cx, names, at),
        Answer::Later(None) => {}
    }
    Called::Suspended
}

/// The URI of From or To as rules see it.
fn address(ctx: &Ctx, name: HeaderName) -> Option<Vec<u8>> {
    let value = match name {
        HeaderName::To => ctx.msg.to(),
        _ => ctx.msg.from(),
    };
    plain(value.ok()?.uri)
}

/// Scheme, user and host of a URI, so that rules can end with `$`.
pub(crate) fn plain(uri: &[u8]) -> Option<Vec<u8>> {
    let parsed = Uri::parse(uri).ok()?;
    let mut out = [parsed.scheme_bytes, b":"].concat();
    if let Some(user) = parsed.user {
        out.extend_from_slice(user);
        out.push(b'@');
    }
    out.extend_from_slice(parsed.host);
    Some(out)
}
