//! What happens in a run, as probabilities and bounds.

use tandem_clock::Chance;

/// Everything that can be turned up or down. Probabilities are 0.0 to 1.0; those of a datagram
/// are for each datagram, those with `_per_s` for each simulated second.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// 2 or 3; the scripts exist for these.
    pub nodes: u32,
    /// How many of them, the last ones, are stock nodes; node 1 never is.
    pub stock: u32,
    /// Workers of each node; worker 0 also drives the cluster and the commands.
    pub workers: usize,
    /// How long phones, operator and faults are at work. Healing and rest come on top.
    pub seconds: u64,
    pub phones: u32,

    pub udp_loss: f64,
    pub udp_duplicate: f64,
    /// A datagram that takes up to [`Options::udp_late_ms_max`] longer than the others.
    pub udp_late: f64,
    pub udp_late_ms_max: u32,
    /// A BIN segment that takes up to [`Options::bin_late_ms_max`] longer than the others.
    pub bin_late: f64,
    pub bin_late_ms_max: u32,
    /// A write that arrives in pieces.
    pub bin_split: f64,
    /// A worker that gets no processor for up to [`Options::stall_ms_max`].
    pub stall: f64,
    pub stall_ms_max: u32,

    pub crash_per_s: f64,
    pub partition_per_s: f64,
    /// Share of the partitions that cut one direction only.
    pub partition_one_way: f64,
    /// Difference of a host's wall clock from true time at the start, at most, either way.
    pub clock_skew_ms_max: u32,
    pub clock_jump_per_s: f64,
    pub clock_jump_ms_max: u32,
    pub disk_failure: f64,
    pub disk_ms_max: u32,
    pub operator_per_s: f64,
    /// The database takes no records of calls for a while.
    pub database_away_per_s: f64,

    /// Share of the phones behind a NAT.
    pub nat: f64,
    /// What a registered phone does when its timer fires, besides refreshing.
    pub other_node: f64,
    pub unregister: f64,
    pub change_contact: f64,
    /// Calls that one phone places in a second.
    pub call_per_s: f64,
    /// Calls that nobody hangs up.
    pub endless: f64,
    /// States that one phone publishes in a second; with any, each phone watches another.
    pub publish_per_s: f64,
    /// Nodes publish the calls of phones, and each phone watches the lamp of another.
    pub lamps: bool,

    /// There are gateways, which nodes probe and the operator takes out of service.
    pub routing: bool,
    /// One of the gateways lives, refuses or falls silent.
    pub gateway_per_s: f64,
    /// The operator takes one of the targets that are his out of service, or puts it in.
    pub switch_per_s: f64,
}

impl Options {
    /// A network and hosts without faults.
    pub fn calm() -> Self {
        Self {
            nodes: 2,
            stock: 0,
            workers: 1,
            seconds: 60,
            phones: 6,
            udp_loss: 0.0,
            udp_duplicate: 0.0,
            udp_late: 0.0,
            udp_late_ms_max: 0,
            bin_late: 0.0,
            bin_late_ms_max: 0,
            bin_split: 0.0,
            stall: 0.0,
            stall_ms_max: 0,
            crash_per_s: 0.0,
            partition_per_s: 0.0,
            partition_one_way: 0.0,
            clock_skew_ms_max: 0,
            clock_jump_per_s: 0.0,
            clock_jump_ms_max: 0,
            disk_failure: 0.0,
            disk_ms_max: 2,
            operator_per_s: 0.0,
            database_away_per_s: 0.0,
            nat: 0.5,
            other_node: 0.2,
            unregister: 0.1,
            change_contact: 0.1,
            call_per_s: 0.05,
            endless: 0.0,
            publish_per_s: 0.0,
            lamps: false,
            routing: false,
            gateway_per_s: 0.0,
            switch_per_s: 0.0,
        }
    }

    /// The same with gateways that come and go; phones call less.
    #[must_use]
    pub fn with_routing(self) -> Self {
        let (phones, call_per_s) = (2, 0.01);
        Self { phones, call_per_s, routing: true, gateway_per_s: 0.1, switch_per_s: 0.1, ..self }
    }

    /// Whether a node is a stock node.
    pub fn is_stock(&self, node: u32) -> bool {
        node > 1 && node + self.stock > self.nodes
    }

    /// Everything goes wrong now and then.
    pub fn hostile() -> Self {
        Self {
            udp_loss: 0.03,
            udp_duplicate: 0.02,
            udp_late: 0.05,
            udp_late_ms_max: 400,
            bin_late: 0.03,
            bin_late_ms_max: 300,
            bin_split: 0.2,
            stall: 0.002,
            stall_ms_max: 150,
            crash_per_s: 0.03,
            partition_per_s: 0.04,
            partition_one_way: 0.3,
            clock_skew_ms_max: 2_000,
            clock_jump_per_s: 0.01,
            clock_jump_ms_max: 3_000,
            disk_failure: 0.02,
            disk_ms_max: 30,
            operator_per_s: 0.03,
            database_away_per_s: 0.02,
            endless: 0.2,
            ..Self::calm()
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::hostile()
    }
}

/// Decisions by probability.
pub(crate) trait Dice {
    /// Whether something of this probability happens.
    fn happens(&mut self, probability: f64) -> bool;
    /// A number from `low` to `high`, both included; `low` if `high` is not above it.
    fn between(&mut self, low: u64, high: u64) -> u64;
    /// A place in a list of this length; 0 for an empty one.
    fn pick(&mut self, len: usize) -> usize;
}

impl Dice for Chance {
    fn happens(&mut self, probability: f64) -> bool {
        // Drawn in any case, so that an option set to 0 does not shift what follows.
        f64::from(self.u32()) < probability * f64::from(u32::MAX)
    }

    fn between(&mut self, low: u64, high: u64) -> u64 {
        let span = high.saturating_sub(low).saturating_add(1);
        low + self.u64() % span.max(1)
    }

    fn pick(&mut self, len: usize) -> usize {
        self.below(u32::try_from(len).unwrap_or(u32::MAX)) as usize
    }
}
