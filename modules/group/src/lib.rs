//! `group`: which groups a user is in, by tables or by a RADIUS server.
//!
//! # Files
//! `state.rs` the module, `aaa.rs` what is asked of a RADIUS server.

mod aaa;
mod state;

use tandem_db::{Cond, Query, Select};
use tandem_engine::log::Level;
use tandem_engine::module::{Call, FunctionDef, ModuleDef};
use tandem_engine::table::{arg, function, param};
use tandem_script::host::Called;
use tandem_script::sig::{ArgKind, ArgSig, Dependency, ParamKind, ParamSig, Routes};
use tandem_script::value::Value;
use tandem_sip::{Credentials, Uri};

use crate::state::{Group, IsIn};

/// The table of `group`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "group",
    help: "Which groups a user is in, by tables or by a RADIUS server.",
    dependencies: &[Dependency { module: "aaa_radius", when_param: "aaa_url" }],
    params: PARAMS,
    functions: FUNCTIONS,
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build: Group::build,
};

const fn name(name: &'static str, default: Option<&'static str>, help: &'static str) -> ParamSig {
    ParamSig { check: Some(check_name), ..param(name, ParamKind::Str, default, help) }
}

const PARAMS: &[ParamSig] = &[
    param(
        "aaa_url",
        ParamKind::Str,
        None,
        "The RADIUS servers of aaa_is_user_in(): \"radius:FILE\", where FILE is a radiusclient.conf.",
    ),
    param("db_url", ParamKind::Str, None, "Database of the groups; else db_default_url."),
    name("table", Some("grp"), "Table with users and their groups."),
    name("user_column", Some("username"), "Column with the user."),
    name("domain_column", Some("domain"), "Column with the domain."),
    name("group_column", Some("grp"), "Column with the group."),
    param(
        "use_domain",
        ParamKind::Int,
        Some("1"),
        "1: the domain must match, too; 0: the user alone counts, also for a RADIUS server.",
    ),
    name("re_table", None, "Table with expressions and their groups; unset: none is loaded."),
    name("re_exp_column", Some("reg_exp"), "Column with the expression."),
    name("re_gid_column", Some("group_id"), "Column with the number of the group."),
    param(
        "multiple_gid",
        ParamKind::Int,
        Some("1"),
        "1: db_get_user_group() gives every group that matches; 0: the first.",
    ),
];

const ROUTES: Routes = Routes::REQUEST.or(Routes::FAILURE).or(Routes::BRANCH).or(Routes::LOCAL);
const IS_IN: &[ArgSig] = &[arg("uri", ArgKind::Str), arg("group", ArgKind::Str)];
const GET: &[ArgSig] = &[arg("uri", ArgKind::Str), arg("out_avp", ArgKind::Var)];

const FUNCTIONS: &[FunctionDef] = &[
    function(
        "aaa_is_user_in",
        IS_IN,
        ROUTES,
        "Whether a RADIUS server says that the user of a URI (or of `Request-URI`, `To`, `From`, \
         `Credentials`) is in a group.",
        aaa::aaa_is_user_in,
    ),
    function(
        "db_is_user_in",
        IS_IN,
        ROUTES,
        "Whether the user of a URI (or of `Request-URI`, `To`, `From`, `Credentials`) is in a \
         group.",
        db_is_user_in,
    ),
    function(
        "db_get_user_group",
        GET,
        ROUTES,
        "The groups whose expressions match sip:user@domain; gives how many there are.",
        db_get_user_group,
    ),
];

fn db_is_user_in(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<Group>() else { return Called::Returned(-1) };
    let Some((user, domain)) = user_of(call) else {
        return call.complain(Level::Warning, "no user is there to look for");
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut conds = vec![
        Cond::eq(state.user.clone(), text(&user)),
        Cond::eq(state.group.clone(), text(&call.text(1))),
    ];
    if state.use_domain {
        conds.push(Cond::eq(state.domain.clone(), text(&domain)));
    }
    let select = Select {
        table: state.table.clone(),
        columns: vec![state.group.clone()],
        conds,
        limit: Some(1),
        ..Select::default()
    };
    let Some(database) = state.database else {
        return call.complain(Level::Error, "there is no database: set db_url of group");
    };
    call.ask(database, Query::Select(select), IsIn)
}

fn db_get_user_group(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<Group>() else { return Called::Returned(-1) };
    let Some(part) = state.expressions.parts().first() else {
        return call.complain(Level::Error, "no expressions are loaded: set re_table of group");
    };
    let Some((user, domain)) = user_of(call) else {
        return call.complain(Level::Warning, "no user is there to look for");
    };
    let uri = [b"sip:", &user[..], b"@", &domain[..]].concat();
    let table = part.table();
    let found = table.iter().filter(|(regex, _)| regex.is_match(&uri)).map(|(_, group)| *group);
    let most = if state.multiple { usize::MAX } else { 1 };
    let groups: Vec<i32> = found.take(most).collect();
    for group in &groups {
        if let Err(why) = call.set_var(1, Value::Int(*group)) {
            return call.complain(Level::Error, why);
        }
    }
    match i32::try_from(groups.len()) {
        Ok(count) if count > 0 => Called::Returned(count),
        _ => Called::Returned(-1),
    }
}

/// User and domain that the first argument means.
pub(crate) fn user_of(call: &Call<'_, '_, '_>) -> Option<(Vec<u8>, Vec<u8>)> {
    let text = call.text(0);
    let uri: &[u8] = match &text[..] {
        b"Request-URI" => call.ctx.request_uri(),
        b"To" => call.ctx.msg.to().ok()?.uri,
        b"From" => call.ctx.msg.from().ok()?.uri,
        b"Credentials" => {
            let found = Credentials::parse(call.ctx.msg.slice(call.ctx.authorized?)).ok()?;
            let domain = if found.domain().is_empty() { found.realm } else { found.domain() };
            return Some((found.user().to_vec(), domain.to_vec()));
        }
        uri => uri,
    };
    let uri = Uri::parse(uri).ok()?;
    Some((uri.user.filter(|user| !user.is_empty())?.to_vec(), uri.host.to_vec()))
}

fn check_name(text: &str) -> Result<(), String> {
    tandem_db::check_name(text).map_err(|e| e.to_string())
}
