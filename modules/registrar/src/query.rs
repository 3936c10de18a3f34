//! Functions that ask for contacts, remove them, or show the socket.

use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;
use tandem_engine::context::Ctx;
use tandem_engine::log::Level;
use tandem_engine::module::Call;
use tandem_script::host::Called;
use tandem_script::program::Ready;
use tandem_script::value::Value;
use tandem_sip::{Method, NameAddr, Uri};
use tandem_usrloc::store::{Change, Contact, Contacts, Edit, Matching, Text};

use crate::aor::key_of;
use crate::state::{key_of_arg, module_and_table};

const YES: Called = Called::Returned(1);
const NO: Called = Called::Returned(-1);

/// To of a REGISTER, From of anything else.
fn own_uri(ctx: &Ctx) -> Option<Vec<u8>> {
    let addr = match ctx.msg.method() {
        Method::Register => ctx.msg.to(),
        _ => ctx.msg.from(),
    };
    addr.ok().map(|a| a.uri.to_vec())
}

/// The contacts of the AoR that the arguments name; `Err` is how the function ends.
fn contacts(call: &mut Call<'_, '_, '_>) -> Result<Contacts, Called> {
    let (registrar, table) = module_and_table(call, 0).ok_or(NO)?;
    match key_of_arg(call, &registrar.params, 1, own_uri) {
        Ok(aor) if registrar.usrloc.fetch(call, &table, &[&aor]) => Err(Called::Suspended),
        Ok(aor) => Ok(registrar.usrloc.lookup(&table, &aor, call.cx.now)),
        Err(e) => Err(call.complain(Level::Warning, e.to_string())),
    }
}

pub(crate) fn is_registered(call: &mut Call<'_, '_, '_>) -> Called {
    match contacts(call) {
        Ok(contacts) if contacts.is_empty() => NO,
        Ok(_) => YES,
        Err(called) => called,
    }
}

pub(crate) fn is_contact_registered(call: &mut Call<'_, '_, '_>) -> Called {
    let contacts = match contacts(call) {
        Ok(contacts) => contacts,
        Err(called) => return called,
    };
    let given = call.given(2).then(|| call.text(2).to_vec());
    let call_id = call.given(3).then(|| call.text(3));
    let uri = match (given, &call_id) {
        (Some(uri), _) => Some(uri),
        (None, Some(_)) => None,
        // Neither is given: the contact of the message is meant.
        (None, None) => match first_contact(call.ctx) {
            Some(uri) => Some(uri),
            None => return NO,
        },
    };
    let is_it = |c: &Arc<Contact>| {
        uri.as_ref().is_none_or(|uri| Matching::Uri.matches(c, uri, b""))
            && call_id.as_ref().is_none_or(|id| c.call_id() == &id[..])
    };
    if contacts.iter().any(is_it) { YES } else { NO }
}

fn first_contact(ctx: &Ctx) -> Option<Vec<u8>> {
    let list = ctx.msg.contact_list().ok()?;
    list.contacts().first().map(|c| c.uri().to_vec())
}

pub(crate) fn is_ip_registered(call: &mut Call<'_, '_, '_>) -> Called {
    let contacts = match contacts(call) {
        Ok(contacts) => contacts,
        Err(called) => return called,
    };
    let ip = call.get_var(2).into_bytes().unwrap_or_default();
    let ip = parse_ip(&ip);
    let Some(ip) = ip else { return call.complain(Level::Error, "that is no IP address") };
    let port = if call.given(3) { port_of(&call.get_var(3)) } else { None };
    let is_there = |c: &Arc<Contact>| {
        let source = address(c.received()).or_else(|| address(c.uri()));
        source.is_some_and(|(found, at)| found == ip && port.is_none_or(|p| p == at))
    };
    if contacts.iter().any(is_there) { YES } else { NO }
}

fn parse_ip(text: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(text).ok()?.trim_matches(['[', ']']).parse().ok()
}

fn port_of(value: &Value) -> Option<u16> {
    let number = value.int().map(i64::from);
    let text = || std::str::from_utf8(value.text()?.as_ref()).ok()?.parse().ok();
    number.or_else(text).and_then(|n| u16::try_from(n).ok())
}

/// Address and port of a URI without a name to resolve.
fn address(uri: &[u8]) -> Option<(IpAddr, u16)> {
    let uri = Uri::parse(uri).ok()?;
    Some((uri.host_ip()?, uri.port.unwrap_or(5060)))
}

/// What `remove()` looks for; all that is given must fit.
struct Filter {
    uri: Option<Vec<u8>>,
    next_hop: Option<IpAddr>,
    instance: Option<Vec<u8>>,
    flag: Option<String>,
}

impl Filter {
    fn fits(&self, contact: &Contact) -> bool {
        let uri = self.uri.as_ref().is_none_or(|uri| Matching::Uri.matches(contact, uri, b""));
        let hop = self.next_hop.is_none_or(|ip| next_hop(contact) == Some(ip));
        let instance =
            self.instance.as_ref().is_none_or(|i| contact.text(Text::Instance) == &i[..]);
        uri && hop && instance && self.flag.as_ref().is_none_or(|f| contact.has_branch_flag(f))
    }
}

/// Where a request to the contact would go first: Path, else source, else its own address.
fn next_hop(contact: &Contact) -> Option<IpAddr> {
    let path = contact.text(Text::Path);
    let end = path.iter().position(|b| *b == b'>').map_or(path.len(), |at| at + 1);
    if let Some(first) = path.get(..end).filter(|p| !p.is_empty()) {
        return NameAddr::parse(first).ok().and_then(|a| a.parse_uri().ok()?.host_ip());
    }
    let source = if contact.received().is_empty() { contact.uri() } else { contact.received() };
    address(source).map(|(ip, _)| ip)
}

pub(crate) fn remove(call: &mut Call<'_, '_, '_>) -> Called {
    let Some((registrar, table)) = module_and_table(call, 0) else { return NO };
    let aor = match key_of(&call.text(1), &registrar.params) {
        Ok(aor) => aor,
        Err(e) => return call.complain(Level::Warning, e.to_string()),
    };
    let hop = call.given(3).then(|| call.text(3));
    let next_hop = hop
        .as_ref()
        .map(|t| std::str::from_utf8(t).ok().and_then(|t| t.trim_matches(['[', ']']).parse().ok()));
    if next_hop == Some(None) {
        return call.complain(Level::Error, "the next hop is no IP address");
    }
    let flag = match call.ready(5) {
        Some(Ready::BranchFlag(bit)) => {
            call.cx.node.program.branch_flags.get(usize::from(*bit)).cloned()
        }
        _ => call.given(5).then(|| String::from_utf8_lossy(&call.text(5)).into_owned()),
    };
    let filter = Filter {
        uri: call.given(2).then(|| call.text(2).to_vec()),
        next_hop: next_hop.flatten(),
        instance: call.given(4).then(|| call.text(4).to_vec()),
        flag,
    };
    if registrar.usrloc.fetch(call, &table, &[&aor]) {
        return Called::Suspended;
    }
    registrar.usrloc.edit(call.cx, &table, &aor, |edit: &mut Edit<'_>| {
        let fitting = edit.contacts().filter(|c| filter.fits(c));
        let ids: SmallVec<[u64; 4]> = fitting.map(|c| c.id).collect();
        for id in ids {
            edit.apply(Change::Delete { id });
        }
    });
    YES
}

/// Without an AoR every contact of the table is looked at.
pub(crate) fn remove_ip_port(call: &mut Call<'_, '_, '_>) -> Called {
    let Some((registrar, table)) = module_and_table(call, 2) else { return NO };
    let Some(ip) = parse_ip(&call.text(0)) else {
        return call.complain(Level::Error, "that is no IP address");
    };
    let Some(port) = call.int(1).and_then(|p| u16::try_from(p).ok()) else {
        return call.complain(Level::Error, "that is no port");
    };
    let is_there =
        |c: &Contact| address(c.received()).or_else(|| address(c.uri())) == Some((ip, port));
    let ids: Vec<u64> = if call.given(3) {
        match key_of(&call.text(3), &registrar.params) {
            Ok(aor) if registrar.usrloc.fetch(call, &table, &[&aor]) => return Called::Suspended,
            Ok(aor) => {
                let contacts = registrar.usrloc.lookup(&table, &aor, call.cx.now);
                contacts.iter().filter(|c| is_there(c)).map(|c| c.id).collect()
            }
            Err(e) => return call.complain(Level::Warning, e.to_string()),
        }
    } else {
        let all = registrar.usrloc.all(&table, call.cx.now);
        all.filter(|(c, _)| is_there(c)).map(|(c, _)| c.id).collect()
    };
    for id in ids {
        registrar.usrloc.delete(call.cx, &table, id);
    }
    YES
}

pub(crate) fn add_sock_hdr(call: &mut Call<'_, '_, '_>) -> Called {
    let name = call.text(0);
    let is_token = |b: &u8| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(b);
    if name.is_empty() || !name.iter().all(is_token) {
        return call.complain(Level::Error, "that is no name of a header");
    }
    let Some(socket) = call.cx.node.sockets.get(call.ctx.source.socket) else { return NO };
    let line = [&name[..], b": ", socket.text().as_bytes(), b"\r\n"].concat();
    let msg = &call.ctx.msg;
    call.ctx.edits.append_header(msg, line);
    YES
}
