//! `presence_xml`: the events whose bodies are presence documents: `presence` with its watchers,
//! and shared lines (`dialog;sla`).
//!
//! What is published for a user is put together (`pidf.rs`). Who may see it the user's rules say
//! (`rules.rs`), and how much of it (`view.rs`); they are documents that `xcap` knows
//! (`asking.rs`).

mod asking;
mod dates;
mod package;
mod params;
pub mod pidf;
pub mod rules;
mod state;
mod view;

use tandem_engine::module::ModuleDef;
use tandem_engine::table::needs;

pub use state::PresenceXml;
pub use view::View;

/// The table of the module.
pub static MODULE: ModuleDef = ModuleDef {
    name: "presence_xml",
    help: "The event presence: documents put together, and who may see them.",
    dependencies: &[needs("presence"), needs("xcap"), needs("signaling")],
    params: params::PARAMS,
    functions: &[],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build: PresenceXml::build,
};
