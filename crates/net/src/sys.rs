//! The system calls that have no safe wrapper here: batched UDP, epoll, eventfd, and the address
//! of a netlink socket. All `unsafe` of the crate is in this file.
#![allow(unsafe_code)]

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

/// Datagrams per system call.
pub(crate) const BATCH_MAX: usize = 64;
/// Bytes that a datagram can have: no UDP payload is longer.
pub(crate) const DATAGRAM_BYTES: usize = 65_536;
/// From the start of a receive slot to that of the next. Not a multiple of the size of a cache,
/// else the starts of all slots, which alone are used by messages of the usual size, would fall
/// on the same few cache lines and drive each other out.
const SLOT_BYTES: usize = DATAGRAM_BYTES + 1_088;

/// Room for the control message of one datagram: a packet info of either family.
const CONTROL_BYTES: usize = 64;

/// Aligned as control messages must be.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL_BYTES]);

/// What the kernel says of one received datagram.
#[derive(Clone, Copy)]
pub(crate) struct Received {
    pub(crate) source: Option<SocketAddr>,
    pub(crate) local_ip: Option<IpAddr>,
}

/// What the kernel is given to receive with: made once, used for every batch.
pub(crate) struct RecvRoom {
    /// A slot for each datagram. Pages that no datagram reached cost nothing.
    scratch: Box<[u8]>,
    names: Box<[libc::sockaddr_storage]>,
    controls: Box<[Control]>,
    iovecs: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
}

// SAFETY: the pointers inside lead to the other boxes of the same room, which move with it.
unsafe impl Send for RecvRoom {}

impl RecvRoom {
    pub(crate) fn new() -> Self {
        let no_iovec = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        let mut room = Self {
            scratch: vec![0; BATCH_MAX * SLOT_BYTES].into(),
            names: vec![empty_name(); BATCH_MAX].into(),
            controls: vec![Control([0; CONTROL_BYTES]); BATCH_MAX].into(),
            iovecs: vec![no_iovec; BATCH_MAX].into(),
            headers: vec![empty_header(); BATCH_MAX].into(),
        };
        let parts = room.iovecs.iter_mut().zip(&mut room.names).zip(&mut room.controls);
        let slots = room.scratch.chunks_exact_mut(SLOT_BYTES);
        for (header, (((iovec, name), control), slot)) in
            room.headers.iter_mut().zip(parts.zip(slots))
        {
            *iovec = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
            let header = &mut header.msg_hdr;
            header.msg_name = ptr::from_mut(name).cast();
            header.msg_iov = ptr::from_mut(iovec);
            header.msg_iovlen = 1;
            header.msg_control = control.0.as_mut_ptr().cast();
        }
        room.rearm(BATCH_MAX);
        room
    }

    /// The lengths that the kernel changed, as they were.
    fn rearm(&mut self, count: usize) {
        for header in self.headers.iter_mut().take(count) {
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_hdr.msg_controllen = CONTROL_BYTES as _;
        }
    }

    /// Receives up to [`BATCH_MAX`] datagrams without waiting, and hands each out with its bytes.
    pub(crate) fn receive(
        &mut self,
        fd: BorrowedFd<'_>,
        mut take: impl FnMut(Received, &[u8]),
    ) -> io::Result<usize> {
        // SAFETY: each header points to a name, an iovec and a control buffer of this room with
        // their true lengths; each iovec points to a slot of `scratch` of its own. The kernel
        // writes inside these lengths only.
        let count = unsafe {
            libc::recvmmsg(
                fd.as_raw_fd(),
                self.headers.as_mut_ptr(),
                BATCH_MAX as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        let received = self.headers.iter().zip(&self.names).take(count);
        for ((header, name), slot) in received.zip(self.scratch.chunks_exact(SLOT_BYTES)) {
            let bytes = slot.get(..header.msg_len as usize).unwrap_or(slot);
            let source = socket_addr(name);
            take(Received { source, local_ip: packet_info(&header.msg_hdr) }, bytes);
        }
        self.rearm(count);
        Ok(count)
    }
}

impl std::fmt::Debug for RecvRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RecvRoom")
    }
}

/// Sends up to [`BATCH_MAX`] datagrams without waiting; returns how many left before the first
/// that failed. An error is that of the first datagram.
pub(crate) fn sendmmsg<'a>(
    fd: BorrowedFd<'_>,
    datagrams: impl Iterator<Item = (SocketAddr, Option<IpAddr>, &'a [u8])>,
) -> io::Result<usize> {
    let mut names = [const { MaybeUninit::uninit() }; BATCH_MAX];
    let mut controls = [const { MaybeUninit::uninit() }; BATCH_MAX];
    let mut iovecs = [const { MaybeUninit::uninit() }; BATCH_MAX];
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BATCH_MAX];
    let mut count = 0;
    for (i, (to, from_ip, payload)) in datagrams.take(BATCH_MAX).enumerate() {
        // The kernel does not write through the iovec of a send.
        let base = payload.as_ptr().cast_mut().cast();
        let iovec = iovecs[i].write(libc::iovec { iov_base: base, iov_len: payload.len() });
        let name = names[i].write(empty_name());
        let header = &mut headers[i].write(empty_header()).msg_hdr;
        header.msg_namelen = write_name(name, to);
        header.msg_name = ptr::from_mut(name).cast();
        header.msg_iov = ptr::from_mut(iovec);
        header.msg_iovlen = 1;
        if let Some(ip) = from_ip {
            let control = controls[i].write(Control([0; CONTROL_BYTES]));
            header.msg_control = control.0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL_BYTES as _;
            write_packet_info(header, ip);
        }
        count += 1;
    }
    // SAFETY: each of the first `count` headers was written, and points to a name, an iovec and
    // perhaps a control buffer of this frame with their true lengths; the payloads outlive the
    // call.
    let sent = unsafe {
        libc::sendmmsg(
            fd.as_raw_fd(),
            headers.as_mut_ptr().cast(),
            count,
            (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Asks the kernel to tell the local address of each datagram.
pub(crate) fn want_packet_info(fd: BorrowedFd<'_>, ipv6: bool) -> io::Result<()> {
    let (level, name) = match ipv6 {
        false => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        true => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    };
    set_option(fd, level, name, 1)
}

/// Sets an integer option that `socket2` has no method for.
pub(crate) fn set_option(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the pointer is to an int of this frame and the length is its size.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            ptr::from_ref(&value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    check(result).map(drop)
}

/// A new epoll instance.
pub(crate) fn epoll_create() -> io::Result<OwnedFd> {
    // SAFETY: no pointers; a descriptor that is not negative is new and ours alone.
    unsafe { owned(libc::epoll_create1(libc::EPOLL_CLOEXEC)) }
}

/// A new non-blocking eventfd.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: no pointers; a descriptor that is not negative is new and ours alone.
    unsafe { owned(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK)) }
}

/// Adds, changes or (with `events` None) removes a descriptor of an epoll instance.
pub(crate) fn epoll_control(
    epoll: BorrowedFd<'_>,
    operation: libc::c_int,
    fd: libc::c_int,
    events: u32,
    token: u64,
) -> io::Result<()> {
    let mut event = libc::epoll_event { events, u64: token };
    // SAFETY: the event lives in this frame; the kernel copies it and checks the descriptor.
    let result = unsafe { libc::epoll_ctl(epoll.as_raw_fd(), operation, fd, &mut event) };
    check(result).map(drop)
}

/// Waits for readiness; `timeout_ms` -1 waits for ever. Calls `ready` with (events, token).
pub(crate) fn epoll_wait(
    epoll: BorrowedFd<'_>,
    timeout_ms: libc::c_int,
    mut ready: impl FnMut(u32, u64),
) -> io::Result<()> {
    const EVENTS_MAX: usize = 64;
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX];
    // SAFETY: the array lives in this frame and its true length is given.
    let count = unsafe {
        libc::epoll_wait(
            epoll.as_raw_fd(),
            events.as_mut_ptr(),
            EVENTS_MAX as libc::c_int,
            timeout_ms,
        )
    };
    let count = check(count)?;
    for event in events.iter().take(usize::try_from(count).unwrap_or(0)) {
        ready(event.events, event.u64);
    }
    Ok(())
}

/// The address of a netlink socket that listens to these groups (a bit mask).
pub(crate) fn netlink_address(groups: u32) -> socket2::SockAddr {
    let mut storage = socket2::SockAddrStorage::zeroed();
    // SAFETY: the storage is large and aligned enough for any socket address, `sockaddr_nl`
    // included, and all-zero bytes are a valid one.
    let address = unsafe { storage.view_as::<libc::sockaddr_nl>() };
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    address.nl_groups = groups;
    // SAFETY: the storage holds a `sockaddr_nl` and that is the length given.
    unsafe { socket2::SockAddr::new(storage, size_of::<libc::sockaddr_nl>() as libc::socklen_t) }
}

/// # Safety
/// A descriptor that is not negative must be open and owned by nobody else.
unsafe fn owned(fd: libc::c_int) -> io::Result<OwnedFd> {
    let fd = check(fd)?;
    // SAFETY: the caller's promise.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn empty_name() -> libc::sockaddr_storage {
    // SAFETY: all-zero bytes are a valid `sockaddr_storage` (family "unspecified").
    unsafe { mem::zeroed() }
}

fn empty_header() -> libc::mmsghdr {
    // SAFETY: all-zero bytes are a valid `mmsghdr`: null pointers with zero lengths.
    unsafe { mem::zeroed() }
}

fn socket_addr(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the storage, which is larger, holds a `sockaddr_in`.
            let name = unsafe { &*ptr::from_ref(name).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, u16::from_be(name.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above, for `sockaddr_in6`.
            let name = unsafe { &*ptr::from_ref(name).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
            let port = u16::from_be(name.sin6_port);
            Some(SocketAddrV6::new(ip, port, 0, name.sin6_scope_id).into())
        }
        _ => None,
    }
}

fn write_name(name: &mut libc::sockaddr_storage, to: SocketAddr) -> libc::socklen_t {
    match to {
        SocketAddr::V4(to) => {
            // SAFETY: the storage is larger than a `sockaddr_in`, aligned for it, and zeroed.
            let name = unsafe { &mut *ptr::from_mut(name).cast::<libc::sockaddr_in>() };
            name.sin_family = libc::AF_INET as libc::sa_family_t;
            name.sin_port = to.port().to_be();
            name.sin_addr.s_addr = u32::from(*to.ip()).to_be();
            size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        SocketAddr::V6(to) => {
            // SAFETY: as above, for `sockaddr_in6`.
            let name = unsafe { &mut *ptr::from_mut(name).cast::<libc::sockaddr_in6>() };
            name.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            name.sin6_port = to.port().to_be();
            name.sin6_addr.s6_addr = to.ip().octets();
            name.sin6_scope_id = to.scope_id();
            size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }
}

/// The local address in the control messages of a received datagram.
fn packet_info(header: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: the header was filled by the kernel, so its control buffer and length are true, and
    // the macros walk inside them. A message of this level and type holds the structure that is
    // read; it is read unaligned.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while let Some(control) = message.as_ref() {
            let data = libc::CMSG_DATA(message);
            match (control.cmsg_level, control.cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = ptr::read_unaligned(data.cast::<libc::in_pktinfo>());
                    return Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)).into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = ptr::read_unaligned(data.cast::<libc::in6_pktinfo>());
                    return Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                }
                _ => message = libc::CMSG_NXTHDR(header, message),
            }
        }
    }
    None
}

/// Writes the source address into the control buffer, which must be [`CONTROL_BYTES`] long.
fn write_packet_info(header: &mut libc::msghdr, from: IpAddr) {
    match from {
        IpAddr::V4(ip) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from(ip).to_be() },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            write_control(header, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        IpAddr::V6(ip) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: ip.octets() },
                ipi6_ifindex: 0,
            };
            write_control(header, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
        }
    }
}

fn write_control<T>(header: &mut libc::msghdr, level: libc::c_int, kind: libc::c_int, value: T) {
    // SAFETY: callers gave the header a zeroed control buffer of CONTROL_BYTES, more than a
    // control header and the largest packet info need; the value is written unaligned.
    unsafe {
        let Some(control) = libc::CMSG_FIRSTHDR(header).as_mut() else { return };
        control.cmsg_level = level;
        control.cmsg_type = kind;
        control.cmsg_len = libc::CMSG_LEN(size_of::<T>() as libc::c_uint) as _;
        ptr::write_unaligned(libc::CMSG_DATA(control).cast::<T>(), value);
        header.msg_controllen = libc::CMSG_SPACE(size_of::<T>() as libc::c_uint) as _;
    }
}
