//! Everything phones do, for some seconds; `tests/soak` does it a million times.

use tandem_tests::{Soak, tail};

/// Few enough a second for a busy machine: whoever is late meets the timers of others.
const PER_SECOND: u32 = 800;
const TRANSACTIONS: u64 = 8_000;
/// What a transaction may leave, with all that is kept for some seconds or minutes in its memory.
/// The long soak is exact.
const KB_MAX: u64 = 4;

#[test]
fn nothing_is_left_of_what_is_over() {
    let mut soak = Soak::start("soak");
    let before = soak.reading();
    soak.run(TRANSACTIONS, PER_SECOND);
    let amid = soak.reading();
    for (what, n) in &amid.alive {
        let passes = ["records that wait", "replies at a gate", "dialog:early_dialogs"];
        assert!(*n > 0 || passes.contains(what), "the soak tries nothing with {what}: {amid}");
    }
    let after = soak.run_out();
    println!("{after}");
    let log = soak.log();
    assert_eq!(after.left(), [""; 0], "{after}");
    assert_eq!(soak.counts().lost, 0, "{:?}", soak.counts());
    for what in ["core:failed_steps", "core:quarantined_messages", "core:err_requests"] {
        assert_eq!(after.done[what], 0, "{what}: {}", tail(&log, 20));
    }
    assert!(!log.contains("panicked"), "{}", tail(&log, 40));
    let grown = after.rss_kb.saturating_sub(before.rss_kb);
    assert!(grown < TRANSACTIONS * KB_MAX, "grown by {grown} kB");
}
