//! `pua`: what this server publishes and subscribes to in the name of its users.
//!
//! Other modules say what is to be published; this one sends the PUBLISH (RFC 3903), keeps its
//! ETag, refreshes it before it ends, and publishes anew where the server has lost it.
//!
//! # Promises
//! - What is wanted is replicated before it is sent, so that another node can finish it: the end
//!   of a call is told although the node dies that heard of it.
//! - A refresh, and whatever else time causes, takes a duty: by the sharing tag, or else the node
//!   that made the record.
//! - One request of a record is on its way at a time; of several wishes the last one counts.
//!
//! # Files
//! `record.rs` is what is kept, `codec.rs` its bytes between nodes, `table.rs` where it is found
//! and when it is due; `outgoing.rs` sends, `replies.rs` listens, `sweep.rs` watches the time;
//! `store.rs` is the table of the database, `replication.rs` the peers.

mod codec;
mod duty;
mod functions;
mod outgoing;
mod params;
pub mod record;
mod replication;
mod replies;
mod state;
mod store;
mod sweep;
mod table;

use tandem_engine::module::ModuleDef;
use tandem_engine::table::needs;
use tandem_script::sig::Dependency;

pub use record::{Event, Key, Publication, Record, Source, Watch};
pub use state::Pua;

/// The table of the module.
pub static MODULE: ModuleDef = ModuleDef {
    name: "pua",
    help: "Publishes and subscribes in the name of users: keeps, refreshes and repeats.",
    dependencies: &[
        needs("tm"),
        Dependency { module: "clusterer", when_param: "cluster_id" },
        Dependency { module: "clusterer", when_param: "cluster_sharing_tag" },
    ],
    params: params::PARAMS,
    functions: functions::FUNCTIONS,
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build: Pua::build,
};
