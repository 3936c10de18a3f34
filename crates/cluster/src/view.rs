//! `status()`.

use crate::cluster::Cluster;
use crate::clusterer::Clusterer;
use crate::peer::{Kind, Peer};
use crate::status::{CapStatus, ClusterStatus, NodeStatus, PeerKind, Status, StepStatus};
use crate::wire::LEVEL_MAX;
use tandem_bin::NodeId;
use tandem_clock::{MS, Mono};

impl Clusterer {
    /// The state of all clusters, for `tandemctl status` and the MI commands of the clusterer.
    pub fn status(&self) -> Status {
        let (shared, clusters) = self.parts();
        Status {
            my_node_id: shared.me,
            incarnation: shared.incarnation,
            refused: shared.complaints.total,
            oversized: shared.oversized,
            clusters: clusters.values().map(|c| c.status(shared.seen)).collect(),
            tags: shared.table.snapshot(),
        }
    }
}

impl Cluster {
    fn status(&self, now: Mono) -> ClusterStatus {
        let peers = self.peers.iter();
        let own = (self.me, self.neighbours().collect());
        let others = peers.clone().map(|(&id, peer)| {
            let mut neighbours: Vec<NodeId> = peer.neighbours.iter().copied().collect();
            if peer.link.is_up() {
                neighbours.push(self.me);
            }
            neighbours.sort_unstable();
            (id, neighbours)
        });
        ClusterStatus {
            cluster: self.id,
            enabled: self.enabled,
            nodes: peers.clone().map(|(&id, peer)| self.node_status(now, id, peer)).collect(),
            topology: [own].into_iter().chain(others).collect(),
            capabilities: self
                .caps
                .iter()
                .map(|cap| CapStatus {
                    cap: cap.id,
                    name: cap.text(),
                    state: cap.state(),
                    enabled: cap.enabled,
                })
                .collect(),
        }
    }

    fn node_status(&self, now: Mono, id: NodeId, peer: &Peer) -> NodeStatus {
        let kind = match (peer.kind, &peer.hello) {
            (Kind::Tandem, Some(hello)) => PeerKind::Tandem {
                incarnation: hello.incarnation,
                level: hello.level_max.min(LEVEL_MAX),
            },
            (Kind::Stock, _) => PeerKind::Stock,
            _ => PeerKind::Unproven,
        };
        let compared = self.caps.iter().filter(|cap| cap.startup_sync);
        let steps = compared.map(|cap| StepStatus {
            cap: cap.id,
            name: cap.text(),
            step: peer.compared.get(&cap.id).map(|c| c.step).unwrap_or_default(),
        });
        NodeStatus {
            node: id,
            url: peer.cfg.url.clone(),
            address: peer.cfg.address,
            sip_addr: peer.cfg.sip_addr.clone(),
            description: peer.cfg.description.clone(),
            link_state: peer.link.word(),
            enabled: peer.cfg.enabled,
            reachable: peer.reachable,
            next_hop: self.next_hop(id),
            kind,
            clock_skew_ms: peer.skew_ms,
            unacked: peer.unacked.len() as u64,
            unacked_bytes: peer.unacked_bytes as u64,
            missed: peer.missed,
            lag_ms: peer.lag_ns(now) / MS,
            behind: peer.behind,
            steps: steps.collect(),
        }
    }
}
