//! Values of `socket` and `alias`.

use crate::program::{Alias, Bond, Place, ProxyUse, Socket};
use crate::source::Span;

const PROTOS: &[&str] = &[
    "udp", "tcp", "tls", "sctp", "ws", "wss", "bin", "bins", "hep_udp", "hep_tcp", "hep_tls",
    "smpp", "msrp", "msrps", "ipsec",
];

/// A mistake at bytes of the value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SocketError {
    pub(crate) message: String,
    pub(crate) at: usize,
    pub(crate) len: usize,
}

type Word<'a> = (&'a str, usize);

fn wrong<T>((word, at): Word<'_>, message: String) -> Result<T, SocketError> {
    Err(SocketError { message, at, len: word.len().max(1) })
}

fn words(text: &str) -> Vec<Word<'_>> {
    let start = text.as_ptr() as usize;
    text.split_ascii_whitespace().map(|w| (w, w.as_ptr() as usize - start)).collect()
}

pub(crate) fn socket(text: &str, span: Span, place: Place) -> Result<Socket, SocketError> {
    let words = words(text);
    let Some(&first) = words.first() else { return wrong((text, 0), "no socket".to_owned()) };
    let Some((proto, rest)) = first.0.split_once(':') else {
        return wrong(first, "a socket is written PROTO:ADDRESS[:PORT]".to_owned());
    };
    let proto = protocol(proto, first)?;
    let (host, ports) = host_ports(rest, first)?;
    let mut socket = Socket {
        proto,
        host,
        ports,
        advertised: None,
        tag: None,
        workers: None,
        tos: None,
        anycast: false,
        frag: false,
        reuse_port: false,
        accept_subdomain: false,
        proxy: ProxyUse::default(),
        span,
        place,
    };
    let mut options = words.iter().skip(1).copied();
    while let Some(word) = options.next() {
        option(&mut socket, word, &mut options)?;
    }
    Ok(socket)
}

/// `bond:NAME { "proto:ip:port", ... }`; `None`: the text is no bond.
pub(crate) fn bond(text: &str, span: Span, place: Place) -> Result<Option<Bond>, SocketError> {
    let Some(rest) = text.trim_start().strip_prefix("bond:") else { return Ok(None) };
    let whole = (text, 0);
    let form = || "a bond is written bond:NAME { \"udp:1.2.3.4:5060\", ... }".to_owned();
    let Some((name, list)) = rest.split_once('{') else { return wrong(whole, form()) };
    let (name, list) = (name.trim(), list.trim_end());
    let Some(list) = list.strip_suffix('}').filter(|_| !name.is_empty()) else {
        return wrong(whole, form());
    };
    let members = list.split(',').map(|m| m.trim().trim_matches('"').trim().to_owned());
    let members: Vec<String> = members.filter(|m| !m.is_empty()).collect();
    if members.is_empty() {
        return wrong(whole, format!("the bond `{name}` holds no socket"));
    }
    Ok(Some(Bond { name: name.to_owned(), members, span, place }))
}

fn option<'a>(
    socket: &mut Socket,
    word: Word<'a>,
    rest: &mut impl Iterator<Item = Word<'a>>,
) -> Result<(), SocketError> {
    let name = word.0;
    let lower = name.to_ascii_lowercase();
    if name != lower && name != name.to_ascii_uppercase() {
        return wrong(word, format!("options are all lower or all upper case: `{lower}`"));
    }
    let mut value = || match rest.next() {
        Some(v) => Ok(v),
        None => wrong(word, format!("`{lower}` needs a value")),
    };
    match lower.as_str() {
        "as" => {
            let at = value()?;
            let (host, ports) = host_ports(at.0, at)?;
            socket.advertised = Some((host, ports.first().map(|p| p.0)));
        }
        "tag" => socket.tag = Some(value()?.0.to_owned()),
        "use_workers" | "use_children" => socket.workers = Some(int(value()?)?),
        "tos" => socket.tos = Some(int(value()?)?),
        "anycast" => socket.anycast = true,
        "frag" => socket.frag = true,
        "reuse_port" => socket.reuse_port = true,
        "accept_subdomain" => socket.accept_subdomain = true,
        "use_auto_scaling_profile" => drop(value()?),
        "allow_proxy_protocol" | "allow-proxy-protocol" | "allow_proxy" => {
            socket.proxy.reads = true;
        }
        "send_proxy_protocol" => socket.proxy.writes = true,
        "proxy_protocol" => socket.proxy = ProxyUse { reads: true, writes: true },
        _ => return wrong(word, format!("unknown socket option `{name}`")),
    }
    Ok(())
}

fn int((text, at): Word<'_>) -> Result<u32, SocketError> {
    text.parse().or_else(|_| wrong((text, at), format!("`{text}` is not a number")))
}

fn protocol(text: &str, word: Word<'_>) -> Result<String, SocketError> {
    let lower = text.to_ascii_lowercase();
    if PROTOS.contains(&lower.as_str()) {
        return Ok(lower);
    }
    let near = crate::nearest::nearest(text, PROTOS.iter().copied());
    let hint = near.map_or(String::new(), |n| format!(", did you mean `{n}`?"));
    wrong((text, word.1), format!("unknown protocol `{text}`{hint}"))
}

fn host_ports(text: &str, word: Word<'_>) -> Result<(String, Vec<(u16, u16)>), SocketError> {
    let (host, ports) = if let Some(rest) = text.strip_prefix('[') {
        let Some((host, tail)) = rest.split_once(']') else {
            return wrong(word, "`[` without `]` in the address".to_owned());
        };
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return wrong(word, format!("`{host}` is not an IPv6 address"));
        }
        (host, tail.strip_prefix(':'))
    } else if text.parse::<std::net::Ipv6Addr>().is_ok() {
        (text, None)
    } else {
        text.split_once(':').map_or((text, None), |(h, p)| (h, Some(p)))
    };
    let named = host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:*".contains(&b));
    if host.is_empty() || !named || (host.contains('*') && host != "*") {
        return wrong(word, format!("`{host}` is not an address, host or interface"));
    }
    let digits = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if digits && host.parse::<std::net::Ipv4Addr>().is_err() {
        return wrong(word, format!("`{host}` is not an IPv4 address"));
    }
    let ports = ports.map_or(Ok(Vec::new()), |p| port_list(p, word))?;
    Ok((host.to_owned(), ports))
}

fn port_list(text: &str, word: Word<'_>) -> Result<Vec<(u16, u16)>, SocketError> {
    let one = |p: &str| match p.parse::<u16>() {
        Ok(n) if n > 0 => Ok(n),
        _ => wrong(word, format!("`{p}` is not a port (1 to 65535)")),
    };
    text.split(',')
        .map(|range| match range.split_once('-') {
            None => one(range).map(|p| (p, p)),
            Some((a, b)) => {
                let (a, b) = (one(a)?, one(b)?);
                if a > b {
                    return wrong(word, format!("the port range {a}-{b} runs backwards"));
                }
                Ok((a, b))
            }
        })
        .collect()
}

/// All aliases of one value.
pub(crate) fn aliases(text: &str, span: Span, place: Place) -> Result<Vec<Alias>, SocketError> {
    let mut out: Vec<Alias> = Vec::new();
    for word in words(text) {
        if word.0.eq_ignore_ascii_case("accept_subdomain") {
            match out.last_mut() {
                Some(last) => last.accept_subdomain = true,
                None => return wrong(word, "an alias is expected first".to_owned()),
            }
            continue;
        }
        let (head, tail) = word.0.split_once(':').unwrap_or(("", ""));
        let lower = head.to_ascii_lowercase();
        let has_proto = PROTOS.contains(&lower.as_str()) && !tail.is_empty();
        let rest = if has_proto { tail } else { word.0 };
        let (host, ports) = host_ports(rest, word)?;
        let port = ports.first().map(|p| p.0);
        let proto = has_proto.then_some(lower);
        out.push(Alias { proto, host, port, accept_subdomain: false, span, place });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Socket, SocketError> {
        socket(text, Span::default(), Place::default())
    }

    #[test]
    fn socket_with_options_is_taken_apart() {
        let s = read("udp:127.0.1.1:5060 tag pub as sip.example.org:5061").expect("valid");
        assert_eq!((s.proto.as_str(), s.host.as_str()), ("udp", "127.0.1.1"));
        assert_eq!(s.ports, [(5060, 5060)]);
        assert_eq!(s.tag.as_deref(), Some("pub"));
        assert_eq!(s.advertised, Some(("sip.example.org".to_owned(), Some(5061))));
        assert_eq!(read("bin:[::1]:5566").expect("v6").host, "::1");
        assert_eq!(read("tcp:eth0:5060-5062,5070").expect("ports").ports.len(), 2);
    }

    #[test]
    fn a_bond_names_its_sockets() {
        let read = |text| bond(text, Span::default(), Place::default());
        let found = read("bond:both { \"udp:1.2.3.4:5060\",\n \"tcp:1.2.3.4\" }").expect("valid");
        let found = found.expect("a bond");
        assert_eq!((found.name.as_str(), found.members.len()), ("both", 2));
        assert_eq!(found.members[1], "tcp:1.2.3.4");
        assert_eq!(read("udp:1.2.3.4"), Ok(None));
        for wrong in ["bond:x", "bond: { \"udp:1.2.3.4\" }", "bond:x { }", "bond:x { \"a\""] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_proxy_protocol_goes_each_way() {
        let ways = |option| {
            let proxy = read(&format!("tcp:1.2.3.4 {option}")).expect("valid").proxy;
            (proxy.reads, proxy.writes)
        };
        assert_eq!(ways(""), (false, false));
        assert_eq!(ways("allow-proxy-protocol"), (true, false));
        assert_eq!(ways("SEND_PROXY_PROTOCOL"), (false, true));
        assert_eq!(ways("proxy_protocol"), (true, true));
    }

    #[test]
    fn mistakes_are_placed() {
        let e = read("upd:1.2.3.4").expect_err("proto");
        assert_eq!(e.message, "unknown protocol `upd`, did you mean `udp`?");
        assert_eq!(read("udp:1.2.3:5060").expect_err("v4").at, 0);
        assert_eq!(
            read("udp:1.2.3.4:70000").expect_err("port").message,
            "`70000` is not a port (1 to 65535)"
        );
        assert_eq!(read("udp:1.2.3.4 tga x").expect_err("option").at, 12);
    }

    #[test]
    fn several_aliases_stand_on_one_line() {
        let list =
            aliases("udp:a.org:5060 b.org accept_subdomain", Span::default(), Place::default())
                .expect("valid");
        assert_eq!(list.len(), 2);
        assert_eq!((list[0].port, list[1].accept_subdomain), (Some(5060), true));
    }
}
