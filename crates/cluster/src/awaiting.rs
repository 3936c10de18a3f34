//! Whether a node that has just started may still be told what its peers know.

use crate::caps::SyncPhase;
use crate::cluster::Cluster;
use crate::clusterer::Clusterer;
use crate::link::LinkState;
use crate::peer::Peer;

impl Clusterer {
    /// Whether the records of a capability are on their way, or a peer may be about to offer
    /// them: it is called for the first time and has not refused, or has not said what it has.
    pub fn awaits_records(&self) -> bool {
        self.parts().1.values().any(Cluster::awaits_records)
    }
}

impl Cluster {
    fn awaits_records(&self) -> bool {
        let mut wanted = self.caps.iter().filter(|c| c.enabled && c.startup_sync && !c.ok);
        self.enabled
            && wanted.any(|cap| match cap.sync {
                SyncPhase::Idle | SyncPhase::Pending { .. } => {
                    self.peers.values().any(|peer| peer.may_offer(&cap.name))
                }
                _ => true,
            })
    }
}

impl Peer {
    fn may_offer(&self, capability: &[u8]) -> bool {
        self.cfg.enabled
            && match self.link.state() {
                LinkState::RestartPinging | LinkState::Restarted => true,
                LinkState::Up => self.caps.is_empty() || self.caps.get(capability) == Some(&true),
                _ => false,
            }
    }
}
