//! The running module.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use bytes::Bytes;
use tandem_dialog::{Dialog, Dialogs};
use tandem_engine::attached::{Section, TxMoment};
use tandem_engine::dialog::DialogEvent;
use tandem_engine::module::{Build, BuildError, Cx, Module};
use tandem_pua::{Pua, Source};

use crate::params::Params;
use crate::plan::Plan;
use crate::watch::Watched;

/// The lamps of a node.
pub struct DialogInfo {
    pub(crate) params: Params,
    pub(crate) pua: Arc<Pua>,
    pub(crate) pua_slot: u16,
    dialog_slot: AtomicU16,
}

impl DialogInfo {
    pub(crate) fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
        let pua = build.module::<Pua>().ok_or_else(|| BuildError::new("", "pua is not loaded"))?;
        let params = Params::read(build);
        let (pua_slot, dialog_slot) = (pua.slot(), AtomicU16::new(u16::MAX));
        Ok(Arc::new(Self { params, pua, pua_slot, dialog_slot }))
    }

    pub(crate) fn dialogs(&self, cx: &Cx<'_>) -> Option<Arc<Dialogs>> {
        cx.node.module::<Dialogs>(self.dialog_slot.load(Ordering::Relaxed))
    }
}

impl Module for DialogInfo {
    fn start(&self, cx: &mut Cx<'_>) {
        if let Some((slot, _)) = cx.node.find::<Dialogs>() {
            self.dialog_slot.store(slot, Ordering::Relaxed);
        }
        self.pua.set_next_hop(Source::DIALOG, self.params.server.clone());
    }

    fn transaction(&self, cx: &mut Cx<'_>, section: &Section, moment: &TxMoment) {
        if let Some(watched) = section.downcast_ref::<Watched>() {
            self.heard(cx, watched, moment);
        }
    }

    fn section_bytes(&self, section: &Section) -> Option<Bytes> {
        section.downcast_ref::<Watched>().map(Watched::bytes)
    }

    fn section_of(&self, bytes: &Bytes) -> Option<Section> {
        Watched::read(bytes).map(|watched| Arc::new(watched) as Section)
    }

    fn dialog(&self, cx: &mut Cx<'_>, event: &DialogEvent<'_>) {
        self.dialog_event(cx, event);
    }

    fn adopts(&self, record: &(dyn Any + Send + Sync)) -> bool {
        record.downcast_ref::<Dialog>().is_some_and(Plan::is_in)
    }
}
