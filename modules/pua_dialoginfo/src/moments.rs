//! What happens to a call, and what is published of it.

use bytes::Bytes;
use tandem_dialog::{Change, Dialog};
use tandem_engine::attached::TxMoment;
use tandem_engine::dialog::{DialogEvent, DialogMoment};
use tandem_engine::log::Level;
use tandem_engine::module::Cx;
use tandem_pua::{Event, Key, Publication, Source};
use tandem_sip::Method;

use crate::document::{CONTENT_TYPE, Phase, View, document};
use crate::plan::{CALLEE, CALLER, Plan};
use crate::state::DialogInfo;
use crate::watch::Watched;

impl DialogInfo {
    /// The INVITE of a call tells something.
    pub(crate) fn heard(&self, cx: &mut Cx<'_>, watched: &Watched, moment: &TxMoment) {
        match moment {
            TxMoment::Sent { branch, .. } if self.params.on_trying => {
                self.progress(cx, watched, Some(*branch), Phase::Trying);
            }
            TxMoment::Received { branch, reply } => match reply.status() {
                0..=100 => {}
                101..=199 => self.progress(cx, watched, Some(*branch), Phase::Early),
                200..=299 => self.answered_on(cx, watched, *branch),
                _ => self.failed_on(cx, watched, *branch),
            },
            _ => {}
        }
    }

    /// It is tried, or it rings.
    fn progress(&self, cx: &mut Cx<'_>, watched: &Watched, branch: Option<u8>, phase: Phase) {
        let Some((dialog, plan)) = self.read(cx, watched) else { return };
        if dialog.answered_s != 0 || !dialog.state.is_alive() {
            return;
        }
        for side in [CALLER, CALLEE] {
            if plan.told_of(branch) & side == 0 {
                continue;
            }
            let number = if side == CALLEE { plan.called_on(branch).1 } else { 0 };
            let shown = match side {
                CALLER if self.params.caller_confirmed => Phase::Confirmed,
                _ => phase,
            };
            if watched.is_news(side, number, shown) {
                self.publish(cx, &dialog, &plan, (side, branch), shown);
            }
        }
    }

    /// The branch whose callee has answered is kept in the dialog; the answer itself comes with
    /// the dialog's.
    fn answered_on(&self, cx: &mut Cx<'_>, watched: &Watched, branch: u8) {
        let Some((dialog, mut plan)) = self.read(cx, watched) else { return };
        if dialog.answered_s == 0 && plan.answered.is_none() {
            plan.answered = Some(branch);
            self.keep(cx, &dialog, plan.section());
        }
    }

    /// A callee of its own branch has not answered.
    fn failed_on(&self, cx: &mut Cx<'_>, watched: &Watched, branch: u8) {
        let Some((dialog, plan)) = self.read(cx, watched) else { return };
        if plan.branch(branch).is_some_and(|b| b.callee.is_some()) {
            self.over(cx, &dialog, &plan, (CALLEE, Some(branch)));
        }
    }

    /// A dialog tells something.
    pub(crate) fn dialog_event(&self, cx: &mut Cx<'_>, event: &DialogEvent<'_>) {
        let Some(dialog) = event.record.downcast_ref::<Dialog>() else { return };
        let Some(plan) = Plan::of(dialog) else { return };
        match event.moment {
            DialogMoment::Answered => self.confirmed(cx, dialog, &plan),
            DialogMoment::Request => {
                let is_reinvite = event.message.is_some_and(|m| m.method() == Method::Invite);
                let is_quiet = event.flags & self.params.nopublish != 0;
                if is_reinvite && !is_quiet && dialog.state.is_answered() {
                    self.confirmed(cx, dialog, &plan);
                }
            }
            DialogMoment::Ended => self.ended(cx, dialog, &plan),
            DialogMoment::Created | DialogMoment::EndedElsewhere | DialogMoment::Owed => {}
        }
    }

    fn confirmed(&self, cx: &mut Cx<'_>, dialog: &Dialog, plan: &Plan) {
        for side in [CALLER, CALLEE] {
            if plan.told_of(plan.answered) & side != 0 {
                self.publish(cx, dialog, plan, (side, plan.answered), Phase::Confirmed);
            }
        }
        self.others_over(cx, dialog, plan);
    }

    fn ended(&self, cx: &mut Cx<'_>, dialog: &Dialog, plan: &Plan) {
        self.over(cx, dialog, plan, (CALLER, plan.answered));
        self.over(cx, dialog, plan, (CALLEE, plan.answered));
        self.others_over(cx, dialog, plan);
    }

    /// Whoever else was called is not on the phone.
    fn others_over(&self, cx: &mut Cx<'_>, dialog: &Dialog, plan: &Plan) {
        let winner = plan.called_on(plan.answered).1;
        let others = plan.branches.iter().filter(|b| b.callee.is_some() && b.number != winner);
        for branch in others {
            self.over(cx, dialog, plan, (CALLEE, Some(branch.number)));
        }
        if winner != 0 {
            self.over(cx, dialog, plan, (CALLEE, None));
        }
    }

    /// Tells that a side is not on the phone any more, if it was told to be.
    fn over(&self, cx: &mut Cx<'_>, dialog: &Dialog, plan: &Plan, who: (u8, Option<u8>)) {
        if plan.sides & who.0 == 0 {
            return;
        }
        let key = key_of(dialog, plan, who);
        // A node that has no records of the others has to say it without knowing.
        let must = dialog.answered_s != 0
            && who.1 == plan.answered
            && plan.told_of(plan.answered) & who.0 != 0;
        if self.pua.is_published(&key) || must {
            self.publish(cx, dialog, plan, who, Phase::Terminated);
        }
    }

    /// Publishes what a side is doing; `who` is the side, and the branch that it is about.
    fn publish(
        &self,
        cx: &mut Cx<'_>,
        dialog: &Dialog,
        plan: &Plan,
        who: (u8, Option<u8>),
        phase: Phase,
    ) {
        let (side, branch) = who;
        let key = key_of(dialog, plan, who);
        let (callee, _) = plan.called_on(branch);
        let is_caller = side == CALLER;
        let (local, remote) =
            if is_caller { (&plan.caller, callee) } else { (callee, &plan.caller) };
        let (from_tag, to_tag) = (&dialog.caller.tag[..], dialog.to_tag());
        let (local_tag, remote_tag) =
            if is_caller { (from_tag, to_tag) } else { (to_tag, from_tag) };
        let started_ms = u64::from(dialog.start_s) * 1000;
        let view = View {
            id: &String::from_utf8_lossy(&key.id),
            call_id: &dialog.call_id,
            local,
            local_tag,
            remote,
            remote_tag,
            is_caller,
            phase,
            version: cx.now.unix_ms.saturating_sub(started_ms),
        };
        let now_s = cx.now.unix_s();
        let expires_s = match phase {
            // A server that follows RFC 3903 takes no body with the end of a publication.
            Phase::Terminated if self.params.server_merges => Some(0),
            Phase::Terminated => Some(1),
            _ => {
                let left = u64::from(dialog.expires_s).saturating_sub(now_s).max(1);
                Some(u32::try_from(left).unwrap_or(u32::MAX))
            }
        };
        let publication = Publication {
            body: Bytes::from(document(&view, &self.params)),
            content_type: Bytes::from_static(CONTENT_TYPE),
            expires_s,
            next_hop: self.params.server.clone(),
            ..Publication::default()
        };
        let published = cx.for_slot(self.pua_slot, |cx| self.pua.publish(cx, &key, &publication));
        if let Err(why) = published {
            let uri = String::from_utf8_lossy(&key.uri).into_owned();
            cx.log(Level::Error, format!("pua_dialoginfo: {uri} is not published: {why}"));
        }
    }

    pub(crate) fn keep(&self, cx: &mut Cx<'_>, dialog: &Dialog, change: Change) {
        if let Some(dialogs) = self.dialogs(cx)
            && let Err(why) = dialogs.change(cx, dialog.id, change)
        {
            cx.log(Level::Error, format!("pua_dialoginfo: the dialog {}: {why}", dialog.id));
        }
    }

    fn read(&self, cx: &Cx<'_>, watched: &Watched) -> Option<(Dialog, Plan)> {
        let dialogs = self.dialogs(cx)?;
        let dialog = dialogs.read(watched.id, Dialog::clone)?;
        let plan = Plan::of(&dialog)?;
        Some((dialog, plan))
    }
}

/// The name of what is published for a side.
fn key_of(dialog: &Dialog, plan: &Plan, (side, branch): (u8, Option<u8>)) -> Key {
    let (party, number) = match side {
        CALLER => (&plan.caller, 0),
        _ => plan.called_on(branch),
    };
    let id = [&dialog.call_id[..], format!(".{number}").as_bytes()].concat();
    Key::of(&party.uri, Source::DIALOG, &id, Event::Dialog)
}
