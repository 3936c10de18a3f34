//! What goes out through connections.

use std::sync::Arc;

use tandem_clock::Now;
use tandem_sip::Message;

use super::Streams;
use super::table::{Sent, end_of_life};
use crate::effect::{Effect, Out, Send, SendError};
use crate::log::Level;
use crate::sockets::Sockets;
use crate::worker::Worker;

/// How often a failure may lead to another send in one batch.
const ROUNDS_MAX: usize = 16;

impl Worker {
    /// Turns the sends through sockets of connections into writes and connects.
    pub(crate) fn route_streams(&mut self, now: Now, out: &mut Out) {
        let node = Arc::clone(self.node());
        if !node.streams.is_active() {
            return;
        }
        for _ in 0..ROUNDS_MAX {
            let failed = node.streams.route(now, &node.sockets, &mut out.effects);
            if failed.is_empty() {
                return;
            }
            if let Some(first) = failed.first() {
                let text = format!("nothing can be sent to tcp:{}: no connection", first.to);
                self.cx(now, out).log(Level::Warning, text);
            }
            self.sends_failed(now, failed, out);
        }
    }

    /// Tells the modules that sent them.
    pub(super) fn sends_failed(&mut self, now: Now, failed: Vec<Send>, out: &mut Out) {
        for send in failed.into_iter().filter(|send| send.ticket != 0) {
            self.tell_module(now, send.ticket, out, |module, cx, id| {
                module.send_failed(cx, id, SendError::Refused);
            });
        }
    }
}

impl Streams {
    /// Replaces sends by what carries them out; gives back those that cannot be.
    fn route(&self, now: Now, sockets: &Sockets, effects: &mut Vec<Effect>) -> Vec<Send> {
        let is_mine = |e: &Effect| matches!(e, Effect::Send(send) if self.is_stream(send.socket));
        let mut failed = Vec::new();
        if !effects.iter().any(is_mine) {
            return failed;
        }
        for effect in std::mem::take(effects) {
            match effect {
                Effect::Send(send) if self.is_stream(send.socket) => {
                    match self.send(now, sockets, send) {
                        Sent::Ok(effect) => effects.extend(effect),
                        Sent::Failed(send) => failed.push(send),
                    }
                }
                other => effects.push(other),
            }
        }
        failed
    }

    fn send(&self, now: Now, sockets: &Sockets, mut send: Send) -> Sent {
        let until = end_of_life(now, self.settings.lifetime_s);
        let mut table = self.table.lock();
        if let Some(id) = table.find(send.socket, send.to) {
            return table.send_on(id, send, until);
        }
        // RFC 3261 18.2.2: the connection of a request is gone; its reply goes where Via says.
        if send.payload.starts_with(b"SIP/2.0 ")
            && let Some(to) = via_address(&send)
        {
            send.to = to;
            if let Some(id) = table.find(send.socket, to) {
                return table.send_on(id, send, until);
            }
        }
        if table.len() >= self.settings.connections_max {
            return Sent::Failed(send);
        }
        table.open(sockets, send, until)
    }
}

fn via_address(send: &Send) -> Option<std::net::SocketAddr> {
    let msg = Message::parse(send.payload.clone()).ok()?;
    let via = msg.top_via().ok()?;
    let ip = via.received_ip().or_else(|| via.host_ip())?;
    Some(std::net::SocketAddr::new(ip, via.port_or_default()))
}
