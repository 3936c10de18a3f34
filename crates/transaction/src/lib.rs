//! Transactions: the state machines of RFC 3261 section 17, corrected by RFC 6026, and the
//! forking of RFC 3261 section 16, with the rules of the OpenSIPS module `tm`.
//!
//! A [`Transaction`] is one serial object: the server machine towards the caller (upstream), up
//! to [`BRANCHES_MAX`] client machines towards the destinations, a machine for each CANCEL it
//! had to send, and the logic that chooses one answer among the branches. Every input takes the
//! time and appends to an [`Effects`] what its owner has to do, in order.
//!
//! # Promises
//! - The upstream gets one final reply; after it only further 2xx to INVITE leave.
//! - Whatever arrives, nothing panics; memory per transaction is bounded, and so are the timer
//!   entries it has outstanding (two per machine, plus superseded ones with a later deadline).
//! - Once its owner has answered [`Effect::Final`] or called [`Transaction::release`],
//!   [`Effect::Ended`] follows when the timers have run.
//! - [`Transaction::restore`] of a [`Transaction::snapshot`] gives the same effects for the same
//!   inputs.
//!
//! # What is not here
//! Message grammar (the owner hands in bytes and codes, matches messages to transactions, and
//! builds ACK and CANCEL), sockets, DNS, scripts, 503 to 500 translation, merging of challenges.
//!
//! # How an owner uses it
//! 1. [`Transaction::new`], then [`Transaction::reply`] or [`Transaction::add_branch`] once per
//!    destination. [`Transaction::local`] is for a request that this node sends by itself.
//! 2. A reply goes to [`Transaction::on_reply`]. [`Effect::Relay`] asks to pass that reply on: the
//!    owner edits it and hands it to [`Transaction::reply`].
//! 3. [`Effect::Final`] says that every branch of the set failed and which one is best. The owner
//!    runs its failure route, then adds branches (a new set) or calls [`Transaction::reply`].
//! 4. [`Effect::SetTimer`] goes to a wheel, and comes back through [`Transaction::on_timer`] with
//!    the same `at`. There is no cancel: what is out of date is recognised and ignored.
//! 5. A script that ends without having done anything calls [`Transaction::release`].
//!
//! # Where the timers differ from RFC 3261, as in OpenSIPS
//! Timers B, F and H are `fr`, timer C is `fr_inv`, timer A stops doubling at T2, and timers D,
//! I, J and K are `wait` (zero on reliable transports, as in the RFC). L and M are 64*T1.
//!
//! # Files
//! `transaction.rs` the inputs; `server.rs` figures 7 and 8; `client.rs` figures 5 and 6;
//! `fork.rs` branches, the choice of the winner and CANCEL; `waiting.rs` branches that wait for
//! others, move elsewhere or are cancelled alone; `timers.rs`; `effects.rs`;
//! `snapshot.rs`. Behaviour tests are in `tests/`: `cargo test -p tandem-transaction`.

mod client;
mod effects;
mod fork;
mod server;
mod snapshot;
mod timers;
mod transaction;
mod waiting;

pub use client::ClientState;
pub use effects::{CancelReason, Effect, Effects};
pub use fork::{
    BRANCHES_MAX, BranchIndex, BranchSpec, BranchView, Dest, Outcome, Phase, Role, rank,
};
pub use server::ServerState;
pub use snapshot::{
    AlarmSnapshot, BranchSnapshot, ClientSnapshot, RestoreError, ServerSnapshot, Snapshot,
};
pub use timers::{Timer, Timers};
pub use transaction::{BranchError, Heard, Kind, ReplyError, Settings, Transaction};
