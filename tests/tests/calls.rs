//! Calls through the hot standby while machines die, are cut off and come back: what the phones
//! on both ends say became of each. `tests/failover --long` does the same by the thousand.

use std::path::Path;
use std::time::Duration;

use tandem_tests::{
    Blow, Deed, ELECTION, PHONES, Phones, Standby, Store, Tally, uptime_ms, wait_until,
};

/// What else is wrong while the blow falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Amid {
    Nothing,
    /// The database is away.
    NoDatabase,
    /// So it is, and the disks of the spools are full.
    NoDisk,
}

/// Calls while the blow falls: every answered one ends properly and is billed once, and nothing
/// is left of any.
fn story(name: &str, blow: Blow) {
    told(name, Store::Files, blow, Amid::Nothing);
}

fn told(name: &str, store: Store, blow: Blow, amid: Amid) {
    let Some(mut standby) = Standby::start(name, store) else { return };
    let hold = Some(Duration::from_secs(4));
    let program = Path::new(env!("CARGO_BIN_EXE_phones"));
    let phones = Phones::start(&standby, program, PHONES[0], [240, 30], hold);
    let two = &standby.machines[1];
    wait_until("the contacts are on both", ELECTION, || two.knows("b0") && two.knows("b49"));
    // Some calls are through, some are up, some are still to come.
    wait_until("calls are under way", ELECTION, || phones.placed() >= 60);
    if amid != Amid::Nothing {
        standby.fill_spools(amid == Amid::NoDisk);
        standby.stop_database(true);
    }
    wait_until("calls are under way", ELECTION, || phones.placed() >= 90);
    let from_ms = uptime_ms();
    standby.hit(blow);
    let deed = Deed { what: format!("{blow:?}, {amid:?}"), blow, from_ms, to_ms: uptime_ms() };
    if blow == Blow::Split {
        wait_until("more calls are placed", ELECTION, || phones.placed() >= 180);
        standby.mend(blow);
    }
    let records = phones.outcome(Duration::from_secs(120));
    if blow != Blow::Split {
        standby.mend(blow);
    }
    if amid != Amid::Nothing {
        standby.stop_database(false);
        standby.fill_spools(false);
    }
    let mut tally = Tally::default();
    wait_until("each answered call is billed", ELECTION, || {
        let deeds = std::slice::from_ref(&deed);
        tally = Tally::of(&records, deeds, &standby.billed(), standby.is_apart());
        if !tally.is_clean() {
            eprintln!("{:#?}", tally.findings);
        }
        tally.is_clean()
    });
    eprintln!("{}", tally.table());
    assert!(tally.answered > 100, "{} of {} calls were answered", tally.answered, tally.placed);
    // Deaths that fall between an answer and its way to the other machine are rare.
    assert!(tally.answered - tally.billed <= 1, "{}", tally.table());
    wait_until("nothing is left", ELECTION, || {
        let left = standby.leftovers();
        if !left.is_empty() {
            eprintln!("{left:#?}");
        }
        left.is_empty()
    });
}

#[test]
fn calls_outlive_the_machine_that_set_them_up() {
    story("calls-death", Blow::Death);
}

#[test]
fn calls_outlive_a_machine_that_is_cut_off_and_comes_back() {
    story("calls-unplugged", Blow::Unplugged);
}

#[test]
fn calls_outlive_a_restart() {
    story("calls-restart", Blow::Restart);
}

#[test]
fn calls_outlive_a_node_that_is_killed_and_started_again() {
    story("calls-killed", Blow::Killed);
}

#[test]
fn calls_outlive_a_planned_switch() {
    story("calls-switch", Blow::Switch);
}

#[test]
fn calls_outlive_a_split_with_both_machines_serving() {
    story("calls-split", Blow::Split);
}

#[test]
fn calls_outlive_a_machine_whose_database_is_away() {
    told("calls-away", Store::Shared, Blow::Death, Amid::NoDatabase);
}

#[test]
fn calls_outlive_a_machine_whose_disk_is_full_as_well() {
    told("calls-full", Store::Shared, Blow::Unplugged, Amid::NoDisk);
}
