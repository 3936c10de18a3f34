//! What is said when somebody sets the clock of the host while the node runs.

use tandem_engine::log::Level;

/// The difference between the host's clock and ours, as it was seen last.
#[derive(Debug, Default)]
pub(super) struct HostClock {
    ahead_ms: i64,
    /// It was told that the two differ.
    told: bool,
}

/// What is less is no step: time servers correct it all the time.
const STEP_MS: i64 = 2_000;
/// Ours is that of the host again.
const SAME_MS: i64 = 500;

impl HostClock {
    /// Looks at the difference, and says what is to be logged: each step once, and the end.
    pub(super) fn see(&mut self, ahead_ms: i64) -> Option<(Level, String)> {
        let stepped = (ahead_ms - self.ahead_ms).abs() > STEP_MS;
        self.ahead_ms = ahead_ms;
        if stepped && ahead_ms.abs() > STEP_MS {
            self.told = true;
            let (seconds, way) =
                (ahead_ms.abs() / 1000, if ahead_ms > 0 { "ahead" } else { "back" });
            let text = format!(
                "the clock of this host was set: it is {seconds} s {way} of this node's time, \
                 which follows by 3 s a minute, so that no contact or nonce ends too early or too \
                 late; if the host is right, a restart takes its time at once"
            );
            return Some((Level::Warning, text));
        }
        if self.told && ahead_ms.abs() <= SAME_MS {
            self.told = false;
            return Some((Level::Notice, "this node's time is that of its host again".into()));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_told_once_and_so_is_its_end() {
        let mut clock = HostClock::default();
        let mut seen = Vec::new();
        let hour = 3_600_000;
        let follows = (0..50).map(|second| hour - 50 * second);
        let back = (0..60).map(|second| (-2_500 + 50 * second).min(0));
        for ahead in [0, 3, -400, 900].into_iter().chain(follows).chain(back) {
            seen.extend(clock.see(ahead));
        }
        let levels: Vec<Level> = seen.iter().map(|(level, _)| *level).collect();
        assert_eq!(levels, [Level::Warning, Level::Warning, Level::Notice], "{seen:?}");
        assert!(seen[0].1.contains("3600 s ahead"), "{seen:?}");
        assert!(seen[1].1.contains("2 s back"), "{seen:?}");
    }
}
