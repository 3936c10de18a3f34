//! The location store: AoRs and their contacts, without a socket, a clock or a log.
//!
//! A [`Domain`] is a table such as `location`, cut into shards by the hash that the wire uses.
//! Reading gives out shared, immutable contacts. Writing happens inside [`Domain::edit`] through
//! the one function [`Edit::apply`], which also hands local changes to the [`Sink`], so a change
//! that is not replicated cannot be written.
//!
//! Between Tandem nodes a contact is named exactly: by its URI, and its Call-ID where the
//! matching mode says so. The looser comparison of URIs is used only where a client's request
//! or a stock peer's packet enters; what it replaces under another name is deleted by name.
//! That makes merging a matter of stamps alone and the same in every order.

mod aor;
mod change;
mod contact;
mod domain;
mod edit;
mod empty;
mod ids;
pub mod keys;
mod local;
mod matching;
mod shared;
mod slots;
#[cfg(test)]
mod tests;
mod turns;

pub use aor::{CONTACTS_MAX, Contacts, TOMBSTONES_MAX};
pub use change::{Change, Done, Event, NotStored, Origin, Outcome, Replica, Sink};
pub use change::{Stamp, Tombstone, Why};
pub use contact::{ALL_METHODS, FLAG_EXTRA_HOP, FLAG_MEMORY_ONLY, FLAG_PUSH, Q_UNSET};
pub use contact::{Contact, NewContact, Shape, Text};
pub use domain::{BUCKETS, Digests, Domain, Record};
pub use edit::Edit;
pub use local::{DbState, Local, PingState};
pub use matching::{MATCH_PARAMS_MAX, Matching};
pub use slots::Due;
pub use turns::{PingPlan, Place};

pub(crate) use aor::LABELS;
pub(crate) use change::stamp_at;
pub(crate) use ids::is_id_of;

/// A contact outside of any table.
#[cfg(test)]
pub(crate) fn test_contact(
    aor: &[u8],
    new: &NewContact<'_>,
    by_call_id: bool,
    stamp: Stamp,
) -> std::sync::Arc<Contact> {
    let pool = shared::Pool::new(ahash::RandomState::with_seed(1));
    let scope = tandem_cluster::Digester::default();
    Contact::new(aor, new, by_call_id, stamp, scope, &pool, None).unwrap()
}
