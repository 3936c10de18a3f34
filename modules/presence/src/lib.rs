//! `presence`: who has published what, and who watches it (RFC 6665, 3903, 3856, 3857).
//!
//! # Promises
//! - Everything that changes a publication or subscription goes through `Table::apply`, which
//!   also tells the peers.
//! - A NOTIFY is owed, not ordered: a watcher is told while what he was told last is not what is
//!   known. A node that takes over owes what the other one did not do, and nothing twice.
//! - What a node does of itself (NOTIFY, end of a subscription) takes a duty.
//! - CSeqs never go back, also when another node goes on.
//! - Memory is bounded: so many publications of a presentity, so many bytes of a body; a
//!   presentity with many watchers is dealt with step by step.
//!
//! # Files
//! `record.rs` is what is kept, `change.rs` what can happen to it, `work.rs` what that does,
//! `table.rs` where it is found. `publish.rs` and `subscribe.rs` are the two requests, `notify.rs`
//! with `said.rs` and `winfo.rs` the third; `package.rs` is the door for modules with events,
//! `rules.rs` asks them who may watch whom. `sweep.rs` follows the time, `replication/` the peers,
//! `sql/` the database.

mod accept;
mod again;
mod bla;
mod change;
mod duty;
mod ends;
mod events;
mod functions;
mod graves;
mod mi;
mod notify;
pub mod package;
mod params;
mod publish;
pub mod record;
mod removed;
mod replication;
mod reply;
mod request;
mod rules;
mod said;
mod sql;
mod state;
mod subscribe;
mod sweep;
pub mod table;
mod winfo;
mod work;

use tandem_engine::module::ModuleDef;
use tandem_engine::table::needs;
use tandem_script::sig::Dependency;

pub use package::{Body, Package, Refusal, RuleAsk, Status, Verdict, Viewer};
pub use params::{Federation, Params};
pub use publish::{Granted, Publish};
pub use record::{Key, Publication, Subscription};
pub use state::Presence;
pub use winfo::escaped;

/// The table of the module.
pub static MODULE: ModuleDef = ModuleDef {
    name: "presence",
    help: "Publications and subscriptions of events: PUBLISH, SUBSCRIBE and NOTIFY.",
    dependencies: &[
        needs("tm"),
        needs("signaling"),
        Dependency { module: "clusterer", when_param: "cluster_id" },
    ],
    params: params::PARAMS,
    functions: functions::FUNCTIONS,
    variables: &[],
    mi: mi::COMMANDS,
    statistics: &[],
    events: events::EVENTS,
    build: Presence::build,
};
