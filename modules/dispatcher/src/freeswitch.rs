//! Weights that FreeSWITCH servers tell.

use std::sync::Arc;

use tandem_engine::module::{Build, BuildError, Cx};
use tandem_freeswitch::{FreeSwitch, Watcher};

use crate::sets::Sets;
use crate::state::Dispatcher;

/// The module that listens to them, if that is wanted.
pub(crate) fn listener(
    build: &Build<'_>,
    wanted: bool,
) -> Result<Option<Arc<FreeSwitch>>, BuildError> {
    match build.module::<FreeSwitch>() {
        None if wanted => {
            let why = "the module freeswitch is needed";
            Err(BuildError::new("fetch_freeswitch_stats", why).help("load freeswitch.so"))
        }
        found => Ok(found.filter(|_| wanted)),
    }
}

impl Dispatcher {
    /// Tables are other ones: from now on their servers are listened to.
    pub(crate) fn watch(&self, cx: &mut Cx<'_>, timer: u32) {
        let Some(freeswitch) = &self.freeswitch else { return };
        let tables = self.tables();
        let all = tables.iter().flat_map(|sets| sets.all());
        let urls: Vec<_> = all.filter_map(|of| of.weight.told_by.clone()).collect();
        freeswitch.watch(cx, Watcher { slot: cx.slot, timer }, urls);
        self.weigh();
    }

    /// Sets the weights that were told.
    pub(crate) fn weigh(&self) {
        let max = self.params.freeswitch_max.unwrap_or(0);
        let Some(freeswitch) = &self.freeswitch else { return };
        for sets in self.tables() {
            for of in sets.all() {
                let told = of.weight.told_by.as_ref().and_then(|url| freeswitch.load(url));
                if let Some(load) = told {
                    of.weight.set(load.weight(max));
                }
            }
        }
    }

    fn tables(&self) -> Vec<Arc<Sets>> {
        self.parts().iter().map(|part| self.sets(part)).collect()
    }
}
