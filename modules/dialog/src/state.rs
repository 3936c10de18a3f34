//! The running module: the table, and what follows from a change of a dialog.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use tandem_clock::{MS, Now};
use tandem_db::{DbError, Rows};
use tandem_engine::attached::{Section, TxMoment};
use tandem_engine::context::Ctx;
use tandem_engine::dialog::{DialogEvent, DialogMoment};
use tandem_engine::module::{Build, BuildError, Cx, Module, RouteEnd, Timer};
use tandem_engine::node::Node;
use tandem_engine::replication::Replicated;
use tandem_script::sig::Routes as Blocks;
use tandem_sip::Message;

use crate::change::{Change, Origin, Refused};
use crate::current::Current;
use crate::debts::Waiting;
use crate::drafts::{DRAW_UP, Drafts, DrawnUp, Turns};
use crate::early::Early;
use crate::events;
use crate::id::DialogId;
use crate::local::Local;
use crate::params::Params;
use crate::passed::{FOLLOW, Passed, TELL_AGAIN};
use crate::prack::PRACK;
use crate::record::{Dialog, EndReason, State};
use crate::replication::again::{AGAIN, Repeated};
use crate::replication::profiles::{Counts, TELL};
use crate::replication::takeover::{LOOK, Takeover};
use crate::ringing::{GIVE, TAKE_OVER};
use crate::sequential::Open;
use crate::sql::{self, Sql};
use crate::stats;
use crate::sweep::{SWEEP, TIMEOUT_ROUTE};
use crate::table::{Done, Sink, Table, Told};
use crate::twins::TWINS;

/// Dialog flags of a script, at most.
const FLAGS_MAX: usize = 32;

/// The state of the module; `acc` and others use it as a Rust dependency.
pub struct Dialogs {
    pub(crate) params: Params,
    pub table: Table,
    pub(crate) slot: u16,
    /// Names of the script's dialog flags; the place is the bit.
    pub(crate) flag_names: Arc<[String]>,
    /// Requests of this node whose replies are to come.
    pub(crate) open: Open,
    /// What other nodes have in shared profiles.
    pub(crate) counts: Counts,
    pub(crate) takeover: Takeover,
    /// Ends of which writers are told when a peer knows of them.
    pub(crate) waiting: Mutex<Waiting>,
    pub(crate) sql: Option<Sql>,
    /// The database is to be asked when the shard is unlocked.
    pub(crate) sql_asks: AtomicBool,
    /// Records of peers that could not be taken, and requests that named a dialog which is not
    /// theirs.
    pub(crate) refused: AtomicU64,
    /// Unix seconds of when such a refusal was last in the log.
    pub(crate) told_refused_s: AtomicU64,
    /// BYEs that came before their dialog.
    pub(crate) passed: Passed,
    /// Calls that ring on peers.
    pub(crate) drafts: Drafts,
    pub(crate) turns: Turns,
    /// Changes of dialogs that are still to come.
    pub(crate) early: Early,
    pub(crate) drawn_up: DrawnUp,
    pub(crate) repeated: Repeated,
}

impl Dialogs {
    pub(crate) fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
        let params = Params::read(build)?;
        let profiles = params.profiles.clone();
        let mut flag_names: Vec<String> = Vec::new();
        for name in build
            .program
            .texts_of(build.slot, |f| f.ends_with("_dlg_flag") || f == "is_dlg_flag_set")
        {
            let name = String::from_utf8_lossy(name).into_owned();
            if !flag_names.contains(&name) {
                flag_names.push(name);
            }
        }
        if flag_names.len() > FLAGS_MAX {
            let text = format!(
                "the script names {} dialog flags; {FLAGS_MAX} is the most",
                flag_names.len()
            );
            return Err(BuildError::new("", text));
        }
        let slot = build.slot;
        let counts = Counts::new(params.counts_cluster, profiles.clone(), params.believe_s.into());
        Ok(Arc::new(Self {
            table: Table::new(params.hash_size, profiles, build.hash_key().state()),
            slot,
            flag_names: flag_names.into(),
            open: Open::default(),
            counts,
            takeover: Takeover::default(),
            waiting: Mutex::default(),
            sql: params.sql.clone().map(Sql::new),
            sql_asks: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            told_refused_s: AtomicU64::new(0),
            passed: Passed::default(),
            drafts: Drafts::default(),
            turns: Turns::default(),
            early: Early::default(),
            drawn_up: DrawnUp::default(),
            repeated: Repeated::default(),
            params,
        }))
    }

    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The dialog of a message.
    pub fn current(&self, ctx: &Ctx) -> Option<Arc<Current>> {
        ctx.attached.get::<Current>(self.slot)
    }

    /// Reads the record of a dialog; keep it short, a lock is held.
    pub fn read<R>(&self, id: DialogId, look: impl FnOnce(&Dialog) -> R) -> Option<R> {
        self.table.read(id, |entry| look(&entry.dialog))
    }

    /// How many milliseconds a dialog has been answered, measured by a clock that nobody sets;
    /// `None`: it is not here, or this node does not know when its answer came.
    pub fn talked_ms(&self, now: Now, id: DialogId) -> Option<u64> {
        self.table.read(id, |entry| entry.local.talked_ms(now)).flatten()
    }

    /// What this node keeps of a new dialog.
    pub(crate) fn new_local(&self) -> Local {
        Local { keep_s: u64::from(self.params.delete_delay_s), ..Local::default() }
    }

    /// Changes a dialog on behalf of this node, and does what follows.
    ///
    /// # Errors
    /// Why it was not changed.
    pub fn change(&self, cx: &mut Cx<'_>, id: DialogId, change: Change) -> Result<Done, Refused> {
        self.change_by(cx, id, Origin::Local, change, None)
    }

    /// The same, for anybody; `msg` is what caused it.
    pub fn change_by(
        &self,
        cx: &mut Cx<'_>,
        id: DialogId,
        origin: Origin,
        change: Change,
        msg: Option<&Message>,
    ) -> Result<Done, Refused> {
        let ends = matches!(change, Change::Ended { .. } | Change::EndedBefore { .. })
            && matches!(origin, Origin::Local | Origin::Heard { .. });
        let change = if ends { self.with_debt(cx, id, change) } else { change };
        let heard = cx.is_wanted(events::STATE_CHANGED);
        let log = Log { dialogs: self, cx };
        let done = self.table.apply_with(cx.now, id, origin, &log, change, |d, moved| {
            moved && (heard || follows(d))
        })?;
        self.store(cx);
        if origin == Origin::Local {
            for (membership, by) in &done.shared {
                self.count_shared(cx, membership, *by);
            }
        }
        if matches!(origin, Origin::Peer { .. } | Origin::Heard { .. }) && done.changed {
            let ended = done.before != done.after && done.after == State::Deleted;
            self.count(cx, if ended { stats::DELETE_RECV } else { stats::UPDATE_RECV });
        }
        if done.before != done.after {
            cx.for_slot(self.slot, |cx| self.state_changed(cx, id, origin, &done, msg));
        }
        Ok(done)
    }

    /// Adds a dialog; false: it was there.
    ///
    /// # Errors
    /// When there are too many.
    pub fn insert(
        &self,
        cx: &mut Cx<'_>,
        dialog: Dialog,
        local: Local,
        origin: Origin,
    ) -> Result<bool, Refused> {
        let id = dialog.id;
        let inserted =
            self.table.insert(cx.now, dialog, local, origin, &Log { dialogs: self, cx })?;
        if inserted && matches!(origin, Origin::Peer { .. }) {
            self.count(cx, stats::CREATE_RECV);
            self.follow_later(cx, id);
        }
        self.store(cx);
        Ok(inserted)
    }

    /// What has changed is saved, if it is to be saved at once.
    fn store(&self, cx: &mut Cx<'_>) {
        if self.sql_asks.swap(false, Ordering::AcqRel)
            && let Some(sql) = &self.sql
        {
            cx.for_slot(self.slot, |cx| self.pump_sql(cx, sql));
        }
    }

    /// Ends a dialog.
    pub fn end(&self, cx: &mut Cx<'_>, id: DialogId, reason: EndReason, msg: Option<&Message>) {
        // One that is gone or over already has been ended by somebody else.
        let _ = self.change_by(cx, id, Origin::Local, Change::Ended { reason }, msg);
    }

    /// What follows from another state.
    fn state_changed(
        &self,
        cx: &mut Cx<'_>,
        id: DialogId,
        origin: Origin,
        done: &Done,
        msg: Option<&Message>,
    ) {
        if done.after == State::Confirmed && origin == Origin::Local {
            self.plan_pings(cx, id);
        }
        if done.after == State::Unacked && origin == Origin::Local {
            let now_ms = cx.now.mono_ns / MS;
            self.table.local(id, |_, local| local.answered_at_ms = now_ms);
            self.follow_soon(cx, id);
        }
        if done.before < State::Unacked && matches!(origin, Origin::Peer { .. }) {
            self.leave_call(cx, id);
        }
        let Some(record) = &done.record else { return };
        events::state_changed(cx, record, done.before);
        // What follows is done where it happened.
        if matches!(origin, Origin::Peer { .. } | Origin::Database) {
            if done.after == State::Deleted {
                // A stock peer may have heard of the end before this node repeated the call to it.
                self.plan_end_again(cx, id);
                self.tell(cx, DialogMoment::EndedElsewhere, record, msg);
            }
            return;
        }
        match done.after {
            State::Unacked => {
                self.run_route(cx, id, &record.routes.on_answer, msg);
                self.tell(cx, DialogMoment::Answered, record, msg);
            }
            State::Deleted => {
                if !done.before.is_answered() && origin == Origin::Local {
                    self.withdraw(cx, id);
                    self.count(cx, stats::FAILED);
                }
                self.run_route(cx, id, &record.routes.on_hangup, msg);
                self.plan_twins(cx, record);
                self.plan_end_again(cx, id);
                self.tell_end(cx, record, msg);
            }
            _ => {}
        }
    }

    /// Tells the modules that keep a section in the record.
    pub(crate) fn tell(
        &self,
        cx: &mut Cx<'_>,
        moment: DialogMoment,
        record: &Dialog,
        message: Option<&Message>,
    ) {
        self.tell_with(cx, (moment, 0), record, message);
    }

    /// The same with the flags of a message.
    pub(crate) fn tell_with(
        &self,
        cx: &mut Cx<'_>,
        (moment, flags): (DialogMoment, u32),
        record: &Dialog,
        message: Option<&Message>,
    ) {
        use DialogMoment::{Ended, EndedElsewhere, Owed};
        let ends = matches!(moment, Ended | EndedElsewhere | Owed);
        if record.sections.is_empty() && !ends {
            return;
        }
        let node = Arc::clone(cx.node);
        for (slot, def, module) in node.loaded() {
            if record.section(def.name).is_some() || (ends && module.adopts(record)) {
                let event = DialogEvent { moment, id: record.id.number(), record, message, flags };
                cx.for_slot(slot, |cx| module.dialog(cx, &event));
            }
        }
    }

    /// Starts a route of the script that works on the dialog.
    fn run_route(&self, cx: &mut Cx<'_>, id: DialogId, name: &[u8], msg: Option<&Message>) {
        if name.is_empty() {
            return;
        }
        let Some(route) = std::str::from_utf8(name).ok().and_then(|name| cx.named_route(name))
        else {
            return;
        };
        let ctx = Box::new(self.context(cx, id, msg));
        // When too many routes wait already, this one does not run.
        let _ = cx.run_route(route, ctx, 0);
    }

    /// A context whose dialog is this one.
    pub(crate) fn context(&self, cx: &Cx<'_>, id: DialogId, msg: Option<&Message>) -> Ctx {
        let mut ctx = cx.own_context(Blocks::REQUEST);
        if let Some(msg) = msg {
            ctx.msg = msg.clone();
        }
        ctx.attached.put(self.slot, Arc::new(Current::of(id)));
        ctx
    }

    pub(crate) fn count(&self, cx: &Cx<'_>, index: usize) {
        if self.params.stats {
            cx.count(index, 1);
        }
    }
}

/// Whether somebody looks at the record when its state has changed.
fn follows(d: &Dialog) -> bool {
    match d.state {
        State::Unacked => !d.routes.on_answer.is_empty() || !d.sections.is_empty(),
        State::Deleted => true,
        State::Unconfirmed | State::Early | State::Confirmed => false,
    }
}

/// Where the changes of this node's dialogs go.
struct Log<'a, 'b> {
    dialogs: &'a Dialogs,
    cx: &'a Cx<'b>,
}

impl Sink for Log<'_, '_> {
    fn changed(
        &self,
        shard: usize,
        dialog: &mut Dialog,
        change: Option<&Told>,
        origin: Origin,
    ) -> u64 {
        let Log { dialogs, cx } = self;
        dialogs.replicate(cx, shard, dialog, change, origin);
        if let Some(sql) = &dialogs.sql
            && origin != Origin::Database
            && sql.note(dialog, change, dialogs.is_ours(cx, dialog))
        {
            dialogs.sql_asks.store(true, Ordering::Release);
        }
        dialogs.digest(dialog)
    }
}

impl Module for Dialogs {
    fn start(&self, cx: &mut Cx<'_>) {
        self.start_sweeping(cx);
        self.start_sql(cx);
        self.start_telling(cx);
    }

    fn timer(&self, cx: &mut Cx<'_>, timer: Timer) {
        match timer.kind {
            SWEEP => self.sweep(cx, timer.id as usize),
            PRACK => self.prack_late(cx, timer.id),
            TELL => self.tell_counts(cx),
            LOOK => self.look_through(cx, timer.id),
            FOLLOW => self.follow(cx, DialogId::from_number(timer.id)),
            TELL_AGAIN => self.tell_again(cx, timer.id),
            AGAIN => self.tell_end_again(cx, DialogId::from_number(timer.id)),
            TWINS => self.end_twins(cx, DialogId::from_number(timer.id)),
            DRAW_UP => self.draw_up(cx, DialogId::from_number(timer.id)),
            TAKE_OVER => self.take_over_ringing(cx, timer.id),
            GIVE => self.give_calls(cx, timer.id),
            sql::FLUSH => self.flush_timer(cx),
            sql::RETRY => self.retry_sql(cx),
            _ => {}
        }
    }

    fn local_reply(&self, cx: &mut Cx<'_>, token: u64, code: u16, reply: Option<&Message>) {
        self.replied(cx, token, code, reply);
    }

    fn route_ended(&self, cx: &mut Cx<'_>, token: u64, ctx: Box<Ctx>, _end: RouteEnd) {
        if token == TIMEOUT_ROUTE {
            self.timeout_route_ended(cx, &ctx);
        }
    }

    fn db(&self, cx: &mut Cx<'_>, token: u64, result: Result<Rows, DbError>) {
        self.sql_answered(cx, token, result);
    }

    fn shutdown(&self, cx: &mut Cx<'_>) {
        self.tell_all_ends(cx);
        self.flush_sql(cx);
    }

    fn cluster_news(&self, cx: &mut Cx<'_>, news: &tandem_cluster::Effect) {
        self.heard_news(cx, news);
    }

    fn acknowledged(&self, cx: &mut Cx<'_>, token: u64) {
        self.end_acknowledged(cx, token);
    }

    fn replicated(&self) -> Option<&dyn Replicated> {
        self.is_replicated().then_some(self)
    }

    fn replicated_too(&self) -> Option<&dyn Replicated> {
        (self.counts.cluster != 0).then_some(&self.counts)
    }

    fn status(&self, _node: &Node, _now: Now) -> Option<Json> {
        Some(json!({
            "active": self.active(),
            "remembered_ends": self.table.grave_count(),
            "refused": self.refused.load(Ordering::Relaxed),
            "unsaved": self.sql.as_ref().map_or(0, Sql::waiting),
        }))
    }

    fn transaction(&self, cx: &mut Cx<'_>, section: &Section, moment: &TxMoment) {
        if let Some(current) = section.downcast_ref::<Current>() {
            self.on_transaction(cx, current, moment);
        }
    }

    fn reply_passes(&self, cx: &mut Cx<'_>, reply: &Message) {
        self.answer_passes(cx, reply);
    }

    fn route_taken(&self, cx: &mut Cx<'_>, ctx: &mut Ctx, params: &[u8]) {
        self.match_routed(cx, ctx, params);
    }

    fn section_bytes(&self, section: &Section) -> Option<Bytes> {
        section.downcast_ref::<Current>().map(|current| Bytes::from(current.to_bytes()))
    }

    fn section_of(&self, bytes: &Bytes) -> Option<Section> {
        Current::parse(bytes).map(|current| Arc::new(current) as Section)
    }

    fn statistic(&self, _node: &Node, _now: Now, index: usize) -> u64 {
        if !self.params.stats {
            return 0;
        }
        match index {
            stats::ACTIVE => self.active() as u64,
            stats::EARLY => self.table.in_state(State::Early) as u64,
            _ => 0,
        }
    }
}

impl Dialogs {
    /// The dialog that an operator names: `dbd.650fbf27`, the number in the database, or a
    /// Call-ID, where a dialog that lives comes first.
    pub fn named(&self, text: &str) -> Option<DialogId> {
        let there = |id: DialogId| self.read(id, |d| d.id);
        let by_name = DialogId::parse(text.as_bytes()).and_then(there);
        let by_number = || text.parse().ok().map(DialogId::from_number).and_then(there);
        let by_call = || {
            let all = self.table.of_call(text.as_bytes());
            let lives = |id: &&DialogId| self.read(**id, |d| d.state.is_alive()) == Some(true);
            all.iter().find(lives).or_else(|| all.last()).copied()
        };
        by_name.or_else(by_number).or_else(by_call)
    }

    /// Dialogs that were answered and go on.
    pub fn active(&self) -> usize {
        self.table.in_state(State::Unacked) + self.table.in_state(State::Confirmed)
    }
}
