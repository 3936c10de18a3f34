//! Weights that FreeSWITCH servers tell.

use std::sync::Arc;

use tandem_engine::module::Cx;
use tandem_freeswitch::{Load, Watcher};

use crate::sets::Sets;
use crate::state::Dispatcher;

impl Dispatcher {
    /// Tables are other ones: from now on their servers are listened to.
    pub(crate) fn watch(&self, cx: &mut Cx<'_>, timer: u32) {
        let Some(freeswitch) = &self.freeswitch else { return };
        let tables = self.tables();
        let all = tables.iter().flat_map(|sets| sets.all());
        let told: Vec<_> = all.filter_map(|of| Some((of, of.weight.told_by.as_ref()?))).collect();
        let urls = told.iter().map(|(_, url)| Arc::clone(url));
        freeswitch.watch(cx, Watcher { slot: cx.slot, timer }, urls);
        for (of, url) in told {
            if let Some(load) = freeswitch.load(url) {
                of.weight.set(self.weight(load));
            }
        }
    }

    /// A HEARTBEAT has come.
    pub(crate) fn told(&self, id: u64) {
        let told = self.freeswitch.as_ref().and_then(|freeswitch| freeswitch.told(id));
        let Some((by, load)) = told else { return };
        for sets in self.tables() {
            for of in sets.all().filter(|of| of.weight.told_by.as_ref() == Some(&by)) {
                of.weight.set(self.weight(load));
            }
        }
    }

    fn weight(&self, load: Load) -> u32 {
        load.weight(self.params.freeswitch_max.unwrap_or(0))
    }

    fn tables(&self) -> Vec<Arc<Sets>> {
        self.parts().iter().map(|part| self.sets(part)).collect()
    }
}
