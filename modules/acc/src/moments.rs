//! What happens to a transaction, and which records follow from it.

use tandem_engine::attached::TxMoment;
use tandem_engine::module::Cx;
use tandem_sip::Method;

use crate::account::{Account, State};
use crate::marks::{ACC, CDR, FAILED, MISSED};
use crate::record::{Answer, Kind, Record};
use crate::state::Acc;

impl Acc {
    /// A transaction with an account tells something.
    pub(crate) fn heard(&self, cx: &mut Cx<'_>, account: &Account, moment: &TxMoment) {
        match moment {
            TxMoment::Replied { code, reply, first: true, .. }
                if self.is_wanted(account, *code) =>
            {
                self.replied(cx, account, &Answer::of(*code, reply));
            }
            TxMoment::Failed { code, reply, .. } if may_be_missed(account) => {
                self.missed(cx, account, &Answer::of(*code, reply));
            }
            _ => {}
        }
    }

    /// Whether a reply of this code makes a record, so that others cost next to nothing.
    fn is_wanted(&self, account: &Account, code: u16) -> bool {
        let state = account.state.lock();
        let method = account.request.method();
        if method == Method::Cancel && !self.params.report_cancels {
            return false;
        }
        let missed = method == Method::Invite && state.marks.any(MISSED);
        match code {
            0..200 => self.params.early_media && code > 100 && state.marks.any(ACC),
            200..300 => state.marks.any(ACC),
            _ => state.marks.any(ACC | FAILED) || missed,
        }
    }

    fn replied(&self, cx: &mut Cx<'_>, account: &Account, answer: &Answer) {
        match answer.code {
            0..200 => {
                let body = answer.reply.as_ref().is_some_and(|r| !r.body().is_empty());
                if body {
                    self.write_all(cx, account, answer, ACC);
                }
            }
            200..300 => self.succeeded(cx, account, answer),
            _ => {
                if may_be_missed(account) {
                    self.missed(cx, account, answer);
                }
                self.write_all(cx, account, answer, ACC | FAILED);
            }
        }
    }

    fn succeeded(&self, cx: &mut Cx<'_>, account: &Account, answer: &Answer) {
        let record = Record::answered(cx.now, account, answer);
        let state = account.state.lock().clone();
        let is_call = is_invite(account)
            && state.marks.any(ACC | CDR)
            && self.begin_cdr(cx, account, &record, &state);
        for backend in state.marks.with(ACC) {
            if is_call && state.marks.of(backend) & CDR != 0 {
                continue;
            }
            self.write(cx, (backend, Kind::Answered), &record, &state, state.table.clone());
        }
    }

    /// Writes a record wherever all of these flags are set.
    fn write_all(&self, cx: &mut Cx<'_>, account: &Account, answer: &Answer, flags: u8) {
        let state = account.state.lock().clone();
        if !state.marks.any(flags) {
            return;
        }
        let record = Record::answered(cx.now, account, answer);
        for backend in state.marks.with(flags) {
            self.write(cx, (backend, Kind::Answered), &record, &state, state.table.clone());
        }
    }

    /// Nobody answered. The mark is used up; a failure route may set it again.
    fn missed(&self, cx: &mut Cx<'_>, account: &Account, answer: &Answer) {
        let state = {
            let mut state = account.state.lock();
            let before: State = state.clone();
            for backend in before.marks.with(MISSED) {
                state.marks.remove(backend, MISSED);
            }
            before
        };
        let record = Record::answered(cx.now, account, answer);
        for backend in state.marks.with(MISSED) {
            self.write(cx, (backend, Kind::Missed), &record, &state, None);
        }
    }
}

fn may_be_missed(account: &Account) -> bool {
    is_invite(account) && account.state.lock().marks.any(MISSED)
}

fn is_invite(account: &Account) -> bool {
    account.request.method() == Method::Invite
}
