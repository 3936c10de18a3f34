//! The addresses that a name in a script stands for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs, UdpSocket};

/// What a name stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    ips: Vec<IpAddr>,
    by_name: bool,
}

impl Found {
    pub fn ips(&self) -> &[IpAddr] {
        &self.ips
    }

    pub fn is_empty(&self) -> bool {
        self.ips.is_empty()
    }

    /// Whether the name is one of the DNS or the hosts file, and not an interface or `*`.
    pub fn is_by_name(&self) -> bool {
        self.by_name
    }
}

/// The addresses of an interface, of every interface (`*`), or of a host name: of the latter the
/// first only. May wait for the DNS, so it is for start-up.
pub fn addresses(name: &str) -> Found {
    let mut ips: Vec<IpAddr> = nix::ifaddrs::getifaddrs()
        .map(|all| {
            let wanted = all.filter(|i| name == "*" || i.interface_name == name);
            wanted.filter_map(|i| ip_of(&i)).collect()
        })
        .unwrap_or_default();
    // Where nothing else says from where to send, the first one is taken: nothing goes from
    // loopback to anybody else.
    ips.sort_unstable_by_key(|ip| (ip.is_loopback(), *ip));
    ips.dedup();
    if !ips.is_empty() || name == "*" {
        return Found { ips, by_name: false };
    }
    let first = (name, 0).to_socket_addrs().ok().and_then(|mut all| all.next());
    Found { ips: first.map(|a| a.ip()).into_iter().collect(), by_name: true }
}

/// An address of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostAddress {
    pub ip: IpAddr,
    pub prefix_bits: u8,
    pub interface: u32,
}

/// What this host has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    pub addresses: Vec<HostAddress>,
    /// From where it would reach the rest of the world.
    pub defaults: Vec<IpAddr>,
}

/// The addresses of this host now, in the order in which its interfaces list them.
pub fn interfaces() -> Interfaces {
    let mut found = Interfaces::default();
    let mut names: Vec<String> = Vec::new();
    for interface in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        let Some(ip) = ip_of(&interface) else { continue };
        // Labels (`eth0:1`) belong to their interface.
        let name = interface.interface_name.split(':').next().unwrap_or_default();
        let number = names.iter().position(|n| n == name).unwrap_or_else(|| {
            names.push(name.to_owned());
            names.len() - 1
        });
        let prefix_bits = prefix_of(&interface).unwrap_or(if ip.is_ipv4() { 32 } else { 128 });
        let address = HostAddress { ip, prefix_bits, interface: number as u32 };
        if !found.addresses.iter().any(|known| known.ip == ip) {
            found.addresses.push(address);
        }
    }
    found.defaults = [FAR_V4, FAR_V6].into_iter().filter_map(source_toward).collect();
    found
}

fn prefix_of(interface: &nix::ifaddrs::InterfaceAddress) -> Option<u8> {
    let mask = interface.netmask.as_ref()?;
    let v4 = mask.as_sockaddr_in().map(|a| a.ip().to_bits().count_ones());
    let bits = v4.or_else(|| Some(mask.as_sockaddr_in6()?.ip().to_bits().count_ones()))?;
    u8::try_from(bits).ok()
}

/// The address that the host would send from. Nothing is sent.
#[expect(clippy::disallowed_methods, reason = "drivers own sockets")]
fn source_toward(far: IpAddr) -> Option<IpAddr> {
    let any: IpAddr =
        if far.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((far, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Places that no host is in the network of (RFC 5737, RFC 3849).
const FAR_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const FAR_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

/// The address of an interface; link-local ones of IPv6 need a scope that SIP cannot write.
fn ip_of(interface: &nix::ifaddrs::InterfaceAddress) -> Option<IpAddr> {
    let address = interface.address.as_ref()?;
    let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
    let v6 = || address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip()));
    v4.or_else(v6).filter(|ip| match ip {
        IpAddr::V4(_) => true,
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_lists_loopback_with_its_network() {
        let loopback: IpAddr = [127, 0, 0, 1].into();
        let found = interfaces();
        let address = found.addresses.iter().find(|a| a.ip == loopback).expect("loopback");
        assert_eq!(address.prefix_bits, 8);
        assert!(!found.defaults.contains(&loopback));
    }

    #[test]
    fn interfaces_all_of_them_and_names_stand_for_addresses() {
        let loopback: IpAddr = [127, 0, 0, 1].into();
        assert!(addresses("lo").ips().contains(&loopback));
        let all = addresses("*");
        assert!(all.ips().contains(&loopback));
        assert!(all.ips().is_sorted_by_key(|ip| ip.is_loopback()), "{all:?}");
        assert!(addresses("localhost").is_by_name());
        assert!(addresses("no-such-interface.invalid").is_empty());
    }
}
