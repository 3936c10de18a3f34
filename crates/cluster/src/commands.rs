//! What an operator and scripts ask of a cluster.

use crate::clusterer::{ClusterError, Clusterer};
use crate::effects::{CapId, Effects};
use tandem_bin::clusterer::Extra;
use tandem_bin::{ClusterId, NodeId};
use tandem_clock::Now;

impl Clusterer {
    /// Enables or disables a node; with the own id, this node in the cluster.
    pub fn set_node_status(
        &mut self,
        now: Now,
        cluster: ClusterId,
        node: NodeId,
        enabled: bool,
        out: &mut Effects,
    ) -> Result<(), ClusterError> {
        let c = self.clusters.get(&cluster).ok_or(ClusterError::UnknownCluster(cluster))?;
        if node != c.me && !c.peers.contains_key(&node) {
            return Err(ClusterError::UnknownNode(node));
        }
        self.within(now, out, cluster, |c, ctx| c.enable(ctx, node, enabled));
        Ok(())
    }

    /// Enables or disables an own capability.
    pub fn set_capability_status(
        &mut self,
        now: Now,
        cap: CapId,
        enabled: bool,
        out: &mut Effects,
    ) {
        self.with_cap(now, cap, out, |c, ctx, i| c.enable_cap(ctx, i, enabled));
    }

    /// Sends a script message or a management command to a node.
    pub fn send_extra(
        &mut self,
        now: Now,
        cluster: ClusterId,
        to: NodeId,
        packet: &Extra,
        out: &mut Effects,
    ) -> Result<(), ClusterError> {
        let c = self.clusters.get(&cluster).ok_or(ClusterError::UnknownCluster(cluster))?;
        let bytes = packet.encode(&c.trailer(to))?;
        let mut sent = false;
        self.within(now, out, cluster, |c, ctx| sent = c.route(ctx, to, &bytes));
        if sent { Ok(()) } else { Err(ClusterError::NotReachable(to)) }
    }

    /// Removes a learnt node everywhere (`db_mode` 0 only); the node itself falls silent.
    pub fn remove_node(
        &mut self,
        now: Now,
        cluster: ClusterId,
        node: NodeId,
        out: &mut Effects,
    ) -> Result<(), ClusterError> {
        let c = self.clusters.get(&cluster).ok_or(ClusterError::UnknownCluster(cluster))?;
        if c.cfg.db_mode || !c.peers.contains_key(&node) {
            return Err(ClusterError::UnknownNode(node));
        }
        self.within(now, out, cluster, |c, ctx| {
            let ids: Vec<_> = c.peers.keys().copied().collect();
            for to in ids {
                if let Ok(bytes) = (Extra::RemoveNode { node }).encode(&c.trailer(to)) {
                    c.route(ctx, to, &bytes);
                }
            }
            c.flush_all(ctx.out);
            c.remove(ctx, node);
        });
        Ok(())
    }
}
