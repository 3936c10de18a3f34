//! What drouting, dispatcher and load_balancer have in common: targets of calls (gateways,
//! carriers, destinations) whose states the nodes of a cluster agree on. It is no module that a
//! script could load.
//!
//! # Promises
//! - A state changes in one function ([`Register::change`]), which also tells peers, the event and
//!   the database.
//! - The order in which changes come in does not matter: after quiet all nodes have the same.
//! - Who probes has leave to (a `Duty`, where nodes share the work), each target is asked once
//!   in an interval, and the targets are spread over it.
//!
//! # Files
//! `status.rs` is a state, `register.rs` all of them, `owner.rs` what a module adds to it;
//! `replication.rs` tells peers, `persist.rs` the database, `probing.rs` asks targets, `names.rs`
//! finds their addresses, `blacklist.rs` has lists of them. `faults.rs` is what was wrong with rows,
//! `params.rs` has the parameters that the modules share, `testing.rs` the tests of two nodes.

mod blacklist;
mod faults;
mod names;
mod owner;
mod params;
mod persist;
mod probing;
mod register;
mod replication;
mod status;
pub mod testing;

pub use blacklist::{Blacklist, Place, Refill};
pub use faults::{Fault, Faults};
pub use names::{Address, Again, Missing, Searches, is_socket, not_found, one_line};
pub use owner::{Becomes, Change, Key, Origin, Owner, Said};
pub use params::{
    CLUSTER_ID, Mode, PROBING_MODE, SHARING_TAG, Sharing, check_codes, codes, probing_socket,
};
pub use persist::{EVERY_S as WRITE_EVERY_S, Writer};
pub use probing::{Answer, Prober, Probing, Target};
pub use register::{Outcome, Register};
pub use status::{NEVER, Order, Status};
