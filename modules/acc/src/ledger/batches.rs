//! Batches of records: asked, written, tried again, taken apart when a database refuses one.

use tandem_db::{DbError, DbErrorKind, Rows};
use tandem_engine::log::Level;
use tandem_engine::module::Cx;

use super::entry::write;
use super::{
    Asked, BATCH_MAX, Entry, Ledger, Paid, REQUESTS_MAX, RESIDENT_MAX, Side, Sink, State,
    UNDER_WAY_MAX, disk, retry_later,
};

impl Ledger {
    /// Asks for batches while few enough are under way, and for what waits on disk.
    pub(super) fn pump(&self, cx: &mut Cx<'_>) {
        let mut state = self.state.lock();
        if self.radius().is_some_and(|radius| !radius.is_ready()) {
            // What an earlier life left may be found first.
            return retry_later(cx, &mut state);
        }
        loop {
            let at_once = self.at_once(&state);
            if state.side == Side::Unknown || state.is_down {
                return;
            }
            let n = state.waiting.len().min(self.batch_max());
            if n == 0 || state.under_way() >= at_once {
                break;
            }
            let entries: Vec<Entry> = state.waiting.drain(..n).collect();
            self.ask(cx, &mut state, entries);
        }
        disk::read_next(cx, &mut state);
    }

    /// Batches that may be under way. A server that was silent is tried with one.
    fn at_once(&self, state: &State) -> usize {
        match self.radius() {
            None => UNDER_WAY_MAX,
            Some(_) if state.told.down => 1,
            Some(_) => REQUESTS_MAX,
        }
    }

    fn batch_max(&self) -> usize {
        if self.radius().is_some() { 1 } else { BATCH_MAX }
    }

    /// The node ends: what waits is asked for at once. Without identities it stays on disk alone,
    /// since nobody hears the answers any more.
    pub(crate) fn flush(&self, cx: &mut Cx<'_>) {
        let mut state = self.state.lock();
        disk::add_all(cx, &mut state);
        while matches!(state.side, Side::There(_)) && !state.is_down && !state.waiting.is_empty() {
            let n = state.waiting.len().min(BATCH_MAX);
            let entries: Vec<Entry> = state.waiting.drain(..n).collect();
            self.ask(cx, &mut state, entries);
        }
        disk::remove_written(cx, &mut state);
    }

    fn ask(&self, cx: &mut Cx<'_>, state: &mut State, entries: Vec<Entry>) {
        let token = state.token();
        match &self.sink {
            Sink::Database(database) => {
                let side = matches!(state.side, Side::There(_));
                let query = write(&entries, side, cx.now.unix_s());
                cx.query(*database, query, token);
            }
            Sink::Radius(radius) => {
                entries.iter().for_each(|entry| radius.send(cx, entry, token));
            }
        }
        state.asked.insert(token, Asked::Records(entries));
    }

    pub(super) fn records_answered(
        &self,
        cx: &mut Cx<'_>,
        entries: Vec<Entry>,
        result: Result<Rows, DbError>,
    ) {
        match result {
            Ok(_) => {
                let mut state = self.state.lock();
                state.totals.written += entries.len() as u64;
                state.told.refused = false;
                if std::mem::take(&mut state.told.down) {
                    cx.log(Level::Notice, format!("{} takes records again", state.place()));
                }
                entries.iter().for_each(|entry| settled(cx, &mut state, entry));
            }
            Err(error) if is_away(&error) => self.away(cx, entries, &error),
            Err(error) => self.refused(cx, entries, error),
        }
    }

    /// The database cannot be asked now; whether it wrote them shows the next time.
    fn away(&self, cx: &mut Cx<'_>, entries: Vec<Entry>, error: &DbError) {
        let mut state = self.state.lock();
        state.is_down = true;
        let mut is_place = true;
        for mut entry in entries.into_iter().rev() {
            if self.radius().is_none() {
                state.waiting.push_front(entry);
                continue;
            }
            // It may be this record that the server does not answer: the next try is another one.
            entry.misses.add(state.totals.written);
            is_place &= !entry.misses.are_its_own();
            match entry.misses.are_too_many() {
                false => state.waiting.push_back(entry),
                true => never_answered(cx, &mut state, entry),
            }
        }
        if is_place && !std::mem::replace(&mut state.told.down, true) {
            let why = match self.radius() {
                Some(_) => error.message.clone(),
                None => error.to_string(),
            };
            let text = format!(
                "records cannot be written: {why}; they wait in the spool (at most \
                 {RESIDENT_MAX} in memory), and {} is asked again every second",
                state.place()
            );
            cx.log(Level::Warning, text);
        }
        disk::sync_soon(cx, &mut state);
        retry_later(cx, &mut state);
    }

    /// One of them cannot be written: halves show which.
    fn refused(&self, cx: &mut Cx<'_>, mut entries: Vec<Entry>, error: DbError) {
        let mut state = self.state.lock();
        if entries.len() > 1 {
            let half = entries.split_off(entries.len() / 2);
            self.ask(cx, &mut state, entries);
            return self.ask(cx, &mut state, half);
        }
        let Some(entry) = entries.pop() else { return };
        if error.kind == DbErrorKind::Constraint
            && matches!(state.side, Side::There(_))
            && let Sink::Database(database) = self.sink
        {
            let token = state.token();
            let query = super::side::is_known(&entry);
            state.asked.insert(token, Asked::Known(Box::new(entry), error));
            return cx.query(database, query, token);
        }
        self.cannot_be(cx, &mut state, entry, &error);
    }

    /// Whether a record that was refused is there already.
    pub(super) fn known(
        &self,
        cx: &mut Cx<'_>,
        entry: Entry,
        why: &DbError,
        result: Result<Rows, DbError>,
    ) {
        match result {
            Ok(rows) if !rows.rows.is_empty() => {
                let mut state = self.state.lock();
                state.totals.repeated += 1;
                settled(cx, &mut state, &entry);
            }
            Ok(_) => self.cannot_be(cx, &mut self.state.lock(), entry, why),
            Err(error) => self.away(cx, vec![entry], &error),
        }
    }

    /// The database will never take it as it is.
    fn cannot_be(&self, cx: &mut Cx<'_>, state: &mut State, mut entry: Entry, error: &DbError) {
        if entry.clip() {
            return self.ask(cx, state, vec![entry]);
        }
        if !std::mem::replace(&mut state.told.refused, true) {
            let text = format!(
                "the database refuses a record for the table {}: {error}; it and those that \
                 follow it are set aside in the spool, and tried again at the next start",
                entry.table
            );
            cx.log(Level::Error, text);
        }
        // It is kept here, and no other node can do better.
        if let Some(call) = entry.call {
            state.paid.push(Paid { call, id: entry.id });
        }
        disk::set_aside(cx, state, entry);
    }
}

/// A RADIUS server takes others, and never this one.
fn never_answered(cx: &mut Cx<'_>, state: &mut State, entry: Entry) {
    let text = format!(
        "the RADIUS server takes other records and never answers {}: it is set aside in the spool, \
         and tried again at the next start; the server has to answer whatever its \
         Acct-Status-Type is",
        entry.line().trim_end()
    );
    cx.log(Level::Warning, text);
    // It is kept here, and no other node can do better.
    if let Some(call) = entry.call {
        state.paid.push(Paid { call, id: entry.id });
    }
    disk::set_aside(cx, state, entry);
}

/// A record is where it belongs.
fn settled(cx: &mut Cx<'_>, state: &mut State, entry: &Entry) {
    if let Some(call) = entry.call {
        state.paid.push(Paid { call, id: entry.id });
    }
    disk::done(cx, state, entry);
}

pub(super) fn is_away(error: &DbError) -> bool {
    matches!(error.kind, DbErrorKind::Busy | DbErrorKind::Unavailable)
}
