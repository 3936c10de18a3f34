//! Replies to requests of this node within dialogs.

use bytes::Bytes;
use serde_json::Value as Json;
use tandem_engine::mi::RpcError;
use tandem_engine::module::Cx;
use tandem_sip::Message;

use crate::change::Change;
use crate::create::contact_of;
use crate::id::DialogId;
use crate::record::{Side, Text};
use crate::sdp::sdp_of;
use crate::sequential::{Draft, Purpose, Sent};
use crate::state::Dialogs;

impl Dialogs {
    /// A reply, or the end of the waiting for one.
    pub(crate) fn replied(&self, cx: &mut Cx<'_>, token: u64, code: u16, reply: Option<&Message>) {
        if code < 200 {
            return;
        }
        let Some(Sent { id, side, purpose }) = self.open.take(token) else { return };
        match purpose {
            Purpose::Bye | Purpose::Script => {}
            Purpose::Ping { invite } => {
                self.told_by(cx, id, side, reply.filter(|_| invite && code < 300));
                self.ping_answered(cx, id, side, invite, code);
            }
            Purpose::Prack if code >= 300 => {
                self.prack_failed(cx, id, &format!("it was refused with {code}"));
            }
            Purpose::Prack => {}
            Purpose::Command { request, then } => {
                self.told_by(cx, id, side, reply.filter(|_| code < 300));
                let next = then.filter(|_| code < 300);
                let Some(next) = next else {
                    let reason = reply.map_or_else(String::new, |r| {
                        format!(" {}", String::from_utf8_lossy(r.reason()))
                    });
                    cx.mi_reply(request, Ok(Json::from(format!("{code}{reason}"))));
                    return;
                };
                let body = reply.map(|r| Bytes::copy_from_slice(sdp_of(r))).unwrap_or_default();
                let draft = Draft { body: Bytes::new(), ..*next }.with_sdp(&body);
                let purpose = Purpose::Command { request, then: None };
                if let Err(why) = self.send(cx, id, side.other(), draft, purpose) {
                    let error = RpcError { code: 500, message: why, data: None };
                    cx.mi_reply(request, Err(error));
                }
            }
        }
    }

    /// What a side says of itself in an answer counts from now on.
    fn told_by(&self, cx: &mut Cx<'_>, id: DialogId, side: Side, reply: Option<&Message>) {
        let Some(reply) = reply else { return };
        let callee = self.read(id, |d| d.answered).flatten().unwrap_or(0);
        let sdp = sdp_of(reply);
        let sdp = (!sdp.is_empty()).then(|| Text::from(sdp));
        let contact = contact_of(reply);
        self.try_change(cx, id, Change::Refreshed { side, callee, contact, sdp });
    }
}
