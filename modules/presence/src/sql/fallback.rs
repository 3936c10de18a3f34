//! `fallback2db`: what is not in memory is looked for in a database that other nodes write too.

use std::sync::Arc;

use bytes::Bytes;
use tandem_db::{DbError, Rows, Value};
use tandem_engine::module::{Call, Cx};

use super::Asked;
use super::rows::ROWS_OF_ONE;
use crate::change::{Change, Origin};
use crate::record::{Key, SubId, Text};
use crate::rules::Progress;
use crate::state::Presence;
use crate::table::Presentity;

impl Presence {
    /// Whether the database is asked for the publications of a presentity, and the run waits. Once
    /// for each function.
    pub(crate) fn looks_for_publication(
        &self,
        call: &mut Call<'_, '_, '_>,
        key: &Arc<Key>,
    ) -> bool {
        let Some(sql) = self.sql.as_ref().filter(|_| self.may_look(call)) else { return false };
        let ids =
            |p: &Presentity| p.publications.iter().map(|p| p.publication.id.clone()).collect();
        let known = match self.follows_rows(key) {
            true => self.table.read(key, ids).unwrap_or_default(),
            false => Vec::new(),
        };
        let run = call.suspend();
        let about = Asked::RunPublications(Arc::clone(key), known, run);
        sql.ask(call.cx, sql.tables.publications_of(key), about);
        true
    }

    /// Whether the rows know better than the memory what is published: other nodes write them too,
    /// none of them tells of it, and nothing waits here to be written.
    pub(crate) fn follows_rows(&self, key: &Key) -> bool {
        let sql = self.sql.as_ref().filter(|_| self.shares_rows());
        sql.is_some_and(|sql| sql.has_publications(key))
    }

    /// Whether the database is all that this node has in common with others.
    pub(crate) fn shares_rows(&self) -> bool {
        self.params.fallback2db && !self.is_replicated()
    }

    /// The same for the subscriptions of a dialog.
    pub(crate) fn looks_for_subscription(&self, call: &mut Call<'_, '_, '_>, id: &SubId) -> bool {
        let Some(sql) = self.sql.as_ref().filter(|_| self.may_look(call)) else { return false };
        let run = call.suspend();
        sql.ask(call.cx, sql.tables.subscriptions_of(id), Asked::RunSubscriptions(run));
        true
    }

    /// Whether the database is asked if another node has prolonged what is over here; then
    /// [`Presence::end_now`] goes on.
    pub(crate) fn looks_before_end(
        &self,
        cx: &mut Cx<'_>,
        key: &Arc<Key>,
        id: &Arc<SubId>,
    ) -> bool {
        let Some(sql) = self.sql.as_ref().filter(|_| self.shares_rows()) else { return false };
        let about = Asked::Ending(Arc::clone(key), Arc::clone(id));
        sql.ask(cx, sql.tables.subscriptions_of(id), about);
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

    /// Somebody watches a presentity. If nothing of it is known here, or no peer tells what other
    /// nodes have written, he is told nothing before the database has answered.
    pub(crate) fn look_for_publications(&self, cx: &mut Cx<'_>, key: &Arc<Key>) {
        let Some(sql) = self.sql.as_ref().filter(|_| self.params.fallback2db) else { return };
        if key.watched().is_some() {
            return;
        }
        // What waits to be written would be missing from the answer.
        let always = self.follows_rows(key);
        let known = self.table.local_or_new(key, |p| {
            let asks = (always || p.publications.is_empty()) && !p.is_asking;
            p.is_asking |= asks;
            asks.then(|| p.publications.iter().map(|p| p.publication.id.clone()).collect())
        });
        if let Some(known) = known {
            let about = Asked::Publications(Arc::clone(key), known);
            sql.ask(cx, sql.tables.publications_of(key), about);
        }
    }

    pub(super) fn publications_found(
        &self,
        cx: &mut Cx<'_>,
        key: &Arc<Key>,
        known: &[Text],
        result: Result<Rows, DbError>,
    ) {
        self.table.local(key, |p| p.is_asking = false);
        self.publications_read(cx, key, known, result);
        self.walk(cx, key);
    }

    /// Takes the rows of a presentity in; `known` is what it had here when they were asked for.
    pub(super) fn publications_read(
        &self,
        cx: &mut Cx<'_>,
        key: &Arc<Key>,
        known: &[Text],
        mut result: Result<Rows, DbError>,
    ) {
        let mut gone = Vec::new();
        if let (Ok(found), Some(sql)) = (&mut result, &self.sql) {
            let ids = |row: &Vec<Value>| sql.tables.publication(row).map(|(_, p)| p.id);
            if found.rows.len() < ROWS_OF_ONE as usize {
                let there: Vec<Text> = found.rows.iter().filter_map(ids).collect();
                gone.extend(known.iter().filter(|id| !there.contains(id)));
            }
            // What was removed here meanwhile does not come back.
            let is_here = |id: &Text| {
                let has = |p: &Presentity| p.publications.iter().any(|p| p.publication.id == *id);
                self.table.read(key, has) == Some(true)
            };
            found.rows.retain(|row| ids(row).is_none_or(|id| !known.contains(&id) || is_here(&id)));
        }
        self.take_publications(cx, Some(key), result);
        // What another node has removed.
        for id in gone {
            let change = Change::Unpublish { id: id.clone(), body: Bytes::new() };
            if let Ok(done) = self.apply(cx, key, Origin::Database, change) {
                self.follow(cx, key, Origin::Database, &done);
            }
        }
    }
}
