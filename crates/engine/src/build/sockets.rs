//! The sockets of a script: addresses, names, bonds.

use std::net::{IpAddr, SocketAddr};

use tandem_script::Diag;
use tandem_script::Span;
use tandem_script::program::{Program, ProxyUse};

use super::{Values, fault, global_int, global_text, values};
use crate::catalogue::Modules;
use crate::module::ParamValue;
use crate::sockets::{Proto, Socket, Sockets};

pub(super) fn build(
    program: &Program,
    modules: Modules,
    globals: &Values,
) -> Result<Sockets, Vec<Diag>> {
    let mut faults = Vec::new();
    let mut all = Vec::new();
    for socket in &program.sockets {
        match build_socket(socket, program, modules, globals) {
            Ok(sockets) => all.extend(sockets),
            Err(diag) => faults.push(diag),
        }
    }
    if !all.iter().any(|s: &Socket| s.proto.is_sip()) && faults.is_empty() {
        let message = "the script has no SIP socket";
        let help = "add a line such as `socket = udp:127.0.0.1:5060`";
        faults.push(fault(Span::default(), message).help(help));
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut sockets = Sockets::new(all, Vec::new());
    for alias in &program.aliases {
        sockets.add_alias(&alias.host, alias.port.unwrap_or(0), alias.accept_subdomain);
    }
    let faults: Vec<Diag> = program.bonds.iter().filter_map(|b| bond(&mut sockets, b)).collect();
    if faults.is_empty() { Ok(sockets) } else { Err(faults) }
}

/// Gives several sockets a name; what is wrong with it.
fn bond(sockets: &mut Sockets, bond: &tandem_script::program::Bond) -> Option<Diag> {
    let mut members = Vec::new();
    for text in &bond.members {
        let Some(id) = sockets.equal(text) else {
            let message =
                format!("`{text}` of the bond `{}` is no socket of the script", bond.name);
            return Some(fault(bond.span, message).help(format!("add a line `socket = {text}`")));
        };
        members.push(id);
    }
    sockets.add_bond(&bond.name, members);
    None
}

/// The port of sockets without one: the parameter of the transport's module.
fn default_port(program: &Program, modules: Modules, module: &str, param: &str) -> Option<u16> {
    let slot = modules.iter().position(|d| d.name == module)?;
    program.modules.iter().find(|m| usize::from(m.module) == slot)?;
    let values = values(program, slot as u16, modules.get(slot)?);
    match values.get(param)?.last()? {
        ParamValue::Int(port) => u16::try_from(*port).ok(),
        ParamValue::Str(_) => None,
    }
}

fn build_socket(
    socket: &tandem_script::program::Socket,
    program: &Program,
    modules: Modules,
    globals: &Values,
) -> Result<Vec<Socket>, Diag> {
    let (proto, module, param) = match socket.proto.as_str() {
        "udp" => (Proto::Udp, "proto_udp", "udp_port"),
        "tcp" => (Proto::Tcp, "proto_tcp", "tcp_port"),
        "bin" => (Proto::Bin, "proto_bin", "bin_port"),
        other => {
            let message = format!("sockets of protocol `{other}` are not in Tandem yet");
            let help = "use `udp:` or `tcp:` for SIP, `bin:` for the cluster";
            return Err(fault(socket.span, message).help(help));
        }
    };
    if proto == Proto::Bin && socket.proxy != ProxyUse::default() {
        return Err(fault(socket.span, "the PROXY protocol is for sockets of SIP"));
    }
    if proto == Proto::Udp && socket.proxy.writes {
        let message = "the header of the PROXY protocol is sent over connections only";
        return Err(fault(socket.span, message).help("write allow_proxy_protocol to read it"));
    }
    let default_port = default_port(program, modules, module, param).ok_or_else(|| {
        fault(socket.span, format!("a `{}` socket needs the module {module}", proto.text()))
            .help(format!("add loadmodule \"{module}.so\""))
    })?;
    let ip: IpAddr = socket.host.parse().map_err(|_| {
        let message = format!("`{}` is not an IP address", socket.host);
        fault(socket.span, message)
            .help("host and interface names are not in Tandem yet: write the address")
    })?;
    let ports = match socket.ports.as_slice() {
        [] => vec![default_port],
        ranges => ranges.iter().flat_map(|(a, b)| *a..=*b).collect(),
    };
    let make = |port: u16| {
        let own = socket.advertised.as_ref().map(|(h, p)| (h.clone(), p.unwrap_or(port)));
        let advertised = own.or_else(|| advertised(globals, proto, SocketAddr::new(ip, port)));
        let addr = SocketAddr::new(ip, port);
        let mut made = Socket::new(proto, addr, advertised, socket.tag.clone());
        made.tos = tos(socket, globals);
        made.anycast = socket.anycast;
        made.proxy = socket.proxy;
        made
    };
    Ok(ports.into_iter().map(make).collect())
}

/// The TOS byte: of the socket, else the global's number or name (`IPTOS_LOWDELAY`).
fn tos(socket: &tandem_script::program::Socket, globals: &Values) -> Option<u8> {
    let named = || match global_text(globals, "tos")? {
        "IPTOS_LOWDELAY" => Some(0x10),
        "IPTOS_THROUGHPUT" => Some(0x08),
        "IPTOS_RELIABILITY" => Some(0x04),
        "IPTOS_MINCOST" => Some(0x02),
        _ => None,
    };
    let number = socket.tos.or_else(|| u32::try_from(global_int(globals, "tos")?).ok());
    number.and_then(|n| u8::try_from(n).ok()).or_else(named)
}

/// What `advertised_address` and `advertised_port` make of a SIP socket without `as`.
fn advertised(globals: &Values, proto: Proto, addr: SocketAddr) -> Option<(String, u16)> {
    let host = global_text(globals, "advertised_address");
    let port = global_int(globals, "advertised_port").filter(|p| *p != 0);
    if proto == Proto::Bin || (host.is_none() && port.is_none()) {
        return None;
    }
    let bare = || match addr.ip() {
        IpAddr::V6(ip) => format!("[{ip}]"),
        IpAddr::V4(ip) => ip.to_string(),
    };
    let port = port.and_then(|p| u16::try_from(p).ok()).unwrap_or(addr.port());
    Some((host.map_or_else(bare, str::to_owned), port))
}
