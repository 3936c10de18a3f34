//! Commands that every node has.

mod blacklists;
mod evi;
mod memory;
mod process;
mod statistics;
mod status_report;

use crate::mi::MiDef;
use crate::table::{command, count, join};

pub(super) use process::workers;

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
    super::profiling::COMMANDS,
    super::tcp::COMMANDS,
    super::cache::COMMANDS,
    memory::COMMANDS,
    status_report::COMMANDS,
    evi::COMMANDS,
    blacklists::COMMANDS,
    TANDEM,
];

pub(super) static COMMANDS: [MiDef; count(PARTS)] = join(PARTS);
