//! `mi_datagram`: management commands in datagrams, over UDP or a unix socket.
//!
//! The transport is the binary's; this module says where the socket is and who may write to it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tandem_engine::endpoint::{
    Endpoint, MiDatagramOptions, MiSocket, Owner, PRETTY_PRINTING, TRACE_BWLIST, TRACE_DESTINATION,
    permissions, pretty,
};
use tandem_engine::module::{Build, BuildError, Module, ModuleDef};
use tandem_engine::table::{moot, param};
use tandem_script::sig::ParamKind;

/// The smallest buffer that leaves room for a command.
const BUFFER_MIN: i64 = 256;

/// The table of `mi_datagram`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "mi_datagram",
    help: "Management commands in datagrams, over UDP or a unix socket.",
    dependencies: &[],
    params: &[
        moot("children_count", ParamKind::Int, "commands take turns on one thread"),
        param("socket_name", ParamKind::Str, None, "`/path`, `unix:/path` or `udp:ip:port`."),
        param("socket_timeout", ParamKind::Int, Some("2000"), "ms an answer may wait for room."),
        param("socket_buf_size", ParamKind::Int, Some("65457"), "Bytes of a datagram at most."),
        param("unix_socket_mode", ParamKind::Int, Some("432"), "Permissions (0660)."),
        param("unix_socket_group", ParamKind::IntOrStr, None, "Group of the unix socket."),
        param("unix_socket_user", ParamKind::IntOrStr, None, "Owner of the unix socket."),
        TRACE_DESTINATION,
        TRACE_BWLIST,
        PRETTY_PRINTING,
    ],
    functions: &[],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build,
};

struct MiDatagram(MiDatagramOptions);

impl Module for MiDatagram {
    fn endpoints(&self) -> Vec<Endpoint> {
        vec![Endpoint::MiDatagram(self.0.clone())]
    }
}

fn build(from: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    let mode = permissions(from, "unix_socket_mode")?;
    let number = |name: &'static str, least: i64| {
        let n = from.int(name).filter(|n| *n >= least);
        n.ok_or_else(|| BuildError::new(name, format!("{least} or more is wanted")))
    };
    let bytes_max = number("socket_buf_size", BUFFER_MIN)?;
    let timeout_ms = number("socket_timeout", 0)?;
    let name = from.text("socket_name").unwrap_or_default();
    Ok(Arc::new(MiDatagram(MiDatagramOptions {
        socket: match name.strip_prefix("udp:") {
            Some(at) => MiSocket::Udp(udp(at).ok_or_else(|| bad_name(name))?),
            None => {
                let path = name.strip_prefix("unix:").unwrap_or(name);
                if !path.starts_with('/') {
                    return Err(bad_name(name));
                }
                MiSocket::Unix {
                    path: path.into(),
                    mode,
                    user: Owner::of(from.all("unix_socket_user")),
                    group: Owner::of(from.all("unix_socket_group")),
                }
            }
        },
        bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX),
        send_timeout_ms: u32::try_from(timeout_ms).unwrap_or(u32::MAX),
        pretty: pretty(from),
    })))
}

fn bad_name(name: &str) -> BuildError {
    let message = match name {
        "" => "socket_name is missing".to_owned(),
        name => format!("`{name}` names no socket"),
    };
    BuildError::new("socket_name", message).help("write \"udp:IP:PORT\" or \"unix:/PATH\"")
}

fn udp(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.rsplit_once(':')?;
    let ip: IpAddr = match host {
        "*" => IpAddr::from([0, 0, 0, 0]),
        host => host.trim_matches(['[', ']']).parse().ok()?,
    };
    Some(SocketAddr::new(ip, port.parse().ok()?))
}
