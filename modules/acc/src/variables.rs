//! `$acc_extra`, `$acc_leg` and `$acc_current_leg`.

use std::sync::Arc;

use tandem_engine::module::{VarCall, VariableDef};
use tandem_engine::table::variable;
use tandem_script::host::{Assign, Index};
use tandem_script::sig::VariableSig;
use tandem_script::value::Value;

use crate::account::Account;
use crate::state::Acc;

/// The variables of the module; their places are known to `params.rs`.
pub(crate) const VARIABLES: &[VariableDef] = &[
    VariableDef {
        sig: VariableSig {
            name: "acc_extra",
            writable: true,
            takes_name: true,
            takes_index: false,
            help: "A field that extra_fields declares; in a call with the flag cdr it lasts to \
                   the end of the call.",
        },
        get: get_extra,
        set: Some(set_extra),
    },
    VariableDef {
        sig: VariableSig {
            name: "acc_leg",
            writable: true,
            takes_name: true,
            takes_index: true,
            help: "A field that leg_fields declares, of the current leg or of the one in brackets; \
                   in a call with the flag cdr it lasts to the end of the call.",
        },
        get: get_leg,
        set: Some(set_leg),
    },
    variable("acc_current_leg", "Number of the current leg, from 0.", |call| {
        let account = call.state::<Acc>().and_then(|acc| shown(call, &acc));
        let legs = account.map_or(0, |a| a.state.lock().legs.len());
        Value::Int(legs.saturating_sub(1) as i32)
    }),
];

fn get_extra(call: &mut VarCall<'_, '_>) -> Value {
    let Some(acc) = call.state::<Acc>() else { return Value::Null };
    let Some(at) = acc.params.extra.position(call.access.name) else { return Value::Null };
    let value = shown(call, &acc).and_then(|a| a.state.lock().extra.get(at).cloned());
    value.map_or(Value::Null, Value::Str)
}

fn set_extra(call: &mut VarCall<'_, '_>, _how: Assign, value: Value) -> Result<(), String> {
    let acc = call.state::<Acc>().ok_or("acc is not loaded")?;
    let at = field(acc.params.extra.position(call.access.name), call.access.name)?;
    let account = acc.account(call.cx, call.ctx).ok_or("there is no request here")?.shown();
    let mut state = account.state.lock();
    state.extra.set(at, value.into_bytes());
    if let Some(id) = state.dialog {
        let copy = state.clone();
        drop(state);
        acc.keep_extra(call.cx, id, &copy);
    }
    Ok(())
}

fn get_leg(call: &mut VarCall<'_, '_>) -> Value {
    let Some(acc) = call.state::<Acc>() else { return Value::Null };
    let Some(at) = acc.params.legs.position(call.access.name) else { return Value::Null };
    let Some(account) = shown(call, &acc) else { return Value::Null };
    let state = account.state.lock();
    let leg = match index(call.access.index) {
        Ok(Some(n)) => state.legs.get(n),
        Ok(None) => state.legs.last(),
        Err(_) => None,
    };
    leg.and_then(|leg| leg.get(at).cloned()).map_or(Value::Null, Value::Str)
}

fn set_leg(call: &mut VarCall<'_, '_>, _how: Assign, value: Value) -> Result<(), String> {
    let acc = call.state::<Acc>().ok_or("acc is not loaded")?;
    let at = field(acc.params.legs.position(call.access.name), call.access.name)?;
    let number = index(call.access.index)?;
    let account = acc.account(call.cx, call.ctx).ok_or("there is no request here")?.shown();
    let mut state = account.state.lock();
    let legs = state.legs.len();
    let Some(leg) = state.leg_mut(number) else {
        return Err(format!("there is no leg {}: there are {legs}", number.unwrap_or_default()));
    };
    leg.set(at, value.into_bytes());
    drop(state);
    acc.keep_legs(call.cx, &account);
    Ok(())
}

/// The leg that an index names; `None`: the current one.
fn index(index: Index) -> Result<Option<usize>, String> {
    match index {
        Index::None => Ok(None),
        Index::At(n) => {
            let n = usize::try_from(n).map_err(|_| "legs are counted from 0".to_owned())?;
            Ok(Some(n))
        }
        Index::All | Index::Append => Err("a leg is named by its number".into()),
    }
}

fn field(at: Option<usize>, name: &[u8]) -> Result<usize, String> {
    let unknown = || format!("no field `{}` is declared", String::from_utf8_lossy(name));
    at.ok_or_else(unknown)
}

/// The account whose fields the script sees.
fn shown(call: &mut VarCall<'_, '_>, acc: &Acc) -> Option<Arc<Account>> {
    acc.known_account(call.cx, call.ctx).map(|account| account.shown())
}
