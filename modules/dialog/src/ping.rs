//! Pings of the two sides: OPTIONS, or re-INVITE with the last body.

use tandem_clock::SEC;
use tandem_engine::log::Level;
use tandem_engine::module::Cx;

use crate::flags::Flags;
use crate::id::DialogId;
use crate::local::Ping;
use crate::record::{Dialog, EndReason, Side, State};
use crate::sequential::{Draft, Purpose};
use crate::state::Dialogs;

/// How a side is pinged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Options,
    Invite,
}

const SIDES: [Side; 2] = [Side::Caller, Side::Callee];

fn how(d: &Dialog, side: Side) -> Option<How> {
    let (options, invite) = match side {
        Side::Caller => (Flags::OPTIONS_PING_CALLER, Flags::REINVITE_PING_CALLER),
        Side::Callee => (Flags::OPTIONS_PING_CALLEE, Flags::REINVITE_PING_CALLEE),
    };
    // If both are asked for, re-INVITE tells more.
    if d.flags.has(invite) {
        return Some(How::Invite);
    }
    d.flags.has(options).then_some(How::Options)
}

impl Dialogs {
    fn interval_s(&self, how: How) -> u32 {
        match how {
            How::Options => self.params.options_interval_s,
            How::Invite => self.params.reinvite_interval_s,
        }
    }

    /// Plans the first pings of a dialog, somewhere within the interval, so that the calls of a
    /// busy hour or of a node that died do not all come due together.
    pub(crate) fn plan_pings(&self, cx: &mut Cx<'_>, id: DialogId) {
        let wanted = self.read(id, |d| SIDES.map(|side| how(d, side)));
        let Some(wanted) = wanted.filter(|w| w.iter().any(Option::is_some)) else { return };
        let now_s = cx.now.mono_ns / SEC;
        let next = wanted.map(|how| match how {
            Some(how) => now_s + 1 + u64::from(cx.worker.chance.below(self.interval_s(how))),
            None => 0,
        });
        self.table.local(id, |_, local| {
            local.pings = next.map(|next_s| Ping { next_s, ..Ping::default() });
        });
    }

    /// Sends the pings of a dialog that are due.
    pub(crate) fn ping_due(&self, cx: &mut Cx<'_>, id: DialogId) {
        let now_s = cx.now.mono_ns / SEC;
        let mut due = [None; 2];
        let acts = self.table.local(id, |d, local| {
            for (at, side) in SIDES.into_iter().enumerate() {
                let Some(ping) = local.pings.get_mut(at) else { continue };
                if ping.next_s == 0 || ping.next_s > now_s {
                    continue;
                }
                let Some(how) = how(d, side).filter(|_| d.state.is_alive()) else {
                    ping.next_s = 0;
                    continue;
                };
                // Nothing is sent before the ACK has come.
                let is_ready = d.state == State::Confirmed;
                let wait_s = if is_ready { u64::from(self.interval_s(how)) } else { 1 };
                ping.next_s = now_s + wait_s;
                if is_ready && !ping.is_open {
                    due[at] = Some(how);
                }
            }
            self.may_act(cx.node, d)
        });
        if acts != Some(true) {
            return;
        }
        for (side, how) in SIDES.into_iter().zip(due) {
            if let Some(how) = how {
                self.send_ping(cx, id, side, how);
            }
        }
    }

    fn send_ping(&self, cx: &mut Cx<'_>, id: DialogId, side: Side, how: How) {
        let sdp = self.read(id, |d| last_sdp(d, side).to_vec()).unwrap_or_default();
        let invite = how == How::Invite && !sdp.is_empty();
        let draft = if invite { Draft::of("INVITE").with_sdp(&sdp) } else { Draft::of("OPTIONS") };
        let is_early = self.took_over_lately(cx.now) || !self.leaves_here(cx, id, side);
        match self.send(cx, id, side, draft, Purpose::Ping { invite }) {
            Ok(_) => {
                self.mark(id, side, |ping| (ping.is_open, ping.is_early) = (true, is_early));
            }
            Err(why) => {
                cx.log(Level::Error, format!("dialog {id}: no ping to the {}: {why}", side.text()));
            }
        }
    }

    /// Whether this host holds the address that a side is reached from.
    fn leaves_here(&self, cx: &Cx<'_>, id: DialogId, side: Side) -> bool {
        let sockets = &cx.node.sockets;
        let is_held = |d: &Dialog| {
            let text = std::str::from_utf8(&d.leg(side)?.socket).ok()?;
            Some(sockets.get(sockets.resolve(text)?)?.is_held())
        };
        self.read(id, is_held).flatten().unwrap_or(true)
    }

    fn mark<T>(&self, id: DialogId, side: Side, change: impl FnOnce(&mut Ping) -> T) -> Option<T> {
        self.table.local(id, |_, local| local.pings.get_mut(side as usize).map(change)).flatten()
    }

    /// A ping has its final reply. 408 and 481 say that the side is gone (RFC 5057 5.1). So does
    /// the second one in a row that could not be sent: a phone that has lost its connection has
    /// the time until then to take another. One that left just after this node took over, or while
    /// its address was elsewhere, says nothing.
    pub(crate) fn ping_answered(
        &self,
        cx: &mut Cx<'_>,
        id: DialogId,
        side: Side,
        invite: bool,
        code: u16,
    ) {
        let moves = self.took_over_lately(cx.now) || !self.leaves_here(cx, id, side);
        let marked = self.mark(id, side, |ping| {
            ping.is_open = false;
            let says_nothing = std::mem::take(&mut ping.is_early) || moves;
            let unsent = code == 477 && !says_nothing;
            (std::mem::replace(&mut ping.unsent, unsent), says_nothing)
        });
        let Some((lost_before, says_nothing)) = marked else { return };
        let is_gone = matches!(code, 408 | 481) || (code == 477 && lost_before);
        // A side that did not find its way to this node yet is not gone.
        if !is_gone || says_nothing {
            return;
        }
        let acts = self.read(id, |d| d.state.is_answered() && self.may_act(cx.node, d));
        if acts == Some(true) {
            let reason = match (side, invite) {
                (Side::Caller, false) => EndReason::CallerPing,
                (Side::Callee, false) => EndReason::CalleePing,
                (Side::Caller, true) => EndReason::CallerReinvite,
                (Side::Callee, true) => EndReason::CalleeReinvite,
            };
            self.hang_up(cx, id, reason, b"");
        }
    }
}

/// The body that a side was sent last.
pub(crate) fn last_sdp(d: &Dialog, side: Side) -> &[u8] {
    let other = d.leg(side.other()).map_or(&b""[..], |leg| &leg.sdp_in);
    match d.leg(side) {
        Some(leg) if !leg.sdp_out.is_empty() => &leg.sdp_out,
        _ => other,
    }
}
