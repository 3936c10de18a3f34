//! The addresses that a name in a script stands for.

use std::net::{IpAddr, ToSocketAddrs};

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
    ips.sort_unstable();
    ips.dedup();
    if !ips.is_empty() || name == "*" {
        return Found { ips, by_name: false };
    }
    let first = (name, 0).to_socket_addrs().ok().and_then(|mut all| all.next());
    Found { ips: first.map(|a| a.ip()).into_iter().collect(), by_name: true }
}

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
    fn interfaces_all_of_them_and_names_stand_for_addresses() {
        let loopback: IpAddr = [127, 0, 0, 1].into();
        assert!(addresses("lo").ips().contains(&loopback));
        assert!(addresses("*").ips().contains(&loopback));
        assert!(addresses("localhost").is_by_name());
        assert!(addresses("no-such-interface.invalid").is_empty());
    }
}
