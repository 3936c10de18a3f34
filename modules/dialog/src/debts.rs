//! What is owed for a call at its end: records of it that must be written exactly once, whoever
//! lives (decisions: "CDRs").
//!
//! Who keeps accounts says which records a call owes when it ends. The end is replicated with the
//! name of the node that now has to write them; when a peer has that, the writers hear of the end;
//! what they have written they call paid. Should the node die in between, its successor is told
//! that the debt is its own.

use tandem_engine::dialog::DialogMoment;
use tandem_engine::module::Cx;
use tandem_sip::Message;

use crate::change::Change;
use crate::id::DialogId;
use crate::record::{Debt, Dialog};
use crate::state::Dialogs;

/// Ends that wait for a peer, at most; a further one is told at once.
const WAITING_MAX: usize = 100_000;

/// Ends whose writers are told when a peer knows of them.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    next: u64,
    all: std::collections::BTreeMap<u64, (DialogId, Option<Message>)>,
}

impl Debt {
    /// Whether something is left to be written.
    pub fn is_open(&self) -> bool {
        !self.paid && !self.ids.is_empty()
    }
}

impl Dialog {
    /// Whether something is left to be written for the call.
    pub fn owes(&self) -> bool {
        self.debt.as_ref().is_some_and(Debt::is_open)
    }
}

impl Dialogs {
    /// The end of a call, with what is owed from then on.
    pub(crate) fn with_debt(&self, cx: &Cx<'_>, id: DialogId, end: Change) -> Change {
        // Where no peer could pay, nobody has to know.
        if !self.is_replicated() {
            return end;
        }
        let record = self.read(id, |d| d.state.is_answered().then(|| d.clone())).flatten();
        let Some(record) = record else { return end };
        let (mut ids, mut place) = (Vec::new(), u64::MAX);
        for (_, def, module) in cx.node.loaded() {
            if record.section(def.name).is_some() || module.adopts(&record) {
                let before = ids.len();
                ids.extend(module.owes(&record));
                if ids.len() > before {
                    place = place.min(module.pays_into());
                }
            }
        }
        if ids.is_empty() {
            return end;
        }
        let node = cx.node.membership().node_id();
        let debt = Debt { ids, node, place, paid: false, ended_ms: cx.now.unix_ms };
        Change::Many(vec![Change::Debt(Some(debt)), end])
    }

    /// What a call owed has been written.
    pub fn paid(&self, cx: &mut Cx<'_>, id: DialogId, record: u64) {
        let debt = self.read(id, |d| d.debt.clone()).flatten();
        if let Some(debt) = debt.filter(|debt| debt.is_open() && debt.ids.contains(&record)) {
            let paid = Change::Debt(Some(Debt { paid: true, ..debt }));
            // A dialog that is gone has been paid by somebody else.
            let _ = self.change(cx, id, paid);
        }
    }

    /// Tells peers where this node pays what it owed before it knew that itself.
    pub fn now_pays_into(&self, cx: &mut Cx<'_>, place: u64) {
        let me = cx.node.membership().node_id();
        let is_it = |debt: &Debt| debt.is_open() && debt.node == me && debt.place == 0;
        for id in self.table.ids() {
            let debt = self.read(id, |d| d.debt.clone().filter(is_it)).flatten();
            if let Some(debt) = debt {
                let _ = self.change(cx, id, Change::Debt(Some(Debt { place, ..debt })));
            }
        }
    }

    /// Asks again who pays for a call, if the node that owes it is still gone.
    pub fn claim_again(&self, cx: &mut Cx<'_>, id: DialogId) {
        let tags = cx.node.membership().tags().cloned();
        let owed = |d: &Dialog| {
            !d.state.is_alive() && self.is_orphaned(tags.as_deref(), d) && self.is_ours(cx, d)
        };
        if self.read(id, owed) == Some(true) {
            cx.for_slot(self.slot, |cx| self.claim(cx, id));
        }
    }

    /// Tells the writers of an end: at once, or when a peer knows of the debt.
    pub(crate) fn tell_end(&self, cx: &mut Cx<'_>, record: &Dialog, msg: Option<&Message>) {
        if !record.owes() || !self.is_replicated() {
            return self.tell(cx, DialogMoment::Ended, record, msg);
        }
        let token = {
            let mut waiting = self.waiting.lock();
            let room = waiting.all.len() < WAITING_MAX;
            room.then(|| {
                waiting.next += 1;
                let token = waiting.next;
                waiting.all.insert(token, (record.id, msg.cloned()));
                token
            })
        };
        match token {
            Some(token) => cx.when_acknowledged(token),
            None => self.tell(cx, DialogMoment::Ended, record, msg),
        }
    }

    /// The node stops: no end waits for a peer any more.
    pub(crate) fn tell_all_ends(&self, cx: &mut Cx<'_>) {
        let tokens: Vec<u64> = self.waiting.lock().all.keys().copied().collect();
        tokens.into_iter().for_each(|token| self.end_acknowledged(cx, token));
    }

    /// A peer knows of an end.
    pub(crate) fn end_acknowledged(&self, cx: &mut Cx<'_>, token: u64) {
        let waiting = self.waiting.lock().all.remove(&token);
        let Some((id, msg)) = waiting else { return };
        let Some(record) = self.read(id, Dialog::clone) else { return };
        self.tell(cx, DialogMoment::Ended, &record, msg.as_ref());
    }
}
