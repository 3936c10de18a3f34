//! One FreeSWITCH: connected to, listened to, and connected to again when it was lost.
//!
//! It asks for nothing itself: what it wants is a list of [`Want`]s.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use tandem_clock::{MS, Mono, Now, SEC};
use tandem_engine::log::Level;

use crate::load::Load;
use crate::session::{News, SUBSCRIBE, Session};
use crate::url::FsUrl;

/// Seconds between two attempts, at most.
const PAUSE_S_MAX: u64 = 30;
/// Less silence than this is none, in seconds.
const SILENCE_S_MIN: u64 = 10;
/// HEARTBEATs that may be missing.
const MISSING_MAX: u64 = 3;
/// How long an answer of the DNS is waited for.
const NAME_NS: u64 = 60 * SEC;

/// How long is waited for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) heartbeat_s: u64,
    pub(crate) connect_ms: u64,
    pub(crate) command_ms: u64,
}

impl Patience {
    fn silence_ns(&self) -> u64 {
        (self.heartbeat_s * MISSING_MAX).max(SILENCE_S_MIN) * SEC
    }
}

/// What happens to it.
#[derive(Debug)]
pub(crate) enum Event {
    Resolved(Result<Vec<IpAddr>, String>),
    Opened,
    Bytes(Bytes),
    Closed(String),
    /// Time has passed.
    Due,
}

/// What it wants.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Want {
    Resolve,
    Open(SocketAddr),
    Write(Bytes),
    Close,
    Log(Level, String),
    /// Those who watch it are told.
    Changed,
}

#[derive(Debug)]
enum Phase {
    /// Until the next attempt.
    Pause {
        until: Mono,
    },
    Naming {
        until: Mono,
    },
    /// Opened or not, it is not let in yet.
    Login {
        until: Mono,
        session: Session,
    },
    Up {
        session: Session,
        /// When something came, and when the last HEARTBEAT did.
        heard: Mono,
        beat: Mono,
        /// It was asked whether it is there, and has until then.
        asked: Option<Mono>,
        /// That HEARTBEATs are rare was said.
        is_rare: bool,
    },
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) url: Arc<FsUrl>,
    phase: Phase,
    /// Counts connections: what comes of an older one is nobody's.
    pub(crate) attempt: u64,
    /// Attempts in vain since the last HEARTBEAT.
    failures: u32,
    /// Why it was lost, as it was said.
    said: Option<String>,
    /// The last load that it told, and when.
    pub(crate) load: Option<(Load, Now)>,
}

impl Server {
    /// It connects as soon as it is [`Event::Due`].
    pub(crate) fn new(url: Arc<FsUrl>, now: Now) -> Self {
        let phase = Phase::Pause { until: now.mono_ns };
        Self { url, phase, attempt: 0, failures: 0, said: None, load: None }
    }

    /// When [`Event::Due`] is wanted.
    pub(crate) fn deadline(&self, patience: &Patience) -> Mono {
        match &self.phase {
            Phase::Pause { until } | Phase::Naming { until } | Phase::Login { until, .. } => *until,
            Phase::Up { heard, beat, asked, is_rare, .. } => {
                let silence = patience.silence_ns();
                let rare = if *is_rare { Mono::MAX } else { beat.saturating_add(silence) };
                asked.unwrap_or(heard.saturating_add(silence)).min(rare)
            }
        }
    }

    /// A word for how it stands.
    pub(crate) fn state(&self) -> &'static str {
        match self.phase {
            Phase::Pause { .. } => "lost",
            Phase::Naming { .. } | Phase::Login { .. } => "connecting",
            Phase::Up { .. } => "connected",
        }
    }

    /// Takes what has happened; `chance` is a number by chance.
    pub(crate) fn handle(
        &mut self,
        now: Now,
        event: Event,
        patience: &Patience,
        chance: u64,
    ) -> Vec<Want> {
        let mut wants = Vec::new();
        match event {
            Event::Due if now.mono_ns < self.deadline(patience) => {}
            Event::Due => self.due(now, patience, chance, &mut wants),
            Event::Resolved(found) => self.resolved(now, found, patience, chance, &mut wants),
            // Its own words come next.
            Event::Opened => {}
            Event::Closed(why) => self.lost(now, why, chance, &mut wants),
            Event::Bytes(bytes) => self.bytes(now, &bytes, chance, &mut wants),
        }
        wants
    }

    fn due(&mut self, now: Now, patience: &Patience, chance: u64, wants: &mut Vec<Want>) {
        let silence = patience.silence_ns();
        let url = Arc::clone(&self.url);
        match &mut self.phase {
            Phase::Pause { .. } => {
                self.attempt += 1;
                match url.host.parse() {
                    Ok(ip) => self.open(now, ip, patience, wants),
                    Err(_) => {
                        self.phase = Phase::Naming { until: now.mono_ns.saturating_add(NAME_NS) };
                        wants.push(Want::Resolve);
                    }
                }
            }
            Phase::Naming { .. } => {
                self.lost(now, "the DNS does not answer".into(), chance, wants);
            }
            Phase::Login { session, .. } => {
                let why = session.waits_for().to_owned();
                wants.push(Want::Close);
                self.lost(now, why, chance, wants);
            }
            Phase::Up { asked: Some(until), session, .. } if now.mono_ns >= *until => {
                let why = session.waits_for().to_owned();
                wants.push(Want::Close);
                self.lost(now, why, chance, wants);
            }
            Phase::Up { heard, beat, asked, is_rare, .. } => {
                if !*is_rare && now.mono_ns >= beat.saturating_add(silence) {
                    *is_rare = true;
                    let text = format!(
                        "freeswitch: {url}: no HEARTBEAT for {} s, though one in {} s is expected: \
                         set event-heartbeat-interval in its switch.conf.xml, or \
                         event_heartbeat_interval here",
                        silence / SEC,
                        patience.heartbeat_s
                    );
                    wants.push(Want::Log(Level::Warning, text));
                }
                if asked.is_none() && now.mono_ns >= heard.saturating_add(silence) {
                    *asked = Some(now.after_ms(patience.command_ms));
                    wants.push(Want::Write(Bytes::from_static(SUBSCRIBE)));
                }
            }
        }
    }

    fn open(&mut self, now: Now, ip: IpAddr, patience: &Patience, wants: &mut Vec<Want>) {
        let until = now.after_ms(patience.connect_ms.saturating_add(patience.command_ms));
        self.phase = Phase::Login { until, session: Session::new(&self.url) };
        wants.push(Want::Open(SocketAddr::new(ip, self.url.port)));
    }

    fn resolved(
        &mut self,
        now: Now,
        found: Result<Vec<IpAddr>, String>,
        patience: &Patience,
        chance: u64,
        wants: &mut Vec<Want>,
    ) {
        if !matches!(self.phase, Phase::Naming { .. }) {
            return;
        }
        // Each attempt tries the next one.
        let at = |found: &[IpAddr]| found.get(self.failures as usize % found.len().max(1)).copied();
        match found.map(|found| at(&found)) {
            Ok(Some(ip)) => self.open(now, ip, patience, wants),
            Ok(None) => self.lost(now, "its name has no address".into(), chance, wants),
            Err(why) => self.lost(now, why, chance, wants),
        }
    }

    fn bytes(&mut self, now: Now, bytes: &[u8], chance: u64, wants: &mut Vec<Want>) {
        let session = match &mut self.phase {
            Phase::Login { session, .. } => session,
            Phase::Up { session, heard, asked, .. } => {
                (*heard, *asked) = (now.mono_ns, None);
                session
            }
            _ => return,
        };
        for news in session.take(bytes) {
            match news {
                News::Write(bytes) => wants.push(Want::Write(bytes)),
                News::Up => self.up(now, wants),
                News::Load(load) => {
                    self.load = Some((load, now));
                    self.failures = 0;
                    if let Phase::Up { beat, is_rare, .. } = &mut self.phase {
                        (*beat, *is_rare) = (now.mono_ns, false);
                    }
                    wants.push(Want::Changed);
                }
                News::Odd(why) => {
                    let text = format!("freeswitch: {}: {why}; its last load stays", self.url);
                    wants.push(Want::Log(Level::Warning, text));
                }
                News::Failed(why) => {
                    wants.push(Want::Close);
                    self.lost(now, why, chance, wants);
                    return;
                }
            }
        }
    }

    fn up(&mut self, now: Now, wants: &mut Vec<Want>) {
        let (heard, beat) = (now.mono_ns, now.mono_ns);
        let pause = Phase::Pause { until: now.mono_ns };
        if let Phase::Login { session, .. } = std::mem::replace(&mut self.phase, pause) {
            self.phase = Phase::Up { session, heard, beat, asked: None, is_rare: false };
        }
        self.said = None;
        let text = format!("freeswitch: {}: connected", self.url);
        wants.push(Want::Log(Level::Notice, text));
    }

    /// The connection is gone, or did not come to be. The same reason is said once.
    fn lost(&mut self, now: Now, why: String, chance: u64, wants: &mut Vec<Want>) {
        let pause_s = 1u64.checked_shl(self.failures).unwrap_or(u64::MAX).min(PAUSE_S_MAX);
        self.failures = self.failures.saturating_add(1).min(32);
        // Many that go down together do not come back in the same moment.
        let spread_ms = chance % (pause_s * 250).max(1);
        self.phase = Phase::Pause { until: now.after_s(pause_s).saturating_add(spread_ms * MS) };
        if self.said.as_ref() == Some(&why) {
            return;
        }
        let then = match self.load {
            Some(_) => "the last load that it told counts until it is back",
            None => "its load is not known yet",
        };
        let text = format!("freeswitch: {}: {why}; {then}", self.url);
        wants.push(Want::Log(Level::Warning, text));
        self.said = Some(why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { heartbeat_s: 20, connect_ms: 5_000, command_ms: 3_000 };
    const GREETING: &str = "Content-Type: auth/request\n\n";
    const OK: &str = "Content-Type: command/reply\nReply-Text: +OK\n\n";

    struct World {
        now: Now,
        server: Server,
        /// What it said, in words.
        said: Vec<String>,
    }

    impl World {
        fn new(url: &str) -> Self {
            let now = Now { mono_ns: 100 * SEC, unix_ms: 0 };
            let server = Server::new(Arc::new(FsUrl::parse(url).unwrap()), now);
            let mut world = Self { now, server, said: Vec::new() };
            world.happens(Event::Due);
            world
        }

        fn happens(&mut self, event: Event) {
            for want in self.server.handle(self.now, event, &PATIENCE, 0) {
                self.said.push(match want {
                    Want::Write(bytes) => String::from_utf8_lossy(&bytes).trim_end().to_owned(),
                    Want::Log(level, text) => format!("{level:?} {text}"),
                    other => format!("{other:?}"),
                });
            }
        }

        fn says(&mut self, text: &str) {
            self.happens(Event::Bytes(Bytes::copy_from_slice(text.as_bytes())));
        }

        fn beat(&mut self, sessions: u32) {
            let body = format!(
                "Event-Name: HEARTBEAT\nSession-Count: {sessions}\nMax-Sessions: 100\nIdle-CPU: 90\n"
            );
            let head = "Content-Type: text/event-plain\nContent-Length";
            self.says(&format!("{head}: {}\n\n{body}", body.len()));
        }

        /// Time passes until it wants something; how many seconds.
        fn waits(&mut self) -> u64 {
            let due = self.server.deadline(&PATIENCE);
            let waited = due.saturating_sub(self.now.mono_ns);
            self.now = self.now.plus_ns(waited);
            self.happens(Event::Due);
            waited / SEC
        }

        fn take(&mut self) -> String {
            std::mem::take(&mut self.said).join("; ")
        }

        fn up(&mut self) {
            self.says(&format!("{GREETING}{OK}{OK}"));
            assert!(self.take().ends_with("connected"));
        }
    }

    fn up() -> World {
        let mut world = World::new("fs://:pw@10.0.0.1");
        assert_eq!(world.take(), "Open(10.0.0.1:8021)");
        world.happens(Event::Opened);
        world.up();
        world
    }

    #[test]
    fn heartbeats_are_the_load() {
        let mut world = up();
        world.beat(7);
        assert_eq!(world.take(), "Changed");
        assert_eq!(world.server.load.map(|(load, _)| load.sessions), Some(7));
    }

    #[test]
    fn one_that_is_lost_is_tried_again_later_and_later_and_said_once() {
        let mut world = up();
        world.beat(7);
        world.take();
        world.happens(Event::Closed("gone".into()));
        assert!(world.take().contains("10.0.0.1:8021: gone; the last load that it told counts"));
        let mut pauses = Vec::new();
        for attempt in 0..7 {
            pauses.push(world.waits());
            world.happens(Event::Closed("no connection".into()));
            let said = world.take();
            assert_eq!(said.contains("no connection"), attempt == 0, "{said}");
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(world.server.load.map(|(load, _)| load.sessions), Some(7), "it stays");
        world.waits();
        world.take();
        world.up();
        world.beat(8);
        world.happens(Event::Closed("gone".into()));
        assert_eq!(world.waits(), 1, "it was there: the first pause is short again");
    }

    #[test]
    fn one_that_says_nothing_is_given_up() {
        let mut world = World::new("fs://:pw@10.0.0.1");
        world.take();
        assert_eq!(world.waits(), 8);
        assert!(
            world.take().starts_with("Close; Warning freeswitch: 10.0.0.1:8021: it says nothing")
        );
        world.waits();
        world.says(GREETING);
        world.waits();
        assert!(world.take().contains("it does not answer to the password"));
    }

    #[test]
    fn silence_is_asked_about() {
        let mut world = up();
        assert_eq!(world.waits(), 60, "three are missing");
        let said = world.take();
        assert!(said.contains("event-heartbeat-interval") && said.ends_with("HEARTBEAT"), "{said}");
        world.says(OK);
        assert_eq!(world.waits(), 60, "it is there, and only rare");
        assert_eq!(world.take(), "event plain HEARTBEAT", "which is said once");
        assert_eq!(world.waits(), 3);
        assert!(world.take().contains("does not answer any more"));
        assert_eq!(world.server.state(), "lost");
    }

    #[test]
    fn a_name_is_looked_up_for_every_attempt() {
        let mut world = World::new("fs://:pw@fs.test:9");
        assert_eq!(world.take(), "Resolve");
        world.happens(Event::Resolved(Err("no such name".into())));
        assert!(world.take().contains("fs.test:9: no such name; its load is not known"));
        world.waits();
        let found = || Ok(vec![[10, 0, 0, 1].into(), [10, 0, 0, 2].into()]);
        world.happens(Event::Resolved(found()));
        assert_eq!(world.take(), "Resolve; Open(10.0.0.2:9)");
        world.happens(Event::Resolved(found()));
        world.happens(Event::Closed("gone".into()));
        world.waits();
        world.take();
        world.happens(Event::Resolved(found()));
        assert_eq!(world.take(), "Open(10.0.0.1:9)", "the next one");
    }
}
