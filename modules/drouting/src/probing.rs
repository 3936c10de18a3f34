//! Asking gateways whether they live: each once in an interval, spread over it, by a node that
//! has leave to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tandem_cluster::{Duty, TagTable};
use tandem_engine::log::Level;
use tandem_engine::module::{Cx, Timer};
use tandem_sip::sip_hash;
use tandem_tm::{LocalRequest, Owner, Tm};

use crate::destinations::Gateway;
use crate::params::Mode;
use crate::replication::CAPABILITY;
use crate::state::{Drouting, Origin};
use crate::status::{DISABLED, HELD, Kind};
use crate::table::Partition;

/// Timers of this kind probe.
pub(crate) const TICK: u32 = 0;
/// Probes that are waited for.
const OPEN_MAX: usize = 10_000;

/// Probes on their way.
#[derive(Default)]
pub(crate) struct Probes {
    last: u64,
    open: BTreeMap<u64, (Arc<Partition>, Arc<str>)>,
}

/// Leave to probe on one's own initiative.
enum Leave<'t> {
    /// The node is in no cluster, or every node probes.
    Everybody,
    Duty(#[expect(dead_code, reason = "the proof itself")] Duty<'t>),
}

impl Drouting {
    pub(crate) fn start_probing(&self, cx: &mut Cx<'_>) {
        if self.params.probing.interval_s == 0 {
            return;
        }
        if cx.node.find::<Tm>().is_none() {
            let text = "drouting: gateways are not probed without the module tm: load it";
            return cx.log(Level::Warning, text);
        }
        cx.set_timer(cx.now.after_s(1), Timer { kind: TICK, id: 0 });
    }

    /// Probes the gateways whose turn it is.
    pub(crate) fn probe_slice(&self, cx: &mut Cx<'_>, timer: Timer) {
        let next = Timer { id: timer.id.wrapping_add(1), ..timer };
        cx.set_timer(cx.now.after_s(1), next);
        if !self.probing.load(Ordering::Relaxed) {
            return;
        }
        let interval = self.params.probing.interval_s.max(1);
        let node = Arc::clone(cx.node);
        let tags = node.membership().tags().map(|tags| &**tags);
        for part in self.parts() {
            for gateway in &part.table().of.gateways {
                let hash = u64::from(sip_hash(gateway.id.as_bytes()));
                if hash % interval != timer.id % interval || !is_due(gateway) {
                    continue;
                }
                if let Some(leave) = self.leave(tags, hash) {
                    self.probe(cx, &part, gateway, &leave);
                }
            }
        }
    }

    fn leave<'t>(&self, tags: Option<&'t TagTable>, key: u64) -> Option<Leave<'t>> {
        let cluster = self.params.cluster;
        let Some(tags) = tags.filter(|_| cluster != 0) else { return Some(Leave::Everybody) };
        match (self.params.probing.mode, &self.params.tag) {
            (Mode::All, _) => Some(Leave::Everybody),
            (Mode::ByTag, Some(tag)) => tags.duty(tag, cluster).map(Leave::Duty),
            (Mode::ByTag, None) => None,
            (Mode::Distributed, _) => tags.duty_by_share(cluster, CAPABILITY, key).map(Leave::Duty),
        }
    }

    fn probe(&self, cx: &mut Cx<'_>, part: &Arc<Partition>, gateway: &Gateway, _: &Leave<'_>) {
        let Some((tm_slot, tm)) = cx.node.find::<Tm>() else { return };
        let token = {
            let mut probes = self.probes.lock();
            if probes.open.len() >= OPEN_MAX {
                return;
            }
            probes.last += 1;
            let token = probes.last;
            probes.open.insert(token, (Arc::clone(part), Arc::clone(&gateway.id)));
            token
        };
        let (probing, uri) = (&self.params.probing, gateway.uri());
        let around = |uri: &[u8]| Bytes::from([b"<", uri, b">"].concat());
        let request = LocalRequest {
            method: probing.method.clone(),
            from: around(&probing.from),
            to: around(uri.as_bytes()),
            uri: Bytes::from(uri),
            socket: gateway.socket.or(probing.socket),
            ..LocalRequest::default()
        };
        let owner = Owner::Module { slot: self.slot, token };
        let sent = cx.for_slot(tm_slot, |cx| tm.send_request(cx, &request, owner));
        if let Err(why) = sent {
            self.probes.lock().open.remove(&token);
            let text = format!("drouting: gateway `{}` cannot be probed: {why}", gateway.id);
            cx.log(Level::Error, text);
        }
    }

    /// A probe was answered, or nobody has answered it.
    pub(crate) fn probe_answered(&self, cx: &mut Cx<'_>, token: u64, code: u16) {
        if code < 200 {
            return;
        }
        let Some((part, id)) = self.probes.lock().open.remove(&token) else { return };
        let alive = code == 200 || self.params.probing.codes.contains(&code);
        if !alive && code < 400 {
            return;
        }
        let table = part.table();
        let Some((_, gateway)) = table.of.gateway(&id) else { return };
        // Somebody may have taken it out of service meanwhile.
        if gateway.status.bits() & HELD != 0 {
            return;
        }
        let bits = if alive { 0 } else { DISABLED };
        let why = format!("{code} to a probe");
        self.change(cx, &part, (Kind::Gateway, &id), bits, Origin::Here(&why));
    }
}

fn is_due(gateway: &Gateway) -> bool {
    let bits = gateway.status.bits();
    match gateway.probe_mode {
        _ if bits & HELD != 0 => false,
        1 => bits & DISABLED != 0,
        mode => mode == 2,
    }
}
