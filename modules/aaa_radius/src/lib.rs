//! `aaa_radius`: asks RADIUS servers, for scripts and for other modules.
//!
//! A door is one configuration file with its servers and its dictionary. Other modules open theirs
//! when they are built ([`AaaRadius::wanted`], [`AaaRadius::need`]), ask ([`AaaRadius::ask`]), and
//! are told by a timer of theirs that the answer can be taken ([`AaaRadius::take`]). A server that
//! is silent costs a warning, and whoever asked it hears that nobody has answered; workers never
//! wait.
//!
//! # Files
//! `load.rs` the files of a door, `door.rs` a door with its requests, `state.rs` the module,
//! `avps.rs` what a reply leaves with a message.

mod avps;
mod door;
mod load;
mod state;

use tandem_engine::module::ModuleDef;
use tandem_script::sig::ParamSig;

pub use crate::avps::keep;
pub use crate::state::{AaaRadius, Asker, DoorId, Outcome};
pub use tandem_radius::client::Kind;
pub use tandem_radius::packet::Avp;

/// The table of `aaa_radius`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "aaa_radius",
    help: "Asks RADIUS servers, for scripts and for the modules group and acc.",
    dependencies: &[],
    params: PARAMS,
    functions: &[],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build: AaaRadius::build,
};

const PARAMS: &[ParamSig] = &[];
