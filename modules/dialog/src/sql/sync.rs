//! `dialog:db_sync`: what somebody has changed in the table is taken, and what he has removed from
//! it is forgotten. A dialog of which something waits to be written is newer than its row.

use std::collections::BTreeSet;

use tandem_db::DbError;
use tandem_engine::mi::RpcError;
use tandem_engine::module::Cx;

use super::{Asked, DbMode, Reading, Sql};
use crate::change::{Change, Origin};
use crate::flags::Flags;
use crate::id::DialogId;
use crate::record::{Dialog, EndReason, Leg, Side};
use crate::state::Dialogs;

/// Why the table was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotRead {
    /// There is none.
    NoDatabase,
    /// It is being read already.
    Busy,
}

impl Sql {
    /// Whether a row is behind what is in memory: always, where rows are written at the end.
    fn is_behind(&self, id: DialogId) -> bool {
        let state = self.state.lock();
        let is_asked = |about: &Asked| match about {
            Asked::Writes(ids) | Asked::Deletes(ids) => ids.contains(&id),
            Asked::Load(_) | Asked::Nothing => false,
        };
        self.params.mode == DbMode::Shutdown
            || state.overflowed
            || [&state.writes, &state.deletes, &state.later].iter().any(|all| all.contains(&id))
            || state.asked.values().any(is_asked)
    }
}

impl Dialogs {
    /// Reads the table again; the command is answered when that is done.
    pub(crate) fn sync_sql(&self, cx: &mut Cx<'_>, request: u64) -> Result<(), NotRead> {
        let Some(sql) = &self.sql else { return Err(NotRead::NoDatabase) };
        if sql.state.lock().seen.replace(BTreeSet::new()).is_some() {
            return Err(NotRead::Busy);
        }
        sql.ask(cx, sql.page(i64::MIN), Asked::Load(Reading::Sync { request }));
        Ok(())
    }

    /// Takes a row of a table that is read again.
    pub(super) fn sync_row(&self, cx: &mut Cx<'_>, sql: &Sql, row: Dialog) {
        let id = row.id;
        if let Some(seen) = &mut sql.state.lock().seen {
            seen.insert(id);
        }
        let now_s = cx.now.unix_s() as u32;
        let known = self.read(id, |d| d.state.is_answered().then(|| edits(d, &row, now_s)));
        match known.flatten() {
            Some(all) if !sql.is_behind(id) => {
                for change in all {
                    // What a dialog cannot have is left out, as when a script asks for it.
                    let _ = self.change(cx, id, change);
                }
            }
            _ => self.take_row(cx, row),
        }
    }

    /// The whole table was read, or cannot be.
    pub(super) fn end_sync(&self, cx: &mut Cx<'_>, sql: &Sql, request: u64, failed: bool) {
        let seen = sql.state.lock().seen.take();
        if let Some(seen) = seen.filter(|_| !failed) {
            for id in self.table.ids() {
                let ours = self.read(id, |d| d.state.is_answered() && self.is_ours(cx, d));
                if ours == Some(true) && !seen.contains(&id) && !sql.is_behind(id) {
                    // Not a word to the phones: the call is another's, or over.
                    let change = Change::Ended { reason: EndReason::Command };
                    let _ = self.change_by(cx, id, Origin::Database, change, None);
                    self.forget(cx, id);
                }
            }
        }
        let message = "Sync mem with DB failed".to_owned();
        let refused = RpcError { code: 400, message, data: None };
        cx.mi_reply(request, if failed { Err(refused) } else { Ok("OK".into()) });
    }
}

/// What makes a dialog what its row says.
fn edits(d: &Dialog, row: &Dialog, now_s: u32) -> Vec<Change> {
    let mut all = Vec::new();
    let none = Leg::default();
    let contacts = [
        (Side::Caller, &d.caller, &row.caller),
        (Side::Callee, d.callee().unwrap_or(&none), row.callee().unwrap_or(&none)),
    ];
    for (side, leg, told) in contacts {
        if leg.contact != told.contact && !told.contact.is_empty() {
            let callee = d.answered.unwrap_or(0);
            let contact = Some(told.contact.clone());
            all.push(Change::Refreshed { side, callee, contact, sdp: None });
        }
    }
    let gone = d.values.iter().filter(|(name, _)| row.value(name).is_none());
    all.extend(gone.map(|(name, _)| Change::Value { name: name.clone(), value: None }));
    let set = row.values.iter().filter(|(name, value)| d.value(name) != Some(value));
    all.extend(
        set.map(|(name, value)| Change::Value { name: name.clone(), value: Some(value.clone()) }),
    );
    for p in d.profiles.iter().filter(|p| !row.profiles.contains(p)) {
        let (name, value) = (p.name.clone(), Some(p.value.clone()));
        all.push(Change::Leave { name, marker: p.marker, value });
    }
    for p in row.profiles.iter().filter(|p| !d.profiles.contains(p)) {
        all.push(Change::Join { membership: p.clone(), alone: false });
    }
    for bit in (0..32u8).filter(|bit| (d.user_flags ^ row.user_flags) >> bit & 1 == 1) {
        all.push(Change::UserFlag { bit, on: row.user_flags >> bit & 1 == 1 });
    }
    let of = |flags: Flags| flags.without(Flags(!Flags::CHOSEN.0));
    if of(d.flags) != of(row.flags) {
        let set = of(row.flags);
        all.push(Change::Flags { set, clear: Flags::CHOSEN.without(set) });
    }
    if d.expires_s != row.expires_s {
        all.push(Change::Lifetime { seconds: row.expires_s.saturating_sub(now_s) });
    }
    all
}

/// Whether the table may be read when it is asked again.
pub(super) fn passes(error: &DbError) -> bool {
    use tandem_db::DbErrorKind::{Busy, Unavailable};
    matches!(error.kind, Busy | Unavailable)
}
