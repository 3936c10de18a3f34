//! What a FreeSWITCH bears, as its HEARTBEATs tell.

use crate::frame::Lines;

/// Sessions and processor of a FreeSWITCH.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    pub sessions: u32,
    pub sessions_max: u32,
    /// Percents, from 0 to 100.
    pub idle_cpu: f64,
}

impl Load {
    /// Of the lines of a HEARTBEAT.
    ///
    /// # Errors
    /// What is missing or no number.
    pub(crate) fn of(event: &Lines) -> Result<Self, String> {
        let text = |name: &str| event.get(name).unwrap_or_default().trim();
        let count = |name: &str| {
            text(name).parse::<u32>().map_err(|_| format!("its {name} is no number of sessions"))
        };
        let idle_cpu = text("Idle-CPU").parse::<f64>().ok().filter(|idle| idle.is_finite());
        let idle_cpu = idle_cpu.ok_or("its Idle-CPU is no number of percents")?;
        Ok(Self {
            sessions: count("Session-Count")?,
            sessions_max: count("Max-Sessions")?,
            idle_cpu: idle_cpu.clamp(0.0, 100.0),
        })
    }

    /// The share of the largest weight that it has deserved: what is free of its sessions, by what
    /// is free of its processor.
    pub fn weight(&self, max: u32) -> u32 {
        let free = self.sessions_max.saturating_sub(self.sessions);
        let share = f64::from(free) / f64::from(self.sessions_max.max(1));
        (f64::from(max) * share * self.idle_cpu / 100.0).round() as u32
    }

    /// The calls that it can bear for somebody who has so many of its sessions: all but those of
    /// others, by what is free of its processor.
    pub fn capacity(&self, own: usize) -> u32 {
        let own = u32::try_from(own).unwrap_or(u32::MAX);
        let others = self.sessions.saturating_sub(own);
        let free = self.sessions_max.saturating_sub(others);
        (f64::from(free) * self.idle_cpu / 100.0).round() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn load(sessions: u32, sessions_max: u32, idle_cpu: f64) -> Load {
        Load { sessions, sessions_max, idle_cpu }
    }

    #[test]
    fn the_weight_is_what_is_free_of_both() {
        assert_eq!(load(0, 1000, 100.0).weight(100), 100);
        assert_eq!(load(250, 1000, 50.0).weight(100), 38);
        assert_eq!(load(1000, 1000, 100.0).weight(100), 0);
        assert_eq!((load(9, 3, 100.0).weight(100), load(0, 0, 100.0).weight(100)), (0, 0));
    }

    /// The figures of the talk that introduced it: what others have there is not ours to use.
    #[test]
    fn the_capacity_leaves_out_the_sessions_of_others() {
        assert_eq!(load(100, 100, 100.0).capacity(50), 50);
        assert_eq!(load(90, 100, 100.0).capacity(60), 70);
        assert_eq!(load(90, 100, 100.0).capacity(30), 40);
        assert_eq!(load(90, 100, 50.0).capacity(30), 20);
        assert_eq!((load(10, 100, 100.0).capacity(30), load(0, 0, 9.0).capacity(3)), (100, 0));
    }

    proptest! {
        #[test]
        fn nothing_is_more_than_all(
            sessions: u32, all: u32, idle in 0.0f64..=100.0, own: usize, max in 0u32..100_000
        ) {
            let load = load(sessions, all, idle);
            prop_assert!(load.weight(max) <= max && load.capacity(own) <= all);
        }
    }
}
