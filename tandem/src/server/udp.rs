//! The UDP sockets of the node, and what every worker thread does with its effects.
//!
//! A socket is opened once and read by one thread, so that a batch holds all that has come; every
//! thread sends through it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tandem_clock::Now;
use tandem_engine::effect::{Effect, Input, Out, Send, SendError};
use tandem_engine::log::Level;
use tandem_engine::node::Node;
use tandem_engine::sockets::{Proto, SocketId, Sockets};
use tandem_engine::worker::Worker;
use tandem_net::{UdpOptions, UdpSocket};
use tokio::sync::mpsc;

use super::Shared;

/// The UDP sockets of a node.
pub(super) struct SocketTable(BTreeMap<SocketId, UdpSocket>);

impl SocketTable {
    pub(super) fn open(node: &Node) -> Result<Self, String> {
        let mut sockets = BTreeMap::new();
        for (id, socket) in node.sockets.listening().filter(|(_, s)| s.proto == Proto::Udp) {
            let defaults = UdpOptions::default();
            let recv_buffer_bytes = node.recv_buffer_bytes().unwrap_or(defaults.recv_buffer_bytes);
            let options = UdpOptions { tos: socket.tos, recv_buffer_bytes, ..defaults };
            let udp = UdpSocket::open(socket.addr, options)
                .map_err(|e| format!("tandem: cannot listen on {}: {e}", socket.text()))?;
            sockets.insert(id, udp);
        }
        Ok(Self(sockets))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SocketId, &UdpSocket)> {
        self.0.iter().map(|(id, udp)| (*id, udp))
    }

    pub(super) fn get(&self, id: SocketId) -> Option<&UdpSocket> {
        self.0.get(&id)
    }

    /// Sends datagrams and empties `sends`; gives back those with a ticket that did not leave.
    pub(super) fn send(&self, known: &Sockets, sends: &mut Vec<Send>) -> Vec<(u64, SendError)> {
        let mut failed = Vec::new();
        // The sort is stable: what goes to one target leaves in order.
        if !sends.is_sorted_by_key(|s| s.socket) {
            sends.sort_by_key(|s| s.socket);
        }
        for batch in sends.chunk_by(|a, b| a.socket == b.socket) {
            let Some((opened, from)) = batch.first().map(|s| known.opened(s.socket)) else {
                continue;
            };
            let Some(socket) = self.get(opened) else { continue };
            let mut failures = Vec::new();
            socket.send_each(batch, |s| ((s.to, from), &s.payload), &mut failures);
            for failure in failures {
                let error = match failure.error {
                    tandem_net::SendError::NotHolder => SendError::NotHolder,
                    _ => SendError::Refused,
                };
                failed.extend(batch.get(failure.index).map(|s| (s.ticket, error)));
            }
        }
        sends.clear();
        failed.retain(|(ticket, _)| *ticket != 0);
        failed
    }
}

/// One step, with the promise that a bug in it costs one message and not the service.
pub(super) fn step(shared: &Shared, worker: &mut Worker, now: Now, input: Input, out: &mut Out) {
    let is_message = matches!(input, Input::Datagram { .. } | Input::Stream(_));
    let timed = shared.node.times_steps(worker.id(), is_message);
    let begun = timed.then(|| shared.clock.now());
    if catch_unwind(AssertUnwindSafe(|| worker.step(now, input, out))).is_err() {
        let text = "a step failed by a bug; the message it was about is lost, and what else comes \
                    of its call in the next minute is dropped. Please report this.";
        super::log::line(shared.clock.now(), Level::Alert, text);
        worker.failed(now, out);
    }
    if let Some(begun) = begun {
        let took_ns = shared.clock.now().mono_ns.saturating_sub(begun.mono_ns);
        worker.took(now, took_ns / 1_000, out);
    }
}

/// The end of a batch, with the same promise.
pub(super) fn finish(worker: &mut Worker, now: Now, out: &mut Out) {
    if catch_unwind(AssertUnwindSafe(|| worker.finish(now, out))).is_err() {
        super::log::line(now, Level::Alert, "the end of a batch failed by a bug");
        worker.failed(now, out);
    }
}

/// Gives effects to the control thread. A worker never waits for it: when it is hopelessly
/// behind, what it would do is lost, and said so.
pub(super) fn hand_over(
    shared: &Shared,
    control: &mpsc::Sender<Vec<Effect>>,
    effects: Vec<Effect>,
) {
    if let Err(mpsc::error::TrySendError::Full(lost)) = control.try_send(effects) {
        let text = format!("the control thread is behind: {} effects were dropped", lost.len());
        super::log::line(shared.clock.now(), Level::Critical, &text);
    }
}
