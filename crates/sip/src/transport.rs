//! Transports as Via headers and URI parameters name them.

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
    Ws,
    Wss,
    Sctp,
}

impl Transport {
    /// By name, in any case; `None` for a transport nobody here knows.
    #[must_use]
    pub fn of(name: &[u8]) -> Option<Self> {
        [Self::Udp, Self::Tcp, Self::Tls, Self::Ws, Self::Wss, Self::Sctp]
            .into_iter()
            .find(|t| t.as_via().as_bytes().eq_ignore_ascii_case(name))
    }

    /// As it is written in a Via header.
    #[must_use]
    pub const fn as_via(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Ws => "WS",
            Self::Wss => "WSS",
            Self::Sctp => "SCTP",
        }
    }

    /// As it is written in a `transport=` URI parameter.
    #[must_use]
    pub const fn as_param(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Sctp => "sctp",
        }
    }

    /// The port meant when none is written: RFC 3261 18.2, RFC 7118 5.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Udp | Self::Tcp | Self::Sctp => 5060,
            Self::Tls => 5061,
            Self::Ws => 80,
            Self::Wss => 443,
        }
    }

    /// `true` if the transport retransmits by itself, so that transactions need not.
    #[must_use]
    pub const fn is_reliable(self) -> bool {
        !matches!(self, Self::Udp)
    }
}

#[cfg(test)]
mod tests {
    use super::Transport;

    #[test]
    fn names_are_found_in_any_case() {
        assert_eq!(Transport::of(b"udp"), Some(Transport::Udp));
        assert_eq!(Transport::of(b"WsS"), Some(Transport::Wss));
        assert_eq!(Transport::of(b"UNKNOWN"), None);
        assert_eq!(Transport::of(b""), None);
    }
}
