//! Sockets: UDP in batches, BIN streams, the addresses of the host, and a poll loop for workers.
//!
//! This crate moves bytes and understands none of them. Nearly all `unsafe` is here, all of
//! it in `sys.rs`: the calls that neither the standard library nor `socket2` offers.

pub mod bin;
mod bin_conn;
pub mod netlink;
pub mod poll;
mod sys;
pub mod udp;

pub use bin::{BinEvent, BinOptions, BinStreams, Command, ConnId, Keepalive};
pub use netlink::{AddressEvent, AddressWatch, current_addresses};
pub use poll::{Interest, Poller, Ready, Waker};
pub use udp::{
    Datagram, Outgoing, RecvBatch, SendError, SendFailure, UdpOptions, UdpSocket, is_local_address,
};
