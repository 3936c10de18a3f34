//! Functions that ask whether somebody is a gateway: is_from_gw(), goes_to_gw() and dr_is_gw().

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use tandem_engine::log::Level;
use tandem_engine::module::Call;
use tandem_engine::sockets::Proto;
use tandem_engine::uri_edit::{Part, with_part};
use tandem_script::host::{Assign, Called, Index};
use tandem_script::value::Value;
use tandem_sip::{Transport, Uri};

use crate::destinations::Gateway;
use crate::functions::{NO, YES, output, partition, text};
use crate::state::Drouting;
use crate::table::{Partition, Table};

/// Every partition is looked through.
const ANY: &str = "*";

/// Flags of the functions here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Flags {
    strip: bool,
    prefix: bool,
    id: bool,
    no_port: bool,
    protocol: bool,
    carrier: bool,
}

impl Flags {
    fn parse(text: &str) -> Result<Self, String> {
        let mut flags = Self::default();
        for letter in text.chars().filter(|c| !c.is_whitespace() && *c != ',') {
            let flag = match letter {
                's' => &mut flags.strip,
                'p' => &mut flags.prefix,
                'i' => &mut flags.id,
                'n' => &mut flags.no_port,
                'r' => &mut flags.protocol,
                'c' => &mut flags.carrier,
                other => return Err(format!("`{other}` is none of the flags s, p, i, n, r and c")),
            };
            *flag = true;
        }
        Ok(flags)
    }
}

/// Judges literal flags.
pub(crate) fn check_flags(text: &str) -> Result<(), String> {
    Flags::parse(text).map(|_| ())
}

/// Who is looked for.
struct Party {
    ip: Option<IpAddr>,
    /// The host as it is written, if it is a name.
    host: String,
    port: u16,
    proto: Option<Proto>,
}

pub(crate) fn is_from_gw(call: &mut Call<'_, '_, '_>) -> Called {
    let source = call.ctx.source;
    let proto = call.cx.node.sockets.get(source.socket).map(|socket| socket.proto);
    let (ip, port) = (Some(source.addr.ip()), source.addr.port());
    find(call, &Party { ip, host: String::new(), port, proto }, 0)
}

pub(crate) fn goes_to_gw(call: &mut Call<'_, '_, '_>) -> Called {
    let uri = match &call.ctx.target.dst_uri {
        Some(uri) => uri.to_vec(),
        None => call.ctx.request_uri().to_vec(),
    };
    match party(call, &uri) {
        Some(party) => find(call, &party, 0),
        None => NO,
    }
}

pub(crate) fn dr_is_gw(call: &mut Call<'_, '_, '_>) -> Called {
    let uri = call.text(0);
    match party(call, &uri) {
        Some(party) => find(call, &party, 1),
        None => {
            call.complain(Level::Error, format!("{:?} is no URI", String::from_utf8_lossy(&uri)))
        }
    }
}

fn party(call: &mut Call<'_, '_, '_>, uri: &[u8]) -> Option<Party> {
    let uri = Uri::parse(uri).ok()?;
    let host = String::from_utf8_lossy(uri.host_bare()).into_owned();
    let ip = uri.host_ip().or_else(|| call.cx.resolve_now(&host));
    let proto = match uri.transport() {
        Some(Transport::Tcp) => Proto::Tcp,
        _ => Proto::Udp,
    };
    Some(Party { ip, host, port: uri.port.unwrap_or(5060), proto: Some(proto) })
}

/// Looks for a gateway; the arguments from `at` on are type, flags, outputs and partition.
fn find(call: &mut Call<'_, '_, '_>, party: &Party, at: usize) -> Called {
    let Some(state) = call.state::<Drouting>() else { return NO };
    let flags = match Flags::parse(&text(call, at + 1)) {
        Ok(flags) => flags,
        Err(why) => return call.complain(Level::Error, why),
    };
    let kind = call.int(at).filter(|kind| *kind >= 0).map(i64::from);
    let any = call.given(at + 4) && text(call, at + 4) == ANY;
    let parts = if any {
        state.parts()
    } else {
        match partition(call, &state, at + 4) {
            Ok(part) => vec![part],
            Err(called) => return called,
        }
    };
    for part in parts {
        let table = part.table();
        let found = candidates(call, &state, &table, party)
            .into_iter()
            .find(|at| table.gateway(*at).is_some_and(|gateway| fits(gateway, party, kind, flags)));
        let Some(found) = found else { continue };
        if any && let Some(var) = state.params.partition_var {
            let name = Value::str(part.name.as_bytes().to_vec());
            if let Err(why) = call.write(var, name) {
                return call.complain(Level::Error, why);
            }
        }
        return tell(call, &part, &table, found, (flags, at + 2));
    }
    NO
}

/// The gateways at an address; those of names that nobody has looked up yet are looked up.
fn candidates(
    call: &mut Call<'_, '_, '_>,
    state: &Drouting,
    table: &Arc<Table>,
    party: &Party,
) -> Vec<u32> {
    let named = !party.host.is_empty() && party.host.parse::<IpAddr>().is_err();
    let mut same = Vec::new();
    if named || !state.params.resolves {
        for (at, gateway) in (0u32..).zip(&table.of.gateways) {
            if named && gateway.host.eq_ignore_ascii_case(&party.host) {
                same.push(at);
            }
            if gateway.ips.read().is_empty() {
                state.resolve_gateway(call.cx, table, at, false);
            }
        }
    }
    let mut all = party.ip.map(|ip| table.at_ip(ip)).unwrap_or_default();
    all.append(&mut same);
    all
}

fn fits(gateway: &Gateway, party: &Party, kind: Option<i64>, flags: Flags) -> bool {
    kind.is_none_or(|kind| kind == gateway.kind)
        && (flags.no_port || gateway.port == 0 || gateway.port == party.port)
        && (!flags.protocol || gateway.proto.is_none() || gateway.proto == party.proto)
}

/// Does what the flags ask for; the outputs begin at an argument.
fn tell(
    call: &mut Call<'_, '_, '_>,
    part: &Partition,
    table: &Table,
    found: u32,
    (flags, outputs): (Flags, usize),
) -> Called {
    let Some(gateway) = table.gateway(found) else { return NO };
    let carrier = table.carrier_of(found).and_then(|at| table.of.carriers.get(at as usize));
    output(call, outputs, &gateway.attrs);
    output(call, outputs + 1, carrier.map_or("", |carrier| &carrier.attrs));
    if flags.strip || flags.prefix {
        let uri = call.ctx.request_uri().to_vec();
        let user = Uri::parse(&uri).ok().and_then(|uri| uri.user.map(<[u8]>::to_vec));
        let user = user.unwrap_or_default();
        let strip = if flags.strip { gateway.strip.min(user.len()) } else { 0 };
        let prefix = if flags.prefix { gateway.prefix.as_bytes() } else { b"" };
        let user = [prefix, user.get(strip..).unwrap_or_default()].concat();
        match with_part(&uri, Part::User, &user) {
            Some(uri) => call.ctx.target.uri = Some(uri),
            None => return call.complain(Level::Error, "the R-URI takes no such user part"),
        }
    }
    if flags.id {
        set(call, Some(&part.avps.gateway), &gateway.id);
    }
    if flags.carrier {
        let id = carrier.map_or("", |carrier| &carrier.id);
        set(call, part.avps.carrier.as_ref(), id);
    }
    YES
}

fn set(call: &mut Call<'_, '_, '_>, name: Option<&Bytes>, value: &str) {
    let Some(name) = name else {
        call.complain(Level::Warning, "the flag c needs the parameter carrier_id_avp");
        return;
    };
    let value = Value::str(value.as_bytes().to_vec());
    if let Err(why) = call.ctx.avps.set(name, Index::All, Assign::Replace, value) {
        call.complain(Level::Error, why);
    }
}
