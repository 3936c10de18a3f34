//! Asking destinations whether they live: each once in an interval, spread over it, by a node
//! that has leave to.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tandem_cluster::{Duty, TagTable};
use tandem_engine::log::Level;
use tandem_engine::module::{Cx, Timer};
use tandem_sip::sip_hash;
use tandem_tm::{LocalRequest, Owner, Tm};

use crate::params::Mode;
use crate::replication::CAPABILITY;
use crate::sets::{Destination, INACTIVE, PROBING};
use crate::state::{Dispatcher, Part, Wish};

/// Timers of this kind probe.
pub(crate) const TICK: u32 = 0;
/// Probes that are waited for.
const OPEN_MAX: usize = 10_000;

/// Probes on their way.
#[derive(Default)]
pub(crate) struct Probes(BTreeMap<u64, (Arc<Part>, Arc<Destination>)>);

/// Leave to probe on one's own initiative.
enum Leave<'t> {
    /// The node is in no cluster, or every node probes.
    Everybody,
    Duty(#[expect(dead_code, reason = "the proof itself")] Duty<'t>),
}

impl Dispatcher {
    pub(crate) fn start_probing(&self, cx: &mut Cx<'_>) {
        if self.params.interval_s == 0 {
            return;
        }
        if cx.node.find::<Tm>().is_none() {
            let text = "dispatcher: destinations are not probed without the module tm: load it";
            return cx.log(Level::Warning, text);
        }
        cx.set_timer(cx.now.after_s(1), Timer { kind: TICK, id: 0 });
    }

    /// Probes the destinations whose turn it is.
    pub(crate) fn probe_slice(&self, cx: &mut Cx<'_>, timer: Timer) {
        let next = Timer { id: timer.id.wrapping_add(1), ..timer };
        cx.set_timer(cx.now.after_s(1), next);
        let interval = self.params.interval_s.max(1);
        let node = Arc::clone(cx.node);
        let tags = node.membership().tags().map(|tags| &**tags);
        for part in self.parts() {
            for of in self.sets(part).all() {
                let hash = u64::from(sip_hash(&of.uri));
                if hash % interval != timer.id % interval || !self.is_due(of) {
                    continue;
                }
                if let Some(leave) = self.leave(tags, hash) {
                    self.probe(cx, part, of, &leave);
                }
            }
        }
    }

    fn is_due(&self, of: &Destination) -> bool {
        let wanted = self.params.probed_sets.as_ref().is_none_or(|sets| sets.contains(&of.set));
        let bits = of.status.bits();
        let probed = bits & PROBING != 0 || self.params.probes_all || of.always_probed;
        wanted && bits & INACTIVE == 0 && probed
    }

    fn leave<'t>(&self, tags: Option<&'t TagTable>, key: u64) -> Option<Leave<'t>> {
        let cluster = self.params.cluster;
        let Some(tags) = tags.filter(|_| cluster != 0) else { return Some(Leave::Everybody) };
        match (self.params.mode, &self.params.tag) {
            (Mode::All, _) => Some(Leave::Everybody),
            (Mode::ByTag, Some(tag)) => tags.duty(tag, cluster).map(Leave::Duty),
            (Mode::ByTag, None) => None,
            (Mode::Distributed, _) => tags.duty_by_share(cluster, CAPABILITY, key).map(Leave::Duty),
        }
    }

    fn probe(&self, cx: &mut Cx<'_>, part: &Arc<Part>, of: &Arc<Destination>, _: &Leave<'_>) {
        let Some((tm_slot, tm)) = cx.node.find::<Tm>() else { return };
        let token = self.number();
        {
            let mut probes = self.probes.lock();
            if probes.0.len() >= OPEN_MAX {
                return;
            }
            probes.0.insert(token, (Arc::clone(part), Arc::clone(of)));
        }
        let around = |uri: &[u8]| Bytes::from([b"<", uri, b">"].concat());
        let request = LocalRequest {
            method: self.params.method.clone(),
            from: around(&self.params.from),
            to: around(&of.uri),
            uri: of.uri.clone(),
            socket: of.socket.or(self.params.socket),
            max_forwards: self.params.max_forwards,
            ..LocalRequest::default()
        };
        let owner = Owner::Module { slot: self.slot, token };
        let sent = cx.for_slot(tm_slot, |cx| tm.send_request(cx, &request, owner));
        if let Err(why) = sent {
            self.probes.lock().0.remove(&token);
            let uri = String::from_utf8_lossy(&of.uri).into_owned();
            cx.log(Level::Error, format!("dispatcher: {uri} cannot be probed: {why}"));
        }
    }

    /// A probe was answered, or nobody has answered it.
    pub(crate) fn probe_answered(&self, cx: &mut Cx<'_>, token: u64, code: u16) {
        if code < 200 {
            return;
        }
        let Some((part, of)) = self.probes.lock().0.remove(&token) else { return };
        // Somebody may have taken it out of service meanwhile.
        if of.status.bits() & INACTIVE != 0 {
            return;
        }
        let alive = code == 200 || self.params.codes.contains(&code);
        if alive {
            self.wish(cx, &part, &of, Wish::Active);
        } else if code >= 400 && of.status.bits() & PROBING == 0 {
            self.wish(cx, &part, &of, Wish::Failed);
        }
    }
}
