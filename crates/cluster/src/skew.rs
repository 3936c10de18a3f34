//! How far the clock of a peer is from ours, by what its messages say of it.
//!
//! A message is as old as its way was long, so a peer that seems to be late may have been held up
//! only, for as long as a network was away. One that seems to be early is, and of two nodes the
//! later one finds that of the other.

/// Peers that are early by more are warned about.
const FAR_MS: i64 = 2_000;

/// What is known after one more message.
pub(crate) fn estimate(known_ms: Option<i64>, measured_ms: i64) -> i64 {
    match known_ms {
        // A clock that was set back is believed after some messages.
        Some(known) if measured_ms < known => {
            known.saturating_sub((known.saturating_sub(measured_ms) / 8).max(1))
        }
        _ => measured_ms,
    }
}

/// Whether somebody should look after the clocks.
pub(crate) fn is_far(skew_ms: i64) -> bool {
    skew_ms > FAR_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_was_held_up_says_little_and_one_that_is_early_all() {
        assert_eq!(estimate(None, -9_000), -9_000);
        assert_eq!(estimate(Some(-9_000), 3), 3, "the next one was not held up");
        let held_up = estimate(Some(0), -9_000);
        assert!(held_up > -2_000 && !is_far(held_up));
        assert!(is_far(estimate(Some(0), 5_000)));
    }

    #[test]
    fn a_clock_that_was_set_back_is_believed() {
        let skew = (0..100).fold(4_000, |known, _| estimate(Some(known), -4_000));
        assert!(skew < -3_900, "{skew}");
    }
}
