//! Who may watch whom: packages are asked, and their answers kept in the table of watchers.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tandem_engine::module::Cx;

use crate::change::{Change, Done, Origin};
use crate::notify::Errand;
use crate::package::{Package, RuleAsk, Status, VIEW_BYTES_MAX, Verdict};
use crate::publish::Granted;
use crate::record::{Key, SubId, Subscription};
use crate::state::Presence;
use crate::winfo::APPROVED;

/// Questions that wait, at most.
const ASKED_MAX: usize = 100_000;

/// What a run of the script has got so far.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) verdict: Option<Verdict>,
    /// The database was asked for what the request names.
    pub(crate) has_looked: bool,
    /// A PUBLISH that is answered when its row is written.
    pub(crate) published: Option<Box<(Granted, Done)>>,
}

/// Who waits for an answer.
#[derive(Clone, Debug)]
enum Waiting {
    Nobody,
    Run(u64),
    Subscription(Arc<Key>, Arc<SubId>),
}

/// Questions that packages have not answered.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    next: u64,
    all: BTreeMap<u64, Waiting>,
}

/// The view of a watcher whose rules are to be asked again: no package knows it, and shows nothing.
pub(crate) const UNJUDGED: &[u8] = b"unjudged";

/// The reason of a subscription that the script has let in whatever the rules say: it is not judged
/// again, and is known by it after a restart too.
pub(crate) const FORCED: &[u8] = b"forced";

impl Presence {
    /// Asks whether somebody may watch somebody.
    ///
    /// # Errors
    /// The token of the answer that is to come.
    pub(crate) fn ask_rules(
        &self,
        cx: &mut Cx<'_>,
        package: &dyn Package,
        key: &Key,
        watcher: Bytes,
    ) -> Result<Verdict, u64> {
        let token = {
            let mut asked = self.rules.lock();
            if asked.all.len() >= ASKED_MAX {
                return Ok(Verdict::unknown());
            }
            asked.next += 1;
            let token = asked.next;
            asked.all.insert(token, Waiting::Nobody);
            token
        };
        let sphere = if self.params.checks_sphere {
            let read = |p: &crate::table::Presentity| Bytes::copy_from_slice(p.sphere());
            self.table.read(key, read).unwrap_or_default()
        } else {
            Bytes::new()
        };
        let (presentity, event) =
            (Bytes::copy_from_slice(&key.uri), Bytes::copy_from_slice(&key.event));
        let ask = RuleAsk { token, presentity, watcher, event, sphere };
        let Some(verdict) = package.ask(cx, &ask) else { return Err(token) };
        self.rules.lock().all.remove(&token);
        Ok(fitting(verdict))
    }

    /// A run of the script waits for the answer.
    pub(crate) fn rules_of_run(&self, token: u64, run: u64) {
        if let Some(waiting) = self.rules.lock().all.get_mut(&token) {
            *waiting = Waiting::Run(run);
        }
    }

    /// The answer of a package to a [`RuleAsk`] that it did not answer at once.
    pub fn ruled(&self, cx: &mut Cx<'_>, token: u64, verdict: Verdict) {
        let waiting = self.rules.lock().all.remove(&token);
        let verdict = fitting(verdict);
        cx.for_slot(self.slot, |cx| match waiting {
            None | Some(Waiting::Nobody) => {}
            Some(Waiting::Run(run)) => {
                let slot = self.slot;
                cx.with_suspended(run, |ctx| {
                    ctx.section_mut::<Progress>(slot).verdict = Some(verdict);
                });
                cx.call_again(run);
            }
            Some(Waiting::Subscription(key, id)) => self.judged(cx, &key, &id, verdict),
        });
    }

    /// The rules of a presentity may have changed: all who watch it are judged again, step by
    /// step.
    pub fn ask_rules_again(&self, cx: &mut Cx<'_>, key: &Key) {
        if self.package(&key.event).is_some_and(|package| package.has_rules()) {
            let key = Arc::new(key.clone());
            cx.for_slot(self.slot, |cx| self.walk_for(cx, &key, Errand::Judge));
        }
    }

    /// Judges one subscription again.
    pub(crate) fn judge(&self, cx: &mut Cx<'_>, key: &Arc<Key>, id: &Arc<SubId>) {
        let Some(package) = self.package(&key.event) else { return };
        let Some(s) = self.table.subscription(key, id) else { return };
        if s.status == Status::Terminated || *s.reason == *FORCED {
            return;
        }
        match self.ask_rules(cx, &*package, key, s.watcher_uri().into()) {
            Ok(verdict) => self.judged(cx, key, id, verdict),
            Err(token) => {
                if let Some(waiting) = self.rules.lock().all.get_mut(&token) {
                    *waiting = Waiting::Subscription(Arc::clone(key), Arc::clone(id));
                }
            }
        }
    }

    fn judged(&self, cx: &mut Cx<'_>, key: &Arc<Key>, id: &Arc<SubId>, verdict: Verdict) {
        let Some(mut s) = self.table.subscription(key, id) else { return };
        let status = match verdict.status {
            Status::Waiting => Status::Pending,
            status => status,
        };
        let same = s.status == status && *s.view == *verdict.view;
        if same || verdict.is_unknown || s.status == Status::Terminated {
            return;
        }
        // What a restart has made of it is no news for the watcher, unless he was told so.
        let told = self.table.read(key, |p| p.subscriptions.get(id).is_some_and(|s| s.has_sent()));
        let is_new = *s.view != *UNJUDGED || told == Some(true);
        let is_as_before = s.status == status && !is_new;
        self.keep_verdict(cx, key, &s, &verdict);
        let was_pending = s.status == Status::Pending || *s.reason == *APPROVED;
        (s.status, s.view) = (status, verdict.view[..].into());
        s.reason = match (status, verdict.reason.is_empty()) {
            (Status::Terminated, true) => b"rejected".as_slice().into(),
            (Status::Terminated, false) => verdict.reason[..].into(),
            (Status::Active, _) if was_pending => APPROVED.into(),
            _ => Box::default(),
        };
        if !is_as_before {
            s.asks = s.asks.saturating_add(1);
        }
        if let Ok(done) = self.apply(cx, key, Origin::Local, Change::subscribe(s)) {
            self.follow(cx, key, Origin::Local, &done);
        }
    }

    /// Writes what was decided about a watcher.
    pub(crate) fn keep_verdict(
        &self,
        cx: &mut Cx<'_>,
        key: &Key,
        s: &Subscription,
        verdict: &Verdict,
    ) {
        self.write_watcher(cx, key, s, verdict.status, &verdict.reason);
    }

    /// A subscription has ended that nobody has decided on: its watcher goes on waiting.
    pub(crate) fn keep_waiting(&self, cx: &mut Cx<'_>, key: &Key, s: &Subscription) {
        self.write_watcher(cx, key, s, Status::Waiting, b"");
    }
}

/// A verdict that can be kept: a view that is too long shows nothing to anybody.
fn fitting(verdict: Verdict) -> Verdict {
    let one_line = !verdict.reason.iter().any(|b| b.is_ascii_control());
    if verdict.view.len() <= VIEW_BYTES_MAX && verdict.reason.len() <= 64 && one_line {
        return verdict;
    }
    Verdict::of(Status::Pending, "")
}
