//! The addresses of this host, as they come and go: a service address that moves to another
//! node leaves here first.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use socket2::{Domain, Protocol, Socket, Type};

use crate::sys;

/// An address came to this host or left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressEvent {
    pub ip: IpAddr,
    pub present: bool,
}

/// Watches the addresses of the host. Its descriptor is readable when there is news; it fits
/// [`crate::Poller`] and tokio's `AsyncFd`.
#[derive(Debug)]
pub struct AddressWatch {
    socket: Socket,
    /// (interface, address): an address may be on two interfaces.
    known: BTreeSet<(u32, IpAddr)>,
    /// News was lost, and the whole list could not be read at once; it is asked for again.
    stale: bool,
}

impl AddressWatch {
    /// Starts to watch. What is there at this moment is [`AddressWatch::addresses`] and brings no
    /// event.
    pub fn open() -> io::Result<Self> {
        let socket = netlink_socket()?;
        socket.set_nonblocking(true)?;
        // Losing news only costs reading the whole list again.
        let _ = socket.set_recv_buffer_size(1 << 20);
        socket.bind(&sys::netlink_address(GROUP_IPV4_ADDRESS | GROUP_IPV6_ADDRESS))?;
        // Listening before listing: nothing falls between the two.
        let known = list()?;
        Ok(Self { socket, known, stale: false })
    }

    /// The addresses that are there, as far as the events were read.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        self.known.iter().map(|(_, ip)| *ip).collect()
    }

    /// Whether the address is there, as far as the events were read.
    pub fn holds(&self, ip: IpAddr) -> bool {
        self.known.iter().any(|(_, known)| *known == ip)
    }

    /// Adds what changed since the last call to `events`, without waiting. When the kernel
    /// dropped news, the whole list is read and the difference reported.
    pub fn read(&mut self, events: &mut Vec<AddressEvent>) -> io::Result<()> {
        let before = self.addresses();
        let mut buffer = [0; READ_BYTES];
        for _ in 0..READS_MAX {
            match (&self.socket).read(&mut buffer) {
                Ok(0) => break,
                Ok(len) => {
                    for change in changes(buffer.get(..len).unwrap_or(&[])) {
                        change.apply(&mut self.known);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => self.stale = true,
                Err(error) => return Err(error),
            }
        }
        if self.stale {
            self.known = list()?;
            self.stale = false;
        }
        // One event for what really changed: an address that left and came back is none.
        let after = self.addresses();
        let left = before.difference(&after).map(|&ip| AddressEvent { ip, present: false });
        let came = after.difference(&before).map(|&ip| AddressEvent { ip, present: true });
        events.extend(left.chain(came));
        Ok(())
    }
}

impl AsFd for AddressWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for AddressWatch {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// The usable addresses of this host now.
pub fn current_addresses() -> io::Result<BTreeSet<IpAddr>> {
    Ok(list()?.into_iter().map(|(_, ip)| ip).collect())
}

fn netlink_socket() -> io::Result<Socket> {
    let domain = Domain::from(libc::AF_NETLINK);
    Socket::new(domain, Type::RAW, Some(Protocol::from(libc::NETLINK_ROUTE)))
}

/// Asks the kernel for all addresses. It answers at once; the time limit only bounds a fault.
fn list() -> io::Result<BTreeSet<(u32, IpAddr)>> {
    let mut socket = netlink_socket()?;
    socket.set_read_timeout(Some(std::time::Duration::from_secs(1)))?;
    socket.bind(&sys::netlink_address(0))?;
    let mut request = [0_u8; HEADER_BYTES + IFADDR_BYTES];
    request[..4].copy_from_slice(&((HEADER_BYTES + IFADDR_BYTES) as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&libc::RTM_GETADDR.to_ne_bytes());
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    request[6..8].copy_from_slice(&flags.to_ne_bytes());
    socket.send(&request)?;

    let mut known = BTreeSet::new();
    let mut buffer = vec![0; READ_BYTES];
    for _ in 0..READS_MAX {
        let len = socket.read(&mut buffer)?;
        let bytes = buffer.get(..len).unwrap_or(&[]);
        for message in messages(bytes) {
            match i32::from(message.kind) {
                libc::NLMSG_DONE => return Ok(known),
                libc::NLMSG_ERROR => return Err(io::Error::other("the kernel refused to list")),
                _ => {}
            }
            if let Some(change) = message.change() {
                change.apply(&mut known);
            }
        }
    }
    Err(io::Error::other("the list of addresses has no end"))
}

/// One netlink message: its type and what follows the header.
struct Message<'a> {
    kind: u16,
    body: &'a [u8],
}

/// An address at an interface that became usable or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change {
    interface: u32,
    ip: IpAddr,
    present: bool,
}

impl Change {
    fn apply(self, known: &mut BTreeSet<(u32, IpAddr)>) {
        if !self.present {
            known.remove(&(self.interface, self.ip));
        } else if known.len() < ADDRESSES_MAX {
            known.insert((self.interface, self.ip));
        }
    }
}

/// The messages of one read, up to the first that is malformed.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let len = u32_at(bytes, 0)? as usize;
        let kind = u16_at(bytes, 4)?;
        let body = bytes.get(HEADER_BYTES..len)?;
        bytes = bytes.get(align(len)..).unwrap_or(&[]);
        Some(Message { kind, body })
    })
}

fn changes(bytes: &[u8]) -> impl Iterator<Item = Change> + '_ {
    messages(bytes).filter_map(|message| message.change())
}

impl Message<'_> {
    /// What the message says of an address; None when it is about something else.
    fn change(&self) -> Option<Change> {
        let added = match self.kind {
            libc::RTM_NEWADDR => true,
            libc::RTM_DELADDR => false,
            _ => return None,
        };
        let family = i32::from(*self.body.first()?);
        let mut flags = u32::from(*self.body.get(2)?);
        let interface = u32_at(self.body, 4)?;
        let (mut address, mut local) = (None, None);
        for (kind, value) in attributes(self.body.get(IFADDR_BYTES..)?) {
            match kind {
                libc::IFA_ADDRESS => address = ip(family, value),
                // The near end of a point-to-point link; `IFA_ADDRESS` is the far end then.
                libc::IFA_LOCAL => local = ip(family, value),
                libc::IFA_FLAGS => flags = u32_at(value, 0).unwrap_or(flags),
                _ => {}
            }
        }
        // An IPv6 address cannot be used until the kernel has seen that nobody else has it; a
        // second message says when.
        let usable = flags & (libc::IFA_F_TENTATIVE | libc::IFA_F_DADFAILED) == 0
            || flags & libc::IFA_F_OPTIMISTIC != 0;
        Some(Change { interface, ip: local.or(address)?, present: added && usable })
    }
}

/// The attributes of a message, up to the first that is malformed.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)?;
        let value = bytes.get(4..len)?;
        bytes = bytes.get(align(len)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

fn ip(family: i32, bytes: &[u8]) -> Option<IpAddr> {
    match family {
        libc::AF_INET => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        libc::AF_INET6 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// Messages and attributes start at multiples of 4.
fn align(len: usize) -> usize {
    len.saturating_add(3) & !3
}

/// `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;
/// `struct ifaddrmsg`.
const IFADDR_BYTES: usize = 8;
/// `RTMGRP_IPV4_IFADDR` and `RTMGRP_IPV6_IFADDR`.
const GROUP_IPV4_ADDRESS: u32 = 0x10;
const GROUP_IPV6_ADDRESS: u32 = 0x100;
const READ_BYTES: usize = 32 * 1024;
const READS_MAX: usize = 1024;
const ADDRESSES_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(kind: u16, family: i32, flags: u32, attributes: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut body = vec![family as u8, 24, 0, 0];
        body.extend(7_u32.to_ne_bytes());
        let flags = (libc::IFA_FLAGS, flags.to_ne_bytes().to_vec());
        for (kind, value) in attributes.iter().chain([&flags]) {
            body.extend(((value.len() + 4) as u16).to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(value);
            body.resize(align(body.len()), 0);
        }
        let mut bytes = ((body.len() + HEADER_BYTES) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(HEADER_BYTES, 0);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn the_near_end_of_a_link_is_the_address() {
        let attributes =
            [(libc::IFA_ADDRESS, vec![10, 0, 0, 2]), (libc::IFA_LOCAL, vec![10, 0, 0, 1])];
        let bytes = message(libc::RTM_NEWADDR, libc::AF_INET, 0, &attributes);
        let seen: Vec<Change> = changes(&bytes).collect();
        let ip = IpAddr::from([10, 0, 0, 1]);
        assert_eq!(seen, vec![Change { interface: 7, ip, present: true }]);
    }

    #[test]
    fn a_tentative_address_is_not_there_yet() {
        let attributes = [(libc::IFA_ADDRESS, vec![1; 16])];
        let tentative = libc::IFA_F_TENTATIVE;
        let bytes = message(libc::RTM_NEWADDR, libc::AF_INET6, tentative, &attributes);
        assert!(!changes(&bytes).next().expect("change").present);
        let bytes = message(libc::RTM_NEWADDR, libc::AF_INET6, 0, &attributes);
        assert!(changes(&bytes).next().expect("change").present);
    }

    #[test]
    fn loopback_is_among_the_addresses_of_the_host() {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        assert!(current_addresses().expect("addresses").contains(&loopback));
        let mut watch = AddressWatch::open().expect("watch");
        assert!(watch.holds(loopback));
        let mut events = Vec::new();
        watch.read(&mut events).expect("read");
        assert!(!events.iter().any(|event| event.ip == loopback));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_without_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            prop_assert!(changes(&bytes).count() <= bytes.len());
        }

        #[test]
        fn a_damaged_message_is_taken_without_a_panic(
            at in 0..60_usize, byte: u8, more in proptest::collection::vec(any::<u8>(), 0..8),
        ) {
            let attributes = [(libc::IFA_LOCAL, vec![10, 0, 0, 1])];
            let mut bytes = message(libc::RTM_NEWADDR, libc::AF_INET, 0, &attributes);
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes.extend(more);
            let _ = changes(&bytes).count();
        }

        #[test]
        fn every_message_of_a_read_is_seen(ips: Vec<[u8; 4]>) {
            let bytes: Vec<u8> = ips
                .iter()
                .flat_map(|ip| {
                    let attributes = [(libc::IFA_LOCAL, ip.to_vec())];
                    message(libc::RTM_DELADDR, libc::AF_INET, 0, &attributes)
                })
                .collect();
            let seen: Vec<IpAddr> = changes(&bytes).map(|change| change.ip).collect();
            prop_assert_eq!(seen, ips.into_iter().map(IpAddr::from).collect::<Vec<_>>());
        }
    }
}
