//! The globals about names.

use std::collections::BTreeMap;

use tandem_dns::{Protocol, Settings};

use super::reaches;
use crate::module::ParamValue;
use crate::sockets::{Proto, Sockets};

/// How long a resolver of the system waits for one answer, and how often it asks.
const TIMEOUT_S: u32 = 5;
const ATTEMPTS: u32 = 2;

/// What a script says about the DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSettings {
    /// `dns_try_naptr`.
    pub naptr: bool,
    /// `dns_try_ipv6`.
    pub ipv6: bool,
    /// All destinations of a name are tried, not only the first (`disable_dns_failover`).
    pub failover: bool,
    /// `dns_retr_time` in seconds, `dns_retr_no`; `None`: as the system does.
    pub timeout_s: Option<u32>,
    pub attempts: Option<u32>,
    /// `dns_servers_no`; `None`: all that the system names.
    pub servers_max: Option<u32>,
    /// `dns_use_search_list`.
    pub search_list: bool,
    /// `exec_dns_threshold`: an answer that takes longer, in microseconds, is complained about.
    pub slow_us: Option<u64>,
}

impl DnsSettings {
    pub(crate) fn read(globals: &BTreeMap<String, Vec<ParamValue>>) -> Self {
        let number = |name: &str| match globals.get(name).and_then(|v| v.last()) {
            Some(ParamValue::Int(n)) => u32::try_from(*n).ok(),
            _ => None,
        };
        let on = |name: &str| number(name).is_some_and(|n| n != 0);
        Self {
            naptr: on("dns_try_naptr"),
            ipv6: on("dns_try_ipv6"),
            failover: !on("disable_dns_failover"),
            timeout_s: number("dns_retr_time").filter(|n| *n > 0),
            attempts: number("dns_retr_no").filter(|n| *n > 0),
            servers_max: number("dns_servers_no").filter(|n| *n > 0),
            search_list: on("dns_use_search_list"),
            slow_us: number("exec_dns_threshold").filter(|n| *n > 0).map(u64::from),
        }
    }

    /// One wait of the resolver, in seconds, and how often it asks.
    pub fn patience(&self) -> (u32, u32) {
        let timeout_s = self.timeout_s.unwrap_or(TIMEOUT_S).min(60);
        (timeout_s, self.attempts.unwrap_or(ATTEMPTS).min(10))
    }

    /// When a question without any answer counts as failed: a little after the resolver, which
    /// ends by itself.
    pub(crate) fn give_up_ms(&self) -> u64 {
        let (timeout_s, attempts) = self.patience();
        u64::from(timeout_s) * u64::from(attempts) * 1_000 + 2_000
    }

    /// What a search may use, by the sockets of the node.
    pub(crate) fn of_search(&self, sockets: &Sockets) -> Settings {
        let either = |proto| reaches(sockets, proto, true) || reaches(sockets, proto, false);
        let any = |ipv4| [Proto::Udp, Proto::Tcp].iter().any(|p| reaches(sockets, *p, ipv4));
        let all = [(Protocol::Udp, Proto::Udp), (Protocol::Tcp, Proto::Tcp)];
        let protocols = all.iter().filter(|(_, p)| either(*p)).map(|(p, _)| *p).collect();
        let ipv4 = any(true);
        Settings { protocols, naptr: self.naptr, ipv4, ipv6: any(false) && (self.ipv6 || !ipv4) }
    }
}
