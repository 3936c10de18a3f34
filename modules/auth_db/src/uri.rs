//! Questions about users and the URIs they may use.

use tandem_db::{Cond, Name, Rows, Select};
use tandem_engine::context::Ctx;
use tandem_engine::log::Level;
use tandem_engine::module::{Call, Cx};
use tandem_script::host::Called;
use tandem_script::program::VarId;
use tandem_sip::{Credentials, NameAddr, Uri, ValueError};

use crate::authorize::script_value;
use crate::state::{AuthDb, Wait, text};

const YES: Called = Called::Returned(1);
const NO: Called = Called::Returned(-1);

pub(crate) fn db_does_uri_exist(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<AuthDb>() else { return NO };
    let uri = call.text(0);
    let Some((user, host)) = user_and_host(&uri) else {
        return call.complain(Level::Warning, "the URI to look for has no user, or is none");
    };
    let params = &state.params;
    let conds = with_domain(
        vec![Cond::eq(params.uri_user.clone(), text(user))],
        params.use_domain.then_some((&params.uri_domain, host)),
    );
    let select = exists(call, 1, &params.uri_user, conds);
    state.ask(call, select, "subscriber", Wait::Exists)
}

pub(crate) fn db_is_to_authorized(call: &mut Call<'_, '_, '_>) -> Called {
    is_authorized(call, |ctx| ctx.msg.to())
}

pub(crate) fn db_is_from_authorized(call: &mut Call<'_, '_, '_>) -> Called {
    is_authorized(call, |ctx| ctx.msg.from())
}

/// Whether the user who authenticated may use the user of an address: by the table, or, without
/// one, when both are the same.
fn is_authorized(
    call: &mut Call<'_, '_, '_>,
    address: fn(&Ctx) -> Result<NameAddr<'_>, ValueError>,
) -> Called {
    let Some(state) = call.state::<AuthDb>() else { return NO };
    let Some(value) = call.ctx.authorized else {
        return call.complain(Level::Warning, "nobody has authenticated this request yet");
    };
    let Ok(found) = Credentials::parse(call.ctx.msg.slice(value)) else { return NO };
    let address = address(call.ctx).ok().and_then(|addr| user_and_host(addr.uri));
    let Some((user, _)) = address else { return NO };
    if call.text(0).is_empty() {
        return if user == found.user() { YES } else { NO };
    }
    let params = &state.params;
    let domain = match found.domain() {
        [] => found.realm,
        domain => domain,
    };
    let conds = with_domain(
        vec![
            Cond::eq(params.uri_user.clone(), text(found.user())),
            Cond::eq(params.uri_uriuser.clone(), text(user)),
        ],
        params.use_domain.then_some((&params.uri_domain, domain)),
    );
    let select = exists(call, 0, &params.uri_user, conds);
    state.ask(call, select, "uri", Wait::Exists)
}

pub(crate) fn db_get_auth_id(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<AuthDb>() else { return NO };
    let uri = call.text(1);
    let Some((user, host)) = user_and_host(&uri) else {
        return call.complain(Level::Warning, "the URI to look for has no user, or is none");
    };
    let params = &state.params;
    let select = |by: &Name| {
        let conds = with_domain(
            vec![Cond::eq(by.clone(), text(user))],
            params.use_domain.then_some((&params.uri_domain, host)),
        );
        let mut select = exists(call, 0, &params.uri_user, conds);
        select.columns.push(params.uri_domain.clone());
        select
    };
    let asked = select(&params.uri_uriuser);
    // In a table of subscribers everybody is the user of their own URI.
    let otherwise = Some(Box::new(select(&params.uri_user)));
    let wait = Wait::AuthId { user: call.var(2), realm: call.var(3), otherwise };
    let standard = if asked.table == "subscriber" { "subscriber" } else { "uri" };
    state.ask(call, asked, standard, wait)
}

/// Writes what was found; the code to return.
pub(crate) fn tell_auth_id(
    cx: &mut Cx<'_>,
    run: u64,
    user: Option<VarId>,
    realm: Option<VarId>,
    rows: &Rows,
) -> i32 {
    let Some(row) = rows.rows.first() else { return -1 };
    for (var, value) in [user, realm].into_iter().zip(row) {
        let Some(var) = var else { continue };
        if let Err(why) = cx.assign_suspended(run, var, script_value(value)) {
            cx.log(Level::Error, format!("db_get_auth_id: {why}"));
            return -1;
        }
    }
    1
}

fn user_and_host(uri: &[u8]) -> Option<(&[u8], &[u8])> {
    let uri = Uri::parse(uri).ok()?;
    Some((uri.user.filter(|user| !user.is_empty())?, uri.host))
}

fn with_domain(mut conds: Vec<Cond>, domain: Option<(&Name, &[u8])>) -> Vec<Cond> {
    if let Some((column, domain)) = domain {
        conds.push(Cond::eq(column.clone(), text(domain)));
    }
    conds
}

/// The question for a row of the table that an argument names.
fn exists(call: &Call<'_, '_, '_>, table: usize, column: &Name, conds: Vec<Cond>) -> Select {
    Select {
        table: String::from_utf8_lossy(&call.text(table)).into_owned().into(),
        columns: vec![column.clone()],
        conds,
        order: Vec::new(),
        limit: Some(1),
    }
}
