//! `fallback2db`: what is not in memory is looked for in a database that other nodes write too.

use std::sync::Arc;

use bytes::Bytes;
use tandem_clock::Now;
use tandem_db::{DbError, Rows, Value};
use tandem_engine::module::{Call, Cx};

use super::rows::ROWS_OF_ONE;
use super::{Asked, Sql, Write};
use crate::change::{Change, Origin};
use crate::package::Status;
use crate::record::{Key, SubId, Text};
use crate::rules::Progress;
use crate::state::Presence;
use crate::table::{Presentity, Subscribed};

/// Seconds before its end from which a row may be gone: the clocks of other nodes delete it too.
const ROW_END_MARGIN_S: u64 = 10;

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

    /// Whether a subscription goes on when the row that it has will be over in so many seconds.
    /// Whoever cleans the table then deletes the row, on whatever node.
    fn outlives(&self, now: Now, (key, id): (&Key, &SubId), seconds: u64) -> bool {
        let then_s = now.unix_s() + seconds + ROW_END_MARGIN_S;
        let outlives = |entry: &Subscribed| {
            let s = &entry.subscription;
            let goes_on = s.status != Status::Terminated && u64::from(s.expires_s) > now.unix_s();
            goes_on && entry.row_end_s != 0 && u64::from(entry.row_end_s) <= then_s
        };
        let look = |p: &Presentity| p.subscriptions.get(id).is_some_and(|entry| outlives(entry));
        self.shares_rows() && self.table.read(key, look) == Some(true)
    }

    /// Whether a subscription is to be written at once: it is later over than its row, which would
    /// be gone before the timer writes it.
    pub(super) fn outlives_row(&self, now: Now, key: &Key, id: &SubId) -> bool {
        let is_longer = |entry: &Subscribed| entry.subscription.expires_s > entry.row_end_s;
        let look = |p: &Presentity| p.subscriptions.get(id).is_some_and(|entry| is_longer(entry));
        self.outlives(now, (key, id), self.params.db_update_period_s.into())
            && self.table.read(key, look) == Some(true)
    }

    /// The first subscription among those writes whose row may have been deleted because its time
    /// was over: to change that row would change nothing.
    pub(super) fn row_to_look_for(
        &self,
        now: Now,
        writes: &[Write],
    ) -> Option<(Arc<Key>, Arc<SubId>)> {
        writes.iter().find_map(|write| match write {
            Write::Subscription(key, id, _) if self.outlives(now, (key, id), 0) => {
                Some((Arc::clone(key), Arc::clone(id)))
            }
            _ => None,
        })
    }

    /// The row of such a subscription, if there is one: it is written whole, unless another node
    /// has written a later SUBSCRIBE.
    pub(super) fn row_found(
        &self,
        cx: &mut Cx<'_>,
        sql: &Sql,
        (key, id): (&Arc<Key>, &Arc<SubId>),
        mut writes: Vec<Write>,
        result: Result<Rows, DbError>,
    ) {
        let found = match result {
            Ok(found) => found,
            Err(error) => return self.written(cx, sql, writes, Err(error)),
        };
        let mut rows = found.rows.iter().filter_map(|row| sql.tables.subscription(row));
        let row = rows.find(|(of, s)| *of == **key && s.id == *id).map(|(_, s)| s);
        let ours = self.table.subscription(key, id);
        match (row, ours) {
            (Some(row), Some(ours)) if row.remote_cseq > ours.remote_cseq => {
                self.note_row(key, id, row.expires_s);
                writes.retain(
                    |write| !matches!(write, Write::Subscription(k, i, _) if (k, i) == (key, id)),
                );
            }
            _ => self.note_row(key, id, 0),
        }
        self.ask_batch(cx, sql, writes);
        self.pump_sql(cx, sql);
    }

    /// The row of a subscription is over then; 0: it has none.
    pub(super) fn note_row(&self, key: &Key, id: &SubId, end_s: u32) {
        let note = |p: &mut Presentity| p.subscriptions.get_mut(id).map(|s| s.row_end_s = end_s);
        self.table.local(key, note);
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
