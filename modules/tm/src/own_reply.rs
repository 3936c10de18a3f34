//! `local_reply_route`: a route that sees what this node answers by itself.

use std::sync::Arc;

use bytes::Bytes;
use tandem_engine::context::Ctx;
use tandem_engine::module::Cx;
use tandem_engine::transport::written;
use tandem_script::program::RouteId;
use tandem_script::sig::Routes;
use tandem_sip::Message;

use crate::record::Busy;
use crate::table::{Cell, Tx};
use crate::tm::Tm;

impl Tm {
    fn own_reply_route(&self, cx: &Cx<'_>) -> Option<RouteId> {
        cx.named_route(self.params.local_reply_route.as_deref()?)
    }

    /// Shows a reply that the script gave; what the route changes in it leaves with it.
    pub(crate) fn show_own_reply(&self, cx: &mut Cx<'_>, ctx: &Ctx, bytes: Bytes) -> Bytes {
        let Some(route) = self.own_reply_route(cx) else { return bytes };
        let Ok(reply) = Message::parse(bytes.clone()) else { return bytes };
        let mut shown = Ctx::new(reply, ctx.source, Routes::REQUEST);
        shown.request = Some(ctx.msg.clone());
        cx.run_nested(route, &mut shown);
        written(&shown.msg, &shown.edits)
    }

    /// Sends a result that this node came to by itself, when the route has seen it.
    pub(crate) fn send_own_winner(
        &self,
        cx: &mut Cx<'_>,
        tx: &Arc<Tx>,
        cell: &mut Cell,
        code: u16,
        bytes: Bytes,
    ) {
        let route = self.own_reply_route(cx).filter(|_| cell.record.owner.is_none());
        let parsed = route.and_then(|r| Some((r, Message::parse(bytes.clone()).ok()?)));
        let Some((route, reply)) = parsed else {
            self.send_local(cx, tx.id, &mut cell.record, code, bytes);
            return;
        };
        let mut ctx = Box::new(Ctx::new(reply, cell.record.saved.source, Routes::REQUEST));
        ctx.request = Some(cell.record.saved.msg.clone());
        cell.busy = Some(Busy::OwnReply { code });
        if let Some(ctx) = cx.run_route(route, ctx, tx.id.token(0)) {
            cell.busy = None;
            self.send_local(cx, tx.id, &mut cell.record, code, written(&ctx.msg, &ctx.edits));
        }
    }

    /// The route has seen it.
    pub(crate) fn after_own_reply(&self, cx: &mut Cx<'_>, tx: &Arc<Tx>, ctx: &Ctx, code: u16) {
        let mut cell = tx.cell.lock();
        cell.busy = None;
        self.send_local(cx, tx.id, &mut cell.record, code, written(&ctx.msg, &ctx.edits));
        self.settle(cx, tx, cell);
    }
}
