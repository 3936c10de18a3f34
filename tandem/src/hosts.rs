//! Sockets that a script names by interface, by host name or as `*`: one for each address.

use std::net::IpAddr;

use tandem_script::Program;
use tandem_script::program::{Alias, Socket};

/// Replaces names by the addresses they stand for. A name that stands for none stays as it is:
/// building the node says so, with its place.
pub(crate) fn resolve(program: &mut Program) {
    let mut resolved = Vec::with_capacity(program.sockets.len());
    for socket in std::mem::take(&mut program.sockets) {
        if socket.host.parse::<IpAddr>().is_ok() {
            resolved.push(socket);
            continue;
        }
        let found = tandem_drivers::hosts::addresses(&socket.host);
        if found.is_empty() {
            resolved.push(socket);
            continue;
        }
        if found.is_by_name() {
            // A node that listens on a name answers to it.
            program.aliases.push(alias(&socket));
        }
        let each = |ip: &IpAddr| Socket { host: ip.to_string(), ..socket.clone() };
        resolved.extend(found.ips().iter().map(each));
    }
    program.sockets = resolved;
}

fn alias(socket: &Socket) -> Alias {
    Alias {
        proto: None,
        host: socket.host.clone(),
        port: None,
        accept_subdomain: socket.accept_subdomain,
        span: socket.span,
        place: socket.place,
    }
}
