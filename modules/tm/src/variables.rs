//! Script variables.

use bytes::Bytes;
use tandem_engine::module::{VarCall, VariableDef};
use tandem_engine::table::variable;
use tandem_script::host::Assign;
use tandem_script::sig::VariableSig;
use tandem_script::value::Value;
use tandem_transaction::Timers;

use crate::branches;
use crate::functions::status;
use crate::record::{Role, Section};
use crate::tm::Tm;

type Set = fn(&mut VarCall<'_, '_>, Assign, Value) -> Result<(), String>;

const fn writable(mut def: VariableDef, set: Set) -> VariableDef {
    def.sig = VariableSig { writable: true, ..def.sig };
    def.set = Some(set);
    def
}

const fn named(mut def: VariableDef) -> VariableDef {
    def.sig = VariableSig { takes_name: true, ..def.sig };
    def
}

const fn indexed(mut def: VariableDef) -> VariableDef {
    def.sig = VariableSig { takes_index: true, ..def.sig };
    def
}

pub(crate) const VARIABLES: &[VariableDef] = &[
    variable(
        "T_branch_idx",
        "Index of the branch, from 0; of the winner in a failure route.",
        |c| {
            let branch = section(c).and_then(|s| s.branch);
            branch.map_or(Value::Null, |b| Value::Int(i32::from(b.0)))
        },
    ),
    variable("T_reply_code", "The last code sent, this reply's, or the winner's.", |c| {
        Value::Int(i32::from(status(section(c), c.ctx.msg.status())))
    }),
    variable("T_ruri", "R-URI of the branch.", ruri),
    writable(
        variable("T_fr_timeout", "fr_timeout of this transaction, in seconds.", |c| {
            timeout(c, Which::Fr)
        }),
        |c, _, value| set_timeout(c, &value, Which::Fr),
    ),
    writable(
        variable("T_fr_inv_timeout", "fr_inv_timeout of this transaction, in seconds.", |c| {
            timeout(c, Which::FrInv)
        }),
        |c, _, value| set_timeout(c, &value, Which::FrInv),
    ),
    variable("T_id", "Identifier of the transaction.", |c| {
        let tx = section(c).and_then(|s| s.tx.as_ref());
        tx.map_or(Value::Null, |tx| Value::str(tx.id.text()))
    }),
    writable(
        named(indexed(variable("bavp", "Values of the branch.", branches::bavp))),
        branches::set_bavp,
    ),
    indexed(variable(
        "T_branch_last_reply_code",
        "The last code of a branch, our own results included.",
        branches::last_code,
    )),
    indexed(variable("tm.branch.uri", "R-URI of a branch.", branches::uri)),
    indexed(variable("tm.branch.duri", "Next hop of a branch.", branches::dst_uri)),
    indexed(variable("tm.branch.path", "Path of a branch.", branches::path)),
    indexed(variable("tm.branch.q", "q of a branch, times 1000.", branches::q)),
    indexed(variable("tm.branch.flags", "Names of a branch's flags.", branches::flags)),
    indexed(variable("tm.branch.socket", "Socket that a branch leaves from.", branches::socket)),
    writable(
        named(indexed(variable("tm.branch.flag", "A flag of a branch, 0 or 1.", branches::flag))),
        branches::set_flag,
    ),
    writable(
        named(indexed(variable("tm.branch.attr", "An attribute of a branch.", branches::attr))),
        branches::set_attr,
    ),
    indexed(variable(
        "tm.branch.last_received",
        "The last code that the network gave for a branch.",
        branches::last_received,
    )),
    indexed(variable("tm.branch.type", "normal, or phony: it only waits.", branches::kind)),
];

fn section<'a>(call: &'a VarCall<'_, '_>) -> Option<&'a Section> {
    call.ctx.section::<Section>(call.cx.slot)
}

fn ruri(call: &mut VarCall<'_, '_>) -> Value {
    let of_leg = section(call).filter(|s| matches!(s.role, Role::Reply | Role::Failure)).and_then(
        |section| {
            let cell = section.tx.as_ref()?.cell.lock();
            cell.record.leg(section.branch?)?.target.uri.clone()
        },
    );
    let uri = of_leg.unwrap_or_else(|| Bytes::copy_from_slice(call.ctx.request_uri()));
    if uri.is_empty() { Value::Null } else { Value::Str(uri) }
}

#[derive(Clone, Copy)]
enum Which {
    Fr,
    FrInv,
}

fn timeout(call: &mut VarCall<'_, '_>, which: Which) -> Value {
    let of = |timers: &Timers| match which {
        Which::Fr => timers.fr_ms,
        Which::FrInv => timers.fr_inv_ms,
    };
    let section = section(call);
    let set = match section.and_then(|s| s.tx.as_ref()) {
        Some(tx) => Some(of(tx.cell.lock().record.machine.timers())),
        None => section.and_then(|s| match which {
            Which::Fr => s.fr_ms,
            Which::FrInv => s.fr_inv_ms,
        }),
    };
    let default = || call.state::<Tm>().map(|tm| of(&tm.params.timers));
    set.or_else(default).map_or(Value::Null, |ms| Value::Int((ms / 1_000) as i32))
}

fn set_timeout(call: &mut VarCall<'_, '_>, value: &Value, which: Which) -> Result<(), String> {
    let seconds = value.int().and_then(|s| u32::try_from(s).ok()).filter(|s| *s > 0);
    let ms =
        seconds.and_then(|s| s.checked_mul(1_000)).ok_or("a timeout is at least one second")?;
    let section = call.ctx.section_mut::<Section>(call.cx.slot);
    match (&section.tx, which) {
        (None, Which::Fr) => section.fr_ms = Some(ms),
        (None, Which::FrInv) => section.fr_inv_ms = Some(ms),
        (Some(tx), _) => {
            let (fr_ms, fr_inv_ms) = match which {
                Which::Fr => (Some(ms), None),
                Which::FrInv => (None, Some(ms)),
            };
            tx.cell.lock().record.machine.set_timeouts(fr_ms, fr_inv_ms);
        }
    }
    Ok(())
}
