//! Client transactions of a phone over UDP: RFC 3261 17.1.

use std::net::SocketAddr;

use bytes::Bytes;
use tandem_clock::{MS, Mono};

const T1_MS: u64 = 500;
const T2_MS: u64 = 4_000;
/// Timers B and F.
const TIMEOUT_MS: u64 = 64 * T1_MS;

/// A request that waits for its final reply.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) request: Bytes,
    pub(crate) to: SocketAddr,
    pub(crate) is_invite: bool,
    interval_ms: u64,
    timeout_at: Mono,
    has_provisional: bool,
}

/// What a transaction does when its timer fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fired {
    /// Send again, and wake me then.
    Again(Mono),
    /// Wait for the final reply; wake me then.
    Wait(Mono),
    TimedOut,
}

impl Client {
    pub(crate) fn new(request: Bytes, to: SocketAddr, is_invite: bool, now: Mono) -> Self {
        let timeout_at = now + TIMEOUT_MS * MS;
        Self { request, to, is_invite, interval_ms: T1_MS, timeout_at, has_provisional: false }
    }

    pub(crate) fn first_wake(now: Mono) -> Mono {
        now + T1_MS * MS
    }

    pub(crate) fn provisional(&mut self, now: Mono) {
        self.has_provisional = true;
        if self.is_invite {
            // Timer B ends with the first provisional reply; the phone rings for two minutes.
            self.timeout_at = now + 120_000 * MS;
        }
    }

    pub(crate) fn fire(&mut self, now: Mono) -> Fired {
        if now >= self.timeout_at {
            return Fired::TimedOut;
        }
        if self.has_provisional && self.is_invite {
            return Fired::Wait(self.timeout_at);
        }
        let longest = if self.is_invite { TIMEOUT_MS } else { T2_MS };
        self.interval_ms =
            if self.has_provisional { T2_MS } else { (self.interval_ms * 2).min(longest) };
        Fired::Again((now + self.interval_ms * MS).min(self.timeout_at))
    }
}

/// The retransmission of a 200 to INVITE until its ACK: RFC 3261 13.3.1.4.
#[derive(Debug)]
pub(crate) struct Resend {
    interval_ms: u64,
    until: Mono,
}

impl Resend {
    pub(crate) fn new(now: Mono) -> Self {
        Self { interval_ms: T1_MS, until: now + TIMEOUT_MS * MS }
    }

    pub(crate) fn first_wake(now: Mono) -> Mono {
        now + T1_MS * MS
    }

    /// When to send again; `None`: give up.
    pub(crate) fn fire(&mut self, now: Mono) -> Option<Mono> {
        self.interval_ms = (self.interval_ms * 2).min(T2_MS);
        (now < self.until).then(|| now + self.interval_ms * MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(is_invite: bool) -> Vec<u64> {
        let to = "127.0.0.1:5060".parse().unwrap();
        let mut client = Client::new(Bytes::new(), to, is_invite, 0);
        let mut at = Client::first_wake(0);
        let mut sent = Vec::new();
        while let Fired::Again(next) = client.fire(at) {
            sent.push(at / MS);
            at = next;
        }
        assert_eq!(at / MS, TIMEOUT_MS);
        sent
    }

    #[test]
    fn an_invite_doubles_its_interval_until_timer_b() {
        assert_eq!(times(true), [500, 1_500, 3_500, 7_500, 15_500, 31_500]);
    }

    #[test]
    fn another_request_doubles_up_to_t2_until_timer_f() {
        assert_eq!(times(false)[..5], [500, 1_500, 3_500, 7_500, 11_500]);
        assert_eq!(times(false).last(), Some(&31_500));
    }

    #[test]
    fn a_provisional_reply_stops_the_retransmission_of_an_invite() {
        let to = "127.0.0.1:5060".parse().unwrap();
        let mut client = Client::new(Bytes::new(), to, true, 0);
        client.provisional(100 * MS);
        assert!(matches!(client.fire(500 * MS), Fired::Wait(_)));
    }
}
