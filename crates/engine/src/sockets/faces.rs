//! Sockets that listen on every address of the host (`socket = udp:0.0.0.0:5060`).
//!
//! Such a socket has a face for each address that the host has: a socket like those of a script,
//! with an address that Via, Record-Route and records of contacts can show, and from which what
//! it sends leaves. Addresses come and go; a face stays, so that its number always means the same
//! address, and is held or not. What arrived at the socket arrived at a face, and an answer leaves
//! from it; who has no face to prefer takes the one that the host would take for the destination.

use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::RwLock;

use super::{Proto, Socket, SocketId, Sockets};

/// An address of the host, and what is reached from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostAddress {
    pub ip: IpAddr,
    /// Length of the prefix of its network.
    pub prefix_bits: u8,
    /// The interface that has it.
    pub interface: u32,
    /// What the host would send to the rest of the world leaves from it.
    pub is_default: bool,
}

impl HostAddress {
    fn has_on_link(&self, to: IpAddr) -> bool {
        let (own, to, width) = match (self.ip, to) {
            (IpAddr::V4(own), IpAddr::V4(to)) => (own.to_bits().into(), to.to_bits().into(), 32),
            (IpAddr::V6(own), IpAddr::V6(to)) => (own.to_bits(), to.to_bits(), 128),
            _ => return false,
        };
        let beyond: u32 = width - u32::from(self.prefix_bits).min(width);
        // A prefix of no length is no network.
        (own ^ to).checked_shr(beyond).is_some_and(|differs: u128| differs == 0) && beyond < width
    }
}

/// The faces of one socket.
#[derive(Debug)]
pub(super) struct Faces {
    parent: SocketId,
    slots: Box<[OnceLock<Socket>]>,
    used: AtomicUsize,
    /// Whether a face is held: the socket itself is for nobody then.
    shows: AtomicBool,
}

impl Faces {
    fn new(parent: SocketId) -> Self {
        let slots = std::iter::repeat_with(OnceLock::new).take(FACES_MAX).collect();
        Self { parent, slots, used: AtomicUsize::new(0), shows: AtomicBool::new(false) }
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &Socket)> {
        let used = self.used.load(Ordering::Acquire);
        let slots = self.slots.iter().take(used).enumerate();
        slots.filter_map(|(at, slot)| Some((at, slot.get()?)))
    }

    /// Follows the addresses of the host. False if one found no room.
    fn follow(&self, parent: &Socket, addresses: &[HostAddress]) -> bool {
        let of_host = |ip: IpAddr| addresses.iter().any(|address| address.ip == ip);
        for (_, face) in self.iter() {
            face.held.store(of_host(face.addr.ip()), Ordering::Relaxed);
        }
        let mut has_room = true;
        for address in addresses.iter().filter(|a| a.ip.is_ipv4() == parent.addr.is_ipv4()) {
            if self.iter().any(|(_, face)| face.addr.ip() == address.ip) {
                continue;
            }
            let used = self.used.load(Ordering::Acquire);
            match self.slots.get(used) {
                Some(slot) => {
                    let _ = slot.set(parent.at(address.ip));
                    self.used.store(used + 1, Ordering::Release);
                }
                None => has_room = false,
            }
        }
        self.shows.store(self.iter().any(|(_, face)| face.is_held()), Ordering::Relaxed);
        has_room
    }
}

/// What is known of the host.
#[derive(Debug, Default)]
pub(super) struct Host {
    faces: Vec<Faces>,
    addresses: RwLock<Vec<HostAddress>>,
}

impl Host {
    pub(super) fn new(all: &[Socket]) -> Self {
        let on_any = |s: &Socket| s.proto.is_sip() && s.addr.ip().is_unspecified();
        let faces = all.iter().enumerate().filter(|(_, socket)| on_any(socket));
        let room = (usize::from(u16::MAX) - all.len().min(usize::from(u16::MAX))) / FACES_MAX;
        let faces = faces.map(|(n, _)| Faces::new(SocketId(n as u16))).take(room).collect();
        Self { faces, addresses: RwLock::default() }
    }

    pub(super) fn has_faces(&self) -> bool {
        !self.faces.is_empty()
    }

    /// A face by its number behind the sockets of the script.
    pub(super) fn get(&self, number: usize) -> Option<&Socket> {
        self.faces.get(number / FACES_MAX)?.slots.get(number % FACES_MAX)?.get()
    }

    /// Every face, held or not, with its number.
    pub(super) fn all(&self) -> impl Iterator<Item = (usize, &Socket)> {
        let each = self.faces.iter().enumerate();
        each.flat_map(|(n, faces)| faces.iter().map(move |(at, face)| (n * FACES_MAX + at, face)))
    }

    /// Whether faces stand for this socket of the script.
    pub(super) fn hides(&self, id: SocketId) -> bool {
        let of = |faces: &Faces| faces.parent == id && faces.shows.load(Ordering::Relaxed);
        self.faces.iter().any(of)
    }
}

impl Sockets {
    /// Tells which addresses the host has now; false if there are more than can be told apart.
    /// What arrives at the others is taken all the same.
    pub fn set_host(&self, addresses: &[HostAddress]) -> bool {
        *self.host.addresses.write() = addresses.to_vec();
        let mut has_room = true;
        for faces in &self.host.faces {
            if let Some(parent) = self.get(faces.parent) {
                has_room &= faces.follow(parent, addresses);
            }
        }
        has_room
    }

    /// Whether a socket listens on every address of the host.
    pub fn follows_host(&self) -> bool {
        self.host.has_faces()
    }

    /// The sockets that are opened: those of the script.
    pub fn listening(&self) -> impl Iterator<Item = (SocketId, &Socket)> {
        self.all.iter().enumerate().map(|(n, socket)| (SocketId(n as u16), socket))
    }

    /// The face of a socket at the address that something was sent to; the socket itself where it
    /// has none.
    pub fn arrived(&self, socket: SocketId, at: IpAddr) -> SocketId {
        let Some(n) = self.host.faces.iter().position(|faces| faces.parent == socket) else {
            return socket;
        };
        let found = self.host.faces.get(n).and_then(|faces| {
            faces.iter().find(|(_, face)| face.addr.ip() == at && face.is_held())
        });
        found.map_or(socket, |(slot, _)| self.face_id(n * FACES_MAX + slot))
    }

    /// The socket of the script that this one is opened with, and the address to leave from.
    pub fn opened(&self, id: SocketId) -> (SocketId, Option<IpAddr>) {
        let Some(number) = usize::from(id.0).checked_sub(self.all.len()) else { return (id, None) };
        let parent = self.host.faces.get(number / FACES_MAX).map_or(id, |faces| faces.parent);
        (parent, self.get(id).map(|face| face.addr.ip()))
    }

    /// For every number that a socket has or can get: the socket of the script behind it, where
    /// that has faces.
    pub(crate) fn parents(&self) -> impl Iterator<Item = Option<SocketId>> {
        self.protos().enumerate().map(|(n, _)| {
            let (parent, _) = self.opened(SocketId(n as u16));
            self.host.faces.iter().any(|faces| faces.parent == parent).then_some(parent)
        })
    }

    /// The transport of every number that a socket has or can get.
    pub(crate) fn protos(&self) -> impl Iterator<Item = Proto> {
        let of = |faces: &Faces| self.get(faces.parent).map_or(Proto::Udp, |s| s.proto);
        let of_faces =
            self.host.faces.iter().flat_map(move |faces| std::iter::repeat_n(of(faces), FACES_MAX));
        self.all.iter().map(|socket| socket.proto).chain(of_faces)
    }

    /// From where a request leaves that came in by `socket`: by another face of the same socket
    /// where the host reaches the destination over another interface.
    pub fn leaving(&self, socket: SocketId, to: SocketAddr) -> SocketId {
        if !self.host.has_faces() {
            return socket;
        }
        let (parent, own) = self.opened(socket);
        let Some(faces) = self.host.faces.iter().position(|faces| faces.parent == parent) else {
            return socket;
        };
        let addresses = self.host.addresses.read();
        let Some(route) = route(&addresses, to.ip()) else { return socket };
        let near = |ip: &IpAddr| {
            let same = |a: &HostAddress| a.ip == *ip && a.interface == route.interface;
            addresses.iter().any(same)
        };
        if own.is_some_and(|ip| near(&ip)) {
            return socket;
        }
        let of = self.host.faces.get(faces).into_iter().flat_map(Faces::iter);
        let face = of.into_iter().find(|(_, face)| face.addr.ip() == route.ip && face.is_held());
        face.map_or(socket, |(slot, _)| self.face_id(faces * FACES_MAX + slot))
    }

    /// Whether something of the host can go to `to` from this socket: a face that is held, and of
    /// the loopback interface or not as the destination is.
    pub(super) fn can_reach(&self, id: SocketId, socket: &Socket, to: SocketAddr) -> bool {
        let is_face = usize::from(id.0) >= self.all.len();
        if is_face {
            socket.is_held() && socket.addr.ip().is_loopback() == to.ip().is_loopback()
        } else {
            !self.host.hides(id)
        }
    }

    pub(super) fn face_id(&self, number: usize) -> SocketId {
        SocketId((self.all.len() + number) as u16)
    }
}

/// The address that the host would take for a destination: itself, one of the same network, or
/// that of the way to the rest of the world.
fn route(addresses: &[HostAddress], to: IpAddr) -> Option<HostAddress> {
    let own = addresses.iter().find(|address| address.ip == to);
    let on_link = || {
        let near = addresses.iter().filter(|address| address.has_on_link(to));
        // The first of equals: what the host lists first is what it takes.
        near.rev().max_by_key(|address| address.prefix_bits)
    };
    let loopback = || addresses.iter().find(|a| a.ip.is_loopback()).filter(|_| to.is_loopback());
    let default = || addresses.iter().find(|a| a.is_default && a.ip.is_ipv4() == to.is_ipv4());
    let any = || {
        let fits = |a: &&HostAddress| !a.ip.is_loopback() && a.ip.is_ipv4() == to.is_ipv4();
        addresses.iter().find(fits)
    };
    own.or_else(on_link).or_else(loopback).or_else(default).or_else(any).copied()
}

/// How many addresses of the host one socket tells apart, those included that have left.
const FACES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn address(ip: &str, prefix_bits: u8, interface: u32, is_default: bool) -> HostAddress {
        HostAddress { ip: ip.parse().unwrap(), prefix_bits, interface, is_default }
    }

    /// A public network with a service address, a private one, loopback.
    fn host() -> Vec<HostAddress> {
        vec![
            address("203.0.113.5", 24, 1, true),
            address("203.0.113.100", 32, 1, false),
            address("10.1.0.5", 16, 2, false),
            address("2001:db8:7::5", 64, 1, true),
            address("127.0.0.1", 8, 3, false),
        ]
    }

    fn sockets() -> Sockets {
        let udp = |addr: &str| Socket::new(Proto::Udp, addr.parse().unwrap(), None, None);
        let tcp = Socket::new(Proto::Tcp, "0.0.0.0:5060".parse().unwrap(), None, None);
        let bin = Socket::new(Proto::Bin, "0.0.0.0:5566".parse().unwrap(), None, None);
        let all = vec![udp("0.0.0.0:5060"), tcp, udp("[::]:5060"), udp("192.0.2.9:5070"), bin];
        Sockets::new(all, Vec::new())
    }

    const ANY: SocketId = SocketId(0);

    fn text(sockets: &Sockets, id: SocketId) -> &str {
        sockets.get(id).unwrap().text()
    }

    #[test]
    fn a_socket_on_every_address_knows_those_of_the_host() {
        let s = sockets();
        let is_own = |ip: &str| s.is_own(Proto::Udp, ip.parse().unwrap());
        assert!(!s.is_myself(b"203.0.113.5", Some(5060)) && !is_own("203.0.113.5:5060"));
        assert!(s.set_host(&host()));
        for ip in ["203.0.113.5", "203.0.113.100", "10.1.0.5", "[2001:db8:7::5]", "127.0.0.1"] {
            assert!(s.is_myself(ip.as_bytes(), Some(5060)), "{ip}");
            assert!(!s.is_myself(ip.as_bytes(), Some(5061)), "{ip}");
            assert!(is_own(&format!("{ip}:5060")), "{ip}");
        }
        assert!(s.is_own(Proto::Tcp, "10.1.0.5:5060".parse().unwrap()));
        assert!(is_own("0.0.0.0:5060") && is_own("127.0.0.9:5060"));
        assert!(!s.is_myself(b"203.0.113.6", None) && !is_own("203.0.113.6:5060"));
        assert!(!s.is_myself(b"10.1.0.5", Some(5566)), "a BIN socket is no SIP destination");
    }

    #[test]
    fn an_address_that_moves_away_and_comes_back_is_followed() {
        let s = sockets();
        s.set_host(&host());
        let service = s.resolve("udp:203.0.113.100:5060").unwrap();
        assert_eq!(text(&s, service), "udp:203.0.113.100:5060");
        let without: Vec<_> = host().into_iter().filter(|a| a.prefix_bits != 32).collect();
        s.set_host(&without);
        assert!(!s.is_myself(b"203.0.113.100", None));
        assert!(!s.is_own(Proto::Udp, "203.0.113.100:5060".parse().unwrap()));
        assert_eq!(s.resolve("udp:203.0.113.100:5060"), Some(service));
        assert!(!s.get(service).unwrap().is_held());
        assert!(!s.iter().any(|(id, _)| id == service));
        let to = "198.51.100.1:5060".parse().unwrap();
        let instead = s.toward(to, Some(service)).unwrap();
        assert_eq!(text(&s, instead), "udp:203.0.113.5:5060");
        s.set_host(&host());
        assert_eq!(s.toward(to, Some(service)), Some(service));
    }

    #[test]
    fn what_arrives_is_answered_from_where_it_arrived() {
        let s = sockets();
        let at = |ip: &str| s.arrived(ANY, ip.parse().unwrap());
        assert_eq!(at("10.1.0.5"), ANY, "before the addresses are known");
        s.set_host(&host());
        let face = at("203.0.113.100");
        assert_eq!(text(&s, face), "udp:203.0.113.100:5060");
        assert_eq!(s.opened(face), (ANY, Some("203.0.113.100".parse().unwrap())));
        assert_eq!(at("203.0.113.255"), ANY, "a broadcast");
        let fixed = SocketId(3);
        assert_eq!(s.arrived(fixed, "10.1.0.5".parse().unwrap()), fixed);
        assert_eq!(s.opened(fixed), (fixed, None));
        assert_eq!(s.protos().nth(usize::from(face.0)), Some(Proto::Udp));
    }

    #[test]
    fn a_request_leaves_from_where_the_host_reaches_its_destination() {
        let s = sockets();
        s.set_host(&host());
        let leaves = |came: &str, to: &str| {
            let came = s.arrived(ANY, came.parse().unwrap());
            text(&s, s.leaving(came, to.parse().unwrap())).to_owned()
        };
        // The service address stays where it is as good as another.
        assert_eq!(leaves("203.0.113.100", "198.51.100.1:9"), "udp:203.0.113.100:5060");
        assert_eq!(leaves("203.0.113.100", "203.0.113.77:9"), "udp:203.0.113.100:5060");
        assert_eq!(leaves("203.0.113.100", "10.1.200.1:9"), "udp:10.1.0.5:5060");
        assert_eq!(leaves("10.1.0.5", "198.51.100.1:9"), "udp:203.0.113.5:5060");
        assert_eq!(leaves("127.0.0.1", "10.1.200.1:9"), "udp:10.1.0.5:5060");
        assert_eq!(leaves("10.1.0.5", "127.0.0.1:9"), "udp:127.0.0.1:5060");
        assert_eq!(leaves("127.0.0.1", "10.1.0.5:9"), "udp:10.1.0.5:5060");
        let to = |proto, to: &str, by: &str| {
            let found = s.toward_by(proto, to.parse().unwrap(), s.named(by));
            text(&s, found.unwrap()).to_owned()
        };
        // What was chosen stays, where anything can go to at all.
        assert_eq!(to(Proto::Udp, "10.1.0.9:9", "udp:203.0.113.5:5060"), "udp:203.0.113.5:5060");
        assert_eq!(to(Proto::Udp, "10.1.0.9:9", "udp:0.0.0.0:5060"), "udp:10.1.0.5:5060");
        assert_eq!(to(Proto::Udp, "10.1.0.9:9", "udp:192.0.2.9:5070"), "udp:192.0.2.9:5070");
        assert_eq!(to(Proto::Tcp, "10.1.0.9:9", "udp:0.0.0.0:5060"), "tcp:10.1.0.5:5060");
        assert_eq!(to(Proto::Udp, "[2001:db8::9]:9", "nothing"), "udp:[2001:db8:7::5]:5060");
    }

    #[test]
    fn more_addresses_than_there_is_room_for_do_no_harm() {
        let s = sockets();
        let many: Vec<_> =
            (0..=FACES_MAX as u8).map(|n| address(&format!("10.9.0.{n}"), 24, 1, false)).collect();
        assert!(!s.set_host(&many));
        assert_eq!(s.arrived(ANY, "10.9.0.64".parse().unwrap()), ANY);
        assert_ne!(s.arrived(ANY, "10.9.0.63".parse().unwrap()), ANY);
    }
}
