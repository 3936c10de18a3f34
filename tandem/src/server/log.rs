//! Log lines on standard error: time, level, text.

use std::io::Write as _;

use tandem_clock::Now;
use tandem_engine::date::iso;
use tandem_engine::log::Level;

pub(super) fn line(now: Now, level: Level, text: &str) {
    let mut err = std::io::stderr().lock();
    // Nobody can be told that standard error is gone.
    let _ = writeln!(err, "{} {:7} {text}", iso(now.unix_s()), level.name());
}
