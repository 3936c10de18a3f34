//! What time causes.

use std::sync::Arc;

use tandem_engine::module::{Cx, Timer};

use crate::record::{Key, Record, Stand};
use crate::state::{Pua, TICK};
use crate::table::{ENDS_MAX, Full, Local};

/// Records that one turn looks at.
const TURN_MAX: usize = 1000;
/// How soon a record of another node is looked at again.
const OTHERS_S: u64 = 3;
/// After this time without any news another node's record is forgotten here.
const STALE_S: u64 = 3600;
/// Changes that wait for the database beyond which they do not wait for its timer.
const DIRTY_MAX: usize = ENDS_MAX / 4;

impl Pua {
    /// Looks at the records that are due.
    pub(crate) fn sweep(&self, cx: &mut Cx<'_>) {
        cx.set_timer(cx.now.after_s(1), Timer { kind: TICK, id: 0 });
        let node = Arc::clone(cx.node);
        let tags = node.membership().tags().map(|tags| &**tags);
        let now_s = cx.now.unix_s();
        for key in self.table.due(now_s, TURN_MAX) {
            let found = self.table.read(&key, |r, local| (r.clone(), local.clone()));
            let Some((record, local)) = found else { continue };
            if record.stand == Stand::Gone {
                match local.is_dirty && self.params.database.is_some() {
                    true => self.table.later(&key, now_s + 60),
                    false => self.table.forget(&key),
                }
                continue;
            }
            if local.sent.is_some() {
                self.table.later(&key, now_s + OTHERS_S);
                continue;
            }
            match self.leave(tags, &record) {
                Some(leave) if is_wanted(&record, now_s) && self.may_refresh(&record) => {
                    self.table.later(&key, now_s + OTHERS_S);
                    self.pump(cx, &key, &leave);
                }
                Some(_) if is_over(&record, now_s) => {
                    self.gone(cx, &key, |record| is_over(record, now_s));
                }
                None if record.expires_s.max(record.changed_s) + STALE_S < now_s => {
                    self.table.forget(&key);
                }
                _ => self.table.later(&key, now_s + OTHERS_S),
            }
        }
        // An end whose row is still to be deleted must not be pushed out by later ones.
        if self.table.dirty_count() > DIRTY_MAX {
            self.flush(cx);
        }
    }

    fn may_refresh(&self, record: &Record) -> bool {
        record.stand.is_owed() || self.params.update_period_s > 0
    }

    /// Changes a record here, as [`Table::update`] does.
    ///
    /// [`Table::update`]: crate::table::Table::update
    pub(crate) fn update<R>(
        &self,
        cx: &Cx<'_>,
        key: &Key,
        change: impl FnOnce(Option<Record>, &mut Local) -> (Option<Record>, R),
    ) -> Result<R, Full> {
        self.table.update(cx.now, key, &crate::replication::Log { pua: self, cx }, change)
    }
}

/// Whether something is to be sent: what is owed, or more time for what is still wanted.
fn is_wanted(record: &Record, now_s: u64) -> bool {
    record.stand.is_owed() || record.desired_s > now_s
}

fn is_over(record: &Record, now_s: u64) -> bool {
    record.expires_s <= now_s || record.desired_s <= now_s
}
