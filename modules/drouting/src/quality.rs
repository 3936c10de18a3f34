//! Sorting by quality: the door for the module that knows what the calls of a rule were like
//! (qrouting). This module tells it which gateway is tried for which rule, and asks it for the
//! order of lists with the algorithm Q.

use std::collections::BTreeSet;
use std::sync::Arc;

use tandem_engine::context::Ctx;
use tandem_engine::module::Cx;

use crate::destinations::{Choice, Sort, Target};
use crate::rules::Rule;
use crate::state::Drouting;
use crate::table::{Hop, Partition, Table, sorted};

/// A rule whose list is sorted by quality.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleName<'a> {
    pub partition: &'a str,
    pub id: i64,
    /// Row of the table of profiles (`sort_profile`).
    pub profile: u32,
}

/// An entry of a list that is to be sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// A gateway, or a carrier.
    pub id: &'a str,
    pub is_carrier: bool,
    /// The gateways behind it; of a gateway, itself.
    pub gateways: Vec<&'a str>,
    pub weight: u32,
}

/// Knows the quality of destinations.
pub trait Quality: Send + Sync {
    /// Places of the candidates in the order in which they are tried; what is not to be tried at
    /// all is left out.
    fn order(&self, cx: &mut Cx<'_>, rule: &RuleName<'_>, list: &[Candidate<'_>]) -> Vec<usize>;

    /// A request goes to a gateway for a rule; `None`: not for a rule that is sorted by quality.
    fn tried(&self, cx: &mut Cx<'_>, ctx: &mut Ctx, to: Option<(&RuleName<'_>, &str)>);

    /// The same request goes to another gateway of the same rule.
    fn tried_next(&self, cx: &mut Cx<'_>, ctx: &mut Ctx, gateway: &str);

    /// A partition was read again.
    fn reloaded(&self, partition: &str);

    /// What is thought of a candidate, in plain words.
    fn opinion(&self, cx: &Cx<'_>, rule: &RuleName<'_>, of: &Candidate<'_>) -> String;
}

/// A rule that is sorted by quality, with its destinations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QualityRule {
    pub id: i64,
    pub profile: u32,
    /// The name, and for carriers the gateways behind it.
    pub destinations: Vec<(String, Option<Vec<String>>)>,
}

impl Drouting {
    /// Has lists sorted by another module.
    pub fn sort_by(&self, quality: Arc<dyn Quality>) {
        *self.quality.write() = Some(quality);
    }

    pub(crate) fn quality(&self) -> Option<Arc<dyn Quality>> {
        self.quality.read().clone()
    }

    /// The names of the partitions.
    pub fn partition_names(&self) -> Vec<String> {
        self.parts().iter().map(|part| part.name.clone()).collect()
    }

    /// The rules of a partition that are sorted by quality, or have a carrier that is, at most
    /// `limit`; `None`: there is no such partition.
    pub fn quality_rules(&self, partition: &str, limit: usize) -> Option<Vec<QualityRule>> {
        let table = self.part(partition)?.table();
        let rules = table.rules.by_quality().take(limit);
        Some(rules.map(|rule| quality_rule(&table, &rule)).collect())
    }

    /// One of them.
    pub fn quality_rule(&self, partition: &str, id: i64) -> Option<QualityRule> {
        let table = self.part(partition)?.table();
        let rule = table.rules.of_quality(id)?;
        Some(quality_rule(&table, &rule))
    }

    /// The ids of them all.
    pub fn quality_ids(&self, partition: &str) -> BTreeSet<i64> {
        let table = self.part(partition).map(|part| part.table());
        table.iter().flat_map(|table| table.rules.by_quality().map(|rule| rule.id)).collect()
    }

    /// A list in the order in which it is tried.
    pub(crate) fn order(
        &self,
        cx: &mut Cx<'_>,
        (part, table): (&Partition, &Table),
        rule: Option<&Rule<'_>>,
        list: &[Choice],
        sort: Sort,
    ) -> Vec<Choice> {
        let quality = if sort == Sort::Quality { self.quality() } else { None };
        let (Some(quality), Some(rule)) = (quality, rule) else {
            return sorted(list, sort, &mut cx.worker.chance);
        };
        let candidates: Vec<_> = list.iter().map(|choice| candidate(table, choice)).collect();
        let order = quality.order(cx, &name_of(part, rule), &candidates);
        order.into_iter().filter_map(|at| list.get(at).copied()).collect()
    }

    /// Tells which gateway a request is for.
    pub(crate) fn tell_quality(
        &self,
        cx: &mut Cx<'_>,
        ctx: &mut Ctx,
        (part, table): (&Partition, &Table),
        rule: Option<&Rule<'_>>,
        hop: Option<Hop>,
    ) {
        let Some(quality) = self.quality() else { return };
        let gateway = hop.and_then(|hop| table.gateway(hop.gateway));
        let rule = rule.filter(|rule| is_by_quality(table, rule));
        let name = rule.map(|rule| name_of(part, rule));
        quality.tried(cx, ctx, name.as_ref().zip(gateway.map(|g| &*g.id)));
    }

    /// Tells that another gateway of the list is used.
    pub(crate) fn tell_quality_next(
        &self,
        cx: &mut Cx<'_>,
        ctx: &mut Ctx,
        table: &Table,
        hop: Option<Hop>,
    ) {
        let gateway = hop.and_then(|hop| table.gateway(hop.gateway));
        if let (Some(quality), Some(gateway)) = (self.quality(), gateway) {
            quality.tried_next(cx, ctx, &gateway.id);
        }
    }
}

pub(crate) fn name_of<'a>(part: &'a Partition, rule: &Rule<'_>) -> RuleName<'a> {
    RuleName { partition: &part.name, id: rule.id, profile: rule.profile }
}

/// The rule itself is sorted by quality, or a carrier in it.
fn is_by_quality(table: &Table, rule: &Rule<'_>) -> bool {
    rule.sort == Sort::Quality || rule.list.iter().any(|to| table.of.is_by_quality(*to))
}

pub(crate) fn candidate<'t>(table: &'t Table, choice: &Choice) -> Candidate<'t> {
    let name = |at: u32| table.gateway(at).map_or("", |gateway| &*gateway.id);
    let weight = choice.weight;
    match choice.target {
        Target::Gateway(at) => {
            Candidate { id: name(at), is_carrier: false, gateways: vec![name(at)], weight }
        }
        Target::Carrier(at) => {
            let carrier = table.of.carriers.get(at as usize);
            let list = carrier.map_or(&[][..], |carrier| &carrier.list);
            let gateways = list.iter().filter_map(|choice| match choice.target {
                Target::Gateway(at) => Some(name(at)),
                Target::Carrier(_) => None,
            });
            let id = carrier.map_or("", |carrier| &*carrier.id);
            Candidate { id, is_carrier: true, gateways: gateways.collect(), weight }
        }
    }
}

fn quality_rule(table: &Table, rule: &Rule<'_>) -> QualityRule {
    let destinations = rule.list.iter().map(|choice| {
        let Candidate { id, is_carrier, gateways, .. } = candidate(table, choice);
        let gateways = gateways.into_iter().map(str::to_owned).collect();
        (id.to_owned(), is_carrier.then_some(gateways))
    });
    QualityRule { id: rule.id, profile: rule.profile, destinations: destinations.collect() }
}
