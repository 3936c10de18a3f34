//! Contacts in SQL: loaded at start, written at once or by timer.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tandem_db::{Cond, Op, Query, Rows, Select, Value};
use tandem_engine::effect::DatabaseId;
use tandem_engine::log::Level;
use tandem_engine::module::Cx;

use crate::params::{Columns, Mode, Params};
use crate::state::{Table, Usrloc};
use crate::store::{
    ALL_METHODS, Change, Contact, DbState, Edit, Event, FLAG_MEMORY_ONLY, NewContact, Origin,
    Q_UNSET,
};

/// Contacts written in one transaction.
const WRITES_A_QUERY: usize = 100;
/// Queries without an answer, at most; further writes wait for the timer.
const ASKED_MAX: usize = 10_000;
/// Deleted rows that wait for the timer, at most; then they are deleted at once.
const DELETES_MAX: usize = 1_000;

/// A contact by its table and id.
type Place = (usize, u64);

/// The way to the database.
#[derive(Debug)]
pub(crate) struct Sql {
    database: DatabaseId,
    columns: Columns,
    writes_through: bool,
    deletes_a_query: usize,
    asked: Mutex<AskedTable>,
    deletes: Mutex<Vec<Place>>,
}

#[derive(Debug, Default)]
struct AskedTable {
    next: u64,
    asked: BTreeMap<u64, Answered>,
}

/// What an answer belongs to.
#[derive(Debug)]
pub(crate) enum Answered {
    Load { table: usize, at_start: bool },
    Write { contacts: Vec<Place> },
    Delete { ids: Vec<Place> },
    Nothing,
}

impl Sql {
    pub(crate) fn new(database: DatabaseId, params: &Params) -> Self {
        Self {
            database,
            columns: params.columns.clone(),
            writes_through: params.mode == Mode::WriteThrough,
            deletes_a_query: params.deletes_a_query,
            asked: Mutex::default(),
            deletes: Mutex::default(),
        }
    }

    /// Asks for the rows of a table; `at_start` comes back with them.
    pub(crate) fn load(&self, cx: &mut Cx<'_>, table: &Table, at_start: bool) {
        let columns = self.columns.all().iter().map(|c| name(c)).collect();
        let select = Select { table: table_name(table), columns, ..Select::default() };
        self.ask(cx, Query::Select(select), Answered::Load { table: table.at, at_start });
    }

    /// What an answered query was about.
    pub(crate) fn answered(&self, token: u64) -> Answered {
        self.asked.lock().asked.remove(&token).unwrap_or(Answered::Nothing)
    }

    /// A write did not succeed: the contacts are written again by timer.
    pub(crate) fn failed(&self, tables: &[Arc<Table>], contacts: Vec<Place>) {
        for (at, id) in contacts {
            if let Some(table) = tables.get(at) {
                table.domain.with_local(id, |_, local| local.db = DbState::Dirty);
            }
        }
    }

    pub(crate) fn retry_deletes(&self, ids: Vec<Place>) {
        let mut deletes = self.deletes.lock();
        let room = DELETES_MAX.saturating_sub(deletes.len());
        deletes.extend(ids.into_iter().take(room));
    }

    /// Writes what a change means, now or by timer.
    pub(crate) fn note(
        &self,
        cx: &mut Cx<'_>,
        table: &Table,
        aor: &[u8],
        event: &Event,
        use_domain: bool,
    ) {
        match event {
            Event::ContactInserted(contact) => self.written(cx, table, aor, contact, use_domain),
            Event::ContactUpdated { contact, old } => {
                if old.id != contact.id {
                    self.deleted(cx, table, old);
                }
                self.written(cx, table, aor, contact, use_domain);
            }
            Event::ContactDeleted { contact, .. } => self.deleted(cx, table, contact),
            Event::AorInserted | Event::AorDeleted => {}
        }
    }

    fn written(
        &self,
        cx: &mut Cx<'_>,
        table: &Table,
        aor: &[u8],
        contact: &Contact,
        use_domain: bool,
    ) {
        if self.writes_through && !contact.is_memory_only() && self.has_room() {
            let write = self.write(table, aor, contact, use_domain);
            let contacts = vec![(table.at, contact.id)];
            table.domain.with_local(contact.id, |_, local| local.db = DbState::Sync);
            self.ask(cx, write, Answered::Write { contacts });
        }
    }

    fn deleted(&self, cx: &mut Cx<'_>, table: &Table, contact: &Contact) {
        if contact.is_memory_only() {
            return;
        }
        let waiting = {
            let mut deletes = self.deletes.lock();
            deletes.push((table.at, contact.id));
            deletes.len()
        };
        if self.writes_through || waiting >= DELETES_MAX {
            self.flush_deletes(cx, |at| (at == table.at).then(|| table_name(table)));
        }
    }

    /// Writes everything that differs from SQL.
    pub(crate) fn flush(&self, cx: &mut Cx<'_>, tables: &[Arc<Table>], use_domain: bool) {
        self.flush_deletes(cx, |at| tables.get(at).map(|t| table_name(t)));
        for table in tables {
            let (mut batch, mut places) = (Vec::new(), Vec::new());
            for shard in 0..table.domain.shard_count() {
                for (aor, contact, local) in table.domain.shard_contacts(shard) {
                    if local.db == DbState::Sync || contact.is_memory_only() || !self.has_room() {
                        continue;
                    }
                    table.domain.with_local(contact.id, |_, local| local.db = DbState::Sync);
                    batch.push(self.write(table, &aor, &contact, use_domain));
                    places.push((table.at, contact.id));
                    if batch.len() == WRITES_A_QUERY {
                        let contacts = std::mem::take(&mut places);
                        let queries = std::mem::take(&mut batch);
                        self.ask(cx, Query::Batch(queries), Answered::Write { contacts });
                    }
                }
            }
            if !batch.is_empty() {
                self.ask(cx, Query::Batch(batch), Answered::Write { contacts: places });
            }
        }
    }

    fn flush_deletes(&self, cx: &mut Cx<'_>, table: impl Fn(usize) -> Option<Cow<'static, str>>) {
        let waiting = std::mem::take(&mut *self.deletes.lock());
        let (here, others): (Vec<Place>, Vec<Place>) =
            waiting.into_iter().partition(|(at, _)| table(*at).is_some());
        self.deletes.lock().extend(others);
        for ids in here.chunks(self.deletes_a_query) {
            let each = ids.iter().filter_map(|(at, id)| {
                let conds = vec![Cond::eq(name(&self.columns.contact_id), *id as i64)];
                Some(Query::Delete { table: table(*at)?, conds })
            });
            let batch = Query::Batch(each.collect());
            self.ask(cx, batch, Answered::Delete { ids: ids.to_vec() });
        }
    }

    /// Makes the rows of a table, or of one AoR, equal to what is in memory.
    pub(crate) fn rewrite(
        &self,
        cx: &mut Cx<'_>,
        table: &Table,
        aor: Option<&[u8]>,
        use_domain: bool,
    ) {
        let conds = match aor {
            None => Vec::new(),
            Some(aor) => self.aor_conds(aor, use_domain),
        };
        let mut batch = vec![Query::Delete { table: table_name(table), conds }];
        let mut places = Vec::new();
        let mut add = |aor: &[u8], contact: &Contact| {
            if !contact.is_memory_only() {
                table.domain.with_local(contact.id, |_, local| local.db = DbState::Sync);
                batch.push(self.write(table, aor, contact, use_domain));
                places.push((table.at, contact.id));
            }
        };
        match aor {
            Some(aor) => table.domain.all_of(aor).iter().for_each(|(c, _)| add(aor, c)),
            None => (0..table.domain.shard_count())
                .flat_map(|shard| table.domain.shard_contacts(shard))
                .for_each(|(aor, contact, _)| add(&aor, &contact)),
        }
        self.ask(cx, Query::Batch(batch), Answered::Write { contacts: places });
    }

    fn has_room(&self) -> bool {
        self.asked.lock().asked.len() < ASKED_MAX
    }

    fn ask(&self, cx: &mut Cx<'_>, query: Query, about: Answered) {
        let token = {
            let mut asked = self.asked.lock();
            asked.next += 1;
            let token = asked.next;
            asked.asked.insert(token, about);
            token
        };
        cx.query(self.database, query, token);
    }

    fn aor_conds(&self, aor: &[u8], use_domain: bool) -> Vec<Cond> {
        let (user, domain) = split_aor(aor, use_domain);
        let mut conds = vec![Cond::eq(name(&self.columns.user), text(user))];
        if let Some(domain) = domain {
            conds.push(Cond::eq(name(&self.columns.domain), text(domain)));
        }
        conds
    }

    fn write(&self, table: &Table, aor: &[u8], contact: &Contact, use_domain: bool) -> Query {
        let c = &self.columns;
        let (user, domain) = split_aor(aor, use_domain);
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
            (name(LAST_MODIFIED), Value::Time(new.last_modified_s as i64)),
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

/// This column has no parameter.
const LAST_MODIFIED: &str = "last_modified";

impl Columns {
    /// In the order in which [`Usrloc::restore`] reads them.
    fn all(&self) -> [&str; 19] {
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
    /// Takes the rows of a table in, and removes those from SQL that have ended.
    pub(crate) fn restore(&self, cx: &mut Cx<'_>, table: &Table, rows: &Rows) {
        let mut refused = 0;
        for row in &rows.rows {
            refused += u64::from(self.restore_row(cx, table, row).is_none());
        }
        if refused > 0 {
            let text = format!("{refused} rows of {} cannot be read", table.name());
            cx.log(Level::Warning, text);
        }
        if let Some(sql) = &self.sql {
            let column = name(&sql.columns.expires);
            let conds = vec![
                Cond::new(column.clone(), Op::Ne, 0),
                Cond::new(column, Op::Le, cx.now.unix_s() as i64),
            ];
            let delete = Query::Delete { table: table_name(table), conds };
            sql.ask(cx, delete, Answered::Delete { ids: Vec::new() });
        }
    }

    fn restore_row(&self, cx: &mut Cx<'_>, table: &Table, row: &[Value]) -> Option<()> {
        let bytes = |at: usize| row.get(at).and_then(Value::as_bytes).unwrap_or_default();
        let number = |at: usize| row.get(at).and_then(Value::as_int);
        let (user, domain) = (bytes(1), bytes(2));
        let aor = match self.params.use_domain && !domain.is_empty() {
            true => [user, b"@", domain].concat(),
            false => user.to_vec(),
        };
        let q = row.get(5).and_then(Value::as_float).filter(|q| (0.0..=1.0).contains(q));
        let contact = NewContact {
            uri: bytes(3),
            expires_s: u64::try_from(number(4)?).ok()?,
            q: q.map_or(Q_UNSET, |q| (q * 1000.0).round() as i16),
            call_id: bytes(6),
            cseq: number(7)? as u32,
            last_modified_s: row.get(8)?.as_time().and_then(|t| u64::try_from(t).ok())?,
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
        };
        if aor.is_empty() || contact.uri.is_empty() {
            return None;
        }
        let matching = &self.params.matching;
        let put = |edit: &mut Edit<'_>| edit.apply(Change::Put { contact, matching });
        self.change(cx, table, &aor, Origin::Database, put);
        Some(())
    }
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

fn table_name(table: &Table) -> Cow<'static, str> {
    name(table.name())
}

fn text(bytes: &[u8]) -> Value {
    Value::Str(String::from_utf8_lossy(bytes).into_owned())
}

fn optional(bytes: &[u8]) -> Value {
    if bytes.is_empty() { Value::Null } else { text(bytes) }
}
