//! Script functions that wait for the answer of a database.

use std::any::Any;

use tandem_db::Query;
use tandem_script::host::Called;

use crate::effect::DatabaseId;
use crate::module::{Call, Cx};

/// What a run waits for, in the section of its module.
struct Asked<W>(Option<W>);

impl<W> Default for Asked<W> {
    fn default() -> Self {
        Self(None)
    }
}

impl Call<'_, '_, '_> {
    /// Asks a database and makes the run wait. The answer comes to
    /// [`crate::module::Module::db`] with the run as its token; [`Cx::asked`] gives `wait` back
    /// there.
    pub fn ask<W: Any + Send>(&mut self, database: DatabaseId, ask: Query, wait: W) -> Called {
        let run = self.suspend();
        let slot = self.cx.slot;
        *self.ctx.section_mut::<Asked<W>>(slot) = Asked(Some(wait));
        self.cx.query(database, ask, run);
        Called::Suspended
    }
}

impl Cx<'_> {
    /// What [`Call::ask`] left with a run that waits; `None` when the run was given up.
    pub fn asked<W: Any + Send>(&self, run: u64) -> Option<W> {
        let mut wait = None;
        self.with_suspended(run, |ctx| wait = ctx.section_mut::<Asked<W>>(self.slot).0.take());
        wait
    }

    /// Lets a run wait for another answer.
    pub fn ask_again<W: Any + Send>(
        &mut self,
        run: u64,
        database: DatabaseId,
        ask: Query,
        wait: W,
    ) {
        let slot = self.slot;
        self.with_suspended(run, |ctx| *ctx.section_mut::<Asked<W>>(slot) = Asked(Some(wait)));
        self.query(database, ask, run);
    }
}
