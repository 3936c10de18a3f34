//! Calls amid a separation: two nodes that do not see each other both serve, and each phone talks
//! to one of them. However the messages of a call fall, it has one record with its true duration.

use serde_json::json;
use tandem_dialog::record::State;
use tandem_dialog::{Dialog, Dialogs};
use tandem_engine::testing::Nodes;

use crate::common::{CALLEE, CALLER, from_callee, reply_to, within};
use crate::pair::{pair_with, records, ring};

/// When the phones are divided between the nodes, from the moment in which those part.
const DIVIDED_MS: i64 = 1_000;

/// When one of them serves alone again, from the moment in which they see each other.
const ELECTED_MS: i64 = 800;
/// How far a duration may be from the true one.
const TOLERANCE_MS: i64 = 1_000;

/// How a call falls; times in ms from the moment in which the nodes part.
#[derive(Debug, Clone, Copy)]
struct Case {
    answer_ms: i64,
    /// The INVITE, too, comes when the nodes are apart already.
    invite_is_late: bool,
    /// The answer and its ACK go over this node, whatever the phones talk to otherwise.
    strays: Option<usize>,
    /// The nodes that the phones talk to.
    caller: usize,
    callee: usize,
    /// The caller sends a re-INVITE then.
    refresh_ms: Option<i64>,
    bye_ms: i64,
    callee_ends: bool,
    heal_ms: i64,
    /// Serves alone from then on.
    winner: usize,
    /// The first node does not only part, it dies before the phones are divided.
    dies: bool,
}

fn activate(pair: &mut Nodes, at: usize) {
    pair.mi(at, "clusterer_shtag_set_active", json!(["vip/1"]));
}

/// What happens to the nodes, and when.
type Event = (i64, fn(&mut Nodes, Case));

struct Scene {
    pair: Nodes,
    case: Case,
    now_ms: i64,
    /// What is sent now goes over this node.
    strays: Option<usize>,
}

impl Scene {
    fn wait_until(&mut self, ms: i64) {
        for (at, what) in self.events() {
            if self.now_ms < at && at <= ms {
                self.pair.advance_ms(u64::try_from(at - self.now_ms).unwrap());
                self.now_ms = at;
                what(&mut self.pair, self.case);
            }
        }
        self.pair.advance_ms(u64::try_from(ms - self.now_ms).unwrap_or(0));
        self.now_ms = ms.max(self.now_ms);
    }

    fn events(&self) -> [Event; 5] {
        [
            (0, |pair, _| pair.part()),
            (DIVIDED_MS - 50, |pair, case| {
                if case.dies {
                    pair.kill(0);
                }
            }),
            (DIVIDED_MS, |pair, _| activate(pair, 1)),
            (self.case.heal_ms, |pair, case| {
                pair.heal();
                if case.dies {
                    pair.boot(0);
                }
            }),
            (self.case.heal_ms + ELECTED_MS, |pair, case| activate(pair, case.winner)),
        ]
    }

    /// The node that a phone talks to now.
    fn node_of(&self, phone: &str) -> usize {
        match self.now_ms {
            _ if self.strays.is_some() => self.strays.unwrap(),
            ms if ms < DIVIDED_MS => 0,
            ms if ms >= self.case.heal_ms + ELECTED_MS => self.case.winner,
            _ if phone == CALLER => self.case.caller,
            _ => self.case.callee,
        }
    }

    /// What the other phone gets of a message, which is repeated if need be.
    fn pass(&mut self, from: &str, text: &str) -> String {
        let to = if from == CALLER { CALLEE } else { CALLER };
        let start = text.lines().next().unwrap_or_default().to_owned();
        let method = start.split(' ').next().unwrap_or_default();
        for _ in 0..6 {
            let at = self.node_of(from);
            self.pair.datagrams.clear();
            self.pair.udp(at, from, text);
            for wait_ms in [0, 30, 200] {
                self.wait_until(self.now_ms + wait_ms);
                let sent = self.pair.datagrams.iter();
                let mut got = sent.filter(|(_, addr, text)| {
                    addr.to_string() == to
                        && (method == "SIP/2.0") == text.starts_with("SIP/2.0")
                        && text.starts_with(&start[..start.len().min(11)])
                });
                if let Some((.., text)) = got.next() {
                    return text.clone();
                }
            }
            self.wait_until(self.now_ms + 300);
        }
        panic!("{:?}: {start} does not get through\n{:#?}", self.case, self.pair.logs);
    }
}

fn play(case: Case, params: &str, tolerance_ms: i64) -> Result<(), String> {
    let mut scene = Scene { pair: pair_with(params), case, now_ms: -700, strays: None };
    if case.invite_is_late {
        scene.wait_until(100);
    }
    let invite = ring(&mut scene.pair, 0);
    scene.now_ms += 200;
    scene.wait_until(case.answer_ms);
    scene.strays = case.strays;
    let contact = format!("Contact: <sip:bob@{CALLEE}>\nContent-Length");
    let answer = |request: &str| reply_to(request, 200, "").replace("Content-Length", &contact);
    let ok = scene.pass(CALLEE, &answer(&invite));
    let answered_ms = scene.now_ms;
    scene.pass(CALLER, &within(&ok, "ACK", 1));
    scene.strays = None;
    if let Some(ms) = case.refresh_ms {
        scene.wait_until(ms.max(scene.now_ms));
        let again = scene.pass(CALLER, &within(&ok, "INVITE", 2));
        scene.pass(CALLEE, &answer(&again));
        scene.pass(CALLER, &within(&ok, "ACK", 2));
    }
    scene.wait_until(case.bye_ms.max(scene.now_ms));
    let ended_ms = scene.now_ms;
    if case.callee_ends {
        let bye = scene.pass(CALLEE, &from_callee(&invite, "BYE", 1));
        scene.pass(CALLER, &reply_to(&bye, 200, ""));
    } else {
        let bye = scene.pass(CALLER, &within(&ok, "BYE", 3));
        scene.pass(CALLEE, &reply_to(&bye, 200, ""));
    }
    scene.wait_until(case.heal_ms.max(scene.now_ms) + 30_000);
    let lasted_ms = ended_ms - answered_ms;
    let of = |line: &str| -> Option<i64> {
        line.split("ms_duration=").nth(1)?.split(';').next()?.parse().ok()
    };
    let durations: Vec<_> = records(&scene.pair).into_iter().filter_map(of).collect();
    let alive = |d: &Dialog| d.state != State::Deleted;
    let left: usize = (0..2)
        .map(|at| {
            let dialogs = scene.pair.node(at).find::<Dialogs>().unwrap().1;
            dialogs
                .table
                .ids()
                .into_iter()
                .filter(|id| dialogs.read(*id, alive) == Some(true))
                .count()
        })
        .sum();
    let good =
        durations.len() == 1 && (durations[0] - lasted_ms).abs() <= tolerance_ms && left == 0;
    good.then_some(()).ok_or_else(|| {
        format!("{case:?}: lasted {lasted_ms} ms, billed {durations:?}, {left} dialogs left")
    })
}

/// Of the cases each so manieth is played: all of them take a minute.
const EACH: usize = 3;
/// A call that nobody answers fails by then.
const FAILS_MS: i64 = 25_000;

/// Heal, re-INVITE, BYE.
const SHAPES: [(i64, Option<i64>, i64); 11] = [
    (3_000, None, 2_500),
    (3_000, Some(2_000), 2_500),
    (3_000, Some(2_000), 6_000),
    (3_000, None, 6_000),
    (30_000, None, 6_000),
    (30_000, None, 22_000),
    (30_000, Some(4_000), 22_000),
    (30_000, Some(20_000), 22_000),
    (30_000, None, 35_000),
    (30_000, Some(20_000), 35_000),
    (30_000, Some(33_000), 35_000),
];

/// Plays all cases of some kind.
fn play_all(answers_ms: &[i64], places: &[(usize, usize)], [dies, strays, late]: [bool; 3]) {
    let (mut wrong, mut cases) = (Vec::new(), 0);
    for answer_ms in answers_ms.iter().copied() {
        for (caller, callee) in places.iter().copied() {
            for (callee_ends, winner) in [(false, 0), (false, 1), (true, 0), (true, 1)] {
                for (heal_ms, refresh_ms, bye_ms) in SHAPES {
                    let case = Case {
                        answer_ms,
                        caller,
                        callee,
                        refresh_ms,
                        bye_ms,
                        callee_ends,
                        invite_is_late: late,
                        strays: strays.then_some(1),
                        heal_ms,
                        winner,
                        dies,
                    };
                    // When the callee was asked again and was silent, the call has failed here.
                    let is_failed = dies && bye_ms > FAILS_MS;
                    cases += 1;
                    if cases % EACH == 0 && !is_failed {
                        wrong.extend(play(case, "", TOLERANCE_MS).err());
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

const PLACES: [(usize, usize); 4] = [(0, 0), (0, 1), (1, 0), (1, 1)];

#[test]
fn a_call_that_is_answered_as_the_nodes_part_has_one_record() {
    play_all(&[-300, -5, 20, 400], &PLACES, [false; 3]);
}

#[test]
fn a_call_that_is_answered_while_the_nodes_are_apart_has_one_record() {
    play_all(&[1_500, 20_000], &PLACES, [false; 3]);
}

#[test]
fn a_call_that_is_answered_as_its_node_dies_has_one_record() {
    play_all(&[-300, -5, 20, 400], &[(1, 1)], [true, false, false]);
}

#[test]
fn a_call_whose_answer_strays_as_the_nodes_part_has_one_record() {
    play_all(&[400], &PLACES, [false, true, false]);
    play_all(&[400], &PLACES, [false, true, true]);
}

#[test]
fn a_call_that_begins_as_the_nodes_part_has_one_record() {
    play_all(&[400, 1_500, 20_000], &PLACES, [false, false, true]);
}

/// The INVITE of a call whose answer strayed fails before the node comes back that saw it.
#[test]
fn a_call_whose_invite_fails_meanwhile_has_one_record() {
    let params = "modparam(\"tm\", \"fr_inv_timeout\", 20)";
    for (refresh_ms, bye_ms, invite_is_late) in [
        (Some(4_000), 22_000, false),
        (Some(4_000), 22_000, true),
        (Some(4_000), 18_000, true),
        (None, 22_000, false),
        (Some(4_000), 35_000, false),
    ] {
        let case = Case {
            answer_ms: 400,
            invite_is_late,
            strays: Some(1),
            caller: 0,
            callee: 0,
            refresh_ms,
            bye_ms,
            callee_ends: false,
            heal_ms: 30_000,
            winner: 0,
            dies: false,
        };
        // Where nobody else saw the answer, it is taken to begin with the re-INVITE.
        assert_eq!(play(case, params, 4_500), Ok(()));
    }
}

/// Its phones talk to the second node only then, which rings them by that time: the first one lives,
/// and tells when it comes back.
#[test]
fn a_call_that_is_answered_long_after_the_nodes_part_has_its_true_duration() {
    for (callee_ends, refresh_ms) in [(false, None), (true, None), (false, Some(20_200))] {
        let case = Case {
            answer_ms: 20_000,
            invite_is_late: false,
            strays: Some(0),
            caller: 1,
            callee: 1,
            refresh_ms,
            bye_ms: 20_300,
            callee_ends,
            heal_ms: 30_000,
            winner: 1,
            dies: false,
        };
        assert_eq!(play(case, "", TOLERANCE_MS), Ok(()));
    }
}
