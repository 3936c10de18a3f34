//! Branch routes that wait: the `t_relay` around them waits with them, and so does every other
//! event of the transaction.

use std::sync::Arc;

use tandem_engine::context::Ctx;
use tandem_engine::module::{Call, Cx, RouteEnd};
use tandem_script::host::Called;
use tandem_script::vm::Vars;

use crate::draft::Drafting;
use crate::launch::{Errand, Relaying};
use crate::table::Tx;
use crate::tm::Tm;

/// What follows when all targets are through the branch route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Relay {
        /// If nothing can be sent, that is answered.
        answers: bool,
        failover: bool,
    },
    Inject,
}

/// A branch route that waits, or whose end came before anybody waited for it.
pub(crate) enum Pause {
    Waits(Box<Waiting>),
    Over(Over),
}

/// The end of a branch route, and the `$var`s that it left.
pub(crate) struct Over {
    ctx: Box<Ctx>,
    end: RouteEnd,
    vars: Vars,
}

pub(crate) struct Waiting {
    drafting: Drafting,
    /// The context that the targets left start from.
    base: Box<Ctx>,
    then: Then,
    /// The run that called, if one did.
    run: Option<u64>,
}

impl Then {
    fn errand(self, drafting: Drafting) -> Errand {
        let tx = Arc::clone(&drafting.tx);
        let (drafts, failure) = drafting.end();
        match self {
            Self::Relay { answers, failover } => {
                Errand::Relay(Relaying { tx, answers, failover, drafts, failure })
            }
            Self::Inject => {
                let (answers, failover) = (false, true);
                Errand::Inject(Relaying { tx, answers, failover, drafts, failure })
            }
        }
    }
}

impl Tm {
    /// Takes targets through the branch route and on their way. `own` is the context they start
    /// from if it is not that of the script.
    pub(crate) fn draft(
        &self,
        call: &mut Call<'_, '_, '_>,
        mut drafting: Drafting,
        then: Then,
        mut own: Option<Box<Ctx>>,
    ) -> Called {
        let through = call
            .sharing_vars(|call| drafting.go_on(call.cx, own.as_deref_mut().unwrap_or(call.ctx)));
        if through {
            if own.is_none() {
                drafting.save(call.ctx);
            }
            return self.launch(call, then.errand(drafting));
        }
        let base = own.unwrap_or_else(|| {
            Box::new(call.ctx.for_target(call.ctx.target.clone(), call.ctx.block))
        });
        let run = Some(call.suspend());
        self.wait(call.cx, Box::new(Waiting { drafting, base, then, run }));
        Called::Suspended
    }

    /// Adds branches that no script waits for.
    pub(crate) fn inject_from(&self, cx: &mut Cx<'_>, mut drafting: Drafting, mut base: Box<Ctx>) {
        if drafting.go_on(cx, &mut base) {
            self.start(cx, Then::Inject.errand(drafting));
        } else {
            let (then, run) = (Then::Inject, None);
            self.wait(cx, Box::new(Waiting { drafting, base, then, run }));
        }
    }

    fn wait(&self, cx: &mut Cx<'_>, waiting: Box<Waiting>) {
        let token = waiting.drafting.tx.id.token(0);
        self.meet(cx, token, Pause::Waits(waiting));
    }

    /// A branch route that had to wait has ended.
    pub(crate) fn after_branch(&self, cx: &mut Cx<'_>, tx: &Tx, ctx: Box<Ctx>, end: RouteEnd) {
        let over = Over { ctx, end, vars: cx.left_vars() };
        self.meet(cx, tx.id.token(0), Pause::Over(over));
    }

    /// One of the two that have to meet: the end may come, on another worker, before anybody waits.
    /// What goes on waits again at most once for each branch of a message.
    fn meet(&self, cx: &mut Cx<'_>, token: u64, this: Pause) {
        let (waiting, over) = {
            let mut pauses = self.errands.pauses.lock();
            match (pauses.remove(&token), this) {
                (Some(Pause::Over(over)), Pause::Waits(waiting))
                | (Some(Pause::Waits(waiting)), Pause::Over(over)) => (waiting, over),
                (_, this) => {
                    pauses.insert(token, this);
                    return;
                }
            }
        };
        self.go_on(cx, waiting, over);
    }

    /// The transaction is gone before its branch route has ended: nobody waits any more.
    pub(crate) fn abandon(&self, cx: &mut Cx<'_>, token: u64) {
        let gone = self.errands.pauses.lock().remove(&token);
        if let Some(Pause::Waits(waiting)) = gone
            && let Some(run) = waiting.run
        {
            cx.resume(run, -1);
        }
    }

    fn go_on(&self, cx: &mut Cx<'_>, mut waiting: Box<Waiting>, over: Over) {
        let Over { ctx, end, mut vars } = over;
        let Waiting { drafting, base, .. } = &mut *waiting;
        drafting.take(cx, base, ctx, end);
        if !cx.with_vars(&mut vars, |cx| drafting.go_on(cx, base)) {
            return self.wait(cx, waiting);
        }
        let Waiting { drafting, mut base, then, run } = *waiting;
        if then != Then::Inject {
            drafting.save(&base);
        }
        if let Some(run) = run.filter(|_| then != Then::Inject) {
            cx.with_suspended(run, |ctx| {
                ctx.avps = std::mem::take(&mut base.avps);
                ctx.rewritten = ctx.rewritten.or(base.rewritten);
                ctx.attached.update(&base.attached);
            });
            cx.leave_vars(run, vars);
        }
        let code = self.look_up(cx, then.errand(drafting), run);
        if let (Some(code), Some(run)) = (code, run) {
            cx.resume(run, code);
        }
    }
}
