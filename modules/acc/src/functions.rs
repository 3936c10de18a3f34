//! What a script calls.

use std::sync::Arc;

use tandem_db::{Name, check_name};
use tandem_engine::log::Level;
use tandem_engine::module::{Call, FunctionDef};
use tandem_engine::table::{arg, function, optional};
use tandem_script::host::Called;
use tandem_script::sig::{ArgKind, ArgSig, Routes};
use tandem_sip::Method;

use crate::account::Account;
use crate::marks::{
    ACC, Backend, CDR, FAILED, MISSED, backends, check_backends, check_flags, flags,
};
use crate::record::{Kind, Record};
use crate::state::Acc;

const ROUTES: Routes = Routes::REQUEST.or(Routes::FAILURE).or(Routes::BRANCH).or(Routes::LOCAL);
const COMMENT: &[ArgSig] = &[arg("comment", ArgKind::Str)];
const FLAGS: ArgSig = ArgSig { check: Some(check_flags), ..optional("flags", ArgKind::Str) };
const ALL: u8 = ACC | CDR | MISSED | FAILED;

/// The functions of the module.
pub(crate) const FUNCTIONS: &[FunctionDef] = &[
    function(
        "do_accounting",
        &[
            ArgSig { check: Some(check_backends), ..arg("type", ArgKind::Str) },
            FLAGS,
            ArgSig { check: Some(check_table), ..optional("table", ArgKind::Str) },
        ],
        ROUTES,
        "Has the transaction accounted, to log, db, evi or aaa (\"db|log\"), with the flags cdr, \
         missed and failed; calls add up.",
        do_accounting,
    ),
    function(
        "drop_accounting",
        &[ArgSig { check: Some(check_backends), ..optional("type", ArgKind::Str) }, FLAGS],
        ROUTES,
        "Takes marks back: all, those of a type, or flags of a type.",
        drop_accounting,
    ),
    function(
        "acc_log_request",
        COMMENT,
        ROUTES,
        "Logs a record now; the comment is a code and a reason: \"404 Not found\".",
        |call| request(call, Backend::Log),
    ),
    function(
        "acc_db_request",
        &[
            arg("comment", ArgKind::Str),
            ArgSig { check: Some(check_table), ..arg("table", ArgKind::Str) },
        ],
        ROUTES,
        "Writes a record into a table now.",
        |call| request(call, Backend::Db),
    ),
    function(
        "acc_evi_request",
        COMMENT,
        ROUTES,
        "Raises an event now: E_ACC_MISSED_EVENT for an INVITE with a code of 300 or more, else \
         E_ACC_EVENT.",
        |call| request(call, Backend::Evi),
    ),
    function(
        "acc_aaa_request",
        COMMENT,
        ROUTES,
        "Sends a record to the RADIUS server now.",
        |call| request(call, Backend::Aaa),
    ),
    function("acc_new_leg", &[], ROUTES, "Begins another leg for $acc_leg.", acc_new_leg),
    function(
        "acc_load_ctx_from_dlg",
        &[],
        Routes::ANY,
        "Shows the fields of the call that the dialog of the message keeps; what is written to \
         $acc_extra and $acc_leg then is kept with the dialog.",
        load_from_dialog,
    ),
    function(
        "acc_unload_ctx_from_dlg",
        &[],
        Routes::ANY,
        "Shows the fields of the message's own transaction again.",
        unload,
    ),
];

fn check_table(text: &str) -> Result<(), String> {
    check_name(text).map_err(|e| e.to_string())
}

fn do_accounting(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(acc) = call.state::<Acc>() else { return Called::Returned(-1) };
    let wanted = text(call, 0);
    let given = text(call, 1);
    let read = backends(&wanted).and_then(|types| Ok((types, flags(&given)?)));
    let (types, flags) = match read {
        Ok(read) => read,
        Err(why) => return call.complain(Level::Error, why),
    };
    if let Some(why) = types.iter().find_map(|backend| lacks(&acc, *backend)) {
        return call.complain(Level::Error, why);
    }
    let table = match table(call, &acc, 2) {
        Ok(table) => table,
        Err(why) => return call.complain(Level::Error, why),
    };
    let Some(account) = acc.account(call.cx, call.ctx) else { return Called::Returned(-1) };
    let of_call = acc.call_of(call.cx, call.ctx);
    let mut state = account.state.lock();
    state.call = of_call.or(state.call);
    state.begin(call.cx.now);
    for backend in types {
        state.marks.add(backend, ACC | flags);
    }
    if table.is_some() {
        state.table = table;
    }
    Called::Returned(1)
}

/// What a type lacks here.
fn lacks(acc: &Acc, backend: Backend) -> Option<&'static str> {
    match backend {
        Backend::Db if acc.ledger.is_none() => {
            Some("there is no database to account to: set db_url")
        }
        Backend::Aaa if acc.radius.is_none() => {
            Some("there is no RADIUS server to account to: set aaa_url")
        }
        _ => None,
    }
}

fn drop_accounting(call: &mut Call<'_, '_, '_>) -> Called {
    let types = match text(call, 0) {
        none if none.trim().is_empty() => Ok(Backend::ALL.to_vec()),
        some => backends(&some),
    };
    let given = text(call, 1);
    let (types, flags) = match types.and_then(|types| Ok((types, flags(&given)?))) {
        Ok(read) => read,
        Err(why) => return call.complain(Level::Error, why),
    };
    let flags = if flags == 0 { ALL } else { flags };
    if let Some(account) = Account::find(call.cx.slot, call.ctx) {
        let mut state = account.state.lock();
        types.into_iter().for_each(|backend| state.marks.remove(backend, flags));
    }
    Called::Returned(1)
}

fn request(call: &mut Call<'_, '_, '_>, backend: Backend) -> Called {
    let Some(acc) = call.state::<Acc>() else { return Called::Returned(-1) };
    if let Some(why) = lacks(&acc, backend) {
        return call.complain(Level::Error, why);
    }
    let table = match table(call, &acc, 1) {
        Ok(table) if backend == Backend::Db => table,
        Ok(_) => None,
        Err(why) => return call.complain(Level::Error, why),
    };
    let Some(account) = acc.account(call.cx, call.ctx) else { return Called::Returned(-1) };
    let record = Record::requested(call.cx.now, &account, &call.text(0));
    let is_missed = backend == Backend::Evi
        && account.request.method() == Method::Invite
        && record.code.first().is_some_and(|digit| *digit >= b'3');
    let kind = if is_missed { Kind::Missed } else { Kind::Requested };
    let state = account.state.lock().clone();
    acc.write(call.cx, (backend, kind), &record, &state, table);
    Called::Returned(1)
}

fn acc_new_leg(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(acc) = call.state::<Acc>() else { return Called::Returned(-1) };
    if acc.params.legs.is_empty() {
        return call.complain(Level::Error, "acc_new_leg: leg_fields declares no field");
    }
    let Some(account) = acc.account(call.cx, call.ctx) else { return Called::Returned(-1) };
    let shown = account.shown();
    if shown.state.lock().add_leg() {
        acc.keep_legs(call.cx, &shown);
        return Called::Returned(1);
    }
    call.complain(Level::Error, "acc_new_leg: the call has too many legs")
}

fn load_from_dialog(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(acc) = call.state::<Acc>() else { return Called::Returned(-1) };
    let Some(of_dialog) = acc.account_of_dialog(call.cx, call.ctx) else {
        return Called::Returned(-1);
    };
    let Some(account) = acc.account(call.cx, call.ctx) else { return Called::Returned(-1) };
    account.show(Some(Arc::new(of_dialog)));
    Called::Returned(1)
}

fn unload(call: &mut Call<'_, '_, '_>) -> Called {
    let account = Account::find(call.cx.slot, call.ctx);
    let was_loaded = account.and_then(|account| account.show(None)).is_some();
    Called::Returned(if was_loaded { 1 } else { -1 })
}

/// The table that a variable or an argument names.
fn table(call: &mut Call<'_, '_, '_>, acc: &Acc, at: usize) -> Result<Option<Name>, String> {
    let by_var = acc.params.table_var.and_then(|var| call.read(var).into_bytes());
    let name = by_var.filter(|n| !n.is_empty()).unwrap_or_else(|| call.text(at));
    if name.is_empty() {
        return Ok(None);
    }
    let name = String::from_utf8_lossy(&name).into_owned();
    check_table(&name)?;
    Ok(Some(name.into()))
}

fn text(call: &Call<'_, '_, '_>, at: usize) -> String {
    String::from_utf8_lossy(&call.text(at)).into_owned()
}
