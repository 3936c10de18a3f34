//! Waiting for sockets, for a worker's loop.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::sys;

/// A set of descriptors that one thread waits for. Level-triggered: what is not read is ready
/// again.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
    waker: Waker,
}

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    Read,
    Write,
    Both,
}

/// A descriptor that is ready. An error or a hang-up counts as both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    pub token: u64,
    pub readable: bool,
    pub writable: bool,
}

/// Ends the wait of a [`Poller`] from another thread. Cheap to clone; waking twice before the
/// poller looks counts once.
#[derive(Clone, Debug)]
pub struct Waker(Arc<File>);

impl Poller {
    pub fn new() -> io::Result<Self> {
        let epoll = sys::epoll_create()?;
        let event = sys::eventfd()?;
        let fd = event.as_raw_fd();
        sys::epoll_control(epoll.as_fd(), libc::EPOLL_CTL_ADD, fd, READ, WAKER_TOKEN)?;
        Ok(Self { epoll, waker: Waker(Arc::new(File::from(event))) })
    }

    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Adds a descriptor. The token comes back when it is ready; `u64::MAX` is refused. A
    /// descriptor that is closed leaves the set by itself.
    pub fn add(&self, fd: &impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, interest)
    }

    /// Changes what is waited for.
    pub fn modify(&self, fd: &impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, interest)
    }

    pub fn remove(&self, fd: &impl AsFd) -> io::Result<()> {
        let fd = fd.as_fd().as_raw_fd();
        sys::epoll_control(self.epoll.as_fd(), libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    /// Waits until something is ready, the waker was used, or `timeout_ns` passed (rounded up to
    /// milliseconds; None waits for ever). Replaces the contents of `ready`, at most 64 at once,
    /// and returns whether the waker was used. A signal ends the wait early with nothing.
    pub fn wait(&self, ready: &mut Vec<Ready>, timeout_ns: Option<u64>) -> io::Result<bool> {
        ready.clear();
        let timeout_ms = match timeout_ns {
            None => -1,
            Some(ns) => i32::try_from(ns.div_ceil(1_000_000)).unwrap_or(i32::MAX),
        };
        let mut woken = false;
        let result = sys::epoll_wait(self.epoll.as_fd(), timeout_ms, |events, token| {
            if token == WAKER_TOKEN {
                woken = true;
                return;
            }
            let failed = events & FAILED != 0;
            ready.push(Ready {
                token,
                readable: failed || events & READ != 0,
                writable: failed || events & WRITE != 0,
            });
        });
        match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error),
            Ok(()) => {
                if woken {
                    self.waker.reset();
                }
                Ok(woken)
            }
        }
    }

    /// Lets events gather: returns after `pause_ns`, whatever becomes ready.
    #[expect(clippy::disallowed_methods, reason = "a worker may let messages gather")]
    pub fn pause(&self, pause_ns: u64) {
        std::thread::sleep(Duration::from_nanos(pause_ns));
    }

    fn control(
        &self,
        operation: libc::c_int,
        fd: &impl AsFd,
        token: u64,
        interest: Interest,
    ) -> io::Result<()> {
        if token == WAKER_TOKEN {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the token of the waker"));
        }
        let events = match interest {
            Interest::Read => READ,
            Interest::Write => WRITE,
            Interest::Both => READ | WRITE,
        };
        let fd = fd.as_fd().as_raw_fd();
        sys::epoll_control(self.epoll.as_fd(), operation, fd, events, token)
    }
}

impl Waker {
    /// Ends the present or the next wait.
    pub fn wake(&self) {
        // The counter only fails to grow at its maximum, and then the poller is awake anyway.
        let _ = (&*self.0).write(&1_u64.to_ne_bytes());
    }

    fn reset(&self) {
        let _ = (&*self.0).read(&mut [0; 8]);
    }
}

const READ: u32 = (libc::EPOLLIN | libc::EPOLLRDHUP) as u32;
const WRITE: u32 = libc::EPOLLOUT as u32;
const FAILED: u32 = (libc::EPOLLERR | libc::EPOLLHUP) as u32;
const WAKER_TOKEN: u64 = u64::MAX;
