//! The running module: the table, and what follows from a change of a dialog.

use std::sync::Arc;

use bytes::Bytes;
use tandem_clock::Now;
use tandem_engine::attached::{Section, TxMoment};
use tandem_engine::context::Ctx;
use tandem_engine::dialog::{DialogEvent, DialogMoment};
use tandem_engine::module::{Build, BuildError, Cx, Module, RouteEnd, Timer};
use tandem_engine::node::Node;
use tandem_script::sig::Routes as Blocks;
use tandem_sip::Message;

use crate::change::{Change, Origin, Refused};
use crate::current::Current;
use crate::events;
use crate::id::DialogId;
use crate::local::Local;
use crate::params::Params;
use crate::prack::PRACK;
use crate::record::{Dialog, EndReason, State};
use crate::sequential::Open;
use crate::stats;
use crate::sweep::{SWEEP, TIMEOUT_ROUTE};
use crate::table::{Done, Sink, Table, Told};

/// Dialog flags of a script, at most.
const FLAGS_MAX: usize = 32;

/// The state of the module; `acc` and others use it as a Rust dependency.
pub struct Dialogs {
    pub(crate) params: Params,
    pub table: Table,
    pub(crate) slot: u16,
    /// Names of the script's dialog flags; the place is the bit.
    pub(crate) flag_names: Vec<String>,
    /// Requests of this node whose replies are to come.
    pub(crate) open: Open,
}

impl Dialogs {
    pub(crate) fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
        let params = Params::read(build)?;
        let profiles = params.profiles.clone();
        let table = Table::new(params.hash_size, profiles, build.hash_key().state());
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
        let open = Open::default();
        Ok(Arc::new(Self { table, slot: build.slot, flag_names, open, params }))
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
        let done = self.table.apply(cx.now, id, origin, &Log { dialogs: self, cx }, change)?;
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
        self.table.insert(cx.now, dialog, local, origin, &Log { dialogs: self, cx })
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
        let Some(record) = &done.record else { return };
        events::state_changed(cx, record, done.before);
        match done.after {
            State::Unacked => {
                self.run_route(cx, id, &record.routes.on_answer, msg);
                self.tell(cx, DialogMoment::Answered, record, msg);
            }
            State::Confirmed => self.plan_pings(cx, id),
            State::Deleted => {
                if !done.before.is_answered() && origin == Origin::Local {
                    self.count(cx, stats::FAILED);
                }
                self.run_route(cx, id, &record.routes.on_hangup, msg);
                let moment = match origin {
                    Origin::Local => DialogMoment::Ended,
                    Origin::Peer { .. } | Origin::Database => DialogMoment::EndedElsewhere,
                };
                self.tell(cx, moment, record, msg);
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
        use DialogMoment::{Ended, EndedElsewhere, Owed};
        let ends = matches!(moment, Ended | EndedElsewhere | Owed);
        if record.sections.is_empty() && !ends {
            return;
        }
        let node = Arc::clone(cx.node);
        for (slot, def, module) in node.loaded() {
            if record.section(def.name).is_some() || (ends && module.adopts(record)) {
                let event = DialogEvent { moment, id: record.id.number(), record, message };
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

/// Where the changes of this node's dialogs go.
struct Log<'a, 'b> {
    dialogs: &'a Dialogs,
    cx: &'a Cx<'b>,
}

impl Sink for Log<'_, '_> {
    fn changed(&self, _shard: usize, dialog: &mut Dialog, change: Option<&Told>, origin: Origin) {
        if origin == Origin::Local && change != Some(&Told::Local) {
            dialog.stamp = self.cx.node.outbox.stamp(self.cx.now);
        }
        let _ = self.dialogs;
    }
}

impl Module for Dialogs {
    fn start(&self, cx: &mut Cx<'_>) {
        self.start_sweeping(cx);
    }

    fn timer(&self, cx: &mut Cx<'_>, timer: Timer) {
        match timer.kind {
            SWEEP => self.sweep(cx, timer.id as usize),
            PRACK => self.prack_late(cx, timer.id),
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

    fn transaction(&self, cx: &mut Cx<'_>, section: &Section, moment: &TxMoment) {
        if let Some(current) = section.downcast_ref::<Current>() {
            self.on_transaction(cx, current, moment);
        }
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
