//! `nat_uac_test()`: does the sender look as if it were behind NAT?

use std::net::{IpAddr, Ipv4Addr};

use tandem_engine::context::Ctx;
use tandem_engine::module::Call;
use tandem_script::flags::FlagSet;
use tandem_script::host::Called;
use tandem_script::program::Ready;
use tandem_script::sig::FlagSig;
use tandem_sip::{ContactList, Rport, Uri};

const fn test(name: &'static str, old: &'static str, help: &'static str) -> FlagSig {
    FlagSig { name, takes_value: false, old, help }
}

/// The tests, in the order of their old numbers.
pub(crate) const TESTS: &[FlagSig] = &[
    test("private-contact", "1", "Contact has a private address."),
    test("diff-ip-src-via", "2", "The source address is not that of the top Via."),
    test("private-via", "4", "The top Via has a private address."),
    test("private-sdp", "8", "A c= line of the body has a private address."),
    test("diff-port-src-via", "16", "The source port is not that of the top Via."),
    test("diff-ip-src-contact", "32", "The source address is not that of the Contact."),
    test("diff-port-src-contact", "64", "The source port is not that of the Contact."),
    test("carrier-grade-nat", "128", "192.0.0.0/29 counts as private too (RFC 6333)."),
];

const CARRIER_GRADE: usize = 7;

pub(crate) fn nat_uac_test(call: &mut Call<'_, '_, '_>) -> Called {
    let parsed;
    let flags = match call.ready(0) {
        Some(Ready::Flags(flags)) => &**flags,
        _ => {
            let text = call.text(0);
            match tandem_script::flags::parse(TESTS, &String::from_utf8_lossy(&text)) {
                Ok(p) => {
                    parsed = p.flags;
                    &parsed
                }
                Err(e) => return call.complain(tandem_engine::log::Level::Error, e),
            }
        }
    };
    let hit = (0..CARRIER_GRADE).any(|test| flags.has(test) && holds(test, call.ctx, flags));
    Called::Returned(if hit { 1 } else { -1 })
}

fn holds(test: usize, ctx: &Ctx, flags: &FlagSet) -> bool {
    let cgn = flags.has(CARRIER_GRADE);
    let source = ctx.source.addr;
    let has_via = || ctx.msg.top_via().is_ok();
    match test {
        0 => contact_ip(ctx).is_some_and(|ip| is_private(ip, cgn)),
        1 => has_via() && via_ip(ctx) != Some(source.ip()),
        2 => via_ip(ctx).is_some_and(|ip| is_private(ip, cgn)),
        3 => private_sdp(ctx.msg.body(), cgn),
        4 => via_port(ctx).is_some_and(|port| port != source.port()),
        5 => contact_ip(ctx).is_some_and(|ip| ip != source.ip()),
        6 => contact_port(ctx).is_some_and(|port| port != source.port()),
        _ => false,
    }
}

/// The address in the topmost Via; names are none.
pub(crate) fn via_ip(ctx: &Ctx) -> Option<IpAddr> {
    ctx.msg.top_via().ok()?.host_ip()
}

/// The port in the topmost Via: one that the sender already corrected is the one that counts.
pub(crate) fn via_port(ctx: &Ctx) -> Option<u16> {
    let via = ctx.msg.top_via().ok()?;
    Some(match via.rport {
        Rport::Port(port) => port,
        _ => via.port_or_default(),
    })
}

/// The URI of the first Contact.
fn contact<R>(ctx: &Ctx, read: impl FnOnce(&Uri<'_>) -> Option<R>) -> Option<R> {
    let Ok(ContactList::List(list)) = ctx.msg.contact_list() else { return None };
    read(&Uri::parse(list.first()?.uri()).ok()?)
}

/// The address in the first Contact; names are none.
pub(crate) fn contact_ip(ctx: &Ctx) -> Option<IpAddr> {
    contact(ctx, |uri| uri.host_ip())
}

/// The port in the first Contact, whatever its host.
fn contact_port(ctx: &Ctx) -> Option<u16> {
    contact(ctx, |uri| Some(uri.port.unwrap_or(5060)))
}

/// 10/8, 172.16/12, 192.168/16, 100.64/10, 127/8; IPv6 never (nathelper: "nat_uac_test").
pub(crate) fn is_private(ip: IpAddr, carrier_grade: bool) -> bool {
    let IpAddr::V4(ip) = ip.to_canonical() else { return false };
    let [a, b, c, d] = ip.octets();
    ip.is_private()
        || ip.is_loopback()
        || (a == 100 && (64..128).contains(&b))
        || (carrier_grade && [a, b, c] == [192, 0, 0] && d < 8)
}

fn private_sdp(body: &[u8], carrier_grade: bool) -> bool {
    body.split(|b| *b == b'\n')
        .filter_map(|line| line.trim_ascii().strip_prefix(b"c=IN IP4 "))
        .filter_map(|rest| rest.split(|b| matches!(b, b' ' | b'/')).next())
        .filter_map(|ip| std::str::from_utf8(ip).ok()?.parse::<Ipv4Addr>().ok())
        .any(|ip| is_private(ip.into(), carrier_grade))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_those_of_the_field() {
        let private = |ip: &str| is_private(ip.parse().unwrap(), false);
        for ip in ["10.1.2.3", "172.16.0.1", "172.31.9.9", "192.168.1.1", "100.64.0.1", "127.0.0.1"]
        {
            assert!(private(ip), "{ip}");
        }
        for ip in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "192.0.0.1", "fd00::1"] {
            assert!(!private(ip), "{ip}");
        }
        assert!(is_private("192.0.0.7".parse().unwrap(), true));
        assert!(!is_private("192.0.0.8".parse().unwrap(), true));
    }

    #[test]
    fn a_private_connection_line_of_sdp_is_found() {
        assert!(private_sdp(b"v=0\r\nc=IN IP4 192.168.0.9\r\n", false));
        assert!(private_sdp(b"v=0\nc=IN IP4 10.0.0.9/127\n", false));
        assert!(!private_sdp(b"v=0\r\nc=IN IP4 8.8.8.8\r\no=- 1 1 IN IP4 10.0.0.1\r\n", false));
    }
}
