//! The transport of `mi_datagram`: a request in a datagram, the answer in another to its sender.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::net::{UdpSocket, UnixDatagram};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::fifo::{FifoError, group_id, user_id};

/// Where the socket is and who may write to it.
#[derive(Clone, Debug)]
pub enum Place {
    Udp(SocketAddr),
    /// Permission bits; a user or group is a name or a number.
    Unix {
        path: PathBuf,
        mode: u32,
        user: Option<String>,
        group: Option<String>,
    },
}

/// The socket and its limits.
#[derive(Clone, Debug)]
pub struct DatagramOptions {
    pub place: Place,
    /// The longest datagram, in both directions; a longer request is cut, and refused as the
    /// broken text it then is.
    pub bytes_max: usize,
    /// How long an answer may wait for room in the client's socket.
    pub send_timeout: Duration,
}

/// Why the socket cannot be used.
#[derive(Debug, Error)]
pub enum DatagramError {
    #[error("{0} exists and is no socket; remove it or choose another socket_name")]
    NotASocket(PathBuf),
    #[error(transparent)]
    Owner(#[from] FifoError),
    #[error("cannot listen on {at}: {source}")]
    Io { at: String, source: io::Error },
}

/// Who asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asker {
    Udp(SocketAddr),
    Unix(PathBuf),
}

/// A request; one of a unix socket without a name cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatagramRequest {
    pub from: Option<Asker>,
    pub body: Bytes,
}

#[derive(Debug)]
enum Socket {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

/// An open socket. Dropping it ends it and removes the file of a unix socket.
#[derive(Debug)]
pub struct MiDatagram {
    replies: mpsc::Sender<(Asker, Bytes)>,
    tasks: [JoinHandle<()>; 2],
    bytes_max: usize,
    file: Option<PathBuf>,
}

impl MiDatagram {
    /// Opens the socket and serves it on this runtime.
    ///
    /// # Errors
    /// See [`DatagramError`].
    pub fn open(
        runtime: &Handle,
        options: DatagramOptions,
    ) -> Result<(Self, mpsc::Receiver<DatagramRequest>), DatagramError> {
        let _inside = runtime.enter();
        let (socket, file) = match &options.place {
            Place::Udp(addr) => (Socket::Udp(open_udp(*addr)?), None),
            Place::Unix { path, mode, user, group } => {
                let socket = open_unix(path, *mode, user.as_deref(), group.as_deref())?;
                (Socket::Unix(socket), Some(path.clone()))
            }
        };
        let socket = Arc::new(socket);
        let (requests, received) = mpsc::channel(REQUESTS_MAX);
        let (replies, to_send) = mpsc::channel(REPLIES_MAX);
        let receiving = receive(socket.clone(), options.bytes_max, requests);
        let sending = send(socket, to_send, options.send_timeout);
        let tasks = [runtime.spawn(receiving), runtime.spawn(sending)];
        Ok((Self { replies, tasks, bytes_max: options.bytes_max, file }, received))
    }

    /// Sends an answer without waiting; false when it is too long for a datagram. When too many
    /// clients do not read theirs, it is dropped.
    pub fn reply(&self, to: Asker, body: Bytes) -> bool {
        if body.len() > self.bytes_max {
            return false;
        }
        let _ = self.replies.try_send((to, body));
        true
    }

    /// Takes no more requests, and sends the answers that were given, for a second at most.
    pub async fn close(mut self) {
        let [receiving, sending] = &mut self.tasks;
        receiving.abort();
        // The task ends with the last sender.
        drop(std::mem::replace(&mut self.replies, mpsc::channel(1).0));
        let _ = tokio::time::timeout(CLOSING, sending).await;
    }
}

impl Drop for MiDatagram {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        if let Some(path) = &self.file {
            let _ = fs::remove_file(path);
        }
    }
}

async fn receive(socket: Arc<Socket>, bytes_max: usize, requests: mpsc::Sender<DatagramRequest>) {
    let mut buffer = vec![0; bytes_max];
    loop {
        let received = match &*socket {
            Socket::Udp(udp) => {
                udp.recv_from(&mut buffer).await.map(|(n, from)| (n, Some(Asker::Udp(from))))
            }
            Socket::Unix(unix) => unix
                .recv_from(&mut buffer)
                .await
                .map(|(n, from)| (n, from.as_pathname().map(|path| Asker::Unix(path.to_owned())))),
        };
        // An error of UDP is about an answer that nobody took.
        let Ok((len, from)) = received else {
            tokio::time::sleep(RETRY).await;
            continue;
        };
        let body = Bytes::copy_from_slice(buffer.get(..len).unwrap_or_default());
        if requests.send(DatagramRequest { from, body }).await.is_err() {
            return;
        }
    }
}

async fn send(socket: Arc<Socket>, mut replies: mpsc::Receiver<(Asker, Bytes)>, timeout: Duration) {
    while let Some((to, body)) = replies.recv().await {
        let sending = async {
            match (&*socket, &to) {
                (Socket::Udp(udp), Asker::Udp(to)) => udp.send_to(&body, to).await,
                (Socket::Unix(unix), Asker::Unix(to)) => unix.send_to(&body, to).await,
                _ => Ok(0),
            }
        };
        // A client that is gone or does not read has no use for its answer.
        let _ = tokio::time::timeout(timeout, sending).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "drivers own their sockets")]
fn open_udp(addr: SocketAddr) -> Result<UdpSocket, DatagramError> {
    let open = || {
        let socket = std::net::UdpSocket::bind(addr)?;
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket)
    };
    open().map_err(|source| DatagramError::Io { at: format!("udp:{addr}"), source })
}

fn open_unix(
    path: &Path,
    mode: u32,
    user: Option<&str>,
    group: Option<&str>,
) -> Result<UnixDatagram, DatagramError> {
    let user = user.map(user_id).transpose()?;
    let group = group.map(group_id).transpose()?;
    match fs::symlink_metadata(path) {
        // One that an earlier run left behind.
        Ok(meta) if meta.file_type().is_socket() => drop(fs::remove_file(path)),
        Ok(_) => return Err(DatagramError::NotASocket(path.to_owned())),
        Err(_) => {}
    }
    let open = || {
        let socket = UnixDatagram::bind(path)?;
        if user.is_some() || group.is_some() {
            std::os::unix::fs::chown(path, user, group)?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o777))?;
        Ok(socket)
    };
    open().map_err(|source| DatagramError::Io { at: path.display().to_string(), source })
}

/// Requests that may wait for the node.
const REQUESTS_MAX: usize = 64;
/// How long the end waits for answers to be sent.
const CLOSING: Duration = Duration::from_secs(1);
/// Answers that may wait for their clients.
const REPLIES_MAX: usize = 64;
const RETRY: Duration = Duration::from_millis(20);
