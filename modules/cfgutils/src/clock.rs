//! The time, and the environment of the process.

use tandem_engine::date;
use tandem_engine::log::Level;
use tandem_engine::module::{Call, FunctionDef, VariableDef};
use tandem_engine::table::{arg, function, optional, variable};
use tandem_script::host::Called;
use tandem_script::sig::{ArgKind, ArgSig};
use tandem_script::value::Value;

use crate::{FAILED, OK, ROUTES};

const TIME: &[ArgSig] =
    &[arg("sec", ArgKind::Var), arg("usec", ArgKind::Var), optional("str", ArgKind::Var)];
const DELTA: &[ArgSig] = &[
    arg("s1", ArgKind::Int),
    arg("u1", ArgKind::Int),
    arg("s2", ArgKind::Int),
    arg("u2", ArgKind::Int),
    optional("str", ArgKind::Var),
    optional("int", ArgKind::Var),
];

pub(crate) const FUNCTIONS: &[FunctionDef] = &[
    function(
        "get_accurate_time",
        TIME,
        ROUTES,
        "The time in s and µs, and both as one text.",
        |call| {
            let (s, us) = (call.cx.now.unix_s(), call.cx.now.unix_ms % 1000 * 1000);
            let text = Value::str(format!("{s}.{us:06}"));
            write(call, &[(0, Value::Int(s as i32)), (1, Value::Int(us as i32)), (2, text)])
        },
    ),
    function("ts_usec_delta", DELTA, ROUTES, "The µs between two times.", |call| {
        let part = |at: usize| i64::from(call.int(at).unwrap_or(0));
        let delta = ((part(0) - part(2)) * 1_000_000 + part(1) - part(3)).abs();
        let text = Value::str(delta.to_string());
        match i32::try_from(delta) {
            Ok(n) => write(call, &[(4, text), (5, Value::Int(n))]),
            // The text still holds what the number cannot.
            Err(_) => match write(call, &[(4, text)]) {
                Called::Returned(1) if !call.given_var(5) => OK,
                _ => FAILED,
            },
        }
    }),
];

const fn named(mut def: VariableDef) -> VariableDef {
    def.sig.takes_name = true;
    def
}

pub(crate) const VARIABLES: &[VariableDef] = &[
    named(variable("ctime", "A part of the time: sec, min, hour, mday, mon, year, ..", |call| {
        let t = date::fields(call.cx.wall_s());
        let part = match call.access.name {
            b"sec" => t.sec,
            b"min" => t.min,
            b"hour" => t.hour,
            b"mday" => t.mday,
            b"mon" => t.mon,
            b"year" => t.year,
            b"wday" => t.wday,
            b"yday" => t.yday,
            b"isdst" => 0,
            _ => return Value::Null,
        };
        Value::Int(part as i32)
    })),
    named(variable("env", "A variable of the environment.", |call| {
        use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
        let name = std::ffi::OsStr::from_bytes(call.access.name);
        // The C library takes no name with `=` or NUL; asking for one must not panic.
        if call.access.name.is_empty() || call.access.name.iter().any(|b| matches!(b, b'=' | 0)) {
            return Value::Null;
        }
        std::env::var_os(name).map_or(Value::Null, |v| Value::str(v.into_vec()))
    })),
];

fn write(call: &mut Call<'_, '_, '_>, values: &[(usize, Value)]) -> Called {
    for (at, value) in values {
        if let Err(why) = call.set_var(*at, value.clone()) {
            return call.complain(Level::Error, why);
        }
    }
    OK
}
