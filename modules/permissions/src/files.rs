//! Pairs of rule files. A pair that the script names is read at start; one whose name is known
//! only when a message comes is read then, and what asked waits.

use std::collections::BTreeMap;
use std::sync::Arc;

use tandem_engine::log::Level;
use tandem_engine::mi::RpcError;
use tandem_engine::module::Cx;

use crate::rules::Rules;
use crate::state::Permissions;

/// Names that messages may bring.
const PAIRS_MAX: usize = 1_000;
/// What may wait for one pair.
const WAITING_MAX: usize = 1_000;

/// Names of the two files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Names {
    pub(crate) allow: String,
    pub(crate) deny: String,
}

/// Both files as read.
#[derive(Debug, Default)]
pub(crate) struct Pair {
    pub(crate) allow: Rules,
    pub(crate) deny: Rules,
}

impl Pair {
    /// First the file that lets through, then the one that refuses; who is in neither may.
    pub(crate) fn lets(&self, who: &[u8], what: &[u8]) -> bool {
        self.allow.has(who, what) || !self.deny.has(who, what)
    }
}

/// Who asks whether `who` may do all of `what`.
#[derive(Debug)]
pub(crate) struct Asking {
    pub(crate) who: Vec<u8>,
    pub(crate) what: Vec<Vec<u8>>,
    pub(crate) by: By,
}

/// Where the answer goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum By {
    Run(u64),
    Command(u64),
}

/// A pair on its way.
#[derive(Debug, Default)]
struct Coming {
    allow: Option<Rules>,
    deny: Option<Rules>,
    waiting: Vec<Asking>,
}

#[derive(Debug)]
enum State {
    Coming(Box<Coming>),
    There(Arc<Pair>),
}

/// Every pair that anybody asked for; a token is twice its place, and one more for the file that
/// refuses.
#[derive(Debug, Default)]
pub(crate) struct Files {
    places: BTreeMap<Names, usize>,
    states: Vec<State>,
}

/// What [`Files::ask`] comes to.
pub(crate) enum Answer {
    There(Arc<Pair>),
    /// The pair has to be read first: its place, when nobody does yet.
    Later(Option<usize>),
    Full,
}

impl Files {
    /// A pair that was read.
    pub(crate) fn there(&self, names: &Names) -> Option<Arc<Pair>> {
        match self.states.get(*self.places.get(names)?)? {
            State::There(pair) => Some(Arc::clone(pair)),
            State::Coming(_) => None,
        }
    }

    /// A pair, or who waits for it.
    pub(crate) fn ask(&mut self, names: &Names, asking: Option<Asking>) -> Answer {
        let (at, fresh) = match self.places.get(names) {
            Some(at) => (*at, false),
            None if self.states.len() >= PAIRS_MAX => return Answer::Full,
            None => {
                self.places.insert(names.clone(), self.states.len());
                self.states.push(State::Coming(Box::default()));
                (self.states.len() - 1, true)
            }
        };
        match self.states.get_mut(at) {
            Some(State::There(pair)) => Answer::There(Arc::clone(pair)),
            Some(State::Coming(coming)) if coming.waiting.len() < WAITING_MAX => {
                coming.waiting.extend(asking);
                Answer::Later(fresh.then_some(at))
            }
            _ => Answer::Full,
        }
    }

    /// Takes a file; who waited, when both are there.
    fn read(&mut self, token: u64, rules: Rules) -> Option<(Arc<Pair>, Vec<Asking>)> {
        let state = self.states.get_mut(usize::try_from(token / 2).ok()?)?;
        let State::Coming(coming) = state else { return None };
        *(if token.is_multiple_of(2) { &mut coming.allow } else { &mut coming.deny }) = Some(rules);
        if coming.allow.is_none() || coming.deny.is_none() {
            return None;
        }
        let coming = std::mem::take(coming);
        let allow = coming.allow.unwrap_or_default();
        let pair = Arc::new(Pair { allow, deny: coming.deny.unwrap_or_default() });
        *state = State::There(Arc::clone(&pair));
        Some((pair, coming.waiting))
    }

    /// The name of the file that a token means.
    fn name(&self, token: u64) -> String {
        let of = |(names, at): (&Names, &usize)| {
            let is = u64::try_from(*at).ok() == Some(token / 2);
            is.then(
                || if token.is_multiple_of(2) { names.allow.clone() } else { names.deny.clone() },
            )
        };
        self.places.iter().find_map(of).unwrap_or_default()
    }
}

impl Permissions {
    /// Asks for both files of a pair.
    pub(crate) fn read_pair(cx: &mut Cx<'_>, names: &Names, at: usize) {
        let token = at as u64 * 2;
        cx.read_beside_script(&names.allow, token);
        cx.read_beside_script(&names.deny, token + 1);
    }

    /// A file is there: a missing one has no rules.
    pub(crate) fn file_came(
        &self,
        cx: &mut Cx<'_>,
        token: u64,
        result: Result<Option<bytes::Bytes>, String>,
    ) {
        let name = self.files.lock().name(token);
        let text = match result {
            Ok(text) => text.unwrap_or_default(),
            Err(why) => {
                cx.log(Level::Error, format!("permissions: {why}"));
                bytes::Bytes::new()
            }
        };
        let (rules, faults) = Rules::parse(&String::from_utf8_lossy(&text));
        for why in faults {
            cx.log(Level::Error, format!("permissions: {name}: {why}"));
        }
        let done = self.files.lock().read(token, rules);
        let Some((pair, waiting)) = done else { return };
        for asking in waiting {
            let lets = asking.what.iter().all(|what| pair.lets(&asking.who, what));
            match asking.by {
                By::Run(run) => cx.resume(run, if lets { 1 } else { -1 }),
                By::Command(request) => cx.mi_reply(request, verdict(lets)),
            }
        }
    }
}

/// The answer to the command.
pub(crate) fn verdict(lets: bool) -> Result<serde_json::Value, RpcError> {
    match lets {
        true => Ok("OK".into()),
        false => Err(RpcError { code: 403, message: "Forbidden".into(), data: None }),
    }
}
