//! Statistics, by their place in the table.

use tandem_engine::stats::StatDef;
use tandem_engine::table::{counter, gauge};

pub(crate) const ACTIVE: usize = 0;
pub(crate) const EARLY: usize = 1;
pub(crate) const PROCESSED: usize = 2;
pub(crate) const EXPIRED: usize = 3;
pub(crate) const FAILED: usize = 4;
pub(crate) const CREATE_SENT: usize = 5;
pub(crate) const UPDATE_SENT: usize = 6;
pub(crate) const DELETE_SENT: usize = 7;
pub(crate) const CREATE_RECV: usize = 8;
pub(crate) const UPDATE_RECV: usize = 9;
pub(crate) const DELETE_RECV: usize = 10;

pub(crate) const STATISTICS: &[StatDef] = &[
    gauge("active_dialogs", "Dialogs that were answered and go on."),
    gauge("early_dialogs", "Dialogs that ring."),
    counter("processed_dialogs", "Dialogs that were made."),
    counter("expired_dialogs", "Dialogs whose lifetime was over."),
    counter("failed_dialogs", "Dialogs that were never answered."),
    counter("create_sent", "Answered dialogs that peers were told of."),
    counter("update_sent", "Changes of answered dialogs that peers were told of."),
    counter("delete_sent", "Ends of answered dialogs that peers were told of."),
    counter("create_recv", "Answered dialogs that peers told of."),
    counter("update_recv", "Changes of answered dialogs that peers told of."),
    counter("delete_recv", "Ends of answered dialogs that peers told of."),
];
