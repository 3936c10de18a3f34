//! The state of the module.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use tandem_db::{DbError, Rows, Select};
use tandem_drouting::Drouting;
use tandem_engine::attached::{Section, TxMoment};
use tandem_engine::cached::{Cached, Part};
use tandem_engine::dialog::DialogEvent;
use tandem_engine::log::Level;
use tandem_engine::module::{Build, BuildError, Cx, Module};

use crate::params::Params;
use crate::profiles::{self, Profiles};
use crate::table::Table;
use crate::tries::Tries;

/// Name of the module.
pub(crate) const NAME: &str = "qrouting";

/// The state of the module.
pub struct Qrouting {
    pub(crate) params: Params,
    pub(crate) slot: u16,
    pub(crate) profiles: Cached<Profiles>,
    pub(crate) table: Table,
    /// Itself, for drouting.
    own: Weak<Self>,
    routing: parking_lot::RwLock<Weak<Drouting>>,
}

impl Qrouting {
    pub(crate) fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
        let params = Params::read(build)?;
        let select = Select {
            table: params.table.clone().into(),
            columns: profiles::columns(&params),
            ..Select::default()
        };
        let part = Part::new("", params.database, select);
        let profiles = Cached::new(vec![part], (500, "Failed to reload"))
            .map_err(|why| BuildError::new("table_name", why))?;
        let slot = build.slot;
        Ok(Arc::new_cyclic(|own| Self {
            params,
            slot,
            profiles,
            table: Table::default(),
            own: Weak::clone(own),
            routing: parking_lot::RwLock::default(),
        }))
    }

    pub(crate) fn profiles(&self) -> Arc<Profiles> {
        self.profiles.part("").map(Part::table).unwrap_or_default()
    }

    /// The module that is sorted for.
    pub(crate) fn routing(&self) -> Option<Arc<Drouting>> {
        self.routing.read().upgrade()
    }

    /// Lets go of the rules that a partition has not any more.
    pub(crate) fn forget_rules(&self, partition: &str) {
        let ids = self.routing().map(|r| r.quality_ids(partition)).unwrap_or_default();
        self.table.keep(partition, |id| ids.contains(&id));
    }
}

impl Module for Qrouting {
    fn start(&self, cx: &mut Cx<'_>) {
        self.profiles.start(cx);
        if let (Some((_, routing)), Some(own)) = (cx.node.find::<Drouting>(), self.own.upgrade()) {
            *self.routing.write() = Arc::downgrade(&routing);
            routing.sort_by(own);
        }
    }

    fn db(&self, cx: &mut Cx<'_>, token: u64, result: Result<Rows, DbError>) {
        self.profiles.answered(cx, token, result, |cx, rows| {
            let (profiles, faults) = profiles::read(rows, &self.params);
            for why in faults {
                cx.log(Level::Error, format!("qrouting: {why}: it is left out"));
            }
            profiles
        });
    }

    fn transaction(&self, cx: &mut Cx<'_>, section: &Section, moment: &TxMoment) {
        if let Ok(tries) = Arc::clone(section).downcast::<Tries>() {
            self.heard(cx, &tries, moment);
        }
    }

    fn section_bytes(&self, section: &Section) -> Option<Bytes> {
        section.downcast_ref::<Tries>().map(Tries::bytes)
    }

    fn section_of(&self, bytes: &Bytes) -> Option<Section> {
        Tries::read(bytes).map(|tries| Arc::new(tries) as Section)
    }

    fn dialog(&self, cx: &mut Cx<'_>, event: &DialogEvent<'_>) {
        self.dialog_told(cx, event);
    }
}
