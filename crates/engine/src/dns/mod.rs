//! Names in the way of a message: who is searched for, who waits for what, and what is known.
//!
//! A search (`tandem_dns`) asks its questions as [`Effect::Dns`]; the answers come back as
//! [`Input::Dns`](crate::effect::Input::Dns) on any worker. Searches for the same name share
//! their questions. A name that is known costs no effect at all. Whoever searched is told through
//! [`Module::resolved`](crate::module::Module::resolved).

mod settings;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use ahash::RandomState;
use parking_lot::Mutex;
use tandem_clock::{MS, Mono, Now};
use tandem_dns::{Answer, Cache, Found, Hosts, Name, Question, Record, RecordKind, Search, Target};
use tandem_sip::Uri;

pub use settings::DnsSettings;

use crate::core::stat;
use crate::effect::Effect;
use crate::log::Level;
use crate::module::{Cx, Timer};
use crate::node::Node;
use crate::sockets::Proto;
use crate::transport::{Hop, HopError, hop_of};
use crate::worker::timer;

/// Answers that are kept.
const CACHE_MAX: usize = 10_000;
/// Searches that may wait; what comes beyond fails at once.
const SEARCHES_MAX: usize = 20_000;
/// Questions that may be open.
const QUERIES_MAX: usize = 4_000;

/// What a search for a destination came to.
pub enum Resolved {
    Now(Result<Vec<Hop>, HopError>),
    /// [`Module::resolved`](crate::module::Module::resolved) is called later, exactly once.
    Later,
}

/// The names of a node.
pub struct Dns {
    pub settings: DnsSettings,
    state: Mutex<State>,
    /// The table of the host as it was at the start, for who cannot wait for an answer.
    hosts: Mutex<Hosts>,
}

struct State {
    cache: Cache,
    searches: HashMap<u64, Waiting>,
    queries: HashMap<u64, Query>,
    by_question: BTreeMap<Question, u64>,
    next: u64,
}

/// A search and who is told of its end.
struct Waiting {
    search: Search,
    slot: u16,
    token: u64,
}

/// A question that is open, and the searches that need it.
struct Query {
    question: Question,
    asked: Mono,
    searches: Vec<u64>,
}

impl Dns {
    pub(crate) fn new(settings: DnsSettings, hasher: RandomState) -> Self {
        let state = State {
            cache: Cache::new(CACHE_MAX, hasher),
            searches: HashMap::new(),
            queries: HashMap::new(),
            by_question: BTreeMap::new(),
            next: 1,
        };
        Self { settings, state: Mutex::new(state), hosts: Mutex::default() }
    }

    /// The address of a name, as far as it is known at this moment.
    pub fn known(&self, now: Now, name: &Name) -> Option<IpAddr> {
        [RecordKind::A, RecordKind::Aaaa].into_iter().find_map(|kind| {
            let question = Question::new(name, kind);
            let cached = self.state.lock().cache.get(now, &question).cloned();
            let answer = cached.or_else(|| self.hosts.lock().answer(&question))?;
            answer.records.iter().find_map(|record| match record {
                Record::Ip(ip) => Some(*ip),
                _ => None,
            })
        })
    }

    /// Takes the table of the host (`/etc/hosts`).
    pub fn set_hosts(&self, hosts: Hosts) {
        *self.hosts.lock() = hosts;
    }

    /// Searches that wait and answers that are kept.
    pub fn sizes(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.searches.len(), state.cache.len())
    }
}

/// How far a search is: what has to be asked, or its end.
enum Turn {
    Ask(Vec<(u64, Question)>),
    Ended(u16, u64, Result<Vec<Hop>, HopError>),
}

impl State {
    /// Carries a search on with what is known. `None`: it waits for questions that are open.
    fn turn(&mut self, node: &Node, now: Now, id: u64) -> Option<Turn> {
        loop {
            let waiting = self.searches.get_mut(&id)?;
            let found = waiting.search.go_on();
            let Found::Ask(questions) = found else {
                let Waiting { slot, token, .. } = self.searches.remove(&id)?;
                return Some(Turn::Ended(slot, token, hops(node, found)));
            };
            let mut open = Vec::new();
            let mut known = false;
            for question in questions {
                if let Some(answer) = self.cache.get(now, &question) {
                    waiting.search.answered(&question, answer.clone());
                    known = true;
                } else {
                    open.push(question);
                }
            }
            let mut asks = Vec::new();
            for question in open {
                asks.extend(self.join(now, id, question));
            }
            if !asks.is_empty() {
                return Some(Turn::Ask(asks));
            }
            if !known {
                return None;
            }
        }
    }

    /// Puts a search behind a question, which is asked if nobody else waits for it.
    fn join(&mut self, now: Now, id: u64, question: Question) -> Option<(u64, Question)> {
        let open = self.by_question.get(&question).and_then(|query| self.queries.get_mut(query));
        if let Some(query) = open {
            query.searches.push(id);
            return None;
        }
        let number = self.next;
        self.next += 1;
        self.by_question.insert(question.clone(), number);
        let query = Query { question: question.clone(), asked: now.mono_ns, searches: vec![id] };
        self.queries.insert(number, query);
        Some((number, question))
    }

    /// Takes an answer; the searches that needed it, and how long it took.
    fn answered(&mut self, now: Now, number: u64, answer: &Answer) -> Option<(Vec<u64>, u64)> {
        let Query { question, asked, searches } = self.queries.remove(&number)?;
        self.by_question.remove(&question);
        let answer = self.cache.put(now, &question, answer);
        for id in &searches {
            if let Some(waiting) = self.searches.get_mut(id) {
                waiting.search.answered(&question, answer.clone());
            }
        }
        Some((searches, now.mono_ns.saturating_sub(asked)))
    }
}

/// The destinations that this node has a socket for.
fn hops(node: &Node, found: Found) -> Result<Vec<Hop>, HopError> {
    let Found::Hops(found) = found else { return Err(HopError::Unresolvable) };
    if found.is_empty() {
        return Err(HopError::Unresolvable);
    }
    let reachable = |hop: &Hop| node.sockets.toward_by(hop.proto, hop.addr, None).is_some();
    let hops = found.into_iter().filter_map(|(p, addr)| hop_of(p, addr));
    let mut hops: Vec<Hop> = hops.filter(reachable).collect();
    if !node.dns.settings.failover {
        hops.truncate(1);
    }
    if hops.is_empty() { Err(HopError::NoSocket) } else { Ok(hops) }
}

/// Whom a URI names, when it is no address.
fn target_of(uri: &[u8]) -> Result<Target, HopError> {
    let uri = Uri::parse(uri).map_err(|_| HopError::BadUri)?;
    let maddr = uri.param(b"maddr").flatten().filter(|m| !m.is_empty());
    let name = Name::parse(maddr.unwrap_or(uri.host)).ok_or(HopError::Unresolvable)?;
    let protocol = match uri.param(b"transport") {
        None => None,
        Some(_) => Some(uri.transport().and_then(crate::transport::protocol_of))
            .ok_or(HopError::NoSocket)?,
    };
    Ok(Target { name, port: uri.port, protocol })
}

impl Cx<'_> {
    /// The destinations of a URI, in the order in which they are tried: at once for an address
    /// and for a name that is known, else later.
    pub fn resolve(&mut self, uri: &[u8], token: u64) -> Resolved {
        match crate::transport::uri_hop(uri) {
            Err(HopError::Unresolvable) => {}
            result => return Resolved::Now(result.map(|hop| vec![hop])),
        }
        match target_of(uri) {
            Ok(target) => self.resolve_target(target, token),
            Err(error) => Resolved::Now(Err(error)),
        }
    }

    /// The same for a host, with port and transport as far as they are given.
    pub fn resolve_target(&mut self, target: Target, token: u64) -> Resolved {
        let (node, now, slot) = (self.node, self.now, self.slot);
        let seed = self.worker.chance.u64();
        let settings = node.dns.settings.of_search(&node.sockets);
        let mut state = node.dns.state.lock();
        if state.searches.len() >= SEARCHES_MAX || state.queries.len() >= QUERIES_MAX {
            drop(state);
            self.log(Level::Warning, "too many names are being looked up: one is given up");
            return Resolved::Now(Err(HopError::Unresolvable));
        }
        let id = state.next;
        state.next += 1;
        let search = Search::new(target, settings, seed);
        state.searches.insert(id, Waiting { search, slot, token });
        let turn = state.turn(node, now, id);
        drop(state);
        match turn {
            Some(Turn::Ended(.., result)) => Resolved::Now(result),
            Some(Turn::Ask(asks)) => {
                self.ask(asks);
                Resolved::Later
            }
            None => Resolved::Later,
        }
    }

    /// The address of a name as far as it is known; what is not known is looked up for the next
    /// time.
    pub fn resolve_now(&mut self, name: &str) -> Option<IpAddr> {
        let name = Name::parse(name.as_bytes())?;
        if let Some(ip) = self.node.dns.known(self.now, &name) {
            return Some(ip);
        }
        let target = Target { name, port: Some(5060), protocol: None };
        let found = self.for_slot(crate::core::SLOT, |cx| cx.resolve_target(target, 0));
        match found {
            Resolved::Now(Ok(hops)) => hops.first().map(|hop| hop.addr.ip()),
            _ => None,
        }
    }

    fn ask(&mut self, asks: Vec<(u64, Question)>) {
        for (query, question) in asks {
            self.count_core(stat::DNS_QUERIES, 1);
            let at = self.now.after_ms(self.node.dns.settings.give_up_ms());
            let timer = Timer { kind: timer::DNS, id: query };
            self.worker.set_timer(at, crate::core::SLOT, timer);
            self.out.push(Effect::Dns { query, question });
        }
    }
}

/// An answer of the world, or the end of the time for one.
pub(crate) fn answered(cx: &mut Cx<'_>, query: u64, answer: &Answer) {
    let node = std::sync::Arc::clone(cx.node);
    let mut state = node.dns.state.lock();
    let Some((searches, took_ns)) = state.answered(cx.now, query, answer) else { return };
    let turns: Vec<Turn> =
        searches.into_iter().filter_map(|id| state.turn(&node, cx.now, id)).collect();
    drop(state);
    let slow = node.dns.settings.slow_us.is_some_and(|us| took_ns / 1_000 > us);
    if slow {
        cx.count_core(stat::DNS_SLOW_QUERIES, 1);
        cx.log(Level::Warning, format!("the DNS took {} ms to answer", took_ns / MS));
    }
    for turn in turns {
        match turn {
            Turn::Ask(asks) => cx.ask(asks),
            Turn::Ended(slot, token, result) => tell(cx, slot, token, result),
        }
    }
}

fn tell(cx: &mut Cx<'_>, slot: u16, token: u64, result: Result<Vec<Hop>, HopError>) {
    let node = std::sync::Arc::clone(cx.node);
    let module = node.modules.get(usize::from(slot)).and_then(|s| s.state.as_ref());
    if let Some(module) = module {
        cx.for_slot(slot, |cx| module.resolved(cx, token, result));
    }
}

/// The address families and transports that the sockets of a node reach.
pub(crate) fn reaches(sockets: &crate::sockets::Sockets, proto: Proto, ipv4: bool) -> bool {
    let any: SocketAddr = if ipv4 { ([127, 0, 0, 1], 1).into() } else { ([0u16; 8], 1).into() };
    sockets.toward_by(proto, any, None).is_some()
}
