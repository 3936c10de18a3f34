//! Questions to the documents of a user: the rules, and what always counts as published.

use std::collections::BTreeMap;

use bytes::Bytes;
use parking_lot::Mutex;
use tandem_db::{DbError, Rows};
use tandem_engine::log::Level;
use tandem_engine::module::Cx;
use tandem_presence::{RuleAsk, Status, Verdict};
use tandem_xcap::{Kind, Wanted};

use crate::package::POLITE;
use crate::rules::{Asker, Decision, Handling, decide};
use crate::state::Shared;
use crate::view::View;

/// Questions that wait for the database, at most; further ones are not decided.
const OPEN_MAX: usize = 50_000;
/// Documents that always count, at most; further ones are not shown.
const HARD_MAX: usize = 50_000;

/// What is asked, and what is known of the answer.
#[derive(Debug, Default)]
pub(crate) struct Asking {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    open: BTreeMap<u64, Open>,
    /// What always counts as published, by user.
    hard: BTreeMap<Bytes, Bytes>,
}

/// A question that waits.
#[derive(Debug)]
struct Open {
    ask: RuleAsk,
    rules: Part,
    hard: Part,
}

/// A document of a question.
#[derive(Clone, Debug)]
enum Part {
    NotWanted,
    Waits(Wanted),
    Known(Option<Bytes>),
    /// The database did not say.
    Failed,
}

/// The last bit of a token says which document it is.
const HARD: u64 = 1;

/// User and domain of `sip:user@domain`. `None`: it has no user.
fn user_of(presentity: &[u8]) -> Option<(String, String)> {
    let text = std::str::from_utf8(presentity).ok()?;
    let (_, rest) = text.split_once(':')?;
    let (user, domain) = rest.rsplit_once('@')?;
    Some((user.to_owned(), domain.to_owned()))
}

impl Shared {
    /// Asks; `None`: the answer will come from the database.
    pub(crate) fn ask(&self, cx: &mut Cx<'_>, ask: &RuleAsk) -> Option<Verdict> {
        let params = &self.params;
        if params.force_active && !params.has_hard_state {
            return Some(Verdict::active());
        }
        let Some((user, domain)) = user_of(&ask.presentity) else {
            return Some(self.verdict(cx, ask, &Part::Known(None)));
        };
        let wanted = |kind: Kind, file: &str| Wanted {
            user: user.clone(),
            domain: domain.clone(),
            kind,
            file: file.to_owned(),
        };
        let part = |is_wanted: bool, wanted: Wanted| match self.xcap.known(cx.now, &wanted) {
            _ if !is_wanted => Part::NotWanted,
            Some(document) => Part::Known(document),
            None => Part::Waits(wanted),
        };
        let rules = part(!params.force_active, wanted(params.kind, &params.file));
        let hard = part(params.has_hard_state, wanted(Kind::PidfManipulation, ""));
        let waits = |part: &Part| matches!(part, Part::Waits(_));
        if !waits(&rules) && !waits(&hard) {
            self.keep_hard(ask, &hard);
            return Some(self.verdict(cx, ask, &rules));
        }
        let id = {
            let mut inner = self.asking.inner.lock();
            if inner.open.len() >= OPEN_MAX {
                return Some(Verdict::unknown());
            }
            inner.last += 1;
            let id = inner.last;
            let open = Open { ask: ask.clone(), rules: rules.clone(), hard: hard.clone() };
            inner.open.insert(id, open);
            id
        };
        for (part, bit) in [(rules, 0), (hard, HARD)] {
            if let Part::Waits(wanted) = part {
                let (database, query) = self.xcap.select(&wanted);
                cx.for_slot(self.slot, |cx| cx.query(database, query, id << 1 | bit));
            }
        }
        None
    }

    /// The database has answered.
    pub(crate) fn answered(&self, cx: &mut Cx<'_>, token: u64, result: Result<Rows, DbError>) {
        let id = token >> 1;
        if let Err(error) = &result {
            cx.log(Level::Error, format!("presence_xml: a document cannot be read: {error}"));
        }
        let done = {
            let mut inner = self.asking.inner.lock();
            let Some(open) = inner.open.get_mut(&id) else { return };
            let part = if token & HARD == 0 { &mut open.rules } else { &mut open.hard };
            if let Part::Waits(wanted) = part {
                *part = match result {
                    Ok(rows) => Part::Known(self.xcap.answered(cx.now, wanted.clone(), &rows)),
                    Err(_) => Part::Failed,
                };
            }
            let waits = [&open.rules, &open.hard].iter().any(|p| matches!(p, Part::Waits(_)));
            if waits { None } else { inner.open.remove(&id) }
        };
        let Some(open) = done else { return };
        self.keep_hard(&open.ask, &open.hard);
        let verdict = self.verdict(cx, &open.ask, &open.rules);
        self.presence.ruled(cx, open.ask.token, verdict);
    }

    /// The rules of a user are others now.
    pub(crate) fn rules_changed(&self, presentity: &[u8]) {
        if let Some((user, domain)) = user_of(presentity) {
            self.xcap.forget(&user, &domain);
        }
    }

    /// What always counts as published for a user.
    pub(crate) fn hard_state(&self, presentity: &[u8]) -> Option<Bytes> {
        self.asking.inner.lock().hard.get(presentity).cloned()
    }

    fn keep_hard(&self, ask: &RuleAsk, part: &Part) {
        let Part::Known(document) = part else { return };
        let mut inner = self.asking.inner.lock();
        match document {
            Some(document) if inner.hard.len() < HARD_MAX => {
                inner.hard.insert(ask.presentity.clone(), document.clone());
            }
            Some(_) => {}
            None => {
                inner.hard.remove(&ask.presentity);
            }
        }
    }

    fn verdict(&self, cx: &mut Cx<'_>, ask: &RuleAsk, rules: &Part) -> Verdict {
        let document = match rules {
            Part::NotWanted => return Verdict::active(),
            Part::Known(Some(document)) => document,
            // Nobody has decided: the user can be asked, who sees it among the watchers.
            Part::Known(None) => return Verdict::of(Status::Pending, ""),
            Part::Waits(_) | Part::Failed => return Verdict::unknown(),
        };
        let watcher = String::from_utf8_lossy(&ask.watcher);
        let sphere = std::str::from_utf8(&ask.sphere).ok().filter(|s| !s.is_empty());
        let unix_s = i64::try_from(cx.now.unix_s()).unwrap_or(i64::MAX);
        match decide(document, &Asker { watcher: &watcher, sphere, unix_s }) {
            Ok(decision) => verdict_of(&decision),
            Err(why) => {
                let user = String::from_utf8_lossy(&ask.presentity).into_owned();
                let text = format!("presence_xml: the rules of {user} are not to be used: {why}");
                cx.log(Level::Warning, text);
                Verdict::of(Status::Pending, "")
            }
        }
    }
}

fn verdict_of(decision: &Decision) -> Verdict {
    match decision.handling {
        None | Some(Handling::Confirm) => Verdict::of(Status::Pending, ""),
        Some(Handling::Block) => Verdict::of(Status::Terminated, "rejected"),
        Some(Handling::PoliteBlock) => {
            Verdict { view: Bytes::from_static(POLITE), ..Verdict::active() }
        }
        Some(Handling::Allow) if decision.view.is_everything() => Verdict::active(),
        Some(Handling::Allow) => {
            let view = decision.view.text();
            let fits = view.len() <= tandem_presence::package::VIEW_BYTES_MAX;
            // What cannot be kept shows nothing rather than everything.
            let view = if fits { view } else { View::nothing().text() };
            Verdict { view: view.into(), ..Verdict::active() }
        }
    }
}
