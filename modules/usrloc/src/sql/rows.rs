//! Contacts as rows of a location table.

use std::borrow::Cow;

use tandem_db::{Cond, Op, Order, Query, Rows, Select, Value};
use tandem_engine::log::Level;
use tandem_engine::module::Cx;
use tandem_engine::zone::Zone;

use super::Sql;
use crate::params::Columns;
use crate::state::{Table, Usrloc};
use crate::store::{
    ALL_METHODS, Change, Contact, Edit, FLAG_MEMORY_ONLY, NewContact, Origin, Outcome, Q_UNSET,
    is_id_of,
};

/// Rows that are read at a time.
pub(super) const ROWS_A_PAGE: u32 = 5_000;

impl Sql {
    /// Asks for the rows behind an id, in order of ids.
    pub(super) fn page(&self, table: &Table, after: i64) -> Query {
        let id = name(&self.columns.contact_id);
        Query::Select(Select {
            table: table_name(table),
            columns: self.all_columns(),
            conds: vec![Cond::new(id.clone(), Op::Gt, after)],
            order: vec![Order { column: id, descending: false }],
            limit: Some(ROWS_A_PAGE),
        })
    }

    /// The columns that [`Usrloc::restore`] reads.
    pub(crate) fn all_columns(&self) -> Vec<Cow<'static, str>> {
        self.columns.all().iter().map(|c| name(c)).collect()
    }

    /// Deletes the row of a contact id.
    pub(super) fn delete(&self, table: &Table, id: u64) -> Query {
        let conds = vec![Cond::eq(name(&self.columns.contact_id), id as i64)];
        Query::Delete { table: table_name(table), conds }
    }

    /// Deletes the rows of what has ended.
    pub(super) fn delete_ended(&self, table: &Table, now_s: u64) -> Query {
        let column = name(&self.columns.expires);
        let conds =
            vec![Cond::new(column.clone(), Op::Ne, 0), Cond::new(column, Op::Le, now_s as i64)];
        Query::Delete { table: table_name(table), conds }
    }

    /// What the rows of an AoR have in common.
    pub(crate) fn aor_conds(&self, aor: &[u8]) -> Vec<Cond> {
        let (user, domain) = split_aor(aor, self.use_domain);
        let mut conds = vec![Cond::eq(name(&self.columns.user), text(user))];
        if let Some(domain) = domain {
            conds.push(Cond::eq(name(&self.columns.domain), text(domain)));
        }
        conds
    }

    /// Writes the row of a contact. Its `last_modified` has no zone: it is what the clock of the
    /// host shows.
    pub(super) fn write(&self, zone: &Zone, table: &Table, contact: &Contact) -> Query {
        let c = &self.columns;
        let (user, domain) = split_aor(contact.aor(), self.use_domain);
        let new = contact.as_new();
        let methods = match new.methods {
            ALL_METHODS => Value::Null,
            mask => Value::Int(i64::from(mask)),
        };
        let q = match new.q {
            Q_UNSET => -1.0,
            q => f64::from(q) / 1000.0,
        };
        let set = vec![
            (name(&c.user), text(user)),
            (name(&c.domain), domain.map_or(Value::Null, text)),
            (name(&c.contact), text(new.uri)),
            (name(&c.expires), Value::Int(new.expires_s as i64)),
            (name(&c.q), Value::Float(q)),
            (name(&c.callid), text(new.call_id)),
            (name(&c.cseq), Value::Int(i64::from(new.cseq))),
            (name(LAST_MODIFIED), Value::Time(zone.wall_s(new.last_modified_s) as i64)),
            (name(&c.flags), Value::Int(i64::from(new.flags))),
            (name(&c.cflags), optional(new.branch_flags)),
            (name(&c.user_agent), text(new.user_agent)),
            (name(&c.received), optional(new.received)),
            (name(&c.path), optional(new.path)),
            (name(&c.socket), optional(new.socket)),
            (name(&c.methods), methods),
            (name(&c.sip_instance), optional(new.instance)),
            (name(&c.kv_store), optional(new.key_values)),
            (name(&c.attr), optional(new.attr)),
        ];
        let keys = vec![(name(&c.contact_id), Value::Int(contact.id as i64))];
        Query::InsertOrUpdate { table: table_name(table), keys, set }
    }
}

/// What a row is worth.
pub(crate) enum Row {
    Taken,
    /// The id is none of this AoR: it has another one here, and the row has to be written anew.
    Renamed {
        from: u64,
        to: u64,
    },
    /// The id is none of this AoR, and `regen_broken_contactid` is off.
    Broken,
    /// It says nothing that can be used.
    Unreadable,
}

/// This column has no parameter.
const LAST_MODIFIED: &str = "last_modified";

impl Columns {
    /// In the order in which [`Usrloc::restore`] reads them.
    pub(super) fn all(&self) -> [&str; 19] {
        [
            &self.contact_id,
            &self.user,
            &self.domain,
            &self.contact,
            &self.expires,
            &self.q,
            &self.callid,
            &self.cseq,
            LAST_MODIFIED,
            &self.flags,
            &self.cflags,
            &self.user_agent,
            &self.received,
            &self.path,
            &self.socket,
            &self.methods,
            &self.sip_instance,
            &self.kv_store,
            &self.attr,
        ]
    }
}

impl Usrloc {
    /// Takes a page of rows in. Gives the last id, if there may be more.
    pub(super) fn restore(&self, cx: &mut Cx<'_>, table: &Table, rows: &Rows) -> Option<i64> {
        let (mut unreadable, mut broken) = (0, 0);
        for row in &rows.rows {
            match self.restore_row(cx, table, row) {
                Row::Taken => {}
                Row::Renamed { from, to } => {
                    if let Some(sql) = &self.sql {
                        sql.rename(table, from, to);
                    }
                }
                Row::Broken => broken += 1,
                Row::Unreadable => unreadable += 1,
            }
        }
        if unreadable > 0 {
            let text = format!("{unreadable} rows of {} cannot be read", table.name());
            cx.log(Level::Warning, text);
        }
        if broken > 0 {
            let text = format!(
                "{broken} rows of {} have a contact id that is none of their AoR and were not \
                 taken: set regen_broken_contactid to 1",
                table.name()
            );
            cx.log(Level::Error, text);
        }
        let last = rows.rows.last()?.first()?.as_int()?;
        (rows.rows.len() == ROWS_A_PAGE as usize).then_some(last)
    }

    pub(crate) fn restore_row(&self, cx: &mut Cx<'_>, table: &Table, row: &[Value]) -> Row {
        let bytes = |at: usize| row.get(at).and_then(Value::as_bytes).unwrap_or_default();
        let (user, domain) = (bytes(1), bytes(2));
        let aor = match self.params.use_domain && !domain.is_empty() {
            true => [user, b"@", domain].concat(),
            false => user.to_vec(),
        };
        let Some(contact) = contact_of(&cx.node.zone, row) else { return Row::Unreadable };
        if aor.is_empty() || contact.uri.is_empty() {
            return Row::Unreadable;
        }
        let row_id = contact.id;
        if row_id.is_some_and(|id| !is_id_of(&aor, id)) && !self.params.regenerates_ids {
            return Row::Broken;
        }
        let matching = &self.params.matching;
        let put = |edit: &mut Edit<'_>| edit.apply(Change::Put { contact, matching });
        match (self.change(cx, table, &aor, Origin::Database, put).0, row_id) {
            (Outcome::Inserted(to), Some(from)) if to != from => Row::Renamed { from, to },
            _ => Row::Taken,
        }
    }
}

/// What the clock of the host showed when the contact of a row was written. The column's default
/// lies before 1970, where nobody was.
pub(crate) fn written_wall_s(row: &[Value]) -> Option<u64> {
    Some(u64::try_from(row.get(8)?.as_time()?).unwrap_or(0))
}

fn contact_of<'a>(zone: &Zone, row: &'a [Value]) -> Option<NewContact<'a>> {
    let bytes = |at: usize| row.get(at).and_then(Value::as_bytes).unwrap_or_default();
    let number = |at: usize| row.get(at).and_then(Value::as_int);
    let q = row.get(5).and_then(Value::as_float).filter(|q| (0.0..=1.0).contains(q));
    Some(NewContact {
        uri: bytes(3),
        expires_s: u64::try_from(number(4)?).ok()?,
        q: q.map_or(Q_UNSET, |q| (q * 1000.0).round() as i16),
        call_id: bytes(6),
        cseq: number(7)? as u32,
        last_modified_s: zone.unix_s(written_wall_s(row)?),
        flags: number(9).unwrap_or(0) as u32 & !FLAG_MEMORY_ONLY,
        branch_flags: bytes(10),
        user_agent: bytes(11),
        received: bytes(12),
        path: bytes(13),
        socket: bytes(14),
        methods: number(15).map_or(ALL_METHODS, |m| m as u32),
        instance: bytes(16),
        key_values: bytes(17),
        attr: bytes(18),
        id: number(0).map(|id| id as u64),
    })
}

/// User and domain of an AoR as its row has them.
fn split_aor(aor: &[u8], use_domain: bool) -> (&[u8], Option<&[u8]>) {
    match aor.iter().rposition(|b| *b == b'@').filter(|_| use_domain) {
        Some(at) => (&aor[..at], Some(&aor[at + 1..])),
        None => (aor, None),
    }
}

fn name(column: &str) -> Cow<'static, str> {
    Cow::Owned(column.to_owned())
}

pub(crate) fn table_name(table: &Table) -> Cow<'static, str> {
    name(table.name())
}

fn text(bytes: &[u8]) -> Value {
    Value::Str(String::from_utf8_lossy(bytes).into_owned())
}

fn optional(bytes: &[u8]) -> Value {
    if bytes.is_empty() { Value::Null } else { text(bytes) }
}
