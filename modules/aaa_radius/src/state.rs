//! The state of the module.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use tandem_clock::{Mono, Now};
use tandem_dns::{Name, Protocol, Target};
use tandem_engine::client::{ClientAsk, ClientEvent};
use tandem_engine::dns::Resolved;
use tandem_engine::effect::Effect;
use tandem_engine::log::Level;
use tandem_engine::module::{Build, BuildError, Cx, Module, Timer};
use tandem_engine::node::Node;
use tandem_engine::sockets::Proto;
use tandem_engine::transport::{Hop, HopError};
use tandem_radius::client::{self, Event, Kind, Want};
use tandem_radius::dictionary::Dictionary;
use tandem_radius::packet::Avp;
use tandem_radius::value;

use crate::door::{Door, Need, Open, nas};
use crate::functions::{ANSWERED, Scripted};
use crate::load::Step;

pub use tandem_radius::client::Outcome;

/// Doors of a node, at most.
const DOORS_MAX: usize = 64;
/// Bits of a token: the socket of a server, the server, the door.
const ATTEMPT_BITS: u32 = 32;
const SERVER_BITS: u32 = 8;

/// A configuration file that is asked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoorId(usize);

/// Who asks: its [`Module::timer`] is called with this kind, and with an id for
/// [`AaaRadius::take`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    pub slot: u16,
    pub timer: u32,
}

/// The state of the module.
pub struct AaaRadius {
    slot: u16,
    /// `None`: scripts ask nothing themselves.
    pub(crate) scripted: Option<Scripted>,
    doors: Mutex<Vec<Door>>,
    /// Files that were asked for: whose, and their names.
    files: Mutex<Vec<(usize, String)>>,
    /// Requests under way: who asks, and what it calls its request.
    asked: Mutex<BTreeMap<u64, (Asker, u64)>>,
    answered: Mutex<BTreeMap<u64, (u64, Outcome)>>,
    next: AtomicU64,
}

impl AaaRadius {
    pub(crate) fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
        let mut module = Self {
            slot: build.slot,
            scripted: None,
            doors: Mutex::default(),
            files: Mutex::default(),
            asked: Mutex::default(),
            answered: Mutex::default(),
            next: AtomicU64::new(1),
        };
        module.scripted = Scripted::build(build, &module)?;
        Ok(Arc::new(module))
    }

    /// The module and a door, for a module whose parameter `param` is `radius:FILE`.
    ///
    /// # Errors
    /// If that names no file, or this module is not loaded.
    pub fn wanted(
        build: &Build<'_>,
        param: &'static str,
    ) -> Result<Option<(Arc<Self>, DoorId)>, BuildError> {
        let Some(url) = build.text(param).filter(|url| !url.is_empty()) else { return Ok(None) };
        let Some(path) = url.strip_prefix("radius:").filter(|path| !path.is_empty()) else {
            let text = format!("`{url}` is no RADIUS URL");
            let help = "write \"radius:/etc/radcli/radiusclient.conf\"";
            return Err(BuildError::new(param, text).help(help));
        };
        let Some(module) = build.module::<Self>() else {
            let why = "the module aaa_radius is needed";
            return Err(BuildError::new(param, why).help("load aaa_radius.so"));
        };
        let door = module.door(path).map_err(|why| BuildError::new(param, why))?;
        Ok(Some((module, door)))
    }

    /// The door of a configuration file.
    ///
    /// # Errors
    /// When there are too many.
    pub(crate) fn door(&self, path: &str) -> Result<DoorId, String> {
        let mut doors = self.doors.lock();
        let known = doors.iter().position(|door| door.path == path);
        if known.is_none() && doors.len() >= DOORS_MAX {
            return Err(format!("more than {DOORS_MAX} configuration files of RADIUS"));
        }
        Ok(DoorId(known.unwrap_or_else(|| {
            doors.push(Door::new(path));
            doors.len() - 1
        })))
    }

    /// Has the node not start when the dictionary of a door lacks one of these attributes, which
    /// `by` needs.
    pub fn need(&self, door: DoorId, by: &str, attributes: &[&str]) {
        if let Some(door) = self.doors.lock().get_mut(door.0) {
            let need = |name: &&str| Need { attribute: (*name).to_owned(), by: by.to_owned() };
            door.needs.extend(attributes.iter().map(need));
        }
    }

    /// The dictionary of a door; `None` before the node serves.
    pub fn dictionary(&self, door: DoorId) -> Option<Arc<Dictionary>> {
        let doors = self.doors.lock();
        Some(Arc::clone(&doors.get(door.0)?.open.as_ref()?.dictionary))
    }

    /// An attribute with its value, for a request.
    ///
    /// # Errors
    /// If the dictionary does not know it, or it cannot have this value.
    pub fn avp(&self, door: DoorId, name: &str, text: &[u8]) -> Result<Avp, String> {
        let dictionary = self.dictionary(door).ok_or("the dictionary is not read yet")?;
        value::avp(&dictionary, value::attribute(&dictionary, name)?, text)
    }

    /// Asks; `id` comes back with the answer.
    pub fn ask(
        &self,
        cx: &mut Cx<'_>,
        door: DoorId,
        (kind, avps): (Kind, Vec<Avp>),
        (asker, id): (Asker, u64),
    ) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.asked.lock().insert(number, (asker, id));
        let nas = self.doors.lock().get(door.0).and_then(|d| Some(d.open.as_ref()?.nas.clone()));
        // What is given counts more.
        let names = |avp: &Avp| (avp.vendor, avp.number);
        let is_given = |avp: &Avp| avps.iter().any(|given| names(given) == names(avp));
        let nas = nas.unwrap_or_default().into_iter().filter(|avp| !is_given(avp));
        let avps = nas.chain(avps.iter().cloned()).collect();
        cx.for_slot(self.slot, |cx| self.handle(cx, door.0, Event::Ask { number, kind, avps }));
    }

    /// The answer that a timer of the asker tells of: what it calls its request, and what became of
    /// it.
    pub fn take(&self, number: u64) -> Option<(u64, Outcome)> {
        self.answered.lock().remove(&number)
    }

    /// Something has happened to a door.
    fn handle(&self, cx: &mut Cx<'_>, at: usize, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let mut doors = self.doors.lock();
            let Some(door) = doors.get_mut(at) else { return };
            let Some(open) = &mut door.open else {
                drop(doors);
                if let Event::Ask { number, .. } = event {
                    self.done(cx, number, Outcome::Failed("its files are not read yet".into()));
                }
                return;
            };
            let random = &mut cx.worker.chance;
            let mut chance = || {
                let mut bytes = [0; 16];
                random.fill(&mut bytes);
                bytes
            };
            let wants = open.client.handle(cx.now, event, &mut chance);
            let due = open.client.deadline();
            let tokens = |server| token(at, server, &open.client);
            let wants: Vec<(u64, Want)> = wants.into_iter().map(|w| (tokens(of(&w)), w)).collect();
            let (from, path) = (open.from, door.path.clone());
            if due < door.armed {
                door.armed = due;
                cx.set_timer(due, Timer { kind: 0, id: at as u64 });
            }
            drop(doors);
            for (token, want) in wants {
                events.extend(self.carry_out(cx, (token, want), from, (at, &path)));
            }
        }
    }

    /// Does what a door wants; what comes of it at once.
    fn carry_out(
        &self,
        cx: &mut Cx<'_>,
        (token, want): (u64, Want),
        from: Option<IpAddr>,
        (at, path): (usize, &str),
    ) -> Option<Event> {
        match want {
            Want::Resolve(server) => {
                let found = self.resolve(cx, at, server, token)?;
                return Some(Event::Resolved { server, found });
            }
            Want::Open(_, peer) => cx.ask_client(ClientAsk::OpenDatagrams { peer, from }, token),
            Want::Write(_, bytes) => cx.ask_client(ClientAsk::Write(bytes), token),
            Want::Close(_) => cx.ask_client(ClientAsk::Close, token),
            Want::Log(true, text) => {
                cx.log(Level::Warning, format!("aaa_radius: {path}: {text}"));
            }
            Want::Log(false, text) => {
                cx.log(Level::Notice, format!("aaa_radius: {path}: {text}"));
            }
            Want::Done(number, outcome) => self.done(cx, number, outcome),
        }
        None
    }

    /// Tells whoever asked.
    fn done(&self, cx: &mut Cx<'_>, number: u64, outcome: Outcome) {
        let Some((asker, id)) = self.asked.lock().remove(&number) else { return };
        self.answered.lock().insert(number, (id, outcome));
        let timer = Timer { kind: asker.timer, id: number };
        cx.for_slot(asker.slot, |cx| cx.come_back(timer));
    }

    /// Looks the host of a server up; `None`: the answer comes later.
    fn resolve(&self, cx: &mut Cx<'_>, at: usize, server: usize, token: u64) -> Option<Found> {
        let spec = {
            let doors = self.doors.lock();
            let client = &doors.get(at)?.open.as_ref()?.client;
            client.spec(server).map(|spec| (spec.host.clone(), spec.port))?
        };
        let Some(name) = Name::parse(spec.0.as_bytes()) else {
            return Some(Err("its host is no name".into()));
        };
        // Of a transport that this node has; only the addresses matter.
        let has_udp = cx.node.sockets.of(Proto::Udp).next().is_some();
        let protocol = Some(if has_udp { Protocol::Udp } else { Protocol::Tcp });
        match cx.resolve_target(Target { name, port: Some(spec.1), protocol }, token) {
            Resolved::Now(result) => Some(addresses(result)),
            Resolved::Later => None,
        }
    }

    /// The door and the server of a token, if it is that of the present socket.
    fn server_of(&self, of: u64) -> Option<(usize, usize)> {
        let at = (of >> (ATTEMPT_BITS + SERVER_BITS)) as usize;
        let server = (of >> ATTEMPT_BITS) as usize & ((1 << SERVER_BITS) - 1);
        let doors = self.doors.lock();
        let client = &doors.get(at)?.open.as_ref()?.client;
        (token(at, server, client) == of).then_some((at, server))
    }

    fn read(&self, cx: &mut Cx<'_>, at: usize, names: Vec<String>) {
        for name in names {
            let mut files = self.files.lock();
            files.push((at, name.clone()));
            let token = files.len() as u64 - 1;
            drop(files);
            cx.read_beside_script(&name, token);
        }
    }
}

type Found = Result<Vec<IpAddr>, String>;

fn addresses(result: Result<Vec<Hop>, HopError>) -> Found {
    let hops = result.map_err(|why| format!("its name cannot be looked up: {why}"))?;
    Ok(hops.into_iter().map(|hop| hop.addr.ip()).collect())
}

/// The server that something is wanted of.
fn of(want: &Want) -> usize {
    match want {
        Want::Resolve(server)
        | Want::Open(server, _)
        | Want::Write(server, _)
        | Want::Close(server) => *server,
        Want::Log(..) | Want::Done(..) => 0,
    }
}

fn token(door: usize, server: usize, client: &client::Client) -> u64 {
    let attempt = client.attempt(server) & ((1 << ATTEMPT_BITS) - 1);
    ((door as u64) << SERVER_BITS | server as u64) << ATTEMPT_BITS | attempt
}

impl Module for AaaRadius {
    fn start(&self, cx: &mut Cx<'_>) {
        let paths: Vec<String> = self.doors.lock().iter().map(|door| door.path.clone()).collect();
        for (at, path) in paths.into_iter().enumerate() {
            cx.begin_startup();
            self.read(cx, at, vec![path]);
        }
    }

    fn file_read(&self, cx: &mut Cx<'_>, token: u64, result: Result<Option<Bytes>, String>) {
        let Some((at, name)) = self.files.lock().get(token as usize).cloned() else { return };
        let mut doors = self.doors.lock();
        let Some(door) = doors.get_mut(at) else { return };
        let text = result.as_ref().map(Option::as_deref).map_err(Clone::clone);
        let step = door.loading.came(&name, text);
        let loaded = match step {
            Step::Ask(names) => {
                drop(doors);
                return self.read(cx, at, names);
            }
            Step::Failed(why) => Err(why),
            Step::Whole(loaded) => door.check(&loaded.dictionary).map(|()| loaded),
        };
        match loaded {
            Ok(loaded) => {
                door.open = Some(Open {
                    dictionary: Arc::new(loaded.dictionary),
                    client: loaded.client,
                    nas: nas(cx, &loaded.config),
                    from: loaded.config.from,
                });
                drop(doors);
                loaded.said.into_iter().for_each(|(level, text)| cx.log(level, text));
                cx.end_startup();
            }
            Err(why) => {
                drop(doors);
                cx.out.push(Effect::Fatal { text: format!("aaa_radius: {why}") });
            }
        }
    }

    fn timer(&self, cx: &mut Cx<'_>, timer: Timer) {
        if timer.kind == ANSWERED {
            if let Some(scripted) = &self.scripted {
                scripted.answered(cx, self, timer);
            }
            return;
        }
        let at = timer.id as usize;
        if let Some(door) = self.doors.lock().get_mut(at)
            && cx.now.mono_ns >= door.armed
        {
            door.armed = Mono::MAX;
        }
        self.handle(cx, at, Event::Due);
    }

    fn resolved(&self, cx: &mut Cx<'_>, token: u64, result: Result<Vec<Hop>, HopError>) {
        if let Some((at, server)) = self.server_of(token) {
            let found = addresses(result);
            self.handle(cx, at, Event::Resolved { server, found });
        }
    }

    fn client(&self, cx: &mut Cx<'_>, token: u64, event: ClientEvent) {
        let Some((at, server)) = self.server_of(token) else { return };
        let event = match event {
            ClientEvent::Opened => Event::Opened { server },
            ClientEvent::Bytes(bytes) => Event::Bytes { server, bytes },
            ClientEvent::Closed(why) => Event::Closed { server, why },
        };
        self.handle(cx, at, event);
    }

    fn status(&self, _: &Node, _: Now) -> Option<Json> {
        let doors = self.doors.lock();
        let mut servers = Vec::new();
        for door in doors.iter() {
            let Some(open) = &door.open else { continue };
            for (spec, state, waiting) in open.client.state() {
                let kind = if spec.kind == Kind::Auth { "auth" } else { "acct" };
                let server = format!("{}:{}", spec.host, spec.port);
                servers.push(json!({
                    "file": door.path, "server": server, "kind": kind, "state": state,
                    "requests": waiting,
                }));
            }
        }
        Some(json!({"servers": servers}))
    }
}
