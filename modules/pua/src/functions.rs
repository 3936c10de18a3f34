//! `pua_update_contact`

use tandem_engine::module::{Call, FunctionDef};
use tandem_engine::table::function;
use tandem_script::host::Called;
use tandem_script::sig::Routes;
use tandem_sip::{HeaderName, NameAddr};

use crate::state::Pua;
use crate::table::Origin;

/// The function table.
pub(crate) const FUNCTIONS: &[FunctionDef] = &[function(
    "pua_update_contact",
    &[],
    Routes::REQUEST,
    "Takes the Contact of a request within a subscription of this server as its remote target.",
    pua_update_contact,
)];

fn pua_update_contact(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(pua) = call.state::<Pua>() else { return Called::Returned(-1) };
    let msg = call.ctx.msg.clone();
    let contact = msg.values(HeaderName::Contact).next();
    let contact = contact.and_then(|value| NameAddr::parse(value.bytes).ok());
    let known = msg.call_id().and_then(|call_id| pua.table.of_call(call_id));
    let (Some(contact), Some(mut record)) = (contact, known) else {
        return Called::Returned(-1);
    };
    let Some(watch) = record.watch.as_mut() else { return Called::Returned(-1) };
    // The other side sends it: its tag is the To tag of our requests.
    let is_ours = msg.to_tag() == Some(&watch.from_tag[..])
        && (watch.to_tag.is_empty() || msg.from_tag() == Some(&watch.to_tag[..]));
    if !is_ours {
        return Called::Returned(-1);
    }
    if *watch.remote_contact != *contact.uri {
        watch.remote_contact = contact.uri.into();
        pua.put(call.cx, record, Origin::Local);
    }
    Called::Returned(1)
}
