//! The record of a call, from the answer to the end of its dialog.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tandem_dialog::record::State as Phase;
use tandem_dialog::{Change, Dialog, DialogId, Dialogs, Flags, Kind, Side};
use tandem_engine::context::Ctx;
use tandem_engine::dialog::{DialogEvent, DialogMoment};
use tandem_engine::log::Level;
use tandem_engine::module::{Cx, Timer};
use tandem_sip::{Message, Params};

use crate::account::{Account, State};
use crate::ledger::{CallRef, Ledger, WITHOUT_IDENTITIES, timer};
use crate::marks::{ACC, Backend, CDR, Marks};
use crate::plan::{self, Plan};
use crate::record::Record;
use crate::state::Acc;

/// How often forgotten debts are looked for.
pub(crate) const LOOK_EVERY_S: u64 = 300;
/// The first time after the start, when the peers have told what they know.
pub(crate) const FIRST_LOOK_S: u64 = 15;
/// Dialogs in memory beyond which the spool alone remembers what they owe.
const OWED_MAX: usize = 500_000;
/// What a node owed that is gone and never said which database it has is paid by another one after
/// this: the identity of the record tells, should both of them have the same.
const FORSAKEN_S: u64 = LOOK_EVERY_S;
/// A debt of this life that is younger may be on its way to the database.
const IN_FLIGHT_S: u64 = 60;
/// An end that was told of so much later has the time that was told.
const LATE_MS: u64 = 2_000;

impl Acc {
    fn dialogs(&self, cx: &Cx<'_>) -> Option<Arc<Dialogs>> {
        cx.node.module::<Dialogs>(self.dialog_slot.load(Ordering::Relaxed))
    }

    /// Leaves with the dialog of the call what its end needs. `false`: it has none.
    pub(crate) fn begin_cdr(
        &self,
        cx: &mut Cx<'_>,
        account: &Account,
        record: &Record,
        state: &State,
    ) -> bool {
        let request = &account.request;
        let Some(dialogs) = self.dialogs(cx).filter(|_| request.to_tag().is_none()) else {
            return false;
        };
        let (Some(call_id), Some(tag)) = (request.call_id(), request.from_tag()) else {
            return false;
        };
        // A 2xx brings a dialog back that no BYE has ended.
        let is_this = |d: &Dialog| {
            *d.caller.tag == *tag && (d.state != Phase::Deleted || !d.flags.has(Flags::BYE_SEEN))
        };
        let is_named = |id: &DialogId| dialogs.read(*id, is_this) == Some(true);
        let has_none =
            |id: &&DialogId| dialogs.read(**id, |d| d.section("acc").is_none()) == Some(true);
        let found = state.call.filter(is_named).or_else(|| {
            let mut all = dialogs.table.of_call(call_id);
            all.retain(|id| is_named(id));
            all.iter().find(has_none).or(all.first()).copied()
        });
        let Some(id) = found else { return false };
        let fields = (&self.params.extra, &self.params.legs);
        let values = plan::values(record, state, &self.params.table_acc, fields);
        let mut changes: Vec<Change> = values
            .into_iter()
            .map(|(name, value)| Change::Value { name, value: Some(value) })
            .collect();
        let bytes = plan::section(fields.0, fields.1);
        changes.push(Change::Section { module: b"acc"[..].into(), bytes });
        let kept = dialogs.change(cx, id, Change::Many(changes)).is_ok()
            && dialogs.read(id, |d| plan::is_in(d) && d.section("acc").is_some()) == Some(true);
        if !kept {
            let text =
                format!("the dialog {id} is full: its call is accounted when it is answered");
            cx.log(Level::Error, text);
        }
        kept
    }

    /// A dialog with a plan tells something.
    pub(crate) fn dialog_event(&self, cx: &mut Cx<'_>, event: &DialogEvent<'_>) {
        let Some(dialog) = event.record.downcast_ref::<Dialog>() else { return };
        match event.moment {
            DialogMoment::Ended if dialog.answered_s != 0 => self.ended(cx, dialog),
            DialogMoment::EndedElsewhere
                if dialog.answered_s != 0 && self.is_for_us(cx, dialog) =>
            {
                self.ended(cx, dialog);
            }
            DialogMoment::Owed => self.owed(cx, dialog),
            _ => {}
        }
    }

    /// This node has ended the call: it owes the record.
    fn ended(&self, cx: &mut Cx<'_>, dialog: &Dialog) {
        let Some(mut plan) = plan::read(dialog, &self.params.extra, &self.params.legs) else {
            let text =
                format!("the plan of the call {} cannot be read: it has no record", dialog.id);
            return cx.log(Level::Error, text);
        };
        // Some ends are heard of later than they came.
        let told_ms = dialog.ended_ms();
        let is_late = told_ms != 0 && told_ms + LATE_MS <= cx.now.unix_ms;
        let talked_ms = self.dialogs(cx).and_then(|all| all.talked_ms(cx.now, dialog.id));
        plan.cdr.ended_ms = match talked_ms {
            _ if is_late => told_ms,
            // The wall clock may have been set meanwhile.
            Some(ms) => plan.cdr.answered_ms.saturating_add(ms),
            // It may have waited for a peer, or its BYE passed by before: it ended then, not now.
            None => dialog.ended_exactly_ms().unwrap_or(cx.now.unix_ms),
        };
        self.write_plan(cx, &plan, dialog.id, plan.marks);
    }

    /// What a call that ends owes. A call that goes to the log alone owes as well, so that other
    /// nodes can tell its end from one by a stock node.
    pub(crate) fn debts_of(&self, dialog: &Dialog) -> Vec<u64> {
        let owed = plan::identity(dialog).filter(|(_, marks)| marks.any(ACC | CDR));
        owed.map(|(id, _)| id.short()).into_iter().collect()
    }

    /// The node that owed the record is gone.
    fn owed(&self, cx: &mut Cx<'_>, dialog: &Dialog) {
        let Some(mut plan) = plan::read(dialog, &self.params.extra, &self.params.legs) else {
            return;
        };
        let lacks = |backend| plan.marks.of(backend) & CDR != 0 && self.keeps(backend).is_none();
        if lacks(Backend::Db) || lacks(Backend::Aaa) {
            // Without the place here somebody else has to write it.
            return;
        }
        // Which database somebody has says nothing of a call that has no row.
        if payer(plan.marks) == Backend::Db && !self.pays_for(cx, dialog) {
            return;
        }
        if self.is_on_its_way(&plan) {
            return;
        }
        plan.cdr.ended_ms = dialog.ended_ms();
        self.write_plan(cx, &plan, dialog.id, plan.marks);
    }

    /// Whether a row that a node owes which is gone is for this node to write; it may be later that
    /// this is known. With a database of its own, the other one pays from its spool when it returns.
    fn pays_for(&self, cx: &Cx<'_>, dialog: &Dialog) -> bool {
        let (own, theirs) = (self.place(), dialog.debt.as_ref().map_or(0, |debt| debt.place));
        if own == 0 {
            let mut later = self.owed_later.lock();
            if later.len() < OWED_MAX {
                later.push(dialog.id);
            }
            return false;
        }
        // One that never said where, and stays away, has not written it: its spool has, at most.
        let is_forsaken = theirs == 0 && u64::from(dialog.ended_s) + FORSAKEN_S <= cx.now.unix_s();
        let is_same = own == theirs || own == WITHOUT_IDENTITIES || theirs == WITHOUT_IDENTITIES;
        is_same || is_forsaken
    }

    /// Where this node writes its records: see `Module::pays_into`.
    pub(crate) fn place(&self) -> u64 {
        self.ledger.as_ref().map_or(WITHOUT_IDENTITIES, Ledger::place)
    }

    /// What others owed while it was not known which database this node has.
    pub(crate) fn look_at_owed(&self, cx: &mut Cx<'_>) {
        if self.place() == 0 {
            return;
        }
        if !self.knows_place.swap(true, Ordering::Relaxed)
            && let Some(dialogs) = self.dialogs(cx)
        {
            dialogs.now_pays_into(cx, self.place());
        }
        let later = std::mem::take(&mut *self.owed_later.lock());
        if let Some(dialogs) = self.dialogs(cx).filter(|_| !later.is_empty()) {
            later.into_iter().for_each(|id| dialogs.claim_again(cx, id));
        }
    }

    fn is_on_its_way(&self, plan: &Plan) -> bool {
        self.ledgers().any(|ledger| ledger.has(plan.cdr.id()))
    }

    /// Where records of a type are kept until they are there.
    fn keeps(&self, backend: Backend) -> Option<&Ledger> {
        match backend {
            Backend::Db => self.ledger.as_ref(),
            Backend::Aaa => self.radius.as_ref(),
            Backend::Log | Backend::Evi => None,
        }
    }

    /// Writes the record of a call to some of the places of its plan.
    pub(crate) fn write_plan(&self, cx: &mut Cx<'_>, plan: &Plan, id: DialogId, to: Marks) {
        let call = CallRef { entry: id.entry, id: id.id };
        for backend in to.with(ACC | CDR) {
            let is_kept = matches!(backend, Backend::Db | Backend::Aaa);
            if is_kept && self.keeps(backend).is_none() {
                let line = crate::lines::cdr_line(&plan.cdr, &self.params.extra, &self.params.legs);
                let place = if backend == Backend::Db { "database" } else { "RADIUS server" };
                let text = format!("there is no {place} to write a call to: {line}");
                cx.log(Level::Error, text);
                continue;
            }
            let call = (backend == payer(plan.marks)).then_some(call);
            self.write_cdr(cx, backend, &plan.cdr, plan.table.clone(), call);
        }
        if self.stops.load(Ordering::Relaxed) {
            self.flush(cx);
        }
        let Some(dialogs) = self.dialogs(cx) else { return };
        let payer = payer(plan.marks);
        let waits = plan.marks.of(payer) & CDR != 0
            && self.keeps(payer).is_some()
            && dialogs.is_replicated()
            && dialogs.table.len() < OWED_MAX;
        // Where no peer could pay, the spool alone remembers.
        if !waits && dialogs.read(id, Dialog::owes) == Some(true) {
            dialogs.paid(cx, id, plan.cdr.id().short());
        }
    }

    /// Looks for calls that this node owes a record and has forgotten about: it died, and its
    /// peers have told it of them again; and for those of a node that stays away. What is in the database already is only called paid.
    pub(crate) fn look_for_debts(&self, cx: &mut Cx<'_>) {
        cx.set_timer(cx.now.after_s(LOOK_EVERY_S), Timer { kind: timer::DEBTS, id: 0 });
        let Some(dialogs) = self.dialogs(cx).filter(|d| d.table.in_state(Phase::Deleted) > 0)
        else {
            return;
        };
        let me = cx.node.membership().node_id();
        let in_flight_s = cx.now.unix_s().saturating_sub(IN_FLIGHT_S);
        let before = u32::try_from(in_flight_s.max(self.started_s())).unwrap_or(0);
        let long_ago = u32::try_from(in_flight_s).unwrap_or(0);
        for id in dialogs.table.ids() {
            let owed = dialogs.read(id, |d| {
                let debtor = d.debt.as_ref().filter(|debt| debt.is_open())?.node;
                let since = if debtor == me { before } else { long_ago };
                (d.state == Phase::Deleted && d.ended_s < since).then(|| (debtor, d.clone()))
            });
            let Some((debtor, dialog)) = owed.flatten() else { continue };
            if debtor != me {
                dialogs.claim_again(cx, id);
                continue;
            }
            let plan = plan::read(&dialog, &self.params.extra, &self.params.legs);
            let Some(mut plan) = plan.filter(|plan| !self.is_on_its_way(plan)) else { continue };
            plan.cdr.ended_ms = dialog.ended_ms();
            let (mut owed, payer) = (Marks::default(), payer(plan.marks));
            owed.add(payer, plan.marks.of(payer));
            self.write_plan(cx, &plan, id, owed);
        }
    }

    /// A call of which no Tandem node says that it owes the record was ended by a stock node: the
    /// record is written by the node whose tag is active.
    fn is_for_us(&self, cx: &Cx<'_>, dialog: &Dialog) -> bool {
        if dialog.debt.is_some() {
            return false;
        }
        let Some(tags) = cx.node.membership().tags() else { return false };
        let name = dialog.tag().map(|tag| tag.split_once('/').map_or(tag, |(name, _)| name));
        name.is_some_and(|name| tags.snapshot().iter().any(|v| v.active && v.name == name))
    }

    /// Tells dialogs what is paid.
    pub(crate) fn settle(&self, cx: &mut Cx<'_>) {
        let paid: Vec<_> = self.ledgers().flat_map(Ledger::take_paid).collect();
        if paid.is_empty() {
            return;
        }
        let Some(dialogs) = self.dialogs(cx) else { return };
        for paid in paid {
            let id = DialogId { entry: paid.call.entry, id: paid.call.id };
            dialogs.paid(cx, id, paid.id.short());
        }
    }

    /// Whether the callee sent a request: its dialog knows, or its Route says who the caller is.
    pub(crate) fn is_upstream(&self, cx: &Cx<'_>, ctx: &Ctx, request: &Message) -> bool {
        if let Some(current) = self.dialogs(cx).and_then(|dialogs| dialogs.current(ctx)) {
            return current.sender == Side::Callee;
        }
        let params = tandem_rr::taken_params(cx.node, ctx);
        let caller = params.as_ref().and_then(|p| Params::new(p).value(b"ftag"));
        caller.is_some_and(|tag| request.from_tag() != Some(tag))
    }

    /// The plan of the dialog of a message, as an account of its own.
    pub(crate) fn account_of_dialog(&self, cx: &Cx<'_>, ctx: &Ctx) -> Option<Account> {
        let dialogs = self.dialogs(cx)?;
        let current = dialogs.current(ctx)?;
        let read = |d: &Dialog| plan::read(d, &self.params.extra, &self.params.legs);
        let plan = dialogs.read(current.id, read)??;
        let state = State {
            extra: plan.cdr.extra,
            legs: plan.cdr.legs,
            dialog: Some(current.id),
            ..State::default()
        };
        Some(Account::with(ctx.msg.clone(), state))
    }

    /// The account of the message of a context, made if it is missing. Within a call it begins with
    /// the fields that the dialog keeps, and what changes in those is kept there.
    pub(crate) fn account(&self, cx: &Cx<'_>, ctx: &mut Ctx) -> Option<Arc<Account>> {
        if let Some(found) = Account::find(cx.slot, ctx) {
            return Some(found);
        }
        let kept = self.account_of_dialog(cx, ctx);
        let account = Account::of(cx.slot, ctx)?;
        let detects = self.params.detect_direction;
        let is_upstream = detects && self.is_upstream(cx, ctx, &account.request);
        let kept = kept.map(|kept| kept.state.into_inner()).unwrap_or_default();
        *account.state.lock() = State { is_upstream, ..kept };
        Some(account)
    }

    /// The dialog that the request of a context makes.
    pub(crate) fn call_of(&self, cx: &Cx<'_>, ctx: &Ctx) -> Option<DialogId> {
        let current = self.dialogs(cx)?.current(ctx)?;
        (current.kind == Kind::Initial).then_some(current.id)
    }

    /// The account of the message, or that of a request within a call whose fields are kept.
    pub(crate) fn known_account(&self, cx: &Cx<'_>, ctx: &mut Ctx) -> Option<Arc<Account>> {
        let known = Account::find(cx.slot, ctx);
        known.or_else(|| {
            self.account_of_dialog(cx, ctx)?;
            self.account(cx, ctx)
        })
    }

    /// Keeps a field that a script has changed in the dialog.
    pub(crate) fn keep_extra(&self, cx: &mut Cx<'_>, id: DialogId, state: &State) {
        if let Some(dialogs) = self.dialogs(cx) {
            let (name, value) = plan::extra_value(state, &self.params.extra);
            let _ = dialogs.change(cx, id, Change::Value { name, value: Some(value) });
        }
    }

    /// The same for the legs, if they are those of a call that has been answered.
    pub(crate) fn keep_legs(&self, cx: &mut Cx<'_>, account: &Account) {
        let (id, value) = {
            let state = account.state.lock();
            (state.dialog, plan::legs_value(&state, &self.params.legs))
        };
        if let (Some(id), Some((name, value))) = (id, value)
            && let Some(dialogs) = self.dialogs(cx)
        {
            let _ = dialogs.change(cx, id, Change::Value { name, value: Some(value) });
        }
    }
}

/// Which record pays what a call owes: the one in a database, which knows what it has; else the one
/// that a RADIUS server gets.
fn payer(marks: Marks) -> Backend {
    if marks.of(Backend::Db) & CDR != 0 { Backend::Db } else { Backend::Aaa }
}
