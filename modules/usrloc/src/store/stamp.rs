//! The stamp of a write.

/// Hybrid logical time in microseconds, then the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stamp {
    pub time_us: u64,
    pub node: u32,
}

impl Stamp {
    pub const fn new(time_us: u64, node: u32) -> Self {
        Self { time_us, node }
    }
}
