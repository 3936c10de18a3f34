//! The transport of `mi_fifo`: requests out of a FIFO, each answer into a FIFO of its client.

use std::collections::VecDeque;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use nix::unistd::{Gid, Group, Uid, User};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::Interval;

use crate::fifo_parse::Cutter;
pub use crate::fifo_parse::FifoRequest;

/// Where the FIFO is and who may write to it.
#[derive(Clone, Debug)]
pub struct FifoOptions {
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// A user name or number; None leaves the owner as it is.
    pub user: Option<String>,
    /// A group name or number; None leaves the group as it is.
    pub group: Option<String>,
    /// Where the clients make their reply FIFOs.
    pub reply_dir: PathBuf,
    /// How often it is looked whether the FIFO was deleted.
    pub recreate_check: Duration,
    /// How long a client may take to open and read its answer.
    pub reply_timeout: Duration,
}

impl Default for FifoOptions {
    fn default() -> Self {
        Self {
            path: PathBuf::from("/tmp/opensips_fifo"),
            mode: 0o660,
            user: None,
            group: None,
            reply_dir: PathBuf::from("/tmp/"),
            recreate_check: Duration::from_secs(30),
            reply_timeout: Duration::from_secs(2),
        }
    }
}

/// Why the FIFO cannot be used.
#[derive(Debug, Error)]
pub enum FifoError {
    #[error("{0} exists and is no FIFO; remove it or choose another fifo_name")]
    NotAFifo(PathBuf),
    #[error("there is no {kind} `{name}`")]
    Unknown { kind: &'static str, name: String },
    #[error("cannot {action} {path}: {source}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FifoReply {
    /// The name from the request.
    pub to: String,
    pub body: Bytes,
}

/// An open FIFO. Dropping it without [`Fifo::close`] leaves the file behind.
#[derive(Debug)]
pub struct Fifo {
    path: PathBuf,
    replies: mpsc::Sender<FifoReply>,
    tasks: [JoinHandle<()>; 2],
    counters: Arc<Counters>,
    look: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Counters {
    skipped: AtomicU64,
    unanswered: AtomicU64,
    recreated: AtomicU64,
}

impl Fifo {
    /// Makes the FIFO and serves it on this runtime. Requests come out of the receiver, which
    /// holds a few; a consumer that does not take them makes the clients wait.
    pub fn open(
        runtime: &Handle,
        options: FifoOptions,
    ) -> Result<(Self, mpsc::Receiver<FifoRequest>), FifoError> {
        let path = options.path.clone();
        let _inside = runtime.enter();
        let pipe = create(&options)?;
        let counters = Arc::new(Counters::default());
        let (requests, received) = mpsc::channel(REQUESTS_MAX);
        let (replies, to_send) = mpsc::channel(REPLIES_MAX);
        let look = Arc::new(Notify::new());
        let answering = answer(options.clone(), to_send, counters.clone());
        let serving = serve(options, pipe, requests, counters.clone(), look.clone());
        let tasks = [runtime.spawn(serving), runtime.spawn(answering)];
        Ok((Self { path, replies, tasks, counters, look }, received))
    }

    /// Looks now whether the FIFO was deleted, without waiting for the next regular check.
    pub fn check_now(&self) {
        self.look.notify_one();
    }

    /// Sends an answer without waiting, to a plain file name below the reply directory. When too many clients do not read theirs it is dropped
    /// and counted.
    pub fn reply(&self, reply: FifoReply) {
        let plain = crate::fifo_parse::reply_name(reply.to.as_bytes());
        if !matches!(plain, Ok(Some(_))) || self.replies.try_send(reply).is_err() {
            self.counters.unanswered.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What was read and was no request.
    pub fn skipped(&self) -> u64 {
        self.counters.skipped.load(Ordering::Relaxed)
    }

    /// Answers that no client took.
    pub fn unanswered(&self) -> u64 {
        self.counters.unanswered.load(Ordering::Relaxed)
    }

    /// How often the FIFO was made again after somebody deleted it.
    pub fn recreated(&self) -> u64 {
        self.counters.recreated.load(Ordering::Relaxed)
    }

    /// Stops reading, sends the answers that wait, and removes the FIFO.
    pub async fn close(self) {
        let [serving, answering] = self.tasks;
        serving.abort();
        drop(self.replies);
        // Ends within the reply timeout; a task that panicked has ended too.
        let _ = answering.await;
        if is_fifo(&self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

async fn serve(
    options: FifoOptions,
    mut pipe: pipe::Receiver,
    requests: mpsc::Sender<FifoRequest>,
    counters: Arc<Counters>,
    look: Arc<Notify>,
) {
    let mut cutter = Cutter::default();
    let mut buffer = vec![0; 64 * 1024];
    let mut check = tokio::time::interval(options.recreate_check.max(Duration::from_millis(10)));
    loop {
        let waiting = cutter.is_waiting();
        tokio::select! {
            read = pipe.read(&mut buffer) => {
                let Ok(len) = read else {
                    tokio::time::sleep(RETRY).await;
                    continue;
                };
                cutter.push(buffer.get(..len).unwrap_or(&[]));
                while let Some(request) = cutter.next() {
                    if requests.send(request).await.is_err() {
                        return;
                    }
                }
                counters.skipped.store(cutter.skipped, Ordering::Relaxed);
            }
            () = tokio::time::sleep(REST_TIMEOUT), if waiting => {
                cutter.reset();
                counters.skipped.store(cutter.skipped, Ordering::Relaxed);
            }
            () = due(&mut check, &look) => {
                // What cannot be made now is tried again at the next check.
                if !same_file(&options.path, &pipe) && let Ok(again) = create(&options) {
                    pipe = again;
                    cutter.reset();
                    counters.recreated.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

/// Waits for the next regular check, or for somebody who asks for one.
async fn due(check: &mut Interval, look: &Notify) {
    tokio::select! {
        _ = check.tick() => {}
        () = look.notified() => {}
    }
}

/// Sends answers, each in a task of its own. A client that does not open its end costs nobody else
/// anything: where too many of them are waited for, the one that has had the most time is given up.
async fn answer(
    options: FifoOptions,
    mut replies: mpsc::Receiver<FifoReply>,
    counters: Arc<Counters>,
) {
    let mut sending = JoinSet::new();
    let mut waiting: VecDeque<Waiting> = VecDeque::new();
    while let Some(reply) = replies.recv().await {
        while sending.try_join_next().is_some() {}
        waiting.retain(|one| !one.task.is_finished());
        while waiting.len() >= WAITING_MAX
            || waiting.iter().map(|one| one.bytes).sum::<usize>() > WAITING_BYTES_MAX
        {
            let unopened = |one: &Waiting| !one.opened.load(Ordering::Relaxed);
            let at = waiting.iter().position(unopened).unwrap_or(0);
            let Some(given_up) = waiting.remove(at) else { break };
            given_up.task.abort();
            counters.unanswered.fetch_add(1, Ordering::Relaxed);
        }
        let path = options.reply_dir.join(&reply.to);
        let (timeout, counters) = (options.reply_timeout, counters.clone());
        let (bytes, opened) = (reply.body.len(), Arc::new(AtomicBool::new(false)));
        let tells = Arc::clone(&opened);
        let task = sending.spawn(async move {
            let sent = tokio::time::timeout(timeout, send(&path, &reply.body, &tells)).await;
            if !matches!(sent, Ok(Ok(()))) {
                counters.unanswered.fetch_add(1, Ordering::Relaxed);
            }
        });
        waiting.push_back(Waiting { task, bytes, opened });
    }
    // Each ends within its time.
    while sending.join_next().await.is_some() {}
}

/// An answer whose client has not read it yet.
struct Waiting {
    task: AbortHandle,
    bytes: usize,
    /// The client has opened its end.
    opened: Arc<AtomicBool>,
}

/// Writes one answer, waiting for the client to open its end.
async fn send(path: &Path, body: &[u8], opened: &AtomicBool) -> io::Result<()> {
    let mut pause = RETRY;
    let mut sender = loop {
        // No link is followed: the reply directory is often one where all may write.
        let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW;
        match OpenOptions::new().write(true).custom_flags(flags).open(path) {
            Ok(file) => break pipe::Sender::from_file(file)?,
            Err(error) if is_early(&error) => tokio::time::sleep(pause).await,
            Err(error) => return Err(error),
        }
        // Who takes long may take a little longer: many of them are asked.
        pause = (pause * 5 / 4).min(RETRY_MAX);
    };
    opened.store(true, Ordering::Relaxed);
    sender.write_all(body).await
}

/// The client has not opened its end yet, or not even made the FIFO.
fn is_early(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::libc::ENXIO) || error.kind() == io::ErrorKind::NotFound
}

/// Makes the FIFO unless it is there, sets owner and mode, and opens it for reading. It is also
/// opened for writing, so that it does not end when a client closes it.
fn create(options: &FifoOptions) -> Result<pipe::Receiver, FifoError> {
    let path = &options.path;
    let at = |action: &'static str| {
        let path = path.clone();
        move |source: io::Error| FifoError::Io { action, path, source }
    };
    let owner = options.user.as_deref().map(user_id).transpose()?;
    let group = options.group.as_deref().map(group_id).transpose()?;
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
    match nix::unistd::mkfifo(path, mode) {
        Ok(()) => {}
        Err(nix::errno::Errno::EEXIST) if is_fifo(path) => {}
        Err(nix::errno::Errno::EEXIST) => return Err(FifoError::NotAFifo(path.clone())),
        Err(error) => return Err(at("create")(error.into())),
    }
    let pipe = pipe::OpenOptions::new().read_write(true).open_receiver(path).map_err(at("open"))?;
    if owner.is_some() || group.is_some() {
        std::os::unix::fs::chown(path, owner, group).map_err(at("change the owner of"))?;
    }
    let mode = fs::Permissions::from_mode(options.mode & 0o7777);
    fs::set_permissions(path, mode).map_err(at("change the mode of"))?;
    Ok(pipe)
}

pub(crate) fn user_id(name: &str) -> Result<u32, FifoError> {
    let found = name.parse().ok().map(Uid::from_raw);
    let by_name = || User::from_name(name).ok().flatten().map(|user| user.uid);
    let unknown = || FifoError::Unknown { kind: "user", name: name.to_owned() };
    found.or_else(by_name).map(Uid::as_raw).ok_or_else(unknown)
}

pub(crate) fn group_id(name: &str) -> Result<u32, FifoError> {
    let found = name.parse().ok().map(Gid::from_raw);
    let by_name = || Group::from_name(name).ok().flatten().map(|group| group.gid);
    let unknown = || FifoError::Unknown { kind: "group", name: name.to_owned() };
    found.or_else(by_name).map(Gid::as_raw).ok_or_else(unknown)
}

fn is_fifo(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_fifo())
}

/// Whether the path still leads to the FIFO that is open.
fn same_file(path: &Path, pipe: &pipe::Receiver) -> bool {
    use std::os::fd::AsFd;
    let there = fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()));
    let open = nix::sys::stat::fstat(pipe.as_fd()).map(|stat| (stat.st_dev, stat.st_ino));
    matches!((there, open), (Ok(there), Ok(open)) if there == open)
}

/// Requests that may wait for the node.
const REQUESTS_MAX: usize = 64;
/// Answers that may wait to be looked at.
const REPLIES_MAX: usize = 64;
/// Answers that may wait for their clients, and how long they may be together.
const WAITING_MAX: usize = 256;
const WAITING_BYTES_MAX: usize = 64 << 20;
/// How long the rest of a request may take.
const REST_TIMEOUT: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_millis(100);
