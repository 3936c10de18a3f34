//! A /24 of 127.0.0.0/8 for one test.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

/// A network that no other test of this machine has while this value lives, whichever process it
/// runs in: the owner holds a socket at the network's last address.
#[derive(Debug)]
pub struct Network {
    prefix: [u8; 3],
    _lease: UdpSocket,
}

/// Port of the socket that marks a network as taken.
const LEASE_PORT: u16 = 9;
/// 127.0.x.x belongs to the examples, 127.127.x.x and above to other programs.
const SECOND_OCTETS: std::ops::Range<u8> = 16..100;

impl Network {
    /// Takes a free network.
    ///
    /// # Panics
    /// If every network is taken.
    #[must_use]
    pub fn take() -> Self {
        let start = std::process::id() as usize;
        let all: Vec<[u8; 3]> =
            SECOND_OCTETS.flat_map(|b| (1..=254).map(move |c| [127, b, c])).collect();
        (0..all.len())
            .find_map(|n| Self::lease(all[(start * 7 + n) % all.len()]))
            .expect("every loopback network is taken")
    }

    #[expect(clippy::disallowed_methods, reason = "the tests own their sockets")]
    fn lease(prefix: [u8; 3]) -> Option<Self> {
        let at = SocketAddr::from((address(prefix, 254), LEASE_PORT));
        let lease = UdpSocket::bind(at).ok()?;
        Some(Self { prefix, _lease: lease })
    }

    /// Address number `host` (1 to 253) of the network.
    #[must_use]
    pub fn ip(&self, host: u8) -> Ipv4Addr {
        address(self.prefix, host)
    }
}

fn address([a, b, c]: [u8; 3], host: u8) -> Ipv4Addr {
    Ipv4Addr::new(a, b, c, host)
}
