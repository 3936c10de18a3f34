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
//! `avps.rs` what a reply leaves with a message, `sets.rs` and `functions.rs` what scripts ask.

mod avps;
mod door;
mod functions;
mod load;
mod sets;
mod state;

use tandem_engine::module::ModuleDef;
use tandem_engine::table::{moot, param};
use tandem_script::sig::{ParamKind, ParamSig};

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
    functions: functions::FUNCTIONS,
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build: AaaRadius::build,
};

pub(crate) const PARAMS: &[ParamSig] = &[
    ParamSig {
        multiple: true,
        ..param(
            "sets",
            ParamKind::Vars,
            None,
            "Attributes and their variables: \"name = (User-Name = $fU, Sip-Group = $avp(g))\", for \
             the functions of this module.",
        )
    },
    param(
        "radius_config",
        ParamKind::Str,
        None,
        "The radiusclient.conf of the functions of this module.",
    ),
    moot("syslog_name", ParamKind::Str, "what is to say about servers is in the node's log"),
    param(
        "fetch_all_values",
        ParamKind::Int,
        Some("0"),
        "1: a variable gets every value that an answer has of its attribute, the first one on top; \
         0: the first one.",
    ),
];
