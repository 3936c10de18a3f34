//! Functions on addresses.

use std::net::IpAddr;
use std::sync::Arc;

use tandem_engine::log::Level;
use tandem_engine::module::Call;
use tandem_script::host::Called;
use tandem_script::value::Value;

use crate::address::{Addresses, Question};
use crate::state::Permissions;

const NO: Called = Called::Returned(-1);
/// Nothing is known about the group.
const UNKNOWN: Called = Called::Returned(-2);

/// Protocols that a script may name.
const PROTOS: &[&str] = &["any", "none", "udp", "tcp", "tls", "sctp", "ws", "wss"];

pub(crate) fn check_address(call: &mut Call<'_, '_, '_>) -> Called {
    let text = String::from_utf8_lossy(&call.text(1)).into_owned();
    let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() else {
        return call.complain(Level::Error, format!("`{text}` is not an IP address"));
    };
    let Some(port) = call.int(2).and_then(|port| u16::try_from(port).ok()) else {
        return call.complain(Level::Error, "the port is between 0 and 65535");
    };
    let proto = String::from_utf8_lossy(&call.text(3)).to_ascii_lowercase();
    let Some(proto) = PROTOS.iter().find(|p| **p == proto) else {
        return call.complain(Level::Error, format!("`{proto}` is no protocol"));
    };
    let proto = if *proto == "none" { "any" } else { proto };
    check(call, (ip, port, proto), [4, 5, 6])
}

pub(crate) fn check_source_address(call: &mut Call<'_, '_, '_>) -> Called {
    let source = source(call);
    check(call, source, [1, 2, 3])
}

pub(crate) fn get_source_group(call: &mut Call<'_, '_, '_>) -> Called {
    let (ip, port, proto) = source(call);
    let Some(table) = table(call, 1) else { return NO };
    let asked = Question { group: 0, ip, port, proto, pattern: None };
    let Some(entry) = table.find(&asked) else { return NO };
    let group = i32::try_from(entry.group).unwrap_or_default();
    write(call, 0, Value::Int(group))
}

fn source(call: &Call<'_, '_, '_>) -> (IpAddr, u16, &'static str) {
    let source = &call.ctx.source;
    let proto = call.cx.node.sockets.get(source.socket).map_or("any", |s| s.proto.text());
    (source.addr.ip().to_canonical(), source.addr.port(), proto)
}

/// `rest` are the places of the arguments for info, pattern and partition.
fn check(
    call: &mut Call<'_, '_, '_>,
    (ip, port, proto): (IpAddr, u16, &str),
    rest: [usize; 3],
) -> Called {
    let [info, pattern, partition] = rest;
    let group = i64::from(call.int(0).unwrap_or_default());
    let Some(table) = table(call, partition) else { return NO };
    if !table.knows(group) {
        return UNKNOWN;
    }
    let given = call.given(pattern).then(|| call.text(pattern));
    let asked = Question { group, ip, port, proto, pattern: given.as_deref() };
    let Some(entry) = table.find(&asked) else { return NO };
    match &entry.info {
        Some(text) if call.given_var(info) => write(call, info, Value::str(text.clone())),
        _ => Called::Returned(1),
    }
}

/// The table of the partition that an argument names.
fn table(call: &mut Call<'_, '_, '_>, partition: usize) -> Option<Arc<Addresses>> {
    let state = call.state::<Permissions>()?;
    let name = match call.given(partition) {
        true => String::from_utf8_lossy(&call.text(partition)).into_owned(),
        false => "default".to_owned(),
    };
    let found = state.partitions.part(&name).map(|part| part.table());
    if found.is_none() {
        let why = format!("there is no partition `{name}`: set db_url or partition of permissions");
        call.complain(Level::Error, why);
    }
    found
}

fn write(call: &mut Call<'_, '_, '_>, var: usize, value: Value) -> Called {
    match call.set_var(var, value) {
        Ok(()) => Called::Returned(1),
        Err(why) => call.complain(Level::Error, why),
    }
}
