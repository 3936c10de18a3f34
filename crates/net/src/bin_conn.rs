//! One BIN connection: its write queue, and the loops that read and write.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Mutex;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;

use crate::bin::{BinEvent, ConnId, Shared, lock};

/// What waits to be sent on one connection. Filled from any thread, drained by its task.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<QueueState>,
    /// There is something to send, or the queue is finished.
    filled: Notify,
    /// The queue is finished.
    finishing: Notify,
    /// The connection ends now.
    closed: Notify,
}

#[derive(Debug, Default)]
struct QueueState {
    chunks: VecDeque<Bytes>,
    /// Unsent, those in the hands of the writer included.
    bytes: usize,
    finished: bool,
    closed: bool,
    error: Option<io::Error>,
}

impl Queue {
    /// Queues bytes, or closes the connection when more than `bytes_max` would wait.
    pub(crate) fn push(&self, bytes: Bytes, bytes_max: usize) {
        let mut state = lock(&self.state);
        if state.finished || state.closed || bytes.is_empty() {
            return;
        }
        if state.bytes.saturating_add(bytes.len()) > bytes_max {
            drop(state);
            self.close(Some(io::Error::other("the write queue is over its limit")));
            return;
        }
        state.bytes += bytes.len();
        state.chunks.push_back(bytes);
        drop(state);
        self.filled.notify_one();
    }

    /// Ends the connection when all is sent.
    pub(crate) fn finish(&self) {
        lock(&self.state).finished = true;
        self.filled.notify_one();
        self.finishing.notify_one();
    }

    /// Ends the connection now.
    pub(crate) fn close(&self, error: Option<io::Error>) {
        let mut state = lock(&self.state);
        if state.closed {
            return;
        }
        state.closed = true;
        state.error = error;
        state.chunks.clear();
        state.bytes = 0;
        drop(state);
        self.closed.notify_one();
    }

    pub(crate) fn bytes(&self) -> usize {
        lock(&self.state).bytes
    }

    /// Waits for [`Queue::close`].
    async fn until_closed(&self) -> io::Result<()> {
        self.closed.notified().await;
        match lock(&self.state).error.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Waits for [`Queue::finish`] and then for as long as the rest may take.
    async fn until_lingered(&self, linger: Duration) -> io::Result<()> {
        self.finishing.notified().await;
        tokio::time::sleep(linger).await;
        Ok(())
    }
}

/// Moves bytes in both directions until one side ends. The two loops are polled side by side, so
/// a consumer that does not take what is read never stops what is written.
pub(crate) async fn run(
    conn: ConnId,
    stream: TcpStream,
    queue: &Queue,
    shared: &Shared,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    tokio::select! {
        ended = read(conn, reader, shared) => ended,
        ended = write(writer, queue) => ended,
        ended = queue.until_closed() => ended,
        ended = queue.until_lingered(shared.options.linger) => ended,
    }
}

async fn read(conn: ConnId, mut reader: OwnedReadHalf, shared: &Shared) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        // What a small packet leaves of the buffer serves the next ones.
        if buffer.capacity() < READ_BYTES_MIN {
            buffer = BytesMut::with_capacity(READ_BYTES);
        }
        if reader.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        let bytes = buffer.split().freeze();
        shared.tell(BinEvent::Data { conn, bytes }).await;
    }
}

async fn write(mut writer: OwnedWriteHalf, queue: &Queue) -> io::Result<()> {
    let mut chunks: VecDeque<Bytes> = VecDeque::new();
    loop {
        {
            let mut state = lock(&queue.state);
            std::mem::swap(&mut chunks, &mut state.chunks);
            if chunks.is_empty() && state.finished {
                break;
            }
        }
        if chunks.is_empty() {
            queue.filled.notified().await;
        }
        while !chunks.is_empty() {
            let slices: Vec<IoSlice<'_>> =
                chunks.iter().take(SLICES_MAX).map(|chunk| IoSlice::new(chunk)).collect();
            let sent = writer.write_vectored(&slices).await?;
            if sent == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            take(&mut chunks, sent);
            let mut state = lock(&queue.state);
            state.bytes = state.bytes.saturating_sub(sent);
        }
    }
    writer.shutdown().await?;
    Ok(())
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

const READ_BYTES: usize = 64 * 1024;
const READ_BYTES_MIN: usize = 4 * 1024;
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
