//! Functions that route: do_routing(), route_to_carrier(), route_to_gw(), use_next_gw(),
//! dr_match() and dr_disable().

use std::sync::Arc;

use tandem_db::{Cond, DbError, Query, Rows, Select};
use tandem_engine::log::Level;
use tandem_engine::module::{Call, Cx};
use tandem_script::host::Called;
use tandem_script::sig::Routes;
use tandem_script::value::Value;
use tandem_sip::Uri;
use tandem_targets::Becomes;

use crate::destinations::{Choice, Sort, Target};
use crate::params::DEFAULT;
use crate::rules::{Place, Rule};
use crate::state::Drouting;
use crate::status::{DISABLED, Kind};
use crate::table::{Hop, Partition, Table, Whitelist};
use crate::tries::{self, Plan};

pub(crate) const YES: Called = Called::Returned(1);
pub(crate) const NO: Called = Called::Returned(-1);
/// A rule fits, and none of its destinations can be used.
const NO_DESTINATION: Called = Called::Returned(-2);

/// Flags of do_routing() and dr_match().
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    /// F: use_next_gw() goes on with the next rule.
    pub(crate) falls_back: bool,
    /// L: the prefix is the whole number.
    pub(crate) whole: bool,
    /// C: nothing is changed.
    pub(crate) checks: bool,
}

impl Flags {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut flags = Self::default();
        for letter in text.chars().filter(|c| !c.is_whitespace() && *c != ',') {
            match letter {
                'F' => flags.falls_back = true,
                'L' => flags.whole = true,
                'C' => flags.checks = true,
                other => return Err(format!("`{other}` is none of the flags F, L and C")),
            }
        }
        Ok(flags)
    }
}

/// Judges literal flags.
pub(crate) fn check_flags(text: &str) -> Result<(), String> {
    Flags::parse(text).map(|_| ())
}

/// The group that the database gave for a caller.
#[derive(Default)]
struct Answered(Option<Option<u32>>);

/// What a run waits for.
struct Asks;

pub(crate) fn text(call: &Call<'_, '_, '_>, index: usize) -> String {
    String::from_utf8_lossy(&call.text(index)).into_owned()
}

/// The partition that an argument names.
pub(crate) fn partition(
    call: &mut Call<'_, '_, '_>,
    state: &Drouting,
    index: usize,
) -> Result<Arc<Partition>, Called> {
    let name = if call.given(index) { text(call, index) } else { DEFAULT.to_owned() };
    match state.part(name.trim()) {
        Some(part) => Ok(part),
        None if !call.given(index) && state.uses_partitions() => {
            Err(call.complain(Level::Error, "use_partitions is set: name a partition"))
        }
        None => Err(call.complain(Level::Error, format!("there is no partition `{name}`"))),
    }
}

/// Writes an output argument.
pub(crate) fn output(call: &mut Call<'_, '_, '_>, index: usize, value: &str) {
    let value = Value::str(value.as_bytes().to_vec());
    if let Err(why) = call.set_var(index, value) {
        call.complain(Level::Error, why);
    }
}

fn user_of(uri: &[u8]) -> Option<String> {
    let user = Uri::parse(uri).ok()?.user?;
    Some(String::from_utf8_lossy(user).into_owned())
}

/// What one call of do_routing() routes by.
struct Search<'a> {
    state: &'a Drouting,
    part: &'a Partition,
    table: &'a Table,
    plan: Plan,
    outputs: Outputs,
}

/// Places of the output arguments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outputs {
    pub(crate) rule: usize,
    pub(crate) gateway: usize,
    pub(crate) carrier: usize,
}

pub(crate) fn do_routing(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<Drouting>() else { return NO };
    let part = match partition(call, &state, 6) {
        Ok(part) => part,
        Err(called) => return called,
    };
    let flags = match Flags::parse(&text(call, 1)) {
        Ok(flags) => flags,
        Err(why) => return call.complain(Level::Error, why),
    };
    let group = match call.int(0).filter(|_| call.given(0)) {
        Some(group) => u32::try_from(group).ok(),
        None => match group_of_caller(call, &state, &part) {
            Ok(group) => group,
            Err(called) => return called,
        },
    };
    let Some(group) = group else {
        return call.complain(Level::Debug, "the caller is in no group, and there is no default");
    };
    let ruri = String::from_utf8_lossy(call.ctx.request_uri()).into_owned();
    let Some(number) = user_of(ruri.as_bytes()) else {
        return call.complain(Level::Error, format!("{ruri:?} has no user part to route by"));
    };
    let whitelist = call.given(2).then(|| list(&text(call, 2)));
    let table = part.table();
    let outputs = Outputs { rule: 3, gateway: 4, carrier: 5 };
    let plan = Plan { group, flags, number, ruri, whitelist };
    let search = Search { state: &state, part: &part, table: &table, plan, outputs };
    search.run(call, None)
}

/// A list separated by commas.
fn list(text: &str) -> Vec<String> {
    let items = text.split([',', ';']).map(|item| item.trim().to_owned());
    items.filter(|item| !item.is_empty()).collect()
}

impl Search<'_> {
    /// Takes the first rule that fits, behind a place if one is given; with F the next ones, too.
    fn run(&self, call: &mut Call<'_, '_, '_>, mut after: Option<Place>) -> Called {
        let Plan { group, flags, number, .. } = &self.plan;
        let at = call.cx.moment();
        let mut nothing = NO;
        loop {
            let rules = &self.table.rules;
            let found = rules.find(number.as_bytes(), *group, at, flags.whole, after);
            let Some(found) = found else { return nothing };
            let Some(rule) = rules.rule(found.rule) else { return NO };
            if flags.checks {
                output(call, self.outputs.rule, rule.attrs);
                return YES;
            }
            if let Err(called) = self.run_route(call, &rule) {
                return called;
            }
            let (whitelist, both) = (&self.plan.whitelist, (self.part, self.table));
            let hops = self.table.expand((rule.list, rule.sort), whitelist, |list, sort| {
                self.state.order(call.cx, both, Some(&rule), list, sort)
            });
            if !hops.is_empty() {
                return self.take(call, &rule, found.place, &hops);
            }
            nothing = NO_DESTINATION;
            if !flags.falls_back {
                return nothing;
            }
            after = Some(found.place);
        }
    }

    /// Runs the route of a rule; `drop` in it makes the routing fail.
    fn run_route(&self, call: &mut Call<'_, '_, '_>, rule: &Rule<'_>) -> Result<(), Called> {
        let Some(name) = rule.route else { return Ok(()) };
        let Some(route) = call.cx.named_route(name) else {
            let why = format!("rule {}: the script has no route `{name}`", rule.id);
            return Err(call.complain(Level::Error, why));
        };
        let (end, _) = call.run_nested(route, &[]);
        if end.dropped || end.failed { Err(NO) } else { Ok(()) }
    }

    fn take(
        &self,
        call: &mut Call<'_, '_, '_>,
        rule: &Rule<'_>,
        place: Place,
        hops: &[Hop],
    ) -> Called {
        let (avps, plan) = (&self.part.avps, &self.plan);
        let state = plan.flags.falls_back.then(|| tries::save(plan, place));
        let id = rule.id.to_string();
        let prefix = plan.number.get(..place.depth).unwrap_or_default();
        if let Err(why) = tries::put(call.ctx, avps, self.table, &plan.ruri, hops)
            .and_then(|()| tries::put_rule(call.ctx, avps, (&id, rule.attrs), prefix, state))
        {
            return call.complain(Level::Error, why);
        }
        let (both, first) = ((self.part, self.table), hops.first().copied());
        self.state.tell_quality(call.cx, call.ctx, both, Some(rule), first);
        output(call, self.outputs.rule, rule.attrs);
        tell_attrs(call, self.table, first, self.outputs);
        YES
    }
}

/// Writes the attributes of a destination.
fn tell_attrs(call: &mut Call<'_, '_, '_>, table: &Table, hop: Option<Hop>, outputs: Outputs) {
    let gateway = hop.and_then(|hop| table.gateway(hop.gateway));
    let carrier = hop.and_then(|hop| table.of.carriers.get(hop.carrier? as usize));
    output(call, outputs.gateway, gateway.map_or("", |g| &g.attrs));
    output(call, outputs.carrier, carrier.map_or("", |c| &c.attrs));
}

/// The group of the caller, which the database knows; `Err`: the run waits for it.
fn group_of_caller(
    call: &mut Call<'_, '_, '_>,
    state: &Drouting,
    part: &Partition,
) -> Result<Option<u32>, Called> {
    let slot = call.cx.slot;
    if let Some(answer) = call.ctx.section_mut::<Answered>(slot).0.take() {
        return Ok(answer.or(state.params.callers.default));
    }
    let from = call.ctx.msg.from().ok().map(|from| from.uri.to_vec());
    let uri = from.as_deref().and_then(|uri| Uri::parse(uri).ok());
    let Some(user) = uri.as_ref().and_then(|uri| uri.user) else {
        return Ok(state.params.callers.default);
    };
    let callers = &state.params.callers;
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut conds = vec![Cond::eq(callers.user.clone(), lossy(user))];
    if let (Some(column), Some(uri)) = (&callers.domain, &uri) {
        conds.push(Cond::eq(column.clone(), lossy(uri.host).to_ascii_lowercase()));
    }
    let select = Select {
        table: part.names.groups.clone().into(),
        columns: vec![callers.group.clone().into()],
        conds,
        limit: Some(1),
        ..Select::default()
    };
    Err(call.ask(part.database, Query::Select(select), Asks))
}

/// The database said in which group a caller is.
pub(crate) fn group_answered(
    state: &Drouting,
    cx: &mut Cx<'_>,
    run: u64,
    result: Result<Rows, DbError>,
) {
    if cx.asked::<Asks>(run).is_none() {
        return;
    }
    let group = match result {
        Ok(rows) => {
            let value = rows.rows.first().and_then(|row| row.first()?.as_int());
            value.and_then(|group| u32::try_from(group).ok())
        }
        Err(error) => {
            let text = format!("drouting: the group of a caller is not known: {error}");
            cx.log(Level::Error, text);
            None
        }
    };
    let slot = state.slot;
    cx.with_suspended(run, |ctx| ctx.section_mut::<Answered>(slot).0 = Some(group));
    cx.call_again(run);
}

pub(crate) fn route_to_carrier(call: &mut Call<'_, '_, '_>) -> Called {
    to_named(call, Kind::Carrier)
}

pub(crate) fn route_to_gw(call: &mut Call<'_, '_, '_>) -> Called {
    to_named(call, Kind::Gateway)
}

/// Routes to gateways or carriers by their ids, without a rule.
fn to_named(call: &mut Call<'_, '_, '_>, kind: Kind) -> Called {
    let Some(state) = call.state::<Drouting>() else { return NO };
    let part = match partition(call, &state, 3) {
        Ok(part) => part,
        Err(called) => return called,
    };
    let table = part.table();
    let mut choices = Vec::new();
    for name in list(&text(call, 0)) {
        let target = match kind {
            Kind::Carrier => {
                let id = name.strip_prefix('#').unwrap_or(&name);
                table.of.carrier(id).map(|(at, _)| Target::Carrier(at))
            }
            Kind::Gateway => table.of.gateway(&name).map(|(at, _)| Target::Gateway(at)),
        };
        match target {
            Some(target) => choices.push(Choice { target, weight: 0 }),
            None => {
                call.complain(
                    Level::Warning,
                    format!("`{name}` is no id of partition {}", part.name),
                );
            }
        }
    }
    let hops = table.expand((&choices, Sort::AsWritten), &None, |list, sort| {
        state.order(call.cx, (&part, &table), None, list, sort)
    });
    let ruri = String::from_utf8_lossy(call.ctx.request_uri()).into_owned();
    if hops.is_empty() {
        return NO;
    }
    if let Err(why) = tries::put(call.ctx, &part.avps, &table, &ruri, &hops) {
        return call.complain(Level::Error, why);
    }
    state.tell_quality(call.cx, call.ctx, (&part, &table), None, None);
    let outputs = Outputs { rule: usize::MAX, gateway: 1, carrier: 2 };
    tell_attrs(call, &table, hops.first().copied(), outputs);
    YES
}

pub(crate) fn use_next_gw(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<Drouting>() else { return NO };
    let part = match partition(call, &state, 3) {
        Ok(part) => part,
        Err(called) => return called,
    };
    let (table, outputs) = (part.table(), Outputs { rule: 0, gateway: 1, carrier: 2 });
    if let Some(hop) = tries::next(call.ctx, &part.avps, &table) {
        state.tell_quality_next(call.cx, call.ctx, &table, hop);
        if let Some(attrs) = tries::rule_attrs(call.ctx, &part.avps) {
            output(call, outputs.rule, &attrs);
        }
        tell_attrs(call, &table, hop, outputs);
        return YES;
    }
    let Some((plan, place)) = tries::restore(call.ctx, &part.avps) else { return NO };
    let search = Search { state: &state, part: &part, table: &table, plan, outputs };
    match search.run(call, Some(place)) {
        YES => YES,
        _ => NO,
    }
}

pub(crate) fn dr_match(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<Drouting>() else { return NO };
    let part = match partition(call, &state, 4) {
        Ok(part) => part,
        Err(called) => return called,
    };
    let flags = match Flags::parse(&text(call, 1)) {
        Ok(flags) => Flags { checks: true, ..flags },
        Err(why) => return call.complain(Level::Error, why),
    };
    let Some(group) = call.int(0).and_then(|group| u32::try_from(group).ok()) else { return NO };
    let (number, ruri, whitelist) = (text(call, 2), String::new(), Whitelist::None);
    let table = part.table();
    let outputs = Outputs { rule: 3, gateway: usize::MAX, carrier: usize::MAX };
    let plan = Plan { group, flags, number, ruri, whitelist };
    Search { state: &state, part: &part, table: &table, plan, outputs }.run(call, None)
}

pub(crate) fn dr_disable(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<Drouting>() else { return NO };
    let part = match partition(call, &state, 0) {
        Ok(part) => part,
        Err(called) => return called,
    };
    let Some(id) = tries::current(call.ctx, &part.avps) else {
        return call.complain(Level::Error, "no gateway was used for this request");
    };
    if part.table().of.gateway(&id).is_none() {
        return call.complain(Level::Error, format!("there is no gateway `{id}` any more"));
    }
    let why = "dr_disable() in the script";
    // What an operator holds stays so: a call that was there before must not let probes open it.
    state.change(call.cx, &part, (Kind::Gateway, &id), Becomes::With(DISABLED), why);
    YES
}

/// Where use_next_gw() may stand.
pub(crate) const NEXT_ROUTES: Routes =
    Routes::REQUEST.or(Routes::FAILURE).or(Routes::BRANCH).or(Routes::LOCAL);
