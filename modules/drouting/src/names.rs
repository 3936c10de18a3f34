//! Where gateways are: names are looked up when the tables are there, and the addresses go into
//! the blacklists of gateways.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use tandem_engine::module::Cx;
use tandem_engine::transport::HopError;
use tandem_targets::{Place, not_found};

use crate::destinations::Gateway;
use crate::state::{Drouting, FILL, Searched};
use crate::table::{Partition, Table};

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
        let searched = (Arc::clone(part), Arc::clone(table), at);
        if let Some((of, found)) = self.searches.begin(cx, &Bytes::from(uri), searched) {
            self.gateway_resolved(cx, &of, found);
        }
    }

    pub(crate) fn gateway_resolved(
        &self,
        cx: &mut Cx<'_>,
        (_, table, at): &Searched,
        found: Result<Vec<IpAddr>, HopError>,
    ) {
        match found {
            Ok(ips) => {
                table.resolved(*at, ips);
                self.refill.soon(cx, FILL);
            }
            Err(why) => {
                let uri = table.gateway(*at).map(Gateway::uri).unwrap_or_default();
                not_found(cx, "drouting", &Bytes::from(uri), &why);
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
