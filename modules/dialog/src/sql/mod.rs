//! Dialogs in SQL: loaded at start, written at once (`db_mode` 1), by timer (2) or at the end of
//! the node (3).
//!
//! What has to be written waits in a set, and one batch is under way at a time, so that no write
//! overtakes the delete of the same row. A slow database makes the batches larger and nothing
//! else; one that is away is asked again every second. In a cluster a node writes the dialogs
//! that it acts for.

mod rows;
mod sync;

pub(crate) use rows::Columns;
pub(crate) use sync::NotRead;

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use tandem_db::{DbError, Query, Rows};
use tandem_engine::effect::DatabaseId;
use tandem_engine::log::Level;
use tandem_engine::module::{Cx, Timer};

use crate::change::{Change, Origin};
use crate::id::DialogId;
use crate::record::Dialog;
use crate::state::Dialogs;
use crate::table::Told;

/// The timer of `db_update_period`.
pub(crate) const FLUSH: u32 = 66;
/// The timer after which a database that failed is asked again.
pub(crate) const RETRY: u32 = 67;
/// Rows written in one transaction.
const WRITES_A_QUERY: usize = 200;
/// Dialogs that wait to be written, at most; beyond it the whole table is looked through later.
const WAITING_MAX: usize = 1_000_000;
const RETRY_MS: u64 = 1_000;

/// When rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DbMode {
    Realtime,
    /// Every so many seconds.
    Delayed(u32),
    Shutdown,
}

/// Where dialogs are stored.
#[derive(Clone, Debug)]
pub(crate) struct SqlParams {
    pub(crate) database: DatabaseId,
    pub(crate) mode: DbMode,
    pub(crate) table: String,
    pub(crate) columns: Columns,
    /// Whether a value that changes is written at once.
    pub(crate) flushes_values: bool,
    pub(crate) deletes_a_query: usize,
}

/// The way to the database.
#[derive(Debug)]
pub(crate) struct Sql {
    pub(crate) params: SqlParams,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next_token: u64,
    asked: BTreeMap<u64, Asked>,
    writes: BTreeSet<DialogId>,
    deletes: BTreeSet<DialogId>,
    /// What changed and is written with the next other change, or by the timer.
    later: BTreeSet<DialogId>,
    overflowed: bool,
    /// Go on until nothing waits.
    draining: bool,
    is_down: bool,
    /// The table could not be read at start, and is asked again.
    is_unread: bool,
    /// While `dialog:db_sync` reads the table: what it has read, to know what is not there.
    seen: Option<BTreeSet<DialogId>>,
    /// That was said, and nothing has succeeded since.
    is_told: bool,
}

/// Why the table is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Start,
    /// It could not be read at start.
    Again,
    /// A command waits.
    Sync {
        request: u64,
    },
}

/// What a query was about.
#[derive(Debug)]
enum Asked {
    Load(Reading),
    Writes(Vec<DialogId>),
    Deletes(Vec<DialogId>),
    Nothing,
}

impl Asked {
    fn is_batch(&self) -> bool {
        matches!(self, Self::Writes(_) | Self::Deletes(_))
    }
}

impl Sql {
    pub(crate) fn new(params: SqlParams) -> Self {
        Self { params, state: Mutex::default() }
    }

    fn ask(&self, cx: &mut Cx<'_>, query: Query, about: Asked) {
        let token = {
            let mut state = self.state.lock();
            state.next_token += 1;
            let token = state.next_token;
            state.asked.insert(token, about);
            token
        };
        cx.query(self.params.database, query, token);
    }

    /// Notes what a change means for the rows; called with the shard locked. True: the database
    /// is to be asked soon.
    pub(crate) fn note(&self, d: &Dialog, told: Option<&Told>, is_ours: bool) -> bool {
        let was_stored = d.answered_s != 0;
        if !was_stored || told == Some(&Told::Local) {
            return false;
        }
        let mut state = self.state.lock();
        if !d.state.is_alive() && !d.owes() {
            state.writes.remove(&d.id);
            state.later.remove(&d.id);
            state.deletes.insert(d.id);
            return self.params.mode == DbMode::Realtime;
        }
        if !is_ours {
            return false;
        }
        let waits = matches!(told, Some(Told::Value { .. })) && !self.params.flushes_values;
        if state.writes.len() + state.later.len() >= WAITING_MAX {
            state.overflowed = true;
        } else if waits && !state.writes.contains(&d.id) {
            state.later.insert(d.id);
            return false;
        } else {
            state.later.remove(&d.id);
            state.deletes.remove(&d.id);
            state.writes.insert(d.id);
        }
        self.params.mode == DbMode::Realtime
    }

    /// The next batch: what is to be deleted, or what is to be written.
    fn next(&self) -> Option<(Vec<DialogId>, bool)> {
        let mut state = self.state.lock();
        if state.is_down || state.asked.values().any(Asked::is_batch) {
            return None;
        }
        if !state.deletes.is_empty() {
            return Some((take(&mut state.deletes, self.params.deletes_a_query), true));
        }
        if !state.writes.is_empty() {
            return Some((take(&mut state.writes, WRITES_A_QUERY), false));
        }
        state.draining = false;
        None
    }

    /// Rows that wait, for the status page.
    pub(crate) fn waiting(&self) -> usize {
        let state = self.state.lock();
        state.writes.len() + state.deletes.len() + state.later.len()
    }
}

fn take(from: &mut BTreeSet<DialogId>, max: usize) -> Vec<DialogId> {
    let taken: Vec<DialogId> = from.iter().take(max).copied().collect();
    from.retain(|id| taken.last().is_none_or(|last| id > last));
    taken
}

impl Dialogs {
    /// Loads the table, and begins to write by timer.
    pub(crate) fn start_sql(&self, cx: &mut Cx<'_>) {
        let Some(sql) = &self.sql else { return };
        cx.begin_startup();
        sql.ask(cx, sql.page(i64::MIN), Asked::Load(Reading::Start));
        self.arm_flush(cx, sql);
    }

    fn arm_flush(&self, cx: &mut Cx<'_>, sql: &Sql) {
        // In realtime the timer writes what may wait.
        let seconds = match sql.params.mode {
            DbMode::Delayed(seconds) => seconds,
            DbMode::Realtime => 60,
            DbMode::Shutdown => return,
        };
        cx.set_timer(cx.now.after_s(seconds.into()), Timer { kind: FLUSH, id: 0 });
    }

    pub(crate) fn flush_timer(&self, cx: &mut Cx<'_>) {
        let Some(sql) = &self.sql else { return };
        self.flush_sql(cx);
        self.arm_flush(cx, sql);
    }

    /// Writes everything that differs from the database.
    pub(crate) fn flush_sql(&self, cx: &mut Cx<'_>) {
        let Some(sql) = &self.sql else { return };
        let overflowed = {
            let mut state = sql.state.lock();
            state.draining = true;
            let mut later = std::mem::take(&mut state.later);
            state.writes.append(&mut later);
            std::mem::take(&mut state.overflowed)
        };
        if overflowed {
            self.mark_all(cx, sql);
        }
        self.pump_sql(cx, sql);
    }

    /// Has every dialog of this node written.
    fn mark_all(&self, cx: &Cx<'_>, sql: &Sql) {
        for id in self.table.ids() {
            if self.read(id, |d| d.state.is_answered() && self.is_ours(cx, d)) == Some(true) {
                sql.state.lock().writes.insert(id);
            }
        }
    }

    /// Has a dialog written that this node has just become responsible for.
    pub(crate) fn store_again(&self, id: DialogId) {
        if let Some(sql) = &self.sql {
            sql.state.lock().writes.insert(id);
        }
    }

    /// What this step changed is to be saved.
    pub(crate) fn pump_sql(&self, cx: &mut Cx<'_>, sql: &Sql) {
        while let Some((ids, is_delete)) = sql.next() {
            self.ask_batch(cx, sql, ids, is_delete);
        }
    }

    fn ask_batch(&self, cx: &mut Cx<'_>, sql: &Sql, mut ids: Vec<DialogId>, is_delete: bool) {
        let mut queries = Vec::with_capacity(ids.len());
        if is_delete {
            queries.extend(ids.iter().map(|id| sql.delete(*id)));
        } else {
            ids.retain(|id| {
                let query = self.read(*id, |d| sql.write(d, &self.flag_names));
                let found = query.is_some();
                queries.extend(query);
                found
            });
        }
        if queries.is_empty() {
            return;
        }
        let about = if is_delete { Asked::Deletes(ids) } else { Asked::Writes(ids) };
        sql.ask(cx, batch(queries), about);
    }

    /// A query is answered.
    pub(crate) fn sql_answered(&self, cx: &mut Cx<'_>, token: u64, result: Result<Rows, DbError>) {
        let Some(sql) = &self.sql else { return };
        let about = sql.state.lock().asked.remove(&token).unwrap_or(Asked::Nothing);
        match (about, result) {
            (Asked::Load(reading), result) => self.loaded(cx, sql, reading, result),
            (_, Ok(_)) => {
                if std::mem::take(&mut sql.state.lock().is_told) {
                    cx.log(Level::Notice, "the database takes dialogs again");
                }
            }
            (about, Err(error)) => self.sql_failed(cx, sql, about, &error),
        }
        let goes_on = sql.params.mode == DbMode::Realtime || sql.state.lock().draining;
        if goes_on {
            self.pump_sql(cx, sql);
        }
    }

    fn loaded(&self, cx: &mut Cx<'_>, sql: &Sql, reading: Reading, result: Result<Rows, DbError>) {
        let failed = result.is_err();
        match result {
            Ok(rows) => {
                if let Some(after) = self.restore(cx, sql, reading, &rows) {
                    return sql.ask(cx, sql.page(after), Asked::Load(reading));
                }
            }
            Err(error) => {
                cx.table_failed(&sql.params.table, &error);
                if !matches!(reading, Reading::Sync { .. }) && sync::passes(&error) {
                    // Serving does not wait; what is stored comes in when the database is back.
                    sql.state.lock().is_unread = true;
                    cx.set_timer(cx.now.after_ms(RETRY_MS), Timer { kind: RETRY, id: 0 });
                }
            }
        }
        match reading {
            Reading::Start => cx.end_startup(),
            Reading::Again => {}
            Reading::Sync { request } => self.end_sync(cx, sql, request, failed),
        }
    }

    fn sql_failed(&self, cx: &mut Cx<'_>, sql: &Sql, about: Asked, error: &DbError) {
        let passes = sync::passes(error);
        let (ids, is_delete) = match about {
            Asked::Writes(ids) => (ids, false),
            Asked::Deletes(ids) => (ids, true),
            Asked::Load(_) | Asked::Nothing => {
                let text = format!("the table {}: {error}", sql.params.table);
                return cx.log(Level::Error, text);
            }
        };
        // A row that the database will never take must not keep the others waiting.
        if !passes && ids.len() == 1 {
            cx.log(Level::Error, format!("a dialog cannot be saved and is let go: {error}"));
            return;
        }
        if !passes {
            // Which of them is wrong shows when each goes alone.
            ids.into_iter().for_each(|id| self.ask_batch(cx, sql, vec![id], is_delete));
            return;
        }
        let mut state = sql.state.lock();
        state.is_down = true;
        let was_told = std::mem::replace(&mut state.is_told, true);
        if is_delete {
            state.deletes.extend(ids);
        } else {
            let changed: Vec<_> =
                ids.into_iter().filter(|id| !state.deletes.contains(id)).collect();
            state.writes.extend(changed);
        }
        drop(state);
        if !was_told {
            let waiting = sql.waiting();
            let text = format!(
                "dialogs cannot be saved: {error}; {waiting} changes wait, asked again in 1 s"
            );
            cx.log(Level::Warning, text);
        }
        cx.set_timer(cx.now.after_ms(RETRY_MS), Timer { kind: RETRY, id: 0 });
    }

    /// The database is asked again.
    pub(crate) fn retry_sql(&self, cx: &mut Cx<'_>) {
        if let Some(sql) = &self.sql {
            let is_unread = {
                let mut state = sql.state.lock();
                state.is_down = false;
                std::mem::take(&mut state.is_unread)
            };
            if is_unread {
                sql.ask(cx, sql.page(i64::MIN), Asked::Load(Reading::Again));
            }
            self.pump_sql(cx, sql);
        }
    }

    /// Takes a row in.
    pub(super) fn take_row(&self, cx: &mut Cx<'_>, d: Dialog) {
        let id = d.id;
        let merge = Change::Merge(Box::new(d.clone()));
        let known = self.change_by(cx, id, Origin::Database, merge, None).is_ok();
        // What has ended meanwhile is not made again.
        if !known && !self.table.is_buried(id) {
            let local = self.new_local();
            if let Err(error) = self.insert(cx, d, local, Origin::Database) {
                cx.log(Level::Error, format!("a stored dialog is not taken: {error}"));
            } else {
                self.came_in(cx, id);
            }
        }
    }

    /// `dialog:restore_db`: makes the table say what is in memory. False: there is none.
    pub(crate) fn rewrite_sql(&self, cx: &mut Cx<'_>) -> bool {
        let Some(sql) = &self.sql else { return false };
        sql.ask(cx, sql.delete_all(), Asked::Nothing);
        self.mark_all(cx, sql);
        self.flush_sql(cx);
        true
    }
}

fn batch(mut queries: Vec<Query>) -> Query {
    match (queries.len(), queries.pop()) {
        (1, Some(query)) => query,
        (_, last) => {
            queries.extend(last);
            Query::Batch(queries)
        }
    }
}
