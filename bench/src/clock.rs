//! The clock of the measuring side.

use std::time::Instant;

/// The time, which a measurement of real processes has to read from the machine.
#[expect(clippy::disallowed_methods, reason = "the benchmark measures real processes")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
