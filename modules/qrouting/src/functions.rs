//! What a script calls.

use tandem_engine::log::Level;
use tandem_engine::module::{Call, FunctionDef};
use tandem_engine::table::{arg, function, optional};
use tandem_script::host::Called;
use tandem_script::sig::{ArgKind, ArgSig, Routes};

use crate::history::Tally;
use crate::order::now_s;
use crate::state::Qrouting;
use crate::table::RuleKey;

const YES: Called = Called::Returned(1);
const NO: Called = Called::Returned(-1);
/// The partition of a node without partitions.
pub(crate) const DEFAULT: &str = "Default";

const RULE: ArgSig = arg("rule_id", ArgKind::Int);
const PARTITION: ArgSig = optional("partition", ArgKind::Str);

/// The functions of the module.
pub(crate) const FUNCTIONS: &[FunctionDef] = &[
    function(
        "qr_set_xstat",
        &[
            RULE,
            arg("gw", ArgKind::Str),
            arg("stat", ArgKind::Str),
            arg("inc", ArgKind::Str),
            PARTITION,
            optional("inc_total", ArgKind::Int),
        ],
        Routes::ANY,
        "Adds to an extra statistic of a gateway in a rule: a value, and the number of samples (1).",
        set_extra,
    ),
    function(
        "qr_disable_dst",
        &[RULE, arg("dst", ArgKind::Str), PARTITION],
        Routes::ANY,
        "Takes a gateway or carrier out of one rule.",
        |call| switch(call, true),
    ),
    function(
        "qr_enable_dst",
        &[RULE, arg("dst", ArgKind::Str), PARTITION],
        Routes::ANY,
        "Puts it in again.",
        |call| switch(call, false),
    ),
];

fn text(call: &Call<'_, '_, '_>, at: usize) -> String {
    String::from_utf8_lossy(&call.text(at)).into_owned()
}

/// The rule of a call; `part`: place of the argument with the partition.
fn key(call: &Call<'_, '_, '_>, part: usize) -> RuleKey {
    let partition = Some(text(call, part)).filter(|name| call.given(part) && !name.is_empty());
    let partition = partition.unwrap_or_else(|| DEFAULT.to_owned()).into();
    RuleKey { partition, id: call.int(0).unwrap_or(0).into() }
}

fn set_extra(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<Qrouting>() else { return NO };
    let (key, gateway, stat) = (key(call, 4), text(call, 1), text(call, 2));
    let extra = state.params.stats.iter().enumerate().skip(crate::history::Stat::ALL.len());
    let Some((at, _)) = extra.into_iter().find(|(_, kept)| kept.name == stat) else {
        return call.complain(Level::Error, format!("`{stat}` is not in extra_stats"));
    };
    let inc = text(call, 3);
    let Some(sum) = inc.trim().parse().ok().filter(|sum: &f64| sum.is_finite()) else {
        return call.complain(Level::Error, format!("`{inc}` is no number"));
    };
    let samples = if call.given(5) { call.int(5).unwrap_or(1) } else { 1 };
    if samples < 0 {
        return call.complain(Level::Error, "inc_total is negative");
    }
    if state.table.find(&key).is_none()
        && let Err(what) = state.destination(&key, &gateway)
    {
        return call.complain(Level::Error, what);
    }
    let tally = Tally { sum, samples: f64::from(samples) };
    if state.add(now_s(call.cx), &key, &gateway, at, tally) { YES } else { NO }
}

fn switch(call: &mut Call<'_, '_, '_>, off: bool) -> Called {
    let Some(state) = call.state::<Qrouting>() else { return NO };
    let (key, name) = (key(call, 2), text(call, 1));
    match state.switch(&key, &name, off) {
        Ok(()) => YES,
        Err(what) => call.complain(Level::Error, format!("rule {}, `{name}`: {what}", key.id)),
    }
}

impl Qrouting {
    /// Whether a rule has a destination of this name; the error is that of the commands.
    pub(crate) fn destination(&self, key: &RuleKey, name: &str) -> Result<(), &'static str> {
        let routing = self.routing().ok_or("Partition Not Found")?;
        if !routing.partition_names().iter().any(|known| **known == *key.partition) {
            return Err("Partition Not Found");
        }
        let rule = routing.quality_rule(&key.partition, key.id).ok_or("Rule Not Found")?;
        let is_in = rule.destinations.iter().any(|(id, gateways)| {
            let behind = gateways.iter().flatten().any(|gateway| gateway == name);
            id == name || behind
        });
        if is_in { Ok(()) } else { Err("GW/Carrier Not Found") }
    }

    /// Takes a destination out of a rule, or puts it in again.
    pub(crate) fn switch(&self, key: &RuleKey, name: &str, off: bool) -> Result<(), &'static str> {
        self.destination(key, name)?;
        let stats = self.table.of(key).ok_or("Server Internal Error")?;
        let mut stats = stats.lock();
        match off {
            true => stats.disabled.insert(name.to_owned()),
            false => stats.disabled.remove(name),
        };
        Ok(())
    }
}
