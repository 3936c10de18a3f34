//! Contacts that live in SQL alone (`sql-only`): several nodes share the table, and none knows
//! what the others have written.
//!
//! Memory holds what was read last. Before a function or command works on an AoR its rows are
//! read and take the place of what is here, and what it changes is written before the reply
//! leaves. The whole table is read again every `timer_interval`, for pings and listings. When the
//! database does not answer, what was read last has to do.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value as Json;
use tandem_db::{DbError, Query, Rows, Select, Value};
use tandem_engine::mi::{MiCall, MiDef, MiOutcome};
use tandem_engine::module::{Call, Cx};
use tandem_engine::zone::Zone;

use crate::sql::{Asked, Sql, written_wall_s};
use crate::state::{Table, Usrloc};
use crate::store::{Contact, DbState, Edit, Local, Origin};

/// Rows of one AoR that are read.
const ROWS_MAX: u32 = 1_000;

/// AoRs that were read for the function at hand: the table's place and the key.
#[derive(Default)]
struct Fetched(Vec<(usize, Vec<u8>)>);

/// Who goes on when the rows of an AoR are here.
#[derive(Debug)]
pub(crate) enum Waiting {
    Run(u64),
    Command { request: u64, name: &'static str, args: Vec<(&'static str, Json)> },
}

/// What a row and a contact have in common when they are equal: id, CSeq, last change, end.
type Version = (u64, u32, u64, u64);

impl Usrloc {
    fn shared_sql(&self) -> Option<&Sql> {
        self.sql.as_ref().filter(|_| self.params.is_sql_only)
    }

    /// Where contacts live in SQL alone, the rows of these AoRs are read before the function works
    /// on them: true when it has to return `Suspended` and will be called again.
    pub fn fetch(&self, call: &mut Call<'_, '_, '_>, table: &Table, aors: &[&[u8]]) -> bool {
        let Some(sql) = self.shared_sql() else { return false };
        let fetched = call.ctx.section_mut::<Fetched>(self.slot());
        let is_here = |aor: &[u8]| fetched.0.iter().any(|(at, key)| *at == table.at && key == aor);
        let Some(missing) = aors.iter().find(|aor| !is_here(aor)) else {
            fetched.0.clear();
            return false;
        };
        let run = call.suspend();
        call.cx.for_slot(self.slot(), |cx| {
            sql.fetch(cx, table, missing, Waiting::Run(run));
        });
        true
    }

    /// The same for a command; `Some` is how it ends for now.
    pub(crate) fn fetch_for(
        &self,
        call: &mut MiCall<'_, '_>,
        name: &'static str,
        (table, aor): (&Table, &[u8]),
    ) -> Option<MiOutcome> {
        let sql = self.shared_sql()?;
        if sql.take_command(call.request) {
            return None;
        }
        let args = call.args.clone();
        sql.fetch(call.cx, table, aor, Waiting::Command { request: call.request, name, args });
        Some(MiOutcome::Later)
    }

    /// The rows of an AoR are here, or the database has failed.
    pub(crate) fn fetched(
        &self,
        cx: &mut Cx<'_>,
        sql: &Sql,
        (table, aor): (&Arc<Table>, Vec<u8>),
        waiting: Waiting,
        result: Result<Rows, DbError>,
    ) {
        match result {
            Ok(rows) => self.take_rows(cx, table, &aor, &rows),
            Err(error) => sql.tell_down(cx, &error),
        }
        match waiting {
            Waiting::Run(run) => {
                let slot = self.slot();
                let entry = (table.at, aor);
                cx.with_suspended(run, |ctx| ctx.section_mut::<Fetched>(slot).0.push(entry));
                cx.call_again(run);
            }
            Waiting::Command { request, name, args } => {
                sql.allow_command(request);
                let is_it = |def: &&MiDef| def.name == name;
                let Some(def) = crate::mi::COMMANDS.iter().find(is_it) else { return };
                match (def.run)(&mut MiCall { cx, request, args }) {
                    MiOutcome::Done(result) => cx.mi_reply(request, Ok(result)),
                    MiOutcome::Failed(error) => cx.mi_reply(request, Err(error)),
                    MiOutcome::Later => {}
                }
            }
        }
    }

    /// The rows of an AoR take the place of what is here, except for what waits to be written.
    fn take_rows(&self, cx: &mut Cx<'_>, table: &Table, aor: &[u8], rows: &Rows) {
        let versions: HashSet<Version> = rows.rows.iter().filter_map(|r| version_of(r)).collect();
        let mut kept = HashSet::new();
        let zone = Arc::clone(cx.node);
        let zone = &zone.zone;
        let is_gone = |contact: &Contact, local: &Local| {
            let version = version(zone, contact);
            let stays = local.db != DbState::Sync || versions.contains(&version);
            if stays {
                kept.insert(version);
            }
            !stays
        };
        self.change(cx, table, aor, Origin::Database, |edit: &mut Edit<'_>| edit.forget(is_gone));
        for row in &rows.rows {
            if version_of(row).is_some_and(|version| !kept.contains(&version)) {
                self.restore_row(cx, table, row);
            }
        }
    }

    /// The whole table was read: what is no row any more goes.
    pub(crate) fn forget_others(&self, cx: &mut Cx<'_>, table: &Table, seen: &HashSet<u64>) {
        for shard in 0..table.domain.shard_count() {
            let all = table.domain.shard_contacts(shard);
            let is_gone = |contact: &Contact, local: &Local| {
                local.db == DbState::Sync && !seen.contains(&contact.id)
            };
            let mut gone: Vec<_> = all.iter().filter(|(c, l)| is_gone(c, l)).collect();
            gone.dedup_by(|(a, _), (b, _)| a.aor() == b.aor());
            for (contact, _) in gone {
                let forget = |edit: &mut Edit<'_>| edit.forget(is_gone);
                self.change(cx, table, contact.aor(), Origin::Database, forget);
            }
        }
    }
}

impl Sql {
    fn fetch(&self, cx: &mut Cx<'_>, table: &Table, aor: &[u8], waiting: Waiting) {
        let query = Query::Select(Select {
            table: super::sql::table_name(table),
            columns: self.all_columns(),
            conds: self.aor_conds(aor),
            limit: Some(ROWS_MAX),
            ..Select::default()
        });
        self.ask(cx, query, Asked::Fetch { table: table.at, aor: aor.to_vec(), waiting });
    }
}

fn version(zone: &Zone, contact: &Contact) -> Version {
    let changed = zone.wall_s(contact.last_modified_s());
    (contact.id, contact.cseq, changed, contact.expires_s())
}

fn version_of(row: &[Value]) -> Option<Version> {
    let number = |at: usize| row.get(at).and_then(Value::as_int);
    let changed = written_wall_s(row)?;
    let (id, cseq) = (number(0)? as u64, number(7)? as u32);
    Some((id, cseq, changed, u64::try_from(number(4)?).ok()?))
}
