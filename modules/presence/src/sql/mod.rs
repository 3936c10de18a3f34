//! Publications and subscriptions in SQL. Publications are written when they change,
//! subscriptions every `db_update_period`.
//!
//! What has to be written waits in a queue, and one batch is under way at a time, so that no
//! write overtakes the one before. A slow database makes the batches larger and nothing else; one
//! that is away is asked again every second. In a cluster the node writes that a client has asked,
//! or that has sent the NOTIFY.

mod fallback;
mod load;
mod rows;
mod unsaved;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tandem_db::{DbError, DbErrorKind, Query, Rows};
use tandem_engine::effect::DatabaseId;
use tandem_engine::log::Level;
use tandem_engine::module::{Cx, Timer};

use crate::change::{Done, Origin};
use crate::package::Status;
use crate::params::Params;
use crate::record::{Key, SubId, Subscription, Text};
use crate::state::Presence;
use crate::table::Subscribed;
use rows::Tables;
use unsaved::Unsaved;

pub(crate) use rows::id_of;

/// The timer of `db_update_period`.
pub(crate) const FLUSH: u32 = 16;
/// The timer after which a database that failed is asked again.
pub(crate) const RETRY: u32 = 17;
/// Rows written in one transaction.
const WRITES_A_QUERY: usize = 200;
/// Writes that wait, at most; what is beyond it is lost, and said.
const WAITING_MAX: usize = 500_000;
const RETRY_MS: u64 = 1_000;

/// A write that waits.
#[derive(Clone, Debug)]
enum Write {
    Query(Query),
    /// A row of a publication of this presentity.
    Publication(Arc<Key>, Query),
    /// The row of a subscription is made what the subscription is then; with the end that it is
    /// given.
    Subscription(Arc<Key>, Arc<SubId>, u32),
    /// No row: a run of the script goes on when everything before it is written.
    Run(u64),
}

/// What a query was about.
#[derive(Debug)]
enum Asked {
    LoadPublications,
    LoadSubscriptions,
    Batch(Vec<Write>),
    /// The row of a subscription that may have been deleted; with the batch that waits for it.
    Row(Arc<Key>, Arc<SubId>, Vec<Write>),
    /// Publications of a presentity whose watchers wait.
    Publications(Arc<Key>, Vec<Text>),
    /// A run of the script waits; with what is known of the presentity, if the rows are to say
    /// what of it is gone.
    RunPublications(Arc<Key>, Vec<Text>, u64),
    RunSubscriptions(u64),
    /// A subscription that is over by what is known here.
    Ending(Arc<Key>, Arc<SubId>),
    Nothing,
}

/// The way to the database.
#[derive(Debug)]
pub(crate) struct Sql {
    database: DatabaseId,
    tables: Tables,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next_token: u64,
    asked: BTreeMap<u64, Asked>,
    queue: VecDeque<Write>,
    /// Subscriptions that are written by the timer.
    dirty: BTreeSet<(Arc<Key>, Arc<SubId>)>,
    is_writing: bool,
    /// So many of the next writes go each alone: one of them is not taken, and holds no others up.
    alone: usize,
    is_down: bool,
    /// That was said, and nothing has succeeded since.
    is_told: bool,
    lost: u64,
    /// Presentities of which a publication was over when it was loaded.
    stale: HashSet<Key>,
    unsaved: Unsaved,
}

impl Sql {
    pub(crate) fn new(params: &Params) -> Option<Self> {
        let tables = Tables::new(params);
        Some(Self { database: params.database?, tables, state: Mutex::default() })
    }

    fn ask(&self, cx: &mut Cx<'_>, query: Query, about: Asked) {
        let token = {
            let mut state = self.state.lock();
            state.next_token += 1;
            let token = state.next_token;
            state.asked.insert(token, about);
            token
        };
        cx.query(self.database, query, token);
    }

    fn push(&self, write: Write) {
        let mut state = self.state.lock();
        if state.queue.len() >= WAITING_MAX {
            state.lost += 1;
        } else {
            state.unsaved.add(&write);
            state.queue.push_back(write);
        }
    }

    /// Whether the database has what was published here of a presentity.
    fn has_publications(&self, key: &Key) -> bool {
        let state = self.state.lock();
        !state.is_down && !state.unsaved.has(key)
    }

    /// Rows that wait, for the status page.
    pub(crate) fn waiting(&self) -> usize {
        let state = self.state.lock();
        state.queue.len() + state.dirty.len()
    }

    /// The next writes, if none are under way.
    fn next(&self) -> Option<Vec<Write>> {
        let mut state = self.state.lock();
        if state.is_down || state.is_writing || state.queue.is_empty() {
            return None;
        }
        state.is_writing = true;
        let most = if state.alone > 0 { 1 } else { WRITES_A_QUERY };
        state.alone = state.alone.saturating_sub(1);
        let count = state.queue.len().min(most);
        let mut writes: Vec<Write> = state.queue.drain(..count).collect();
        while let Some(Write::Run(run)) = state.queue.front() {
            writes.push(Write::Run(*run));
            state.queue.pop_front();
        }
        Some(writes)
    }

    /// Puts writes back to where they were: before everything that came later.
    fn put_back(state: &mut State, writes: Vec<Write>, go_alone: bool) {
        state.is_writing = false;
        state.alone += if go_alone { writes.len() } else { 0 };
        writes.into_iter().rev().for_each(|write| state.queue.push_front(write));
    }
}

impl Presence {
    /// Whether a subscription is another than its row.
    pub(crate) fn is_unsaved(&self, key: &Arc<Key>, id: &Arc<SubId>) -> bool {
        let entry = (Arc::clone(key), Arc::clone(id));
        self.sql.as_ref().is_some_and(|sql| sql.state.lock().dirty.contains(&entry))
    }

    /// Loads the tables, and begins to write by timer.
    pub(crate) fn start_sql(&self, cx: &mut Cx<'_>) {
        let Some(sql) = &self.sql else { return };
        cx.begin_startup();
        sql.ask(cx, sql.tables.publications_behind(None), Asked::LoadPublications);
        self.arm_flush(cx);
    }

    fn arm_flush(&self, cx: &mut Cx<'_>) {
        let seconds = self.params.db_update_period_s;
        if seconds > 0 {
            cx.set_timer(cx.now.after_s(seconds.into()), Timer { kind: FLUSH, id: 0 });
        }
    }

    pub(crate) fn flush_timer(&self, cx: &mut Cx<'_>) {
        self.flush_sql(cx);
        self.arm_flush(cx);
    }

    /// Writes everything that differs from the database.
    pub(crate) fn flush_sql(&self, cx: &mut Cx<'_>) {
        let Some(sql) = &self.sql else { return };
        let dirty = std::mem::take(&mut sql.state.lock().dirty);
        dirty.into_iter().for_each(|(key, id)| sql.push(Write::Subscription(key, id, 0)));
        self.pump_sql(cx, sql);
    }

    /// What a change means for the rows.
    pub(crate) fn write_rows(&self, cx: &mut Cx<'_>, key: &Arc<Key>, origin: Origin, done: &Done) {
        let Some(sql) = &self.sql else { return };
        if let Some(etag) = &done.pushed_out {
            // Each node does, whoever wrote the row: nobody is told to drop it.
            let query = sql.tables.delete_publication(key, etag);
            sql.push(Write::Publication(Arc::clone(key), query));
            self.pump_sql(cx, sql);
        }
        if origin != Origin::Local {
            return;
        }
        if let Some((publication, old_etag)) = &done.published {
            if !old_etag.is_empty() && *old_etag != publication.etag {
                let query = sql.tables.delete_publication(key, old_etag);
                sql.push(Write::Publication(Arc::clone(key), query));
            }
            let query = sql.tables.write_publication(key, publication);
            sql.push(Write::Publication(Arc::clone(key), query));
        }
        for ended in &done.ended {
            let query = sql.tables.delete_publication(key, &ended.etag);
            sql.push(Write::Publication(Arc::clone(key), query));
        }
        let forgotten = done.forgotten.as_ref().map(|s| &s.id);
        if let Some(id) = done.touched.as_ref().or(forgotten) {
            let entry = (Arc::clone(key), Arc::clone(id));
            if self.params.db_update_period_s == 0 || self.outlives_row(cx.now, key, id) {
                sql.push(Write::Subscription(entry.0, entry.1, 0));
            } else {
                let mut state = sql.state.lock();
                if state.dirty.len() < WAITING_MAX {
                    state.dirty.insert(entry);
                }
            }
        }
        self.pump_sql(cx, sql);
    }

    /// Writes what was decided about a watcher.
    pub(crate) fn write_watcher(
        &self,
        cx: &mut Cx<'_>,
        key: &Key,
        s: &Subscription,
        status: Status,
        reason: &[u8],
    ) {
        let Some(sql) = &self.sql else { return };
        let query = sql.tables.write_watcher(key, s, (status, reason), cx.now.unix_s());
        sql.push(Write::Query(query));
        self.pump_sql(cx, sql);
    }

    /// Deletes rows whose time is over.
    pub(crate) fn clean_sql(&self, cx: &mut Cx<'_>) {
        let Some(sql) = &self.sql else { return };
        let queries = sql.tables.clean(cx.now.unix_s(), self.params.waiting_days);
        queries.into_iter().for_each(|query| sql.push(Write::Query(query)));
        self.pump_sql(cx, sql);
    }

    /// Asks the next writes.
    fn pump_sql(&self, cx: &mut Cx<'_>, sql: &Sql) {
        while let Some(writes) = sql.next() {
            self.ask_batch(cx, sql, writes);
        }
    }

    fn ask_batch(&self, cx: &mut Cx<'_>, sql: &Sql, mut writes: Vec<Write>) {
        if let Some((key, id)) = self.row_to_look_for(cx.now, &writes) {
            return sql.ask(cx, sql.tables.subscriptions_of(&id), Asked::Row(key, id, writes));
        }
        let query = |write: &mut Write| match write {
            Write::Query(query) | Write::Publication(_, query) => Some(query.clone()),
            Write::Subscription(key, id, end_s) => {
                Some(self.subscription_query(sql, key, id, end_s))
            }
            Write::Run(_) => None,
        };
        let mut queries: Vec<Query> = writes.iter_mut().filter_map(query).collect();
        let all = match (queries.len(), queries.pop()) {
            (_, None) => return sql.wrote(cx, &writes),
            (1, Some(query)) => query,
            (_, last) => {
                queries.extend(last);
                Query::Batch(queries)
            }
        };
        sql.ask(cx, all, Asked::Batch(writes));
    }

    fn subscription_query(&self, sql: &Sql, key: &Key, id: &SubId, end_s: &mut u32) -> Query {
        let look = |entry: &Subscribed| (entry.subscription.clone(), entry.row_end_s != 0);
        let known = self.table.read(key, |p| p.subscriptions.get(id).map(|entry| look(entry)));
        let Some((s, has_row)) = known.flatten() else {
            return sql.tables.delete_subscription(key, id);
        };
        *end_s = s.expires_s;
        // Another node may have prolonged it since, which must not be taken back.
        match has_row && self.shares_rows() {
            true => sql.tables.change_subscription(key, &s),
            false => sql.tables.write_subscription(key, &s),
        }
    }

    /// Rows are written.
    fn note_rows(&self, writes: &[Write]) {
        for write in writes {
            let Write::Subscription(key, id, end_s) = write else { continue };
            self.note_row(key, id, *end_s);
        }
    }

    /// A query is answered.
    pub(crate) fn sql_answered(&self, cx: &mut Cx<'_>, token: u64, result: Result<Rows, DbError>) {
        let Some(sql) = &self.sql else { return };
        let about = sql.state.lock().asked.remove(&token).unwrap_or(Asked::Nothing);
        match about {
            Asked::LoadPublications => self.publications_loaded(cx, sql, result),
            Asked::LoadSubscriptions => self.subscriptions_loaded(cx, sql, result),
            Asked::Batch(writes) => self.written(cx, sql, writes, result),
            Asked::Row(key, id, writes) => self.row_found(cx, sql, (&key, &id), writes, result),
            Asked::Publications(key, known) => {
                self.publications_found(cx, &key, &known, result);
            }
            Asked::RunPublications(key, known, run) => {
                self.publications_read(cx, &key, &known, result);
                self.looked(cx, run);
            }
            Asked::RunSubscriptions(run) => {
                self.take_subscriptions(cx, result);
                self.looked(cx, run);
            }
            Asked::Ending(key, id) => {
                self.take_subscriptions(cx, result);
                self.end_now(cx, &key, &id);
            }
            Asked::Nothing => {}
        }
    }

    fn written(
        &self,
        cx: &mut Cx<'_>,
        sql: &Sql,
        writes: Vec<Write>,
        result: Result<Rows, DbError>,
    ) {
        match result {
            Ok(_) => {
                sql.wrote(cx, &writes);
                self.note_rows(&writes);
                let (was_told, lost) = {
                    let mut state = sql.state.lock();
                    (std::mem::take(&mut state.is_told), std::mem::take(&mut state.lost))
                };
                if was_told {
                    let text = format!("the database takes presence again; {lost} writes are lost");
                    cx.log(Level::Notice, text);
                }
            }
            Err(error) => self.sql_failed(cx, sql, writes, &error),
        }
        self.pump_sql(cx, sql);
    }

    fn sql_failed(&self, cx: &mut Cx<'_>, sql: &Sql, writes: Vec<Write>, error: &DbError) {
        let passes = matches!(error.kind, DbErrorKind::Busy | DbErrorKind::Unavailable);
        if !passes && unsaved::rows(&writes) == 1 {
            // A row that the database will never take must not keep the others waiting.
            sql.wrote(cx, &writes);
            cx.log(Level::Error, format!("a row of presence cannot be saved: {error}"));
            return;
        }
        if !passes {
            // Which of them is wrong shows when each goes alone, one after the other.
            return Sql::put_back(&mut sql.state.lock(), writes, true);
        }
        let (was_told, waiting) = {
            let mut state = sql.state.lock();
            let was_alone = unsaved::rows(&writes) == 1 && state.alone > 0;
            Sql::put_back(&mut state, writes, was_alone);
            unsaved::let_go(cx, &mut state.queue);
            state.is_down = true;
            (std::mem::replace(&mut state.is_told, true), state.queue.len())
        };
        if !was_told {
            let text = format!(
                "presence cannot be saved: {error}; {waiting} writes wait, asked again in 1 s"
            );
            cx.log(Level::Warning, text);
        }
        cx.set_timer(cx.now.after_ms(RETRY_MS), Timer { kind: RETRY, id: 0 });
    }

    /// The database is asked again.
    pub(crate) fn retry_sql(&self, cx: &mut Cx<'_>) {
        if let Some(sql) = &self.sql {
            sql.state.lock().is_down = false;
            self.pump_sql(cx, sql);
        }
    }
}
