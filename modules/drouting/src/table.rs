//! What a partition has in memory. A reload makes another one, which then takes its place.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::RwLock;
use tandem_clock::Chance;
use tandem_engine::effect::DatabaseId;
use tandem_targets::Faults;

use crate::destinations::{Carrier, Choice, Destinations, Gateway, Sort, Target};
use crate::params::{Avps, Names};
use crate::prefix::Alphabet;
use crate::rules::Rules;

/// Destinations that one routing leaves to try.
const TRIED_MAX: usize = 256;

/// The tables of a partition at one time.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) of: Destinations,
    pub(crate) rules: Rules,
    /// Gateways by the addresses of their hosts, as far as those are known.
    by_ip: RwLock<BTreeMap<IpAddr, Vec<u32>>>,
    /// The first carrier of each gateway.
    carriers_of: Vec<Option<u32>>,
    pub(crate) loaded: Loaded,
}

/// How the tables came into memory.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// 0: nothing was loaded yet.
    pub(crate) unix_s: u64,
    pub(crate) took_ms: u64,
    pub(crate) sum: Option<String>,
    pub(crate) faults: Faults,
}

/// A partition.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) name: String,
    pub(crate) database: DatabaseId,
    pub(crate) names: Names,
    /// SQL that names the tables of rules.
    pub(crate) rule_query: Option<String>,
    pub(crate) avps: Avps,
    present: RwLock<Arc<Table>>,
}

/// A destination to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hop {
    pub(crate) gateway: u32,
    pub(crate) carrier: Option<u32>,
}

/// Gateways and `#carrier`s that may be used.
pub(crate) type Whitelist = Option<Vec<String>>;

impl Partition {
    pub(crate) fn new(
        name: String,
        database: DatabaseId,
        names: Names,
        rule_query: Option<String>,
        avps: Avps,
        alphabet: Alphabet,
    ) -> Self {
        let table = Table::new(Destinations::default(), Rules::empty(alphabet), Loaded::default());
        let present = RwLock::new(Arc::new(table));
        Self { name, database, names, rule_query, avps, present }
    }

    /// The tables as they are now.
    pub(crate) fn table(&self) -> Arc<Table> {
        Arc::clone(&self.present.read())
    }

    pub(crate) fn put(&self, table: Arc<Table>) {
        *self.present.write() = table;
    }
}

impl Table {
    pub(crate) fn new(of: Destinations, rules: Rules, loaded: Loaded) -> Self {
        let mut by_ip: BTreeMap<IpAddr, Vec<u32>> = BTreeMap::new();
        for (at, gateway) in (0u32..).zip(&of.gateways) {
            for ip in gateway.ips.read().iter() {
                by_ip.entry(*ip).or_default().push(at);
            }
        }
        let mut carriers_of = vec![None; of.gateways.len()];
        for (carrier, choice) in
            (0u32..).zip(&of.carriers).flat_map(|(at, c)| c.list.iter().map(move |to| (at, to)))
        {
            if let Target::Gateway(gateway) = choice.target
                && let Some(first) = carriers_of.get_mut(gateway as usize)
            {
                first.get_or_insert(carrier);
            }
        }
        Self { of, rules, by_ip: RwLock::new(by_ip), carriers_of, loaded }
    }

    pub(crate) fn gateway(&self, at: u32) -> Option<&Gateway> {
        self.of.gateways.get(at as usize)
    }

    /// The addresses of a gateway's host are known now.
    pub(crate) fn resolved(&self, at: u32, mut ips: Vec<IpAddr>) {
        ips.sort_unstable();
        ips.dedup();
        let Some(gateway) = self.gateway(at) else { return };
        let mut by_ip = self.by_ip.write();
        for gone in gateway.ips.read().iter().filter(|ip| !ips.contains(ip)) {
            if let Some(there) = by_ip.get_mut(gone) {
                there.retain(|other| *other != at);
            }
        }
        for ip in &ips {
            let here = by_ip.entry(*ip).or_default();
            if !here.contains(&at) {
                here.push(at);
            }
        }
        *gateway.ips.write() = ips;
    }

    /// The gateways at an address.
    pub(crate) fn at_ip(&self, ip: IpAddr) -> Vec<u32> {
        self.by_ip.read().get(&ip).cloned().unwrap_or_default()
    }

    /// The first carrier that a gateway is part of.
    pub(crate) fn carrier_of(&self, gateway: u32) -> Option<u32> {
        *self.carriers_of.get(gateway as usize)?
    }

    /// Whether a list is to be sorted by quality.
    pub(crate) fn wants_quality(&self) -> bool {
        let by_quality = |carrier: &Carrier| carrier.sort == Sort::Quality;
        self.of.carriers.iter().any(by_quality) || self.rules.by_quality().next().is_some()
    }

    /// The destinations of a list that can be used now, in the order in which they are tried;
    /// `order` sorts a list.
    pub(crate) fn expand(
        &self,
        (list, sort): (&[Choice], Sort),
        whitelist: &Whitelist,
        mut order: impl FnMut(&[Choice], Sort) -> Vec<Choice>,
    ) -> Vec<Hop> {
        let mut hops = Vec::new();
        for choice in order(list, sort) {
            match choice.target {
                Target::Gateway(gateway) => {
                    hops.extend(self.usable(gateway, None, whitelist));
                }
                Target::Carrier(at) => self.expand_carrier(at, whitelist, &mut order, &mut hops),
            }
        }
        hops.truncate(TRIED_MAX);
        hops
    }

    fn expand_carrier(
        &self,
        at: u32,
        whitelist: &Whitelist,
        order: &mut impl FnMut(&[Choice], Sort) -> Vec<Choice>,
        hops: &mut Vec<Hop>,
    ) {
        let Some(carrier) = self.of.carriers.get(at as usize) else { return };
        if !carrier.status.is_up() {
            return;
        }
        let most = if carrier.first_only { 1 } else { usize::MAX };
        let sorted = order(&carrier.list, carrier.sort);
        let usable = sorted.iter().filter_map(|choice| match choice.target {
            Target::Gateway(gateway) => self.usable(gateway, Some(at), whitelist),
            Target::Carrier(_) => None,
        });
        hops.extend(usable.take(most));
    }

    pub(crate) fn usable(
        &self,
        at: u32,
        carrier: Option<u32>,
        whitelist: &Whitelist,
    ) -> Option<Hop> {
        let gateway = self.gateway(at).filter(|gateway| gateway.status.is_up())?;
        if let Some(allowed) = whitelist {
            let carrier = carrier.and_then(|at| self.of.carriers.get(at as usize));
            let by_carrier =
                |name: &String| carrier.is_some_and(|c| name.strip_prefix('#') == Some(&*c.id));
            if !allowed.iter().any(|name| **name == *gateway.id || by_carrier(name)) {
                return None;
            }
        }
        Some(Hop { gateway: at, carrier })
    }
}

/// A list in the order in which it is tried, which for quality others know. By weight: each place
/// is drawn with the chance that the weight gives; what has none comes last.
pub(crate) fn sorted(list: &[Choice], sort: Sort, chance: &mut Chance) -> Vec<Choice> {
    let mut left = list.to_vec();
    if sort != Sort::Weight || left.len() < 2 {
        return left;
    }
    let mut order = Vec::with_capacity(left.len());
    loop {
        let sum: u64 = left.iter().map(|choice| u64::from(choice.weight)).sum();
        if sum == 0 {
            order.append(&mut left);
            return order;
        }
        let mut drawn = chance.u64() % sum;
        let at = left.iter().position(|choice| {
            let weight = u64::from(choice.weight);
            let hit = drawn < weight;
            drawn = drawn.saturating_sub(weight);
            hit
        });
        order.push(left.remove(at.unwrap_or(0)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_draw_their_share() {
        let choice = |at, weight| Choice { target: Target::Gateway(at), weight };
        let list = [choice(0, 0), choice(1, 30), choice(2, 10)];
        let mut chance = Chance::from_number(3);
        let mut first = [0u32; 3];
        for _ in 0..4_000 {
            let order = sorted(&list, Sort::Weight, &mut chance);
            assert_eq!(order.last(), Some(&list[0]), "no weight: last");
            if let Some(Target::Gateway(at)) = order.first().map(|choice| choice.target) {
                first[at as usize] += 1;
            }
        }
        assert!((2_850..3_150).contains(&first[1]), "{first:?}");
        assert_eq!(sorted(&list, Sort::AsWritten, &mut chance), list);
    }
}
