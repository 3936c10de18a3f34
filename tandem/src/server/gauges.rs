//! Figures that only the process knows and that it hands to the node: memory, what waits in the
//! sockets, and how far the host's clock is ahead.

use tandem_clock::{Mono, Now};
use tandem_drivers::memory;
use tandem_engine::sockets::Proto;

use super::host_clock::HostClock;
use super::{Shared, log};

/// When each was last measured.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    at: Mono,
    waiting_at: Mono,
    host_clock: HostClock,
}

impl Gauges {
    /// Measures, once a second at most.
    pub(super) fn measure(&mut self, shared: &Shared, now: Now) {
        if now.mono_ns < self.at {
            return;
        }
        self.at = now.after_s(1);
        if let Some(bytes) = memory::resident() {
            shared.node.memory.set_used(bytes);
        }
        if shared.node.load.is_waiting_wanted() {
            self.measure_waiting(shared, now);
        }
        let ahead_ms = shared.clock.host_is_ahead_ms();
        shared.node.load.set_host_clock_ahead(ahead_ms);
        if let Some((level, text)) = self.host_clock.see(ahead_ms) {
            log::line(now, level, &text);
        }
    }

    /// Measures what waits in the sockets, once a second at most.
    pub(super) fn measure_waiting(&mut self, shared: &Shared, now: Now) {
        if now.mono_ns < self.waiting_at {
            return;
        }
        self.waiting_at = now.after_s(1);
        let node = &shared.node;
        let ports = |proto| -> Vec<u16> {
            let of = node.sockets.listening().filter(|(_, s)| s.proto == proto);
            of.map(|(_, s)| s.addr.port()).collect()
        };
        node.load.set_waiting_udp(memory::waiting_udp(&ports(Proto::Udp)));
        node.load.set_waiting_tcp(memory::waiting_tcp(&ports(Proto::Tcp)));
    }
}
