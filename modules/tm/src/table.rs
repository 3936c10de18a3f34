//! The table of transactions: found by the request (RFC 3261 17.2.3) or by our own Via branch.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ahash::RandomState;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tandem_clock::Chance;
use tandem_sip::{Message, Method, is_rfc3261_branch};

use crate::record::{Busy, Event, Record};
use crate::relay::Failure;
use crate::via_branch::{SHARDS, TxId};

/// How many transactions there may be. One that is answered stays for 32 s (RFC 3261 17.2, RFC
/// 6026), so this bounds what a node can do in a second, and goes by the memory that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// Above this new calls are refused with 503.
    pub(crate) calls: usize,
    /// Above this nothing makes a new one.
    pub(crate) all: usize,
}

/// Memory for each of them, with three quarters for everything else.
const BYTES_EACH: u64 = 16 << 10;
const CALLS: [u64; 2] = [100_000, 1_000_000];
const ALL_MIN: usize = 400_000;

impl Room {
    /// With so many bytes of memory in all; 0: not known.
    pub(crate) fn of(memory: u64) -> Self {
        let calls = (memory / BYTES_EACH).clamp(CALLS[0], CALLS[1]) as usize;
        Self { calls, all: ALL_MIN.max(2 * calls) }
    }
}

/// What identifies a request, as bytes.
pub(crate) type KeyText = SmallVec<[u8; 128]>;

/// What identifies a request: two hashes of [`request_key`] that strangers cannot foresee. The text
/// would be kept, and fetched from memory, for every transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Key([u64; 2]);

impl Key {
    /// Of a request of ours, which nobody sends again.
    const NONE: Self = Self([0; 2]);

    fn shard(self) -> u16 {
        shard_of(self.0[0])
    }
}

impl std::hash::Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(self.0[1]);
    }
}

/// One transaction of the table: a serial object.
pub(crate) struct Tx {
    pub(crate) id: TxId,
    pub(crate) key: Key,
    /// What a merged request has in common with this one; 0: it cannot be merged.
    pub(crate) origin: u64,
    /// Of the Call-ID, to find a transaction by it.
    pub(crate) call_hash: u32,
    /// The request is a CANCEL: replies to CANCEL are its own.
    pub(crate) is_cancel: bool,
    /// Answers to an INVITE whose CSeq was counted up on its way.
    pub(crate) answers: Mutex<Option<Box<Answers>>>,
    pub(crate) cell: Mutex<Cell>,
}

impl Tx {
    /// The number that the receiver of this ACK knows the INVITE by, if one passed that it is to.
    fn answer(&self, ack: u64) -> Option<u32> {
        let answers = self.answers.lock();
        answers.as_ref()?.iter().find(|answer| answer.ack == ack).map(|answer| answer.number)
    }
}

/// The ACK to a 2xx, by its hash, and the number that its receiver knows the INVITE by.
#[derive(Clone, Copy)]
pub(crate) struct Answer {
    ack: u64,
    number: u32,
}

pub(crate) type Answers = SmallVec<[Answer; 2]>;

/// Answers of one INVITE that are told apart.
const ANSWERS_MAX: usize = 8;

/// What a transaction's lock guards.
pub(crate) struct Cell {
    pub(crate) record: Box<Record>,
    /// One of its routes runs or is suspended.
    pub(crate) busy: Option<Busy>,
    /// Why the script could not send the request on the last time.
    pub(crate) failed: Option<Box<Failure>>,
    inbox: Option<Box<Inbox>>,
}

/// What happened meanwhile, at most [`crate::record::INBOX_MAX`].
#[derive(Default)]
struct Inbox(VecDeque<Event>);

impl Cell {
    /// Events that wait until the route has ended.
    pub(crate) fn waiting(&self) -> usize {
        self.inbox.as_ref().map_or(0, |inbox| inbox.0.len())
    }

    pub(crate) fn wait(&mut self, event: Event) {
        self.inbox.get_or_insert_default().0.push_back(event);
    }

    /// The next one; room is kept for none.
    pub(crate) fn next_waiting(&mut self) -> Option<Event> {
        let next = self.inbox.as_mut()?.0.pop_front();
        if next.is_none() {
            self.inbox = None;
        }
        next
    }
}

struct Shard {
    /// Those whose keys name this shard.
    by_request: HashMap<Key, Arc<Tx>, RandomState>,
    /// Those whose names name this shard.
    by_label: HashMap<u32, Arc<Tx>, RandomState>,
    /// Shard and short label of transactions by [`Tx::origin`] and by the ACKs of
    /// [`Tx::answers`], in the shard that it names.
    by_origin: HashMap<u64, (u16, u32), RandomState>,
    /// Transactions since the start.
    total: u64,
}

/// All transactions of a node.
pub(crate) struct Table {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    /// Of the other half of a key.
    second: RandomState,
    len: AtomicUsize,
}

/// What [`Table::insert`] found.
pub(crate) enum Inserted {
    New(Arc<Tx>),
    /// Another worker was faster.
    Known(Arc<Tx>),
}

impl Table {
    pub(crate) fn new(hasher: RandomState) -> Self {
        let shard = || {
            Mutex::new(Shard {
                by_request: HashMap::with_hasher(hasher.clone()),
                by_label: HashMap::with_hasher(hasher.clone()),
                by_origin: HashMap::with_hasher(hasher.clone()),
                total: 0,
            })
        };
        let shards = (0..SHARDS).map(|_| shard()).collect();
        let seed = |n: u64| hasher.hash_one(n);
        let second = RandomState::with_seeds(seed(1), seed(2), seed(3), seed(4));
        Self { shards, hasher, second, len: AtomicUsize::new(0) }
    }

    pub(crate) fn hash(&self, value: &impl std::hash::Hash) -> u64 {
        self.hasher.hash_one(value)
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// The key of a request with this text; [`Key::NONE`] of none.
    pub(crate) fn key_of(&self, text: &[u8]) -> Key {
        match text {
            [] => Key::NONE,
            text => Key([self.hasher.hash_one(text), self.second.hash_one(text)]),
        }
    }

    /// The transaction of a request.
    pub(crate) fn by_request(&self, key: Key) -> Option<Arc<Tx>> {
        self.shard(key.shard())?.lock().by_request.get(&key).map(Arc::clone)
    }

    /// The transaction that a Via of ours names.
    pub(crate) fn by_id(&self, id: TxId) -> Option<Arc<Tx>> {
        self.by_short(id.index, id.short()).filter(|tx| tx.id == id)
    }

    /// The transaction that a timer or a ticket names.
    pub(crate) fn by_short(&self, index: u16, short: u32) -> Option<Arc<Tx>> {
        self.shard(index)?.lock().by_label.get(&short).map(Arc::clone)
    }

    pub(crate) fn insert(&self, key: Key, record: Box<Record>, chance: &mut Chance) -> Inserted {
        let index = key.shard();
        // A key gives the number of a shard.
        let mut shard = self.shards[usize::from(index)].lock();
        if let Some(tx) = shard.by_request.get(&key) {
            return Inserted::Known(Arc::clone(tx));
        }
        let tx = self.put(&mut shard, index, key, record, chance);
        shard.by_request.insert(key, Arc::clone(&tx));
        drop(shard);
        self.note_origin(&tx);
        Inserted::New(tx)
    }

    /// A transaction of another node, under the name it has; `None`: that is taken. Nodes hash
    /// requests differently, so its request is found through another shard.
    pub(crate) fn insert_restored(
        &self,
        id: TxId,
        key: Key,
        record: Box<Record>,
    ) -> Option<Arc<Tx>> {
        let is_taken = |shard: &Shard| shard.by_label.contains_key(&id.short());
        if id.short() == 0 || self.by_request(key).is_some() {
            return None;
        }
        let tx = {
            let mut shard = self.shard(id.index)?.lock();
            (!is_taken(&shard)).then(|| self.make(&mut shard, id, key, record))?
        };
        if key != Key::NONE {
            let mut shard = self.shard(key.shard())?.lock();
            // Its request came here meanwhile.
            if shard.by_request.contains_key(&key) {
                drop(shard);
                self.remove(&tx);
                return None;
            }
            shard.by_request.insert(key, Arc::clone(&tx));
        }
        self.note_origin(&tx);
        Some(tx)
    }

    /// The names of all transactions.
    pub(crate) fn ids(&self) -> Vec<TxId> {
        let all = self.shards.iter();
        all.flat_map(|s| s.lock().by_label.values().map(|tx| tx.id).collect::<Vec<_>>()).collect()
    }

    /// The transaction that a request was merged with: the same request by another way.
    pub(crate) fn by_origin(&self, origin: u64) -> Option<Arc<Tx>> {
        let (index, short) = *self.shard(shard_of(origin))?.lock().by_origin.get(&origin)?;
        let has = |tx: &Tx| tx.origin == origin || tx.answer(origin).is_some();
        self.by_short(index, short).filter(|tx| has(tx))
    }

    /// A 2xx to an INVITE passed whose CSeq was counted up on its way.
    pub(crate) fn note_answer(&self, tx: &Tx, invite: &Message, answer: &Message) {
        let (Some(number), Some(ack)) = (number_of(answer), self.ack_of(invite, answer)) else {
            return;
        };
        if number_of(invite) == Some(number) {
            return;
        }
        let is_new = {
            let mut answers = tx.answers.lock();
            let answers = answers.get_or_insert_default();
            let is_new = answers.len() < ANSWERS_MAX && !answers.iter().any(|a| a.ack == ack);
            if is_new {
                answers.push(Answer { ack, number });
            }
            is_new
        };
        if let Some(shard) = self.shard(shard_of(ack)).filter(|_| is_new) {
            shard.lock().by_origin.insert(ack, tx.id.place());
        }
    }

    /// The number that the receiver of an ACK to a 2xx knows the INVITE by, if it is another.
    pub(crate) fn answered_number(&self, ack: &Message) -> Option<u32> {
        let hash = self.ack_of(ack, ack)?;
        self.by_origin(hash)?.answer(hash)
    }

    /// What the ACK to an answer is found by: the caller's number, and the tags of both.
    fn ack_of(&self, invite: &Message, answer: &Message) -> Option<u64> {
        let of_caller = (invite.call_id()?, invite.from_tag()?, number_of(invite)?);
        Some(self.hash(&("ACK", of_caller, answer.to_tag()?)).max(1))
    }

    fn note_origin(&self, tx: &Tx) {
        if tx.origin != 0
            && let Some(shard) = self.shard(shard_of(tx.origin))
        {
            shard.lock().by_origin.entry(tx.origin).or_insert(tx.id.place());
        }
    }

    /// A transaction whose request is one of ours: no request of others finds it.
    pub(crate) fn insert_local(&self, record: Box<Record>, chance: &mut Chance) -> Arc<Tx> {
        let index = (chance.u64() % SHARDS as u64) as u16;
        let mut shard = self.shards[usize::from(index)].lock();
        self.put(&mut shard, index, Key::NONE, record, chance)
    }

    fn put(
        &self,
        shard: &mut Shard,
        index: u16,
        key: Key,
        record: Box<Record>,
        chance: &mut Chance,
    ) -> Arc<Tx> {
        let mut id = TxId { index, label: TxId::label(chance.u64()) };
        // 0 would make a token of 0; a shard holds far fewer than 2^29.
        while id.short() == 0 || shard.by_label.contains_key(&id.short()) {
            id.label = TxId::label(chance.u64());
        }
        self.make(shard, id, key, record)
    }

    fn make(&self, shard: &mut Shard, id: TxId, key: Key, record: Box<Record>) -> Arc<Tx> {
        let msg = &record.saved.msg;
        let call_hash = self.call_hash(msg.call_id().unwrap_or_default());
        let origin = self.origin_of(msg).unwrap_or(0);
        let is_cancel = record.saved.msg.method() == Method::Cancel;
        let cell = Mutex::new(Cell { record, busy: None, failed: None, inbox: None });
        let answers = Mutex::default();
        let tx = Arc::new(Tx { id, key, origin, call_hash, is_cancel, answers, cell });
        shard.by_label.insert(id.short(), Arc::clone(&tx));
        shard.total += 1;
        self.len.fetch_add(1, Ordering::Relaxed);
        tx
    }

    pub(crate) fn call_hash(&self, call_id: &[u8]) -> u32 {
        self.hasher.hash_one(call_id) as u32
    }

    /// What requests that were forked upstream and meet here again have in common (RFC 3261
    /// 8.2.2.2); `None` for those of a dialog, which nobody forks, and for ACK and CANCEL. The
    /// Request-URI counts too: a proxy may see a request again on its way, with another one.
    pub(crate) fn origin_of(&self, msg: &Message) -> Option<u64> {
        let method = msg.method();
        if msg.to_tag().is_some() || matches!(method, Method::Ack | Method::Cancel) {
            return None;
        }
        let cseq = msg.cseq().ok()?;
        let of_call = (msg.call_id()?, msg.from_tag()?, cseq.number, msg.method_bytes());
        Some(self.hash(&(of_call, msg.request_uri())).max(1))
    }

    /// The transactions that may be of a call.
    pub(crate) fn of_call(&self, call_id: &[u8]) -> Vec<Arc<Tx>> {
        let hash = self.call_hash(call_id);
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            found.extend(shard.by_label.values().filter(|tx| tx.call_hash == hash).cloned());
        }
        found
    }

    /// The parts that hold transactions: number, how many now, how many since the start.
    pub(crate) fn counts(&self) -> Vec<(usize, usize, u64)> {
        let each = self.shards.iter().enumerate().map(|(n, shard)| {
            let shard = shard.lock();
            (n, shard.by_label.len(), shard.total)
        });
        each.filter(|(_, now, _)| *now > 0).collect()
    }

    pub(crate) fn remove(&self, tx: &Tx) {
        let own = tx.key.shard();
        let (Some(shard), Some(by_request)) = (self.shard(tx.id.index), self.shard(own)) else {
            return;
        };
        let of_this = |shard: &mut Shard| {
            if shard.by_request.get(&tx.key).is_some_and(|known| known.id == tx.id) {
                shard.by_request.remove(&tx.key);
            }
        };
        let mut shard = shard.lock();
        if shard.by_label.remove(&tx.id.short()).is_none() {
            return;
        }
        self.len.fetch_sub(1, Ordering::Relaxed);
        if own == tx.id.index {
            of_this(&mut shard);
            drop(shard);
        } else {
            drop(shard);
            of_this(&mut by_request.lock());
        }
        let answers = std::mem::take(&mut *tx.answers.lock());
        let origin = Some(tx.origin).filter(|origin| *origin != 0);
        let answers = answers.iter().flat_map(|answers| answers.iter()).map(|answer| answer.ack);
        for key in answers.chain(origin) {
            let Some(shard) = self.shard(shard_of(key)) else { continue };
            let mut shard = shard.lock();
            if shard.by_origin.get(&key) == Some(&tx.id.place()) {
                shard.by_origin.remove(&key);
            }
        }
    }

    fn shard(&self, index: u16) -> Option<&Mutex<Shard>> {
        self.shards.get(usize::from(index))
    }
}

fn number_of(msg: &Message) -> Option<u32> {
    msg.cseq().ok().map(|cseq| cseq.number)
}

fn shard_of(origin: u64) -> u16 {
    (origin % SHARDS as u64) as u16
}

/// What else counts when there is no cookie: `ruri_matching` and `via1_matching`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OldMatch {
    pub(crate) uri: bool,
    pub(crate) via: bool,
}

/// The key under which a request is found, with `method` in the place of its own: an ACK and a
/// CANCEL look for their INVITE. `None` if the topmost Via cannot be read.
///
/// Without the cookie of RFC 3261 in the branch this is the match of RFC 2543 (17.2.3): Call-ID,
/// From tag, CSeq number, Request-URI and topmost Via.
pub(crate) fn request_key(msg: &Message, method: Method, old: OldMatch) -> Option<KeyText> {
    let via = msg.top_via().ok()?;
    let mut key = KeyText::new();
    let name = if method == msg.method() { msg.method_bytes() } else { method.as_str().as_bytes() };
    match via.branch.filter(|b| is_rfc3261_branch(b)) {
        Some(branch) => {
            key.extend_from_slice(branch);
            key.push(0);
            key.extend(via.host.iter().map(u8::to_ascii_lowercase));
            key.extend_from_slice(&via.port_or_default().to_be_bytes());
        }
        None => {
            let number = msg.cseq().ok()?.number;
            let tag = msg.from_tag().unwrap_or_default();
            let uri = if old.uri { msg.request_uri() } else { b"" };
            let via = if old.via { via.raw } else { b"" };
            for part in [msg.call_id()?, tag, uri, via] {
                key.extend_from_slice(part);
                key.push(0);
            }
            key.extend_from_slice(&number.to_be_bytes());
        }
    }
    key.push(0);
    key.extend_from_slice(name);
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const BOTH: OldMatch = OldMatch { uri: true, via: true };

    fn msg(method: &str, via: &str) -> Message {
        let text = format!(
            "{method} sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP {via}\r\nFrom: <sip:a@h>;tag=1\r\n\
             To: <sip:b@h>\r\nCall-ID: x\r\nCSeq: 7 {method}\r\nContent-Length: 0\r\n\r\n"
        );
        Message::parse(Bytes::from(text)).unwrap()
    }

    fn key(method: &str, via: &str) -> Option<KeyText> {
        let msg = msg(method, via);
        request_key(&msg, msg.method(), BOTH)
    }

    #[test]
    fn branch_sent_by_and_method_make_the_key() {
        let base = key("INVITE", "Host;branch=z9hG4bKa");
        assert_eq!(base, key("INVITE", "host:5060;branch=z9hG4bKa;rport"));
        assert_ne!(base, key("INVITE", "host:5061;branch=z9hG4bKa"));
        assert_ne!(base, key("INVITE", "host;branch=z9hG4bKb"));
        assert_ne!(base, key("BYE", "host;branch=z9hG4bKa"));
    }

    #[test]
    fn ack_and_cancel_find_their_invite_with_and_without_the_cookie() {
        for via in ["host;branch=z9hG4bKa", "host;branch=old", "host"] {
            let invite = key("INVITE", via);
            for method in ["ACK", "CANCEL"] {
                assert_eq!(
                    request_key(&msg(method, via), Method::Invite, BOTH),
                    invite,
                    "{method} {via}"
                );
            }
        }
    }

    #[test]
    fn unknown_methods_are_told_apart() {
        assert_ne!(key("FOO", "h;branch=z9hG4bKa"), key("BAR", "h;branch=z9hG4bKa"));
    }
}
