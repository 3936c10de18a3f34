//! Time, chance and timers as *inputs* of a node.
//!
//! Protocol code never asks the operating system what time it is or for random bytes: it is
//! handed a [`Now`] with every step and owns a [`Chance`] seeded by the binary (from the
//! operating system) or by the simulator (from the seed of the run). The [`Wheel`] holds what
//! has to be done later, a [`Rota`] what has to be done again and again.

mod chance;
mod now;
mod rota;
mod wheel;

pub use chance::{Chance, HashKey};
pub use now::{Mono, Now};
pub use rota::{Beat, Rota, SLOTS_MAX};
pub use wheel::Wheel;

/// One millisecond in the unit of [`Mono`].
pub const MS: u64 = 1_000_000;
/// One second in the unit of [`Mono`].
pub const SEC: u64 = 1_000 * MS;
