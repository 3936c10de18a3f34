//! A worker gets the processor: it takes what waits for it, one input after the other, and ends
//! its batch.

use bytes::Bytes;
use tandem_clock::Now;
use tandem_engine::effect::{Effect, Input, Out};
use tandem_engine::worker::Worker;
use tandem_sip::{Message, Method};

use super::World;
use super::queue::Life;
use crate::checkers::duty;
use crate::options::Dice;

/// The tag of the example scripts.
pub(super) const TAG: (&str, u32) = ("service", 1);
/// Between two turns of a worker that has more to do at once.
const BREATH_NS: u64 = 20_000;
/// Rounds of effects that lead to effects in one turn, as in the server.
const ROUNDS_MAX: usize = 16;

/// What one step of a worker has sent, with what it was entitled to.
struct Judged {
    /// Sent of its own accord: what, the bytes, and whether with the duty to.
    own: Vec<(String, Bytes, bool)>,
    /// 200 to REGISTER: Call-ID, CSeq, whether through a gate.
    replies: Vec<(String, u32, bool)>,
    /// 200 to INVITE: Call-ID, whether through a gate.
    answers: Vec<(String, bool)>,
    pings: u64,
}

impl World {
    /// Starts a node that was just built.
    pub(super) fn begin(&mut self, of: Life) {
        let true_now = self.now;
        let Some(now) = self.running(of).map(|h| h.clock.at(true_now)) else { return };
        let Some(place) = self.place(of, 0) else { return };
        let mut out = Out::default();
        let sockets = place.worker.node().sockets.iter();
        let held = sockets.map(|(_, socket)| (socket.addr.ip(), true)).collect();
        place.worker.step(now, Input::Addresses(held), &mut out);
        place.worker.start(now, &mut out);
        place.worker.finish(now, &mut out);
        for effect in std::mem::take(&mut out.effects) {
            self.carry_out(of, effect);
        }
        self.rest_of_turn(of, 0);
    }

    pub(super) fn turn(&mut self, of: Life, worker: usize, at: u64) {
        let true_now = self.now;
        let Some(now) = self.running(of).map(|h| h.clock.at(true_now)) else { return };
        let Some(place) = self.place(of, worker) else { return };
        // An earlier turn was wanted since, and has been.
        if place.wake != Some(at) {
            return;
        }
        place.wake = None;
        let waiting = place.inbox.len();
        let batch = self.dice.between(1, waiting.max(1) as u64) as usize;
        let Some(place) = self.place(of, worker) else { return };
        let inputs: Vec<Input> = place.inbox.drain(..batch.min(waiting)).collect();
        let mut judged =
            Judged { own: Vec::new(), replies: Vec::new(), answers: Vec::new(), pings: 0 };
        let mut effects = Vec::new();
        let mut out = Out::default();
        let held = has_duty(&place.worker);
        for input in inputs {
            watched(&mut place.worker, &mut out, &mut effects, &mut judged, |worker, out| {
                worker.step(now, input, out);
            });
        }
        for _ in 0..ROUNDS_MAX {
            let before = effects.len();
            watched(&mut place.worker, &mut out, &mut effects, &mut judged, |worker, out| {
                worker.finish(now, out);
            });
            if effects.len() == before {
                break;
            }
        }
        self.judge(of, judged);
        // What it changed as the holder leaves at the end of the turn, in which it may step down.
        self.held_before = held.then_some(of);
        for effect in effects {
            self.carry_out(of, effect);
        }
        self.rest_of_turn(of, worker);
    }

    /// When the worker wants the processor again.
    fn rest_of_turn(&mut self, of: Life, worker: usize) {
        let now = self.now;
        let Some(clock) = self.running(of).map(|h| h.clock) else { return };
        let Some(place) = self.place(of, worker) else { return };
        let deadline = place.worker.next_deadline().map(|at| clock.true_time(at));
        let more = (!place.inbox.is_empty()).then_some(now);
        if let Some(at) = deadline.into_iter().chain(more).min() {
            self.wake(of, worker, at.max(now + BREATH_NS));
        }
    }

    fn judge(&mut self, of: Life, judged: Judged) {
        self.counts.pings += judged.pings;
        for (what, bytes, entitled) in judged.own {
            // A request that was sent with the duty is repeated until it is answered.
            if entitled {
                self.entitled.insert(bytes);
                continue;
            }
            if bytes.len() > 4 && self.entitled.contains(&bytes) {
                continue;
            }
            let text = format!("node {} sent {what} without holding service/1", of.node);
            self.violate(duty::NAME, text);
        }
        for (call_id, cseq, is_gated) in judged.replies {
            if is_gated {
                self.counts.gated += 1;
            } else {
                self.counts.ungated += 1;
            }
            self.lost.reply_left(of.node, &call_id, cseq, is_gated);
        }
        for (call_id, is_gated) in judged.answers {
            self.calls.answer_left(self.now, of.node, &call_id, is_gated);
        }
    }
}

/// Runs something on a worker and looks at what it sends. What it held before or after is what
/// it was entitled to: it may lose the tag in the same step in which it has pinged.
fn watched(
    worker: &mut Worker,
    out: &mut Out,
    effects: &mut Vec<Effect>,
    judged: &mut Judged,
    run: impl FnOnce(&mut Worker, &mut Out),
) {
    let had_duty = has_duty(worker);
    let (_, ungated_before, _) = worker.node().gate_totals();
    run(worker, out);
    let (_, ungated_after, _) = worker.node().gate_totals();
    let is_gated = ungated_before == ungated_after;
    for effect in &out.effects {
        let Effect::Send(send) = effect else { continue };
        if let Some(what) = duty::self_initiated(&send.payload) {
            judged.pings += 1;
            let entitled = had_duty || has_duty(worker);
            judged.own.push((format!("{what} to {}", send.to), send.payload.clone(), entitled));
        } else if let Some((call_id, cseq, method)) = success(&send.payload) {
            match method {
                Method::Register => judged.replies.push((call_id, cseq, is_gated)),
                Method::Invite => judged.answers.push((call_id, is_gated)),
                _ => {}
            }
        }
    }
    effects.append(&mut out.effects);
}

pub(super) fn has_duty(worker: &Worker) -> bool {
    let tags = worker.node().membership().tags();
    tags.is_some_and(|tags| tags.duty(TAG.0, TAG.1).is_some())
}

/// Call-ID, CSeq and method of a 200.
fn success(payload: &Bytes) -> Option<(String, u32, Method)> {
    if !payload.starts_with(b"SIP/2.0 200") {
        return None;
    }
    let msg = Message::parse(payload.clone()).ok()?;
    let cseq = msg.cseq().ok()?;
    Some((String::from_utf8_lossy(msg.call_id()?).into_owned(), cseq.number, cseq.method))
}

/// The time on a host, for those who look at it from outside.
pub(super) fn host_now(world: &World, host: &super::host::Host) -> Now {
    host.clock.at(world.now)
}
