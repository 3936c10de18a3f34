//! One BIN connection: its state, its write queue, and what reads and writes.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};

use bytes::{Buf, Bytes};

/// The connection is over; with the error, if it was not in order.
#[derive(Debug)]
pub(crate) struct Ended(pub(crate) Option<io::Error>);

#[derive(Debug)]
pub(crate) struct Conn {
    stream: TcpStream,
    pub(crate) local_ip: Option<IpAddr>,
    connecting: bool,
    /// It ends when the queue is empty.
    finishing: bool,
    chunks: VecDeque<Bytes>,
    /// Unsent.
    bytes: usize,
    /// The poller tells when there is room to write.
    awaits_room: bool,
    /// When the connect or the close has to be over.
    pub(crate) until_ns: Option<u64>,
}

impl Conn {
    pub(crate) fn connecting(stream: TcpStream, local_ip: Option<IpAddr>, until_ns: u64) -> Self {
        let conn = Self::open(stream, local_ip);
        Self { connecting: true, awaits_room: true, until_ns: Some(until_ns), ..conn }
    }

    pub(crate) fn open(stream: TcpStream, local_ip: Option<IpAddr>) -> Self {
        Self {
            stream,
            local_ip,
            connecting: false,
            finishing: false,
            chunks: VecDeque::new(),
            bytes: 0,
            awaits_room: false,
            until_ns: None,
        }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(crate) fn is_connecting(&self) -> bool {
        self.connecting
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.bytes
    }

    /// The connect is over, well or badly.
    pub(crate) fn connected(&mut self) -> io::Result<SocketAddr> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        self.stream.set_nodelay(true)?;
        self.connecting = false;
        if !self.finishing {
            self.until_ns = None;
        }
        self.stream.local_addr()
    }

    /// Queues bytes; true when the connection has to be flushed, an error when more than the
    /// limits allow would wait.
    pub(crate) fn push(
        &mut self,
        bytes: Bytes,
        bytes_max: usize,
        chunks_max: usize,
    ) -> io::Result<bool> {
        if self.finishing || bytes.is_empty() {
            return Ok(false);
        }
        // What is small takes more room than its bytes.
        let room = self.bytes + self.chunks.len() * CHUNK_BYTES;
        if room.saturating_add(bytes.len()) > bytes_max || self.chunks.len() >= chunks_max {
            return Err(io::Error::other("the write queue is over its limit"));
        }
        let first = self.chunks.is_empty();
        self.bytes += bytes.len();
        self.chunks.push_back(bytes);
        Ok(first && !self.awaits_room)
    }

    /// Ends the connection when all is sent, at the latest then.
    pub(crate) fn finish(&mut self, until_ns: u64) {
        if !self.finishing {
            self.finishing = true;
            self.until_ns = Some(self.until_ns.map_or(until_ns, |at| at.min(until_ns)));
        }
    }

    /// Reads what is there, at most [`READS_IN_A_ROW`] times the length of `scratch`.
    pub(crate) fn read(
        &mut self,
        scratch: &mut [u8],
        mut take: impl FnMut(Bytes),
    ) -> Option<Ended> {
        for _ in 0..READS_IN_A_ROW {
            match self.stream.read(scratch) {
                Ok(0) => return Some(Ended(None)),
                Ok(n) => {
                    take(Bytes::copy_from_slice(scratch.get(..n).unwrap_or(&[])));
                    // A read that was not full has emptied the socket.
                    if n < scratch.len() {
                        return None;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Some(Ended(Some(error))),
            }
        }
        None
    }

    /// Sends what is queued, as far as the kernel takes it.
    pub(crate) fn send(&mut self) -> Option<Ended> {
        if self.connecting {
            return None;
        }
        while !self.chunks.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
                *slice = IoSlice::new(chunk);
            }
            let count = self.chunks.len().min(SLICES_MAX);
            match self.stream.write_vectored(slices.get(..count).unwrap_or(&[])) {
                Ok(0) => return Some(Ended(Some(io::ErrorKind::WriteZero.into()))),
                Ok(sent) => {
                    take(&mut self.chunks, sent);
                    self.bytes = self.bytes.saturating_sub(sent);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Some(Ended(Some(error))),
            }
        }
        if self.finishing {
            return Some(Ended(self.stream.shutdown(std::net::Shutdown::Write).err()));
        }
        None
    }

    /// Whether the poller has to be told that its interest changed, and to what.
    pub(crate) fn wants_room(&mut self) -> Option<bool> {
        let wants = self.connecting || !self.chunks.is_empty();
        (wants != self.awaits_room).then(|| {
            self.awaits_room = wants;
            wants
        })
    }
}

/// Removes the first `sent` bytes.
fn take(chunks: &mut VecDeque<Bytes>, mut sent: usize) {
    while let Some(chunk) = chunks.front_mut() {
        if sent < chunk.len() {
            chunk.advance(sent);
            return;
        }
        sent -= chunk.len();
        chunks.pop_front();
    }
}

/// What a chunk in the queue takes beside its bytes.
const CHUNK_BYTES: usize = 128;
/// Full reads of one connection before the others get their turn.
const READS_IN_A_ROW: usize = 4;
/// Chunks that one system call gathers.
const SLICES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_sent_is_removed_and_nothing_else(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..9), 0..9),
            sent in 0..90_usize,
        ) {
            let all: Vec<u8> = parts.concat();
            let sent = sent.min(all.len());
            let mut chunks: VecDeque<Bytes> = parts.into_iter().map(Bytes::from).collect();
            take(&mut chunks, sent);
            let rest: Vec<u8> = chunks.iter().flatten().copied().collect();
            prop_assert_eq!(&rest[..], &all[sent..]);
        }
    }
}
