//! SIP over TCP: a thread with a worker of its own reads every connection; every thread writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use tandem_clock::{Chance, MS, Now};
use tandem_engine::effect::{Effect, Input, Out, Send};
use tandem_engine::log::Level;
use tandem_engine::node::Node;
use tandem_engine::sockets::Proto;
use tandem_engine::stream::{StreamId, StreamInput};
use tandem_engine::worker::Worker;
use tandem_net::{BinEvent, BinOptions, BinStreams, Command, Keepalive, Poller, Ready, Waker};
use tokio::sync::mpsc;

use super::udp::{finish, hand_over, step};
use super::{Shared, limits, log};

/// Commands of other threads that may wait.
const COMMANDS_MAX: usize = 65_536;
/// Commands taken in one turn.
const COMMANDS_A_TURN: usize = 4_096;
/// Connections beyond `tcp_max_connections` that have just come, until one is closed for them.
const ON_THEIR_WAY_MAX: usize = 256;
/// Bytes that may wait to be written on one connection; a peer that takes less is let go.
const QUEUE_BYTES_MAX: usize = 1 << 20;

/// The listening sockets, before the thread that serves them is there.
pub(super) struct Opened {
    poller: Poller,
    streams: BinStreams,
    commands: Receiver<Command>,
}

/// Where other threads write to connections.
pub(super) struct Outlet {
    commands: SyncSender<Command>,
    waker: Waker,
}

/// Opens the TCP sockets of a node; `None`: it has none.
pub(super) fn open(node: &Node, now: Now) -> Result<Option<(Opened, Outlet)>, String> {
    if !node.streams.is_active() {
        return Ok(None);
    }
    let poller = Poller::new().map_err(|e| format!("tandem: no epoll: {e}"))?;
    // The node closes one for a new one: both are there for a moment.
    let wanted = node.streams.settings.connections_max.saturating_add(ON_THEIR_WAY_MAX);
    let (connections_max, fewer) = limits::connections(wanted);
    if let Some(text) = fewer {
        log::line(now, Level::Warning, &text);
    }
    let mut streams = BinStreams::new(options(node, connections_max));
    for (_, socket) in node.sockets.listening().filter(|(_, s)| s.proto == Proto::Tcp) {
        streams
            .listen(&poller, socket.addr)
            .map_err(|e| format!("tandem: cannot listen on {}: {e}", socket.text()))?;
    }
    let (sender, commands) = sync_channel(COMMANDS_MAX);
    let outlet = Outlet { commands: sender, waker: poller.waker() };
    Ok(Some((Opened { poller, streams, commands }, outlet)))
}

fn options(node: &Node, connections_max: usize) -> BinOptions {
    let settings = &node.streams.settings;
    BinOptions {
        write_queue_bytes_max: QUEUE_BYTES_MAX,
        write_queue_bytes_of_accepted_max: QUEUE_BYTES_MAX,
        write_queue_chunks_max: match settings.proto.writes_max {
            0 => usize::MAX,
            n => n as usize,
        },
        connect_timeout_ns: u64::from(settings.connect_timeout_ms) * MS,
        connections_max,
        backlog: settings.backlog,
        keepalive: settings.keepalive.then_some(Keepalive {
            idle_s: settings.keep_idle_s,
            interval_s: settings.keep_interval_s,
            count: settings.keep_count,
        }),
        ..BinOptions::default()
    }
}

/// The running thread.
pub(super) struct TcpWorker {
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
    waker: Waker,
}

impl TcpWorker {
    pub(super) fn spawn(
        shared: &Arc<Shared>,
        opened: Opened,
        id: usize,
        chance: Chance,
        control: mpsc::Sender<Vec<Effect>>,
    ) -> Result<Self, String> {
        let stop = Arc::new(AtomicBool::new(false));
        let waker = opened.poller.waker();
        let (shared, stopping) = (Arc::clone(shared), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("tcp".into())
            .spawn(move || {
                let node = Arc::clone(&shared.node);
                let worker = Worker::new(node, id, chance, shared.clock.now());
                let mut tcp = Tcp {
                    id,
                    shared: &shared,
                    worker,
                    opened,
                    events: Vec::new(),
                    control,
                    out: Out::default(),
                    sends: Vec::new(),
                };
                tcp.serve(&stopping);
            })
            .map_err(|e| format!("tandem: no thread: {e}"))?;
        Ok(Self { thread, stop, waker })
    }

    pub(super) fn join(self) {
        self.stop.store(true, Ordering::Release);
        self.waker.wake();
        let _ = self.thread.join();
    }
}

struct Tcp<'a> {
    id: usize,
    shared: &'a Shared,
    worker: Worker,
    opened: Opened,
    events: Vec<BinEvent>,
    control: mpsc::Sender<Vec<Effect>>,
    out: Out,
    sends: Vec<Send>,
}

impl Tcp<'_> {
    fn serve(&mut self, stop: &AtomicBool) {
        let mut ready: Vec<Ready> = Vec::new();
        while !stop.load(Ordering::Acquire) {
            let now_ns = self.shared.clock.now().mono_ns;
            let own = self.worker.next_deadline().into_iter();
            let next = own.chain(self.opened.streams.next_deadline()).min();
            let timeout = next.map(|at| at.saturating_sub(now_ns));
            if let Err(e) = self.opened.poller.wait(&mut ready, timeout) {
                log::line(self.shared.clock.now(), Level::Error, &format!("epoll: {e}"));
            }
            let woke_ns = self.shared.clock.now().mono_ns;
            for event in &ready {
                self.opened.streams.ready(&self.opened.poller, *event, &mut self.events);
                self.take_events();
            }
            self.settle();
            let now_ns = self.shared.clock.now().mono_ns;
            self.shared.node.load.busy(self.id, now_ns, now_ns.saturating_sub(woke_ns));
        }
        self.settle();
    }

    fn take_events(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            let now = self.shared.clock.now();
            step(self.shared, &mut self.worker, now, input(event), &mut self.out);
        }
        self.events = events;
    }

    /// Ends a turn: carries effects out until none is left.
    fn settle(&mut self) {
        loop {
            let now = self.shared.clock.now();
            finish(&mut self.worker, now, &mut self.out);
            self.opened.streams.expire(&self.opened.poller, now.mono_ns, &mut self.events);
            self.take_commands(now.mono_ns);
            let mut others = Vec::new();
            let mut effects = std::mem::take(&mut self.out.effects);
            for effect in effects.drain(..) {
                match effect {
                    Effect::Send(send) => self.sends.push(send),
                    Effect::Wake => self.shared.poller.waker().wake(),
                    other => match wanted(other) {
                        Ok(command) => self.command(now.mono_ns, command),
                        Err(other) => others.push(other),
                    },
                }
            }
            self.out.effects = effects;
            if !others.is_empty() {
                hand_over(self.shared, &self.control, others);
            }
            // Before the datagrams: a provisional reply leaves before what it is about.
            self.opened.streams.flush(&self.opened.poller, &mut self.events);
            let failed = self.shared.send(&mut self.sends);
            if failed.is_empty() && self.events.is_empty() {
                return;
            }
            for (ticket, error) in failed {
                let input = Input::SendFailed { ticket, error };
                step(self.shared, &mut self.worker, now, input, &mut self.out);
            }
            self.take_events();
        }
    }

    /// What other threads want to be written; more than a turn's share wakes this one again.
    fn take_commands(&mut self, now_ns: u64) {
        for _ in 0..COMMANDS_A_TURN {
            let Ok(command) = self.opened.commands.try_recv() else { return };
            self.command(now_ns, command);
        }
        self.opened.poller.waker().wake();
    }

    fn command(&mut self, now_ns: u64, command: Command) {
        let Opened { poller, streams, .. } = &mut self.opened;
        streams.command(poller, now_ns, command, &mut self.events);
    }
}

/// Carries an effect on connections out from another thread. It never waits: when the TCP thread
/// is hopelessly behind, what it would write is lost, and said so.
pub(super) fn command(shared: &Shared, effect: Effect) {
    if let Ok(command) = wanted(effect) {
        pass_on(shared, command);
    }
}

pub(super) fn pass_on(shared: &Shared, command: Command) {
    let Some(outlet) = &shared.streams else { return };
    if outlet.commands.try_send(command).is_err() {
        let text = "the TCP thread is behind: a message was dropped";
        log::line(shared.clock.now(), Level::Critical, text);
    }
    outlet.waker.wake();
}

/// Closes the connections of addresses that have left the host.
pub(super) fn addresses_changed(shared: &Shared, held: &[(std::net::IpAddr, bool)]) {
    for (ip, _) in held.iter().filter(|(_, held)| !held) {
        pass_on(shared, Command::CloseLocal { ip: *ip });
    }
}

/// What an effect asks of the connections; the effect itself if nothing. Both sides give accepted
/// connections the highest bit.
fn wanted(effect: Effect) -> Result<Command, Effect> {
    let id = |conn: StreamId| tandem_net::ConnId(conn.0);
    Ok(match effect {
        Effect::StreamConnect { conn, peer, local_ip } => {
            Command::Connect { conn: id(conn), peer, local_ip }
        }
        Effect::StreamWrite { conn, bytes } => Command::Write { conn: id(conn), bytes },
        Effect::StreamClose { conn } => Command::Close { conn: id(conn) },
        other => return Err(other),
    })
}

fn input(event: BinEvent) -> Input {
    let id = |conn: tandem_net::ConnId| StreamId(conn.0);
    Input::Stream(match event {
        BinEvent::Accepted { conn, peer, local } => {
            StreamInput::Accepted { conn: id(conn), peer, local }
        }
        BinEvent::Connected { conn, local } => StreamInput::Connected { conn: id(conn), local },
        BinEvent::ConnectFailed { conn, error } => {
            StreamInput::ConnectFailed { conn: id(conn), error: error.to_string() }
        }
        BinEvent::Data { conn, bytes } => StreamInput::Data { conn: id(conn), bytes },
        BinEvent::Closed { conn, .. } => StreamInput::Closed { conn: id(conn) },
    })
}
