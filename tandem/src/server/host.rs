//! The addresses of this host, for sockets that listen on all of them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tandem_clock::{Mono, Now};
use tandem_drivers::hosts::{self, Interfaces};
use tandem_engine::sockets::HostAddress;
use tandem_net::{Command, current_addresses};

use super::{Shared, tcp};

/// What the node was told last.
#[derive(Debug, Default)]
pub(super) struct Host {
    told: Vec<HostAddress>,
    at: Mono,
}

impl Host {
    /// The addresses, when they have changed since they were last told.
    pub(super) fn news(&mut self, shared: &Shared, now: Now) -> Option<Vec<HostAddress>> {
        if !shared.node.sockets.follows_host() {
            return None;
        }
        self.at = now.after_s(LOOK_S);
        let usable = current_addresses().ok()?;
        let found = addresses(&hosts::interfaces(), &usable);
        if found == self.told {
            return None;
        }
        let left = self.told.iter().filter(|was| !found.iter().any(|a| a.ip == was.ip));
        for was in left {
            tcp::pass_on(shared, Command::CloseLocal { ip: was.ip });
        }
        self.told.clone_from(&found);
        Some(found)
    }

    /// The same once in a while: a route can change without an address.
    pub(super) fn look(&mut self, shared: &Shared, now: Now) -> Option<Vec<HostAddress>> {
        if now.mono_ns < self.at { None } else { self.news(shared, now) }
    }
}

/// Those that a socket can use, loopback last.
fn addresses(found: &Interfaces, usable: &BTreeSet<IpAddr>) -> Vec<HostAddress> {
    let each = found.addresses.iter().filter(|found| usable.contains(&found.ip));
    let mut all: Vec<HostAddress> = each
        .map(|found_at| HostAddress {
            ip: found_at.ip,
            prefix_bits: found_at.prefix_bits,
            interface: found_at.interface,
            is_default: found.defaults.contains(&found_at.ip),
        })
        .collect();
    // The sort is stable: the interface's first address comes first.
    all.sort_by_key(|a| (a.ip.is_loopback(), !a.is_default, a.ip.is_ipv6()));
    all
}

/// How often routes are looked at.
const LOOK_S: u64 = 5;
