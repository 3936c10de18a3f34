//! Where gateways are: names are looked up when the tables are there, and the addresses go into
//! the blacklists of gateways.

use std::sync::Arc;

use tandem_engine::blacklist::{List, Net, Rule};
use tandem_engine::dns::Resolved;
use tandem_engine::log::Level;
use tandem_engine::module::Cx;
use tandem_engine::transport::{Hop, HopError};

use crate::destinations::Gateway;
use crate::state::Drouting;
use crate::table::{Partition, Table};

/// Gateways whose names are looked up at the same time.
const SEARCHES_MAX: usize = 10_000;

impl Drouting {
    /// Looks the names of gateways up.
    pub(crate) fn resolve_gateways(
        &self,
        cx: &mut Cx<'_>,
        part: &Arc<Partition>,
        table: &Arc<Table>,
    ) {
        for (at, gateway) in (0u32..).zip(&table.of.gateways) {
            if gateway.ips.read().is_empty() {
                self.resolve_gateway(cx, part, table, at);
            }
        }
    }

    /// Looks the name of one gateway up; what is known already is there at once.
    pub(crate) fn resolve_gateway(
        &self,
        cx: &mut Cx<'_>,
        part: &Arc<Partition>,
        table: &Arc<Table>,
        at: u32,
    ) {
        let Some(uri) = table.gateway(at).map(Gateway::uri) else { return };
        let token = {
            let mut loads = self.loads.lock();
            loads.last += 1;
            loads.last
        };
        let waits = {
            let mut searches = self.searches.lock();
            searches.insert(token, (Arc::clone(part), Arc::clone(table), at));
            searches.len()
        };
        let result = match waits {
            0..SEARCHES_MAX => cx.resolve(uri.as_bytes(), token),
            _ => Resolved::Now(Err(HopError::Unresolvable)),
        };
        if let Resolved::Now(result) = result {
            self.gateway_resolved(cx, token, result);
        }
    }

    pub(crate) fn gateway_resolved(
        &self,
        cx: &mut Cx<'_>,
        token: u64,
        result: Result<Vec<Hop>, HopError>,
    ) {
        let Some((part, table, at)) = self.searches.lock().remove(&token) else { return };
        match result {
            Ok(hops) => table.resolved(at, hops.iter().map(|hop| hop.addr.ip()).collect()),
            Err(why) => {
                let id = table.gateway(at).map(|g| g.id.to_string()).unwrap_or_default();
                cx.log(Level::Error, format!("drouting: gateway `{id}`: {why}"));
            }
        }
        self.refresh_blacklists(cx, &part, &table);
    }

    pub(crate) fn refresh_blacklists(&self, cx: &mut Cx<'_>, part: &Partition, table: &Table) {
        for wanted in self.params.blacklists.iter().filter(|list| list.partition == part.name) {
            let mut list = empty_list(&wanted.name);
            for gateway in table.of.gateways.iter().filter(|g| wanted.kinds.contains(&g.kind)) {
                list.rules.extend(gateway.ips.read().iter().map(|ip| Rule {
                    negated: false,
                    proto: gateway.proto,
                    net: Net { ip: *ip, bits: if ip.is_ipv4() { 32 } else { 128 } },
                    port: gateway.port,
                    pattern: String::new(),
                    until: None,
                }));
            }
            if let Err(why) = cx.node.blacklists.set(list) {
                cx.log(Level::Error, format!("drouting: blacklist {}: {why}", wanted.name));
            }
        }
    }
}

/// A blacklist without gateways.
pub(crate) fn empty_list(name: &str) -> List {
    List { name: name.to_owned(), owner: "drouting", read_only: true, ..List::default() }
}
