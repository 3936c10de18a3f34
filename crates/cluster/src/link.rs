//! The link to a peer: is it there?
//!
//! PINGs follow their own schedule, whatever else is sent: replication traffic into a dead
//! connection must not hide that nobody answers. Only missing PONGs count as death; where the peer
//! shows in other ways that it lives, and the network is only slow, more than one has to be missing.

use tandem_clock::Mono;

/// States of a link, named as the protocol description does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkState {
    RestartPinging,
    RetrySendFail,
    Restarted,
    Up,
    Retrying,
    Down,
}

/// A PING that was not answered for so long is sent again to a peer that shows itself.
const PING_AGAIN_NS: u64 = 100 * tandem_clock::MS;

/// Intervals in nanoseconds, and the PINGs that may be lost after the first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkTimes {
    pub(crate) ping_interval_ns: u64,
    pub(crate) ping_timeout_ns: u64,
    pub(crate) node_timeout_ns: u64,
    pub(crate) retries: u32,
    /// A peer that is heard may be late with so many PONGs in a row.
    pub(crate) late_max: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Link {
    state: LinkState,
    retries_left: u32,
    last_ping: Option<Mono>,
    /// The first PONG after `last_ping`; those that follow answer nothing.
    last_pong: Option<Mono>,
    /// The last packet that was not a PONG.
    last_packet: Option<Mono>,
    /// The last PING asked for the node list.
    asked_list: bool,
    /// PINGs in a row whose PONG was not timely, while the link stayed up.
    late: u32,
}

/// What a tick asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Tick {
    /// Send a PING; with or without asking for the node list.
    pub(crate) ping: Option<bool>,
    /// The link was up and is not any more.
    pub(crate) lost: bool,
}

impl Tick {
    const NOTHING: Self = Self { ping: None, lost: false };
    const PING_LIST: Self = Self { ping: Some(true), lost: false };
}

impl Link {
    pub(crate) fn new() -> Self {
        Self {
            state: LinkState::RestartPinging,
            retries_left: 0,
            last_ping: None,
            last_pong: None,
            last_packet: None,
            asked_list: false,
            late: 0,
        }
    }

    pub(crate) fn state(&self) -> LinkState {
        self.state
    }

    pub(crate) fn is_up(&self) -> bool {
        self.state == LinkState::Up
    }

    /// The word of `clusterer:list`.
    pub(crate) fn word(&self) -> &'static str {
        match self.state {
            LinkState::Up => "Up",
            LinkState::Down => "Down",
            _ => "Probe",
        }
    }

    /// The heartbeat.
    pub(crate) fn tick(&mut self, now: Mono, t: &LinkTimes) -> Tick {
        let due = self.ping_is_older_than(now, t.ping_timeout_ns);
        let unanswered = due && !self.pong_is_timely(t);
        match self.state {
            LinkState::RestartPinging => self.ping(now, LinkState::Restarted),
            LinkState::RetrySendFail if due => {
                self.retries_left = self.retries_left.saturating_sub(1);
                self.ping(now, LinkState::Retrying)
            }
            LinkState::Restarted if unanswered => self.first_miss(now, t),
            LinkState::Up if unanswered && self.is_only_late(now, t) => {
                self.late += 1;
                self.on_own_ping(now);
                Tick { ping: Some(false), lost: false }
            }
            LinkState::Up if unanswered => Tick { lost: true, ..self.first_miss(now, t) },
            LinkState::Up if self.ping_is_older_than(now, t.ping_interval_ns) => {
                self.late = 0;
                self.on_own_ping(now);
                Tick { ping: Some(false), lost: false }
            }
            LinkState::Retrying if unanswered => self.next_miss(now),
            LinkState::Down if self.ping_is_older_than(now, t.node_timeout_ns) => {
                self.ping(now, LinkState::Restarted)
            }
            _ => Tick::NOTHING,
        }
    }

    /// A PONG came. True if the link has come up by it.
    pub(crate) fn on_pong(&mut self, now: Mono, t: &LinkTimes) -> bool {
        if self.last_pong < self.last_ping || self.last_pong.is_none() {
            self.last_pong = Some(now);
        }
        let recent =
            |at: Option<Mono>| at.is_some_and(|at| now.saturating_sub(at) <= t.ping_timeout_ns);
        let expected = match self.state {
            LinkState::Restarted | LinkState::Retrying => true,
            LinkState::RestartPinging | LinkState::RetrySendFail | LinkState::Down => {
                recent(self.last_ping)
            }
            LinkState::Up => false,
        };
        let alive = self.pong_is_timely(t) || recent(self.last_packet);
        if expected && alive {
            self.state = LinkState::Up;
            self.late = 0;
        }
        expected && alive
    }

    /// A PING without a wish for the node list leaves, and has to be answered like any other.
    pub(crate) fn on_own_ping(&mut self, now: Mono) {
        self.last_ping = Some(now);
        self.asked_list = false;
    }

    /// Whether a PONG that comes now brings the node list, be it empty.
    pub(crate) fn asked_list(&self) -> bool {
        self.asked_list
    }

    /// A PING came. True if it has to be answered with a PING of our own at once: the peer is there
    /// again, and a Tandem node that has just started answers no phone before it has heard of its
    /// peers. A stock node tells nothing before its own heartbeat has found us, so that we would
    /// come too early.
    pub(crate) fn on_ping(&mut self, now: Mono, is_tandem: bool) -> bool {
        let asks = match self.state {
            LinkState::Up => false,
            LinkState::Down => true,
            LinkState::RestartPinging | LinkState::RetrySendFail => is_tandem,
            // Ours may have gone to the last life of the peer.
            LinkState::Restarted | LinkState::Retrying => {
                is_tandem && self.ping_is_older_than(now, PING_AGAIN_NS)
            }
        };
        if asks {
            self.ping(now, LinkState::Restarted);
        }
        asks
    }

    pub(crate) fn on_packet(&mut self, now: Mono) {
        self.last_packet = Some(now);
    }

    /// When something came the last time.
    pub(crate) fn last_packet(&self) -> Option<Mono> {
        self.last_packet
    }

    /// A connect or a write failed. True if the link was up.
    pub(crate) fn on_send_failed(&mut self, t: &LinkTimes) -> bool {
        let was_up = self.is_up();
        self.state = match self.state {
            LinkState::Up => LinkState::RestartPinging,
            LinkState::Down => LinkState::Down,
            LinkState::RestartPinging | LinkState::Restarted if t.retries == 0 => LinkState::Down,
            LinkState::RestartPinging | LinkState::Restarted => {
                self.retries_left = t.retries;
                LinkState::RetrySendFail
            }
            _ if self.retries_left == 0 => LinkState::Down,
            _ => LinkState::RetrySendFail,
        };
        was_up
    }

    /// Starts over. True if the link was up.
    pub(crate) fn restart(&mut self) -> bool {
        let was_up = self.is_up();
        self.state = LinkState::RestartPinging;
        was_up
    }

    /// Silences the link. True if it was up.
    pub(crate) fn disable(&mut self) -> bool {
        let was_up = self.is_up();
        self.state = LinkState::Down;
        was_up
    }

    fn ping(&mut self, now: Mono, next: LinkState) -> Tick {
        self.last_ping = Some(now);
        self.asked_list = true;
        self.state = next;
        Tick::PING_LIST
    }

    fn first_miss(&mut self, now: Mono, t: &LinkTimes) -> Tick {
        if t.retries == 0 {
            self.state = LinkState::Down;
            return Tick::NOTHING;
        }
        self.retries_left = t.retries - 1;
        self.ping(now, LinkState::Retrying)
    }

    fn next_miss(&mut self, now: Mono) -> Tick {
        if self.retries_left == 0 {
            self.state = LinkState::Down;
            return Tick::NOTHING;
        }
        self.retries_left -= 1;
        self.ping(now, LinkState::Retrying)
    }

    /// The peer was heard since the PING should have been answered: to give the link up would make
    /// it miss what is on its way, and a new connection is no faster.
    fn is_only_late(&self, now: Mono, t: &LinkTimes) -> bool {
        let heard = self.last_packet.is_some_and(|at| now.saturating_sub(at) <= t.ping_timeout_ns);
        heard && self.late < t.late_max
    }

    fn ping_is_older_than(&self, now: Mono, ns: u64) -> bool {
        self.last_ping.is_none_or(|at| now.saturating_sub(at) >= ns)
    }

    fn pong_is_timely(&self, t: &LinkTimes) -> bool {
        match (self.last_ping, self.last_pong) {
            (Some(ping), Some(pong)) => pong >= ping && pong - ping <= t.ping_timeout_ns,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_clock::{MS, SEC};

    const T: LinkTimes = LinkTimes {
        ping_interval_ns: 4 * SEC,
        ping_timeout_ns: SEC,
        node_timeout_ns: 60 * SEC,
        retries: 3,
        late_max: 3,
    };

    fn up_at(now: Mono) -> Link {
        let mut link = Link::new();
        assert_eq!(link.tick(now, &T), Tick::PING_LIST);
        assert!(link.on_pong(now + MS, &T));
        link
    }

    #[test]
    fn a_fresh_link_pings_at_its_first_tick_and_is_up_with_a_timely_pong() {
        let link = up_at(SEC);
        assert!(link.is_up());
        assert_eq!(link.word(), "Up");
    }

    #[test]
    fn a_silent_peer_is_lost_with_the_first_miss_and_down_after_the_retries() {
        let mut link = up_at(SEC);
        assert_eq!(link.tick(2 * SEC, &T), Tick::NOTHING);
        assert_eq!(link.tick(5 * SEC, &T), Tick { ping: Some(false), lost: false });
        assert_eq!(link.tick(6 * SEC, &T), Tick { ping: Some(true), lost: true });
        assert_eq!(link.state(), LinkState::Retrying);
        assert_eq!(link.tick(7 * SEC, &T), Tick::PING_LIST);
        assert_eq!(link.tick(8 * SEC, &T), Tick::PING_LIST);
        assert_eq!(link.tick(9 * SEC, &T), Tick::NOTHING);
        assert_eq!(link.state(), LinkState::Down);
        assert_eq!(link.tick(60 * SEC, &T), Tick::NOTHING);
        assert_eq!(link.tick(68 * SEC, &T), Tick::PING_LIST);
        assert_eq!(link.state(), LinkState::Restarted);
    }

    #[test]
    fn a_peer_that_is_heard_may_answer_late_but_not_for_ever() {
        let mut link = up_at(SEC);
        link.tick(5 * SEC, &T);
        for late in 6..9 {
            link.on_packet(late * SEC - 10 * MS);
            assert_eq!(link.tick(late * SEC, &T), Tick { ping: Some(false), lost: false });
        }
        // One in time, and it may be late again.
        assert!(!link.on_pong(8 * SEC + 500 * MS, &T));
        assert_eq!(link.tick(9 * SEC, &T), Tick::NOTHING);
        link.tick(12 * SEC, &T);
        for late in 13..16 {
            link.on_packet(late * SEC - 10 * MS);
            assert!(!link.tick(late * SEC, &T).lost);
        }
        link.on_packet(16 * SEC - 10 * MS);
        assert!(link.tick(16 * SEC, &T).lost, "what we say does not arrive");
        // One that is not heard is given up at once, and so is a stock node.
        let mut link = up_at(SEC);
        link.on_packet(4 * SEC);
        link.tick(5 * SEC, &T);
        assert!(link.tick(6 * SEC, &T).lost);
        let mut link = up_at(SEC);
        link.tick(5 * SEC, &T);
        link.on_packet(6 * SEC);
        assert!(link.tick(6 * SEC, &LinkTimes { late_max: 0, ..T }).lost);
    }

    #[test]
    fn a_second_pong_makes_a_timely_one_no_later() {
        let mut link = up_at(SEC);
        assert!(!link.on_pong(3 * SEC, &T));
        assert_eq!(link.tick(4 * SEC, &T), Tick::NOTHING);
        assert!(link.is_up());
        link.on_own_ping(4 * SEC);
        assert!(!link.asked_list());
        assert_eq!(link.tick(5 * SEC, &T), Tick { ping: Some(true), lost: true });
        assert!(link.asked_list());
    }

    #[test]
    fn without_retries_the_first_miss_is_the_end() {
        let t = LinkTimes { retries: 0, ..T };
        let mut link = Link::new();
        link.tick(0, &t);
        assert_eq!(link.tick(SEC, &t), Tick::NOTHING);
        assert_eq!(link.state(), LinkState::Down);
        let mut link = up_at(0);
        link.tick(4 * SEC, &t);
        assert_eq!(link.tick(5 * SEC, &t), Tick { ping: None, lost: true });
        assert_eq!(link.state(), LinkState::Down);
    }

    #[test]
    fn failed_sends_use_up_the_retries() {
        let mut link = Link::new();
        link.tick(0, &T);
        assert!(!link.on_send_failed(&T));
        assert_eq!(link.state(), LinkState::RetrySendFail);
        assert_eq!(link.tick(MS, &T), Tick::NOTHING);
        for second in 1..=3 {
            assert_eq!(link.state(), LinkState::RetrySendFail);
            assert_eq!(link.tick(second * SEC, &T), Tick::PING_LIST);
            assert_eq!(link.state(), LinkState::Retrying);
            link.on_send_failed(&T);
        }
        assert_eq!(link.state(), LinkState::Down);
        let mut link = Link::new();
        link.tick(0, &T);
        link.on_send_failed(&LinkTimes { retries: 0, ..T });
        assert_eq!(link.state(), LinkState::Down);
    }

    #[test]
    fn a_send_failure_on_an_up_link_restarts_it() {
        let mut link = up_at(0);
        assert!(link.on_send_failed(&T));
        assert_eq!(link.state(), LinkState::RestartPinging);
        assert_eq!(link.tick(SEC, &T), Tick::PING_LIST);
        assert!(up_at(0).restart());
    }

    #[test]
    fn a_ping_from_a_down_peer_is_answered_with_a_ping() {
        let mut link = Link::new();
        link.disable();
        assert!(link.on_ping(SEC, false));
        assert_eq!(link.state(), LinkState::Restarted);
        assert!(!link.on_ping(SEC, false));
    }

    #[test]
    fn a_peer_that_was_started_again_is_pinged_when_it_shows_itself() {
        let mut link = up_at(SEC);
        assert!(link.on_send_failed(&T), "it died");
        link.tick(2 * SEC, &T);
        link.on_send_failed(&T);
        assert_eq!(link.state(), LinkState::RetrySendFail);
        assert!(link.on_ping(2 * SEC + 60 * MS, true));
        assert!(link.on_pong(2 * SEC + 61 * MS, &T));
        assert!(!link.on_ping(3 * SEC, true), "it is up");
        let mut link = Link::new();
        link.tick(SEC, &T);
        assert!(!link.on_ping(SEC + 50 * MS, true), "the answer may be on its way");
        assert!(!link.on_ping(SEC + 150 * MS, false) && link.on_ping(SEC + 150 * MS, true));
    }

    #[test]
    fn a_late_pong_counts_only_together_with_another_recent_packet() {
        let mut link = Link::new();
        link.tick(0, &T);
        assert!(!link.on_pong(2 * SEC, &T));
        link.on_packet(2 * SEC);
        assert!(link.on_pong(2 * SEC + MS, &T));
    }

    #[test]
    fn a_pong_to_a_ping_that_left_long_ago_does_not_bring_a_down_link_up() {
        let mut link = Link::new();
        link.tick(0, &T);
        link.disable();
        link.on_packet(5 * SEC);
        assert!(!link.on_pong(5 * SEC, &T));
        link.on_ping(5 * SEC, false);
        link.disable();
        assert!(link.on_pong(5 * SEC + MS, &T));
    }
}
