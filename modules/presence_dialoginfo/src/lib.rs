//! `presence_dialoginfo`: the event `dialog`, who is on the phone (RFC 4235), for the lamps of
//! phones.
//!
//! What is published for a user is put together (`document.rs`): the newest word about a dialog
//! counts, and a watcher is told the whole state, with a version of its own. When nothing is
//! published any more its dialogs are told to be over.

pub mod document;
mod package;

use std::sync::Arc;

use tandem_engine::module::{Build, BuildError, Module, ModuleDef};
use tandem_engine::table::{needs, param};
use tandem_presence::Presence;
use tandem_script::sig::{ParamKind, ParamSig};

/// The table of the module.
pub static MODULE: ModuleDef = ModuleDef {
    name: "presence_dialoginfo",
    help: "The event dialog: who is on the phone, for the lamps of phones.",
    dependencies: &[needs("presence")],
    params: PARAMS,
    functions: &[],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build,
};

const PARAMS: &[ParamSig] = &[param(
    "force_single_dialog",
    ParamKind::Int,
    Some("0"),
    "1: only the most interesting dialog is told: one that rings before one that goes on.",
)];

struct DialogInfo;

impl Module for DialogInfo {}

fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    let presence = build.module::<Presence>();
    let presence = presence.ok_or_else(|| BuildError::new("", "presence is not loaded"))?;
    let single = build.int("force_single_dialog").unwrap_or(0) != 0;
    presence.add_package(Arc::new(package::Dialogs { single }));
    Ok(Arc::new(DialogInfo))
}
