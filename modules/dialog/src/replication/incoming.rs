//! What peers tell of dialogs. All of it is hostile until parsed: what cannot be read or
//! contradicts what is known is counted and changes nothing.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use tandem_bin::dialog as wire;
use tandem_engine::log::Level;
use tandem_engine::module::Cx;
use tandem_engine::replication::Incoming;

use super::{PATCH, WHOLE, empty, fields, stock};
use crate::change::{Change, Origin, Refused};
use crate::drafts::DRAFT;
use crate::id::DialogId;
use crate::local::KNOWN_S;
use crate::passed::PASSED;
use crate::record::{Dialog, EndReason, Side, Stamp, State};
use crate::state::Dialogs;

impl Dialogs {
    /// One change of a peer.
    pub(super) fn heard_change(&self, cx: &mut Cx<'_>, change: Incoming) {
        match change.kind {
            WHOLE | PATCH if change.stamp.is_some() => {
                self.heard_record(cx, change.source, change.payload);
            }
            PASSED if change.stamp.is_some() => {
                if self.heard_passed(cx, &change.payload).is_none() {
                    self.malformed(cx, change.source, "what passed by cannot be read");
                }
            }
            DRAFT if change.stamp.is_some() => {
                if self.heard_draft(cx, &change.payload).is_none() {
                    self.malformed(cx, change.source, "a call that rings cannot be read");
                }
            }
            kind => match wire::DialogPacket::decode(kind, change.version, &change.payload) {
                Ok(packet) => self.heard_packet(cx, change.source, packet),
                Err(error) => self.malformed(cx, change.source, &error.to_string()),
            },
        }
    }

    fn malformed(&self, cx: &mut Cx<'_>, source: u32, why: &str) {
        let so_far = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        // A peer may have thousands of the kind.
        let now_s = cx.now.unix_s();
        if self.told_refused_s.swap(now_s, Ordering::Relaxed) != now_s {
            let text = format!("a dialog of node {source} is refused: {why} ({so_far} so far)");
            cx.log(Level::Warning, text);
        }
    }

    /// A record of a Tandem peer: whole, a patch, or of a dialog that is gone.
    pub(super) fn heard_record(&self, cx: &mut Cx<'_>, source: u32, record: Bytes) {
        let Some(head) = fields::read_heading(&record) else {
            return self.malformed(cx, source, "it is no record");
        };
        // Later writes of this node must be later than what it has taken in.
        cx.node.outbox.hear(cx.now, head.stamp);
        let origin = Origin::Peer { node: source };
        if let Some(until_s) = head.until_s {
            return self.gone(cx, head.id, head.stamp, until_s, origin);
        }
        let id = DialogId { entry: self.table.entry_of(&head.call_id), ..head.id };
        if head.base.is_some() {
            return self.heard_patch(cx, id, origin, record);
        }
        let mut told = empty(id, &head.call_id);
        match fields::lay_over(&mut told, &record, &self.flag_names) {
            Some(()) => {
                told.id = id;
                self.take(cx, told, origin);
            }
            None => self.malformed(cx, source, "its fields are cut off or too many"),
        }
    }

    fn heard_patch(&self, cx: &mut Cx<'_>, id: DialogId, origin: Origin, record: Bytes) {
        let names = self.flag_names.clone();
        let patch = Change::Patch { record: record.clone(), names };
        match self.change_by(cx, id, origin, patch, None) {
            Ok(_) => {}
            // Its whole record is on its way, or the next comparison brings it.
            Err(Refused::Unknown) if !self.table.is_buried(id) => {
                self.early.keep(cx.now.mono_ns, id, record);
            }
            Err(Refused::Unknown) => {}
            Err(error) => {
                let source = if let Origin::Peer { node } = origin { node } else { 0 };
                self.malformed(cx, source, &error.to_string());
            }
        }
    }

    /// Takes the record of a peer in.
    pub(crate) fn take(&self, cx: &mut Cx<'_>, told: Dialog, origin: Origin) {
        let id = told.id;
        // Nobody answered as far as this node knows; a peer knows better.
        let failed = |d: &Dialog| d.state == State::Deleted && d.answered_s == 0;
        if told.answered_s != 0 && self.read(id, failed) == Some(true) {
            self.table.remove(id);
        }
        let merge = Change::Merge(Box::new(told.clone()));
        if !self.is_unknown(cx, id, origin, merge) {
            return;
        }
        if self.table.is_buried(id) {
            return;
        }
        // What has just ended is kept: its BYE may come again, to be led to the other side.
        let is_recent = u64::from(told.ended_s).saturating_add(KNOWN_S) > cx.now.unix_s();
        if !told.state.is_alive() && !told.owes() && !is_recent {
            return self.table.bury(cx.now, &told);
        }
        self.drafts.remove(id);
        let local = self.new_local();
        match self.insert(cx, told, local, origin) {
            Ok(_) => {
                for patch in self.early.take(id) {
                    self.heard_patch(cx, id, origin, patch);
                }
                self.came_in(cx, id);
            }
            Err(error) => self.malformed(cx, 0, &error.to_string()),
        }
    }

    /// Carries a change out; true if there is no such dialog.
    fn is_unknown(&self, cx: &mut Cx<'_>, id: DialogId, origin: Origin, change: Change) -> bool {
        matches!(self.change_by(cx, id, origin, change, None), Err(Refused::Unknown))
    }

    /// A peer remembers the end of a dialog: it is over here, too, and what it owed is the
    /// peer's matter.
    fn gone(&self, cx: &mut Cx<'_>, id: DialogId, stamp: Stamp, until_s: u32, origin: Origin) {
        let gone = Change::Gone { stamp };
        if self.is_unknown(cx, id, origin, gone) {
            self.table.remember(cx.now, id, stamp, until_s, Bytes::new());
        }
    }

    /// A dialog in a sync of a stock peer. One that this node has and is responsible for is
    /// known better here.
    pub(super) fn heard_in_sync(&self, cx: &mut Cx<'_>, source: u32, version: u16, record: &Bytes) {
        let told = match wire::FullDialog::decode(version, record) {
            Ok(told) => told,
            Err(error) => return self.malformed(cx, source, &error.to_string()),
        };
        let Some(d) = self.told_by_stock(cx, source, &told) else { return };
        self.seen_in_sync(d.id);
        let known = self.read(d.id, |known| self.is_ours(cx, known));
        match known {
            Some(true) => {}
            Some(false) => self.updated_by_stock(cx, d, Origin::Peer { node: source }),
            None => self.take(cx, d, Origin::Peer { node: source }),
        }
    }

    /// The dialog of a stock packet under the name that it has here.
    fn told_by_stock(
        &self,
        cx: &mut Cx<'_>,
        source: u32,
        told: &wire::FullDialog,
    ) -> Option<Dialog> {
        let entry = self.table.entry_of(&told.call_id);
        let Some(mut d) = stock::dialog(entry, told, source) else {
            self.malformed(cx, source, "its fields contradict each other");
            return None;
        };
        d.stamp = Stamp { node: source, ..cx.node.outbox.stamp(cx.now) };
        Some(d)
    }

    fn heard_packet(&self, cx: &mut Cx<'_>, source: u32, packet: wire::DialogPacket) {
        let origin = Origin::Peer { node: source };
        match packet {
            wire::DialogPacket::Created(told) => {
                // One that is known is not made anew.
                if let Some(d) = self.told_by_stock(cx, source, &told)
                    && self.read(d.id, |_| ()).is_none()
                {
                    self.take(cx, d, origin);
                }
            }
            wire::DialogPacket::Updated(told) => {
                if let Some(d) = self.told_by_stock(cx, source, &told) {
                    self.updated_by_stock(cx, d, origin);
                }
            }
            wire::DialogPacket::Deleted(name) => {
                if let Some(id) = self.named_by(&name) {
                    self.ended_by_stock(cx, id, source);
                }
            }
            wire::DialogPacket::Cseq { name, cseq } => self.cseq_by_stock(cx, origin, &name, cseq),
            wire::DialogPacket::Value { call_id, id, name, value } => {
                let id = DialogId { entry: self.table.entry_of(&call_id), id };
                let value = value.as_ref().map(stock::val);
                let change = Change::Value { name: name[..].into(), value };
                // A value may come before its dialog, which brings it along.
                if let Err(error) = self.change_by(cx, id, origin, change, None)
                    && error != Refused::Unknown
                {
                    self.malformed(cx, source, &error.to_string());
                }
            }
        }
    }

    fn updated_by_stock(&self, cx: &mut Cx<'_>, told: Dialog, origin: Origin) {
        let update = Change::Stock(Box::new(told.clone()));
        if self.is_unknown(cx, told.id, origin, update) {
            self.take(cx, told, origin);
        }
    }

    /// The end of a call that a stock node saw. What follows from it (accounting) is ours if the
    /// dialog is: the stock node knows nothing of it.
    fn ended_by_stock(&self, cx: &mut Cx<'_>, id: DialogId, source: u32) {
        let ours = self.read(id, |d| self.is_ours(cx, d)).unwrap_or(false);
        let origin =
            if ours { Origin::Heard { node: source } } else { Origin::Peer { node: source } };
        // One that is not here has ended already.
        let _ = self.change_by(cx, id, origin, Change::Ended { reason: EndReason::Peer }, None);
    }

    /// The name that a dialog of a packet has here; before version 4 by its tags.
    fn named_by(&self, name: &wire::DialogName) -> Option<DialogId> {
        match name.id {
            Some(id) => Some(DialogId { entry: self.table.entry_of(&name.call_id), id }),
            None => {
                let found = self.table.find(&name.call_id, &name.from_tag, &name.to_tag);
                found.map(|(id, ..)| id)
            }
        }
    }

    fn cseq_by_stock(&self, cx: &mut Cx<'_>, origin: Origin, name: &wire::DialogName, cseq: i32) {
        let Some(id) = self.named_by(name) else { return };
        let towards = self.read(id, |d| {
            if *name.to_tag == *d.caller.tag {
                return Some((Side::Caller, 0));
            }
            d.callee_at(&name.to_tag).map(|at| (Side::Callee, at))
        });
        let Some((towards, callee)) = towards.flatten() else { return };
        let Ok(cseq) = u32::try_from(cseq) else { return };
        // The dialog was here a moment ago; if it has gone since, so has its number.
        let _ = self.change_by(cx, id, origin, Change::Generated { towards, callee, cseq }, None);
    }
}
