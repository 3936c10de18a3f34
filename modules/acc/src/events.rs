//! Records as events.

use bytes::Bytes;
use tandem_engine::module::{Cx, EventDef};
use tandem_script::value::Value;

use crate::cdr::Cdr;
use crate::fields::{Fields, Values};
use crate::marks::Backend;
use crate::record::{Kind, Record};

const E_CDR: &str = "E_ACC_CDR";
const E_EVENT: &str = "E_ACC_EVENT";
const E_MISSED: &str = "E_ACC_MISSED_EVENT";

/// The events of the module; the declared fields follow `time`.
pub(crate) const EVENTS: &[EventDef] = &[
    EventDef {
        name: E_CDR,
        params: &[
            "method",
            "from_tag",
            "to_tag",
            "callid",
            "sip_code",
            "sip_reason",
            "time",
            "duration",
            "ms_duration",
            "setuptime",
            "created",
        ],
        help: "A call with the flag cdr has ended; the extra and leg fields follow time.",
    },
    EventDef {
        name: E_EVENT,
        params: &["method", "from_tag", "to_tag", "callid", "sip_code", "sip_reason", "time"],
        help: "A transaction was accounted; the extra and leg fields follow.",
    },
    EventDef {
        name: E_MISSED,
        params: &[
            "method",
            "from_tag",
            "to_tag",
            "callid",
            "sip_code",
            "sip_reason",
            "time",
            "created",
            "setuptime",
        ],
        help: "Nobody answered a call with the flag missed; the extra and leg fields follow time.",
    },
];

type Params = Vec<(Bytes, Value)>;
type More<'a> = ((&'a Fields, &'a Values), (&'a Fields, &'a [Values]));

/// Tells of a record.
pub(crate) fn raise_record(cx: &mut Cx<'_>, kind: Kind, record: &Record, more: More<'_>) {
    let event = if kind == Kind::Missed { E_MISSED } else { E_EVENT };
    if !cx.is_wanted(event) {
        return;
    }
    for mut params in each_leg(record, more) {
        if kind == Kind::Missed {
            let began = record.began_s();
            params.push(number("created", began));
            params.push(number("setuptime", record.time_s().saturating_sub(began)));
        }
        cx.raise_named(event, params);
    }
}

/// Tells of a call that has ended.
pub(crate) fn raise_cdr(cx: &mut Cx<'_>, cdr: &Cdr, fields: &Fields, legs: &Fields) {
    if !cx.is_wanted(E_CDR) {
        return;
    }
    for mut params in each_leg(&cdr.core, ((fields, &cdr.extra), (legs, &cdr.legs))) {
        params.push(number("duration", cdr.duration_s()));
        params.push(number("ms_duration", cdr.duration_ms()));
        params.push(number("setuptime", cdr.setup_s()));
        params.push(number("created", cdr.created_s()));
        cx.raise_named(E_CDR, params);
    }
}

fn core(record: &Record) -> Params {
    let text = |name: &'static str, value: &Bytes| {
        (Bytes::from_static(name.as_bytes()), Value::Str(value.clone()))
    };
    vec![
        text("method", &record.method),
        text("from_tag", &record.from_tag),
        text("to_tag", &record.to_tag),
        text("callid", &record.call_id),
        text("sip_code", &record.code),
        text("sip_reason", &record.reason),
        number("time", record.time_s()),
    ]
}

fn number(name: &'static str, value: u64) -> (Bytes, Value) {
    let value = match i32::try_from(value) {
        Ok(value) => Value::Int(value),
        Err(_) => Value::str(value.to_string()),
    };
    (Bytes::from_static(name.as_bytes()), value)
}

/// An event for each leg, like the rows of a table, so that a name is there once; one at least.
fn each_leg(record: &Record, ((fields, values), (legs, all)): More<'_>) -> Vec<Params> {
    let mut params = core(record);
    add(&mut params, fields, values);
    let none = [Values::default()];
    let shows_legs = !all.is_empty() && !legs.of(Backend::Evi).is_empty();
    let of_leg = |leg: &Values| {
        let mut params = params.clone();
        add(&mut params, legs, leg);
        params
    };
    let all = if shows_legs { all } else { &none };
    all.iter().map(of_leg).collect()
}

fn add(params: &mut Params, fields: &Fields, values: &Values) {
    for (at, name) in fields.of(Backend::Evi) {
        let value = values.get(*at).cloned().unwrap_or_default();
        params.push((Bytes::copy_from_slice(name.as_bytes()), Value::Str(value)));
    }
}
