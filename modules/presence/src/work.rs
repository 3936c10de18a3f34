//! What each change does, with its shard locked.

use std::sync::Arc;

use bytes::Bytes;

use crate::change::{Change, Done, Name, Origin, Refused, Tell};
use crate::graves::Grave;
use crate::record::{
    ASTRAY_MARGIN, CSEQ_MARGIN, PUBLICATIONS_A_PRESENTITY_MAX, Publication, Sent, Stamp, SubId,
    Subscription, Text,
};
use crate::table::{PUBLICATIONS_MAX, Published, SUBSCRIPTIONS_MAX, Subscribed, Told, Work};

type Outcome = Result<Done, Refused>;

impl Work<'_> {
    pub(crate) fn publish(&mut self, mut new: Publication) -> Outcome {
        let (local, now_s) = (self.is_local(), self.now.unix_s());
        if local || new.stamp == Stamp::default() {
            let known = self.presentity().publications.iter().map(|p| &p.publication);
            let known = known.filter(|p| p.id == new.id).map(|p| p.stamp).next();
            new.stamp = later(self.sink.stamp(), known);
        }
        if new.said == Stamp::default() {
            new.said = new.stamp;
        }
        if !local && self.is_past(&Name::Publication(new.id.clone()), new.stamp, new.expires_s) {
            return Err(Refused::Stale);
        }
        let is_room = self.table.publication_count() < PUBLICATIONS_MAX;
        let (origin, writer) = (self.origin, self.sink.writer(new.stamp));
        let entry = Published::new(new.clone());
        let mut pushed_out = None;
        let presentity = self.presentity();
        let all = &mut presentity.publications;
        let at = all.iter().position(|p| p.publication.id == new.id);
        let old = match at {
            Some(at) if !local && !entry.replaces(&all[at], writer) => return Err(Refused::Stale),
            Some(at) => Some(all.remove(at)),
            None if !is_room => return Err(Refused::Full),
            None if all.len() >= PUBLICATIONS_A_PRESENTITY_MAX => {
                // Nodes that have been told more than this keep the same ones.
                let oldest = (0..all.len()).min_by_key(|at| all[*at].publication.age());
                let oldest = oldest.filter(|at| all[*at].publication.age() < new.age());
                let oldest = oldest.filter(|_| origin == Origin::Tandem).ok_or(Refused::Full)?;
                pushed_out = Some(self.take_publication(oldest).etag);
                None
            }
            None => None,
        };
        let presentity = self.presentity();
        let sphere = presentity.sphere() != &*new.sphere && !new.sphere.is_empty();
        let old_digest = old.as_ref().map_or(0, Published::digest);
        let old_etag = old.map_or_else(Text::default, |p| p.publication.etag);
        // The newest first.
        let all = &mut presentity.publications;
        let is_older =
            |p: &Published| (p.publication.said, &p.publication.id) < (new.said, &new.id);
        let at = all.iter().position(is_older).unwrap_or(all.len());
        let digest = entry.digest();
        all.insert(at, entry);
        let old_mark = presentity.mark;
        presentity.set_mark();
        let mark = presentity.mark;
        presentity.last = None;
        presentity.is_queried = false;
        let is_new = old_digest == 0;
        self.shard.weigh(old_digest, digest);
        self.shard.is_over_at(self.key, new.expires_s);
        if is_new {
            self.table.count_publications(1);
        }
        self.tell(Told::Publication { publication: &new, old_etag: &old_etag });
        let state = mark != old_mark && new.is_live(now_s);
        let published = Some((new, old_etag));
        Ok(Done { state, sphere, published, pushed_out, ..Done::default() })
    }

    pub(crate) fn unpublish(&mut self, id: &[u8], body: &Bytes) -> Outcome {
        let presentity = self.presentity();
        let at = presentity.publications.iter().position(|p| *p.publication.id == *id);
        let Some(at) = at else { return Err(Refused::Stale) };
        let gone = self.take_publication(at);
        if let Some(last) = &mut self.presentity().last
            && !body.is_empty()
        {
            last.body = body.clone();
        }
        if self.is_local() {
            let name = Name::Publication(id.into());
            let (stamp, until_s) = self.bury_own(&name, gone.stamp, gone.expires_s);
            let publication = Some(&gone);
            self.tell(Told::Gone { name: &name, stamp, until_s, publication, body });
        }
        Ok(Done { state: true, ended: vec![gone], ..Done::default() })
    }

    /// Takes a publication out.
    fn take_publication(&mut self, at: usize) -> Publication {
        let presentity = self.presentity();
        let entry = presentity.publications.remove(at);
        let digest = entry.digest();
        let gone = entry.publication;
        presentity.set_mark();
        if presentity.publications.is_empty() && !gone.body.is_empty() {
            presentity.last = Some(gone.body());
        }
        self.shard.weigh(digest, 0);
        self.table.count_publications(-1);
        gone
    }

    pub(crate) fn expire(&mut self) -> Done {
        let now_s = self.now.unix_s();
        let mut done = Done::default();
        loop {
            let all = &self.presentity().publications;
            let Some(at) = all.iter().position(|p| !p.publication.is_live(now_s)) else { break };
            let gone = self.take_publication(at);
            done.ended.push(gone);
            done.state = true;
        }
        done
    }

    pub(crate) fn subscribe(&mut self, mut new: Subscription) -> Outcome {
        let local = self.is_local();
        let id = Arc::clone(&new.id);
        if local || new.stamp == Stamp::default() {
            let known = self.presentity().subscriptions.get(&id).map(|s| s.subscription.stamp);
            new.stamp = later(self.sink.stamp(), known);
        }
        let writer = self.sink.writer(new.stamp);
        if !local && self.is_past(&Name::Subscription(Arc::clone(&id)), new.stamp, u32::MAX) {
            return Err(Refused::Stale);
        }
        let key = Arc::clone(self.key);
        let is_room = self.table.subscription_count() < SUBSCRIPTIONS_MAX;
        let presentity = self.presentity();
        let expires_s = new.expires_s;
        let old_end_s = presentity.subscriptions.get(&id).map(|s| s.subscription.expires_s);
        let (old, digests) = match presentity.subscriptions.get_mut(&id) {
            Some(entry) => {
                let old = entry.subscription.mark();
                let (mut changed, before) = (true, entry.subscription.sent.node);
                let digests = entry.change(|s| changed = s.merge(&new, writer));
                if entry.subscription.sent.node != before {
                    entry.sent = (0, 0);
                }
                if !changed {
                    return Err(Refused::Stale);
                }
                (old, digests)
            }
            None if !is_room => return Err(Refused::Full),
            None => {
                let entry = Box::new(Subscribed::new(new));
                let digest = entry.digest();
                presentity.subscriptions.insert(Arc::clone(&id), entry);
                self.table.add_dialog(&key, &id);
                (0, (0, digest))
            }
        };
        let is_read = self.origin == Origin::Database;
        let presentity = self.presentity();
        let Some(entry) = presentity.subscriptions.get_mut(&id) else { return Err(Refused::Stale) };
        if is_read {
            entry.row_end_s = expires_s;
        }
        let now = entry.subscription.clone();
        presentity.watchers = presentity.watchers.wrapping_sub(old).wrapping_add(now.mark());
        presentity.ends.change(&id, old_end_s, Some(now.expires_s));
        self.shard.weigh(digests.0, digests.1);
        self.shard.is_over_at(&key, expires_s);
        self.tell(Told::Subscription(&now));
        let watchers = old != now.mark();
        let touched = Some(Arc::clone(&id));
        Ok(Done { watchers, subscription: Some(id), touched, ..Done::default() })
    }

    /// The subscription of an id, changed; peers are told if they have to know.
    fn change_sent(
        &mut self,
        id: &SubId,
        change: impl FnOnce(&mut Subscribed) -> Result<bool, Refused>,
    ) -> Result<Subscription, Refused> {
        let presentity = self.presentity();
        let entry = presentity.subscriptions.get_mut(id).ok_or(Refused::Stale)?;
        let before = entry.digest();
        let tells = change(entry)?;
        if tells {
            entry.known_cseq = entry.subscription.sent.cseq;
        }
        let (_, after) = entry.change(|_| {});
        let now = entry.subscription.clone();
        self.shard.weigh(before, after);
        if tells {
            self.tell(Told::Notified(&now));
        }
        Ok(now)
    }

    pub(crate) fn tell_watcher(&mut self, tell: &Tell) -> Outcome {
        let now = self.change_sent(&tell.id, |entry| {
            if !entry.is_owed(tell.mark) {
                return Err(Refused::Stale);
            }
            let s = &mut entry.subscription;
            entry.sent = (tell.mark, s.asks);
            if !tell.is_silent {
                s.sent.next(tell.node);
            }
            if tell.is_final || tell.is_silent {
                (s.sent.told, s.sent.told_cseq, s.sent.answers) = (tell.mark, s.sent.cseq, s.asks);
            }
            // What is not confirmed is told now and then, so that the margin is enough.
            Ok(tell.is_silent || s.sent.cseq >= entry.known_cseq + CSEQ_MARGIN / 2)
        })?;
        let touched = Some(Arc::clone(&now.id));
        Ok(Done { touched, told: Some(Box::new(now)), ..Done::default() })
    }

    pub(crate) fn unsent(&mut self, id: &SubId, cseq: u32, is_final: bool) -> Outcome {
        self.change_sent(id, |entry| {
            if entry.subscription.sent.cseq != cseq {
                // Another one has left since.
                return Err(Refused::Stale);
            }
            entry.sent = (0, 0);
            if is_final {
                let asks = entry.subscription.asks;
                let sent = &mut entry.subscription.sent;
                (sent.told, sent.told_cseq, sent.answers) = (0, 0, asks.wrapping_sub(1));
            }
            Ok(false)
        })?;
        Ok(Done::default())
    }

    /// Nodes that have only the rows in common do not know each other's numbers. What is refused
    /// with the number after the leap is refused for another reason.
    pub(crate) fn outrun(&mut self, id: &SubId, cseq: u32) -> Outcome {
        self.change_sent(id, |entry| {
            let asks = entry.subscription.asks;
            let sent = &mut entry.subscription.sent;
            if sent.cseq != cseq || cseq == entry.leapt_to.saturating_add(1) {
                return Err(Refused::Stale);
            }
            sent.cseq = sent.cseq.saturating_add(ASTRAY_MARGIN);
            (sent.told, sent.told_cseq, sent.answers) = (0, 0, asks.wrapping_sub(1));
            entry.leapt_to = sent.cseq;
            entry.sent = (0, 0);
            Ok(false)
        })?;
        Ok(Done::default())
    }

    pub(crate) fn confirm(&mut self, id: &SubId, cseq: u32, mark: u64, asks: u32) -> Outcome {
        let now = self.change_sent(id, |entry| {
            let sent = &mut entry.subscription.sent;
            let new = Sent { told: mark, told_cseq: cseq, answers: asks, ..*sent };
            sent.merge(&new);
            Ok(true)
        })?;
        Ok(Done { touched: Some(now.id), ..Done::default() })
    }

    pub(crate) fn told(&mut self, id: &SubId, sent: &Sent) -> Outcome {
        let now = self.change_sent(id, |entry| {
            let before = entry.subscription.sent.node;
            entry.subscription.sent.merge(sent);
            if entry.subscription.sent.node != before {
                // Another node goes on; what this one had out is past.
                entry.sent = (0, 0);
            }
            Ok(false)
        })?;
        Ok(Done { touched: Some(now.id), ..Done::default() })
    }

    pub(crate) fn forget(&mut self, id: &Arc<SubId>) -> Outcome {
        let key = Arc::clone(self.key);
        let presentity = self.presentity();
        let Some(entry) = presentity.subscriptions.remove(id) else { return Err(Refused::Stale) };
        let digest = entry.digest();
        let gone = entry.subscription;
        presentity.watchers = presentity.watchers.wrapping_sub(gone.mark());
        presentity.ends.change(id, Some(gone.expires_s), None);
        self.shard.weigh(digest, 0);
        self.table.remove_dialog(&key, id);
        if self.is_local() {
            let name = Name::Subscription(Arc::clone(id));
            let (stamp, until_s) = self.bury_own(&name, gone.stamp, gone.expires_s);
            let (publication, body) = (None, &Bytes::new());
            self.tell(Told::Gone { name: &name, stamp, until_s, publication, body });
        }
        let forgotten = Some(Box::new(gone));
        Ok(Done { watchers: true, forgotten, ..Done::default() })
    }

    /// A peer remembers that something is gone.
    pub(crate) fn bury(&mut self, name: Name, grave: Grave, body: &Bytes) -> Outcome {
        let now_s = self.now.unix_s();
        let full = (Arc::clone(self.key), name.clone());
        self.shard.graves.add(full, grave, now_s);
        let known = |this: &mut Self| {
            let presentity = this.presentity();
            match &name {
                Name::Publication(id) => {
                    let mut all = presentity.publications.iter();
                    all.find(|p| p.publication.id == *id).map(|p| p.publication.stamp)
                }
                Name::Subscription(id) => {
                    presentity.subscriptions.get(id).map(|s| s.subscription.stamp)
                }
            }
        };
        match known(self) {
            Some(ours) if ours <= grave.stamp => match &name {
                Name::Publication(id) => self.unpublish(id, body),
                Name::Subscription(id) => self.forget(id),
            },
            _ => Err(Refused::Stale),
        }
    }

    /// Whether what others tell is over: it has ended, or its time is past.
    fn is_past(&self, name: &Name, stamp: Stamp, expires_s: u32) -> bool {
        u64::from(expires_s) <= self.now.unix_s()
            || self.shard.graves.has(&(Arc::clone(self.key), name.clone()), stamp)
    }
}

/// A stamp of this node for a change of what has another: above that, whatever clock it is of.
fn later(own: Stamp, known: Option<Stamp>) -> Stamp {
    let known_us = known.map_or(0, |stamp| stamp.time_us.saturating_add(1));
    Stamp { time_us: own.time_us.max(known_us), ..own }
}

impl Change {
    pub(crate) fn publish(publication: Publication) -> Self {
        Self::Publish(Box::new(publication))
    }

    pub(crate) fn subscribe(subscription: Subscription) -> Self {
        Self::Subscribe(Box::new(subscription))
    }
}
