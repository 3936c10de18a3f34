//! Where gateways are: names are looked up when the tables are there, and the addresses go into
//! the blacklists of gateways.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use tandem_engine::module::Cx;
use tandem_engine::transport::HopError;
use tandem_targets::{Missing, Place, not_found};

use crate::destinations::Gateway;
use crate::state::{AGAIN, Drouting, FILL, Searched};
use crate::table::{Partition, Table};

impl Drouting {
    /// Looks the names of gateways up.
    pub(crate) fn resolve_gateways(&self, cx: &mut Cx<'_>, table: &Arc<Table>) {
        for (at, gateway) in (0u32..).zip(&table.of.gateways) {
            if gateway.is_named {
                self.resolve_gateway(cx, table, at, false);
            }
        }
    }

    /// Looks those up again that nobody knew.
    pub(crate) fn resolve_again(&self, cx: &mut Cx<'_>) {
        self.again.begins();
        for part in self.parts() {
            let table = part.table();
            for (at, gateway) in (0u32..).zip(&table.of.gateways) {
                if gateway.is_named && gateway.ips.read().is_empty() {
                    self.resolve_gateway(cx, &table, at, true);
                }
            }
        }
    }

    /// Looks the name of one gateway up; what is known already is there at once.
    pub(crate) fn resolve_gateway(
        &self,
        cx: &mut Cx<'_>,
        table: &Arc<Table>,
        at: u32,
        again: bool,
    ) {
        let Some(uri) = table.gateway(at).map(Gateway::uri) else { return };
        let searched = Searched { table: Arc::clone(table), gateway: at, again };
        if let Some((of, found)) = self.searches.begin(cx, &Bytes::from(uri), searched) {
            self.gateway_resolved(cx, &of, found);
        }
    }

    pub(crate) fn gateway_resolved(
        &self,
        cx: &mut Cx<'_>,
        of: &Searched,
        found: Result<Vec<IpAddr>, HopError>,
    ) {
        match found {
            Ok(ips) => {
                of.table.resolved(of.gateway, ips);
                self.refill.soon(cx, FILL);
            }
            Err(why) => {
                let Some(gateway) = of.table.gateway(of.gateway) else { return };
                let missing = Missing { kept: gateway.ips.read().len(), again: of.again };
                not_found(cx, "drouting", &Bytes::from(gateway.uri()), &why, missing);
                if self.params.resolves && missing.kept == 0 {
                    self.again.later(cx, AGAIN);
                }
            }
        }
    }

    pub(crate) fn refresh_blacklists(&self, cx: &mut Cx<'_>, part: &Partition, table: &Table) {
        for (partition, wanted) in &self.params.blacklists {
            if *partition != part.name {
                continue;
            }
            let inside = table.of.gateways.iter().filter(|g| wanted.groups.contains(&g.kind));
            let places =
                inside.map(|g| Place { ips: g.ips.read().clone(), proto: g.proto, port: g.port });
            wanted.fill(cx, "drouting", places.collect::<Vec<_>>());
        }
    }
}
