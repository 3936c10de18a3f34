//! The machine of a transaction as bytes. See `wire.rs` for the form.
//!
//! Machine: 1 kind (0 INVITE), 2 lengths of timers (repeats, in the order of [`Timers`]), 3 settings
//! (bits), 4 server, 5 branch (repeats), 6 first branch of the set, 7 phase, 8 cancelled, declined,
//! ended (bits). Server: 1 local, reliable (bits), 2 state, 3 last code, 4 last reply, 5 interval,
//! 6 to 9 its timers. Branch: 1 request, 2 destination, 3 reliable, 4 `fr_inv` in ms, 5 role, 6 its
//! client, 7 that of its CANCEL, 8 why it is cancelled (1 to 4; with 1000 the code that the
//! transaction got), 9 last code, 10 result (with 65,536: made here), 11 reply. Client: 1 state,
//! 2 interval, 3 to 6 its timers. Timers: when one is due and when its entry comes back, for the
//! retransmission and for the end; nanoseconds, signed.

use bytes::Bytes;
use tandem_cluster::fields::{Fields, fields, int32, integer};
use tandem_transaction::{
    AlarmSnapshot, BranchSnapshot, CancelReason, ClientSnapshot, ClientState, Dest, Kind, Outcome,
    Phase, Role, ServerSnapshot, ServerState, Settings, Snapshot, Timers,
};

use super::values::{addr_of, bit, bits, copy, int16, put_addr};

/// The socket of a destination is that of its leg.
const NO_SOCKET: u32 = 0;

const KINDS: [Kind; 2] = [Kind::Invite, Kind::NonInvite];
const PHASES: [Phase; 4] = [Phase::Open, Phase::Forking, Phase::Decided, Phase::Done];
const ROLES: [Role; 3] = [Role::Normal, Role::Minor, Role::Phony];
const SERVER_STATES: [ServerState; 6] = [
    ServerState::Trying,
    ServerState::Proceeding,
    ServerState::Completed,
    ServerState::Confirmed,
    ServerState::Accepted,
    ServerState::Terminated,
];
const CLIENT_STATES: [ClientState; 5] = [
    ClientState::Calling,
    ClientState::Proceeding,
    ClientState::Completed,
    ClientState::Accepted,
    ClientState::Terminated,
];
const REASONS: [CancelReason; 4] = [
    CancelReason::Originator,
    CancelReason::CompletedElsewhere,
    CancelReason::NoAnswer,
    CancelReason::Script,
];
const ANSWERED: u64 = 1000;
const LOCAL: u64 = 1 << 16;

fn number_of<T: PartialEq>(all: &[T], one: &T) -> u64 {
    all.iter().position(|each| each == one).unwrap_or(0) as u64
}

fn one_of<T: Copy>(all: &[T], value: &[u8]) -> Option<T> {
    all.get(usize::try_from(integer(value)?).ok()?).copied()
}

pub(super) fn write(w: &mut Fields, snapshot: &Snapshot) {
    let Snapshot {
        kind,
        timers: Timers { t1_ms, t2_ms, fr_ms, fr_inv_ms, wait_ms },
        settings: Settings { auto_cancel, restart_fr_on_each_reply, disable_6xx_block },
        server,
        branches,
        set_start,
        phase,
        cancelled,
        declined,
        ended,
    } = snapshot;
    w.number(1, number_of(&KINDS, kind));
    for ms in [t1_ms, t2_ms, fr_ms, fr_inv_ms, wait_ms] {
        w.put_number(2, (*ms).into());
    }
    w.number(3, bits(&[*auto_cancel, *restart_fr_on_each_reply, *disable_6xx_block]));
    w.within(4, |w| write_server(w, server));
    for branch in branches {
        w.within(5, |w| write_branch(w, branch));
    }
    w.number(6, (*set_start).into());
    w.number(7, number_of(&PHASES, phase));
    w.number(8, bits(&[*cancelled, *declined, *ended]));
}

pub(super) fn read(bytes: &[u8]) -> Option<Snapshot> {
    let (mut lengths, mut server) = (Vec::new(), None);
    let mut this = Snapshot {
        kind: Kind::Invite,
        timers: Timers::default(),
        settings: Settings {
            auto_cancel: false,
            restart_fr_on_each_reply: false,
            disable_6xx_block: false,
        },
        server: no_server(),
        branches: Vec::new(),
        set_start: 0,
        phase: Phase::Open,
        cancelled: false,
        declined: false,
        ended: false,
    };
    for field in fields(bytes) {
        match field? {
            (1, value) => this.kind = one_of(&KINDS, value)?,
            (2, value) => lengths.push(int32(value)?),
            (3, value) => {
                this.settings = Settings {
                    auto_cancel: bit(value, 0)?,
                    restart_fr_on_each_reply: bit(value, 1)?,
                    disable_6xx_block: bit(value, 2)?,
                };
            }
            (4, value) => server = Some(read_server(value)?),
            (5, value) => this.branches.push(read_branch(value)?),
            (6, value) => this.set_start = int16(value)?,
            (7, value) => this.phase = one_of(&PHASES, value)?,
            (8, value) => {
                this.cancelled = bit(value, 0)?;
                this.declined = bit(value, 1)?;
                this.ended = bit(value, 2)?;
            }
            _ => {}
        }
    }
    let [t1_ms, t2_ms, fr_ms, fr_inv_ms, wait_ms] = lengths.try_into().ok()?;
    this.timers = Timers { t1_ms, t2_ms, fr_ms, fr_inv_ms, wait_ms };
    this.server = server?;
    Some(this)
}

fn write_server(w: &mut Fields, server: &ServerSnapshot) {
    let ServerSnapshot {
        local,
        reliable,
        state,
        last_code,
        last_reply,
        interval_ms,
        retransmit,
        deadline,
    } = server;
    w.number(1, bits(&[*local, *reliable]));
    w.number(2, number_of(&SERVER_STATES, state));
    w.number(3, (*last_code).into());
    w.text(4, last_reply);
    w.number(5, (*interval_ms).into());
    write_alarms(w, 6, retransmit, deadline);
}

fn read_server(bytes: &[u8]) -> Option<ServerSnapshot> {
    let mut this = no_server();
    for field in fields(bytes) {
        match field? {
            (1, value) => (this.local, this.reliable) = (bit(value, 0)?, bit(value, 1)?),
            (2, value) => this.state = one_of(&SERVER_STATES, value)?,
            (3, value) => this.last_code = int16(value)?,
            (4, value) => this.last_reply = copy(value),
            (5, value) => this.interval_ms = int32(value)?,
            (n @ 6..=9, value) => {
                read_alarm(n - 6, value, &mut this.retransmit, &mut this.deadline)?;
            }
            _ => {}
        }
    }
    Some(this)
}

fn no_server() -> ServerSnapshot {
    ServerSnapshot {
        local: false,
        reliable: false,
        state: ServerState::Trying,
        last_code: 0,
        last_reply: Bytes::new(),
        interval_ms: 0,
        retransmit: AlarmSnapshot::default(),
        deadline: AlarmSnapshot::default(),
    }
}

fn write_branch(w: &mut Fields, branch: &BranchSnapshot) {
    let BranchSnapshot {
        request,
        dest: Dest { socket: _, addr, reliable },
        fr_inv_ms,
        role,
        client,
        cancel,
        cancel_reason,
        last_code,
        outcome,
        reply,
    } = branch;
    w.text(1, request);
    put_addr(w, 2, *addr);
    w.number(3, (*reliable).into());
    w.number(4, (*fr_inv_ms).into());
    w.number(5, number_of(&ROLES, role));
    w.within(6, |w| write_client(w, client));
    if let Some(cancel) = cancel {
        w.within(7, |w| write_client(w, cancel));
    }
    w.number(
        8,
        match cancel_reason {
            None => 0,
            Some(CancelReason::Answered(code)) => ANSWERED + u64::from(*code),
            Some(reason) => number_of(&REASONS, reason) + 1,
        },
    );
    w.number(9, (*last_code).into());
    let result = |o: &Outcome| u64::from(o.code) | if o.local { LOCAL } else { 0 };
    w.number(10, outcome.as_ref().map_or(0, result));
    w.text(11, reply);
}

fn read_branch(bytes: &[u8]) -> Option<BranchSnapshot> {
    let (mut addr, mut reliable, mut client) = (None, false, None);
    let (mut request, mut reply) = (Bytes::new(), Bytes::new());
    let (mut fr_inv_ms, mut role, mut last_code) = (0, Role::Normal, 0);
    let (mut cancel, mut cancel_reason, mut outcome) = (None, None, None);
    for field in fields(bytes) {
        match field? {
            (1, value) => request = copy(value),
            (2, value) => addr = Some(addr_of(value)?),
            (3, value) => reliable = bit(value, 0)?,
            (4, value) => fr_inv_ms = int32(value)?,
            (5, value) => role = one_of(&ROLES, value)?,
            (6, value) => client = Some(read_client(value)?),
            (7, value) => cancel = Some(read_client(value)?),
            (8, value) => cancel_reason = Some(reason_of(integer(value)?)?),
            (9, value) => last_code = int16(value)?,
            (10, value) => {
                let number = integer(value)?;
                let (code, local) = (u16::try_from(number & (LOCAL - 1)).ok()?, number & LOCAL);
                outcome = Some(Outcome { code, local: local != 0 });
            }
            (11, value) => reply = copy(value),
            _ => {}
        }
    }
    let dest = Dest { socket: NO_SOCKET, addr: addr?, reliable };
    let client = client?;
    Some(BranchSnapshot {
        request,
        dest,
        fr_inv_ms,
        role,
        client,
        cancel,
        cancel_reason,
        last_code,
        outcome,
        reply,
    })
}

fn reason_of(number: u64) -> Option<CancelReason> {
    match number.checked_sub(ANSWERED) {
        Some(code) => Some(CancelReason::Answered(u16::try_from(code).ok()?)),
        None => REASONS.get(usize::try_from(number.checked_sub(1)?).ok()?).copied(),
    }
}

fn write_client(w: &mut Fields, client: &ClientSnapshot) {
    let ClientSnapshot { state, interval_ms, retransmit, deadline } = client;
    w.number(1, number_of(&CLIENT_STATES, state));
    w.number(2, (*interval_ms).into());
    write_alarms(w, 3, retransmit, deadline);
}

fn read_client(bytes: &[u8]) -> Option<ClientSnapshot> {
    let none = AlarmSnapshot::default();
    let mut this = ClientSnapshot {
        state: ClientState::Calling,
        interval_ms: 0,
        retransmit: none,
        deadline: none,
    };
    for field in fields(bytes) {
        match field? {
            (1, value) => this.state = one_of(&CLIENT_STATES, value)?,
            (2, value) => this.interval_ms = int32(value)?,
            (n @ 3..=6, value) => {
                read_alarm(n - 3, value, &mut this.retransmit, &mut this.deadline)?;
            }
            _ => {}
        }
    }
    Some(this)
}

fn write_alarms(w: &mut Fields, first: u8, retransmit: &AlarmSnapshot, deadline: &AlarmSnapshot) {
    let all =
        [retransmit.due_in_ns, retransmit.entry_in_ns, deadline.due_in_ns, deadline.entry_in_ns];
    for (n, ns) in (first..).zip(all) {
        if let Some(ns) = ns {
            w.put_number(n, ns.cast_unsigned());
        }
    }
}

fn read_alarm(
    which: u8,
    value: &[u8],
    retransmit: &mut AlarmSnapshot,
    deadline: &mut AlarmSnapshot,
) -> Option<()> {
    let ns = Some(integer(value)?.cast_signed());
    match which {
        0 => retransmit.due_in_ns = ns,
        1 => retransmit.entry_in_ns = ns,
        2 => deadline.due_in_ns = ns,
        _ => deadline.entry_in_ns = ns,
    }
    Some(())
}
