//! Records on their way to the database, or to a RADIUS server.
//!
//! A record is added to the spool and waits in memory for the next batch; a few batches are under
//! way at a time. A database that is away is asked again every second, and what waits then is
//! made to survive a power cut. The identities of the records are written with them into a table
//! of their own, in the same transaction: what has been written is not written again, whoever
//! tries. Nothing is dropped silently: what a database refuses is set aside on disk, and what
//! neither disk nor memory can take is in the log, whole. A RADIUS server is a place without
//! identities, which takes one record at a time; each of the two has files of its own.

mod batches;
mod disk;
mod entry;
mod listing;
mod segments;
mod side;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use parking_lot::Mutex;
use tandem_db::{DbError, DbErrorKind, Rows};
use tandem_engine::effect::DatabaseId;
use tandem_engine::log::Level;
use tandem_engine::module::{Cx, Timer};

use crate::aaa::Radius;
use crate::cdr::CdrId;
pub(crate) use entry::{CallRef, Entry, Misses};
use segments::Segments;
use side::{Ask, Side};

/// Records written in one transaction.
const BATCH_MAX: usize = 100;
/// Batches under way at a time.
const UNDER_WAY_MAX: usize = 2;
/// Requests to a RADIUS server under way at a time.
const REQUESTS_MAX: usize = 64;
/// Records that wait in memory before further ones are on disk alone.
const RESIDENT_MAX: usize = 2_000;
/// The same where the disk takes nothing; what comes then is in the log.
const RESIDENT_HARD_MAX: usize = 200_000;
/// Stands for the number of a database that keeps no identities.
pub(crate) const WITHOUT_IDENTITIES: u64 = 1;
/// Calls whose records are known to be on their way; one more may be written twice, which the
/// identities notice.
const OWING_MAX: usize = 500_000;
/// How long a record waits for others.
const GATHER_MS: u64 = 20;
/// How long a database or a disk that failed is left alone.
const RETRY_MS: u64 = 1_000;
/// How long an addition waits for its sync while the database is away.
const SYNC_MS: u64 = 100;

/// The timers of the module.
pub(crate) mod timer {
    pub(crate) const GATHER: u32 = 1;
    pub(crate) const RETRY: u32 = 2;
    pub(crate) const SYNC: u32 = 3;
    pub(crate) const PRUNE: u32 = 4;
    pub(crate) const ADD: u32 = 6;
    /// A RADIUS server has answered.
    pub(crate) const RADIUS: u32 = 7;
    /// Not the ledger's own.
    pub(crate) const DEBTS: u32 = 5;
}

/// See the module.
pub(crate) struct Ledger {
    sink: Sink,
    state: Mutex<State>,
}

/// Where records go.
pub(crate) enum Sink {
    Database(DatabaseId),
    Radius(Radius),
}

/// Which ledger of the module: the id of its timers, and the last bit of its tokens.
pub(crate) const TO_DATABASE: u64 = 0;
pub(crate) const TO_RADIUS: u64 = 1;

#[derive(Default)]
struct State {
    which: u64,
    side: Side,
    /// The number of the database, as an earlier life noted it beside the spool.
    known_as: Option<u64>,
    /// What is in the spool of an earlier life is not known yet.
    lists: bool,
    is_listed: bool,
    waiting: VecDeque<Entry>,
    asked: BTreeMap<u64, Asked>,
    spooled: BTreeMap<u64, Spooled>,
    segments: Segments,
    /// What goes to disk in a moment.
    additions: Vec<Addition>,
    /// The same of lines that say what is done, by file.
    done: BTreeMap<u64, String>,
    adds: bool,
    next_token: u64,
    /// A timer for the next batch runs.
    gathers: bool,
    syncs: bool,
    retries: bool,
    /// The database failed, and is not to be asked before the retry timer.
    is_down: bool,
    told: Told,
    totals: Totals,
    /// Calls whose records are on their way.
    owing: BTreeSet<CdrId>,
    /// Debts that are paid, for their dialogs.
    paid: Vec<Paid>,
}

/// What was said, and has not changed since.
#[derive(Debug, Default)]
struct Told {
    down: bool,
    disk: bool,
    refused: bool,
}

/// Records since the start.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    written: u64,
    /// Found in the database when they were to be written.
    repeated: u64,
    set_aside: u64,
    /// In the log only.
    logged: u64,
}

/// A debt that is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paid {
    pub(crate) call: CallRef,
    pub(crate) id: CdrId,
}

/// What a query was about.
enum Asked {
    Records(Vec<Entry>),
    /// Whether the database has this record already.
    Known(Box<Entry>, DbError),
    Side(Ask),
}

/// Records for one file.
#[derive(Debug, Default)]
struct Addition {
    segment: u64,
    lines: String,
    records: u32,
    /// Those that are nowhere else until the disk has them.
    alone: Vec<Entry>,
}

/// What the spool was asked.
enum Spooled {
    Added(Addition),
    Refused {
        segment: u64,
        entry: Box<Entry>,
    },
    Read(u64),
    Removed,
    Listed,
    Synced,
    /// The number of the database.
    Noted,
}

impl State {
    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token << 1 | self.which
    }

    /// What the place is called.
    fn place(&self) -> &'static str {
        if self.which == TO_RADIUS { "the RADIUS server" } else { "the database" }
    }

    fn word(&self) -> &'static str {
        if self.which == TO_RADIUS { "radius" } else { "database" }
    }

    fn timer(&self, kind: u32) -> Timer {
        Timer { kind, id: self.which }
    }

    fn expect(&mut self, entry: &Entry) {
        if entry.call.is_some() && self.owing.len() < OWING_MAX {
            self.owing.insert(entry.id);
        }
    }

    fn under_way(&self) -> usize {
        self.asked.values().filter(|a| !matches!(a, Asked::Side(_))).count()
    }
}

impl Ledger {
    pub(crate) fn new(sink: Sink) -> Self {
        let which = match &sink {
            Sink::Database(_) => TO_DATABASE,
            Sink::Radius(_) => TO_RADIUS,
        };
        let mut state = State { which, lists: true, ..State::default() };
        if which == TO_RADIUS {
            state.side = Side::Missing;
            state.segments = Segments::named("aaa-", "aaa-refused-");
            state.segments.forgets_at_once = true;
        }
        Self { sink, state: Mutex::new(state) }
    }

    /// The RADIUS server that takes the records.
    pub(crate) fn radius(&self) -> Option<&Radius> {
        match &self.sink {
            Sink::Radius(radius) => Some(radius),
            Sink::Database(_) => None,
        }
    }

    /// Looks for what an earlier life left, and for the table of identities.
    pub(crate) fn start(&self, cx: &mut Cx<'_>) {
        self.list(cx);
        if self.radius().is_none() {
            self.look_for_side(cx);
        }
    }

    /// Takes a record.
    pub(crate) fn add(&self, cx: &mut Cx<'_>, entry: Entry) {
        let mut state = self.state.lock();
        state.expect(&entry);
        let spills = state.segments.is_behind() || state.waiting.len() >= RESIDENT_MAX;
        disk::add(cx, &mut state, entry, spills);
        if state.is_down {
            disk::sync_soon(cx, &mut state);
        }
        if state.waiting.len() >= BATCH_MAX {
            drop(state);
            return self.pump(cx);
        }
        if !std::mem::replace(&mut state.gathers, true) {
            cx.set_timer(cx.now.after_ms(GATHER_MS), state.timer(timer::GATHER));
        }
    }

    /// A timer of [`timer`] fired.
    pub(crate) fn timer(&self, cx: &mut Cx<'_>, kind: u32) {
        match kind {
            timer::ADD => return disk::add_all(cx, &mut self.state.lock()),
            timer::GATHER => self.state.lock().gathers = false,
            timer::RETRY => self.retry(cx),
            timer::SYNC => return disk::sync(cx, &mut self.state.lock()),
            timer::PRUNE => return self.prune(cx),
            _ => return,
        }
        self.pump(cx);
    }

    fn retry(&self, cx: &mut Cx<'_>) {
        let (asks_side, lists) = {
            let mut state = self.state.lock();
            (state.retries, state.is_down) = (false, false);
            (state.side == Side::Unknown, state.lists)
        };
        if lists {
            self.list(cx);
        }
        if asks_side {
            self.look_for_side(cx);
        }
    }

    /// A query is answered.
    pub(crate) fn answered(&self, cx: &mut Cx<'_>, token: u64, result: Result<Rows, DbError>) {
        let asked = self.state.lock().asked.remove(&token);
        match asked {
            Some(Asked::Records(entries)) => self.records_answered(cx, entries, result),
            Some(Asked::Known(entry, why)) => self.known(cx, *entry, &why, result),
            Some(Asked::Side(ask)) => self.side_answered(cx, ask, result),
            None => return,
        }
        if !self.state.lock().gathers {
            self.pump(cx);
        }
    }

    /// A RADIUS server has answered, or none.
    pub(crate) fn told(&self, cx: &mut Cx<'_>, number: u64) {
        let Some((token, result)) = self.radius().and_then(|radius| radius.take(number)) else {
            return;
        };
        let result = result.map(|()| Rows::default());
        let result = result.map_err(|why| DbError::new(DbErrorKind::Unavailable, why));
        self.answered(cx, token, result);
    }

    /// Whether the record of a call is on its way already.
    pub(crate) fn has(&self, id: CdrId) -> bool {
        self.state.lock().owing.contains(&id)
    }

    /// Debts that are paid since the last call.
    pub(crate) fn take_paid(&self) -> Vec<Paid> {
        std::mem::take(&mut self.state.lock().paid)
    }

    /// The database's own number, which another database than that of a peer has not. While it is
    /// away, the one that it had the last time; 0: not known.
    pub(crate) fn place(&self) -> u64 {
        let state = self.state.lock();
        match state.side {
            Side::There(id) => id,
            Side::Missing => WITHOUT_IDENTITIES,
            Side::Unknown => state.known_as.unwrap_or(0),
        }
    }
}

/// Asks a database again after a while.
fn retry_later(cx: &mut Cx<'_>, state: &mut State) {
    if !std::mem::replace(&mut state.retries, true) {
        cx.set_timer(cx.now.after_ms(RETRY_MS), state.timer(timer::RETRY));
    }
}

/// A record that nothing takes any more.
fn log_whole(cx: &mut Cx<'_>, state: &mut State, entry: &Entry, why: &str) {
    state.totals.logged += 1;
    state.owing.remove(&entry.id);
    let line = entry.line();
    let text = format!("a record is kept nowhere but here ({why}): {}", line.trim_end());
    cx.log(Level::Critical, text);
}
