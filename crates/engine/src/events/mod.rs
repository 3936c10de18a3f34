//! The event interface: which events there are, who listens, and what is told to whom.
//!
//! A module raises an event with [`Cx::raise`]; the event routes of its name run after the step,
//! and every outside subscriber gets a JSON-RPC notification through [`Effect::Notify`].

mod notification;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;
use tandem_clock::{Mono, Now, SEC};
use tandem_script::value::Value;

use crate::effect::Effect;
use crate::module::Cx;
use crate::node::{Job, Node};

pub use notification::notification;

/// Events that a node knows, those that scripts and subscribers name included.
const EVENTS_MAX: usize = 1_000;
/// Outside subscribers of one event.
const SUBSCRIBERS_MAX: usize = 1_000;

/// Where a notification goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A name is looked up when something is sent.
    Udp {
        host: String,
        port: u16,
    },
    Unix(PathBuf),
    /// A FIFO that somebody reads; where nobody does, what is written is lost.
    Fifo(PathBuf),
}

/// A way to carry events out: the part of a subscriber's socket text before the first colon, and
/// what reads the rest.
#[derive(Clone, Copy)]
pub struct EventTransport {
    pub proto: &'static str,
    pub parse: fn(&str) -> Option<Destination>,
}

/// A subscriber outside of the node.
#[derive(Clone, Debug)]
pub struct Subscriber {
    /// As it was subscribed: `udp:127.0.0.1:9999`.
    pub socket: String,
    pub to: Destination,
    /// Seconds that were asked for; `None`: for ever.
    pub expire_s: Option<u32>,
    ends: Option<Mono>,
}

impl Subscriber {
    /// Seconds that are left; `None`: for ever.
    pub fn ttl_s(&self, now: Now) -> Option<u64> {
        self.ends.map(|at| at.saturating_sub(now.mono_ns).div_ceil(SEC))
    }
}

/// What a subscription failed of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscribeError {
    /// No loaded module carries events to such a socket, or the socket cannot be read.
    Socket,
    /// There are too many events or subscribers.
    Full,
}

#[derive(Clone, Debug)]
struct Event {
    name: String,
    subscribers: Vec<Subscriber>,
}

/// An event as the management commands show it.
#[derive(Clone, Debug)]
pub struct EventView {
    pub name: String,
    /// Its place in the list of events.
    pub id: usize,
    /// The newest first.
    pub subscribers: Vec<Subscriber>,
    /// Whether the script has an event route for it.
    pub route: bool,
}

/// The events of a node and their subscribers.
#[derive(Default)]
pub struct Events {
    list: RwLock<Vec<Event>>,
    /// Subscriptions in total, so that an event nobody waits for costs one load.
    subscribed: AtomicUsize,
    /// What waits for events inside of the node.
    listening: AtomicIsize,
    transports: Vec<EventTransport>,
}

impl Events {
    pub(crate) fn new(names: Vec<String>, transports: Vec<EventTransport>) -> Self {
        let mut list: Vec<Event> = Vec::new();
        for name in names {
            if !list.iter().any(|e| e.name == name) {
                list.push(Event { name, subscribers: Vec::new() });
            }
        }
        Self {
            list: RwLock::new(list),
            subscribed: AtomicUsize::new(0),
            listening: AtomicIsize::new(0),
            transports,
        }
    }

    /// So many more (or fewer) of a module wait for events: see
    /// [`crate::module::Module::event`].
    pub fn listen(&self, more: isize) {
        self.listening.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn is_heard(&self) -> bool {
        self.listening.load(Ordering::Relaxed) > 0
    }

    /// Whether an event of this name was published or subscribed.
    pub fn is_known(&self, name: &str) -> bool {
        self.list.read().iter().any(|e| e.name == name)
    }

    /// Publishes an event of a script; false when there are too many.
    pub fn publish(&self, name: &str) -> bool {
        let mut list = self.list.write();
        if list.iter().any(|e| e.name == name) {
            return true;
        }
        let room = list.len() < EVENTS_MAX;
        if room {
            list.push(Event { name: name.to_owned(), subscribers: Vec::new() });
        }
        room
    }

    /// Adds or refreshes a subscriber; `expire_s` 0 removes it. An event that nobody has
    /// published yet may be subscribed.
    ///
    /// # Errors
    /// When the socket means nothing, or there are too many.
    pub fn subscribe(
        &self,
        now: Now,
        event: &str,
        socket: &str,
        expire_s: Option<u32>,
    ) -> Result<(), SubscribeError> {
        let (proto, rest) = socket.split_once(':').ok_or(SubscribeError::Socket)?;
        let transport = self.transports.iter().find(|t| t.proto == proto);
        let to = transport.and_then(|t| (t.parse)(rest)).ok_or(SubscribeError::Socket)?;
        if event.is_empty() || !self.publish(event) {
            return Err(SubscribeError::Full);
        }
        let ends = expire_s.map(|s| now.after_s(u64::from(s)));
        let mut list = self.list.write();
        let Some(found) = list.iter_mut().find(|e| e.name == event) else {
            return Err(SubscribeError::Full);
        };
        found.subscribers.retain(|s| s.ends.is_none_or(|at| at > now.mono_ns) && s.to != to);
        if found.subscribers.len() >= SUBSCRIBERS_MAX {
            return Err(SubscribeError::Full);
        }
        if expire_s != Some(0) {
            let subscriber = Subscriber { socket: socket.to_owned(), to, expire_s, ends };
            found.subscribers.insert(0, subscriber);
        }
        let total = list.iter().map(|e| e.subscribers.len()).sum();
        self.subscribed.store(total, Ordering::Relaxed);
        Ok(())
    }

    /// Where a notification of this event goes now.
    fn destinations(&self, now: Now, event: &str) -> Vec<Destination> {
        if self.subscribed.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let list = self.list.read();
        let found = list.iter().find(|e| e.name == event);
        let living = found.into_iter().flat_map(|e| &e.subscribers);
        let living = living.filter(|s| s.ends.is_none_or(|at| at > now.mono_ns));
        living.map(|s| s.to.clone()).collect()
    }
}

impl Node {
    /// The events, with the subscribers that have not expired.
    pub fn events(&self, now: Now) -> Vec<EventView> {
        let list = self.events.list.read();
        let living = |e: &Event| {
            let all = e.subscribers.iter();
            all.filter(|s| s.ends.is_none_or(|at| at > now.mono_ns)).cloned().collect()
        };
        let view = |(id, e): (usize, &Event)| EventView {
            name: e.name.clone(),
            id,
            subscribers: living(e),
            route: self.event_route(&e.name).is_some(),
        };
        list.iter().enumerate().map(view).collect()
    }
}

impl Cx<'_> {
    /// Whether anybody may listen to an event: what it says need not be put together otherwise.
    pub fn is_wanted(&self, event: &str) -> bool {
        self.node.event_route(event).is_some()
            || self.node.events.subscribed.load(Ordering::Relaxed) != 0
            || self.node.events.is_heard()
    }

    /// Raises an event: event routes run after this step, outside subscribers are told.
    pub fn raise(&mut self, event: &'static str, params: Vec<(&'static str, Value)>) {
        let route = self.worker.script.event_routes.get(event).copied();
        let told = self.node.events.subscribed.load(Ordering::Relaxed) != 0;
        if route.is_none() && !told && !self.node.events.is_heard() {
            return;
        }
        let named = params.into_iter().map(|(n, v)| (Bytes::from_static(n.as_bytes()), v));
        self.raise_named(event, named.collect());
    }

    /// Raises an event whose name and values come from outside; an empty name makes a value one
    /// of a plain list.
    pub fn raise_named(&mut self, event: &str, params: Vec<(Bytes, Value)>) {
        let destinations = self.node.events.destinations(self.now, event);
        if !destinations.is_empty() {
            let payload = notification(event, &params);
            for to in destinations {
                self.out.push(Effect::Notify { to, payload: payload.clone() });
            }
        }
        if self.node.events.is_heard() {
            let node = Arc::clone(self.node);
            for (slot, _, module) in node.loaded() {
                self.for_slot(slot, |cx| module.event(cx, event, &params));
            }
        }
        if let Some(route) = self.worker.script.event_routes.get(event).copied() {
            self.worker.add_job(Job::Event { route, params });
        }
    }

    /// Adds a subscriber outside of the node; see [`Events::subscribe`].
    ///
    /// # Errors
    /// When the socket means nothing, or there are too many.
    pub fn subscribe(
        &mut self,
        event: &str,
        socket: &str,
        expire_s: Option<u32>,
    ) -> Result<(), SubscribeError> {
        self.node.events.subscribe(self.now, event, socket, expire_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { mono_ns: 5 * SEC, unix_ms: 0 };

    fn unix(rest: &str) -> Option<Destination> {
        rest.starts_with('/').then(|| Destination::Unix(rest.into()))
    }

    fn events() -> Events {
        let names = vec!["E_A".to_owned(), "E_B".to_owned(), "E_A".to_owned()];
        Events::new(names, vec![EventTransport { proto: "unix", parse: unix }])
    }

    #[test]
    fn subscribers_end_when_their_time_is_over() {
        let events = events();
        events.subscribe(NOW, "E_A", "unix:/a", Some(2)).unwrap();
        events.subscribe(NOW, "E_A", "unix:/b", None).unwrap();
        assert_eq!(events.destinations(NOW, "E_A").len(), 2);
        let later = NOW.plus_ns(2 * SEC);
        assert_eq!(events.destinations(later, "E_A"), [Destination::Unix("/b".into())]);
        assert!(events.destinations(NOW, "E_B").is_empty());
    }

    #[test]
    fn subscribing_again_refreshes_and_zero_seconds_remove() {
        let events = events();
        events.subscribe(NOW, "E_A", "unix:/a", Some(2)).unwrap();
        events.subscribe(NOW, "E_A", "unix:/a", Some(9)).unwrap();
        assert_eq!(events.destinations(NOW.plus_ns(5 * SEC), "E_A").len(), 1);
        events.subscribe(NOW, "E_A", "unix:/a", Some(0)).unwrap();
        assert!(events.destinations(NOW, "E_A").is_empty());
    }

    #[test]
    fn a_socket_that_nothing_carries_is_refused() {
        let events = events();
        for socket in ["", "unix", "unix:a", "tcp:1.2.3.4:5", "udp:"] {
            let refused = events.subscribe(NOW, "E_A", socket, None);
            assert_eq!(refused, Err(SubscribeError::Socket), "{socket}");
        }
        assert_eq!(events.subscribe(NOW, "", "unix:/a", None), Err(SubscribeError::Full));
    }
}
