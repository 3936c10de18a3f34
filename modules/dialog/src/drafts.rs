//! Calls that ring, as other nodes know them. What was never answered is in no node's table but
//! that of its own. So that the answer to a call whose node dies meanwhile still makes a call with
//! a record, Tandem peers keep a draft of it: the dialog as it is, and what modules have attached
//! to its transaction. A draft does nothing and counts nowhere. When the answer passes by a node
//! (see `passed.rs`) and the node of the call does not take it up, one that has the draft makes
//! the dialog of it.

mod turns;

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeFrom;

use bytes::Bytes;
use parking_lot::Mutex;
use tandem_clock::{MS, Mono, SEC};
use tandem_cluster::{Change as Telling, Payload};
use tandem_engine::log::Level;
use tandem_engine::module::{Cx, Timer};
use tandem_engine::outbox::Record;
use tandem_sip::Message;
use tandem_tm::{Tm, TxRef};

use crate::change::Origin;
use crate::current::{array, byte, take, text};
use crate::id::DialogId;
use crate::local::Local;
use crate::passed::FOLLOW;
use crate::record::{Dialog, State, Text};
use crate::replication::{empty, fields};
use crate::state::Dialogs;
use crate::table::Table;
use crate::unseen::{LATE_MS_MAX, to_caller};

pub(crate) use turns::Turns;

/// The packet of a Tandem peer that carries one, and its version.
pub(crate) const DRAFT: u32 = 104;
const VERSION: u8 = 1;
/// The section that says which incarnation of its node wrote a draft. No module is called so, so a
/// node that does not know it leaves it alone.
const LIFE: &str = "incarnation";
/// One of a call that has been at several nodes, or goes to another.
const VERSION_MOVED: u8 = 2;
/// Draws up the draft of a call that still rings; the id is that of the dialog.
pub(crate) const DRAW_UP: u32 = 70;

/// Drafts, their bytes in all and those of one, at most.
const DRAFTS_MAX: usize = 20_000;
const BYTES_MAX: usize = 64 << 20;
const ONE_BYTES_MAX: usize = 48 << 10;
/// What a draft may get larger by until it is told.
const ROOM_TO_GROW: usize = 1 << 10;
/// Those that are looked at for a reply: of one slot of the hash, where there are a few.
const ALIKE_MAX: usize = 64;
/// No call rings for longer.
pub(crate) const PATIENCE_NS: u64 = 300 * SEC;
/// The node of the call has so long to take the answer up itself, if it is there.
const FIRST_NS: u64 = 250 * MS;

/// The turn of a call that nobody answered: there is none behind it.
const OVER: u8 = u8::MAX;

/// Own drafts that a peer is told of when it comes, at most.
const TOLD_AGAIN_MAX: usize = 4_000;

#[derive(Debug, Default)]
pub(crate) struct Drafts(Mutex<Kept>);

/// Calls of this node that peers have had a draft of, in the order in which it was drawn up; they
/// need not ring any more.
#[derive(Debug, Default)]
pub(crate) struct DrawnUp(Mutex<VecDeque<DialogId>>);

#[derive(Debug, Default)]
struct Kept {
    all: BTreeMap<u64, Entry>,
    /// In the order in which they came; one that has gone since stays until its turn.
    order: VecDeque<(Mono, u64)>,
    bytes: usize,
}

/// One that is kept.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) draft: Bytes,
    /// When it came.
    pub(crate) at: Mono,
    /// The incarnation that its node had then.
    incarnation: Option<u64>,
    /// When its answer was first looked at.
    answered_at: Option<Mono>,
}

/// What a draft says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Draft {
    did: DialogId,
    /// The node of the call.
    pub(crate) node: u32,
    /// That node has let go of the call: it is whoever's acts for it.
    pub(crate) given: bool,
    /// How often the call has changed its node.
    pub(crate) turn: u8,
    /// What the Vias of the INVITE begin with.
    tx: Text,
    /// The dialog; empty: the draft is withdrawn.
    pub(crate) record: Bytes,
    /// Names of modules, and what they have attached.
    sections: Vec<(String, Bytes)>,
}

impl Kept {
    fn remove(&mut self, number: u64) {
        if let Some(gone) = self.all.remove(&number) {
            self.bytes -= gone.draft.len();
        }
    }

    fn keep(&mut self, now: Mono, number: u64, draft: Bytes, incarnation: Option<u64>) {
        self.remove(number);
        while let Some(&(at, first)) = self.order.front() {
            let full = self.all.len() >= DRAFTS_MAX
                || self.bytes + draft.len() > BYTES_MAX
                || self.order.len() >= 2 * DRAFTS_MAX;
            if !full && now.saturating_sub(at) < PATIENCE_NS {
                break;
            }
            self.order.pop_front();
            // It may have come again since.
            if self.all.get(&first).is_some_and(|entry| entry.at == at) {
                self.remove(first);
            }
        }
        self.bytes += draft.len();
        self.order.push_back((now, number));
        self.all.insert(number, Entry { draft, at: now, incarnation, answered_at: None });
    }
}

impl Drafts {
    pub(crate) fn remove(&self, id: DialogId) {
        self.0.lock().remove(id.number());
    }

    /// Up to so many, from that number on.
    pub(crate) fn some(&self, numbers: RangeFrom<u64>, most: usize) -> Vec<DialogId> {
        let known = self.0.lock();
        known.all.range(numbers).take(most).map(|(n, _)| DialogId::from_number(*n)).collect()
    }

    pub(crate) fn get(&self, id: DialogId) -> Option<Entry> {
        self.0.lock().all.get(&id.number()).cloned()
    }

    pub(crate) fn has(&self, id: DialogId) -> bool {
        self.0.lock().all.contains_key(&id.number())
    }
}

impl Draft {
    /// The turn of the next node that has the call.
    pub(crate) fn next_turn(&self) -> u8 {
        self.turn.saturating_add(1).min(OVER - 1)
    }

    /// What a module has attached.
    pub(crate) fn section(&self, module: &str) -> Option<&Bytes> {
        self.sections.iter().find(|(name, _)| name == module).map(|(_, bytes)| bytes)
    }

    /// The incarnation of its node that wrote it, if it says so. Who heard it may know of a later
    /// one already: what was on its way when the node died is read behind the next greeting.
    fn life(&self) -> Option<u64> {
        let bytes = self.section(LIFE)?;
        Some(u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?))
    }

    fn encode(&self) -> Bytes {
        let Self { did, node, given, turn, tx, record, sections } = self;
        let mut out = if *given || *turn > 0 {
            vec![VERSION_MOVED, u8::from(*given), *turn]
        } else {
            vec![VERSION]
        };
        out.extend_from_slice(&did.number().to_le_bytes());
        out.extend_from_slice(&node.to_le_bytes());
        text(&mut out, tx);
        text(&mut out, record);
        out.push(u8::try_from(sections.len()).unwrap_or(u8::MAX));
        for (name, bytes) in sections.iter().take(u8::MAX.into()) {
            text(&mut out, name.as_bytes());
            text(&mut out, bytes);
        }
        out.into()
    }

    /// `None`: it is none, or one of another version, or larger than any.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let rest = &mut rest;
        let (given, turn) = match byte(rest)? {
            _ if bytes.len() > ONE_BYTES_MAX => return None,
            VERSION => (false, 0),
            VERSION_MOVED => (byte(rest)? & 1 == 1, byte(rest)?),
            _ => return None,
        };
        let did = DialogId::from_number(u64::from_le_bytes(array(rest)?));
        let node = u32::from_le_bytes(array(rest)?);
        let (tx, record) = (take(rest)?, Bytes::from(take(rest)?.into_vec()));
        let mut sections = Vec::new();
        for _ in 0..byte(rest)? {
            let name = String::from_utf8(take(rest)?.into_vec()).ok()?;
            sections.push((name, take(rest)?.into_vec().into()));
        }
        rest.is_empty().then_some(Self { did, node, given, turn, tx, record, sections })
    }
}

impl Dialogs {
    /// The INVITE is about to leave: peers are told in the same turn, when the script has said all.
    /// Streams are written before datagrams, so whoever answers it answers a call that is known.
    pub(crate) fn plan_draft(&self, cx: &mut Cx<'_>, id: DialogId) {
        let planned = |local: &mut Local| std::mem::replace(&mut local.draws_up, true);
        if self.is_replicated() && self.table.local(id, |_, local| planned(local)) == Some(false) {
            cx.come_back(Timer { kind: DRAW_UP, id: id.number() });
        }
    }

    pub(crate) fn draw_up(&self, cx: &mut Cx<'_>, did: DialogId) {
        if self.draw(cx, did) {
            if self.read(did, |d| self.is_anothers(cx, d)) == Some(true) {
                self.begin_giving(cx);
            }
            let mut all = self.drawn_up.0.lock();
            if all.len() >= TOLD_AGAIN_MAX {
                all.pop_front();
            }
            all.push_back(did);
        }
    }

    /// A peer is there again: what still rings is drawn up for it, and it is told of what rings or
    /// rang on other nodes. They may be its own calls from before it was started again.
    pub(crate) fn draw_up_again(&self, cx: &mut Cx<'_>) {
        let others: Vec<Bytes> = {
            let known = self.drafts.0.lock();
            let fresh = |at| cx.now.mono_ns.saturating_sub(at) < PATIENCE_NS;
            let newest = known.order.iter().rev().take(TOLD_AGAIN_MAX);
            let kept =
                newest.filter_map(|(at, number)| known.all.get(number).filter(|e| e.at == *at));
            kept.filter(|entry| fresh(entry.at)).map(|entry| entry.draft.clone()).collect()
        };
        let node = cx.node.membership().node_id();
        // Only who has given a call away knows that nobody has it.
        let is_known = |draft: &Draft| !draft.given || draft.node == node;
        for draft in others.iter().filter_map(|bytes| Draft::parse(bytes)).filter(is_known) {
            self.tell_draft(cx, &draft);
        }
        let mut all = std::mem::take(&mut *self.drawn_up.0.lock());
        all.retain(|did| self.draw(cx, *did));
        let mut newer = self.drawn_up.0.lock();
        all.append(&mut newer);
        *newer = all;
    }

    /// Tells peers the draft of a call; false: it does not ring any more.
    fn draw(&self, cx: &mut Cx<'_>, did: DialogId) -> bool {
        let draft = self.drawn(cx, did);
        draft.inspect(|draft| self.tell_draft(cx, draft)).is_some()
    }

    /// The draft of a call of this node; `None`: it does not ring any more.
    fn drawn(&self, cx: &mut Cx<'_>, did: DialogId) -> Option<Draft> {
        let found = self.table.local(did, |d, local| {
            local.draws_up = false;
            let tx = local.invite.filter(|_| d.state < State::Unacked)?;
            local.drafted = true;
            Some((tx, fields::encode(d, &self.flag_names)))
        });
        let (tx, record) = found??;
        let (slot, tm) = cx.node.find::<Tm>()?;
        let sections = cx.for_slot(slot, |cx| tm.sections_of(cx, tx));
        let sections = sections.into_iter().map(|(name, bytes)| (name.to_owned(), bytes));
        let sections = sections.chain(self.own_life(cx)).collect();
        let node = cx.node.membership().node_id();
        let (given, turn, tx) = (false, self.turns.of(did), tx.text().into());
        Some(Draft { did, node, given, turn, tx, record, sections })
    }

    /// What tells in a draft which life of this node wrote it.
    fn own_life(&self, cx: &Cx<'_>) -> Option<(String, Bytes)> {
        let (tags, me) = (cx.node.membership().tags()?, cx.node.membership().node_id());
        let life = tags.incarnation(self.params.cluster, me)?;
        Some((LIFE.to_owned(), Bytes::copy_from_slice(&life.to_le_bytes())))
    }

    /// Lets go of a call that rings here: it is whoever's acts for it. False: not now.
    pub(crate) fn give_call(&self, cx: &mut Cx<'_>, did: DialogId) -> bool {
        let tx = self.table.local(did, |_, local| local.invite).flatten();
        let (Some(tx), Some((slot, tm))) = (tx, cx.node.find::<Tm>()) else { return false };
        // One that is larger than any could not be told.
        let fits = |draft: &Draft| draft.encode().len() + ROOM_TO_GROW <= ONE_BYTES_MAX;
        if !self.drawn(cx, did).is_some_and(|draft| fits(&draft)) {
            return false;
        }
        let node = cx.node.membership().node_id();
        let told = |cx: &mut Cx<'_>, sections: Vec<(&'static str, Bytes)>| {
            let sections = sections.into_iter().map(|(name, s)| (name.to_owned(), s)).collect();
            let record = self.read(did, |d| fields::encode(d, &self.flag_names));
            let (record, tx) = (record.unwrap_or_default(), tx.text().into());
            let (given, turn) = (true, self.turns.of(did));
            let draft = Draft { did, node, given, turn, tx, record, sections };
            self.tell_draft(cx, &draft);
            // It may come back before another node has taken it.
            self.drafts.0.lock().keep(cx.now.mono_ns, did.number(), draft.encode(), None);
            // It must not end with its transaction: peers would hear that it is over.
            self.table.remove(did);
        };
        cx.for_slot(slot, |cx| tm.give_away(cx, tx, told))
    }

    /// A call was not answered: nobody has to know it any more.
    pub(crate) fn withdraw(&self, cx: &Cx<'_>, did: DialogId) {
        let was = self.table.local(did, |_, local| std::mem::take(&mut local.drafted));
        if was == Some(true) {
            self.tell_over(cx, did, self.turns.of(did));
            self.turns.note(cx.now.mono_ns, did, OVER);
        }
    }

    /// Tells that a call rings no more.
    fn tell_over(&self, cx: &Cx<'_>, did: DialogId, turn: u8) {
        let node = cx.node.membership().node_id();
        let (tx, record, sections) = (Text::default(), Bytes::new(), Vec::new());
        self.tell_draft(cx, &Draft { did, node, given: false, turn, tx, record, sections });
    }

    fn tell_draft(&self, cx: &Cx<'_>, draft: &Draft) {
        let bytes = draft.encode();
        if bytes.len() > ONE_BYTES_MAX {
            return;
        }
        let tandem = Payload { kind: DRAFT, version: 1, bytes };
        let stamp = cx.node.outbox.stamp(cx.now);
        let change = Telling { stock: None, tandem: Some(tandem), stamp };
        let record = Record { slot: self.slot, part: 0, change };
        cx.node.outbox.append(Table::shard_of(draft.did), record);
    }

    /// A call rings on a peer, or does no longer; `None`: it cannot be read.
    pub(crate) fn heard_draft(&self, cx: &mut Cx<'_>, bytes: &Bytes) -> Option<()> {
        let draft = Draft::parse(bytes)?;
        let is_anothers = draft.node != cx.node.membership().node_id();
        if draft.record.is_empty() {
            self.drafts.remove(draft.did);
            // No draft of it that is told late brings it back.
            self.turns.note(cx.now.mono_ns, draft.did, OVER);
            if is_anothers && self.read(draft.did, |d| d.state < State::Unacked) == Some(true) {
                self.leave_call(cx, draft.did);
            }
            return Some(());
        }
        let head = fields::read_heading(&draft.record)?;
        let id = DialogId { entry: self.table.entry_of(&head.call_id), ..head.id };
        if draft.did != id {
            return Some(());
        }
        // It has been answered here: the nodes that have it as one that rings did not hear of that.
        if self.table.is_buried(id) || self.read(id, |d| d.answered_s != 0) == Some(true) {
            if is_anothers {
                self.tell_known(cx, id);
            }
            return Some(());
        }
        match self.turns.of(draft.did) {
            // Its node has not heard of it: the two did not see each other.
            OVER if is_anothers => {
                self.tell_over(cx, draft.did, draft.turn);
                return Some(());
            }
            // From before this node had the call.
            turn if draft.turn < turn => return Some(()),
            _ => {}
        }
        if let Some(leaves) = self.read(id, |d| d.state < State::Unacked && !self.is_ours(cx, d)) {
            // It rings here as well. Only one of the two goes on.
            if leaves && is_anothers {
                self.leave_call(cx, id);
            } else {
                return Some(());
            }
        }
        {
            let mut known = self.drafts.0.lock();
            // One that is told again stays as old as it is, and none comes behind a newer one.
            let newer = |entry: &Entry| {
                let known = Draft::parse(&entry.draft).map(|known| (known.turn, known.given));
                entry.draft == *bytes || known > Some((draft.turn, draft.given))
            };
            if known.all.get(&id.number()).is_some_and(newer) {
                return Some(());
            }
            let tags = cx.node.membership().tags();
            let now = || tags.and_then(|t| t.incarnation(self.params.cluster, draft.node));
            let incarnation = draft.life().or_else(now);
            known.keep(cx.now.mono_ns, id.number(), bytes.clone(), incarnation);
        }
        // Its answer may have passed before.
        self.follow(cx, id);
        self.take_over_call(cx, id);
        Some(())
    }

    /// Whether the node of a draft is there, and has been since it told it.
    pub(crate) fn still_rings(&self, cx: &Cx<'_>, draft: &Draft, entry: &Entry) -> bool {
        let Some(tags) = cx.node.membership().tags() else { return false };
        let incarnation = tags.incarnation(self.params.cluster, draft.node);
        let is_over = was_started_again(entry.incarnation, incarnation);
        tags.is_reachable(self.params.cluster, draft.node) && !is_over
    }

    /// The call of a reply, if it is known as one that rings.
    pub(crate) fn drafted_as(&self, reply: &Message) -> Option<DialogId> {
        let via = reply.top_via().ok()?.branch?;
        let entry = u64::from(self.table.entry_of(reply.call_id()?)) << 32;
        let known = self.drafts.0.lock();
        let all = known.all.range(entry..=entry | u64::from(u32::MAX)).take(ALIKE_MAX);
        let named = |draft: &Draft| TxRef::branch_in(&draft.tx, via).is_some();
        let found = all.filter_map(|(_, entry)| Draft::parse(&entry.draft)).find(named);
        found.map(|draft| draft.did)
    }

    /// The answer to a call of another node has passed: the call goes on here, unless its node
    /// takes the answer up. `at_ms` is when it passed, in Unix milliseconds.
    pub(crate) fn adopt_draft(&self, cx: &mut Cx<'_>, id: DialogId, reply: &Bytes, at_ms: u64) {
        let now = cx.now.mono_ns;
        let found = {
            let mut known = self.drafts.0.lock();
            known.all.get_mut(&id.number()).map(|entry| {
                entry.answered_at.get_or_insert(now);
                entry.clone()
            })
        };
        let Some(entry) = found else { return };
        if now.saturating_sub(entry.at) >= PATIENCE_NS || self.table.is_buried(id) {
            return self.drafts.remove(id);
        }
        let Some(draft) = Draft::parse(&entry.draft) else { return self.drafts.remove(id) };
        // What rang here rang on this node before it was started again.
        let is_own = draft.node == cx.node.membership().node_id();
        let lives = !is_own && !draft.given && self.still_rings(cx, &draft, &entry);
        if lives && now < entry.answered_at.unwrap_or(now).saturating_add(FIRST_NS) {
            let again = Timer { kind: FOLLOW, id: id.number() };
            return cx.set_timer(cx.now.after_ms(FIRST_NS / MS), again);
        }
        if self.make_of(cx, id, &draft, reply, at_ms).is_some() {
            self.drafts.remove(id);
        }
    }

    /// Makes the dialog of a draft and lets everybody hear of the answer. `None`: this is not the
    /// answer to it.
    fn make_of(
        &self,
        cx: &mut Cx<'_>,
        id: DialogId,
        draft: &Draft,
        reply: &Bytes,
        at_ms: u64,
    ) -> Option<()> {
        let reply = Message::parse(reply.clone()).ok()?;
        let branch = TxRef::branch_in(&draft.tx, reply.top_via().ok()?.branch?)?;
        let mut dialog = empty(id, reply.call_id()?);
        fields::lay_over(&mut dialog, &draft.record, &self.flag_names)?;
        let rings = |d: &Dialog| d.state < State::Unacked && d.answered_s == 0;
        let fits = dialog.has_call_id(reply.call_id()?)
            && Some(&*dialog.caller.tag) == reply.from_tag()
            && rings(&dialog);
        if !fits {
            return None;
        }
        // Who takes it up is responsible for it from now on.
        (dialog.id, dialog.creator) = (id, 0);
        let to_caller = to_caller(&reply)?;
        let now = cx.now;
        cx.now.unix_ms = at_ms.clamp(now.unix_ms.saturating_sub(LATE_MS_MAX), now.unix_ms);
        if self.insert(cx, dialog, self.new_local(), Origin::Local).is_ok() {
            let sections = draft.sections.iter().map(|(name, bytes)| (name, bytes.clone()));
            let attached = tandem_tm::attached_of(cx, sections);
            self.answered_elsewhere(cx, &attached, branch, &to_caller);
        }
        cx.now = now;
        // Its time is known, but not by the clock of this node.
        self.table.local(id, |_, local| local.answered_at_ms = 0);
        if self.read(id, rings) == Some(true) {
            self.table.remove(id);
            return None;
        }
        cx.log(Level::Notice, "a call that rang on another node goes on here");
        Some(())
    }
}

/// Whether a node lives another life than the one that is meant, as far as both are known.
fn was_started_again(then: Option<u64>, now: Option<u64>) -> bool {
    then.zip(now).is_some_and(|(then, now)| then != now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_draft_that_is_read_late_is_of_the_life_that_wrote_it() {
        let draft = |sections| {
            let (did, tx) = (DialogId::from_number(7), Text::default());
            let record = Bytes::from_static(b"r");
            Draft { did, node: 2, given: false, turn: 0, tx, record, sections }
        };
        let life = Bytes::copy_from_slice(&5_u64.to_le_bytes());
        let read = |draft: Draft| Draft::parse(&draft.encode()).unwrap().life();
        assert_eq!(read(draft(vec![("tm".into(), Bytes::new()), (LIFE.into(), life)])), Some(5));
        assert_eq!(read(draft(vec![(LIFE.into(), Bytes::from_static(b"1234567"))])), None);
        assert_eq!(read(draft(Vec::new())), None, "of a node that does not say it");
        assert!(was_started_again(Some(5), Some(6)) && !was_started_again(Some(5), Some(5)));
        assert!(!was_started_again(None, Some(6)) && !was_started_again(Some(5), None));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            number in any::<u64>(), node in any::<u32>(),
            (given, turn) in any::<(bool, u8)>(),
            tx in prop::collection::vec(any::<u8>(), 0..9),
            record in prop::collection::vec(any::<u8>(), 0..40),
            sections in prop::collection::vec(("[a-z_]{0,9}", "[ -~]{0,20}"), 0..4)
        ) {
            let sections = sections.into_iter().map(|(name, s)| (name, s.into())).collect();
            let (did, record) = (DialogId::from_number(number), record.into());
            let draft = Draft { did, node, given, turn, tx: tx.into(), record, sections };
            let bytes = draft.encode();
            prop_assert_eq!(Draft::parse(&bytes[..bytes.len() - 1]), None);
            prop_assert_eq!(Draft::parse(&bytes), Some(draft));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Draft::parse(&bytes);
        }
    }

    #[test]
    fn what_is_kept_has_bounds_and_the_oldest_goes_first() {
        let mut kept = Kept::default();
        let draft = Bytes::from(vec![0; ONE_BYTES_MAX]);
        let fits = BYTES_MAX / ONE_BYTES_MAX;
        for n in 0..fits as u64 + 1 {
            kept.keep(n, n, draft.clone(), None);
        }
        assert_eq!((kept.all.len(), kept.bytes), (fits, fits * ONE_BYTES_MAX));
        assert!(!kept.all.contains_key(&0) && kept.all.contains_key(&1));
        let mut kept = Kept::default();
        for n in 0..5 * DRAFTS_MAX as u64 {
            kept.keep(n, n % (DRAFTS_MAX as u64 + 7), Bytes::from_static(b"x"), None);
        }
        assert!(kept.all.len() <= DRAFTS_MAX && kept.order.len() <= 2 * DRAFTS_MAX);
        assert_eq!(kept.bytes, kept.all.len());
        kept.keep(PATIENCE_NS * 2, 1, Bytes::from_static(b"x"), None);
        assert_eq!((kept.all.len(), kept.order.len(), kept.bytes), (1, 1, 1));
    }
}
