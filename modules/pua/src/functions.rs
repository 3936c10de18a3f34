//! `pua_update_contact`

use tandem_engine::module::{Call, FunctionDef};
use tandem_engine::table::function;
use tandem_engine::transport::changed_contact;
use tandem_script::host::Called;
use tandem_script::sig::Routes;
use tandem_sip::{HeaderName, NameAddr};

use crate::state::Pua;

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
    // As the script leaves it, after fix_nated_contact().
    let changed = changed_contact(&msg, &call.ctx.edits);
    let sent = || msg.values(HeaderName::Contact).next().map(|value| value.bytes);
    let contact = changed.as_deref().or_else(sent);
    let contact = contact.and_then(|value| NameAddr::parse(value).ok());
    let key = msg.call_id().and_then(|call_id| pua.table.of_call(call_id));
    let (Some(contact), Some(key)) = (contact, key) else { return Called::Returned(-1) };
    let done = pua.update(call.cx, &key, |known, _| {
        let Some(mut record) = known else { return (None, false) };
        let Some(watch) = record.watch.as_mut() else { return (None, false) };
        // The other side sends it: its tag is the To tag of our requests.
        let is_ours = msg.to_tag() == Some(&watch.from_tag[..])
            && (watch.to_tag.is_empty() || msg.from_tag() == Some(&watch.to_tag[..]));
        if !is_ours || *watch.remote_contact == *contact.uri {
            return (None, is_ours);
        }
        watch.remote_contact = contact.uri.into();
        (Some(record), true)
    });
    Called::Returned(if done == Ok(true) { 1 } else { -1 })
}
