//! The node's own sockets and names, and how a socket text of a peer resolves to one of them.

mod faces;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tandem_script::program::ProxyUse;
use tandem_sip::{Transport, Uri};

use faces::Host;
pub use faces::HostAddress;

/// A listening socket of this node, by its place in the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u16);

/// Transport of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proto {
    Udp,
    Tcp,
    Bin,
}

impl Proto {
    pub fn text(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Bin => "bin",
        }
    }

    /// Whether SIP goes over it.
    pub fn is_sip(self) -> bool {
        self != Self::Bin
    }

    /// Whether the transport retransmits by itself, so that transactions need not.
    pub fn is_reliable(self) -> bool {
        self != Self::Udp
    }

    /// The transport as SIP names it; the protocol between nodes has none and counts as UDP.
    pub fn transport(self) -> Transport {
        match self {
            Self::Tcp => Transport::Tcp,
            Self::Udp | Self::Bin => Transport::Udp,
        }
    }
}

/// A socket as the script defines it.
#[derive(Debug)]
pub struct Socket {
    pub proto: Proto,
    pub addr: SocketAddr,
    /// `as HOST[:PORT]`: what Via, Record-Route and Contact show.
    pub advertised: Option<(String, u16)>,
    /// Matches sockets between nodes.
    pub tag: Option<String>,
    /// The TOS byte of what leaves from it.
    pub tos: Option<u8>,
    /// Several nodes have the address, and a message reaches any of them.
    pub anycast: bool,
    /// Whether the header of the PROXY protocol is read and written.
    pub proxy: ProxyUse,
    /// Whether this host holds the address now.
    held: AtomicBool,
    /// `udp:127.0.0.1:5060`.
    text: String,
    /// `host:port` for Via and Record-Route.
    sent_by: String,
    /// `proto:ip:port`, or `proto:tag` if it has a tag.
    wire: Bytes,
}

impl Socket {
    pub fn new(
        proto: Proto,
        addr: SocketAddr,
        advertised: Option<(String, u16)>,
        tag: Option<String>,
    ) -> Self {
        let sent_by = match &advertised {
            Some((host, port)) => format!("{host}:{port}"),
            None => addr.to_string(),
        };
        let text = format!("{}:{addr}", proto.text());
        let wire = match &tag {
            Some(tag) => Bytes::from(format!("{}:{tag}", proto.text())),
            None => Bytes::from(text.clone()),
        };
        let (tos, held, proxy) = (None, AtomicBool::new(true), ProxyUse::default());
        Self { proto, addr, advertised, tag, tos, anycast: false, proxy, held, text, sent_by, wire }
    }

    /// The same at an address of the host, for a socket that listens on all of them.
    fn at(&self, ip: IpAddr) -> Self {
        let addr = SocketAddr::new(ip, self.addr.port());
        let mut made = Self::new(self.proto, addr, self.advertised.clone(), self.tag.clone());
        (made.tos, made.anycast, made.proxy) = (self.tos, self.anycast, self.proxy);
        made
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// What goes into Via and Record-Route: the advertised address, else the real one.
    pub fn sent_by(&self) -> &str {
        &self.sent_by
    }

    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }

    /// The text replicated in records: `proto:ip:port`, or `proto:tag` if it has a tag.
    pub fn wire_text(&self) -> String {
        String::from_utf8_lossy(&self.wire).into_owned()
    }

    /// The same, counted.
    pub fn wire(&self) -> &Bytes {
        &self.wire
    }
}

/// A name of the node (`alias`).
#[derive(Debug)]
struct Alias {
    /// In lower case.
    host: String,
    /// 0: any.
    port: u16,
    subdomains: bool,
}

impl Alias {
    fn names(&self, host: &[u8]) -> bool {
        let own = self.host.as_bytes();
        if host.eq_ignore_ascii_case(own) {
            return true;
        }
        let above = host.len().checked_sub(own.len()).filter(|_| self.subdomains);
        above.is_some_and(|at| {
            at > 1 && host.get(at - 1) == Some(&b'.') && {
                host.get(at..).is_some_and(|end| end.eq_ignore_ascii_case(own))
            }
        })
    }
}

/// All sockets of a node, and the names by which it knows itself.
#[derive(Debug, Default)]
pub struct Sockets {
    all: Vec<Socket>,
    aliases: Vec<Alias>,
    /// Names of several sockets.
    bonds: Vec<(String, Vec<SocketId>)>,
    /// The addresses of the host, for those that listen on all of them.
    host: Host,
}

impl Sockets {
    pub fn new(all: Vec<Socket>, aliases: Vec<(String, u16)>) -> Self {
        let host = Host::new(&all);
        let mut sockets = Self { all, aliases: Vec::new(), bonds: Vec::new(), host };
        for (host, port) in aliases {
            sockets.add_alias(&host, port, false);
        }
        sockets
    }

    /// Adds a name of the node; port 0 is any. With `subdomains` every name below it is one, too.
    pub fn add_alias(&mut self, host: &str, port: u16, subdomains: bool) {
        self.aliases.push(Alias { host: host.to_ascii_lowercase(), port, subdomains });
    }

    /// Gives several sockets a name (`socket = bond:NAME { ... }`).
    pub fn add_bond(&mut self, name: &str, members: Vec<SocketId>) {
        self.bonds.push((name.to_owned(), members));
    }

    /// The sockets of a bond, by its name with or without `bond:`.
    pub fn bond(&self, name: &str) -> Option<&[SocketId]> {
        let name = name.strip_prefix("bond:").unwrap_or(name);
        self.bonds.iter().find(|(n, _)| n == name).map(|(_, members)| members.as_slice())
    }

    pub fn get(&self, id: SocketId) -> Option<&Socket> {
        let at = usize::from(id.0);
        self.all.get(at).or_else(|| self.host.get(at.checked_sub(self.all.len())?))
    }

    /// The sockets by which others know the node: those of the script, and for one that listens
    /// on every address of the host its faces.
    pub fn iter(&self) -> impl Iterator<Item = (SocketId, &Socket)> {
        self.every().filter(|(id, s)| match s.addr.ip().is_unspecified() {
            true => !self.host.hides(*id),
            false => usize::from(id.0) < self.all.len() || s.is_held(),
        })
    }

    /// All that have a number: faces of addresses that have left, too.
    pub(crate) fn every(&self) -> impl Iterator<Item = (SocketId, &Socket)> {
        self.listening().chain(self.host.all().map(|(n, face)| (self.face_id(n), face)))
    }

    pub fn of(&self, proto: Proto) -> impl Iterator<Item = (SocketId, &Socket)> {
        self.iter().filter(move |(_, socket)| socket.proto == proto)
    }

    /// Records which addresses this host holds.
    pub fn set_held(&self, addresses: &[(IpAddr, bool)]) {
        for socket in &self.all {
            if let Some((_, held)) = addresses.iter().find(|(ip, _)| *ip == socket.addr.ip()) {
                socket.held.store(*held, Ordering::Relaxed);
            }
        }
    }

    /// Whether `host[:port]` names this node: a socket, its advertised form, or an alias.
    pub fn is_myself(&self, host: &[u8], port: Option<u16>) -> bool {
        let ip = tandem_sip::host_ip(host);
        let port_fits = |own: u16| port.is_none_or(|p| p == own);
        self.iter().filter(|(_, s)| s.proto.is_sip()).any(|(_, s)| {
            (ip == Some(s.addr.ip()) && port_fits(s.addr.port()))
                || s.advertised
                    .as_ref()
                    .is_some_and(|(h, p)| h.as_bytes().eq_ignore_ascii_case(host) && port_fits(*p))
        }) || self.aliases.iter().any(|a| a.names(host) && (a.port == 0 || port_fits(a.port)))
    }

    /// The socket that a URI of this node names, as one in Record-Route does.
    pub fn of_uri(&self, uri: &Uri<'_>) -> Option<SocketId> {
        let proto = match uri.transport() {
            None | Some(Transport::Udp) => Proto::Udp,
            Some(Transport::Tcp) => Proto::Tcp,
            Some(_) => return None,
        };
        let port = uri.port.unwrap_or(5060);
        let ip = tandem_sip::host_ip(uri.host);
        let found = self.of(proto).find(|(_, s)| {
            let is_address = ip == Some(s.addr.ip()) && s.addr.port() == port;
            let is_advertised = s.advertised.as_ref().is_some_and(|(host, p)| {
                host.as_bytes().eq_ignore_ascii_case(uri.host) && *p == port
            });
            is_address || is_advertised
        });
        found.map(|(id, _)| id)
    }

    /// Whether what is sent to this address comes back to this node.
    pub fn is_own(&self, proto: Proto, addr: SocketAddr) -> bool {
        let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        let held =
            |(id, s): &(SocketId, &Socket)| usize::from(id.0) < self.all.len() || s.is_held();
        self.every().filter(held).filter(|(_, s)| s.proto == proto).any(|(_, s)| {
            let advertised = || {
                let (host, port) = s.advertised.as_ref()?;
                host.parse().ok().map(|ip| SocketAddr::new(ip, *port))
            };
            s.addr == addr
                || advertised() == Some(addr)
                // Hosts take 0.0.0.0 for themselves, whatever they send it from.
                || (s.addr.port() == addr.port()
                    && (addr.ip().is_unspecified()
                        || (s.addr.ip().is_unspecified() && addr.ip().is_loopback())))
        })
    }

    /// The socket that a text of a script or of a peer's record names: equal, then same tag,
    /// then same protocol and family, then none (decisions: "Sockets in records").
    pub fn resolve(&self, text: &str) -> Option<SocketId> {
        let (proto, rest) = text.split_once(':')?;
        let candidates = || self.iter().filter(|(_, s)| s.proto.text() == proto);
        let addr: Option<SocketAddr> = rest.parse().ok();
        // An address that has left the host is still the one that the record means.
        let is_equal = |s: &Socket| s.proto.text() == proto && Some(s.addr) == addr;
        let equal = self.every().find(|(_, s)| is_equal(s));
        let tagged = || candidates().find(|(_, s)| s.tag.as_deref() == Some(rest));
        let family =
            || candidates().find(|(_, s)| addr.is_none_or(|a| a.is_ipv4() == s.addr.is_ipv4()));
        equal.or_else(tagged).or_else(family).map(|(id, _)| id)
    }

    /// The SIP socket with exactly this address; without a port, the first one there.
    pub fn equal(&self, text: &str) -> Option<SocketId> {
        let (proto, rest) = text.split_once(':')?;
        let bare = rest.trim_start_matches('[').trim_end_matches(']');
        let ip: Option<IpAddr> = bare.parse().ok();
        let addr: Option<SocketAddr> = rest.parse().ok();
        let fits = |s: &Socket| Some(s.addr) == addr || ip.is_some_and(|ip| s.addr.ip() == ip);
        let sip = self.iter().filter(|(_, s)| s.proto.is_sip() && s.proto.text() == proto);
        sip.into_iter().find(|(_, s)| fits(s)).map(|(id, _)| id)
    }

    /// The SIP socket with exactly this text or tag: what a script names; of a bond, the first.
    pub fn named(&self, text: &str) -> Option<SocketId> {
        if text.starts_with("bond:") {
            return self.bond(text)?.first().copied();
        }
        let matches = |s: &Socket| s.text() == text || s.tag.as_deref() == Some(text);
        let mut held = self.listening().chain(self.iter());
        held.find(|(_, s)| s.proto.is_sip() && matches(s)).map(|(id, _)| id)
    }

    /// The socket to reach `to` from: `preferred` if it has the right family, else the first
    /// UDP socket of that family.
    pub fn toward(&self, to: SocketAddr, preferred: Option<SocketId>) -> Option<SocketId> {
        self.toward_by(Proto::Udp, to, preferred)
    }

    /// The socket to reach `to` over a transport from: `preferred` if it is of that transport and
    /// family, else one of the same address, else the first of them.
    pub fn toward_by(
        &self,
        proto: Proto,
        to: SocketAddr,
        preferred: Option<SocketId>,
    ) -> Option<SocketId> {
        let fits = |s: &Socket| s.proto == proto && s.addr.is_ipv4() == to.is_ipv4();
        let kept = preferred.filter(|id| self.get(*id).is_some_and(fits));
        if let Some(id) = kept {
            let reaches = |id| self.get(id).is_some_and(|s| self.can_reach(id, s, to));
            return Some(if reaches(id) { id } else { self.leaving(id, to) });
        }
        let ip = preferred.and_then(|id| self.get(id)).map(|s| s.addr.ip());
        let near = self.iter().find(|(_, s)| fits(s) && Some(s.addr.ip()) == ip);
        let found = near.or_else(|| self.iter().find(|(_, s)| fits(s))).map(|(id, _)| id);
        found.map(|id| self.leaving(id, to))
    }

    /// Whether a socket is of connections.
    pub fn is_reliable(&self, id: SocketId) -> bool {
        self.get(id).is_some_and(|s| s.proto.is_reliable())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets() -> Sockets {
        let udp = |addr: &str, tag: Option<&str>| {
            Socket::new(Proto::Udp, addr.parse().unwrap(), None, tag.map(String::from))
        };
        let all = vec![
            udp("127.0.0.1:5060", None),
            udp("127.0.0.2:5062", Some("lan")),
            udp("[::1]:5060", None),
            Socket::new(Proto::Bin, "127.0.0.3:5566".parse().unwrap(), None, None),
        ];
        Sockets::new(all, vec![("Sip.Example.org".into(), 0), ("pbx.local".into(), 5080)])
    }

    #[test]
    fn a_socket_text_resolves_to_equal_then_tag_then_family_then_none() {
        let s = sockets();
        assert_eq!(s.resolve("udp:127.0.0.2:5062"), Some(SocketId(1)));
        assert_eq!(s.resolve("udp:lan"), Some(SocketId(1)));
        assert_eq!(s.resolve("udp:10.0.0.9:5060"), Some(SocketId(0)));
        assert_eq!(s.resolve("udp:[fe80::1]:5060"), Some(SocketId(2)));
        assert_eq!(s.resolve("tcp:127.0.0.1:5060"), None);
    }

    #[test]
    fn a_node_knows_what_leads_to_itself() {
        let s = sockets();
        let leads = |to: &str| s.is_own(Proto::Udp, to.parse().unwrap());
        for own in ["127.0.0.1:5060", "[::ffff:127.0.0.1]:5060", "0.0.0.0:5060", "[::]:5060"] {
            assert!(leads(own), "{own}");
        }
        for other in ["127.0.0.1:5061", "0.0.0.0:5061", "192.0.2.1:5060"] {
            assert!(!leads(other), "{other}");
        }
    }

    #[test]
    fn a_node_knows_its_addresses_and_aliases() {
        let s = sockets();
        assert!(s.is_myself(b"127.0.0.1", None));
        assert!(s.is_myself(b"127.0.0.2", Some(5062)));
        assert!(!s.is_myself(b"127.0.0.2", Some(5060)));
        assert!(s.is_myself(b"[::1]", Some(5060)));
        assert!(s.is_myself(b"SIP.example.ORG", Some(9)));
        assert!(s.is_myself(b"pbx.local", None));
        assert!(!s.is_myself(b"pbx.local", Some(5060)));
        assert!(!s.is_myself(b"127.0.0.3", None), "a BIN socket is no SIP destination");
        let mut s = s;
        s.add_alias("Below.org", 0, true);
        for (host, own) in [("below.org", true), ("a.below.org", true), ("A.B.Below.ORG", true)] {
            assert_eq!(s.is_myself(host.as_bytes(), None), own, "{host}");
        }
        for other in ["xbelow.org", ".below.org", "a.pbx.local", "org"] {
            assert!(!s.is_myself(other.as_bytes(), None), "{other}");
        }
    }
}
