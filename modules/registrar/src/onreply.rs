//! `save()` in an onreply route: another registrar has accepted a REGISTER that was forwarded to
//! it, and its contacts are kept here as well, for as long as it says.

use bytes::Bytes;
use tandem_engine::module::Call;
use tandem_sip::{Message, Method, Uri, uris_equal};
use tandem_tm::{Origin, Tm};

use crate::params::Params;
use crate::request::Register;
use crate::state::avp_text;

/// A REGISTER that was forwarded.
pub(crate) struct Forwarded {
    pub(crate) request: Message,
    /// How it came.
    pub(crate) origin: Origin,
    /// The contact as it was sent on.
    sent_as: Option<Bytes>,
}

impl Forwarded {
    /// Of the reply at hand; `None`: it is none to a REGISTER of a transaction, or no success.
    pub(crate) fn of(call: &Call<'_, '_, '_>, params: &Params) -> Option<Self> {
        let (ctx, node) = (&*call.ctx, call.cx.node);
        let (slot, tm) = node.find::<Tm>()?;
        let origin = tm.origin(slot, ctx)?;
        let request = ctx.request.clone()?;
        let is_success = (200..300).contains(&ctx.msg.status());
        let is_register = request.method() == Method::Register;
        let sent_as = avp_text(&origin.avps, params.mcontact_avp.as_ref());
        (is_success && is_register).then_some(Self { request, origin, sent_as })
    }

    /// Gives the contacts the lifetimes that the reply says. What it does not list was not
    /// accepted, unless it goes.
    pub(crate) fn adopt(&self, register: &mut Register<'_>, reply: &Message) {
        let Ok(list) = reply.contact_list() else {
            register.contacts.retain(|wanted| wanted.expires_s == 0);
            return;
        };
        let general_s = reply.expires().ok().flatten();
        let is_single = register.contacts.len() == 1;
        register.contacts.retain(|wanted| {
            let sent_as = self.sent_as.as_deref().filter(|_| is_single);
            let sought = sent_as.unwrap_or(wanted.uri);
            let listed = list.contacts().iter().find(|c| is_same(c.uri(), sought));
            let Some(listed) = listed else { return wanted.expires_s == 0 };
            if wanted.expires_s != 0 {
                let own_s = listed.expires().ok().flatten();
                wanted.expires_s = own_s.or(general_s).unwrap_or(wanted.expires_s);
            }
            true
        });
    }
}

fn is_same(a: &[u8], b: &[u8]) -> bool {
    a == b || matches!((Uri::parse(a), Uri::parse(b)), (Ok(a), Ok(b)) if uris_equal(&a, &b))
}
