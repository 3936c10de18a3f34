//! TCP from an address of one's choice.

use std::net::{IpAddr, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

/// A connection from one of the test's addresses.
///
/// # Panics
/// If nobody listens there.
#[must_use]
pub fn stream(from: impl Into<IpAddr>, to: SocketAddr) -> TcpStream {
    let from = SocketAddr::new(from.into(), 0);
    let open = || -> std::io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.bind(&from.into())?;
        socket.connect(&to.into())?;
        Ok(socket.into())
    };
    open().unwrap_or_else(|e| panic!("{from} to {to}: {e}"))
}
