//! The capability `dialog-dlg-repl`: what peers are told of dialogs, and what comes from them.
//!
//! A stock peer is told what the stock protocol has packets for. A Tandem peer is told the whole
//! record once, with everything that the stock protocol leaves behind, and then what changes; see
//! `fields.rs`. What comes in goes through [`crate::table::Table::apply`] like any other change,
//! and is merged (`merge.rs`), so that order and repetition do not matter.

pub(crate) mod again;
pub(crate) mod digest;
pub(crate) mod fields;
pub(crate) mod incoming;
pub(crate) mod merge;
pub(crate) mod profiles;
pub(crate) mod stock;
pub(crate) mod takeover;

use bytes::Bytes;
use tandem_bin::dialog as wire;
use tandem_clock::Now;
use tandem_cluster::{Change as Telling, Digests, Form, Payload, Snapshot, Stamp};
use tandem_engine::module::Cx;
use tandem_engine::outbox::Record;
use tandem_engine::replication::{Incoming, Replicated};

use crate::change::Origin;
use crate::graves::Kept;
use crate::id::DialogId;
use crate::record::{Dialog, Side, Terms};
use crate::state::Dialogs;
use crate::stats;
use crate::table::{SHARDS, Table, Told};
use fields::Part;

/// A whole record, between Tandem nodes.
pub(crate) const WHOLE: u32 = 101;
/// What changed of one.
pub(crate) const PATCH: u32 = 102;

/// A dialog of which nothing but its name is known.
pub(crate) fn empty(id: DialogId, call_id: &[u8]) -> Dialog {
    Dialog { call_id: call_id.into(), ..Dialog::empty(id) }
}

impl Dialogs {
    /// Whether other nodes have the dialogs of this one.
    pub fn is_replicated(&self) -> bool {
        self.params.cluster != 0
    }

    /// A dialog has changed: it gets its stamp, and the peers are told. Called with the shard
    /// locked, so it only appends.
    pub(crate) fn replicate(
        &self,
        cx: &Cx<'_>,
        shard: usize,
        d: &mut Dialog,
        told: Option<&Told>,
        origin: Origin,
    ) {
        if origin != Origin::Local || told == Some(&Told::Local) {
            self.settle(cx, d);
            return;
        }
        let base = d.stamp;
        d.stamp = cx.node.outbox.stamp(cx.now);
        self.settle(cx, d);
        if d.creator == 0 {
            d.creator = cx.node.membership().node_id();
        }
        // What was never answered is not replicated.
        if !self.is_replicated() || d.answered_s == 0 {
            // Nobody else has written any.
            d.value_stamps.clear();
            return;
        }
        self.count(cx, sent(told, d));
        let stock = cx.node.outbox.has_stock().then(|| self.to_stock(cx, d, told)).flatten();
        let stock = stock.and_then(|packet| {
            let (kind, version) = (packet.packet_type(), wire::VERSION);
            // What is larger than a packet cannot be told; half of it would be worse.
            packet.encode().ok().map(|bytes| Payload { kind, version, bytes })
        });
        let (kind, bytes) = self.to_tandem(d, told, base);
        let tandem = Some(Payload { kind, version: fields::VERSION, bytes });
        let change = Telling { stock, tandem, stamp: d.stamp };
        cx.node.outbox.append(shard, Record { slot: self.slot, part: 0, change });
    }

    /// Tells Tandem peers what is known of a dialog that was answered, whether it lives or not.
    pub(crate) fn tell_known(&self, cx: &Cx<'_>, id: DialogId) {
        let whole = |d: &Dialog| fields::encode(d, &self.flag_names);
        let of_grave = || {
            let (stamp, until_s) = self.table.grave(id)?;
            Some(fields::encode_gone(id, stamp, until_s))
        };
        let Some(bytes) = self.read(id, whole).or_else(of_grave) else { return };
        let tandem = Some(Payload { kind: WHOLE, version: fields::VERSION, bytes });
        let change = Telling { stock: None, tandem, stamp: cx.node.outbox.stamp(cx.now) };
        let record = Record { slot: self.slot, part: 0, change };
        cx.node.outbox.append(Table::shard_of(id), record);
    }

    /// What the change at hand has written gets its stamp.
    fn settle(&self, cx: &Cx<'_>, d: &mut Dialog) {
        d.value_stamps.settle(d.stamp);
        if d.terms.is_pending() {
            d.terms = Terms { epoch: self.epoch(cx.node, d), stamp: d.stamp };
        }
    }

    /// What stock peers are told of a change.
    fn to_stock(&self, cx: &Cx<'_>, d: &Dialog, told: Option<&Told>) -> Option<wire::DialogPacket> {
        let lives = d.state.is_answered();
        let updated = || wire::DialogPacket::Updated(Box::new(stock::full(d)));
        match told {
            Some(Told::State { before }) if !before.is_answered() => {
                lives.then(|| wire::DialogPacket::Created(Box::new(stock::full(d))))
            }
            Some(Told::State { .. }) if !lives => Some(wire::DialogPacket::Deleted(stock::name(d))),
            // A stock backup that sees the ACK leaves this to the holder.
            Some(Told::State { .. }) => self.is_ours(cx, d).then(updated),
            Some(Told::Debt) => None,
            Some(Told::Value { name }) => lives.then(|| stock::value(d, name)),
            Some(Told::Generated { towards, callee }) => {
                let is_answered = *towards == Side::Caller || Some(*callee) == d.answered;
                let cseq = || stock::cseq(d, *towards);
                (lives && is_answered).then(cseq).flatten()
            }
            _ => lives.then(updated),
        }
    }

    /// What Tandem peers are told of a change: type and bytes.
    fn to_tandem(&self, d: &Dialog, told: Option<&Told>, base: Stamp) -> (u32, Bytes) {
        let patch = |part| (PATCH, fields::encode_patch(d, base, part));
        match told {
            Some(Told::State { before }) if before.is_answered() => patch(Part::State),
            Some(Told::Debt) => patch(Part::State),
            Some(Told::Value { name }) => patch(Part::Value(name)),
            Some(Told::Generated { towards, callee }) => {
                let callee = (*towards == Side::Callee).then_some(*callee);
                patch(Part::Generated { callee })
            }
            _ => (WHOLE, fields::encode(d, &self.flag_names)),
        }
    }

    /// The digest that peers compare; 0: not compared.
    pub(crate) fn digest(&self, d: &Dialog) -> u64 {
        if self.is_replicated() { digest::digest(d, &self.flag_names) } else { 0 }
    }

    /// Everything in a bucket that a Tandem peer has to know: what has just ended included, and
    /// what has been forgotten but must not come back.
    fn tandem_bucket(&self, bucket: usize, records: &mut Vec<Bytes>) {
        self.table.each(bucket, |kept| match kept {
            Kept::Dialog(d) if d.answered_s != 0 => {
                records.push(fields::encode(d, &self.flag_names));
            }
            Kept::Dialog(_) => {}
            Kept::Grave(id, grave) => {
                records.push(fields::encode_gone(id, grave.stamp, grave.until_s));
            }
        });
    }
}

impl Replicated for Dialogs {
    fn capability(&self) -> &'static str {
        "dialog-dlg-repl"
    }

    fn cluster(&self) -> u32 {
        self.params.cluster
    }

    fn startup_sync(&self) -> bool {
        true
    }

    fn apply(&self, cx: &mut Cx<'_>, change: Incoming) {
        self.heard_change(cx, change);
    }

    fn merge(&self, cx: &mut Cx<'_>, source: u32, form: Form, version: u16, records: Vec<Bytes>) {
        for record in records {
            match form {
                Form::Stock => self.heard_in_sync(cx, source, version, &record),
                Form::Tandem => self.heard_record(cx, source, record),
            }
        }
    }

    fn snapshot(&self, _cx: &mut Cx<'_>, form: Form, buckets: Option<&[u8]>) -> Snapshot {
        let mut records = Vec::new();
        for bucket in (0..SHARDS).filter(|b| is_wanted(buckets, *b)) {
            match form {
                Form::Tandem => self.tandem_bucket(bucket, &mut records),
                Form::Stock => self.table.each(bucket, |kept| {
                    if let Kept::Dialog(d) = kept
                        && d.state.is_answered()
                    {
                        records.extend(stock::full(d).encode());
                    }
                }),
            }
        }
        let version = match form {
            Form::Stock => wire::VERSION,
            Form::Tandem => fields::VERSION,
        };
        Snapshot { version, records }
    }

    fn digests(&self, _now: Now) -> Digests {
        self.table.digests()
    }

    fn listing(&self, _cx: &mut Cx<'_>, buckets: &[u8]) -> Vec<(Bytes, u64)> {
        let mut entries = Vec::new();
        for bucket in buckets {
            self.table.each(usize::from(*bucket), |kept| {
                if let Kept::Dialog(d) = kept {
                    let digest = self.digest(d);
                    let name = [&d.call_id[..], b" ", d.id.to_string().as_bytes()].concat();
                    entries.extend((digest != 0).then(|| (name.into(), digest)));
                }
            });
        }
        entries
    }

    fn replay_since(
        &self,
        cx: &mut Cx<'_>,
        peer: u32,
        since_unix_ms: u64,
        buckets: &[u8],
    ) -> Vec<(u32, u16, Bytes)> {
        self.repeated.note(cx.now.mono_ns);
        let mut packets = Vec::new();
        let is_new = |stamp: Stamp| stamp.time_us / 1000 >= since_unix_ms;
        for bucket in buckets {
            self.table.each(usize::from(*bucket), |kept| {
                let packet = match kept {
                    Kept::Dialog(d) if d.answered_s == 0 || !is_new(d.stamp) => None,
                    Kept::Dialog(d) => stock::again(d, peer),
                    Kept::Grave(_, grave) if is_new(grave.stamp) => {
                        packets.push((DELETED, wire::VERSION, grave.packet.clone()));
                        None
                    }
                    Kept::Grave(..) => None,
                };
                let Some(packet) = packet else { return };
                let kind = packet.packet_type();
                packets.extend(packet.encode().map(|bytes| (kind, wire::VERSION, bytes)));
            });
        }
        packets
    }
}

/// What a change counts as for those who send it.
fn sent(told: Option<&Told>, d: &Dialog) -> usize {
    match told {
        Some(Told::State { before }) if !before.is_answered() => stats::CREATE_SENT,
        Some(Told::State { .. }) if !d.state.is_answered() => stats::DELETE_SENT,
        _ => stats::UPDATE_SENT,
    }
}

/// Packet type of an end.
const DELETED: u32 = 3;

fn is_wanted(buckets: Option<&[u8]>, bucket: usize) -> bool {
    buckets.is_none_or(|wanted| wanted.iter().any(|b| usize::from(*b) == bucket))
}
