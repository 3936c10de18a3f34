//! Commands that every node has.

mod blacklists;
mod evi;
mod memory;
mod process;
mod statistics;
mod status_report;

use crate::mi::{MiCall, MiDef, MiOutcome, MiParam};
use crate::table::{count, join};

const fn command(
    name: &'static str,
    old_names: &'static [&'static str],
    param_sets: &'static [&'static [MiParam]],
    help: &'static str,
    run: fn(&mut MiCall<'_, '_>) -> MiOutcome,
) -> MiDef {
    MiDef { name, old_names, param_sets, help, run }
}

const TANDEM: &[MiDef] = &[command(
    "tandem:status",
    &[],
    &[&[]],
    "Who is active, since when and why; what is in step.",
    super::status::status,
)];

/// In the order in which `which` lists them.
const PARTS: &[&[MiDef]] = &[
    statistics::COMMANDS,
    process::COMMANDS,
    super::tcp::COMMANDS,
    super::cache::COMMANDS,
    memory::COMMANDS,
    status_report::COMMANDS,
    evi::COMMANDS,
    blacklists::COMMANDS,
    TANDEM,
];

pub(super) static COMMANDS: [MiDef; count(PARTS)] = join(PARTS);
