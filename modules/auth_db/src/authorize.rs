//! `www_authorize()` and `proxy_authorize()`.

use std::sync::Arc;

use bytes::Bytes;
use tandem_auth::{Claim, Secret, code};
use tandem_clock::Now;
use tandem_db::{Cond, Rows, Select, Value as DbValue};
use tandem_engine::context::Ctx;
use tandem_engine::module::Call;
use tandem_script::host::Called;
use tandem_script::value::Value;
use tandem_sip::AuthRole;

use crate::state::{AuthDb, Wait, text};

pub(crate) fn www_authorize(call: &mut Call<'_, '_, '_>) -> Called {
    authorize(call, AuthRole::Server)
}

pub(crate) fn proxy_authorize(call: &mut Call<'_, '_, '_>) -> Called {
    authorize(call, AuthRole::Proxy)
}

fn authorize(call: &mut Call<'_, '_, '_>, role: AuthRole) -> Called {
    let Some(state) = call.state::<AuthDb>() else { return Called::Returned(code::ERROR) };
    let realm = call.text(0);
    let claim = match state.auth.claim(call.ctx, role, &realm) {
        Ok(claim) => claim,
        Err(code) => return Called::Returned(code),
    };
    let table = String::from_utf8_lossy(&call.text(1)).into_owned();
    let select = question(&state, &claim, table);
    match state.ask(call, select, "subscriber", Wait::Secret(claim)) {
        Called::Suspended => Called::Suspended,
        Called::Returned(_) => Called::Returned(code::ERROR),
    }
}

fn question(state: &Arc<AuthDb>, claim: &Claim, table: String) -> Select {
    let params = &state.params;
    let mut columns = Vec::with_capacity(1 + params.loaded.len());
    columns.push(params.secret_column(claim.algorithm));
    columns.extend(params.loaded.iter().map(|(_, column)| column.clone()));
    let mut conds = Vec::with_capacity(2);
    conds.push(Cond::eq(params.user.clone(), text(&claim.user)));
    if params.use_domain {
        conds.push(Cond::eq(params.domain.clone(), text(&claim.domain)));
    }
    Select { table: table.into(), columns, conds, order: Vec::new(), limit: Some(1) }
}

/// Judges a claim by the row of its user, and loads what is to be loaded.
pub(crate) fn judge(state: &AuthDb, now: Now, ctx: &mut Ctx, claim: &Claim, rows: &Rows) -> i32 {
    let Some((secret, loaded)) = rows.rows.first().and_then(|row| row.split_first()) else {
        return code::UNKNOWN_USER;
    };
    let number;
    let secret = match secret {
        // A password of digits alone, in a column without a type.
        DbValue::Int(n) => {
            number = n.to_string();
            number.as_bytes()
        }
        other => other.as_bytes().unwrap_or_default(),
    };
    let secret = match state.params.calculate_ha1 {
        true => Secret::Password(secret),
        false => Secret::Ha1(secret),
    };
    let judged = state.auth.judge(now, ctx, claim, secret);
    if judged == code::AUTHORIZED {
        for ((avp, _), value) in state.params.loaded.iter().zip(loaded) {
            let value = script_value(value);
            if !value.is_null() {
                // A message full of AVPs has no room for more.
                let _ = ctx.avps.insert(avp, value, false);
            }
        }
    }
    judged
}

/// A value of a row as a script sees it.
pub(crate) fn script_value(value: &DbValue) -> Value {
    match value {
        DbValue::Null => Value::Null,
        DbValue::Int(n) | DbValue::Time(n) => match i32::try_from(*n) {
            Ok(n) => Value::Int(n),
            Err(_) => Value::str(n.to_string()),
        },
        DbValue::Float(f) => Value::str(f.to_string()),
        DbValue::Str(text) => Value::str(text.clone()),
        DbValue::Blob(bytes) => Value::Str(Bytes::clone(bytes)),
    }
}
