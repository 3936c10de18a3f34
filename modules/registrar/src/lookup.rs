//! `lookup()`: an AoR becomes the addresses of its contacts.

use std::sync::Arc;

use bytes::Bytes;
use tandem_engine::context::{BRANCHES_MAX, Branch};
use tandem_engine::log::Level;
use tandem_engine::module::{Call, Cx};
use tandem_script::host::{Assign, Called, Index};
use tandem_script::value::Value;
use tandem_sip::NameAddr;
use tandem_usrloc::Table;
use tandem_usrloc::store::{Contact, Contacts, Text};

use crate::aor::key_of;
use crate::flags::{LOOKUP, LookupFlags};
use crate::gruu::Meant;
use crate::request::method_bit;
use crate::state::{Registrar, flags_of_arg, module_and_table};

/// No contact.
const NONE: Called = Called::Returned(-1);
/// There are contacts, and none allows the method.
const NO_METHOD: Called = Called::Returned(-2);
/// The AoR cannot be read.
const FAILED: Called = Called::Returned(-3);

/// What the filters leave of the contacts of an AoR.
struct Found {
    contacts: Contacts,
    /// Something was there before methods were looked at.
    lacks_method: bool,
}

pub(crate) fn lookup(call: &mut Call<'_, '_, '_>) -> Called {
    let Some((registrar, table)) = module_and_table(call, 0) else { return FAILED };
    let flags = match flags_of_arg(call, 1, LOOKUP)
        .and_then(|set| LookupFlags::read(&set).map_err(|name| format!("bad value of flag {name}")))
    {
        Ok(flags) => flags,
        Err(e) => {
            call.complain(Level::Error, e);
            return FAILED;
        }
    };
    let asked = if call.given(2) { call.text(2).to_vec() } else { call.ctx.request_uri().to_vec() };
    let gruu = registrar.params.gruu.as_ref();
    let meant = gruu.and_then(|gruu| gruu.meant(&call.cx.node.keys, &asked));
    let aor = match &meant {
        Some(Meant::Registration { aor, .. }) => Ok(aor.clone()),
        Some(Meant::Nobody) => return NONE,
        _ => key_of(&asked, &registrar.params),
    };
    let aor = match aor {
        Ok(aor) => aor,
        Err(e) => {
            call.complain(Level::Warning, e.to_string());
            return FAILED;
        }
    };
    if fetch(call, &registrar, &table, &flags, &aor) {
        return Called::Suspended;
    }
    if flags.resolves_branches {
        resolve_branches(call, &registrar, &table, &flags);
    }
    let Ok(mut found) = find(call, &registrar, &table, &flags, (&aor, meant.as_ref())) else {
        return FAILED;
    };
    if found.contacts.is_empty() {
        return if found.lacks_method { NO_METHOD } else { NONE };
    }
    if let Some(called) = wake(call, &registrar, &table, &mut found.contacts) {
        return called;
    }
    use_contacts(call, &registrar, &table, &flags, &found.contacts);
    Called::Returned(1)
}

/// Contacts that have to be woken come later; the others stay. `Some` is how the function ends.
fn wake(
    call: &mut Call<'_, '_, '_>,
    registrar: &Registrar,
    table: &Table,
    contacts: &mut Contacts,
) -> Option<Called> {
    let push = registrar.params.push.as_ref()?;
    let now_s = call.cx.now.unix_s();
    let asleep = contacts.iter().filter(|c| push.must_wake(c, now_s)).cloned();
    let asleep: Contacts = asleep.collect();
    if asleep.is_empty() || !call.ctx.msg.is_request() {
        return None;
    }
    let only = asleep.len() == contacts.len();
    let called = registrar.wake(call, table, (push, &asleep), only)?;
    contacts.retain(|c| !push.must_wake(c, now_s));
    (called != Called::Returned(1)).then_some(called)
}

/// Reads the rows of the AoRs that the function works on, where contacts live in SQL alone.
fn fetch(
    call: &mut Call<'_, '_, '_>,
    registrar: &Registrar,
    table: &Table,
    flags: &LookupFlags,
    aor: &[u8],
) -> bool {
    let uris = call.ctx.branches.iter().filter_map(|branch| branch.uri.as_deref());
    let uris = uris.filter(|_| flags.resolves_branches);
    let of_branches: Vec<Vec<u8>> =
        uris.filter_map(|uri| key_of(uri, &registrar.params).ok()).collect();
    let all: Vec<&[u8]> = std::iter::once(aor).chain(of_branches.iter().map(|a| &a[..])).collect();
    registrar.usrloc.fetch(call, table, &all)
}

/// The best contact becomes the target, the others branches.
fn use_contacts(
    call: &mut Call<'_, '_, '_>,
    registrar: &Registrar,
    table: &Table,
    flags: &LookupFlags,
    contacts: &Contacts,
) {
    let branches = contacts.iter().map(|c| branch_of(call.cx, registrar, (table, c)));
    let mut branches: Vec<Branch> = branches.collect();
    if !flags.to_branches_only {
        if let Some(best) = contacts.first() {
            set_attr(call, registrar, best);
        }
        call.ctx.target = branches.remove(0);
    }
    if !flags.no_branches {
        let room = (BRANCHES_MAX - 1).saturating_sub(call.ctx.branches.len());
        call.ctx.branches.extend(branches.into_iter().take(room));
    }
}

/// Branches that name an AoR with contacts give way to those contacts.
fn resolve_branches(
    call: &mut Call<'_, '_, '_>,
    registrar: &Registrar,
    table: &Table,
    flags: &LookupFlags,
) {
    for branch in std::mem::take(&mut call.ctx.branches) {
        let aor = branch.uri.as_deref().and_then(|uri| key_of(uri, &registrar.params).ok());
        let found = aor.and_then(|aor| find(call, registrar, table, flags, (&aor, None)).ok());
        let contacts = found.map(|f| f.contacts).unwrap_or_default();
        let resolved: Vec<Branch> = match contacts.is_empty() {
            true => vec![branch],
            false => contacts.iter().map(|c| branch_of(call.cx, registrar, (table, c))).collect(),
        };
        let room = (BRANCHES_MAX - 1).saturating_sub(call.ctx.branches.len());
        call.ctx.branches.extend(resolved.into_iter().take(room));
    }
}

/// `Err`: the expression of a filter is none, which was logged.
fn find(
    call: &mut Call<'_, '_, '_>,
    registrar: &Registrar,
    table: &Table,
    flags: &LookupFlags,
    (aor, meant): (&[u8], Option<&Meant>),
) -> Result<Found, ()> {
    let now = call.cx.now;
    let mut contacts = registrar.usrloc.lookup(table, aor, now);
    if let Some(meant) = meant {
        meant.choose(&mut contacts);
    }
    if let Some(text) = &flags.user_agent {
        let Some(expression) = registrar.expression(text) else {
            call.complain(Level::Error, format!("{text:?} is no regular expression"));
            return Err(());
        };
        contacts.retain(|c| expression.is_match(c.text(Text::UserAgent)));
    }
    if flags.latency_max_us.is_some() || flags.sorts_by_latency {
        by_latency(table, aor, flags, &mut contacts);
    }
    let before = contacts.len();
    if flags.filters_methods {
        let bit = method_bit(call.ctx.msg.method_bytes());
        contacts.retain(|c| c.methods() & bit != 0);
    }
    Ok(Found { lacks_method: before > 0, contacts })
}

/// Contacts that were never measured count as fast for the limit and last in the order.
fn by_latency(table: &Table, aor: &[u8], flags: &LookupFlags, contacts: &mut Contacts) {
    let all = table.domain.all_of(aor);
    let latency_us = |contact: &Arc<Contact>| {
        let found = all.iter().find(|(c, _)| c.id == contact.id);
        found.map_or(0, |(_, local)| local.ping().latency_us)
    };
    if let Some(max_us) = flags.latency_max_us {
        contacts.retain(|c| latency_us(c) <= max_us);
    }
    if flags.sorts_by_latency {
        contacts.sort_by_key(|c| match latency_us(c) {
            0 => u32::MAX,
            measured => measured,
        });
    }
}

/// Where a contact is reached: over its Path, else over its connection, else where it came from,
/// else by its URI.
pub(crate) fn branch_of(
    cx: &Cx<'_>,
    registrar: &Registrar,
    (table, contact): (&Table, &Contact),
) -> Branch {
    let path = contact.bytes(Text::Path);
    let received = contact.bytes(Text::Received);
    let first = NameAddr::parse(first_value(&path)).ok();
    let first = first.map(|addr: NameAddr<'_>| Bytes::copy_from_slice(addr.uri));
    let flow = path.is_empty().then(|| registrar.usrloc.flow_of(cx.node, table, contact)).flatten();
    let dst_uri = match (first, flow) {
        (Some(uri), _) if !path.is_empty() => Some(uri),
        (_, Some((_, to))) => Some(Bytes::from(format!("sip:{to};transport=tcp"))),
        _ => (!received.is_empty()).then_some(received),
    };
    let socket = flow.map(|(socket, _)| socket);
    Branch {
        uri: Some(contact.bytes(Text::Uri)),
        dst_uri,
        q: u16::try_from(contact.q()).ok(),
        socket: socket.or_else(|| registrar.usrloc.socket_of(cx.node, contact)),
        flags: registrar.usrloc.flag_mask(contact.text(Text::BranchFlags)),
        ..Branch::default()
    }
    .with_path(path)
}

/// The first of the addresses of a stored Path, which stand between `<` and `>`.
fn first_value(path: &[u8]) -> &[u8] {
    let end = path.iter().position(|b| *b == b'>').map_or(path.len(), |at| at + 1);
    path.get(..end).unwrap_or(path)
}

fn set_attr(call: &mut Call<'_, '_, '_>, registrar: &Registrar, contact: &Contact) {
    let attr = contact.bytes(Text::Attr);
    if let (Some(avp), false) = (&registrar.params.attr_avp, attr.is_empty()) {
        let set = call.ctx.avps.set(avp, Index::None, Assign::Replace, Value::Str(attr));
        if let Err(e) = set {
            call.complain(Level::Warning, e);
        }
    }
}
