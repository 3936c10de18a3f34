//! The `usrloc` module: where users are.
//!
//! It keeps the contacts of every AoR in memory, in tables such as `location`; replicates them
//! to the other nodes of a cluster; writes them to SQL; and lets them expire. Scripts read and
//! set attributes of AoRs; `registrar` and `nathelper` use it through [`Usrloc`].
//!
//! Where to look: `store` is the location table without any engine; `state` the running module;
//! `params` its parameters; `replication` what peers are told and say, `wire` the records of a
//! repair between Tandem nodes; `sql` rows; `fetch` contacts that live in SQL alone; `sweep` what ends; `mi` commands; `ping` what pinging needs;
//! `functions`; `events`.

mod events;
mod fetch;
mod functions;
mod mi;
mod params;
mod ping;
mod replication;
mod sql;
mod state;
pub mod store;
mod sweep;
mod timer;
mod wire;

pub use params::{Params, Pinging, Writes};
pub use ping::{Leave, Leaves};
pub use state::{TABLES_MAX, Table, Usrloc};

use tandem_engine::module::ModuleDef;
use tandem_engine::stats::{StatDef, StatKind};
use tandem_script::sig::Dependency;

/// The export table.
pub static MODULE: ModuleDef = ModuleDef {
    name: "usrloc",
    help: "Keeps the contacts of users, in memory, in SQL and on all nodes of a cluster.",
    dependencies: &[Dependency { module: "clusterer", when_param: "location_cluster" }],
    params: params::PARAMS,
    functions: functions::FUNCTIONS,
    variables: &[],
    mi: mi::COMMANDS,
    statistics: &[StatDef {
        name: "registered_users",
        kind: StatKind::Function,
        resettable: false,
        help: "AoRs with a contact, over all tables.",
    }],
    events: events::EVENTS,
    build: Usrloc::build,
};
