//! The running module: its table, its packages, and what follows from a change.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use serde_json::{Value as Json, json};
use tandem_clock::{Chance, Now};
use tandem_db::{DbError, Rows};
use tandem_engine::module::{Build, BuildError, Cx, Module, Timer};
use tandem_engine::node::Node;
use tandem_engine::replication::Replicated;
use tandem_sip::Message;

use crate::again::{AGAIN, Again, WHEN};
use crate::change::{Change, Done, Origin, Refused};
use crate::notify::{After, Held, Open, WALK, Walks};
use crate::package::Package;
use crate::params::Params;
use crate::record::{Key, Stamp};
use crate::removed::Removed;
use crate::replication::takeover::{LOOK, Takeover};
use crate::rules::Asked;
use crate::sql::{self, Sql};
use crate::sweep::{CLEAN, SWEEP};
use crate::table::{Sink, Table, Told, Writer};
use crate::winfo::{self, Winfo};

/// The timer of lists of watchers.
const LATE: u32 = 5;
/// Watchers up to which every change of their list is told at once.
const WATCHERS_AT_ONCE: usize = 64;

/// The state of the module; modules with event packages use it as a Rust dependency.
pub struct Presence {
    pub(crate) params: Params,
    pub table: Table,
    pub(crate) slot: u16,
    packages: RwLock<Vec<Arc<dyn Package>>>,
    pub(crate) walks: Mutex<Walks>,
    pub(crate) open: Mutex<Open>,
    pub(crate) again: Mutex<Again>,
    pub(crate) removed: Mutex<Removed>,
    pub(crate) held: Mutex<Held>,
    pub(crate) rules: Mutex<Asked>,
    /// Lists of watchers that are told in a moment.
    late: Mutex<BTreeSet<Arc<Key>>>,
    pub(crate) takeover: Takeover,
    pub(crate) sql: Option<Sql>,
    /// Records of peers that could not be taken.
    pub(crate) refused: AtomicU64,
    /// What makes ETags and tags of this node.
    pub(crate) chance: Mutex<Chance>,
    pub(crate) etags: AtomicU64,
}

impl Presence {
    pub(crate) fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
        let params = Params::read(build)?;
        Ok(Arc::new(Self {
            table: Table::new(&build.hash_key().state()),
            slot: build.slot,
            packages: RwLock::default(),
            walks: Mutex::default(),
            open: Mutex::default(),
            again: Mutex::default(),
            removed: Mutex::default(),
            held: Mutex::default(),
            rules: Mutex::default(),
            late: Mutex::default(),
            takeover: Takeover::default(),
            sql: Sql::new(&params),
            refused: AtomicU64::new(0),
            chance: Mutex::new(build.chance.fork()),
            etags: AtomicU64::new(1),
            params,
        }))
    }

    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Makes an event known, with that of its watchers if it has one. To be called when modules
    /// are built; a second package of the same name is not taken.
    pub fn add_package(&self, package: Arc<dyn Package>) {
        let winfo = package.has_winfo().then(|| winfo::name_of(package.name())).flatten();
        let winfo = winfo.map(|name| Arc::new(Winfo { name }) as Arc<dyn Package>);
        let mut packages = self.packages.write();
        for package in [package].into_iter().chain(winfo) {
            if !packages.iter().any(|p| p.name() == package.name()) {
                packages.push(package);
            }
        }
    }

    /// The package of an event, by its name in lower case.
    pub fn package(&self, event: &[u8]) -> Option<Arc<dyn Package>> {
        self.packages.read().iter().find(|p| p.name().as_bytes() == event).cloned()
    }

    /// The names of all events, as Allow-Events lists them.
    pub fn events(&self) -> String {
        let names: Vec<_> = self.packages.read().iter().map(|p| p.name()).collect();
        names.join(", ")
    }

    /// Whether Tandem peers have the publications and subscriptions of this node.
    pub fn is_replicated(&self) -> bool {
        self.params.cluster != 0
    }

    /// Carries out a change; what follows from it is [`Presence::follow`].
    pub(crate) fn apply(
        &self,
        cx: &Cx<'_>,
        key: &Key,
        origin: Origin,
        change: Change,
    ) -> Result<Done, Refused> {
        self.apply_of(cx, key, (origin, 0), change)
    }

    /// The same with the node that tells of the change; 0: none.
    pub(crate) fn apply_of(
        &self,
        cx: &Cx<'_>,
        key: &Key,
        (origin, source): (Origin, u32),
        change: Change,
    ) -> Result<Done, Refused> {
        self.table.apply(cx.now, key, origin, &Log { presence: self, cx, source }, change)
    }

    /// Changes something here, and does what follows.
    pub(crate) fn change(
        &self,
        cx: &mut Cx<'_>,
        key: &Arc<Key>,
        change: Change,
    ) -> Result<Done, Refused> {
        let done = self.apply(cx, key, Origin::Local, change)?;
        self.follow(cx, key, Origin::Local, &done);
        Ok(done)
    }

    /// What follows from a change: rows are written and watchers are looked through.
    pub(crate) fn follow(&self, cx: &mut Cx<'_>, key: &Arc<Key>, origin: Origin, done: &Done) {
        cx.for_slot(self.slot, |cx| {
            self.write_rows(cx, key, origin, done);
            self.tell_watchers(cx, key, done);
            if done.sphere && self.params.checks_sphere {
                self.ask_rules_again(cx, key);
            }
        });
    }

    fn tell_watchers(&self, cx: &mut Cx<'_>, key: &Arc<Key>, done: &Done) {
        // First: a watcher whose end is told is forgotten then, and is listed once as terminated
        // (RFC 3857 4.7.1).
        if done.watchers
            && let Some(winfo) = key.winfo()
            && self.table.read(&winfo, |p| !p.subscriptions.is_empty()) == Some(true)
        {
            self.tell_of_watchers(cx, key, Arc::new(winfo));
        }
        if done.state {
            self.walk(cx, key);
            if self.params.mixes_dialogs && *key.event == *b"dialog" {
                let presence = Key::new(&key.uri, b"presence");
                self.walk(cx, &Arc::new(presence));
            }
        } else if let Some(id) = &done.subscription {
            self.notify_owed(cx, key, &[Arc::clone(id)]);
        }
    }

    /// Who watches is another: told at once, but where many watch only once a second, because each
    /// document names them all (RFC 3857 4.10).
    fn tell_of_watchers(&self, cx: &mut Cx<'_>, key: &Key, winfo: Arc<Key>) {
        let count = self.table.read(key, |p| p.subscriptions.len()).unwrap_or(0);
        if count <= WATCHERS_AT_ONCE {
            return self.walk(cx, &winfo);
        }
        let is_first = {
            let mut late = self.late.lock();
            late.insert(winfo);
            late.len() == 1
        };
        if is_first {
            cx.set_timer(cx.now.after_s(1), Timer { kind: LATE, id: 0 });
        }
    }

    fn tell_late(&self, cx: &mut Cx<'_>) {
        let late = std::mem::take(&mut *self.late.lock());
        late.iter().for_each(|key| self.walk(cx, key));
    }

    /// What follows from a change that a reply waits for: first the reply, then the NOTIFYs.
    pub(crate) fn follow_reply(&self, cx: &mut Cx<'_>, key: &Arc<Key>, done: &Done) {
        cx.for_slot(self.slot, |cx| {
            let mut now = done.clone();
            now.state = false;
            now.subscription = None;
            self.follow(cx, key, Origin::Local, &now);
            if done.state {
                self.after_reply(cx, After::Walk(Arc::clone(key)));
                if self.params.mixes_dialogs && *key.event == *b"dialog" {
                    let presence = Arc::new(Key::new(&key.uri, b"presence"));
                    self.after_reply(cx, After::Walk(presence));
                }
            } else if let Some(id) = &done.subscription {
                self.after_reply(cx, After::One(Arc::clone(key), Arc::clone(id)));
            }
        });
    }

    /// An ETag that no other node makes: `a.<start>.<node>.<number>.<changes>`.
    pub(crate) fn new_etag(&self, now: Now) -> String {
        let number = self.etags.fetch_add(1, Ordering::Relaxed);
        let chance = self.chance.lock().u32();
        format!("a.{}.{chance}.{number}.0", now.unix_s())
    }
}

/// Where the changes of this node go.
struct Log<'a, 'b> {
    presence: &'a Presence,
    cx: &'a Cx<'b>,
    source: u32,
}

impl Sink for Log<'_, '_> {
    fn stamp(&self) -> Stamp {
        self.cx.node.outbox.stamp(self.cx.now)
    }

    fn writer(&self, stamp: Stamp) -> Writer {
        Writer::of(stamp, self.cx.node.membership().node_id(), self.source)
    }

    fn tell(&self, bucket: usize, key: &Key, told: Told<'_>) {
        self.presence.replicate(self.cx, bucket, key, &told);
    }
}

impl Module for Presence {
    fn start(&self, cx: &mut Cx<'_>) {
        self.start_sweeping(cx);
        self.start_sql(cx);
    }

    fn timer(&self, cx: &mut Cx<'_>, timer: Timer) {
        match timer.kind {
            WALK => self.walk_on(cx),
            LATE => self.tell_late(cx),
            AGAIN => self.try_again(cx),
            WHEN => self.take_now(cx, timer.id),
            SWEEP => self.sweep(cx, timer.id as usize),
            CLEAN => self.clean_timer(cx),
            LOOK => self.look_through(cx, timer.id as usize),
            sql::FLUSH => self.flush_timer(cx),
            sql::RETRY => self.retry_sql(cx),
            _ => {}
        }
    }

    fn local_reply(&self, cx: &mut Cx<'_>, token: u64, code: u16, reply: Option<&Message>) {
        self.answered(cx, token, code, reply);
    }

    fn acknowledged(&self, cx: &mut Cx<'_>, token: u64) {
        self.released(cx, token);
    }

    fn db(&self, cx: &mut Cx<'_>, token: u64, result: Result<Rows, DbError>) {
        self.sql_answered(cx, token, result);
    }

    fn cluster_news(&self, cx: &mut Cx<'_>, news: &tandem_cluster::Effect) {
        self.heard_news(cx, news);
    }

    fn replicated(&self) -> Option<&dyn Replicated> {
        self.is_replicated().then_some(self as &dyn Replicated)
    }

    fn status(&self, _node: &Node, _now: Now) -> Option<Json> {
        let mut status = json!({
            "publications": self.table.publication_count(),
            "subscriptions": self.table.subscription_count(),
            "tombstones": self.table.grave_count(),
            "refused": self.refused.load(Ordering::Relaxed),
        });
        if let Some(sql) = &self.sql {
            status["unsaved"] = sql.waiting().into();
        }
        Some(status)
    }

    fn shutdown(&self, cx: &mut Cx<'_>) {
        self.flush_sql(cx);
    }
}
