//! `fallback2db`: what is not in memory is looked for in a database that other nodes write too.

use std::sync::Arc;

use tandem_db::{DbError, Rows};
use tandem_engine::module::{Call, Cx};

use super::Asked;
use crate::record::{Key, SubId};
use crate::rules::Progress;
use crate::state::Presence;

impl Presence {
    /// Whether the database is asked for the publications of a presentity, and the run waits. Once
    /// for each function.
    pub(crate) fn looks_for_publication(
        &self,
        call: &mut Call<'_, '_, '_>,
        key: &Arc<Key>,
    ) -> bool {
        let Some(sql) = self.sql.as_ref().filter(|_| self.may_look(call)) else { return false };
        let run = call.suspend();
        let about = Asked::RunPublications(Arc::clone(key), run);
        sql.ask(call.cx, sql.tables.publications_of(key), about);
        true
    }

    /// The same for the subscriptions of a dialog.
    pub(crate) fn looks_for_subscription(&self, call: &mut Call<'_, '_, '_>, id: &SubId) -> bool {
        let Some(sql) = self.sql.as_ref().filter(|_| self.may_look(call)) else { return false };
        let run = call.suspend();
        sql.ask(call.cx, sql.tables.subscriptions_of(id), Asked::RunSubscriptions(run));
        true
    }

    fn may_look(&self, call: &mut Call<'_, '_, '_>) -> bool {
        let progress = call.ctx.section_mut::<Progress>(self.slot);
        !std::mem::take(&mut progress.has_looked) && self.params.fallback2db
    }

    /// What a run waits for is here, as far as there is any.
    pub(super) fn looked(&self, cx: &mut Cx<'_>, run: u64) {
        let slot = self.slot;
        cx.with_suspended(run, |ctx| ctx.section_mut::<Progress>(slot).has_looked = true);
        cx.call_again(run);
    }

    /// Somebody begins to watch a presentity of whom nothing is known here. He is told nothing
    /// before the database has answered.
    pub(crate) fn look_for_publications(&self, cx: &mut Cx<'_>, key: &Arc<Key>) {
        let Some(sql) = self.sql.as_ref().filter(|_| self.params.fallback2db) else { return };
        if key.watched().is_some() {
            return;
        }
        let asks = self.table.local_or_new(key, |p| {
            let asks = p.publications.is_empty() && !p.is_asking;
            p.is_asking |= asks;
            asks
        });
        if asks {
            let about = Asked::Publications(Arc::clone(key));
            sql.ask(cx, sql.tables.publications_of(key), about);
        }
    }

    pub(super) fn publications_found(
        &self,
        cx: &mut Cx<'_>,
        key: &Arc<Key>,
        result: Result<Rows, DbError>,
    ) {
        self.table.local(key, |p| p.is_asking = false);
        self.take_publications(cx, Some(key), result);
        self.walk(cx, key);
    }
}
