//! The sender, and the sockets that a message came to and leaves from.

use tandem_script::host::Assign;
use tandem_script::value::Value;

use super::{named, read, text, write};
use crate::module::{VarCall, VariableDef};
use crate::sockets::SocketId;

pub(super) const VARIABLES: &[VariableDef] = &[
    read("si", "Source address.", |c| text(c.ctx.source.addr.ip().to_string())),
    read("src_ip", "Source address.", |c| text(c.ctx.source.addr.ip().to_string())),
    read("sp", "Source port.", |c| Value::Int(i32::from(c.ctx.source.addr.port()))),
    read("socket_in", "The receiving socket.", |c| of_socket(c, Some(c.ctx.source.socket), b"")),
    named(read(
        "socket_in",
        "ip, port, proto, advertised_ip, advertised_port, tag, anycast or af of the socket.",
        |c| of_socket(c, Some(c.ctx.source.socket), c.access.name),
    )),
    named(read(
        "proxy_protocol",
        "src_ip, src_port, dst_ip, dst_port or af, as a load balancer has told them.",
        |c| match (&c.ctx.proxied, c.access.name) {
            (Some(p), b"src_ip") => text(p.src.ip().to_string()),
            (Some(p), b"dst_ip") => text(p.dst.ip().to_string()),
            (Some(p), b"src_port") => Value::Int(i32::from(p.src.port())),
            (Some(p), b"dst_port") => Value::Int(i32::from(p.dst.port())),
            (Some(p), b"af") => text(if p.src.is_ipv4() { "INET" } else { "INET6" }),
            _ => Value::Null,
        },
    )),
    write(
        "socket_out",
        "The socket to send from; writing chooses it.",
        |c| of_socket(c, c.ctx.target.socket, b""),
        set_socket_out,
    ),
    named(read(
        "socket_out",
        "The fields of $socket_in for the sending socket, or `forced`: the chosen one.",
        |c| of_socket(c, c.ctx.target.socket, c.access.name),
    )),
];

fn of_socket(call: &VarCall<'_, '_>, socket: Option<SocketId>, field: &[u8]) -> Value {
    let Some(socket) = socket.and_then(|id| call.cx.node.sockets.get(id)) else {
        return Value::Null;
    };
    let port = |p: u16| Value::Int(i32::from(p));
    match field {
        b"" | b"forced" => text(socket.text()),
        b"ip" => text(socket.addr.ip().to_string()),
        b"port" => port(socket.addr.port()),
        b"proto" => text(socket.proto.text()),
        b"tag" => socket.tag.clone().map_or(Value::Null, text),
        b"advertised_ip" => socket.advertised.as_ref().map_or(Value::Null, |a| text(&*a.0)),
        b"advertised_port" => socket.advertised.as_ref().map_or(Value::Null, |a| port(a.1)),
        b"anycast" => Value::Int(i32::from(socket.anycast)),
        b"af" => text(if socket.addr.is_ipv4() { "INET" } else { "INET6" }),
        _ => Value::Null,
    }
}

fn set_socket_out(call: &mut VarCall<'_, '_>, _: Assign, value: Value) -> Result<(), String> {
    let Some(name) = value.into_bytes() else {
        call.ctx.target.socket = None;
        return Ok(());
    };
    let name = String::from_utf8_lossy(&name);
    let found = call.cx.node.sockets.named(&name);
    call.ctx.target.socket = Some(found.ok_or_else(|| format!("{name} is no socket of ours"))?);
    Ok(())
}
