//! What is wrong with what others send: counted, and logged at a bounded rate.

use crate::cluster::Ctx;
use crate::effects::{Effects, Level};
use tandem_clock::Now;

/// Lines of one second.
const LINES_PER_S: u32 = 20;

/// How many packets and connections were refused, and how much of it has been said.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    pub(crate) total: u64,
    second: u64,
    lines: u32,
    unsaid: u64,
}

impl Complaints {
    pub(crate) fn add(
        &mut self,
        now: Now,
        level: Level,
        out: &mut Effects,
        text: impl FnOnce() -> String,
    ) {
        self.total += 1;
        let second = now.mono_ns / tandem_clock::SEC;
        if second != self.second {
            if self.unsaid > 0 {
                out.log(Level::Warning, format!("{} more complaints about peers", self.unsaid));
            }
            (self.second, self.lines, self.unsaid) = (second, 0, 0);
        }
        if self.lines < LINES_PER_S {
            self.lines += 1;
            out.log(level, text());
        } else {
            self.unsaid += 1;
        }
    }
}

impl Ctx<'_> {
    pub(crate) fn complain(&mut self, level: Level, text: impl FnOnce() -> String) {
        self.node.complaints.add(self.now, level, self.out, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_few_are_logged() {
        let mut complaints = Complaints::default();
        let mut lines = 0;
        for i in 0..1000u64 {
            let mut out = Effects::default();
            let now = Now { mono_ns: i * tandem_clock::MS, unix_ms: 0 };
            complaints.add(now, Level::Warning, &mut out, || "no".into());
            lines += out.as_slice().len();
        }
        assert_eq!((complaints.total, lines), (1000, LINES_PER_S as usize));
        let mut out = Effects::default();
        let now = Now { mono_ns: tandem_clock::SEC, unix_ms: 0 };
        complaints.add(now, Level::Warning, &mut out, || "no".into());
        assert_eq!(out.as_slice().len(), 2);
    }
}
