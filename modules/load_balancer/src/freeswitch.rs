//! Sizes of resources that FreeSWITCH servers tell.

use std::sync::Arc;

use tandem_engine::module::Cx;
use tandem_freeswitch::{FsUrl, Watcher};

use crate::load::load;
use crate::state::LoadBalancer;
use crate::table::{Destination, Resource, Table};

impl LoadBalancer {
    /// The table is another one: from now on its servers are listened to.
    pub(crate) fn watch(&self, cx: &mut Cx<'_>, timer: u32) {
        let Some(freeswitch) = &self.freeswitch else { return };
        let table = self.table();
        let urls: Vec<_> = told_by(&table).map(|(.., url)| Arc::clone(url)).collect();
        freeswitch.watch(cx, Watcher { slot: cx.slot, timer }, urls);
        for (of, resource, url) in told_by(&table) {
            if let Some(told) = freeswitch.load(url).filter(|_| !resource.is_told()) {
                resource.tell(told.capacity(load(&self.dialogs, of, &resource.name)));
            }
        }
    }

    /// A HEARTBEAT has come. What counts are the calls of this moment: later ones are no part of
    /// what it tells, and find less room. So the sizes that other servers have told stay.
    pub(crate) fn told(&self, id: u64) {
        let told = self.freeswitch.as_ref().and_then(|freeswitch| freeswitch.told(id));
        let Some((by, told)) = told else { return };
        for (of, resource, _) in told_by(&self.table()).filter(|(.., url)| **url == by) {
            resource.tell(told.capacity(load(&self.dialogs, of, &resource.name)));
        }
    }
}

type Told<'a> = (&'a Destination, &'a Resource, &'a Arc<FsUrl>);

/// The resources whose sizes are told, and by whom.
fn told_by(table: &Table) -> impl Iterator<Item = Told<'_>> {
    table.all().iter().flat_map(|of| {
        let resources = of.resources.iter();
        resources.filter_map(move |resource| Some((&**of, resource, resource.told_by.as_ref()?)))
    })
}
