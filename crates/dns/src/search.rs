//! RFC 3263 section 4: from a host to the destinations, in the order in which they are tried.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tandem_clock::Chance;

use crate::name::{Name, Question, RecordKind};
use crate::{Answer, Record};

/// Questions of one search, at most; what lies beyond is not looked at.
pub const QUESTIONS_MAX: usize = 48;
/// Destinations of one search, at most.
pub const HOPS_MAX: usize = 32;

/// Transports that SIP servers are found for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    Udp,
    Tcp,
    Tls,
}

impl Protocol {
    fn service(self) -> &'static str {
        match self {
            Self::Udp => "_sip._udp.",
            Self::Tcp => "_sip._tcp.",
            Self::Tls => "_sips._tcp.",
        }
    }

    /// By the service field of a NAPTR record (RFC 3263 4.1).
    fn of_naptr(service: &str) -> Option<Self> {
        let all = [("SIP+D2U", Self::Udp), ("SIP+D2T", Self::Tcp), ("SIPS+D2T", Self::Tls)];
        all.iter().find(|(name, _)| name.eq_ignore_ascii_case(service)).map(|(_, p)| *p)
    }

    fn default_port(self) -> u16 {
        if self == Self::Tls { 5061 } else { 5060 }
    }
}

/// Whom a URI or a Via names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub name: Name,
    pub port: Option<u16>,
    /// `None`: not given, so that the DNS may choose.
    pub protocol: Option<Protocol>,
}

/// What this node can and wants.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Transports it can send over.
    pub protocols: Vec<Protocol>,
    pub naptr: bool,
    /// IPv4 addresses are of use.
    pub ipv4: bool,
    /// IPv6 addresses are: asked for when there is none of IPv4.
    pub ipv6: bool,
}

/// What a search came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// These questions have to be answered first; each comes once.
    Ask(Vec<Question>),
    /// In the order in which they are tried. None: the name has no server.
    Hops(Vec<(Protocol, SocketAddr)>),
    /// Nobody could say.
    Failed,
}

/// One search.
#[derive(Clone, Debug)]
pub struct Search {
    target: Target,
    settings: Settings,
    /// Chooses among servers of one priority; the same for the whole search.
    seed: u64,
    answers: BTreeMap<Question, Answer>,
    asked: Vec<Question>,
}

impl Search {
    pub fn new(target: Target, settings: Settings, seed: u64) -> Self {
        Self { target, settings, seed, answers: BTreeMap::new(), asked: Vec::new() }
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    /// An answer; one that nobody asked for is not believed.
    pub fn answered(&mut self, question: &Question, answer: Answer) {
        if self.asked.contains(question) {
            self.answers.entry(question.clone()).or_insert(answer);
        }
    }

    /// How far it is.
    pub fn go_on(&mut self) -> Found {
        let mut walk = Walk { search: self, open: Vec::new(), hops: Vec::new(), failed: false };
        walk.start();
        let Walk { open, hops, failed, .. } = walk;
        let waits = self.asked.iter().any(|q| !self.answers.contains_key(q));
        if !open.is_empty() {
            self.asked.extend(open.iter().cloned());
            return Found::Ask(open);
        }
        match (waits, hops.is_empty(), failed) {
            (true, ..) => Found::Ask(Vec::new()),
            (_, true, true) => Found::Failed,
            _ => Found::Hops(hops),
        }
    }
}

/// One pass over what is known: collects destinations, and questions that are open.
struct Walk<'a> {
    search: &'a Search,
    open: Vec<Question>,
    hops: Vec<(Protocol, SocketAddr)>,
    failed: bool,
}

impl Walk<'_> {
    fn start(&mut self) {
        let Target { name, port, protocol } = self.search.target.clone();
        match (port, protocol) {
            // 4.2: a port says that this host is meant.
            (Some(port), protocol) => {
                self.addresses(&name, protocol.unwrap_or(Protocol::Udp), port);
            }
            (None, Some(protocol)) => self.servers_or_host(&name, &[protocol]),
            (None, None) => self.by_naptr(&name),
        }
    }

    /// 4.1: the domain says which transports it prefers.
    fn by_naptr(&mut self, name: &Name) {
        if !self.search.settings.naptr {
            return self.by_servers(name);
        }
        let Some(records) = self.known(name, RecordKind::Naptr) else { return };
        let mut chosen: Vec<(u16, u16, Protocol, Name)> = records
            .into_iter()
            .filter_map(|record| match record {
                Record::Naptr { order, preference, flags, service, replacement } => {
                    let protocol = Protocol::of_naptr(&service)?;
                    let usable = self.search.settings.protocols.contains(&protocol);
                    let server = flags.eq_ignore_ascii_case("s");
                    (usable && server).then_some((order, preference, protocol, replacement))
                }
                _ => None,
            })
            .collect();
        chosen.sort_by_key(|(order, preference, ..)| (*order, *preference));
        if chosen.is_empty() {
            return self.by_servers(name);
        }
        for (_, _, protocol, server) in chosen {
            self.servers(&server, protocol);
        }
        if self.hops.is_empty() && self.open.is_empty() {
            self.by_servers(name);
        }
    }

    /// Without NAPTR every transport that this node has is looked for, UDP first.
    fn by_servers(&mut self, name: &Name) {
        let all = [Protocol::Udp, Protocol::Tcp];
        let usable = |p: &Protocol| self.search.settings.protocols.contains(p);
        let protocols: Vec<Protocol> = all.into_iter().filter(usable).collect();
        self.servers_or_host(name, &protocols);
    }

    fn servers_or_host(&mut self, name: &Name, protocols: &[Protocol]) {
        let mut any = false;
        for protocol in protocols {
            if let Some(service) = name.service(protocol.service()) {
                any |= self.servers(&service, *protocol);
            }
        }
        let protocol = protocols.first().copied().unwrap_or(Protocol::Udp);
        if !any && self.open.is_empty() {
            self.addresses(name, protocol, protocol.default_port());
        }
    }

    /// The servers of a service; whether there are any, or may be.
    fn servers(&mut self, service: &Name, protocol: Protocol) -> bool {
        let Some(records) = self.known(service, RecordKind::Srv) else { return false };
        let mut servers: Vec<Server> = records
            .into_iter()
            .filter_map(|record| match record {
                Record::Srv { priority, weight, port, target } => {
                    Some(Server { priority, weight, port, target })
                }
                _ => None,
            })
            .collect();
        in_order(&mut servers, &mut Chance::from_number(self.search.seed));
        for Server { port, target, .. } in &servers {
            self.addresses(target, protocol, *port);
        }
        !servers.is_empty()
    }

    fn addresses(&mut self, name: &Name, protocol: Protocol, port: u16) {
        let (ipv4, ipv6) = (self.search.settings.ipv4, self.search.settings.ipv6);
        let mut records = Vec::new();
        if ipv4 {
            let Some(known) = self.known(name, RecordKind::A) else { return };
            records = known;
        }
        if records.is_empty() && ipv6 {
            let Some(known) = self.known(name, RecordKind::Aaaa) else { return };
            records = known;
        }
        for record in records {
            let Record::Ip(ip) = record else { continue };
            let hop = (protocol, SocketAddr::new(ip, port));
            if self.hops.len() < HOPS_MAX && !self.hops.contains(&hop) {
                self.hops.push(hop);
            }
        }
    }

    /// The records of a name; `None` while they are not known.
    fn known(&mut self, name: &Name, kind: RecordKind) -> Option<Vec<Record>> {
        let question = Question::new(name, kind);
        if let Some(answer) = self.search.answers.get(&question) {
            self.failed |= answer.failed;
            return Some(answer.records.clone());
        }
        let known = self.search.asked.contains(&question) || self.open.contains(&question);
        if !known && self.search.asked.len() + self.open.len() < QUESTIONS_MAX {
            self.open.push(question);
        }
        None
    }
}

#[derive(Clone, Debug)]
struct Server {
    priority: u16,
    weight: u16,
    port: u16,
    target: Name,
}

/// RFC 2782: by priority, and among equals by chance, in proportion to the weights.
fn in_order(servers: &mut [Server], chance: &mut Chance) {
    servers.sort_by(|a, b| {
        let key = |s: &Server| (s.priority, s.weight != 0);
        key(a).cmp(&key(b)).then_with(|| (&a.target, a.port).cmp(&(&b.target, b.port)))
    });
    let mut at = 0;
    while at < servers.len() {
        let priority = servers[at].priority;
        let end = servers.iter().rposition(|s| s.priority == priority).map_or(at + 1, |e| e + 1);
        let total: u32 = servers[at..end].iter().map(|s| u32::from(s.weight)).sum();
        let drawn = chance.below(total + 1);
        let mut sum = 0;
        let chosen = servers[at..end].iter().position(|s| {
            sum += u32::from(s.weight);
            sum >= drawn
        });
        // The others keep their order: those of weight 0 stay in front.
        servers[at..=at + chosen.unwrap_or(0)].rotate_right(1);
        at += 1;
    }
}
