//! Helpers: workers on threads of their own that share the work when the reader's batches stay
//! full.
//!
//! Work is divided by Call-ID, so the messages of a call or registration keep their order, and
//! one flow (a single trunk peer) is not one processor. While a helper still has something, what
//! is its share goes to it.

use std::hash::{BuildHasher, RandomState};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tandem_clock::Chance;
use tandem_engine::effect::{Effect, Input, Out, Send};
use tandem_engine::sockets::SocketId;
use tandem_engine::worker::Worker;
use tandem_net::Datagram;
use tokio::sync::mpsc;

use super::Shared;
use super::tcp;
use super::udp::{finish, hand_over, step};

/// Batches that may wait for one helper; what finds no room is the reader's own work.
const BATCHES_MAX: usize = 16;

type Batch = (SocketId, Vec<Datagram>);

/// The helpers of the reader; none where it is the only worker.
pub(super) struct Helpers {
    threads: Vec<Thread>,
    key: RandomState,
}

struct Thread {
    work: SyncSender<Batch>,
    /// Batches that it has not finished.
    pending: Arc<AtomicUsize>,
    handle: JoinHandle<()>,
}

impl Helpers {
    pub(super) fn spawn(
        shared: &Arc<Shared>,
        workers: RangeInclusive<usize>,
        chance: &mut Chance,
        control: &mpsc::Sender<Vec<Effect>>,
    ) -> Result<Self, String> {
        let mut threads = Vec::new();
        for id in workers {
            let (work, waiting) = sync_channel(BATCHES_MAX);
            let pending = Arc::new(AtomicUsize::new(0));
            let now = shared.clock.now();
            let worker = Worker::new(Arc::clone(&shared.node), id, chance.fork(), now);
            let helper = Helper {
                id,
                shared: Arc::clone(shared),
                worker,
                control: control.clone(),
                pending: Arc::clone(&pending),
                out: Out::default(),
                sends: Vec::new(),
                stream_effects: Vec::new(),
            };
            let handle = std::thread::Builder::new()
                .name(format!("helper-{id}"))
                .spawn(move || helper.serve(&waiting))
                .map_err(|e| format!("tandem: no thread: {e}"))?;
            threads.push(Thread { work, pending, handle });
        }
        Ok(Self { threads, key: RandomState::new() })
    }

    /// Whether a helper still has messages whose successors have to go to it as well.
    pub(super) fn are_busy(&self) -> bool {
        self.threads.iter().any(|t| t.pending.load(Ordering::Acquire) > 0)
    }

    /// Divides a batch; gives back the caller's own share.
    pub(super) fn share(
        &self,
        socket: SocketId,
        datagrams: impl Iterator<Item = Datagram>,
    ) -> Vec<Datagram> {
        let mut own = Vec::new();
        let mut shares: Vec<Vec<Datagram>> = self.threads.iter().map(|_| Vec::new()).collect();
        let parts = shares.len() as u64 + 1;
        for d in datagrams {
            let part = self.key.hash_one(call_id(&d.payload)) % parts;
            shares.get_mut(part as usize).unwrap_or(&mut own).push(d);
        }
        for (thread, share) in self.threads.iter().zip(shares) {
            if share.is_empty() {
                continue;
            }
            thread.pending.fetch_add(1, Ordering::AcqRel);
            if let Err(refused) = thread.work.try_send((socket, share)) {
                use std::sync::mpsc::TrySendError::{Disconnected, Full};
                thread.pending.fetch_sub(1, Ordering::AcqRel);
                let (Full((_, share)) | Disconnected((_, share))) = refused;
                own.extend(share);
            }
        }
        own
    }

    /// The numbers of the workers that help.
    pub(super) fn ids(&self) -> impl Iterator<Item = usize> {
        (super::reader::WORKER + 1..).take(self.threads.len())
    }

    /// Lets the helpers finish and end.
    pub(super) fn join(self) {
        for Thread { work, handle, .. } in self.threads {
            drop(work);
            let _ = handle.join();
        }
    }
}

struct Helper {
    id: usize,
    shared: Arc<Shared>,
    worker: Worker,
    control: mpsc::Sender<Vec<Effect>>,
    pending: Arc<AtomicUsize>,
    out: Out,
    sends: Vec<Send>,
    /// For the connections that carry SIP.
    stream_effects: Vec<Effect>,
}

impl Helper {
    fn serve(mut self, waiting: &Receiver<Batch>) {
        let mut woke_ns: Option<u64> = None;
        loop {
            let now_ns = self.shared.clock.now().mono_ns;
            if let Some(woke_ns) = woke_ns {
                self.shared.node.load.busy(self.id, now_ns, now_ns.saturating_sub(woke_ns));
            }
            let work = match self.worker.next_deadline() {
                None => waiting.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => waiting.recv_timeout(Duration::from_nanos(at.saturating_sub(now_ns))),
            };
            woke_ns = Some(self.shared.clock.now().mono_ns);
            match work {
                Ok((socket, datagrams)) => {
                    self.take(socket, datagrams);
                    self.settle();
                    self.pending.fetch_sub(1, Ordering::AcqRel);
                }
                Err(RecvTimeoutError::Timeout) => self.settle(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn take(&mut self, socket: SocketId, datagrams: Vec<Datagram>) {
        let now = self.shared.clock.now();
        for Datagram { source, local_ip, payload } in datagrams {
            let input = Input::Datagram { socket, source, local_ip, payload };
            step(&self.shared, &mut self.worker, now, input, &mut self.out);
        }
    }

    fn settle(&mut self) {
        loop {
            let now = self.shared.clock.now();
            finish(&mut self.worker, now, &mut self.out);
            let mut others = Vec::new();
            for effect in self.out.effects.drain(..) {
                match effect {
                    Effect::Send(send) => self.sends.push(send),
                    Effect::Wake => self.shared.poller.waker().wake(),
                    Effect::StreamConnect { .. }
                    | Effect::StreamWrite { .. }
                    | Effect::StreamClose { .. } => self.stream_effects.push(effect),
                    other => others.push(other),
                }
            }
            let failed = self.shared.send(&mut self.sends);
            // Behind the datagrams, as the reader does it.
            if !others.is_empty() {
                hand_over(&self.shared, &self.control, others);
            }
            self.stream_effects.drain(..).for_each(|e| tcp::command(&self.shared, e));
            if failed.is_empty() {
                return;
            }
            for (ticket, error) in failed {
                let input = Input::SendFailed { ticket, error };
                step(&self.shared, &mut self.worker, now, input, &mut self.out);
            }
        }
    }
}

/// The Call-ID of a message that was not parsed yet; empty where none is found.
fn call_id(message: &[u8]) -> &[u8] {
    for line in message.split(|b| *b == b'\n') {
        if matches!(line, b"" | b"\r") {
            break;
        }
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let name = name.trim_ascii();
        if name.eq_ignore_ascii_case(b"call-id") || name.eq_ignore_ascii_case(b"i") {
            return value.get(1..).unwrap_or_default().trim_ascii();
        }
    }
    b""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_id_is_found_in_either_form_and_not_in_the_body() {
        let long = b"BYE sip:a SIP/2.0\r\nVia: x\r\nCALL-ID :  a@b \r\n\r\ni: no";
        assert_eq!(call_id(long), b"a@b");
        assert_eq!(call_id(b"SIP/2.0 200 OK\ni:7\n\n"), b"7");
        assert_eq!(call_id(b"OPTIONS sip:a SIP/2.0\r\n\r\nCall-ID: body\r\n"), b"");
        assert_eq!(call_id(b""), b"");
    }
}
