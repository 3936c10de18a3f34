//! What an operator and scripts ask of a cluster.

use crate::clusterer::{ClusterError, Clusterer};
use crate::config::ClusterConfig;
use crate::effects::{CapId, Effects, Level};
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

    /// Replaces the node list (`db_mode` 1): new nodes are pinged, vanished ones forgotten,
    /// changed ones tried again. Clusters that vanished are left; new ones need a restart.
    pub fn reload(&mut self, now: Now, clusters: Vec<ClusterConfig>, out: &mut Effects) {
        let gone: Vec<_> = self
            .clusters
            .keys()
            .copied()
            .filter(|id| !clusters.iter().any(|cfg| cfg.cluster == *id))
            .collect();
        for id in gone {
            self.within(now, out, id, |c, ctx| c.enable(ctx, c.me, false));
        }
        for cfg in clusters {
            let id = cfg.cluster;
            if !self.clusters.contains_key(&id) {
                out.log(Level::Warning, format!("cluster {id} is new: it needs a restart"));
            }
            self.within(now, out, id, |c, ctx| c.reload(ctx, cfg));
        }
    }

    /// Whether this node is enabled in a cluster; `None` if it is in no such cluster.
    pub fn is_enabled(&self, cluster: ClusterId) -> Option<bool> {
        self.clusters.get(&cluster).map(|c| c.enabled)
    }

    /// The other nodes of a cluster that are enabled.
    pub fn others(&self, cluster: ClusterId) -> Vec<NodeId> {
        let peers = self.clusters.get(&cluster).into_iter().flat_map(|c| &c.peers);
        peers.filter(|(_, peer)| peer.cfg.enabled).map(|(&id, _)| id).collect()
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
