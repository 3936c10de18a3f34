//! States in the database: written a while after they have changed, and when the node ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use tandem_db::{Cond, DbError, Query, Value};
use tandem_engine::log::Level;
use tandem_engine::module::Cx;

use crate::state::Drouting;
use crate::status::{Kind, Status};

/// Timers of this kind write states.
pub(crate) const TICK: u32 = 1;
/// How often.
pub(crate) const EVERY_S: u64 = 5;
/// Tokens of the answers, from here on.
pub(crate) const FIRST: u64 = crate::load::FIRST | 1 << 46;
/// States that one turn writes.
const WRITES_MAX: usize = 1_000;
/// Writes that are waited for.
const OPEN_MAX: usize = 10_000;

/// Writes on their way.
#[derive(Default)]
pub(crate) struct Writes {
    last: u64,
    open: BTreeMap<u64, Arc<Status>>,
}

impl Drouting {
    /// Writes the states that have changed; what is too much for one turn waits for the next.
    pub(crate) fn write_states(&self, cx: &mut Cx<'_>) {
        let mut left = WRITES_MAX;
        for part in self.parts() {
            for (kind, id, status) in part.table().of.statuses() {
                if left == 0 || self.writes.lock().open.len() >= OPEN_MAX {
                    return;
                }
                if !status.take_dirty() {
                    continue;
                }
                left -= 1;
                let (table, column) = match kind {
                    Kind::Gateway => (&part.names.gateways, "gwid"),
                    Kind::Carrier => (&part.names.carriers, "carrierid"),
                };
                let state = Value::Int(kind.column(status.bits()));
                let ask = Query::Update {
                    table: table.clone().into(),
                    set: vec![("state".into(), state)],
                    conds: vec![Cond::eq(column, &**id)],
                };
                let token = {
                    let mut writes = self.writes.lock();
                    writes.last += 1;
                    let token = FIRST | (writes.last & 0xffff_ffff);
                    writes.open.insert(token, Arc::clone(status));
                    token
                };
                cx.query(part.database, ask, token);
            }
        }
    }

    /// A state was written, or is to be written again.
    pub(crate) fn state_written(&self, cx: &mut Cx<'_>, token: u64, error: Option<DbError>) {
        let status = self.writes.lock().open.remove(&token);
        if let (Some(status), Some(error)) = (status, error) {
            status.set_dirty();
            cx.log(Level::Error, format!("drouting: a state cannot be written: {error}"));
        }
    }
}
