//! UDP workers: a thread each, with sockets of their own.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use tandem_clock::Chance;
use tandem_engine::effect::{Effect, Input, Out, Send, SendError};
use tandem_engine::log::Level;
use tandem_engine::node::Node;
use tandem_engine::sockets::{Proto, SocketId};
use tandem_engine::worker::Worker;
use tandem_net::{Interest, Outgoing, Poller, Ready, RecvBatch, UdpOptions, UdpSocket, Waker};
use tokio::sync::mpsc;

use super::Shared;

/// Batches taken from one socket before the others get their turn.
const BATCHES_IN_A_ROW: usize = 4;

/// The UDP sockets of every worker.
pub(super) struct SocketTable {
    workers: Vec<BTreeMap<SocketId, UdpSocket>>,
}

impl SocketTable {
    pub(super) fn open(node: &Node, workers: usize) -> Result<Self, String> {
        let mut table = Vec::with_capacity(workers);
        for worker in 0..workers {
            let mut sockets = BTreeMap::new();
            for (id, socket) in node.sockets.of(Proto::Udp) {
                let open = |reuse_port| {
                    let options =
                        UdpOptions { reuse_port, freebind: true, ..UdpOptions::default() };
                    UdpSocket::open(socket.addr, options)
                        .map_err(|e| format!("tandem: cannot listen on {}: {e}", socket.text()))
                };
                if worker == 0 {
                    // A second server on the same port would silently take half of the traffic:
                    // see first whether the port is free for one that does not share.
                    drop(open(false)?);
                }
                sockets.insert(id, open(true)?);
            }
            table.push(sockets);
        }
        Ok(Self { workers: table })
    }

    /// Sends datagrams through the sockets of a worker; gives back those with a ticket that did
    /// not leave.
    pub(super) fn send(&self, worker: usize, sends: Vec<Send>) -> Vec<(u64, SendError)> {
        let Some(sockets) = self.workers.get(worker) else { return Vec::new() };
        let mut failed = Vec::new();
        let mut failures = Vec::new();
        for (id, socket) in sockets {
            let mine: Vec<&Send> = sends.iter().filter(|s| s.socket == *id).collect();
            if mine.is_empty() {
                continue;
            }
            let batch: Vec<Outgoing> = mine
                .iter()
                .map(|s| Outgoing { to: s.to, from_ip: None, payload: s.payload.clone() })
                .collect();
            failures.clear();
            socket.send_batch(&batch, &mut failures);
            for failure in &failures {
                let error = match failure.error {
                    tandem_net::SendError::NotHolder => SendError::NotHolder,
                    _ => SendError::Refused,
                };
                failed.extend(mine.get(failure.index).map(|s| (s.ticket, error)));
            }
        }
        failed.retain(|(ticket, _)| *ticket != 0);
        failed
    }
}

/// A running worker.
pub(super) struct UdpWorker {
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
    waker: Waker,
}

impl UdpWorker {
    pub(super) fn spawn(
        shared: &Arc<Shared>,
        id: usize,
        chance: Chance,
        control: mpsc::Sender<Vec<Effect>>,
    ) -> Result<Self, String> {
        let poller = Poller::new().map_err(|e| format!("tandem: no epoll: {e}"))?;
        let waker = poller.waker();
        let stop = Arc::new(AtomicBool::new(false));
        let shared = Arc::clone(shared);
        let stopping = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name(format!("udp-{id}"))
            .spawn(move || serve(&shared, id, chance, &poller, &stopping, &control))
            .map_err(|e| format!("tandem: no thread: {e}"))?;
        Ok(Self { thread, stop, waker })
    }

    pub(super) fn join(self) {
        self.stop.store(true, Ordering::Release);
        self.waker.wake();
        let _ = self.thread.join();
    }
}

fn serve(
    shared: &Shared,
    id: usize,
    chance: Chance,
    poller: &Poller,
    stop: &AtomicBool,
    control: &mpsc::Sender<Vec<Effect>>,
) {
    let mut worker = Worker::new(Arc::clone(&shared.node), id, chance, shared.clock.now());
    let none = BTreeMap::new();
    let sockets = shared.sockets.workers.get(id - 1).unwrap_or(&none);
    for (socket, udp) in sockets {
        if let Err(e) = poller.add(udp, u64::from(socket.0), Interest::Read) {
            super::log::line(shared.clock.now(), Level::Critical, &format!("epoll: {e}"));
            return;
        }
    }
    let mut ready: Vec<Ready> = Vec::new();
    let mut batch = RecvBatch::new();
    let mut woke = None;
    while !stop.load(Ordering::Acquire) {
        let now = shared.clock.now();
        if let Some(woke) = woke {
            shared.node.load.busy(id, now.mono_ns, now.mono_ns.saturating_sub(woke));
        }
        let timeout = worker.next_deadline().map(|at| at.saturating_sub(now.mono_ns));
        ready.clear();
        if let Err(e) = poller.wait(&mut ready, timeout) {
            super::log::line(now, Level::Error, &format!("epoll: {e}"));
        }
        woke = Some(shared.clock.now().mono_ns);
        if ready.is_empty() {
            finish(shared, id, &mut worker, Out::default(), control);
        }
        for event in &ready {
            let socket = SocketId(event.token as u16);
            let Some(udp) = sockets.get(&socket) else { continue };
            for _ in 0..BATCHES_IN_A_ROW {
                let Ok(n @ 1..) = udp.recv_batch(&mut batch) else { break };
                take(shared, id, &mut worker, socket, &mut batch, control);
                // A batch that was not full has emptied the socket.
                if n < RecvBatch::CAPACITY {
                    break;
                }
            }
        }
    }
}

fn take(
    shared: &Shared,
    id: usize,
    worker: &mut Worker,
    socket: SocketId,
    batch: &mut RecvBatch,
    control: &mpsc::Sender<Vec<Effect>>,
) {
    let mut out = Out::default();
    let now = shared.clock.now();
    for d in batch.drain() {
        let input =
            Input::Datagram { socket, source: d.source, local_ip: d.local_ip, payload: d.payload };
        step(shared, worker, now, input, &mut out);
    }
    finish(shared, id, worker, out, control);
}

/// One step, with the promise that a bug in it costs one message and not the service.
pub(super) fn step(
    shared: &Shared,
    worker: &mut Worker,
    now: tandem_clock::Now,
    input: Input,
    out: &mut Out,
) {
    if catch_unwind(AssertUnwindSafe(|| worker.step(now, input, out))).is_err() {
        let text = "a step failed by a bug; the message it was about is lost. Please report this.";
        super::log::line(shared.clock.now(), Level::Alert, text);
    }
}

fn finish(
    shared: &Shared,
    id: usize,
    worker: &mut Worker,
    mut out: Out,
    control: &mpsc::Sender<Vec<Effect>>,
) {
    loop {
        let now = shared.clock.now();
        if catch_unwind(AssertUnwindSafe(|| worker.finish(now, &mut out))).is_err() {
            super::log::line(now, Level::Alert, "the end of a batch failed by a bug");
        }
        let (sends, others) = part(std::mem::take(&mut out.effects));
        if !others.is_empty() {
            hand_over(shared, control, others);
        }
        let failed = shared.sockets.send(id - 1, sends);
        if failed.is_empty() {
            return;
        }
        for (ticket, error) in failed {
            step(shared, worker, now, Input::SendFailed { ticket, error }, &mut out);
        }
    }
}

/// Gives effects to the control thread. A worker never waits for it: when it is hopelessly
/// behind, what it would do is lost, and said so.
fn hand_over(shared: &Shared, control: &mpsc::Sender<Vec<Effect>>, effects: Vec<Effect>) {
    if let Err(mpsc::error::TrySendError::Full(lost)) = control.try_send(effects) {
        let text = format!("the control thread is behind: {} effects were dropped", lost.len());
        super::log::line(shared.clock.now(), Level::Critical, &text);
    }
}

/// Datagrams, and everything else.
pub(super) fn part(effects: Vec<Effect>) -> (Vec<Send>, Vec<Effect>) {
    let mut sends = Vec::new();
    let mut others = Vec::new();
    for effect in effects {
        match effect {
            Effect::Send(send) => sends.push(send),
            other => others.push(other),
        }
    }
    (sends, others)
}
