//! One rule of a list: which destinations it means.

use std::net::{IpAddr, SocketAddr};

use tandem_clock::{Mono, Now};

use crate::sockets::Proto;

/// A destination that is looked at, with the message that is to go there.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// `None`: any.
    pub proto: Option<Proto>,
    pub ip: IpAddr,
    /// 0: any.
    pub port: u16,
    pub text: &'a [u8],
}

impl<'a> Site<'a> {
    pub fn new(proto: Proto, addr: SocketAddr, text: &'a [u8]) -> Self {
        Self { proto: Some(proto), ip: addr.ip(), port: addr.port(), text }
    }
}

/// Addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net {
    pub ip: IpAddr,
    /// Leading bits that count.
    pub bits: u8,
}

impl Net {
    /// `ADDRESS`, `ADDRESS/BITS` or `ADDRESS/MASK`.
    pub fn parse(text: &str) -> Option<Self> {
        let (ip, mask) = text.split_once('/').map_or((text, None), |(ip, m)| (ip, Some(m.trim())));
        let ip: IpAddr = ip.trim().trim_matches(['[', ']']).parse().ok()?;
        let all = if ip.is_ipv4() { 32 } else { 128 };
        let bits = match mask {
            None => all,
            Some(mask) => match mask.parse::<IpAddr>() {
                Ok(mask) => u8::try_from(bits_of(mask).leading_ones()).ok()?,
                Err(_) => mask.parse().ok()?,
            },
        };
        (bits <= all).then_some(Self { ip, bits })
    }

    pub fn contains(&self, ip: IpAddr) -> bool {
        let shift = |n: u128| n.checked_shr(128 - u32::from(self.bits)).unwrap_or(0);
        self.ip.is_ipv4() == ip.is_ipv4() && shift(bits_of(self.ip)) == shift(bits_of(ip))
    }

    /// The mask as an address.
    pub fn mask(&self) -> IpAddr {
        let ones = |all: u32| u128::MAX.checked_shl(all - u32::from(self.bits)).unwrap_or(0);
        match self.ip {
            IpAddr::V4(_) => IpAddr::V4((ones(32) as u32).into()),
            IpAddr::V6(_) => IpAddr::V6(ones(128).into()),
        }
    }
}

/// The bits of an address, from the highest on.
fn bits_of(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)) << 96,
        IpAddr::V6(ip) => u128::from(ip),
    }
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// It means every destination but these.
    pub negated: bool,
    /// `None`: any.
    pub proto: Option<Proto>,
    pub net: Net,
    /// 0: any.
    pub port: u16,
    /// What the message must look like, with `*` and `?`; empty: anything.
    pub pattern: String,
    /// When it ends by itself.
    pub until: Option<Mono>,
}

impl Rule {
    /// The rule of exactly this destination.
    pub fn of(proto: Proto, addr: SocketAddr) -> Self {
        let bits = if addr.is_ipv4() { 32 } else { 128 };
        Self {
            negated: false,
            proto: Some(proto),
            net: Net { ip: addr.ip(), bits },
            port: addr.port(),
            pattern: String::new(),
            until: None,
        }
    }

    pub fn is_alive(&self, now: Now) -> bool {
        self.until.is_none_or(|until| until > now.mono_ns)
    }

    /// Whether the destination is one of those that the rule means.
    pub fn holds(&self, site: &Site<'_>) -> bool {
        let inside = self.net.contains(site.ip);
        let proto = self.proto.is_none() || site.proto.is_none() || self.proto == site.proto;
        let port = self.port == 0 || site.port == 0 || self.port == site.port;
        let text = self.pattern.is_empty() || matches(self.pattern.as_bytes(), site.text);
        (inside && proto && port && text) != self.negated
    }

    /// Whether both mean the same destinations.
    pub fn says_as(&self, other: &Self) -> bool {
        self.negated == other.negated
            && self.proto == other.proto
            && self.net == other.net
            && self.port == other.port
            && self.pattern == other.pattern
    }
}

/// Whether a text has the form of a pattern with `*` (any bytes) and `?` (one byte).
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where the last star stood, and how much of the text it has taken.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || Some(c) == text.get(t) => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                p = at + 1;
                t = taken + 1;
            }
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|b| *b == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nets_contain_their_addresses() {
        let net = |text: &str| Net::parse(text).unwrap();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(net("10.0.0.0/8").contains(ip("10.255.0.1")));
        assert!(!net("10.0.0.0/8").contains(ip("11.0.0.1")));
        assert!(net("10.1.2.3").contains(ip("10.1.2.3")) && !net("10.1.2.3").contains(ip("::1")));
        assert_eq!(net("10.0.0.0/255.255.0.0").bits, 16);
        assert_eq!(net("10.0.0.0/12").mask(), ip("255.240.0.0"));
        assert!(net("0.0.0.0/0").contains(ip("1.2.3.4")) && net("::/0").contains(ip("::9")));
        assert_eq!(net("2001:db8::/32").mask(), ip("ffff:ffff::"));
        assert!(Net::parse("10.0.0.0/33").is_none() && Net::parse("host").is_none());
    }

    #[test]
    fn patterns_match_as_a_shell_does() {
        for (pattern, text, fits) in [
            ("*INVITE*", "xx INVITE yy", true),
            ("INVITE*", "xx INVITE", false),
            ("a?c", "abc", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-d", false),
            ("*", "", true),
            ("?", "", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), fits, "{pattern} {text}");
        }
    }
}
