//! Contacts in SQL: loaded at start, written at once (write-through) or by timer (write-back).
//!
//! What has to be written waits in a queue of contact ids, in batches a few of which are under
//! way at a time. So a slow database makes the queue longer and the batches larger, and nothing
//! else; one that is away is asked again every second. When the queue is full, the tables
//! themselves are looked through later, so nothing is lost. In write-through a reply is held
//! until its contact is in the database, but never longer than a second.

mod rows;

pub(crate) use rows::{table_name, written_wall_s};

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tandem_clock::Mono;
use tandem_db::{DbError, DbErrorKind, Query, Rows};
use tandem_engine::effect::{DatabaseId, Send};
use tandem_engine::log::Level;
use tandem_engine::module::{Cx, Timer};

use crate::fetch::Waiting;
use crate::params::{Columns, Params, Writes};
use crate::state::{Table, Usrloc};
use crate::store::{Contact, DbState, Event};
use crate::timer;

/// Contacts written in one transaction.
const WRITES_A_QUERY: usize = 100;
/// Batches under way at a time.
const UNDER_WAY_MAX: usize = 4;
/// Writes and deletes that wait, at most.
const WAITING_MAX: usize = 200_000;
/// Replies that wait for the database, at most; a further one leaves at once.
const HELD_MAX: usize = 20_000;
/// How long a reply waits.
const HELD_MS: u64 = 1_000;
/// How long a database that failed is left alone.
const RETRY_MS: u64 = 1_000;

/// A contact by its table and id, with the number of its turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    turn: u64,
    table: usize,
    id: u64,
}

/// The way to the database.
#[derive(Debug)]
pub(crate) struct Sql {
    database: DatabaseId,
    columns: Columns,
    writes: Writes,
    loads: bool,
    use_domain: bool,
    deletes_a_query: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next_token: u64,
    next_turn: u64,
    asked: BTreeMap<u64, Asked>,
    writes: VecDeque<Place>,
    deletes: VecDeque<Place>,
    /// More had to wait than there is room for: the tables know what differs.
    overflowed: bool,
    /// The timer has come: go on until nothing waits.
    draining: bool,
    /// The database failed, and is not to be asked before the retry timer.
    is_down: bool,
    /// That was said, and nothing has succeeded since.
    is_told: bool,
    held: VecDeque<Held>,
    unsaved: u64,
    /// Commands whose AoR was read, and which run now.
    commands: HashSet<u64>,
    /// Ids of the rows that the reading of a table has come across, by table; `sql-only` alone.
    seen: BTreeMap<usize, HashSet<u64>>,
}

/// A reply that waits for its contacts to be saved.
#[derive(Debug)]
struct Held {
    turn: u64,
    until: Mono,
    gated: bool,
    send: Send,
}

/// What a query was about.
#[derive(Debug)]
pub(crate) enum Asked {
    Load {
        table: usize,
        after: i64,
        at_start: bool,
    },
    /// The rows of one AoR.
    Fetch {
        table: usize,
        aor: Vec<u8>,
        waiting: Waiting,
    },
    Writes(Vec<Place>),
    Deletes(Vec<Place>),
    Nothing,
}

impl Asked {
    fn first_turn(&self) -> Option<u64> {
        match self {
            Self::Writes(places) | Self::Deletes(places) => places.first().map(|p| p.turn),
            Self::Load { .. } | Self::Fetch { .. } | Self::Nothing => None,
        }
    }
}

impl State {
    fn is_busy(&self) -> bool {
        self.is_down
            || self.asked.values().filter(|a| a.first_turn().is_some()).count() >= UNDER_WAY_MAX
    }

    /// The first turn that is not over yet.
    fn open_turn(&self) -> u64 {
        let under_way = self.asked.values().filter_map(Asked::first_turn).min();
        let waiting = self.writes.front().into_iter().chain(self.deletes.front());
        let waiting = waiting.map(|p| p.turn).min();
        under_way.into_iter().chain(waiting).min().unwrap_or(u64::MAX)
    }

    fn turn(&mut self) -> u64 {
        self.next_turn += 1;
        self.next_turn
    }

    /// Replies whose contacts are saved, or that have waited for long enough.
    fn leaving(&mut self, now: Mono) -> Vec<Held> {
        let open = self.open_turn();
        let mut leaving = Vec::new();
        while let Some(held) = self.held.pop_front_if(|h| h.turn < open || h.until <= now) {
            self.unsaved += u64::from(held.turn >= open);
            leaving.push(held);
        }
        leaving
    }
}

impl Sql {
    /// `None`: this mode has no database.
    pub(crate) fn new(params: &Params) -> Option<Self> {
        Some(Self {
            database: params.database?,
            columns: params.columns.clone(),
            writes: params.writes,
            loads: params.loads_from_sql,
            use_domain: params.use_domain,
            deletes_a_query: params.deletes_a_query,
            state: Mutex::default(),
        })
    }

    /// Loads a table; at the start of the node, this keeps it from being ready.
    pub(crate) fn load(&self, cx: &mut Cx<'_>, table: &Table, at_start: bool) {
        if self.loads {
            if at_start {
                cx.begin_startup();
            }
            self.load_page(cx, table, i64::MIN, at_start);
        }
    }

    fn load_page(&self, cx: &mut Cx<'_>, table: &Table, after: i64, at_start: bool) {
        let about = Asked::Load { table: table.at, after, at_start };
        self.ask(cx, self.page(table, after), about);
    }

    pub(crate) fn ask(&self, cx: &mut Cx<'_>, query: Query, about: Asked) {
        let token = {
            let mut state = self.state.lock();
            state.next_token += 1;
            let token = state.next_token;
            state.asked.insert(token, about);
            token
        };
        cx.query(self.database, query, token);
    }

    /// Notes what a change means for SQL: it is written now or by timer.
    pub(crate) fn note(&self, table: &Table, event: &Event) {
        if self.writes == Writes::None {
            return;
        }
        match event {
            Event::ContactInserted(contact) => self.to_write(table, contact),
            Event::ContactUpdated { contact, old } => {
                if old.id != contact.id {
                    self.to_delete(table, old);
                }
                self.to_write(table, contact);
            }
            Event::ContactDeleted { contact, .. } => self.to_delete(table, contact),
            Event::AorInserted | Event::AorDeleted => {}
        }
    }

    fn to_write(&self, table: &Table, contact: &Contact) {
        if contact.is_memory_only() {
            return;
        }
        let is_new = |_: &_, local: &mut crate::store::Local| !local.is_queued();
        if table.domain.with_local(contact.id, is_new) != Some(true) {
            return;
        }
        let mut state = self.state.lock();
        if state.writes.len() >= WAITING_MAX {
            state.overflowed = true;
            return;
        }
        let place = Place { turn: state.turn(), table: table.at, id: contact.id };
        state.writes.push_back(place);
        drop(state);
        table.domain.with_local(contact.id, |_, local| local.set_queued(true));
    }

    fn to_delete(&self, table: &Table, contact: &Contact) {
        if contact.is_memory_only() {
            return;
        }
        let mut state = self.state.lock();
        if state.deletes.len() < WAITING_MAX {
            let place = Place { turn: state.turn(), table: table.at, id: contact.id };
            state.deletes.push_back(place);
        }
        // A row too many ends by itself, and is deleted at the next start.
    }

    /// A row was loaded under another id than its own.
    fn rename(&self, table: &Table, from: u64, to: u64) {
        if self.writes == Writes::None {
            return;
        }
        let mut state = self.state.lock();
        let turn = state.turn();
        state.deletes.push_back(Place { turn, table: table.at, id: from });
        let turn = state.turn();
        state.writes.push_back(Place { turn, table: table.at, id: to });
        drop(state);
        table.domain.with_local(to, |_, local| local.db = DbState::New);
    }

    /// What this step changed is to be saved: at once in write-through.
    pub(crate) fn step_ended(&self, cx: &mut Cx<'_>, tables: &[Arc<Table>]) {
        if self.writes == Writes::Through {
            self.pump(cx, tables);
        }
    }

    /// Writes everything that differs from SQL.
    pub(crate) fn flush(&self, cx: &mut Cx<'_>, tables: &[Arc<Table>]) {
        let overflowed = {
            let mut state = self.state.lock();
            state.draining = true;
            std::mem::take(&mut state.overflowed)
        };
        if overflowed {
            for table in tables {
                for shard in 0..table.domain.shard_count() {
                    for (contact, local) in table.domain.shard_contacts(shard) {
                        if local.db != DbState::Sync {
                            self.to_write(table, &contact);
                        }
                    }
                }
            }
        }
        self.pump(cx, tables);
    }

    /// Asks for batches while few enough are under way.
    fn pump(&self, cx: &mut Cx<'_>, tables: &[Arc<Table>]) {
        loop {
            let (deletes, writes) = {
                let mut state = self.state.lock();
                if state.is_busy() {
                    return;
                }
                let n = state.deletes.len().min(self.deletes_a_query);
                let deletes: Vec<Place> = state.deletes.drain(..n).collect();
                let n = if n > 0 { 0 } else { state.writes.len().min(WRITES_A_QUERY) };
                let writes: Vec<Place> = state.writes.drain(..n).collect();
                (deletes, writes)
            };
            if !deletes.is_empty() {
                let table = |p: &Place| tables.get(p.table).map(|t| self.delete(t, p.id));
                let queries = deletes.iter().filter_map(table).collect();
                self.ask(cx, batch(queries), Asked::Deletes(deletes));
            } else if !writes.is_empty() {
                self.ask_writes(cx, tables, writes);
            } else {
                self.state.lock().draining = false;
                return;
            }
        }
    }

    fn ask_writes(&self, cx: &mut Cx<'_>, tables: &[Arc<Table>], mut places: Vec<Place>) {
        let mut queries = Vec::with_capacity(places.len());
        places.retain(|place| {
            let Some(table) = tables.get(place.table) else { return false };
            let contact = table.domain.with_local(place.id, |contact, local| {
                local.set_queued(false);
                local.db = DbState::Sync;
                Arc::clone(contact)
            });
            queries.extend(contact.as_ref().map(|c| self.write(&cx.node.zone, table, c)));
            contact.is_some()
        });
        if !queries.is_empty() {
            self.ask(cx, batch(queries), Asked::Writes(places));
        }
    }

    /// Sends a reply when what was changed so far is saved.
    pub(crate) fn send_when_saved(&self, cx: &mut Cx<'_>, send: Send, gated: bool) {
        let mut state = self.state.lock();
        let turn = state.next_turn;
        if turn < state.open_turn() || state.held.len() >= HELD_MAX {
            drop(state);
            leave(cx, send, gated);
            return;
        }
        let until = cx.now.after_ms(HELD_MS);
        if state.held.is_empty() {
            cx.set_timer(until, Timer { kind: timer::HELD, id: 0 });
        }
        state.held.push_back(Held { turn, until, gated, send });
    }

    /// Lets go of replies that need not wait any longer.
    pub(crate) fn release(&self, cx: &mut Cx<'_>, is_timer: bool) {
        let (leaving, next, unsaved) = {
            let mut state = self.state.lock();
            let leaving = state.leaving(cx.now.mono_ns);
            let unsaved = std::mem::take(&mut state.unsaved);
            (leaving, state.held.front().map(|h| h.until), unsaved)
        };
        for held in leaving {
            leave(cx, held.send, held.gated);
        }
        if unsaved > 0 {
            let text = format!("{unsaved} REGISTERs were answered before the database had them");
            cx.log(Level::Warning, text);
        }
        if let Some(next) = next.filter(|_| is_timer) {
            cx.set_timer(next, Timer { kind: timer::HELD, id: 0 });
        }
    }

    /// The retry timer: the database is asked again.
    pub(crate) fn retry(&self, cx: &mut Cx<'_>, tables: &[Arc<Table>]) {
        self.state.lock().is_down = false;
        self.pump(cx, tables);
    }

    /// Makes the rows of a table, or of one AoR, equal to what is in memory.
    pub(crate) fn rewrite(&self, cx: &mut Cx<'_>, tables: &[Arc<Table>], of: &Rewrite<'_>) {
        let conds = of.aor.map(|aor| self.aor_conds(aor)).unwrap_or_default();
        let delete = Query::Delete { table: table_name(of.table), conds };
        self.ask(cx, delete, Asked::Nothing);
        let mark = |contact: &Contact| {
            let set = |_: &_, local: &mut crate::store::Local| local.db = DbState::Dirty;
            of.table.domain.with_local(contact.id, set);
            self.to_write(of.table, contact);
        };
        match of.aor {
            Some(aor) => of.table.domain.all_of(aor).iter().for_each(|(c, _)| mark(c)),
            None => (0..of.table.domain.shard_count())
                .flat_map(|shard| of.table.domain.shard_contacts(shard))
                .for_each(|(contact, _)| mark(&contact)),
        }
        self.flush(cx, tables);
    }

    /// Notes which rows there are.
    fn see(&self, table: &Table, after: i64, rows: &Rows) {
        let mut state = self.state.lock();
        let seen = state.seen.entry(table.at).or_default();
        if after == i64::MIN {
            seen.clear();
        }
        let ids = rows.rows.iter().filter_map(|row| row.first()?.as_int());
        seen.extend(ids.map(|id| id as u64));
    }

    /// Says once that the database does not answer.
    pub(crate) fn tell_down(&self, cx: &mut Cx<'_>, error: &DbError) {
        if !std::mem::replace(&mut self.state.lock().is_told, true) {
            let text = format!("contacts cannot be read: {error}; those read last are used");
            cx.log(Level::Warning, text);
        }
    }

    /// The AoR of a command was read: it may run.
    pub(crate) fn allow_command(&self, request: u64) {
        self.state.lock().commands.insert(request);
    }

    /// Whether a command may run.
    pub(crate) fn take_command(&self, request: u64) -> bool {
        self.state.lock().commands.remove(&request)
    }

    /// Writes that wait, for the status page.
    pub(crate) fn waiting(&self) -> usize {
        let state = self.state.lock();
        state.writes.len() + state.deletes.len()
    }

    fn failed(&self, cx: &mut Cx<'_>, tables: &[Arc<Table>], about: Asked, error: &DbError) {
        let passes = matches!(error.kind, DbErrorKind::Busy | DbErrorKind::Unavailable);
        let (mut places, is_write) = match about {
            Asked::Writes(places) => (places, true),
            Asked::Deletes(places) => (places, false),
            Asked::Load { .. } | Asked::Fetch { .. } | Asked::Nothing => return,
        };
        // A row that the database will never take must not keep the others waiting.
        if !passes && places.len() == 1 {
            cx.log(Level::Error, format!("a contact cannot be saved and is let go: {error}"));
            return;
        }
        for place in places.iter().filter(|_| is_write) {
            let again = |_: &_, local: &mut crate::store::Local| {
                local.set_queued(true);
                local.db = DbState::Dirty;
            };
            if let Some(table) = tables.get(place.table) {
                table.domain.with_local(place.id, again);
            }
        }
        let mut state = self.state.lock();
        state.is_down = passes;
        let was_told = std::mem::replace(&mut state.is_told, passes);
        if passes {
            let queue = if is_write { &mut state.writes } else { &mut state.deletes };
            places.drain(..).rev().for_each(|place| queue.push_front(place));
        }
        let waiting = state.writes.len() + state.deletes.len();
        drop(state);
        if !passes {
            self.ask_one_by_one(cx, tables, places, is_write);
            return;
        }
        if !was_told {
            let text = format!(
                "contacts cannot be saved: {error}; {waiting} changes wait, asked again in 1 s"
            );
            cx.log(Level::Warning, text);
        }
        cx.set_timer(cx.now.after_ms(RETRY_MS), Timer { kind: timer::RETRY, id: 0 });
    }

    /// A batch was refused: which part of it is wrong shows when each goes alone.
    fn ask_one_by_one(
        &self,
        cx: &mut Cx<'_>,
        tables: &[Arc<Table>],
        places: Vec<Place>,
        is_write: bool,
    ) {
        for place in places {
            if is_write {
                self.ask_writes(cx, tables, vec![place]);
            } else if let Some(table) = tables.get(place.table) {
                self.ask(cx, self.delete(table, place.id), Asked::Deletes(vec![place]));
            }
        }
    }
}

/// What `usrloc:sync` writes anew.
pub(crate) struct Rewrite<'a> {
    pub(crate) table: &'a Table,
    pub(crate) aor: Option<&'a [u8]>,
}

impl Usrloc {
    /// A query is answered.
    pub(crate) fn sql_answered(
        &self,
        cx: &mut Cx<'_>,
        sql: &Sql,
        token: u64,
        result: Result<Rows, DbError>,
    ) {
        let about = sql.state.lock().asked.remove(&token).unwrap_or(Asked::Nothing);
        let tables = self.tables();
        match (about, result) {
            (Asked::Load { table, after, at_start }, result) => {
                if let Some(table) = tables.get(table) {
                    self.loaded(cx, sql, table, (after, at_start), result);
                }
            }
            (Asked::Fetch { table, aor, waiting }, result) => {
                if let Some(table) = tables.get(table) {
                    self.fetched(cx, sql, (table, aor), waiting, result);
                }
                return;
            }
            (_, Ok(_)) => {
                if std::mem::take(&mut sql.state.lock().is_told) {
                    cx.log(Level::Notice, "the database takes contacts again");
                }
            }
            (about, Err(error)) => sql.failed(cx, &tables, about, &error),
        }
        sql.release(cx, false);
        let goes_on = sql.writes == Writes::Through || sql.state.lock().draining;
        if goes_on {
            sql.pump(cx, &tables);
        }
    }

    fn loaded(
        &self,
        cx: &mut Cx<'_>,
        sql: &Sql,
        table: &Table,
        (after, at_start): (i64, bool),
        result: Result<Rows, DbError>,
    ) {
        if let (true, Ok(rows)) = (self.params.is_sql_only, &result) {
            sql.see(table, after, rows);
        }
        match result.map(|rows| self.restore(cx, table, &rows)) {
            Ok(Some(after)) => return sql.load_page(cx, table, after, at_start),
            Ok(None) => {
                let seen = sql.state.lock().seen.remove(&table.at);
                if let Some(seen) = seen {
                    self.forget_others(cx, table, &seen);
                }
                let now_s = cx.now.unix_s();
                if sql.writes != Writes::None {
                    sql.ask(cx, sql.delete_ended(table, now_s), Asked::Nothing);
                    sql.step_ended(cx, &self.tables());
                }
            }
            Err(error) => {
                cx.table_failed(table.name(), &error);
                if matches!(error.kind, DbErrorKind::Busy | DbErrorKind::Unavailable) {
                    // Serving does not wait; what is stored comes in when the database is back.
                    sql.state.lock().asked.insert(
                        u64::MAX - table.at as u64,
                        Asked::Load { table: table.at, after, at_start: false },
                    );
                    let at = cx.now.after_ms(RETRY_MS);
                    cx.set_timer(at, Timer { kind: timer::RELOAD, id: table.at as u64 });
                }
            }
        }
        if at_start {
            cx.end_startup();
        }
    }

    /// The reload timer: a table that could not be loaded is asked for again, from where it was.
    pub(crate) fn sql_reload(&self, cx: &mut Cx<'_>, sql: &Sql, table: u64) {
        let about = sql.state.lock().asked.remove(&(u64::MAX - table));
        let table = self.tables().get(table as usize).cloned();
        if let (Some(Asked::Load { after, at_start, .. }), Some(table)) = (about, table) {
            sql.load_page(cx, &table, after, at_start);
        }
    }
}

fn leave(cx: &mut Cx<'_>, send: Send, gated: bool) {
    if gated { cx.out.send_gated(send) } else { cx.out.send(send) }
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
