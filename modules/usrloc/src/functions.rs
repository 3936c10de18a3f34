//! Script functions: attributes of an AoR. They live in the contacts of the AoR, so they are
//! replicated and stored with them, and end with the last one.

use std::sync::Arc;

use tandem_engine::log::Level;
use tandem_engine::module::{Call, FunctionDef};
use tandem_engine::table::{arg, function, literal, optional};
use tandem_script::host::Called;
use tandem_script::sig::{ArgKind, ArgSig, Routes};
use tandem_script::value::Value;

use crate::replication::key_mode;
use crate::state::{Table, Usrloc};
use crate::store::keys::{self, KEYS_BYTES_MAX, OF_AOR};
use crate::store::{Change, Contact, Edit, NewContact, Text};

const DOMAIN: ArgSig = literal("domain", ArgKind::Str);
const AOR: ArgSig = arg("aor", ArgKind::Str);
const KEY: ArgSig = arg("key", ArgKind::Str);

pub(crate) const FUNCTIONS: &[FunctionDef] = &[
    function(
        "ul_add_key",
        &[DOMAIN, AOR, KEY, optional("value", ArgKind::Str)],
        Routes::ANY,
        "Sets an attribute of an AoR; without a value it is deleted.",
        add_key,
    ),
    function(
        "ul_get_key",
        &[DOMAIN, AOR, KEY, arg("dest", ArgKind::Var)],
        Routes::ANY,
        "Reads an attribute of an AoR into a variable.",
        get_key,
    ),
    function(
        "ul_del_key",
        &[DOMAIN, AOR, KEY],
        Routes::ANY,
        "Deletes an attribute of an AoR.",
        del_key,
    ),
];

const OK: Called = Called::Returned(1);
const NO: Called = Called::Returned(-1);

/// The table and the AoR that a call names; without them it was logged.
fn table_and_aor(call: &mut Call<'_, '_, '_>) -> Option<(Arc<Usrloc>, Arc<Table>, Vec<u8>)> {
    let usrloc = call.state::<Usrloc>()?;
    let name = String::from_utf8_lossy(&call.text(0)).into_owned();
    let Some(table) = usrloc.table(&name) else {
        call.complain(Level::Error, format!("there is no location table {name:?}"));
        return None;
    };
    let aor = usrloc.key_of(&call.text(1));
    Some((usrloc, table, aor))
}

fn add_key(call: &mut Call<'_, '_, '_>) -> Called {
    let value = call.given(3).then(|| String::from_utf8_lossy(&call.text(3)).into_owned());
    set_key(call, value.as_deref())
}

fn del_key(call: &mut Call<'_, '_, '_>) -> Called {
    set_key(call, None)
}

fn set_key(call: &mut Call<'_, '_, '_>, value: Option<&str>) -> Called {
    let Some((usrloc, table, aor)) = table_and_aor(call) else { return NO };
    let key = String::from_utf8_lossy(&call.text(2)).into_owned();
    let (found, _) = usrloc.edit(call.cx, &table, &aor, |edit| change(edit, &key, value));
    match found {
        Some(true) => OK,
        Some(false) => call.complain(Level::Error, "the attributes of an AoR take 16 KiB at most"),
        None => NO,
    }
}

/// `None`: the AoR has no contact. False: it would be too much.
fn change(edit: &mut Edit<'_>, key: &str, value: Option<&str>) -> Option<bool> {
    let contacts: Vec<Arc<Contact>> = edit.contacts().cloned().collect();
    let of_aor = contacts.first()?.text(Text::KeyValues);
    let of_aor = keys::get(of_aor, OF_AOR).unwrap_or_default();
    let of_aor = keys::with(of_aor.as_bytes(), key, value);
    if of_aor.len() > KEYS_BYTES_MAX {
        return Some(false);
    }
    let of_aor = String::from_utf8_lossy(&of_aor);
    let of_aor = Some(&*of_aor).filter(|json| !json.is_empty());
    for contact in &contacts {
        let key_values = keys::with(contact.text(Text::KeyValues), OF_AOR, of_aor);
        let contact_now = NewContact { key_values: &key_values, ..contact.as_new() };
        let matching = key_mode(contact.keyed_by_call_id());
        edit.apply(Change::Update { contact: contact_now, matching });
    }
    Some(true)
}

fn get_key(call: &mut Call<'_, '_, '_>) -> Called {
    let Some((_, table, aor)) = table_and_aor(call) else { return NO };
    let key = String::from_utf8_lossy(&call.text(2)).into_owned();
    let all = table.domain.all_of(&aor);
    let of_aor = all.first().and_then(|(c, _)| keys::get(c.text(Text::KeyValues), OF_AOR));
    let Some(value) = of_aor.and_then(|json| keys::get(json.as_bytes(), &key)) else { return NO };
    match call.set_var(3, Value::str(value.into_bytes())) {
        Ok(()) => OK,
        Err(e) => call.complain(Level::Error, e),
    }
}
