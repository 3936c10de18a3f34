//! What becomes of calls, from their transactions and dialogs.

use std::sync::Arc;

use tandem_dialog::{Change, Created, Dialog, Dialogs, Flags};
use tandem_engine::attached::TxMoment;
use tandem_engine::context::Ctx;
use tandem_engine::dialog::{DialogEvent, DialogMoment};
use tandem_engine::log::Level;
use tandem_engine::module::Cx;
use tandem_sip::{Message, Method};

use crate::history::{Stat, Tally};
use crate::order::now_s;
use crate::state::{NAME, Qrouting};
use crate::table::RuleKey;
use crate::tries::{Tries, Try, pack, unpack};

impl Qrouting {
    /// A request is routed by a rule that is sorted by quality; `None`: by something else.
    pub(crate) fn begin(&self, cx: &mut Cx<'_>, ctx: &mut Ctx, to: Option<(RuleKey, &str)>) {
        let slot = self.slot;
        let known = ctx.attached.get::<Tries>(slot);
        let is_call = ctx.msg.method() == Method::Invite && ctx.msg.to_tag().is_none();
        let is_call = is_call || known.is_some();
        let Some((rule, gateway)) = to.filter(|_| is_call) else {
            if let Some(tries) = known {
                tries.0.lock().gateway = None;
            }
            return;
        };
        let tries = known.unwrap_or_else(|| {
            let tries = Arc::new(Tries::default());
            ctx.attached.put(slot, Arc::clone(&tries) as _);
            tries
        });
        let dialog = self.dialog_of(cx, ctx);
        let mut state = tries.0.lock();
        state.rule = Some(rule);
        state.gateway = Some(gateway.into());
        state.is_new = true;
        state.dialog = dialog.or(state.dialog);
    }

    /// The same request goes to the next gateway.
    pub(crate) fn go_on(&self, ctx: &Ctx, gateway: &str) {
        if let Some(tries) = ctx.attached.get::<Tries>(self.slot) {
            let mut state = tries.0.lock();
            if state.rule.is_some() && state.gateway.is_some() {
                state.gateway = Some(gateway.into());
                state.is_new = true;
            }
        }
    }

    /// The dialog of a call, made if the script has made none: it tells how long the call lasts.
    fn dialog_of(&self, cx: &mut Cx<'_>, ctx: &mut Ctx) -> Option<tandem_dialog::DialogId> {
        let (_, dialogs) = cx.node.find::<Dialogs>()?;
        if ctx.msg.is_request() {
            match dialogs.create(cx, ctx, Flags::default()) {
                Ok(Created::New | Created::Known | Created::DealtWith) => {}
                Err(why) => {
                    cx.log(Level::Warning, format!("qrouting: a call has no dialog: {why}"))
                }
            }
        }
        dialogs.current(ctx).map(|current| current.id)
    }

    /// A transaction with tries tells something.
    pub(crate) fn heard(&self, cx: &mut Cx<'_>, tries: &Tries, moment: &TxMoment) {
        match moment {
            TxMoment::Sent { branch, .. } => tries.0.lock().sent(*branch, cx.now.mono_ns),
            TxMoment::Received { branch, reply } => self.replied(cx, tries, *branch, reply),
            TxMoment::Failed { .. } | TxMoment::Ended => {
                let open = tries.0.lock().give_up();
                for one in open {
                    // Nobody has answered.
                    self.count(cx, &one, Stat::Asr, 0.0);
                    self.count(cx, &one, Stat::Ccr, 0.0);
                }
            }
            TxMoment::Replied { .. } | TxMoment::Cancelled => {}
        }
    }

    fn replied(&self, cx: &mut Cx<'_>, tries: &Tries, branch: u8, reply: &Message) {
        let code = reply.status();
        let (one, rings) = {
            let mut state = tries.0.lock();
            let Some(open) = state.open(branch) else { return };
            let rings = matches!(code, 180 | 183) && !open.rang;
            open.rang |= rings;
            open.done = code >= 200;
            (open.clone(), rings)
        };
        let passed_ms = (cx.now.mono_ns.saturating_sub(one.sent_ns)) as f64 / 1e6;
        let was_sent_here = one.sent_ns != 0;
        if rings && was_sent_here {
            self.count(cx, &one, Stat::Pdd, passed_ms);
        }
        if code < 200 {
            return;
        }
        let is_answered = code < 300;
        self.count(cx, &one, Stat::Asr, f64::from(u8::from(is_answered)));
        self.count(cx, &one, Stat::Ccr, f64::from(u8::from(code < 500)));
        if !is_answered {
            return;
        }
        if was_sent_here {
            self.count(cx, &one, Stat::Ast, passed_ms);
        }
        let dialog = tries.0.lock().dialog;
        if let (Some(id), Some((_, dialogs))) = (dialog, cx.node.find::<Dialogs>()) {
            let bytes = pack(&one.rule, &one.gateway).into();
            let section = Change::Section { module: NAME.as_bytes().into(), bytes };
            if let Err(why) = dialogs.change(cx, id, section) {
                cx.log(Level::Warning, format!("qrouting: the dialog {id}: {why}"));
            }
        }
    }

    /// The dialog of a call tells something.
    pub(crate) fn dialog_told(&self, cx: &mut Cx<'_>, event: &DialogEvent<'_>) {
        let Some(dialog) = event.record.downcast_ref::<Dialog>() else { return };
        if event.moment != DialogMoment::Ended || dialog.answered_s == 0 {
            return;
        }
        let Some((rule, gateway)) = dialog.section(NAME).and_then(|bytes| unpack(bytes)) else {
            return;
        };
        let lasted_s = cx.now.unix_s().saturating_sub(dialog.answered_s.into());
        self.add(now_s(cx), &rule, &gateway, Stat::Acd as usize, one(lasted_s as f64));
    }

    fn count(&self, cx: &Cx<'_>, of: &Try, stat: Stat, value: f64) {
        self.add(now_s(cx), &of.rule, &of.gateway, stat as usize, one(value));
    }

    /// Adds samples to a statistic of a gateway; false: there is no room.
    pub(crate) fn add(
        &self,
        now_s: u64,
        rule: &RuleKey,
        gateway: &str,
        at: usize,
        tally: Tally,
    ) -> bool {
        let Some(stats) = self.table.of(rule) else { return false };
        let (span, count) = (self.params.span, self.params.stats.len());
        stats.lock().add((span, now_s, count), gateway, at, tally);
        true
    }
}

fn one(value: f64) -> Tally {
    Tally { sum: value, samples: 1.0 }
}
