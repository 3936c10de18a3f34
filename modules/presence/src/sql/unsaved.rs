//! What the database does not have yet: publications whose rows are under way, and the runs of the
//! script that wait for them. The 200 to a PUBLISH leaves when its row is written, so that a node
//! on the same database finds it from then on.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tandem_engine::module::{Call, Cx};

use super::{Sql, Write};
use crate::change::{Done, Origin};
use crate::record::Key;
use crate::state::Presence;

/// Writes of publications that wait or are under way, by presentity.
#[derive(Debug, Default)]
pub(super) struct Unsaved {
    all: HashMap<Arc<Key>, u32>,
}

impl Unsaved {
    pub(super) fn add(&mut self, write: &Write) {
        if let Write::Publication(key, _) = write {
            *self.all.entry(Arc::clone(key)).or_default() += 1;
        }
    }

    pub(super) fn has(&self, key: &Key) -> bool {
        self.all.contains_key(key)
    }

    fn written(&mut self, write: &Write) {
        let Write::Publication(key, _) = write else { return };
        if let Some(count) = self.all.get_mut(key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.all.remove(key);
            }
        }
    }
}

impl Sql {
    /// Those writes are done with; who waited for them goes on.
    pub(super) fn wrote(&self, cx: &mut Cx<'_>, writes: &[Write]) {
        {
            let mut state = self.state.lock();
            state.is_writing = false;
            writes.iter().for_each(|write| state.unsaved.written(write));
        }
        writes.iter().for_each(|write| go_on(cx, write));
    }
}

impl Presence {
    /// Writes what a PUBLISH has changed. If that takes time the run waits, and is called again when
    /// it is written. Nobody waits for a database that is away.
    pub(crate) fn waits_for_rows(
        &self,
        call: &mut Call<'_, '_, '_>,
        key: &Arc<Key>,
        done: &mut Done,
    ) -> bool {
        let Some(sql) = &self.sql else { return false };
        let rows = Done {
            published: done.published.take(),
            ended: std::mem::take(&mut done.ended),
            ..Done::default()
        };
        call.cx.for_slot(self.slot, |cx| self.write_rows(cx, key, Origin::Local, &rows));
        let is_writing = {
            let state = sql.state.lock();
            !state.is_down && (state.is_writing || !state.queue.is_empty())
        };
        if !is_writing {
            return false;
        }
        let run = call.suspend();
        sql.state.lock().queue.push_back(Write::Run(run));
        call.cx.for_slot(self.slot, |cx| self.pump_sql(cx, sql));
        true
    }
}

/// How many of those writes are rows.
pub(super) fn rows(writes: &[Write]) -> usize {
    writes.iter().filter(|write| !matches!(write, Write::Run(_))).count()
}

/// The database is away: nobody waits for it.
pub(super) fn let_go(cx: &mut Cx<'_>, queue: &mut VecDeque<Write>) {
    queue.retain(|write| {
        go_on(cx, write);
        !matches!(write, Write::Run(_))
    });
}

fn go_on(cx: &mut Cx<'_>, write: &Write) {
    if let Write::Run(run) = write {
        cx.call_again(*run);
    }
}
