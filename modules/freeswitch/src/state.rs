//! The state of the module: every FreeSWITCH that somebody watches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use tandem_clock::{MS, Mono, Now};
use tandem_dns::{Name, Protocol, Target};
use tandem_engine::client::{ClientAsk, ClientEvent};
use tandem_engine::dns::Resolved;
use tandem_engine::log::Level;
use tandem_engine::module::{Build, BuildError, Cx, Module, Timer};
use tandem_engine::node::Node;
use tandem_engine::sockets::Proto;
use tandem_engine::transport::{Hop, HopError};

use crate::load::Load;
use crate::server::{Event, Patience, Server, Want};
use crate::url::FsUrl;

/// Servers that are watched at the same time.
pub(crate) const SERVERS_MAX: usize = 1_000;
/// Bits of a token that count the connections of a server; those above are its number.
const ATTEMPT_BITS: u32 = 24;

/// A module that is told of new loads: its [`Module::timer`] is called with this kind, and with an
/// id for [`FreeSwitch::told`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Watcher {
    pub slot: u16,
    pub timer: u32,
}

struct Watched {
    server: Server,
    by: BTreeSet<Watcher>,
    /// When a timer will fire for it.
    armed: Mono,
}

#[derive(Default)]
struct Servers {
    all: BTreeMap<u64, Watched>,
    numbers: BTreeMap<Arc<FsUrl>, u64>,
    next: u64,
}

/// The state of the module.
pub struct FreeSwitch {
    slot: u16,
    patience: Patience,
    servers: Mutex<Servers>,
}

impl FreeSwitch {
    /// The module that listens to servers, for one whose `fetch_freeswitch_stats` wants that.
    ///
    /// # Errors
    /// If it is wanted and not loaded.
    pub fn wanted(build: &Build<'_>, is_wanted: bool) -> Result<Option<Arc<Self>>, BuildError> {
        match build.module::<Self>() {
            None if is_wanted => {
                let why = "the module freeswitch is needed";
                Err(BuildError::new("fetch_freeswitch_stats", why).help("load freeswitch.so"))
            }
            found => Ok(found.filter(|_| is_wanted)),
        }
    }

    pub(crate) fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
        let number = |name: &'static str| {
            let number = build.int(name).and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
            number.ok_or_else(|| BuildError::new(name, "1 or more is wanted"))
        };
        let patience = Patience {
            heartbeat_s: number("event_heartbeat_interval")?,
            connect_ms: number("esl_connect_timeout")?,
            command_ms: number("esl_cmd_timeout")?,
        };
        Ok(Arc::new(Self { slot: build.slot, patience, servers: Mutex::default() }))
    }

    /// The last load that a FreeSWITCH has told.
    pub fn load(&self, url: &FsUrl) -> Option<Load> {
        let servers = self.servers.lock();
        let watched = servers.all.get(servers.numbers.get(url)?)?;
        watched.server.load.map(|(load, _)| load)
    }

    /// Whose load is new.
    pub fn told(&self, id: u64) -> Option<(Arc<FsUrl>, Load)> {
        let servers = self.servers.lock();
        let server = &servers.all.get(&id)?.server;
        server.load.map(|(load, _)| (Arc::clone(&server.url), load))
    }

    /// From now on somebody watches these, and no others.
    pub fn watch(&self, cx: &mut Cx<'_>, by: Watcher, urls: impl IntoIterator<Item = Arc<FsUrl>>) {
        let wanted: BTreeSet<Arc<FsUrl>> = urls.into_iter().collect();
        let (mut begun, mut ended, mut refused) = (Vec::new(), Vec::new(), 0);
        let mut servers = self.servers.lock();
        let Servers { all, numbers, next } = &mut *servers;
        all.retain(|number, watched| {
            if !wanted.contains(&watched.server.url) {
                watched.by.remove(&by);
            }
            let stays = !watched.by.is_empty();
            if !stays {
                numbers.remove(&watched.server.url);
                ended.push(token(*number, &watched.server));
            }
            stays
        });
        for url in wanted {
            if let Some(watched) = numbers.get(&url).and_then(|number| all.get_mut(number)) {
                watched.by.insert(by);
            } else if all.len() >= SERVERS_MAX {
                refused += 1;
            } else {
                *next += 1;
                let server = Server::new(Arc::clone(&url), cx.now);
                all.insert(*next, Watched { server, by: [by].into(), armed: Mono::MAX });
                numbers.insert(url, *next);
                begun.push(*next);
            }
        }
        drop(servers);
        cx.for_slot(self.slot, |cx| {
            ended.into_iter().for_each(|token| cx.ask_client(ClientAsk::Close, token));
            begun.into_iter().for_each(|number| self.handle(cx, number, Event::Due));
        });
        if refused > 0 {
            let text = format!(
                "freeswitch: {refused} servers are too many and are not asked for their load: \
                 {SERVERS_MAX} may be"
            );
            cx.log(Level::Error, text);
        }
    }

    /// Something has happened to a server.
    fn handle(&self, cx: &mut Cx<'_>, number: u64, event: Event) {
        let mut event = Some(event);
        while let Some(happened) = event.take() {
            let chance = cx.worker.chance.u64();
            let mut servers = self.servers.lock();
            let Some(watched) = servers.all.get_mut(&number) else { return };
            let wants = watched.server.handle(cx.now, happened, &self.patience, chance);
            let token = token(number, &watched.server);
            let by = watched.by.clone();
            let url = Arc::clone(&watched.server.url);
            let due = watched.server.deadline(&self.patience);
            if due < watched.armed {
                watched.armed = due;
                cx.set_timer(due, Timer { kind: 0, id: number });
            }
            drop(servers);
            for want in wants {
                match want {
                    Want::Resolve => event = resolve(cx, &url, token).map(Event::Resolved),
                    Want::Open(peer) => {
                        let timeout_ms = self.patience.connect_ms;
                        cx.ask_client(ClientAsk::Open { peer, timeout_ms }, token);
                    }
                    Want::Write(bytes) => cx.ask_client(ClientAsk::Write(bytes), token),
                    Want::Close => cx.ask_client(ClientAsk::Close, token),
                    Want::Log(level, text) => cx.log(level, text),
                    Want::Changed => {
                        for Watcher { slot, timer } in &by {
                            let timer = Timer { kind: *timer, id: number };
                            cx.for_slot(*slot, |cx| cx.come_back(timer));
                        }
                    }
                }
            }
        }
    }

    /// The server of a token, if it is that of its present connection.
    fn number(&self, of: u64) -> Option<u64> {
        let number = of >> ATTEMPT_BITS;
        let servers = self.servers.lock();
        let watched = servers.all.get(&number)?;
        (token(number, &watched.server) == of).then_some(number)
    }
}

/// The name of a server's present connection.
fn token(number: u64, server: &Server) -> u64 {
    number << ATTEMPT_BITS | (server.attempt & ((1 << ATTEMPT_BITS) - 1))
}

type Found = Result<Vec<std::net::IpAddr>, String>;

/// Looks the host of a server up; `None`: the answer comes later.
fn resolve(cx: &mut Cx<'_>, url: &FsUrl, token: u64) -> Option<Found> {
    let Some(name) = Name::parse(url.host.as_bytes()) else {
        return Some(Err("its host is no name".into()));
    };
    // Of a transport that this node has; only the addresses matter.
    let has_udp = cx.node.sockets.of(Proto::Udp).next().is_some();
    let protocol = Some(if has_udp { Protocol::Udp } else { Protocol::Tcp });
    let target = Target { name, port: Some(url.port), protocol };
    match cx.resolve_target(target, token) {
        Resolved::Now(result) => Some(addresses(result)),
        Resolved::Later => None,
    }
}

fn addresses(result: Result<Vec<Hop>, HopError>) -> Found {
    let hops = result.map_err(|why| format!("its name cannot be looked up: {why}"))?;
    Ok(hops.into_iter().map(|hop| hop.addr.ip()).collect())
}

impl Module for FreeSwitch {
    fn timer(&self, cx: &mut Cx<'_>, timer: Timer) {
        if let Some(watched) = self.servers.lock().all.get_mut(&timer.id)
            && cx.now.mono_ns >= watched.armed
        {
            watched.armed = Mono::MAX;
        }
        self.handle(cx, timer.id, Event::Due);
    }

    fn resolved(&self, cx: &mut Cx<'_>, token: u64, result: Result<Vec<Hop>, HopError>) {
        if let Some(number) = self.number(token) {
            self.handle(cx, number, Event::Resolved(addresses(result)));
        }
    }

    fn client(&self, cx: &mut Cx<'_>, token: u64, event: ClientEvent) {
        let Some(number) = self.number(token) else { return };
        let event = match event {
            ClientEvent::Opened => Event::Opened,
            ClientEvent::Bytes(bytes) => Event::Bytes(bytes),
            ClientEvent::Closed(why) => Event::Closed(why),
        };
        self.handle(cx, number, event);
    }

    fn status(&self, _: &Node, now: Now) -> Option<Json> {
        let servers = self.servers.lock();
        let all = servers.all.values().map(|watched| {
            let server = &watched.server;
            let mut row = json!({"server": server.url.to_string(), "state": server.state()});
            if let Some((load, at)) = server.load {
                row["sessions"] = load.sessions.into();
                row["sessions_max"] = load.sessions_max.into();
                row["idle_cpu"] = load.idle_cpu.into();
                row["age_ms"] = (now.mono_ns.saturating_sub(at.mono_ns) / MS).into();
            }
            row
        });
        Some(json!({"servers": all.collect::<Vec<Json>>()}))
    }
}
