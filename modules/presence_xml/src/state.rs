//! The running module.

use std::sync::Arc;

use tandem_db::{DbError, Rows};
use tandem_engine::module::{Build, BuildError, Cx, Module};
use tandem_presence::Presence;
use tandem_xcap::Xcap;

use crate::asking::Asking;
use crate::package::{Documents, SharedLines};
use crate::params::Params;

/// What module and packages share.
pub(crate) struct Shared {
    pub(crate) params: Params,
    pub(crate) slot: u16,
    pub(crate) presence: Arc<Presence>,
    pub(crate) xcap: Arc<Xcap>,
    pub(crate) asking: Asking,
}

/// The state of the module.
pub struct PresenceXml(Arc<Shared>);

impl PresenceXml {
    pub(crate) fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
        let missing = |name: &str| BuildError::new("", format!("{name} is not loaded"));
        let presence = build.module::<Presence>().ok_or_else(|| missing("presence"))?;
        let xcap = build.module::<Xcap>().ok_or_else(|| missing("xcap"))?;
        let (params, slot) = (Params::read(build), build.slot);
        let asking = Asking::default();
        let shared =
            Arc::new(Shared { params, slot, presence: Arc::clone(&presence), xcap, asking });
        presence.add_package(Arc::new(Documents(Arc::clone(&shared))));
        presence.add_package(Arc::new(SharedLines));
        Ok(Arc::new(Self(shared)))
    }
}

impl Module for PresenceXml {
    fn db(&self, cx: &mut Cx<'_>, token: u64, result: Result<Rows, DbError>) {
        self.0.answered(cx, token, result);
    }
}
