//! What peers tell. All of it is hostile until parsed: what cannot be read or contradicts what is
//! known is counted and changes nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tandem_bin::presence as wire;
use tandem_engine::log::Level;
use tandem_engine::module::Cx;
use tandem_engine::outbox::Record;
use tandem_engine::replication::Incoming;

use super::{RECORD, fields, stock};
use crate::change::{Change, Origin, Refused};
use crate::params::Federation;
use crate::record::{Key, Publication, Stamp};
use crate::request::key_of;
use crate::state::Presence;

impl Presence {
    /// One change of a peer.
    pub(super) fn heard_change(&self, cx: &mut Cx<'_>, change: Incoming) {
        match change.kind {
            RECORD if change.stamp.is_some() => {
                self.heard_record(cx, change.source, &change.payload);
            }
            // Tandem peers have told it in their own words.
            wire::PUBLISH | wire::QUERY if change.stamp.is_some() => {}
            wire::PUBLISH => self.heard_stock(cx, change.source, &change.payload),
            wire::QUERY => self.heard_query(cx, change.source, &change.payload),
            kind => self.malformed(cx, change.source, &format!("packet type {kind}")),
        }
    }

    fn malformed(&self, cx: &mut Cx<'_>, source: u32, why: &str) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        cx.log(Level::Warning, format!("presence of node {source} is refused: {why}"));
    }

    /// A record of a Tandem peer.
    pub(super) fn heard_record(&self, cx: &mut Cx<'_>, source: u32, record: &Bytes) {
        let Some(told) = fields::decode(record) else {
            return self.malformed(cx, source, "it is no record");
        };
        // Later writes of this node must be later than what it has taken in.
        cx.node.outbox.hear(cx.now, told.stamp);
        let key = Arc::new(told.key);
        match self.apply_of(cx, &key, (Origin::Tandem, source), told.change) {
            Ok(done) => self.follow(cx, &key, Origin::Tandem, &done),
            Err(Refused::Full) => self.malformed(cx, source, "there are too many"),
            Err(Refused::Stale) => {}
        }
    }

    /// A publication of a stock peer.
    pub(super) fn heard_stock(&self, cx: &mut Cx<'_>, source: u32, payload: &Bytes) {
        if !self.is_active(cx) {
            return;
        }
        let packet = match wire::Publish::decode(payload) {
            Ok(packet) => packet,
            Err(error) => return self.malformed(cx, source, &error.to_string()),
        };
        let Some(key) = stock::key(&packet) else {
            return self.malformed(cx, source, "it names no presentity");
        };
        if !self.params.shares(&key.event) || self.package(&key.event).is_none() {
            return;
        }
        let key = Arc::new(key);
        let old = self.table.local(&key, |p| {
            p.is_queried = false;
            p.publication(&packet.old_etag).or_else(|| p.publication(&packet.new_etag)).cloned()
        });
        self.take_stock(cx, &key, old.flatten(), &packet);
    }

    fn take_stock(
        &self,
        cx: &mut Cx<'_>,
        key: &Arc<Key>,
        old: Option<Publication>,
        packet: &wire::Publish,
    ) {
        let is_wanted = self.params.federation == Federation::Full
            || self.table.read(key, |p| !p.subscriptions.is_empty()) == Some(true);
        let change = match (stock::publication(packet, cx.now), old) {
            (Some(mut new), old) if is_wanted => {
                if let Some(old) = old {
                    // A change without a body prolongs what was published before.
                    if new.body.is_empty() {
                        (new.body, new.content_type) = (old.body, old.content_type);
                        new.said = old.said;
                    }
                    new.id = old.id;
                }
                new.stamp = cx.node.outbox.stamp(cx.now);
                Change::publish(new)
            }
            (_, Some(old)) => Change::Unpublish { id: old.id, body: packet.body.clone() },
            (_, None) => return,
        };
        // What is refused is known better here.
        if let Ok(done) = self.apply(cx, key, Origin::Stock, change) {
            self.follow(cx, key, Origin::Stock, &done);
        }
    }

    /// A stock peer asks what is known of a presentity. Who does not own it is silent.
    fn heard_query(&self, cx: &mut Cx<'_>, source: u32, payload: &Bytes) {
        let Ok(query) = wire::Query::decode(payload) else {
            return self.malformed(cx, source, "it is no question");
        };
        let Some(key) = key_of(&query.uri, &query.event).filter(|_| self.is_active(cx)) else {
            return;
        };
        if !self.params.shares(&key.event) {
            return;
        }
        let now_s = cx.now.unix_s();
        let own = self.table.read(&key, |p| {
            let all = p.publications.iter().map(|p| &p.publication);
            all.filter(|p| !p.foreign && p.is_live(now_s)).cloned().collect::<Vec<_>>()
        });
        for p in own.unwrap_or_default() {
            if let Ok(bytes) = stock::publish(&key, &p, b"", cx.now).encode() {
                let kind = (wire::PUBLISH, wire::VERSION);
                cx.node.membership().send_versioned(cx, source, kind, &bytes);
            }
        }
    }

    /// Somebody begins to watch a presentity of whom nothing is known here: stock peers are asked.
    pub(crate) fn query_peers(&self, cx: &mut Cx<'_>, key: &Key) {
        let may_ask = self.params.federation == Federation::Full && self.params.shares(&key.event);
        if !may_ask || !cx.node.outbox.has_stock() || !self.is_active(cx) {
            return;
        }
        let asks = self.table.local(key, |p| {
            let asks = p.publications.is_empty() && !p.is_queried;
            p.is_queried |= asks;
            asks
        });
        let query = wire::Query {
            uri: Bytes::copy_from_slice(&key.uri),
            event: Bytes::copy_from_slice(&key.event),
        };
        if asks == Some(true)
            && let Ok(bytes) = query.encode()
        {
            let stamp: Stamp = cx.node.outbox.stamp(cx.now);
            let record = Record::same(self.slot, wire::QUERY, wire::VERSION, bytes, stamp);
            cx.node.outbox.append(key.bucket(), record);
        }
    }
}
