//! Probabilities and random choices.

use std::sync::atomic::Ordering;

use tandem_engine::log::Level;
use tandem_engine::module::{Call, FunctionDef, VariableDef};
use tandem_engine::table::{arg, function, optional, variable};
use tandem_script::host::Called;
use tandem_script::sig::{ArgKind, ArgSig, Routes};
use tandem_script::value::Value;

use crate::{CfgUtils, FAILED, OK, ROUTES};

const PERCENT: &[ArgSig] = &[arg("p", ArgKind::Int)];
const MAYBE: &[ArgSig] = &[optional("p", ArgKind::Int)];
const COUNT: &[ArgSig] = &[arg("var", ArgKind::Var), arg("ret", ArgKind::Var)];
const LIST: &[ArgSig] = &[arg("list", ArgKind::Var)];
const AVP: &[ArgSig] = &[arg("avp", ArgKind::Var)];

pub(crate) const FUNCTIONS: &[FunctionDef] = &[
    function("rand_set_prob", PERCENT, ROUTES, "Sets the probability in percent.", |call| {
        let percent = call.int(0).unwrap_or(-1);
        match call.state::<CfgUtils>() {
            Some(state) if state.set_percent(percent) => OK,
            _ => call.complain(Level::Error, "a probability goes from 0 to 100"),
        }
    }),
    function("rand_reset_prob", &[], ROUTES, "Restores initial_probability.", |call| {
        let Some(state) = call.state::<CfgUtils>() else { return FAILED };
        state.percent.store(state.initial_percent, Ordering::Relaxed);
        OK
    }),
    function("rand_get_prob", &[], ROUTES, "The probability in percent, as $rc.", |call| {
        let Some(state) = call.state::<CfgUtils>() else { return FAILED };
        Called::Returned(state.percent.load(Ordering::Relaxed))
    }),
    function("rand_event", MAYBE, ROUTES, "True with the probability.", |call| {
        let Some(state) = call.state::<CfgUtils>() else { return FAILED };
        let percent = call.int(0).unwrap_or_else(|| state.percent.load(Ordering::Relaxed));
        let happens = i64::from(call.cx.worker.chance.below(100)) < i64::from(percent);
        if happens { OK } else { FAILED }
    }),
    function("set_count", COUNT, ROUTES, "How many values a list has.", |call| {
        let n = i32::try_from(call.list(0).len()).unwrap_or(i32::MAX);
        match call.set_var(1, Value::Int(n)) {
            Ok(()) => OK,
            Err(why) => call.complain(Level::Error, why),
        }
    }),
    function(
        "set_select_weight",
        LIST,
        ROUTES,
        "Chooses one of a list of weights by chance: its place from 1, as $rc.",
        select_weight,
    ),
    function("shuffle_avps", AVP, Routes::ANY, "Brings a list into a random order.", shuffle),
];

pub(crate) const VARIABLES: &[VariableDef] =
    &[variable("RANDOM", "A random number from 0 to 2147483647.", |call| {
        Value::Int((call.cx.worker.chance.u32() >> 1) as i32)
    })];

impl CfgUtils {
    pub(crate) fn set_percent(&self, percent: i32) -> bool {
        let good = (0..=100).contains(&percent);
        if good {
            self.percent.store(percent, Ordering::Relaxed);
        }
        good
    }
}

fn select_weight(call: &mut Call<'_, '_, '_>) -> Called {
    let list = call.list(0);
    let weights = list.iter().map(|v| u32::try_from(v.int().unwrap_or(0)).unwrap_or(0));
    let weights: Vec<u32> = weights.collect();
    let total: u64 = weights.iter().map(|w| u64::from(*w)).sum();
    let Ok(total @ 1..) = u32::try_from(total) else {
        return call.complain(Level::Error, "the list has no weights");
    };
    let mut left = call.cx.worker.chance.below(total);
    for (at, weight) in weights.iter().enumerate() {
        if left < *weight {
            return Called::Returned(i32::try_from(at + 1).unwrap_or(i32::MAX));
        }
        left -= weight;
    }
    FAILED
}

fn shuffle(call: &mut Call<'_, '_, '_>) -> Called {
    let mut values = call.list(0);
    if values.is_empty() {
        return FAILED;
    }
    for last in (1..values.len()).rev() {
        let other = call.cx.worker.chance.below(last as u32 + 1) as usize;
        values.swap(last, other);
    }
    // Null takes the newest value away; a value becomes the newest.
    let cleared = (0..values.len()).try_for_each(|_| call.set_var(0, Value::Null));
    let mut values = values.into_iter();
    match cleared.and_then(|()| values.try_for_each(|v| call.set_var(0, v))) {
        Ok(()) => OK,
        Err(why) => call.complain(Level::Error, why),
    }
}
