//! The running module: its tables, and what follows from a change of them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use tandem_clock::{Chance, Now};
use tandem_engine::effect::Send;
use tandem_engine::log::Level;
use tandem_engine::module::{Build, BuildError, Cx, Module, Timer};
use tandem_engine::node::Node;
use tandem_engine::outbox::Outbox;
use tandem_engine::replication::Replicated;
use tandem_engine::sockets::SocketId;
use tandem_engine::stream::Flow;

use crate::params::{Params, Writes};
use crate::sql::Sql;
use crate::store::{
    Change, Contact, Contacts, Domain, Done, Edit, Event, Origin, PingPlan, Replica, Sink, Stamp,
    Text,
};
use crate::{events, replication, timer};

/// Location tables of a node, at most.
pub const TABLES_MAX: usize = 16;

/// A location table with what is counted about it.
#[derive(Debug)]
pub struct Table {
    pub domain: Domain,
    pub(crate) at: usize,
    pub(crate) expired: AtomicU64,
    /// The value of `expired` at its last reset.
    expired_before: AtomicU64,
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
    pub(crate) sql: Option<Sql>,
    branch_flags: Vec<String>,
    /// Seconds before the end of a push contact at which E_UL_CONTACT_REFRESH is raised.
    refresh_before_s: AtomicU32,
    /// How the contacts of every table are pinged, if they are.
    ping_plan: OnceLock<PingPlan>,
    pub(crate) is_sweeping: AtomicBool,
    slot: u16,
}

impl Usrloc {
    pub(crate) fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
        let params = Params::read(build)?;
        let sql = Sql::new(&params);
        let usrloc = Self {
            tables: RwLock::default(),
            chance: Mutex::new(build.chance.fork()),
            branch_flags: build.program.branch_flags.clone(),
            refresh_before_s: AtomicU32::new(0),
            ping_plan: OnceLock::new(),
            is_sweeping: AtomicBool::new(false),
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
        if self.params.wakes {
            self.refresh_before_s.store(seconds, Ordering::Relaxed);
            self.tables.read().iter().for_each(|t| t.domain.wake_before(seconds));
        }
    }

    /// Gives the contacts of all tables turns to be pinged. For the module that pings, when it is
    /// built: contacts that are there already have none.
    pub fn plan_pings(&self, plan: PingPlan) {
        let plan = self.ping_plan.get_or_init(|| plan);
        self.tables.read().iter().for_each(|t| t.domain.plan_pings(plan.clone()));
    }

    pub(crate) fn slot(&self) -> u16 {
        self.slot
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
        domain.wake_before(self.refresh_before_s.load(Ordering::Relaxed));
        if let Some(plan) = self.ping_plan.get() {
            domain.plan_pings(plan.clone());
        }
        let (expired, expired_before) = Default::default();
        let table = Arc::new(Table { domain, at: tables.len(), expired, expired_before });
        tables.push(Arc::clone(&table));
        Some(table)
    }

    /// All tables, in the order in which they were made.
    pub fn tables(&self) -> Vec<Arc<Table>> {
        self.tables.read().clone()
    }

    /// Whether changes go to peers, so that a reply has something to wait for.
    pub fn is_replicated(&self) -> bool {
        self.params.is_shared
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
        let Some(contact) = table.domain.by_id(id) else { return false };
        self.edit(cx, table, contact.aor(), |edit| edit.apply(Change::Delete { id })).1
    }

    /// The socket of this node that a contact is reached from.
    pub fn socket_of(&self, node: &Node, contact: &Contact) -> Option<SocketId> {
        std::str::from_utf8(contact.text(Text::Socket)).ok().and_then(|t| node.sockets.resolve(t))
    }

    /// What a contact is called where connections are bound to it.
    pub fn flow_name(&self, table: &Table, contact: &Contact) -> Flow {
        Flow { owner: u32::from(self.slot) << 16 | table.at as u32, id: contact.id }
    }

    /// What a user is called where his registrations keep connections.
    pub fn user_number(&self, table: &Table, aor: &[u8]) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.slot, table.at, aor).hash(&mut hasher);
        hasher.finish()
    }

    /// Where the living connection of a contact leads, and from which socket.
    pub fn flow_of(
        &self,
        node: &Node,
        table: &Table,
        contact: &Contact,
    ) -> Option<(SocketId, SocketAddr)> {
        node.streams.flow(self.flow_name(table, contact))
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
        if changed {
            self.follow_up(cx, table, aor, done);
        }
        (result, changed)
    }

    /// What follows from a change, with no lock held.
    fn follow_up(&self, cx: &mut Cx<'_>, table: &Table, aor: &[u8], done: Done) {
        self.start_sweeping(cx);
        if done.origin == Origin::Database {
            return;
        }
        for event in &done.events {
            if let Event::ContactDeleted { is_expiry: true, .. } = event {
                table.expired.fetch_add(1, Ordering::Relaxed);
                // Another node may have refreshed the row.
                if self.params.is_sql_only {
                    return;
                }
            }
            events::tell(cx, table.name(), aor, event);
        }
        let Some(sql) = &self.sql else { return };
        for event in &done.events {
            if self.is_mine_to_write(cx, done.origin, event) {
                sql.note(table, event);
            }
        }
        sql.step_ended(cx, &self.tables());
    }

    /// With `skip_replicated_db_ops` nodes share rows: what a client caused is written by the
    /// node that received it, what time caused by the one whose duty it is.
    fn is_mine_to_write(&self, cx: &Cx<'_>, origin: Origin, event: &Event) -> bool {
        if !self.params.skips_replicated {
            return true;
        }
        match event {
            Event::ContactDeleted { contact, is_expiry: true } => {
                let tags = cx.node.membership().tags().map(|tags| &**tags);
                self.may_act(tags, contact)
            }
            _ => origin == Origin::Local,
        }
    }

    /// Raises E_UL_CONTACT_REFRESH: a phone is to be woken, for the request with this Call-ID.
    pub fn wake(
        &self,
        cx: &mut Cx<'_>,
        table: &Table,
        contact: &Contact,
        reason: &str,
        call_id: &[u8],
    ) {
        cx.for_slot(self.slot, |cx| {
            events::tell_refresh(cx, table.name(), contact, reason, call_id);
        });
    }

    /// Sends the reply to a request when what it changed is saved, as the mode wants it, and
    /// when a peer has it, if it is gated.
    pub fn send_when_saved(&self, cx: &mut Cx<'_>, send: Send, gated: bool) {
        match &self.sql {
            Some(sql) if self.params.writes == Writes::Through => {
                cx.for_slot(self.slot, |cx| sql.send_when_saved(cx, send, gated));
            }
            _ if gated => cx.out.send_gated(send),
            _ => cx.out.send(send),
        }
    }

    /// The key of an AoR as operators and scripts write it: `user`, `user@domain`, or a URI.
    pub(crate) fn key_of(&self, aor: &[u8]) -> Vec<u8> {
        let aor = aor.strip_prefix(b"sip:").unwrap_or(aor);
        match aor.iter().rposition(|b| *b == b'@') {
            Some(at) if self.params.use_domain => {
                let (user, domain) = aor.split_at(at);
                [user, &domain.to_ascii_lowercase()[..]].concat()
            }
            Some(at) => aor.get(..at).unwrap_or_default().to_vec(),
            None => aor.to_vec(),
        }
    }

    fn set_flush_timer(&self, cx: &mut Cx<'_>) {
        let at = cx.now.after_s(self.params.timer_interval_s);
        cx.set_timer(at, Timer { kind: timer::FLUSH, id: 0 });
    }
}

impl Module for Usrloc {
    fn start(&self, cx: &mut Cx<'_>) {
        for text in &self.params.outdated {
            cx.log(Level::Notice, format!("usrloc: {text}"));
        }
        let Some(sql) = &self.sql else { return };
        for table in self.tables() {
            sql.load(cx, &table, true);
        }
        self.set_flush_timer(cx);
    }

    fn timer(&self, cx: &mut Cx<'_>, timer: Timer) {
        if timer.kind == timer::SWEEP {
            self.sweep(cx, timer.id);
            return;
        }
        let Some(sql) = &self.sql else { return };
        match timer.kind {
            timer::FLUSH => {
                sql.flush(cx, &self.tables());
                if self.params.is_sql_only {
                    self.tables().iter().for_each(|table| sql.load(cx, table, false));
                }
                self.set_flush_timer(cx);
            }
            timer::RETRY => sql.retry(cx, &self.tables()),
            timer::HELD => sql.release(cx, true),
            timer::RELOAD => self.sql_reload(cx, sql, timer.id),
            _ => {}
        }
    }

    fn db(&self, cx: &mut Cx<'_>, token: u64, result: Result<tandem_db::Rows, tandem_db::DbError>) {
        if let Some(sql) = &self.sql {
            self.sql_answered(cx, sql, token, result);
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
            ]
        };
        self.tables().iter().flat_map(of).collect()
    }

    fn own_counters(&self, _now: Now) -> Vec<(String, u64)> {
        let of = |table: &Arc<Table>| {
            let before = table.expired_before.load(Ordering::Relaxed);
            let since = table.expired.load(Ordering::Relaxed).saturating_sub(before);
            (format!("{}-expires", table.name()), since)
        };
        self.tables().iter().map(of).collect()
    }

    fn reset_own_counter(&self, name: Option<&str>) -> bool {
        let mut found = false;
        for table in self.tables() {
            let is_it = name.is_none_or(|n| n.strip_suffix("-expires") == Some(table.name()));
            if is_it {
                let now = table.expired.load(Ordering::Relaxed);
                table.expired_before.store(now, Ordering::Relaxed);
            }
            found |= is_it;
        }
        found
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
        let tables: Vec<_> = self.tables().iter().map(of).collect();
        let mut status = serde_json::json!({ "tables": tables });
        if let Some(sql) = &self.sql {
            status["unsaved"] = sql.waiting().into();
        }
        Some(status)
    }

    fn shutdown(&self, cx: &mut Cx<'_>) {
        if let Some(sql) = &self.sql {
            sql.flush(cx, &self.tables());
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
