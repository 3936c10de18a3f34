//! The running module: its tables, and what follows from a change of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use tandem_clock::{Chance, Mono, Now};
use tandem_engine::log::Level;
use tandem_engine::module::{Build, BuildError, Cx, Module, Timer};
use tandem_engine::node::Node;
use tandem_engine::outbox::Outbox;
use tandem_engine::replication::Replicated;
use tandem_engine::sockets::SocketId;

use crate::events::Listeners;
use crate::params::{Mode, Params};
use crate::sql::Sql;
use crate::store::{
    Change, Contact, Contacts, Domain, Done, Edit, Event, Origin, Outcome, Replica, Sink, Stamp,
    Text,
};
use crate::{replication, sql};

/// Location tables of a node, at most.
pub const TABLES_MAX: usize = 16;

/// A timer of kind [`timer::FLUSH`], or of `EXPIRE` plus the place of a table.
mod timer {
    pub(super) const FLUSH: u32 = 0;
    pub(super) const EXPIRE: u32 = 1;
}

/// A location table with what is counted about it.
#[derive(Debug)]
pub struct Table {
    pub domain: Domain,
    pub(crate) at: usize,
    pub(crate) expired: AtomicU64,
}

impl Table {
    pub fn name(&self) -> &str {
        self.domain.name()
    }
}

/// The state of the module; `registrar` and `nathelper` use it as a Rust dependency.
pub struct Usrloc {
    pub params: Params,
    tables: RwLock<Vec<Arc<Table>>>,
    chance: Mutex<Chance>,
    pub(crate) listeners: Listeners,
    pub(crate) sql: Option<Sql>,
    branch_flags: Vec<String>,
    /// Seconds before the end of a push contact at which E_UL_CONTACT_REFRESH is raised.
    refresh_before_s: AtomicU32,
    slot: u16,
}

impl Usrloc {
    pub(crate) fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
        let params = Params::read(build)?;
        let sql = params.database.map(|database| Sql::new(database, &params));
        let usrloc = Self {
            tables: RwLock::default(),
            chance: Mutex::new(build.chance.fork()),
            listeners: Listeners::of(build.program),
            branch_flags: build.program.branch_flags.clone(),
            refresh_before_s: AtomicU32::new(0),
            slot: build.slot,
            sql,
            params,
        };
        usrloc.make_table("location");
        Ok(Arc::new(usrloc))
    }

    /// Has E_UL_CONTACT_REFRESH raised this long before push contacts end
    /// (`pn_trigger_interval` of the registrar).
    pub fn refresh_before(&self, seconds: u32) {
        self.refresh_before_s.store(seconds, Ordering::Relaxed);
    }

    /// The table with this name; `None` if there is none yet.
    pub fn table(&self, name: &str) -> Option<Arc<Table>> {
        self.tables.read().iter().find(|t| t.name() == name).cloned()
    }

    /// The table with this name, made if it is new. `None`: it would be one too many, or the
    /// name is not one. A table that is made while the node runs is loaded from SQL at once.
    pub fn open_table(&self, cx: &mut Cx<'_>, name: &str) -> Option<Arc<Table>> {
        if let Some(table) = self.table(name) {
            return Some(table);
        }
        let table = self.make_table(name)?;
        if let Some(sql) = &self.sql {
            cx.for_slot(self.slot, |cx| sql.load(cx, &table, false));
        }
        Some(table)
    }

    fn make_table(&self, name: &str) -> Option<Arc<Table>> {
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        let mut tables = self.tables.write();
        if let Some(table) = tables.iter().find(|t| t.name() == name) {
            return Some(Arc::clone(table));
        }
        if tables.len() >= TABLES_MAX || name.is_empty() || !name.bytes().all(is_name) {
            return None;
        }
        let Params { hash_size, newest_first, .. } = self.params;
        let domain = Domain::new(name, hash_size, newest_first, &mut self.chance.lock());
        let table = Arc::new(Table { domain, at: tables.len(), expired: AtomicU64::new(0) });
        tables.push(Arc::clone(&table));
        Some(table)
    }

    /// All tables, in the order in which they were made.
    pub fn tables(&self) -> Vec<Arc<Table>> {
        self.tables.read().clone()
    }

    /// Whether changes go to peers, so that a reply has something to wait for.
    pub fn is_replicated(&self) -> bool {
        self.params.mode == Mode::FullSharing
    }

    /// The contacts of an AoR that have not expired, the best one first.
    pub fn lookup(&self, table: &Table, aor: &[u8], now: Now) -> Contacts {
        table.domain.lookup(aor, now.unix_s())
    }

    /// Changes an AoR on behalf of a client or operator of this node. `change` runs under the
    /// lock of a shard; what follows (replication, timers, events, SQL) is done afterwards.
    /// Returns whether anything changed.
    pub fn edit<R>(
        &self,
        cx: &mut Cx<'_>,
        table: &Table,
        aor: &[u8],
        change: impl FnOnce(&mut Edit<'_>) -> R,
    ) -> (R, bool) {
        cx.for_slot(self.slot, |cx| self.change(cx, table, aor, Origin::Local, change))
    }

    /// Deletes one contact, e.g. one that no longer answers pings.
    pub fn delete(&self, cx: &mut Cx<'_>, table: &Table, id: u64) -> bool {
        let Some(aor) = table.domain.aor_of(id) else { return false };
        self.edit(cx, table, &aor, |edit| edit.apply(Change::Delete { id })).1
    }

    /// The socket of this node that a contact is reached from.
    pub fn socket_of(&self, node: &Node, contact: &Contact) -> Option<SocketId> {
        std::str::from_utf8(contact.text(Text::Socket)).ok().and_then(|t| node.sockets.resolve(t))
    }

    /// The mask of branch flags from their names; names this script does not use have no bit.
    pub fn flag_mask(&self, names: &[u8]) -> u32 {
        let bit = |name: &[u8]| self.branch_flags.iter().position(|f| f.as_bytes() == name);
        let masks = names.split(|b| *b == b' ').filter_map(bit);
        masks.fold(0, |mask, bit| mask | 1u32.checked_shl(bit as u32).unwrap_or(0))
    }

    /// The names of the branch flags in a mask, the highest bit first.
    pub fn flag_names(&self, mask: u32) -> String {
        let mut names = String::new();
        for (bit, name) in self.branch_flags.iter().enumerate().take(32).rev() {
            if mask & (1 << bit) != 0 {
                if !names.is_empty() {
                    names.push(' ');
                }
                names.push_str(name);
            }
        }
        names
    }

    pub(crate) fn change<R>(
        &self,
        cx: &mut Cx<'_>,
        table: &Table,
        aor: &[u8],
        origin: Origin,
        change: impl FnOnce(&mut Edit<'_>) -> R,
    ) -> (R, bool) {
        let log = Log {
            outbox: &cx.node.outbox,
            now: cx.now,
            slot: self.slot,
            table: table.name(),
            default: &self.params.matching,
            is_replicated: self.is_replicated(),
        };
        let (result, done) = table.domain.edit(aor, cx.now, origin, &log, change);
        let changed = !done.events.is_empty();
        self.follow_up(cx, table, done);
        (result, changed)
    }

    /// What follows from a change, with no lock held.
    fn follow_up(&self, cx: &mut Cx<'_>, table: &Table, done: Done) {
        for (id, due) in &done.arm {
            arm(cx, table, *id, *due);
        }
        if done.origin == Origin::Database {
            return;
        }
        for event in &done.events {
            if let Event::ContactDeleted { is_expiry: true, .. } = event {
                table.expired.fetch_add(1, Ordering::Relaxed);
            }
            self.listeners.tell(cx, table.name(), &done.aor, event);
            if let Some(sql) = &self.sql {
                sql.note(cx, table, &done.aor, event, self.params.use_domain);
            }
        }
    }

    fn expire(&self, cx: &mut Cx<'_>, table: &Table, id: u64) {
        let Some(aor) = table.domain.aor_of(id) else { return };
        let expire = |edit: &mut Edit<'_>| edit.apply(Change::Expire { id });
        let (outcome, _) = self.change(cx, table, &aor, Origin::Local, expire);
        if let Outcome::Rearm(due) = outcome {
            arm(cx, table, id, due);
        }
    }

    fn set_flush_timer(&self, cx: &mut Cx<'_>) {
        let at = cx.now.after_s(self.params.timer_interval_s);
        cx.set_timer(at, Timer { kind: timer::FLUSH, id: 0 });
    }
}

/// Timers run on the monotonic clock, lifetimes on the wall clock: when the two have drifted
/// apart by the time the timer fires, it is armed again.
fn arm(cx: &mut Cx<'_>, table: &Table, id: u64, due: Mono) {
    cx.set_timer(due, Timer { kind: timer::EXPIRE + table.at as u32, id });
}

impl Module for Usrloc {
    fn start(&self, cx: &mut Cx<'_>) {
        let Some(sql) = &self.sql else { return };
        for table in self.tables() {
            cx.begin_startup();
            sql.load(cx, &table, true);
        }
        self.set_flush_timer(cx);
    }

    fn timer(&self, cx: &mut Cx<'_>, timer: Timer) {
        if timer.kind == timer::FLUSH {
            if let Some(sql) = &self.sql {
                sql.flush(cx, &self.tables(), self.params.use_domain);
            }
            self.set_flush_timer(cx);
            return;
        }
        let at = (timer.kind - timer::EXPIRE) as usize;
        let table = self.tables.read().get(at).cloned();
        if let Some(table) = table {
            self.expire(cx, &table, timer.id);
        }
    }

    fn db(&self, cx: &mut Cx<'_>, token: u64, result: Result<tandem_db::Rows, tandem_db::DbError>) {
        let Some(sql) = &self.sql else { return };
        match sql.answered(token) {
            sql::Answered::Load { table, at_start } => {
                let table = self.tables.read().get(table).cloned();
                match (table, result) {
                    (Some(table), Ok(rows)) => self.restore(cx, &table, &rows),
                    (Some(table), Err(e)) => {
                        let text = format!("the table {} cannot be loaded: {e}", table.name());
                        cx.log(Level::Error, text);
                    }
                    (None, _) => {}
                }
                if at_start {
                    cx.end_startup();
                }
            }
            sql::Answered::Write { contacts } => {
                if let Err(e) = result {
                    cx.log(Level::Error, format!("contacts cannot be written to SQL: {e}"));
                    sql.failed(&self.tables(), contacts);
                }
            }
            sql::Answered::Delete { ids } => {
                if let Err(e) = result {
                    cx.log(Level::Error, format!("contacts cannot be deleted from SQL: {e}"));
                    sql.retry_deletes(ids);
                }
            }
            sql::Answered::Nothing => {}
        }
    }

    fn statistic(&self, _node: &Node, _now: Now, _index: usize) -> u64 {
        self.tables().iter().map(|t| t.domain.aor_count() as u64).sum()
    }

    fn dynamic_statistics(&self, _node: &Node, _now: Now) -> Vec<(String, u64)> {
        let of = |table: &Arc<Table>| {
            let (name, domain) = (table.name(), &table.domain);
            [
                (format!("{name}-users"), domain.aor_count() as u64),
                (format!("{name}-contacts"), domain.contact_count() as u64),
                (format!("{name}-expires"), table.expired.load(Ordering::Relaxed)),
            ]
        };
        self.tables().iter().flat_map(of).collect()
    }

    fn replicated(&self) -> Option<&dyn Replicated> {
        self.is_replicated().then_some(self as &dyn Replicated)
    }

    fn status(&self, _node: &Node, now: Now) -> Option<serde_json::Value> {
        let of = |table: &Arc<Table>| {
            serde_json::json!({
                "name": table.name(),
                "aors": table.domain.aor_count(),
                "contacts": table.domain.contact_count(),
                "tombstones": table.domain.tombstone_count(),
                "replicated": table.domain.digests(now.unix_s()).count,
            })
        };
        Some(serde_json::json!({ "tables": self.tables().iter().map(of).collect::<Vec<_>>() }))
    }

    fn shutdown(&self, cx: &mut Cx<'_>) {
        if let Some(sql) = &self.sql {
            sql.flush(cx, &self.tables(), self.params.use_domain);
        }
    }
}

/// Where changes of one edit go.
struct Log<'a> {
    outbox: &'a Outbox,
    now: Now,
    slot: u16,
    table: &'a str,
    default: &'a crate::store::Matching,
    is_replicated: bool,
}

impl Sink for Log<'_> {
    fn stamp(&self) -> Stamp {
        self.outbox.stamp(self.now)
    }

    fn replicate(&self, shard: usize, change: Replica<'_>) {
        if !self.is_replicated {
            return;
        }
        let stamp = change.stamp().unwrap_or_else(|| self.stamp());
        if let Some(record) =
            replication::record(self.slot, self.table, &change, stamp, self.default)
        {
            self.outbox.append(shard, record);
        }
    }
}
