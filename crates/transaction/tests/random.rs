//! Random sequences of inputs: what always holds, whatever a phone, a proxy or a script does.

use crate::common;

use common::In::{self, *};
use common::World;
use proptest::collection::vec;
use proptest::prelude::*;
use tandem_clock::MS;
use tandem_transaction::{
    AlarmSnapshot, ClientState, Effect, Kind, Phase, ServerState, Settings, Timers, Transaction,
};

/// What the failure route does with a winner.
#[derive(Clone, Copy, Debug)]
enum Route {
    Send,
    Fork,
    Suspend,
}

/// The owner: relays what it is asked to, and runs its failure route.
struct Owner {
    world: World,
    clock_ms: u64,
    /// A winner whose failure route has not finished.
    suspended: Option<u16>,
    /// Codes of the replies that were accepted.
    sent: Vec<u16>,
    /// The upstream failed: it may be left without an answer.
    upstream_lost: bool,
}

impl Owner {
    fn new(world: World) -> Self {
        Self { world, clock_ms: 0, suspended: None, sent: Vec::new(), upstream_lost: false }
    }

    fn drive(&mut self, input: In, route: Route) -> Vec<Effect> {
        self.upstream_lost |= input == UpError;
        let input = match input {
            At(delay_ms) => {
                self.clock_ms += delay_ms;
                At(self.clock_ms)
            }
            other => other,
        };
        let suspended = self.suspended.take();
        self.feed(input);
        self.react(0, route);
        if let Some(code) = suspended {
            let seen = self.world.raw.len();
            self.finish_route(code, route);
            self.react(seen, route);
        }
        std::mem::take(&mut self.world.raw)
    }

    fn feed(&mut self, input: In) {
        self.world.step(input);
        if let (Up(code), None) = (input, &self.world.last_error) {
            self.sent.push(code);
        }
    }

    fn react(&mut self, mut seen: usize, route: Route) {
        while let Some(effect) = self.world.raw.get(seen).cloned() {
            seen += 1;
            match effect {
                Effect::Relay { code, .. } => {
                    self.feed(Up(code));
                    let failed = self.world.last_error.is_some();
                    // A timer may have run on since, in one step of the clock.
                    assert!(!failed || self.upstream_lost || code < 200, "relay of {code}");
                }
                Effect::Final { code, .. } => self.finish_route(code, route),
                _ => {}
            }
        }
    }

    fn finish_route(&mut self, code: u16, route: Route) {
        match route {
            Route::Send => self.feed(Up(code)),
            Route::Suspend => self.suspended = Some(code),
            Route::Fork => {
                self.feed(Udp);
                if self.world.last_error.is_some() {
                    self.feed(Up(code));
                }
            }
        }
    }

    /// Lets every route finish and every timer run.
    fn finish(&mut self) {
        self.drive(Ack, Route::Send);
        for _ in 0..10_000 {
            let fired = self.world.fire_next();
            self.react(0, Route::Send);
            self.world.raw.clear();
            if !fired {
                if self.world.tx.is_ended() {
                    return;
                }
                let open = self.world.tx.phase() == Phase::Open;
                assert!(open || self.upstream_lost, "nobody has the next move");
                self.feed(if open { Release } else { Up(500) });
            }
        }
        panic!("timers without end");
    }
}

fn code() -> impl Strategy<Value = u16> {
    prop_oneof![
        Just(100u16),
        Just(180),
        Just(183),
        Just(200),
        Just(302),
        Just(401),
        Just(404),
        Just(408),
        Just(487),
        Just(503),
        Just(603),
        any::<u16>(),
        100u16..700,
    ]
}

fn branch() -> impl Strategy<Value = u8> {
    prop_oneof![8 => 0u8..4, 1 => any::<u8>()]
}

fn input() -> impl Strategy<Value = In> {
    prop_oneof![
        3 => Just(Udp),
        1 => Just(Tcp),
        10 => (branch(), code()).prop_map(|(branch, code)| Reply(branch, code)),
        1 => (branch(), code()).prop_map(|(branch, code)| CancelReply(branch, code)),
        1 => branch().prop_map(SendError),
        1 => code().prop_map(Up),
        1 => Just(Request),
        1 => Just(Ack),
        1 => Just(Cancel),
        1 => Just(Release),
        1 => Just(Minor),
        1 => Just(Wait),
        1 => Just(NoMore),
        1 => (branch(), any::<bool>()).prop_map(|(branch, tcp)| Redirect(branch, tcp)),
        1 => branch().prop_map(CancelBranch),
        4 => (0u64..6_000).prop_map(At),
        1 => (0u64..130_000).prop_map(At),
    ]
}

fn route() -> impl Strategy<Value = Route> {
    prop_oneof![Just(Route::Send), Just(Route::Fork), Just(Route::Suspend)]
}

fn transaction() -> impl Strategy<Value = Transaction> {
    let kind = prop_oneof![2 => Just(Kind::Invite), 1 => Just(Kind::NonInvite)];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), 0..6);
    (kind, flags).prop_map(|(kind, flags)| {
        let (reliable, auto_cancel, restart_fr_on_each_reply, disable_6xx_block, local) = flags;
        let settings = Settings { auto_cancel, restart_fr_on_each_reply, disable_6xx_block };
        if local == 0 {
            Transaction::local(kind, Timers::default(), settings)
        } else {
            Transaction::new(kind, reliable, Timers::default(), settings)
        }
    })
}

/// One final reply; after it only 2xx, and those to INVITE only.
fn check_sent(kind: Kind, sent: &[u16]) -> Result<(), TestCaseError> {
    let finals: Vec<u16> = sent.iter().copied().skip_while(|&code| code < 200).collect();
    let Some((_, after)) = finals.split_first() else { return Ok(()) };
    prop_assert!(after.iter().all(|code| (200..300).contains(code)), "{:?}", sent);
    prop_assert!(kind == Kind::Invite || after.is_empty(), "{:?}", sent);
    Ok(())
}

/// What left for the upstream: after the final reply only that again, or 2xx to INVITE.
fn check_wire(kind: Kind, replies: &[u16]) -> Result<(), TestCaseError> {
    let Some(first) = replies.iter().position(|&code| code >= 200) else { return Ok(()) };
    for &code in &replies[first..] {
        let again = code == replies[first];
        let success = kind == Kind::Invite && (200..300).contains(&code);
        prop_assert!(again || success, "{:?}", replies);
    }
    Ok(())
}

fn replies(effects: &[Effect]) -> impl Iterator<Item = u16> + '_ {
    effects.iter().filter_map(|effect| match effect {
        Effect::SendReply { bytes } => std::str::from_utf8(bytes).ok()?.parse().ok(),
        _ => None,
    })
}

/// The effects as they would be with a clock that began at 0.
fn since(base: u64, mut effects: Vec<Effect>) -> Vec<Effect> {
    for effect in &mut effects {
        if let Effect::SetTimer { at, .. } = effect {
            *at -= base;
        }
    }
    effects
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn one_final_reply_and_an_end(
        tx in transaction(),
        inputs in vec((input(), route()), 0..60),
        upstream_fails in proptest::option::weighted(0.1, 0usize..60),
    ) {
        let kind = tx.kind();
        let mut owner = Owner::new(World::of(tx));
        let mut wire = Vec::new();
        for (number, (input, route)) in inputs.into_iter().enumerate() {
            let input = if upstream_fails == Some(number) { UpError } else { input };
            let ended_before = owner.world.tx.is_ended();
            let effects = owner.drive(input, route);
            prop_assert!(!ended_before || effects.is_empty(), "{:?}", effects);
            let ends = effects.iter().filter(|effect| **effect == Effect::Ended).count();
            prop_assert!(ends <= 1);
            wire.extend(replies(&effects));
            let branches = owner.world.tx.branches().count();
            prop_assert!(owner.world.wheel.len() <= 8 * (branches + 1), "{:?}", owner.world.wheel);
        }
        owner.finish();
        prop_assert!(owner.world.wheel.is_empty());
        check_sent(kind, &owner.sent)?;
        check_wire(kind, &wire)?;
        let forked = owner.world.tx.branches().count() > 0;
        let answered = owner.sent.iter().any(|&code| code >= 200);
        prop_assert!(!forked || answered || owner.upstream_lost, "{:?}", owner.sent);
        for branch in owner.world.tx.branches() {
            prop_assert_eq!(branch.state, ClientState::Terminated);
            prop_assert!(branch.outcome.is_some());
        }
    }

    #[test]
    fn restored_snapshot_behaves_like_the_transaction(
        tx in transaction(),
        base_ms in 0u64..1_000_000,
        inputs in vec((input(), route(), any::<bool>()), 0..60),
    ) {
        let mut moved = World::of(tx.clone());
        moved.base = base_ms * MS;
        moved.now = moved.now.plus_ns(moved.base);
        let (mut stays, mut moved) = (Owner::new(World::of(tx)), Owner::new(moved));
        for (input, route, restored) in inputs {
            let expected = stays.drive(input, route);
            let got = since(base_ms * MS, moved.drive(input, route));
            prop_assert_eq!(got, expected, "{:?}", input);
            let there = moved.world.tx.snapshot(moved.world.now);
            prop_assert_eq!(&there, &stays.world.tx.snapshot(stays.world.now));
            if restored {
                moved.world.restore(there).expect("a real snapshot");
            }
        }
    }

    #[test]
    fn snapshot_that_no_transaction_gave_is_refused_or_ends(
        tx in transaction(),
        inputs in vec((input(), route()), 0..30),
        server in 0usize..6,
        clients in vec(0usize..5, 4),
        phase in 0usize..4,
        set_start in 0u16..6,
        without_timers in any::<bool>(),
    ) {
        use ServerState as S;
        let servers =
            [S::Trying, S::Proceeding, S::Completed, S::Confirmed, S::Accepted, S::Terminated];
        use ClientState as C;
        let states = [C::Calling, C::Proceeding, C::Completed, C::Accepted, C::Terminated];
        let phases = [Phase::Open, Phase::Forking, Phase::Decided, Phase::Done];
        let mut owner = Owner::new(World::of(tx));
        for (input, route) in inputs {
            owner.drive(input, route);
        }
        let mut snapshot = owner.world.tx.snapshot(owner.world.now);
        snapshot.server.state = servers[server];
        snapshot.phase = phases[phase];
        snapshot.set_start = set_start;
        snapshot.ended = false;
        for (branch, state) in snapshot.branches.iter_mut().zip(clients) {
            branch.client.state = states[state];
            if without_timers {
                branch.client.deadline = AlarmSnapshot::default();
                branch.cancel = None;
            }
        }
        if without_timers {
            snapshot.server.deadline = AlarmSnapshot::default();
        }
        if owner.world.restore(snapshot).is_ok() {
            owner.upstream_lost = true;
            owner.finish();
        }
    }
}
