//! What the ledger asks of the spool.

use std::collections::BTreeMap;

use bytes::Bytes;
use tandem_engine::effect::{SpoolAnswer, SpoolAsk};
use tandem_engine::log::Level;
use tandem_engine::module::Cx;

use super::segments::SPOOL_BYTES_MAX;
use super::side::Side;
use super::{
    Addition, Entry, Ledger, RESIDENT_HARD_MAX, SYNC_MS, Spooled, State, log_whole, retry_later,
    timer,
};

/// Begins the name of a file that tells the number of the database.
const DATABASE: &str = "database-";

/// Notes which database it is, for a life that begins while it is away. Without that a record is
/// left to those who know.
pub(super) fn note(cx: &mut Cx<'_>, state: &mut State) {
    let Side::There(number) = state.side else { return };
    if !state.is_listed || state.known_as == Some(number) {
        return;
    }
    if let Some(other) = state.known_as.replace(number) {
        set_apart(cx, state);
        let token = state.token();
        state.spooled.insert(token, Spooled::Noted);
        cx.ask_spool(SpoolAsk::Remove { name: format!("{DATABASE}{other}") }, token);
    }
    let token = state.token();
    state.spooled.insert(token, Spooled::Noted);
    let (name, bytes) = (format!("{DATABASE}{number}"), Bytes::new());
    cx.ask_spool(SpoolAsk::Append { name, bytes, durable: false }, token);
}

/// What an earlier life left was meant for another database: what that one has already, this one
/// must not get as well.
fn set_apart(cx: &mut Cx<'_>, state: &mut State) {
    let names = state.segments.set_apart();
    if names.is_empty() {
        return;
    }
    let text = format!(
        "{} files of the spool were meant for another database and are left as they are; to have \
         them written to this one, remove {} from the folder of the spool and start again",
        names.len(),
        names.join(", ")
    );
    cx.log(Level::Warning, text);
    for name in names {
        let token = state.token();
        state.spooled.insert(token, Spooled::Noted);
        cx.ask_spool(SpoolAsk::Append { name, bytes: Bytes::new(), durable: false }, token);
    }
}

/// Removes the newest file when the node ends and all of it is written.
pub(super) fn remove_written(cx: &mut Cx<'_>, state: &mut State) {
    let gone = state.segments.take_written();
    remove(cx, state, gone);
}

/// Puts a record on disk and, unless it `spills`, into memory as well.
pub(super) fn add(cx: &mut Cx<'_>, state: &mut State, mut entry: Entry, spills: bool) {
    let line = entry.line();
    let Some(segment) = state.segments.add(line.len(), spills) else {
        let full = format!("the spool has its {} MiB", SPOOL_BYTES_MAX >> 20);
        complain(cx, state, &full);
        return remember(cx, state, entry);
    };
    entry.segment = segment;
    if state.additions.last().is_none_or(|a| a.segment != segment) {
        state.additions.push(Addition { segment, ..Addition::default() });
    }
    if let Some(addition) = state.additions.last_mut() {
        addition.lines.push_str(&line);
        addition.records += 1;
        match spills {
            true => addition.alone.push(entry),
            false => state.waiting.push_back(entry),
        }
    }
    add_soon(cx, state);
}

fn add_soon(cx: &mut Cx<'_>, state: &mut State) {
    if !std::mem::replace(&mut state.adds, true) {
        // It fires within two milliseconds: what has come by then is one addition.
        cx.set_timer(cx.now.mono_ns, state.timer(timer::ADD));
    }
}

/// What has come in the last moment goes to disk together.
pub(super) fn add_all(cx: &mut Cx<'_>, state: &mut State) {
    state.adds = false;
    for mut addition in std::mem::take(&mut state.additions) {
        let lines = std::mem::take(&mut addition.lines);
        append(cx, state, addition.segment, lines, |_| Spooled::Added(addition));
    }
    for (segment, lines) in std::mem::take(&mut state.done) {
        append(cx, state, segment, lines, |_| Spooled::Noted);
    }
}

/// Keeps a record whatever the database says.
pub(super) fn set_aside(cx: &mut Cx<'_>, state: &mut State, entry: Entry) {
    state.totals.set_aside += 1;
    let line = entry.line();
    let Some(segment) = state.segments.set_aside(line.len()) else {
        log_whole(cx, state, &entry, "the spool is full");
        return done(cx, state, &entry);
    };
    let entry = Box::new(entry);
    append(cx, state, segment, line, |segment| Spooled::Refused { segment, entry });
}

fn append(
    cx: &mut Cx<'_>,
    state: &mut State,
    segment: u64,
    line: String,
    about: impl FnOnce(u64) -> Spooled,
) {
    let name = state.segments.name(segment);
    let token = state.token();
    state.spooled.insert(token, about(segment));
    cx.ask_spool(SpoolAsk::Append { name, bytes: Bytes::from(line), durable: false }, token);
}

/// A record is written, or in the log: its file may go. Where nothing tells at the next start that
/// it was written, a file that stays says so.
pub(super) fn done(cx: &mut Cx<'_>, state: &mut State, entry: &Entry) {
    state.owing.remove(&entry.id);
    let gone = state.segments.done(entry.segment);
    if gone.is_none() && state.segments.forgets_at_once {
        let line = entry.done_line();
        if state.segments.note(entry.segment, line.len()) {
            state.done.entry(entry.segment).or_default().push_str(&line);
            add_soon(cx, state);
        }
    }
    remove(cx, state, gone);
}

fn remove(cx: &mut Cx<'_>, state: &mut State, segment: Option<u64>) {
    let Some(segment) = segment else { return };
    let name = state.segments.name(segment);
    let token = state.token();
    state.spooled.insert(token, Spooled::Removed);
    state.segments.removed(segment);
    // It would begin the file again.
    state.done.remove(&segment);
    cx.ask_spool(SpoolAsk::Remove { name }, token);
}

/// Keeps a record in memory that the disk does not take.
fn remember(cx: &mut Cx<'_>, state: &mut State, mut entry: Entry) {
    entry.segment = 0;
    if state.waiting.len() >= RESIDENT_HARD_MAX {
        return log_whole(cx, state, &entry, "neither disk nor memory has room for it");
    }
    state.waiting.push_back(entry);
}

fn complain(cx: &mut Cx<'_>, state: &mut State, why: &str) {
    if !std::mem::replace(&mut state.told.disk, true) {
        let text = format!(
            "records cannot be added to the spool: {why}; up to {RESIDENT_HARD_MAX} that {} has \
             not taken are kept in memory only",
            state.place()
        );
        cx.log(Level::Error, text);
    }
}

/// Asks for the records that wait on disk alone.
pub(super) fn read_next(cx: &mut Cx<'_>, state: &mut State) {
    if !state.waiting.is_empty() {
        return;
    }
    let Some(segment) = state.segments.read_next() else { return };
    let name = state.segments.name(segment);
    let token = state.token();
    state.spooled.insert(token, Spooled::Read(segment));
    cx.ask_spool(SpoolAsk::Read { name }, token);
}

/// Has what was added survive a power cut, soon.
pub(super) fn sync_soon(cx: &mut Cx<'_>, state: &mut State) {
    if state.segments.unsynced && !std::mem::replace(&mut state.syncs, true) {
        cx.set_timer(cx.now.after_ms(SYNC_MS), state.timer(timer::SYNC));
    }
}

/// Has what was added survive a power cut.
pub(super) fn sync(cx: &mut Cx<'_>, state: &mut State) {
    state.syncs = false;
    state.segments.unsynced = false;
    let Some(current) = state.segments.current() else { return };
    let name = state.segments.name(current);
    let token = state.token();
    state.spooled.insert(token, Spooled::Synced);
    cx.ask_spool(SpoolAsk::Append { name, bytes: Bytes::new(), durable: true }, token);
}

impl Ledger {
    /// Looks for files of an earlier life.
    pub(super) fn list(&self, cx: &mut Cx<'_>) {
        let mut state = self.state.lock();
        state.lists = false;
        let token = state.token();
        state.spooled.insert(token, Spooled::Listed);
        cx.ask_spool(SpoolAsk::List, token);
    }

    /// The spool answers.
    pub(crate) fn spooled(&self, cx: &mut Cx<'_>, token: u64, result: Result<SpoolAnswer, String>) {
        let mut state = self.state.lock();
        let Some(about) = state.spooled.remove(&token) else { return };
        let failed = result.as_ref().err().cloned();
        let matters = !matches!(about, Spooled::Removed | Spooled::Noted);
        if let Some(why) = failed.as_ref().filter(|_| matters) {
            complain(cx, &mut state, why);
        }
        match about {
            Spooled::Added(addition) => added(cx, &mut state, addition, failed),
            Spooled::Refused { segment, entry } => {
                if let Some(why) = failed {
                    log_whole(cx, &mut state, &entry, &why);
                }
                let gone = state.segments.appended(segment, 1);
                remove(cx, &mut state, gone);
                done(cx, &mut state, &entry);
            }
            Spooled::Read(segment) => read(cx, &mut state, segment, result),
            Spooled::Listed => match result {
                Ok(SpoolAnswer::Names(names)) => {
                    state.segments.found(&names);
                    state.is_listed = true;
                    let number = |name: &String| name.strip_prefix(DATABASE)?.parse().ok();
                    state.known_as = state.known_as.or(names.iter().find_map(number));
                    note(cx, &mut state);
                }
                _ => {
                    state.lists = true;
                    retry_later(cx, &mut state);
                }
            },
            Spooled::Synced if failed.is_some() => state.segments.unsynced = true,
            Spooled::Removed | Spooled::Synced | Spooled::Noted => {}
        }
        drop(state);
        if !self.state.lock().gathers {
            self.pump(cx);
        }
    }
}

fn added(cx: &mut Cx<'_>, state: &mut State, addition: Addition, failed: Option<String>) {
    let Addition { segment, records, alone, .. } = addition;
    let gone = match failed {
        Some(_) if !alone.is_empty() => {
            let mut gone = None;
            for entry in alone {
                remember(cx, state, entry);
                gone = state.segments.not_spilled(segment);
            }
            gone
        }
        failed => {
            if failed.is_none() && std::mem::take(&mut state.told.disk) {
                cx.log(Level::Notice, "the spool takes records again");
            }
            state.segments.appended(segment, records)
        }
    };
    remove(cx, state, gone);
}

fn read(cx: &mut Cx<'_>, state: &mut State, segment: u64, result: Result<SpoolAnswer, String>) {
    let name = state.segments.name(segment);
    let bytes = match result {
        Ok(SpoolAnswer::Bytes(bytes)) => bytes.unwrap_or_default(),
        _ => {
            state.segments.read(segment, None);
            state.is_down = true;
            return retry_later(cx, state);
        }
    };
    let text = String::from_utf8_lossy(&bytes);
    let (mut all, mut done, mut broken) = (Vec::new(), BTreeMap::new(), 0_u32);
    for line in text.lines().filter(|line| !line.is_empty()) {
        match (Entry::parse_done(line), Entry::parse(line)) {
            (Some(id), _) => *done.entry(id).or_insert(0_u32) += 1,
            (_, Some(entry)) => all.push(entry),
            _ => broken += 1,
        }
    }
    // The first ones of an identity are done first.
    all.retain(|entry| match done.get_mut(&entry.id).filter(|times| **times > 0) {
        Some(times) => {
            *times -= 1;
            false
        }
        None => true,
    });
    let records = u32::try_from(all.len()).unwrap_or(u32::MAX);
    for entry in all {
        state.expect(&entry);
        state.waiting.push_back(Entry { segment, ..entry });
    }
    if broken > 0 {
        let text = format!("{broken} lines of the file {name} of the spool are no records: {text}");
        cx.log(Level::Error, text);
    }
    let gone = state.segments.read(segment, Some((records, bytes.len() as u64)));
    remove(cx, state, gone);
}
