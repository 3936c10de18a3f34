//! Statistics, by their place in the table.

use tandem_engine::stats::StatDef;
use tandem_engine::table::{counter, gauge};

pub(crate) const ACTIVE: usize = 0;
pub(crate) const EARLY: usize = 1;
pub(crate) const PROCESSED: usize = 2;
pub(crate) const EXPIRED: usize = 3;
pub(crate) const FAILED: usize = 4;

pub(crate) const STATISTICS: &[StatDef] = &[
    gauge("active_dialogs", "Dialogs that were answered and go on."),
    gauge("early_dialogs", "Dialogs that ring."),
    counter("processed_dialogs", "Dialogs that were made."),
    counter("expired_dialogs", "Dialogs whose lifetime was over."),
    counter("failed_dialogs", "Dialogs that were never answered."),
];
