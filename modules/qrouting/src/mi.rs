//! Management commands.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};
use tandem_drouting::QualityRule;
use tandem_engine::mi::{MiCall, MiDef, MiKind, MiOutcome, MiParam};
use tandem_engine::table::{mi_int, mi_text};

use crate::functions::DEFAULT;
use crate::order::now_s;
use crate::state::Qrouting;
use crate::table::{RuleKey, RuleStats};

/// Rules that one answer tells about.
const RULES_MAX: usize = 10_000;

const NAMED_PARTITION: MiParam = MiParam { name: "partition", kind: MiKind::NamedStr };
const NAMED_RULE: MiParam = MiParam { name: "rule_id", kind: MiKind::NamedInt };
const NAMED_DESTINATION: MiParam = MiParam { name: "dst_name", kind: MiKind::NamedStr };
const SWITCH: &[&[MiParam]] =
    &[&[NAMED_RULE, NAMED_DESTINATION], &[NAMED_PARTITION, NAMED_RULE, NAMED_DESTINATION]];

/// The command table.
pub(crate) const COMMANDS: &[MiDef] = &[
    MiDef {
        name: "qrouting:status",
        old_names: &["qr_status"],
        param_sets: &[
            &[],
            &[mi_text("partition")],
            &[mi_text("partition"), mi_int("rule_id")],
            &[mi_text("partition"), mi_int("rule_id"), mi_text("dst_name")],
        ],
        help: "The statistics of rules that are sorted by quality; -1: no samples.",
        run: status,
    },
    MiDef {
        name: "qrouting:reload",
        old_names: &["qr_reload"],
        param_sets: &[&[]],
        help: "Reads the profiles again.",
        run: |call| match state(call) {
            Ok(state) => state.profiles.reload(call.cx, call.request, None),
            Err(failed) => failed,
        },
    },
    MiDef {
        name: "qrouting:disable_dst",
        old_names: &["qr_disable_dst"],
        param_sets: SWITCH,
        help: "Takes a gateway or carrier out of one rule.",
        run: |call| switch(call, true),
    },
    MiDef {
        name: "qrouting:enable_dst",
        old_names: &["qr_enable_dst"],
        param_sets: SWITCH,
        help: "Puts it in again.",
        run: |call| switch(call, false),
    },
];

fn state(call: &MiCall<'_, '_>) -> Result<Arc<Qrouting>, MiOutcome> {
    let state = call.cx.node.module::<Qrouting>(call.cx.slot);
    state.ok_or_else(|| MiOutcome::failed(500, "Server Internal Error"))
}

fn not_found(what: &'static str) -> MiOutcome {
    let code = if what.ends_with("Found") { 404 } else { 500 };
    MiOutcome::failed(code, what)
}

fn switch(call: &mut MiCall<'_, '_>, off: bool) -> MiOutcome {
    let state = match state(call) {
        Ok(state) => state,
        Err(failed) => return failed,
    };
    let partition = call.text("partition").unwrap_or_else(|| DEFAULT.to_owned()).into();
    let key = RuleKey { partition, id: call.int("rule_id").unwrap_or(0) };
    let name = call.text("dst_name").unwrap_or_default();
    match state.switch(&key, &name, off) {
        Ok(()) => MiOutcome::ok(),
        Err(what) => not_found(what),
    }
}

fn status(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let told = state(call).and_then(|state| {
        let routing = state.routing().ok_or_else(|| not_found("Server Internal Error"))?;
        let mut names = routing.partition_names();
        if let Some(wanted) = call.text("partition") {
            names.retain(|name| *name == wanted);
            if names.is_empty() {
                return Err(not_found("Partition Not Found"));
            }
        }
        let only = call.text("dst_name");
        let mut partitions = Vec::new();
        for name in names {
            let rules = match call.int("rule_id") {
                Some(id) => {
                    let rule = routing.quality_rule(&name, id);
                    vec![rule.ok_or_else(|| not_found("Rule Not Found"))?]
                }
                None => routing.quality_rules(&name, RULES_MAX).unwrap_or_default(),
            };
            let rules = rules.iter().map(|rule| {
                let now_s = now_s(call.cx);
                state.rule(&name, now_s, rule, only.as_deref())
            });
            let rules: Vec<Json> = rules.collect();
            let has_none = |rule: &Json| rule["Destinations"].as_array().is_none_or(Vec::is_empty);
            if only.is_some() && rules.iter().all(has_none) {
                return Err(not_found("GW/Carrier Not Found"));
            }
            partitions.push(json!({"Name": name, "Rules": rules}));
        }
        Ok(json!({"Partitions": partitions}))
    });
    told.map_or_else(|failed| failed, MiOutcome::Done)
}

impl Qrouting {
    fn rule(&self, partition: &str, now_s: u64, rule: &QualityRule, only: Option<&str>) -> Json {
        let key = RuleKey { partition: partition.into(), id: rule.id };
        let stats = self.table.find(&key).unwrap_or_default();
        let mut stats = stats.lock();
        let wanted = |id: &str| only.is_none_or(|only| only == id);
        let mut destinations = Vec::new();
        for (id, gateways) in &rule.destinations {
            let Some(gateways) = gateways else {
                if wanted(id) {
                    let gateway = self.destination_row(&mut stats, now_s, ("GWID", id), &[id]);
                    destinations.push(json!({"Gateway": gateway}));
                }
                continue;
            };
            let all: Vec<&str> = gateways.iter().map(String::as_str).collect();
            let shown = all.iter().filter(|gateway| wanted(id) || wanted(gateway));
            let rows: Vec<Json> = shown
                .map(|id| self.destination_row(&mut stats, now_s, ("GWID", id), &[id]).into())
                .collect();
            if !rows.is_empty() {
                let mut carrier = self.destination_row(&mut stats, now_s, ("CRID", id), &all);
                carrier.insert("Gateways".into(), rows.into());
                destinations.push(json!({"Carrier": carrier}));
            }
        }
        json!({"Id": rule.id, "Destinations": destinations})
    }

    /// A destination with the means of its statistics.
    fn destination_row(
        &self,
        stats: &mut RuleStats,
        now_s: u64,
        (label, id): (&str, &str),
        gateways: &[&str],
    ) -> Map<String, Json> {
        let mut row = Map::new();
        row.insert(label.into(), id.into());
        let tallies = self.tallies(stats, now_s, gateways);
        for (at, (stat, tally)) in self.params.stats.iter().zip(tallies).enumerate() {
            let is_extra = at >= crate::history::Stat::ALL.len();
            let name = if is_extra { stat.name.clone() } else { stat.name.to_ascii_uppercase() };
            let digits = self.params.digits;
            row.insert(name, format!("{:.digits$}", tally.mean().unwrap_or(-1.0)).into());
        }
        if stats.disabled.contains(id) {
            row.insert("Disabled".into(), "yes".into());
        }
        row
    }
}
