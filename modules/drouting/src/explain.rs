//! Why a number goes where it goes: the search of do_routing() again, with a reason for every
//! rule and destination on the way; and what was wrong with the tables.

use serde_json::{Value as Json, json};
use tandem_engine::mi::{MiCall, MiOutcome, MiParam};
use tandem_engine::module::Cx;
use tandem_engine::zone::Moment;

use crate::destinations::{Choice, Gateway, Sort, Target};
use crate::mi::{PARTITION, int, loaded, settled, text};
use crate::quality::{candidate, name_of};
use crate::rules::Rule;
use crate::state::Drouting;
use crate::table::{Partition, Table};
use crate::targets::state_text;
use crate::tries::uri_for;

/// Rules that one answer tells about.
const RULES_MAX: usize = 100;
/// Destinations of one rule that it tells about.
const DESTINATIONS_MAX: usize = 256;

/// What the question of a number lacks.
const NO_GROUP: &str = "There is no default_group: name the group (group_id, or --group of \
                        `tandemctl routes test`)";

const NUMBER: MiParam = text("number");
const GROUP: MiParam = int("group_id");
const TIME: MiParam = text("time");

/// The parameters of `drouting:explain`.
pub(crate) const PARAMS: &[&[MiParam]] = &[
    &[NUMBER],
    &[NUMBER, GROUP],
    &[NUMBER, TIME],
    &[NUMBER, GROUP, TIME],
    &[PARTITION, NUMBER],
    &[PARTITION, NUMBER, GROUP],
    &[PARTITION, NUMBER, TIME],
    &[PARTITION, NUMBER, GROUP, TIME],
];

/// What is asked.
struct Question<'a> {
    state: &'a Drouting,
    part: &'a Partition,
    table: &'a Table,
    number: String,
    group: u32,
    at: Moment,
}

/// `drouting:explain`.
pub(crate) fn explain(call: &mut MiCall<'_, '_>) -> MiOutcome {
    settled(loaded(call).and_then(|(state, part, table)| {
        let number = call.text("number").unwrap_or_default();
        let group = match call.int("group_id") {
            Some(group) => u32::try_from(group).ok(),
            None => state.params.callers.default,
        };
        let Some(group) = group else {
            return Err(MiOutcome::failed(400, NO_GROUP));
        };
        let unix_s = match call.text("time") {
            None => call.cx.now.unix_s(),
            Some(text) => time(&text).ok_or_else(|| {
                MiOutcome::failed(400, "`time` is written 2026-12-24T18:00, or as Unix seconds")
            })?,
        };
        let at = call.cx.node.zone.moment(unix_s);
        let question = Question { state: &state, part: &part, table: &table, number, group, at };
        Ok(MiOutcome::Done(question.answer(call.cx)))
    }))
}

/// Unix seconds, `2026-12-24T18:00[:00]` in UTC, or with `Z` or an offset.
fn time(text: &str) -> Option<u64> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    let second = match text.parse::<jiff::Timestamp>() {
        Ok(at) => at.as_second(),
        Err(_) => {
            let at: jiff::civil::DateTime = text.parse().ok()?;
            jiff::tz::TimeZone::UTC.to_timestamp(at).ok()?.as_second()
        }
    };
    u64::try_from(second).ok()
}

impl Question<'_> {
    fn answer(&self, cx: &mut Cx<'_>) -> Json {
        let number = self.number.as_bytes();
        let (path, other) = self.table.rules.tree.path_and_end(number);
        let (mut rules, mut destinations) = (Vec::new(), Vec::new());
        let (mut first, mut went) = (None, None);
        for (depth, node) in path.iter().enumerate().rev() {
            for entry in self.table.rules.tree.at(*node) {
                let Some(rule) = self.table.rules.rule(entry.rule) else { continue };
                if rules.len() >= RULES_MAX {
                    break;
                }
                let fits = entry.group == self.group && self.table.rules.holds(entry.rule, self.at);
                let (verdict, why) = match (fits, went.is_some()) {
                    (false, _) if entry.group != self.group => {
                        ("passed over", format!("it is of group {}", entry.group))
                    }
                    (false, _) => ("passed over", "its times do not hold then".to_owned()),
                    (true, true) => ("not reached", not_reached(first.is_some())),
                    (true, false) => {
                        first.get_or_insert(rule.id);
                        went = self.destinations(cx, &rule, &mut destinations);
                        self.verdict(&rule, went.is_some(), first == Some(rule.id))
                    }
                };
                let prefix = self.number.get(..depth).unwrap_or_default();
                rules.push(json!({
                    "Prefix": prefix, "Rule": rule.id, "Verdict": verdict, "Why": why,
                    "Attrs": rule.attrs,
                }));
            }
        }
        let mut answer = json!({
            "Number": self.number,
            "Partition": self.part.name,
            "Group": self.group,
            "Time": self.time_text(),
        });
        if let Some(other) = other {
            answer["Note"] = format!(
                "`{other}` is no part of a prefix (extra_prefix_chars): only rules without a \
                 prefix are looked at"
            )
            .into();
        }
        answer["Rules"] = rules.into();
        answer["Destinations"] = destinations.into();
        answer["Result"] = result(first, went).into();
        answer
    }

    fn time_text(&self) -> String {
        let at = i64::try_from(self.at.unix_s).ok();
        let at = at.and_then(|s| jiff::Timestamp::from_second(s).ok());
        at.map_or_else(|| self.at.unix_s.to_string(), |at| at.to_string())
    }

    fn verdict(
        &self,
        rule: &Rule<'_>,
        has_gateway: bool,
        is_first: bool,
    ) -> (&'static str, String) {
        let mut why = match (rule.times.is_some(), is_first) {
            (true, true) => "the longest prefix that fits; its times hold".to_owned(),
            (false, true) => "the longest prefix that fits".to_owned(),
            (_, false) => "follows with the flag F".to_owned(),
        };
        if let Some(route) = rule.route {
            why += &format!("; route[{route}] runs first and may refuse");
        }
        if has_gateway {
            return ("taken", why);
        }
        ("no gateway", "none of its destinations can be used".to_owned())
    }

    /// Tells about the destinations of a rule; gives the URI of the first that can be used, with
    /// its gateway.
    fn destinations(
        &self,
        cx: &mut Cx<'_>,
        rule: &Rule<'_>,
        rows: &mut Vec<Json>,
    ) -> Option<(String, String)> {
        let mut went = None;
        let list = self.order(cx, rule, rule.list, rule.sort);
        for choice in &list {
            let share = self.share(cx, rule, rule.list, rule.sort, choice);
            match choice.target {
                Target::Gateway(at) => {
                    self.tell(rule, None, at, Ok(share), &mut went, rows);
                }
                Target::Carrier(at) => self.carrier(cx, rule, at, &share, &mut went, rows),
            }
        }
        for choice in rule.list.iter().filter(|choice| !list.contains(choice)) {
            if let Target::Gateway(at) = choice.target {
                let why = Err("qrouting has disabled it in this rule".to_owned());
                self.tell(rule, None, at, why, &mut went, rows);
            }
        }
        went
    }

    fn carrier(
        &self,
        cx: &mut Cx<'_>,
        rule: &Rule<'_>,
        at: u32,
        share: &str,
        went: &mut Option<(String, String)>,
        rows: &mut Vec<Json>,
    ) {
        let Some(carrier) = self.table.of.carriers.get(at as usize) else { return };
        let mut used = false;
        for choice in self.order(cx, rule, &carrier.list, carrier.sort) {
            let Target::Gateway(gateway) = choice.target else { continue };
            let own = self.share(cx, rule, &carrier.list, carrier.sort, &choice);
            let why = [share, &own].iter().filter(|t| !t.is_empty()).copied().collect::<Vec<_>>();
            let is_up = self.table.usable(gateway, Some(at), &None).is_some();
            let verdict = match (carrier.status.is_up(), carrier.first_only && used && is_up) {
                (false, _) => Err(format!("carrier `{}` is off", carrier.id)),
                (_, true) => Err("the carrier uses its first gateway only".to_owned()),
                _ => Ok(why.join("; ")),
            };
            used |= is_up;
            self.tell(rule, Some(&carrier.id), gateway, verdict, went, rows);
        }
    }

    /// One row: a gateway that may be used, or why it may not.
    fn tell(
        &self,
        rule: &Rule<'_>,
        carrier: Option<&str>,
        at: u32,
        may: Result<String, String>,
        went: &mut Option<(String, String)>,
        rows: &mut Vec<Json>,
    ) {
        let Some(gateway) = self.table.gateway(at) else { return };
        let uri = self.uri(gateway);
        let state = state_text(gateway.status.bits(), gateway.probe_mode);
        let may = match may {
            Ok(_) if !gateway.status.is_up() => Err(format!("its state is {state}")),
            Ok(_) if uri.is_none() => Err("the number gives no URI with its prefix".to_owned()),
            may => may,
        };
        let (verdict, why) = match (&may, went.is_some()) {
            (Err(why), _) => ("passed over", why),
            (Ok(why), false) => ("first", why),
            (Ok(why), true) => ("then", why),
        };
        if rows.len() < DESTINATIONS_MAX {
            rows.push(json!({
                "Rule": rule.id,
                "Carrier": carrier.unwrap_or_default(),
                "Gateway": &*gateway.id,
                "Address": gateway.ip_text(),
                "State": state,
                "Verdict": verdict,
                "Why": why,
                "URI": uri.as_deref().unwrap_or_default(),
            }));
        }
        if may.is_ok() && went.is_none() {
            *went = uri.map(|uri| (uri, gateway.id.to_string()));
        }
    }

    fn uri(&self, gateway: &Gateway) -> Option<String> {
        uri_for(gateway, &format!("sip:{}@number.invalid", self.number))
    }

    /// A list as it is tried; one by weight as it is tried most often.
    fn order(&self, cx: &mut Cx<'_>, rule: &Rule<'_>, list: &[Choice], sort: Sort) -> Vec<Choice> {
        if sort == Sort::Weight {
            let mut list = list.to_vec();
            list.sort_by_key(|choice| std::cmp::Reverse(choice.weight));
            return list;
        }
        self.state.order(cx, (self.part, self.table), Some(rule), list, sort)
    }

    /// What decides about the place of a destination in its list.
    fn share(
        &self,
        cx: &Cx<'_>,
        rule: &Rule<'_>,
        list: &[Choice],
        sort: Sort,
        choice: &Choice,
    ) -> String {
        match sort {
            Sort::AsWritten => String::new(),
            Sort::Weight => {
                let sum: u64 = list.iter().map(|c| u64::from(c.weight)).sum();
                let percent = (u64::from(choice.weight) * 100).checked_div(sum).unwrap_or(0);
                format!("by weight, first in {percent} % of the calls")
            }
            Sort::Quality => match self.state.quality() {
                Some(quality) => {
                    let name = name_of(self.part, rule);
                    quality.opinion(cx, &name, &candidate(self.table, choice))
                }
                None => "as written: qrouting is not loaded".to_owned(),
            },
        }
    }
}

fn not_reached(by_flag: bool) -> String {
    match by_flag {
        true => "a rule before it is taken; use_next_gw() comes here with the flag F".to_owned(),
        false => "a rule before it is taken".to_owned(),
    }
}

fn result(first: Option<i64>, went: Option<(String, String)>) -> String {
    match (first, went) {
        (_, Some((uri, gateway))) => format!("{uri} by gateway {gateway}"),
        (Some(_), None) => {
            "no gateway of a rule that fits can be used: do_routing() gives -2".into()
        }
        (None, None) => "no rule fits: do_routing() gives -1".into(),
    }
}

/// `drouting:refused`.
pub(crate) fn refused(call: &mut MiCall<'_, '_>) -> MiOutcome {
    settled(loaded(call).map(|(_, part, table)| {
        let (faults, rules) = (&table.loaded.faults, &table.rules);
        MiOutcome::Done(json!({
            "Partition": part.name,
            "Date": tandem_engine::date::ctime(table.loaded.unix_s),
            "Took ms": table.loaded.took_ms,
            "Gateways": table.of.gateways.len(),
            "Carriers": table.of.carriers.len(),
            "Rules": rules.len(),
            "Bytes": rules.bytes(),
            "Refused": faults.refused,
            "Taken in part": faults.in_part,
            "Rows": faults.rows(),
        }))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_read() {
        assert_eq!(time("1767614400"), Some(1_767_614_400));
        assert_eq!(time("2026-01-05T12:00"), Some(1_767_614_400));
        assert_eq!(time("2026-01-05 12:00:00Z"), Some(1_767_614_400));
        assert_eq!(time("2026-01-05T13:00+01:00"), Some(1_767_614_400));
        assert!(time("noon").is_none() && time("").is_none());
    }

    proptest! {
        #[test]
        fn no_time_panics(text in ".{0,30}") {
            let _ = time(&text);
        }
    }
}
