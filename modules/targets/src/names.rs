//! Looking up the names of targets, and what such a name may be.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tandem_engine::dns::Resolved;
use tandem_engine::log::Level;
use tandem_engine::module::{Cx, Timer};
use tandem_engine::sockets::Proto;
use tandem_engine::transport::{Hop, HopError};
use tandem_sip::{Scheme, Transport, Uri};

/// Names that are looked up at the same time.
const OPEN_MAX: usize = 10_000;
const UNSPOKEN: &str = "Tandem does not speak its transport";
/// How long until names without an address are looked up again.
const AGAIN_S: u64 = 30;

/// The parts of a target's URI that matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// As it stands in a URI.
    pub host: String,
    /// Without the brackets of an IPv6 address.
    pub host_bare: String,
    /// 0: the usual one.
    pub port: u16,
    /// `None`: any.
    pub proto: Option<Proto>,
    /// What the host is known to be without asking.
    pub ip: Option<IpAddr>,
}

impl Address {
    /// Of a SIP URI.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(uri: &str) -> Result<Self, String> {
        let parsed = Uri::parse(uri.as_bytes()).map_err(|e| e.to_string())?;
        if !parsed.is_sip() || parsed.host.is_empty() {
            return Err("it is no SIP URI".into());
        }
        if parsed.scheme == Scheme::Sips {
            return Err(UNSPOKEN.into());
        }
        let proto = match parsed.param(b"transport") {
            None => None,
            Some(_) => Some(match parsed.transport() {
                Some(Transport::Udp) => Proto::Udp,
                Some(Transport::Tcp) => Proto::Tcp,
                _ => return Err(UNSPOKEN.into()),
            }),
        };
        Ok(Self {
            host: String::from_utf8_lossy(parsed.host).into_owned(),
            host_bare: String::from_utf8_lossy(parsed.host_bare()).into_owned(),
            port: parsed.port.unwrap_or(0),
            proto,
            ip: parsed.host_ip(),
        })
    }
}

/// Whether a text names a socket, perhaps of another node.
#[must_use]
pub fn is_socket(text: &str) -> bool {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    host.split_once(':').is_some_and(|(proto, host)| !proto.is_empty() && !host.is_empty())
        && port.parse::<u16>().is_ok()
}

/// A text of a row for a line of the log, which it must not end.
#[must_use]
pub fn one_line(text: &str) -> String {
    let shown = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(shown).collect()
}

/// Searches for addresses on their way; `T` is what they are for.
#[derive(Debug)]
pub struct Searches<T> {
    inner: Mutex<(u64, BTreeMap<u64, T>)>,
}

impl<T> Default for Searches<T> {
    fn default() -> Self {
        Self { inner: Mutex::new((0, BTreeMap::new())) }
    }
}

impl<T> Searches<T> {
    /// Begins one; `Some`: it has ended already. When too many are open there is none.
    pub fn begin(
        &self,
        cx: &mut Cx<'_>,
        uri: &Bytes,
        of: T,
    ) -> Option<(T, Result<Vec<IpAddr>, HopError>)> {
        let token = {
            let mut inner = self.inner.lock();
            if inner.1.len() >= OPEN_MAX {
                return None;
            }
            inner.0 += 1;
            let token = inner.0;
            inner.1.insert(token, of);
            token
        };
        match cx.resolve(uri, token) {
            Resolved::Now(result) => self.ended(token, result),
            _ => None,
        }
    }

    /// One has ended: what it was for, and the addresses, in order and each once.
    pub fn ended(
        &self,
        token: u64,
        result: Result<Vec<Hop>, HopError>,
    ) -> Option<(T, Result<Vec<IpAddr>, HopError>)> {
        let of = self.inner.lock().1.remove(&token)?;
        let ips = result.map(|hops| {
            let mut ips: Vec<_> = hops.iter().map(|hop| hop.addr.ip()).collect();
            ips.sort_unstable();
            ips.dedup();
            ips
        });
        Some((of, ips))
    }
}

/// What is known of a target whose name has no address now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Addresses that it had before, and keeps.
    pub kept: usize,
    /// It was looked up before, in vain.
    pub again: bool,
}

/// Says that a name has no address.
pub fn not_found(cx: &mut Cx<'_>, module: &str, uri: &Bytes, why: &HopError, missing: Missing) {
    let uri = String::from_utf8_lossy(uri).into_owned();
    let (level, then) = match missing {
        Missing { kept: 0, again: false } => (Level::Error, ""),
        Missing { kept: 0, .. } => (Level::Debug, ""),
        _ => (Level::Warning, "; the addresses of before stay"),
    };
    cx.log(level, format!("{module}: destination {uri}: {why}{then}"));
}

/// Whether names are to be looked up again, because some had no address: once for many.
#[derive(Debug, Default)]
pub struct Again(AtomicBool);

impl Again {
    /// They are, when the timer `kind` fires.
    pub fn later(&self, cx: &mut Cx<'_>, kind: u32) {
        if !self.0.swap(true, Ordering::Relaxed) {
            cx.set_timer(cx.now.after_s(AGAIN_S), Timer { kind, id: 0 });
        }
    }

    /// It has fired: what fails from now on counts for the next time.
    pub fn begins(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_a_row_stays_in_its_line() {
        assert_eq!(one_line("sip:ü\r\nERROR x\t`"), "sip:ü\\r\\nERROR x\\t`");
    }

    #[test]
    fn an_address_is_that_of_a_sip_uri() {
        let of = Address::of("sip:[::1]:5070;transport=tcp").unwrap();
        assert_eq!((of.host.as_str(), of.host_bare.as_str()), ("[::1]", "::1"));
        assert_eq!((of.port, of.proto), (5070, Some(Proto::Tcp)));
        for wrong in ["", "tel:1", "sip:", "sip:a;transport=sctp", "sips:a"] {
            assert!(Address::of(wrong).is_err(), "{wrong}");
        }
    }
}
