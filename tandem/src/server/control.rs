//! The control thread: worker 0, and everything that does not come over the network.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tandem_clock::{Chance, MS, Now};
use tandem_drivers::client::{Clients, News};
use tandem_drivers::dns::{self, Resolver};
use tandem_drivers::notify::{self, Notifier};
use tandem_drivers::spool::Spool;
use tandem_drivers::{Completion, Database};
use tandem_engine::effect::{DatabaseId, Effect, Input, Out, Send};
use tandem_engine::endpoint::Endpoint;
use tandem_engine::events::Destination;
use tandem_engine::log::Level;
use tandem_engine::worker::Worker;
use tandem_net::{AddressWatch, BinStreams, Interest, Poller, is_local_address};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::clients;
use super::databases::{self, NewsOf};
use super::gauges::Gauges;
use super::host::Host;
use super::management::{Asked, Management};
use super::reader::RunningReader;
use super::reader::STOOD_STILL_NS;
use super::tcp::{self, TcpWorker};
use super::udp::{finish, step};
use super::{Shared, files::StateDir, log};

/// Effects of the other workers that may wait for the control thread, in batches.
const BATCHES_MAX: usize = 65_536;
/// Answers of databases that may wait.
const COMPLETIONS_MAX: usize = 4_096;
/// Inputs taken in one turn before effects are carried out.
const INPUTS_A_TURN: usize = 256;
/// Turns that a node takes at its end for what its workers still have.
const REST_TURNS_MAX: usize = 10_000;
/// How long the node waits at its end for a database to take what is still to be written.
const WRITE_OUT: Duration = Duration::from_secs(10);

/// Runs the node until a signal ends it.
pub(super) fn run(
    shared: &Arc<Shared>,
    (workers, tcp): (usize, Option<tcp::Opened>),
    mut chance: Chance,
    bin: BinStreams,
    state: &StateDir,
    begun: Now,
) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("tandem: no event loop: {e}"))?;
    runtime.block_on(async {
        let (to_control, from_workers) = mpsc::channel(BATCHES_MAX);
        let worker = Worker::new(Arc::clone(&shared.node), 0, chance.fork(), begun);
        let mut control = Control::open(shared, worker, state, from_workers).await?;
        shared
            .identity
            .assume()
            .map_err(|e| format!("tandem: cannot change user or group: {e}"))?;
        control.begin();
        let reader = RunningReader::spawn(shared, workers, &mut chance, bin, to_control.clone())?;
        let tcp = tcp
            .map(|opened| TcpWorker::spawn(shared, opened, workers + 1, chance.fork(), to_control));
        let tcp = tcp.transpose()?;
        let result = control.serve(begun).await;
        tcp.into_iter().for_each(TcpWorker::join);
        reader.join();
        control.last_words().await;
        control.close().await;
        result
    })
}

struct Control<'a> {
    shared: &'a Shared,
    worker: Worker,
    state: &'a StateDir,
    databases: Vec<Database>,
    /// Queries without an answer.
    asked: usize,
    management: Management,
    inputs: Inputs,
    /// Where commands of the shell and slow writes say that they have ended.
    program_done: mpsc::Sender<Input>,
    sends: Vec<Send>,
    /// Inputs that effects caused at once: a file that was written, a query that was refused.
    ready: Vec<Input>,
    /// The node wants to end; whether something failed.
    stop: Option<bool>,
    /// Signals so far: the second one waits for nobody.
    asked_to_end: u32,
    /// How long peers are waited for at the end.
    parting_until: Option<tandem_clock::Mono>,
    /// What the process measures of itself.
    gauges: Gauges,
    host: Host,
    lines: log::Lines,
    notifier: Option<Notifier>,
    names: Resolver,
    spool: Spool,
    clients: Clients,
    /// Said once.
    events_lost: bool,
    serving: bool,
    /// The modules were told that the node ends.
    ends: bool,
    fatal: Option<String>,
}

/// How long a node waits at its end for peers that lack what it knows, and how often it looks.
const PARTING_S: u64 = 3;
const PARTING_LOOK_NS: u64 = 10 * MS;

/// After the process stood still, the reader has so long to hear what peers told meanwhile.
const HEARING: Duration = Duration::from_millis(100);

/// Ends of commands that wait to be told; a command waits when there are more.
const PROGRAMS_MAX: usize = 64;

/// Where inputs come from.
struct Inputs {
    workers: mpsc::Receiver<Vec<Effect>>,
    db: mpsc::Receiver<Completion>,
    db_news: mpsc::Receiver<NewsOf>,
    names: mpsc::Receiver<dns::Completion>,
    addresses: mpsc::Receiver<()>,
    programs: mpsc::Receiver<Input>,
    clients: mpsc::Receiver<News>,
}

/// What woke the control thread.
enum Woken {
    Worker(Vec<Effect>),
    Db(Completion),
    DbNews(NewsOf),
    Name(dns::Completion),
    Asked(Asked),
    Addresses,
    Program(Input),
    Client(News),
    Time,
    Hangup,
    Signal,
}

impl<'a> Control<'a> {
    async fn open(
        shared: &'a Shared,
        worker: Worker,
        state: &'a StateDir,
        workers: mpsc::Receiver<Vec<Effect>>,
    ) -> Result<Self, String> {
        let (completions, db) = mpsc::channel(COMPLETIONS_MAX);
        let endpoints: Vec<Endpoint> =
            shared.node.loaded().flat_map(|(_, _, m)| m.endpoints()).collect();
        let (databases, db_news) = databases::open(shared, &endpoints, &completions).await?;
        let management = Management::open(&endpoints, &shared.identity)?;
        let addresses = watch_addresses(shared);
        let (names, named) = mpsc::channel(COMPLETIONS_MAX);
        let names = Resolver::new(dns_options(shared)?, names);
        let (program_done, programs) = mpsc::channel(PROGRAMS_MAX);
        let (news, clients) = mpsc::channel(clients::NEWS_MAX);
        let inputs = Inputs { workers, db, db_news, names: named, addresses, programs, clients };
        Ok(Self {
            shared,
            worker,
            state,
            databases,
            asked: 0,
            management,
            inputs,
            program_done,
            sends: Vec::new(),
            ready: Vec::new(),
            stop: None,
            asked_to_end: 0,
            parting_until: None,
            gauges: Gauges::default(),
            host: Host::default(),
            lines: log::Lines::default(),
            notifier: None,
            names,
            spool: Spool::new(state.spool()),
            clients: Clients::new(news),
            events_lost: false,
            serving: false,
            ends: false,
            fatal: None,
        })
    }

    /// Starts the node: what its modules ask for at start goes out.
    fn begin(&mut self) {
        let now = self.shared.clock.now();
        let mut out = Out::default();
        self.step(Input::Addresses(self.held()), &mut out);
        let host = self.host.news(self.shared, now);
        host.into_iter().for_each(|host| self.step(Input::Host(host), &mut out));
        self.worker.start(now, &mut out);
        self.settle(out);
    }

    async fn serve(&mut self, begun: Now) -> Result<(), String> {
        let cannot = |e: std::io::Error| format!("tandem: no signals: {e}");
        let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
        let mut hangup = signal(SignalKind::hangup()).map_err(cannot)?;
        let mut announced = false;
        loop {
            if let Some(text) = self.fatal.take() {
                return Err(format!("tandem: {text}"));
            }
            if self.serving && !announced {
                announced = true;
                self.announce(begun);
            }
            let due_ns = self.worker.next_deadline();
            let woken = self.woken(&mut terminate, &mut interrupt, &mut hangup).await;
            let mut woke = self.shared.clock.now();
            if due_ns.is_some_and(|at| woke.mono_ns >= at.saturating_add(STOOD_STILL_NS)) {
                // The reader hears first what peers told meanwhile: who acts, what has ended.
                tokio::time::sleep(HEARING).await;
                woke = self.shared.clock.now();
            }
            self.gauges.measure(self.shared, woke);
            let mut out = Out::default();
            let host = self.host.look(self.shared, woke);
            host.into_iter().for_each(|host| self.step(Input::Host(host), &mut out));
            self.take(woken, &mut out);
            self.drain(&mut out);
            self.settle(std::mem::take(&mut out));
            if self.stop.is_some_and(|failed| failed || self.has_parted()) {
                self.settle(std::mem::take(&mut out));
                self.take_rest();
                self.end(out);
                let failed = self.stop == Some(true);
                return if failed {
                    Err("tandem: the script called abort()".into())
                } else {
                    Ok(())
                };
            }
            let now = self.shared.clock.now().mono_ns;
            self.shared.node.load.busy(0, now, now.saturating_sub(woke.mono_ns));
        }
    }

    fn announce(&self, begun: Now) {
        let now = self.shared.clock.now();
        let took_ms = now.mono_ns.saturating_sub(begun.mono_ns) / MS;
        let id = self.shared.node.membership().node_id();
        let who = if id == 0 { String::new() } else { format!("node {id}, ") };
        let text = format!("ready ({who}pid {}, after {took_ms} ms)", std::process::id());
        log::line(now, Level::Notice, &text);
        if super::daemon::is_child() {
            super::daemon::report_serving(log::to_stderr());
        }
        super::daemon::notify_manager();
    }

    async fn woken(
        &mut self,
        terminate: &mut tokio::signal::unix::Signal,
        interrupt: &mut tokio::signal::unix::Signal,
        hangup: &mut tokio::signal::unix::Signal,
    ) -> Woken {
        let now = self.shared.clock.now();
        let wait_ns = self.worker.next_deadline().map(|at| at.saturating_sub(now.mono_ns));
        let longest_ns = if self.stop.is_some() { PARTING_LOOK_NS } else { 60_000 * MS };
        let wait_ns = wait_ns.unwrap_or(longest_ns).min(longest_ns);
        let timer = tokio::time::sleep(Duration::from_nanos(wait_ns));
        let (inputs, management) = (&mut self.inputs, &mut self.management);
        tokio::select! {
            Some(effects) = inputs.workers.recv() => Woken::Worker(effects),
            Some(done) = inputs.db.recv() => Woken::Db(done),
            Some(news) = inputs.db_news.recv() => Woken::DbNews(news),
            Some(done) = inputs.names.recv() => Woken::Name(done),
            asked = management.next() => Woken::Asked(asked),
            Some(()) = inputs.addresses.recv() => Woken::Addresses,
            Some(ended) = inputs.programs.recv() => Woken::Program(ended),
            Some(news) = inputs.clients.recv() => Woken::Client(news),
            () = timer => Woken::Time,
            _ = terminate.recv() => Woken::Signal,
            _ = interrupt.recv() => Woken::Signal,
            _ = hangup.recv() => Woken::Hangup,
        }
    }

    /// Whether peers have what this node alone knew, as far as they are there. What is in no
    /// database would be gone with it, so it waits for them a little while it goes on serving.
    fn has_parted(&mut self) -> bool {
        let now = self.shared.clock.now();
        if !self.shared.node.membership().has_to_hand_over(now) || self.asked_to_end > 1 {
            return true;
        }
        let until = *self.parting_until.get_or_insert_with(|| {
            let text = "this node ends when a peer has what it alone knows, in 3 s at most";
            log::line(now, Level::Notice, text);
            now.after_s(PARTING_S)
        });
        if now.mono_ns >= until {
            let text = "no peer has got everything that this node knew: of that, what is in no \
                        database is lost";
            log::line(now, Level::Warning, text);
        }
        now.mono_ns >= until
    }

    /// Takes one input.
    fn take(&mut self, woken: Woken, out: &mut Out) {
        match woken {
            Woken::Worker(effects) => out.effects.extend(effects),
            Woken::Db(done) => self.answered(done, out),
            Woken::DbNews((database, news)) => self.step(Input::DbNews { database, news }, out),
            Woken::Name(dns::Completion { query, answer }) => {
                self.step(Input::Dns { query, answer }, out);
            }
            Woken::Asked(asked) => {
                if let Some(input) = self.management.take(asked) {
                    // Whoever asks may ask for this.
                    self.gauges.measure_waiting(self.shared, self.shared.clock.now());
                    self.step(input, out);
                }
            }
            Woken::Addresses => {
                let held = self.held();
                tcp::addresses_changed(self.shared, &held);
                self.step(Input::Addresses(held), out);
                let host = self.host.news(self.shared, self.shared.clock.now());
                host.into_iter().for_each(|host| self.step(Input::Host(host), out));
            }
            Woken::Program(ended) => self.step(ended, out),
            Woken::Client(news) => self.step(clients::input(news), out),
            Woken::Time => {}
            // A terminal that closed, or an operator whose FIFO was deleted.
            Woken::Hangup => self.management.check_now(),
            Woken::Signal => {
                self.asked_to_end += 1;
                self.stop.get_or_insert(false);
            }
        }
    }

    /// Takes what else is waiting, so that a turn works on a batch.
    fn drain(&mut self, out: &mut Out) {
        for _ in 0..INPUTS_A_TURN {
            if let Ok(effects) = self.inputs.workers.try_recv() {
                out.effects.extend(effects);
            } else if let Ok(done) = self.inputs.db.try_recv() {
                self.answered(done, out);
            } else {
                return;
            }
        }
    }

    fn answered(&mut self, done: Completion, out: &mut Out) {
        self.asked = self.asked.saturating_sub(1);
        self.step(Input::Db { query: done.id, result: done.result }, out);
    }

    /// Tells the modules that the node ends: what they still have to write they ask for.
    fn end(&mut self, mut out: Out) {
        self.ends = true;
        self.step(Input::Shutdown, &mut out);
        self.settle(out);
    }

    /// The other workers have ended. What they did since the modules heard of the end counts as
    /// well: a call that was over in that moment has its record, a phone its contact.
    async fn last_words(&mut self) {
        self.take_rest();
        if !self.ends {
            return;
        }
        self.end(Out::default());
        if tokio::time::timeout(WRITE_OUT, self.write_out()).await.is_err() {
            let text = format!(
                "{} queries were not answered within {} s: what they write may be missing",
                self.asked,
                WRITE_OUT.as_secs()
            );
            log::line(self.shared.clock.now(), Level::Error, &text);
        }
    }

    /// Modules write a few batches at a time, and the next ones when a database has answered.
    async fn write_out(&mut self) {
        while self.asked > 0 {
            let Some(done) = self.inputs.db.recv().await else { return };
            let mut out = Out::default();
            self.answered(done, &mut out);
            self.settle(out);
        }
    }

    /// Takes over and carries out what workers have handed over so far.
    fn take_rest(&mut self) {
        for _ in 0..REST_TURNS_MAX {
            let mut out = Out::default();
            self.drain(&mut out);
            if out.effects.is_empty() {
                return;
            }
            self.settle(out);
        }
    }

    fn step(&mut self, input: Input, out: &mut Out) {
        let now = self.shared.clock.now();
        step(self.shared, &mut self.worker, now, input, out);
    }

    /// Ends the turn: carries effects out until none is left.
    fn settle(&mut self, mut out: Out) {
        loop {
            let now = self.shared.clock.now();
            finish(&mut self.worker, now, &mut out);
            if out.effects.is_empty() {
                return;
            }
            for effect in std::mem::take(&mut out.effects) {
                self.carry_out(now, effect);
            }
            self.lines.write();
            for (ticket, error) in self.shared.send(&mut self.sends) {
                self.step(Input::SendFailed { ticket, error }, &mut out);
            }
            for input in std::mem::take(&mut self.ready) {
                self.step(input, &mut out);
            }
        }
    }

    fn carry_out(&mut self, now: Now, effect: Effect) {
        // What takes time, or ends the process, comes behind the lines that were written before.
        if !matches!(effect, Effect::Log { .. } | Effect::Send(_) | Effect::Wake) {
            self.lines.write();
        }
        match effect {
            Effect::Send(send) => self.sends.push(send),
            Effect::Wake => self.shared.poller.waker().wake(),
            Effect::MiReply { request, text } => self.management.answer(request, text),
            Effect::HttpReply { request, answer } => {
                self.management.answer_http(request, answer);
            }
            Effect::Db { query, database: DatabaseId(database), ask } => {
                let Some(db) = self.databases.get(usize::from(database)) else { return };
                match db.submit(query, ask) {
                    Ok(()) => self.asked += 1,
                    Err(e) => self.ready.push(Input::Db { query, result: Err(e) }),
                }
            }
            Effect::Dns { query, question } => {
                if let Some(answer) = self.names.ask(query, question) {
                    self.ready.push(Input::Dns { query, answer });
                }
            }
            Effect::ReadFile { token, name } => {
                let result = self.state.read(&name).map(|b| b.map(Bytes::from));
                self.ready.push(Input::FileRead { token, result });
            }
            Effect::LoadScript { request } => {
                let running = self.shared.node.script();
                let result = crate::script::reload(&self.shared.script, &running.program);
                self.ready.push(Input::ScriptLoaded { request, result });
            }
            Effect::WriteFile { token, name, bytes } => {
                let result = self.state.write(&name, &bytes);
                self.ready.push(Input::FileWritten { token, result });
            }
            Effect::Spool { token, ask } => {
                let spool = &mut self.spool;
                self.ready.extend(super::spool::carry_out(spool, token, ask, &self.program_done));
            }
            Effect::Run { token, program } => {
                tokio::spawn(super::programs::run(self.program_done.clone(), token, program));
            }
            Effect::Client { token, ask } => {
                self.ready.extend(clients::carry_out(&mut self.clients, token, ask));
            }
            Effect::Notify { to, payload } => self.notify(to, payload),
            Effect::Log { level, text } => self.lines.add(now, level, &text),
            // The reader drives the cluster and has its streams.
            Effect::BinConnect { .. } | Effect::BinWrite { .. } | Effect::BinClose { .. } => {}
            Effect::StreamConnect { .. }
            | Effect::StreamWrite { .. }
            | Effect::StreamClose { .. } => tcp::command(self.shared, effect),
            Effect::Ready => self.serving = true,
            Effect::Stop { failed } => self.stop = Some(failed),
            Effect::Fatal { text } => self.fatal = Some(text),
        }
    }

    /// Tells a subscriber; the thread for it is started with the first one.
    fn notify(&mut self, to: Destination, payload: Bytes) {
        let to = match to {
            Destination::Udp { host, port } => notify::To::Udp(host, port),
            Destination::Unix(path) => notify::To::Unix(path),
            Destination::Fifo(path) => notify::To::Fifo(path),
        };
        if self.notifier.is_none() {
            self.notifier = Notifier::spawn().ok();
        }
        let sent = self.notifier.as_ref().is_some_and(|n| n.send(to, payload));
        if !sent && !std::mem::replace(&mut self.events_lost, true) {
            let text = "events are lost: their subscribers cannot be told as fast as they come";
            log::line(self.shared.clock.now(), Level::Warning, text);
        }
    }

    /// Which of the listening addresses this host holds.
    fn held(&self) -> Vec<(std::net::IpAddr, bool)> {
        let ips = self.shared.node.sockets.listening().map(|(_, s)| s.addr.ip());
        let mut held: Vec<_> = ips.map(|ip| (ip, is_local_address(ip))).collect();
        held.sort_unstable();
        held.dedup();
        held
    }

    async fn close(self) {
        let Self { management, databases, mut inputs, .. } = self;
        management.close().await;
        let closing = async {
            for db in databases {
                db.close().await;
            }
        };
        tokio::pin!(closing);
        // A database whose answers nobody takes does not come to its end.
        loop {
            tokio::select! {
                () = &mut closing => return,
                Some(_) = inputs.db.recv() => {}
            }
        }
    }
}

/// How names are looked up. `TANDEM_NAMESERVERS` (`ADDRESS:PORT`, with commas) is asked instead of
/// the servers of the system.
fn dns_options(shared: &Shared) -> Result<dns::DnsOptions, String> {
    let settings = &shared.node.dns.settings;
    let (timeout_s, attempts) = settings.patience();
    let given = std::env::var("TANDEM_NAMESERVERS").unwrap_or_default();
    let texts = given.split(',').map(str::trim).filter(|t| !t.is_empty());
    let servers: Result<Vec<_>, _> = texts.map(str::parse).collect();
    let servers = servers.map_err(|e| format!("tandem: TANDEM_NAMESERVERS: {e}"))?;
    let (servers_max, search_list) = (settings.servers_max, settings.search_list);
    Ok(dns::DnsOptions { timeout_s, attempts, servers_max, search_list, servers })
}

/// Tells of every change of the host's addresses, from a thread that does nothing else.
#[expect(clippy::disallowed_methods, reason = "the server owns its threads")]
fn watch_addresses(shared: &Shared) -> mpsc::Receiver<()> {
    let (changed, changes) = mpsc::channel(1);
    let opened = AddressWatch::open().and_then(|watch| {
        let poller = Poller::new()?;
        poller.add(&watch, 0, Interest::Read)?;
        Ok((watch, poller))
    });
    match opened {
        Ok((mut watch, poller)) => {
            std::thread::spawn(move || {
                let (mut ready, mut events) = (Vec::new(), Vec::new());
                while !changed.is_closed() && poller.wait(&mut ready, None).is_ok() {
                    events.clear();
                    if watch.read(&mut events).is_err() || changed.blocking_send(()).is_err() {
                        return;
                    }
                    ready.clear();
                }
            });
        }
        Err(e) => {
            let text = format!("addresses that come and go are not noticed: {e}");
            log::line(shared.clock.now(), Level::Warning, &text);
        }
    }
    changes
}
