//! The reader: the thread that waits for datagrams and BIN streams, and steps worker 1 with them.
//!
//! One thread reads every socket, so under load one wake-up serves all that has come: datagrams,
//! changes of the peers, their acknowledgements. What a turn sends leaves with one call for each
//! socket and one write for each stream. When its batches stay full, helpers share the work.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use tandem_clock::Chance;
use tandem_engine::effect::{BinInput, Effect, Input, Out, Send};
use tandem_engine::log::Level;
use tandem_engine::sockets::SocketId;
use tandem_engine::worker::Worker;
use tandem_net::{BinEvent, BinStreams, Command, Datagram, Interest, Ready, RecvBatch, UdpSocket};
use tokio::sync::mpsc;

use super::Shared;
use super::gather::Gather;
use super::helpers::Helpers;
use super::parcel::Parcel;
use super::tcp;
use super::udp::{finish, hand_over, step};

/// The worker that reads.
pub(super) const WORKER: usize = 1;
/// Batches taken from one socket before the others get their turn.
const BATCHES_IN_A_ROW: usize = 4;
/// Helpers that got nothing for so long rest (one cycle of the field's auto scaling).
const REST_NS: u64 = tandem_clock::SEC;
/// A node that comes to so much later than it wanted to stood still.
pub(super) const STOOD_STILL_NS: u64 = tandem_clock::SEC;
/// What peers told meanwhile is read until nothing has come for so long, and so many times at most.
const CATCH_UP_NS: u64 = 5 * tandem_clock::MS;
const CATCH_UPS_MAX: usize = 200;
/// Full batches in a row that say that one thread is not enough.
const FULL_BATCHES: usize = 3;

/// The running reader, with its helpers.
pub(super) struct RunningReader {
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
    shared: Arc<Shared>,
}

impl RunningReader {
    pub(super) fn spawn(
        shared: &Arc<Shared>,
        workers: usize,
        chance: &mut Chance,
        bin: BinStreams,
        control: mpsc::Sender<Vec<Effect>>,
    ) -> Result<Self, String> {
        let stop = Arc::new(AtomicBool::new(false));
        let helpers = Helpers::spawn(shared, WORKER + 1..=workers, chance, &control)?;
        for (socket, udp) in shared.sockets.iter() {
            shared
                .poller
                .add(udp, u64::from(socket.0), Interest::Read)
                .map_err(|e| format!("tandem: epoll: {e}"))?;
        }
        let (own, stopping, chance) = (Arc::clone(shared), Arc::clone(&stop), chance.fork());
        let thread = std::thread::Builder::new()
            .name("reader".into())
            .spawn(move || {
                let node = Arc::clone(&own.node);
                let worker = Worker::new(node, WORKER, chance, own.clock.now());
                let mut reader = Reader {
                    shared: &own,
                    worker,
                    bin,
                    bin_events: Vec::new(),
                    control,
                    gather: Gather::default(),
                    full_in_a_row: 0,
                    helped_ns: None,
                    out: Out::default(),
                    parcel: Parcel::default(),
                    sends: Vec::new(),
                    stream_effects: Vec::new(),
                };
                reader.serve(&stopping, &helpers);
                helpers.join();
            })
            .map_err(|e| format!("tandem: no thread: {e}"))?;
        Ok(Self { thread, stop, shared: Arc::clone(shared) })
    }

    pub(super) fn join(self) {
        self.stop.store(true, Ordering::Release);
        self.shared.poller.waker().wake();
        let _ = self.thread.join();
    }
}

struct Reader<'a> {
    shared: &'a Shared,
    worker: Worker,
    bin: BinStreams,
    bin_events: Vec<BinEvent>,
    control: mpsc::Sender<Vec<Effect>>,
    gather: Gather,
    full_in_a_row: usize,
    /// When helpers last got a share, while they help.
    helped_ns: Option<u64>,
    out: Out,
    /// For the control thread.
    parcel: Parcel,
    sends: Vec<Send>,
    /// For the connections that carry SIP.
    stream_effects: Vec<Effect>,
}

impl Reader<'_> {
    fn serve(&mut self, stop: &AtomicBool, helpers: &Helpers) {
        let mut ready: Vec<Ready> = Vec::new();
        let mut batch = RecvBatch::new();
        self.settle();
        while !stop.load(Ordering::Acquire) {
            let due_ns = self.next_deadline();
            let mut woken = self.wait(&mut ready);
            let woke_ns = self.shared.clock.now().mono_ns;
            let mut taken = 0;
            if due_ns.is_some_and(|at| woke_ns >= at.saturating_add(STOOD_STILL_NS)) {
                woken |= self.catch_up(&mut ready, &mut batch);
            }
            // Streams first: their acknowledgements let replies go with this turn's.
            for event in ready.iter().filter(|event| BinStreams::owns(event.token)) {
                self.bin.ready(&self.shared.poller, *event, &mut self.bin_events);
                taken += self.take_bin_events();
            }
            for event in ready.iter().filter(|event| !BinStreams::owns(event.token)) {
                let socket = SocketId(event.token as u16);
                let Some(udp) = self.shared.sockets.get(socket) else { continue };
                taken += self.read(socket, udp, &mut batch, helpers);
            }
            self.rest(helpers);
            let now_ns = self.shared.clock.now().mono_ns;
            if woken || !ready.is_empty() || self.next_deadline().is_some_and(|at| at <= now_ns) {
                self.settle();
            }
            let now_ns = self.shared.clock.now().mono_ns;
            self.shared.node.load.busy(WORKER, now_ns, now_ns.saturating_sub(woke_ns));
            self.gather.took(now_ns, taken);
        }
        self.settle();
        hand_over(self.shared, &self.control, self.parcel.take());
    }

    /// After the process stood still: what peers told meanwhile comes before what phones sent,
    /// and messages to an address that has moved to another host are not ours any more. Their
    /// senders have repeated them, and were answered there. True if another thread has called.
    fn catch_up(&mut self, ready: &mut Vec<Ready>, batch: &mut RecvBatch) -> bool {
        let mut woken = false;
        for _ in 0..CATCH_UPS_MAX {
            for event in ready.iter().filter(|event| BinStreams::owns(event.token)) {
                self.bin.ready(&self.shared.poller, *event, &mut self.bin_events);
            }
            let pieces = self.take_bin_events();
            self.settle();
            // Sockets of phones stay ready meanwhile, so this only waits where there are none.
            self.shared.poller.pause(CATCH_UP_NS);
            woken |= self.shared.poller.wait(ready, Some(0)).unwrap_or(false);
            if pieces == 0 && !ready.iter().any(|event| BinStreams::owns(event.token)) {
                break;
            }
        }
        let mut dropped = 0;
        if let Ok(held) = tandem_net::current_addresses() {
            for (id, udp) in self.shared.sockets.iter() {
                let ip = self.shared.node.sockets.get(id).map(|s| s.addr.ip());
                // All of 127.0.0.0/8 is here; interfaces list one address of it.
                let stays = |ip: &IpAddr| ip.is_unspecified() || ip.is_loopback();
                if ip.is_none_or(|ip| stays(&ip) || held.contains(&ip)) {
                    continue;
                }
                while let Ok(n @ 1..) = udp.recv_batch(batch) {
                    dropped += n;
                }
            }
        }
        let text = format!(
            "the node stood still; {dropped} messages to addresses that have moved were left out"
        );
        super::log::line(self.shared.clock.now(), Level::Warning, &text);
        woken
    }

    fn next_deadline(&self) -> Option<u64> {
        let rest = self.helped_ns.map(|ns| ns + REST_NS);
        let own = self.worker.next_deadline().into_iter().chain(self.bin.next_deadline());
        own.chain(rest).chain(self.parcel.due_ns()).min()
    }

    /// Helpers have got a share; it is told when they begin.
    fn help(&mut self, helpers: &Helpers) {
        let now = self.shared.clock.now();
        if self.helped_ns.replace(now.mono_ns).is_none() {
            helpers.ids().for_each(|id| self.worker.scaled(now, id, true, &mut self.out));
        }
    }

    /// Tells that helpers have nothing to do any more, when that has lasted for a while.
    fn rest(&mut self, helpers: &Helpers) {
        let Some(helped_ns) = self.helped_ns else { return };
        let now = self.shared.clock.now();
        if now.mono_ns >= helped_ns + REST_NS {
            self.helped_ns = None;
            helpers.ids().for_each(|id| self.worker.scaled(now, id, false, &mut self.out));
        }
    }

    /// Waits until there is something to do; true when another thread says so.
    fn wait(&self, ready: &mut Vec<Ready>) -> bool {
        let poller = &self.shared.poller;
        // What the last turn could not take is here already.
        let behind = self.full_in_a_row >= FULL_BATCHES;
        let timeout = match self.gather.pause_ns().filter(|_| !behind) {
            Some(pause_ns) => {
                poller.pause(pause_ns);
                Some(0)
            }
            None => {
                let now_ns = self.shared.clock.now().mono_ns;
                self.next_deadline().map(|at| at.saturating_sub(now_ns))
            }
        };
        poller.wait(ready, timeout).unwrap_or_else(|e| {
            super::log::line(self.shared.clock.now(), Level::Error, &format!("epoll: {e}"));
            false
        })
    }

    /// Takes what a socket has; each full batch ends with its sends.
    fn read(
        &mut self,
        socket: SocketId,
        udp: &UdpSocket,
        batch: &mut RecvBatch,
        helpers: &Helpers,
    ) -> usize {
        let mut taken = 0;
        for _ in 0..BATCHES_IN_A_ROW {
            let Ok(n @ 1..) = udp.recv_batch(batch) else {
                self.full_in_a_row = 0;
                break;
            };
            taken += n;
            // A batch that was not full has emptied the socket.
            let full = n == RecvBatch::CAPACITY;
            self.full_in_a_row = if full { self.full_in_a_row + 1 } else { 0 };
            if self.full_in_a_row >= FULL_BATCHES || helpers.are_busy() {
                let own = helpers.share(socket, batch.drain());
                self.help(helpers);
                self.take(socket, own.into_iter());
            } else {
                self.take(socket, batch.drain());
            }
            if !full {
                break;
            }
            self.settle();
        }
        taken
    }

    fn take(&mut self, socket: SocketId, datagrams: impl Iterator<Item = Datagram>) {
        let now = self.shared.clock.now();
        for d in datagrams {
            let Datagram { source, local_ip, payload } = d;
            let input = Input::Datagram { socket, source, local_ip, payload };
            step(self.shared, &mut self.worker, now, input, &mut self.out);
        }
    }

    /// Steps the worker with what the streams brought; returns how many pieces of data that was.
    fn take_bin_events(&mut self) -> usize {
        let mut pieces = 0;
        let mut events = std::mem::take(&mut self.bin_events);
        for event in events.drain(..) {
            pieces += usize::from(matches!(event, BinEvent::Data { .. }));
            let now = self.shared.clock.now();
            let input = Input::Bin(bin_input(event));
            step(self.shared, &mut self.worker, now, input, &mut self.out);
        }
        self.bin_events = events;
        pieces
    }

    /// Ends a turn: carries effects out until none is left.
    fn settle(&mut self) {
        loop {
            let now = self.shared.clock.now();
            finish(&mut self.worker, now, &mut self.out);
            self.bin.expire(&self.shared.poller, now.mono_ns, &mut self.bin_events);
            let mut effects = std::mem::take(&mut self.out.effects);
            for effect in effects.drain(..) {
                match self.carry_out(now.mono_ns, effect) {
                    Some(Effect::Wake) | None => {}
                    Some(other) => self.parcel.add(now.mono_ns, other),
                }
            }
            self.out.effects = effects;
            // Changes leave before replies: the peer's answer is what takes longest.
            self.bin.flush(&self.shared.poller, &mut self.bin_events);
            let failed = self.shared.send(&mut self.sends);
            // Behind the datagrams: what a request brings back over a connection, or what another
            // thread makes of the answer to its question, must not overtake the provisional reply.
            let others = self.parcel.take_due(now.mono_ns);
            if !others.is_empty() || self.shared.node.membership().has_questions() {
                hand_over(self.shared, &self.control, others);
            }
            for effect in self.stream_effects.drain(..) {
                tcp::command(self.shared, effect);
            }
            if failed.is_empty() && self.bin_events.is_empty() {
                return;
            }
            for (ticket, error) in failed {
                let input = Input::SendFailed { ticket, error };
                step(self.shared, &mut self.worker, now, input, &mut self.out);
            }
            self.take_bin_events();
        }
    }

    /// Carries an effect out here, or gives back what the control thread does.
    fn carry_out(&mut self, now_ns: u64, effect: Effect) -> Option<Effect> {
        let command = match effect {
            Effect::Send(send) => {
                self.sends.push(send);
                return None;
            }
            Effect::BinConnect { conn, peer, local_ip } => {
                Command::Connect { conn: wire_id(conn), peer, local_ip }
            }
            Effect::BinWrite { conn, bytes } => Command::Write { conn: wire_id(conn), bytes },
            Effect::BinClose { conn } => Command::Close { conn: wire_id(conn) },
            Effect::StreamConnect { .. }
            | Effect::StreamWrite { .. }
            | Effect::StreamClose { .. } => {
                self.stream_effects.push(effect);
                return None;
            }
            other => return Some(other),
        };
        self.bin.command(&self.shared.poller, now_ns, command, &mut self.bin_events);
        None
    }
}

/// The number spaces of the two sides: accepted connections have the highest bit set in `net`.
fn wire_id(conn: tandem_cluster::ConnId) -> tandem_net::ConnId {
    use tandem_cluster::ConnId;
    match conn {
        ConnId::Outgoing(n) => tandem_net::ConnId(n & !tandem_net::ConnId::ACCEPTED),
        ConnId::Accepted(n) => tandem_net::ConnId(n | tandem_net::ConnId::ACCEPTED),
    }
}

fn conn_id(id: tandem_net::ConnId) -> tandem_cluster::ConnId {
    use tandem_cluster::ConnId;
    if id.0 >= tandem_net::ConnId::ACCEPTED {
        ConnId::Accepted(id.0 & !tandem_net::ConnId::ACCEPTED)
    } else {
        ConnId::Outgoing(id.0)
    }
}

fn bin_input(event: BinEvent) -> BinInput {
    match event {
        BinEvent::Accepted { conn, peer, .. } => BinInput::Accepted { conn: conn_id(conn), peer },
        BinEvent::Connected { conn, local } => {
            BinInput::Connected { conn: conn_id(conn), local: Some(local) }
        }
        BinEvent::ConnectFailed { conn, .. } => BinInput::ConnectFailed { conn: conn_id(conn) },
        BinEvent::Data { conn, bytes } => BinInput::Data { conn: conn_id(conn), bytes },
        BinEvent::Closed { conn, .. } => BinInput::Closed { conn: conn_id(conn) },
    }
}
