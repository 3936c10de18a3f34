//! The timers of the module, by kind.

/// Contacts that have come due; the id is the place in the walk through the tables.
pub(crate) const SWEEP: u32 = 0;
/// What differs from SQL is written.
pub(crate) const FLUSH: u32 = 1;
/// A database that failed is asked again.
pub(crate) const RETRY: u32 = 2;
/// Replies have waited for the database for long enough.
pub(crate) const HELD: u32 = 3;
/// A table that could not be loaded is asked for again; the id is the table's place.
pub(crate) const RELOAD: u32 = 4;
