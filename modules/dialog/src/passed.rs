//! What passed by. While two nodes serve one address, or right after a takeover, the answer to a
//! call, its ACK or its BYE may go over a node that does not have the dialog. The message goes on
//! by its Vias or Routes. The node remembers it and tells its Tandem peers, and the dialog follows
//! where it is, or when it comes: a call is then answered and ended at the times that the phones
//! saw, whichever way their messages took.

use std::collections::BTreeMap;

use bytes::Bytes;
use parking_lot::Mutex;
use tandem_clock::{Mono, SEC};
use tandem_cluster::{Change as Telling, Payload};
use tandem_engine::log::Level;
use tandem_engine::module::{Cx, Timer};
use tandem_engine::outbox::Record;
use tandem_sip::{HeaderName, Message, Method, NameAddr, Uri};

use crate::change::{Change, Origin};
use crate::current::{array, byte, take, text};
use crate::id::DialogId;
use crate::local::Local;
use crate::record::{Dialog, EndReason, Side, State, Text};
use crate::state::Dialogs;
use crate::table::Table;
use crate::unseen::LATE_MS_MAX;

/// The packet of a Tandem peer that carries one, and its version.
pub(crate) const PASSED: u32 = 103;
const VERSION: u8 = 1;
/// Tells peers that are there again; the id is how often it has been done.
pub(crate) const TELL_AGAIN: u32 = 68;
/// When they are told, after they came: their streams may not be ready at once.
const TELL_AGAIN_MS: [u64; 3] = [1, 500, 2_000];

/// Looks again whether this node acts for a dialog by now; the id is that of the dialog.
pub(crate) const FOLLOW: u32 = 69;
/// After this: who holds a tag is not settled in the moment in which nodes meet again.
const FOLLOW_MS: u64 = 500;

/// What a node writes of an answer comes in one piece, or nearly so.
const ALL_MS: u64 = 50;

/// Dialogs of which something is remembered, at most.
const PASSED_MAX: usize = 10_000;
/// Bytes of answers, in all and each, at most.
const ANSWERS_BYTES_MAX: usize = 8 << 20;
const ANSWER_BYTES_MAX: usize = 16_384;
/// Call-ID and tags of one, at most: what phones use is far shorter.
const TEXTS_BYTES_MAX: usize = 512;
/// How long a dialog may come behind its messages: a link that was cut is tried again after
/// `node_timeout`.
const PATIENCE_NS: u64 = 300 * SEC;

#[derive(Debug, Default)]
pub(crate) struct Passed(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    all: BTreeMap<u64, Sighting>,
    /// Of the answers.
    bytes: usize,
}

/// What was seen of the messages of one dialog; times are Unix milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sighting {
    call_id: Text,
    /// The first 2xx to the INVITE.
    answer: Option<(Bytes, u64)>,
    acked: bool,
    bye: Option<Bye>,
    /// An ACK of a call that rings as far as this node knows, and when it came. It is told nobody.
    shown: Option<(Bytes, u64)>,
    /// When something of it was seen or heard first.
    at: Mono,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bye {
    pub(crate) from: Text,
    pub(crate) to: Text,
    /// Unix milliseconds.
    pub(crate) at_ms: u64,
}

impl Known {
    fn remove(&mut self, did: DialogId) {
        if let Some(gone) = self.all.remove(&did.number()) {
            self.bytes -= gone.answer_bytes();
        }
    }

    /// One goes for one that comes, so that a flood costs no walk; which one does not matter.
    fn make_room(&mut self) {
        while self.all.len() >= PASSED_MAX || self.bytes > ANSWERS_BYTES_MAX {
            let Some((_, gone)) = self.all.pop_first() else { return };
            self.bytes -= gone.answer_bytes();
        }
    }

    /// Adds to what is known of a dialog; `None`: nothing is new.
    fn note(
        &mut self,
        now: Mono,
        did: DialogId,
        call_id: &[u8],
        add: impl FnOnce(&mut Sighting) -> bool,
    ) -> Option<Sighting> {
        self.make_room();
        let sighting = self.all.entry(did.number()).or_default();
        // One of another call that had the name is of no use any more.
        if *sighting.call_id != *call_id {
            self.bytes -= sighting.answer_bytes();
            *sighting = Sighting { call_id: call_id.into(), ..Sighting::default() };
        }
        let before = sighting.answer_bytes();
        let new = add(sighting);
        sighting.at = if new { now } else { sighting.at };
        self.bytes += sighting.answer_bytes() - before;
        new.then(|| sighting.clone())
    }
}

impl Sighting {
    fn answer_bytes(&self) -> usize {
        let both = [&self.answer, &self.shown].into_iter().flatten();
        both.map(|(message, _)| message.len()).sum()
    }

    /// Adds what another one has; true: something was new.
    fn learn(&mut self, other: Self) -> bool {
        let Self { call_id: _, answer, acked, bye, shown: _, at: _ } = other;
        let news = (self.answer.is_none() && answer.is_some())
            | (!self.acked && acked)
            | (self.bye.is_none() && bye.is_some());
        self.acked |= acked;
        self.answer = self.answer.take().or(answer);
        self.bye = self.bye.take().or(bye);
        news
    }

    fn encode(&self, did: DialogId) -> Bytes {
        let Self { call_id, answer, acked, bye, shown: _, at: _ } = self;
        let mut out = vec![VERSION];
        out.extend_from_slice(&did.number().to_le_bytes());
        out.push(u8::from(answer.is_some()) | u8::from(*acked) << 1 | u8::from(bye.is_some()) << 2);
        text(&mut out, call_id);
        if let Some((reply, at_ms)) = answer {
            out.extend_from_slice(&at_ms.to_le_bytes());
            text(&mut out, reply);
        }
        if let Some(Bye { from, to, at_ms }) = bye {
            out.extend_from_slice(&at_ms.to_le_bytes());
            text(&mut out, from);
            text(&mut out, to);
        }
        out.into()
    }

    /// `None`: it is none, or one of another version, or larger than any.
    fn parse(bytes: &[u8]) -> Option<(DialogId, Self)> {
        let mut rest = bytes;
        let rest = &mut rest;
        if byte(rest)? != VERSION {
            return None;
        }
        let did = DialogId::from_number(u64::from_le_bytes(array(rest)?));
        let has = byte(rest)?;
        let call_id = take(rest)?;
        let mut this = Self { call_id, acked: has & 2 != 0, ..Self::default() };
        if has & 1 != 0 {
            let at_ms = u64::from_le_bytes(array(rest)?);
            this.answer = Some((take(rest)?.into_vec().into(), at_ms));
        }
        if has & 4 != 0 {
            let at_ms = u64::from_le_bytes(array(rest)?);
            this.bye = Some(Bye { from: take(rest)?, to: take(rest)?, at_ms });
        }
        let texts = this.bye.as_ref().map_or(0, |bye| bye.from.len() + bye.to.len());
        let fits = this.answer_bytes() <= ANSWER_BYTES_MAX
            && this.call_id.len() + texts <= TEXTS_BYTES_MAX;
        (rest.is_empty() && fits).then_some((did, this))
    }
}

impl Dialogs {
    /// A reply goes on that belongs to no transaction of this node.
    pub(crate) fn answer_passes(&self, cx: &mut Cx<'_>, reply: &Message) {
        let is_answer = reply.method() == Method::Invite && reply.status() / 100 == 2;
        if !is_answer || reply.bytes().len() > ANSWER_BYTES_MAX {
            return;
        }
        let param = self.params.rr_param.as_bytes();
        let named = reply.values(HeaderName::RecordRoute).find_map(|route| {
            let addr = NameAddr::parse(route.bytes).ok()?;
            DialogId::parse(Uri::parse(addr.uri).ok()?.params.value(param)?)
        });
        // The answer to a call whose sides are hidden names nothing.
        let named = named.or_else(|| self.drafted_as(reply));
        let Some(did) = named.filter(|_| self.params.cluster != 0) else { return };
        // One that is known here comes again.
        if self.read(did, |d| d.state >= State::Unacked) == Some(true) {
            return;
        }
        let answer = (reply.bytes().clone(), cx.now.unix_ms);
        self.note(cx, did, reply, |s| {
            s.answer.is_none() && {
                s.answer = Some(answer);
                true
            }
        });
        // This node may know the call as one that rings on a peer.
        if self.drafts.has(did) {
            self.follow(cx, did);
        }
    }

    /// A request that names a dialog which is not here, or not answered as far as is known here.
    pub(crate) fn request_passes(&self, cx: &mut Cx<'_>, did: DialogId, request: &Message) {
        let (Some(from), Some(to)) = (request.from_tag(), request.to_tag()) else { return };
        match request.method() {
            Method::Ack => {
                let _ = self.note(cx, did, request, |s| {
                    s.answer.is_some() && !std::mem::replace(&mut s.acked, true)
                });
                if self.drafts.has(did) {
                    self.ack_shows(cx, did, request);
                }
            }
            Method::Bye => {
                let bye = Bye { from: from.into(), to: to.into(), at_ms: cx.now.unix_ms };
                let is_new = self.note(cx, did, request, |s| s.bye.replace(bye).is_none());
                // One that rang on another node may be answered.
                let rang = |_: &Dialog, local: &mut Local| local.rang_at.is_some();
                if is_new && self.table.local(did, rang) == Some(true) {
                    let again = Timer { kind: FOLLOW, id: did.number() };
                    cx.set_timer(cx.now.after_ms(FOLLOW_MS), again);
                }
            }
            _ => {}
        }
    }

    /// An ACK of a call that rings as far as this node knows: it may have been answered over another
    /// one.
    pub(crate) fn ack_shows(&self, cx: &mut Cx<'_>, did: DialogId, ack: &Message) {
        let shown = (ack.bytes().clone(), cx.now.unix_ms);
        if shown.0.len() > ANSWER_BYTES_MAX {
            return;
        }
        let kept = self.keep(cx, did, ack, |s| {
            let is_new = s.shown.is_none();
            s.shown.get_or_insert(shown);
            is_new
        });
        if kept.is_some() {
            let again = Timer { kind: FOLLOW, id: did.number() };
            cx.set_timer(cx.now.after_ms(FOLLOW_MS), again);
        }
    }

    /// Remembers something of a message, and tells the peers if it is new.
    fn note(
        &self,
        cx: &mut Cx<'_>,
        did: DialogId,
        msg: &Message,
        add: impl FnOnce(&mut Sighting) -> bool,
    ) -> bool {
        let sighting = self.keep(cx, did, msg, add);
        sighting.inspect(|sighting| self.tell_passed(cx, did, sighting)).is_some()
    }

    /// The same without telling anybody; what is known by then, if something is new.
    fn keep(
        &self,
        cx: &Cx<'_>,
        did: DialogId,
        msg: &Message,
        add: impl FnOnce(&mut Sighting) -> bool,
    ) -> Option<Sighting> {
        let texts = [msg.call_id(), msg.from_tag(), msg.to_tag()].map(Option::unwrap_or_default);
        let long = texts.iter().map(|t| t.len()).sum::<usize>() > TEXTS_BYTES_MAX;
        if self.params.cluster == 0 || texts[0].is_empty() || long {
            return None;
        }
        self.passed.0.lock().note(cx.now.mono_ns, did, texts[0], add)
    }

    fn tell_passed(&self, cx: &Cx<'_>, did: DialogId, sighting: &Sighting) {
        let tandem = Payload { kind: PASSED, version: 1, bytes: sighting.encode(did) };
        let stamp = cx.node.outbox.stamp(cx.now);
        let change = Telling { stock: None, tandem: Some(tandem), stamp };
        let record = Record { slot: self.slot, part: 0, change };
        cx.node.outbox.append(Table::shard_of(did), record);
    }

    /// A peer is there again: it is told what has passed while it was not.
    pub(crate) fn peer_came(&self, cx: &mut Cx<'_>) {
        cx.set_timer(cx.now.after_ms(TELL_AGAIN_MS[0]), Timer { kind: TELL_AGAIN, id: 0 });
    }

    pub(crate) fn tell_again(&self, cx: &mut Cx<'_>, times: u64) {
        self.draw_up_again(cx);
        let now = cx.now.mono_ns;
        // What a peer saw that has been started again it does not know any more.
        let fresh: Vec<_> = {
            let known = self.passed.0.lock();
            let fresh = known.all.iter().filter(|(_, s)| now.saturating_sub(s.at) < PATIENCE_NS);
            fresh.map(|(did, s)| (DialogId::from_number(*did), s.clone())).collect()
        };
        for (did, sighting) in fresh {
            if self.read(did, |d| d.state) == Some(State::Deleted) || self.table.is_buried(did) {
                self.passed.0.lock().remove(did);
            } else {
                self.tell_passed(cx, did, &sighting);
            }
        }
        if let Some(ms) = TELL_AGAIN_MS.get(times as usize + 1) {
            cx.set_timer(cx.now.after_ms(*ms), Timer { kind: TELL_AGAIN, id: times + 1 });
        }
    }

    /// What passed by a peer; `None`: it cannot be read.
    pub(crate) fn heard_passed(&self, cx: &mut Cx<'_>, bytes: &[u8]) -> Option<()> {
        let (did, told) = Sighting::parse(bytes)?;
        let call_id = told.call_id.clone();
        let news = self.passed.0.lock().note(cx.now.mono_ns, did, &call_id, |s| s.learn(told));
        if news.is_some() {
            self.follow(cx, did);
        }
        Some(())
    }

    /// Lets a dialog follow what passed by: called when either comes, and when this node becomes
    /// the one that acts.
    pub(crate) fn follow(&self, cx: &mut Cx<'_>, id: DialogId) {
        let sighting = {
            let known = self.passed.0.lock();
            known.all.get(&id.number()).cloned()
        };
        let Some(sighting) = sighting else { return };
        if cx.now.mono_ns.saturating_sub(sighting.at) >= PATIENCE_NS {
            return self.passed.0.lock().remove(id);
        }
        let state = || self.read(id, |d| d.has_call_id(&sighting.call_id).then_some(d.state));
        if state().is_none()
            && let Some((reply, at_ms)) = &sighting.answer
        {
            self.adopt_draft(cx, id, reply, *at_ms);
        }
        let Some(Some(before)) = state() else { return };
        if let Some((reply, at_ms)) = &sighting.answer
            && before < State::Unacked
        {
            self.learn_passed_answer(cx, id, reply, *at_ms);
        }
        let rings = || state().flatten().is_some_and(|state| state < State::Unacked);
        if let Some((ack, at_ms)) = sighting.shown.as_ref().filter(|_| rings()) {
            self.learn_shown(cx, id, ack, *at_ms);
        } else if let Some(bye) = sighting.bye.as_ref().filter(|_| rings()) {
            self.learn_ended(cx, id, bye);
        }
        if sighting.acked && state() == Some(Some(State::Unacked)) {
            let _ = self.change_by(cx, id, Origin::Local, Change::Acked, None);
        }
        if let Some(bye) = &sighting.bye {
            self.end_by(cx, id, bye);
        }
    }

    /// The same in a moment: a call has just become an answered one, and its BYE may have passed.
    pub(crate) fn follow_soon(&self, cx: &mut Cx<'_>, id: DialogId) {
        if self.passed.0.lock().all.contains_key(&id.number()) {
            cx.set_timer(cx.now.after_ms(1), Timer { kind: FOLLOW, id: id.number() });
        }
    }

    /// The same when all is here that its node tells of the answer: who accounts writes behind it.
    pub(crate) fn follow_later(&self, cx: &mut Cx<'_>, id: DialogId) {
        if self.passed.0.lock().all.contains_key(&id.number()) {
            cx.set_timer(cx.now.after_ms(ALL_MS), Timer { kind: FOLLOW, id: id.number() });
        }
    }

    /// The same for all of them.
    pub(crate) fn follow_all(&self, cx: &mut Cx<'_>) {
        let all: Vec<u64> = self.passed.0.lock().all.keys().copied().collect();
        for did in all {
            self.follow(cx, DialogId::from_number(did));
        }
    }

    fn end_by(&self, cx: &mut Cx<'_>, id: DialogId, bye: &Bye) {
        let found = self.read(id, |d| {
            let answered = d.state.is_answered().then_some(d.answered)?;
            // A stock node bills nothing that it did not see end.
            let acts = self.is_ours(cx, d) || cx.node.outbox.has_stock();
            let (sender, callee) = d.sender(&bye.from, &bye.to)?;
            answered.is_none_or(|at| at == callee).then_some((sender, acts))
        });
        let Some((sender, acts)) = found.flatten() else { return };
        if !acts {
            let again = Timer { kind: FOLLOW, id: id.number() };
            return cx.set_timer(cx.now.after_ms(FOLLOW_MS), again);
        }
        let reason = match sender {
            Side::Caller => EndReason::DownstreamBye,
            Side::Callee => EndReason::UpstreamBye,
        };
        self.passed.0.lock().remove(id);
        let at_s = u32::try_from(bye.at_ms / 1000).unwrap_or(u32::MAX);
        let ended = Change::EndedBefore { reason, at_s };
        // It ended then, not now.
        self.table.local(id, |_, local| local.answered_at_ms = 0);
        let now = cx.now;
        cx.now.unix_ms = bye.at_ms.clamp(now.unix_ms.saturating_sub(LATE_MS_MAX), now.unix_ms);
        let _ = self.change_by(cx, id, Origin::Local, ended, None);
        cx.now = now;
        cx.log(Level::Info, "the end of a call had passed before its dialog");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_sighting() -> impl Strategy<Value = Sighting> {
        let word = || "[a-z]{0,9}".prop_map(|s| Text::from(s.as_bytes()));
        let answer = prop::option::of(("[ -~]{0,40}", any::<u64>()));
        let bye = prop::option::of((word(), word(), any::<u64>()));
        (word(), answer, any::<bool>(), bye).prop_map(|(call_id, answer, acked, bye)| Sighting {
            call_id,
            answer: answer.map(|(reply, ms)| (reply.into_bytes().into(), ms)),
            acked,
            bye: bye.map(|(from, to, at_ms)| Bye { from, to, at_ms }),
            ..Sighting::default()
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(sighting in any_sighting(), number in any::<u64>()) {
            let did = DialogId::from_number(number);
            let bytes = sighting.encode(did);
            prop_assert_eq!(Sighting::parse(&bytes), Some((did, sighting)));
            prop_assert_eq!(Sighting::parse(&bytes[..bytes.len() - 1]), None);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Sighting::parse(&bytes);
        }
    }

    #[test]
    fn what_is_kept_has_bounds() {
        let mut known = Known::default();
        let reply = Bytes::from(vec![b'x'; ANSWER_BYTES_MAX]);
        for n in 0..PASSED_MAX as u64 + 10 {
            known.note(0, DialogId::from_number(n), b"c", |s| {
                s.answer = Some((reply.clone(), 1));
                true
            });
        }
        assert!(known.bytes <= ANSWERS_BYTES_MAX + ANSWER_BYTES_MAX);
        let counted: usize = known.all.values().map(Sighting::answer_bytes).sum();
        assert_eq!(known.bytes, counted);
        for n in 0..PASSED_MAX as u64 + 10 {
            known.note(0, DialogId::from_number(n), b"d", |_| true);
        }
        assert!(known.all.len() <= PASSED_MAX);
        assert_eq!(known.bytes, 0);
    }
}
