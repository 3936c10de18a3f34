//! `event_datagram`: events to outside programs as UDP and unix datagrams.
//!
//! The socket of a subscriber is `udp:HOST:PORT` or `unix:/PATH`. Each event is one datagram, a
//! JSON-RPC 2.0 notification.

use std::sync::Arc;

use tandem_engine::events::{Destination, EventTransport};
use tandem_engine::module::{Build, BuildError, Module, ModuleDef};

/// The table of `event_datagram`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "event_datagram",
    help: "Events to outside programs as UDP and unix datagrams.",
    dependencies: &[],
    params: &[],
    functions: &[],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build,
};

struct EventDatagram;

impl Module for EventDatagram {
    fn event_transports(&self) -> Vec<EventTransport> {
        vec![
            EventTransport { proto: "udp", parse: udp },
            EventTransport { proto: "unix", parse: unix },
        ]
    }
}

fn build(_from: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    Ok(Arc::new(EventDatagram))
}

/// `HOST:PORT`; an IPv6 address stands in brackets.
fn udp(text: &str) -> Option<Destination> {
    let (host, port) = text.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let host = match bare {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().ok()?.to_string(),
        None if host.is_empty() || host.contains([':', '/', ' ', '[', ']']) => return None,
        None => host.to_owned(),
    };
    let port = port.parse().ok().filter(|p| *p != 0)?;
    Some(Destination::Udp { host, port })
}

/// The path of a unix socket.
fn unix(text: &str) -> Option<Destination> {
    // The kernel takes 107 bytes (unix(7)).
    let fits = text.starts_with('/') && text.len() <= 107 && !text.contains('\0');
    fits.then(|| Destination::Unix(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_of_subscribers_are_read() {
        let to = |host: &str| Some(Destination::Udp { host: host.into(), port: 9999 });
        assert_eq!(udp("127.0.0.1:9999"), to("127.0.0.1"));
        assert_eq!(udp("[::1]:9999"), to("::1"));
        assert_eq!(udp("monitor.example.org:9999"), to("monitor.example.org"));
        for bad in ["", ":", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:x", ":9", "::1:9", "[x]:9"] {
            assert_eq!(udp(bad), None, "{bad}");
        }
        assert_eq!(unix("/tmp/e"), Some(Destination::Unix("/tmp/e".into())));
        assert_eq!(unix("e"), None);
        assert_eq!(unix(&format!("/{}", "x".repeat(107))), None);
    }
}
