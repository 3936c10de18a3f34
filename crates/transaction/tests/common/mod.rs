//! A transaction with its owner's wheel and a clock that is stepped.

#![allow(dead_code, reason = "each test file uses its part")]

use std::net::SocketAddr;

use bytes::Bytes;
use tandem_clock::{MS, Mono, Now};
use tandem_transaction::{
    BranchError, BranchIndex, BranchSpec, CancelReason, Dest, Effect, Effects, Heard, Kind,
    ReplyError, RestoreError, Settings, Snapshot, Timer, Timers, Transaction,
};

/// An input. Branches are numbers, times milliseconds since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum In {
    /// A branch over UDP or TCP.
    Udp,
    Tcp,
    Reply(u8, u16),
    CancelReply(u8, u16),
    SendError(u8),
    /// The owner replies upstream.
    Up(u16),
    UpError,
    Request,
    Ack,
    Cancel,
    Release,
    /// A branch that the set does not wait for.
    Minor,
    /// Further branches are waited for, or no more.
    Wait,
    NoMore,
    /// A branch goes elsewhere, over TCP if so.
    Redirect(u8, bool),
    /// The script cancels a branch.
    CancelBranch(u8),
    /// Time goes on until then; timers fire.
    At(u64),
}

pub(crate) struct World {
    pub(crate) tx: Transaction,
    pub(crate) now: Now,
    pub(crate) wheel: Vec<(Mono, Timer)>,
    pub(crate) log: Vec<String>,
    pub(crate) last_heard: Option<Heard>,
    pub(crate) last_error: Option<String>,
    /// Everything that was asked for, timers included.
    pub(crate) raw: Vec<Effect>,
    /// The clock of this node at the start.
    pub(crate) base: Mono,
    out: Effects,
}

impl World {
    pub(crate) fn new(kind: Kind, reliable_upstream: bool) -> Self {
        Self::of(Transaction::new(kind, reliable_upstream, Timers::default(), Settings::default()))
    }

    pub(crate) fn invite() -> Self {
        Self::new(Kind::Invite, false)
    }

    pub(crate) fn of(tx: Transaction) -> Self {
        Self {
            tx,
            now: Now { mono_ns: 0, unix_ms: 0 },
            wheel: Vec::new(),
            log: Vec::new(),
            last_heard: None,
            last_error: None,
            raw: Vec::new(),
            base: 0,
            out: Effects::new(),
        }
    }

    /// Goes on with a transaction that was restored from a snapshot, on a wheel of its own.
    pub(crate) fn restore(&mut self, snapshot: Snapshot) -> Result<(), RestoreError> {
        self.tx = Transaction::restore(snapshot, self.now, &mut self.out)?;
        self.wheel.clear();
        for effect in self.out.drain() {
            let Effect::SetTimer { timer, at } = effect else { panic!("{effect:?}") };
            self.wheel.push((at, timer));
        }
        Ok(())
    }

    /// Gives the inputs, one after another, and returns what was asked for.
    pub(crate) fn run(&mut self, inputs: &[In]) -> Vec<String> {
        for &input in inputs {
            self.step(input);
        }
        std::mem::take(&mut self.log)
    }

    /// The timers that fire until `ms`, with what they caused: "500 branch 0".
    pub(crate) fn timeline(&mut self, ms: u64) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some((at, timer)) = self.pop(ms * MS) {
            self.fire(at, timer);
            let at_ms = self.now.mono_ns / MS;
            lines.extend(self.log.drain(..).map(|line| format!("{at_ms} {line}")));
        }
        self.set_time(ms * MS);
        lines
    }

    pub(crate) fn step(&mut self, input: In) {
        self.last_error = None;
        let (now, out, tx) = (self.now, &mut self.out, &mut self.tx);
        match input {
            In::Udp => self.last_error = error(tx.add_branch(now, spec(false), out)),
            In::Tcp => self.last_error = error(tx.add_branch(now, spec(true), out)),
            In::Reply(branch, code) => {
                let reply = Bytes::from(format!("{code}"));
                self.last_heard = Some(tx.on_reply(now, BranchIndex(branch), code, reply, out));
            }
            In::CancelReply(branch, code) => {
                tx.on_cancel_reply(now, BranchIndex(branch), code, out);
            }
            In::SendError(branch) => tx.on_send_error(now, BranchIndex(branch), 477, out),
            In::Up(code) => {
                let bytes = Bytes::from(format!("{code}"));
                self.last_error = reply_error(tx.reply(now, code, bytes, out));
            }
            In::UpError => tx.on_reply_send_error(now, out),
            In::Request => tx.on_request_retransmission(out),
            In::Ack => tx.on_ack(now, out),
            In::Cancel => tx.on_cancel(now, out),
            In::Release => tx.release(now, out),
            In::Minor => {
                let spec = BranchSpec { minor: true, ..spec(false) };
                self.last_error = error(tx.add_branch(now, spec, out));
            }
            In::Wait => self.last_error = error(tx.wait_for_branches(now, out)),
            In::NoMore => tx.stop_waiting(now, out),
            In::Redirect(branch, reliable) => {
                let BranchSpec { request, dest, .. } = spec(reliable);
                tx.redirect_branch(now, BranchIndex(branch), (request, dest), out);
            }
            In::CancelBranch(branch) => tx.cancel_branch(now, BranchIndex(branch), out),
            In::At(ms) => {
                let until = self.base + ms * MS;
                while let Some((at, timer)) = self.pop(until) {
                    self.fire(at, timer);
                }
                self.set_time(until);
            }
        }
        self.collect();
    }

    fn fire(&mut self, at: Mono, timer: Timer) {
        self.set_time(at);
        self.tx.on_timer(self.now, timer, at, &mut self.out);
        self.collect();
    }

    pub(crate) fn fire_next(&mut self) -> bool {
        let Some((at, timer)) = self.pop(u64::MAX) else { return false };
        self.fire(at, timer);
        true
    }

    fn pop(&mut self, until: Mono) -> Option<(Mono, Timer)> {
        let due = |(_, (at, _)): &(usize, &(Mono, Timer))| *at <= until;
        let entries = self.wheel.iter().enumerate().filter(due);
        let next = entries.min_by_key(|(_, (at, timer))| (*at, order(*timer)))?.0;
        Some(self.wheel.remove(next))
    }

    fn set_time(&mut self, mono_ns: Mono) {
        let mono_ns = mono_ns.max(self.now.mono_ns);
        self.now = Now { mono_ns, unix_ms: mono_ns / MS };
    }

    fn collect(&mut self) {
        for effect in self.out.drain() {
            self.raw.push(effect.clone());
            match effect {
                Effect::SetTimer { timer, at } => self.wheel.push((at, timer)),
                other => self.log.push(text(&other)),
            }
        }
    }
}

pub(crate) fn spec(reliable: bool) -> BranchSpec {
    let addr = SocketAddr::from(([192, 0, 2, 1], 5060));
    BranchSpec {
        request: Bytes::from_static(b"request"),
        dest: Dest { socket: 1, addr, reliable },
        fr_ms: None,
        fr_inv_ms: None,
        minor: false,
    }
}

/// The order of entries of the same instant: by machine, whatever the timer is called now.
fn order(timer: Timer) -> (u8, u8) {
    match timer {
        Timer::A(branch) | Timer::E(branch) => (branch.0, 0),
        Timer::Fr(b) | Timer::FrInv(b) | Timer::D(b) | Timer::K(b) | Timer::M(b) => (b.0, 1),
        Timer::CancelE(branch) => (branch.0, 2),
        Timer::CancelFr(branch) => (branch.0, 3),
        Timer::G => (0, 4),
        Timer::H | Timer::I | Timer::J | Timer::L | Timer::Wait => (0, 5),
    }
}

fn error(result: Result<BranchIndex, BranchError>) -> Option<String> {
    result.err().map(|error| format!("{error:?}"))
}

fn reply_error(result: Result<(), ReplyError>) -> Option<String> {
    result.err().map(|error| format!("{error:?}"))
}

fn text(effect: &Effect) -> String {
    let by = |local: &bool| if *local { " local" } else { "" };
    match effect {
        Effect::SendReply { bytes } => format!("up {}", String::from_utf8_lossy(bytes)),
        Effect::SendBranch { branch, .. } => format!("branch {}", branch.0),
        Effect::SendAck { branch } => format!("ack {}", branch.0),
        Effect::SendCancel { branch, reason } => {
            format!("cancel {} {}", branch.0, reason_text(*reason))
        }
        Effect::SetTimer { timer, at } => format!("timer {timer:?} {at}"),
        Effect::Relay { branch, code } => format!("relay {} {code}", branch.0),
        Effect::BranchEnded { branch, code, local } => {
            format!("over {} {code}{}", branch.0, by(local))
        }
        Effect::Final { branch: Some(branch), code, local } => {
            format!("final {} {code}{}", branch.0, by(local))
        }
        Effect::Final { branch: None, code, local } => format!("final - {code}{}", by(local)),
        Effect::Ended => "ended".to_owned(),
    }
}

fn reason_text(reason: CancelReason) -> String {
    match reason {
        CancelReason::Originator => "originator".to_owned(),
        CancelReason::CompletedElsewhere => "elsewhere".to_owned(),
        CancelReason::NoAnswer => "no-answer".to_owned(),
        CancelReason::Script => "script".to_owned(),
        CancelReason::Answered(code) => format!("answered-{code}"),
    }
}
