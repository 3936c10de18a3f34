//! What is sent to endpoints, and when: each has its turn once in an interval, in the slot that was
//! filled least when it came.

use std::sync::Arc;

use bytes::Bytes;
use tandem_clock::{Beat, MS, SEC};
use tandem_cluster::{Duty, TagTable};
use tandem_engine::effect::Send;
use tandem_engine::module::{Cx, Timer};
use tandem_engine::sockets::SocketId;
use tandem_engine::transport::via_line;
use tandem_sip::Message;

use crate::NatTraversal;
use crate::endpoints::Endpoint;

/// How the Call-ID of a keepalive begins.
const MARK: &[u8] = b"natka-";
const AHEAD_NS: u64 = 250 * MS;

/// Leave to act on this node's own initiative; without a duty where no tag decides.
struct Leave<'t>(#[expect(dead_code, reason = "to hold it is the proof")] Option<Duty<'t>>);

pub(crate) fn beat(interval_s: u64) -> Beat {
    Beat::new(interval_s.max(1).saturating_mul(SEC))
}

impl NatTraversal {
    pub(crate) fn begin(&self, cx: &mut Cx<'_>) {
        self.beat.lock().begin(cx.now.mono_ns);
        cx.set_timer(cx.now.after_ms(1), Timer { kind: 0, id: 0 });
    }

    /// Sends what is due, and comes back for the next ones.
    pub(crate) fn tick(&self, cx: &mut Cx<'_>) {
        let node = Arc::clone(cx.node);
        let leave = self.leave(node.membership().tags().map(|t| &**t));
        let (turns, next) = {
            let mut endpoints = self.endpoints.lock();
            let (mut beat, now) = (self.beat.lock(), cx.now.mono_ns);
            let due = beat.due(now, |slot| leave.is_none() || endpoints.is_empty(slot));
            let now_s = cx.now.unix_s();
            let turns: Vec<(Endpoint, SocketId)> =
                due.into_iter().flat_map(|slot| endpoints.turn(slot, now_s)).collect();
            let next = beat.next_at(now, AHEAD_NS, |s| leave.is_none() || endpoints.is_empty(s));
            (turns, next)
        };
        if let Some(leave) = &leave {
            for (endpoint, socket) in turns {
                self.keep_alive(cx, endpoint, socket, leave);
            }
        }
        cx.set_timer(next.max(cx.now.after_ms(1)), Timer { kind: 0, id: 0 });
    }

    fn leave<'t>(&self, tags: Option<&'t TagTable>) -> Option<Leave<'t>> {
        match &self.params.tag {
            None => Some(Leave(None)),
            Some((cluster, name)) => tags?.duty(name, *cluster).map(|duty| Leave(Some(duty))),
        }
    }

    /// Sends one; the leave is the proof that this node is to.
    fn keep_alive(&self, cx: &mut Cx<'_>, to: Endpoint, socket: SocketId, _: &Leave<'_>) {
        let node = Arc::clone(cx.node);
        let Some(own) = node.sockets.get(socket).filter(|s| s.is_held()) else { return };
        let is_gone = to.is_stream && !node.streams.leads_to(socket, to.addr);
        if is_gone || node.sockets.is_own(to.proto(), to.addr) {
            return;
        }
        let once = cx.worker.chance.u64();
        let (method, uri, host) = (&self.params.method, to.uri(), own.addr.ip());
        let via = via_line(&node, socket, format!("z9hG4bK{once:016x}").as_bytes());
        let own_from = || format!("sip:keepalive@{}", own.sent_by());
        let from = self.params.from.clone().unwrap_or_else(own_from);
        // RFC 6665 3.2.1: a NOTIFY names its event.
        let event = if method == "NOTIFY" { "Event: keep-alive\r\n" } else { "" };
        let payload = format!(
            "{method} {uri} SIP/2.0\r\n{}Max-Forwards: 70\r\nFrom: <{from}>;tag={once:08x}\r\n\
             To: <{uri}>\r\nCall-ID: natka-{once:016x}@{host}\r\nCSeq: 1 {method}\r\n{event}{}\
             Content-Length: 0\r\n\r\n",
            String::from_utf8_lossy(&via),
            self.params.headers,
        );
        cx.send(Send { socket, to: to.addr, payload: Bytes::from(payload), ticket: 0 }, 0);
    }

    /// Whether a reply is one to a keepalive: it has done its work by coming.
    pub(crate) fn is_answer(&self, reply: &Message) -> bool {
        reply.call_id().is_some_and(|id| id.starts_with(MARK))
            && reply.cseq().is_ok_and(|c| c.method_bytes == self.params.method.as_bytes())
    }
}
