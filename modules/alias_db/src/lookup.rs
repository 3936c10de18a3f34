//! The functions.

use tandem_db::{Cond, Query, Select};
use tandem_engine::log::Level;
use tandem_engine::module::Call;
use tandem_script::host::Called;
use tandem_sip::Uri;

use crate::state::{AliasDb, Wait};

pub(crate) fn alias_db_lookup(call: &mut Call<'_, '_, '_>) -> Called {
    let uri = call.ctx.request_uri().to_vec();
    let flags = call.text(1);
    look_up(call, &uri, &flags, Wait::Target)
}

pub(crate) fn alias_db_find(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(output) = call.var(2) else { return Called::Returned(-1) };
    let (uri, flags) = (call.text(1), call.text(3));
    look_up(call, &uri, &flags, Wait::Var(output))
}

fn look_up(call: &mut Call<'_, '_, '_>, uri: &[u8], flags: &[u8], wait: Wait) -> Called {
    let Some(state) = call.state::<AliasDb>() else { return Called::Returned(-1) };
    let parsed = Uri::parse(uri).ok();
    let user = parsed.as_ref().and_then(|uri| uri.user).filter(|user| !user.is_empty());
    let (Some(user), Some(uri)) = (user, parsed.as_ref()) else {
        return call.complain(Level::Warning, "the URI to look up has no user, or is none");
    };
    let table = String::from_utf8_lossy(&call.text(0)).into_owned();
    if let Err(why) = tandem_db::check_name(&table) {
        return call.complain(Level::Error, why.to_string());
    }
    let alias = (&state.alias_user, &state.alias_domain);
    let real = (&state.user, &state.domain);
    let (asked, wanted) = if flags.contains(&b'r') { (real, alias) } else { (alias, real) };
    let mut conds = vec![Cond::eq(asked.0.clone(), &*String::from_utf8_lossy(user))];
    if !flags.contains(&b'd') {
        let prefix = &state.domain_prefix;
        let domain = uri.host.strip_prefix(prefix.as_slice()).unwrap_or(uri.host);
        conds.push(Cond::eq(asked.1.clone(), &*String::from_utf8_lossy(domain)));
    }
    let select = Select {
        table: table.into(),
        columns: vec![wanted.0.clone(), wanted.1.clone()],
        conds,
        ..Select::default()
    };
    call.ask(state.database, Query::Select(select), wait)
}

/// Judges a literal.
pub(crate) fn check_flags(text: &str) -> Result<(), String> {
    match text.chars().find(|c| !"dr".contains(*c)) {
        None => Ok(()),
        Some(c) => Err(format!("there is no flag `{c}`: d and r are known")),
    }
}
