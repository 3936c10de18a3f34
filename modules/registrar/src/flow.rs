//! Contacts and the connections that they are reached over (RFC 5626).
//!
//! A contact that wants connections is bound to the one its REGISTER came over. A phone that is
//! back over a new one is found there from its first request, if that names its contact or its
//! instance and comes from the address at which the phone was last; anything else has to wait for
//! its REGISTER, whose sender the script can ask for a password.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tandem_engine::context::Source;
use tandem_engine::module::{Call, Cx};
use tandem_engine::node::Node;
use tandem_engine::stream::Kept;
use tandem_sip::{HeaderName, Message, Transport, Uri};
use tandem_usrloc::Table;
use tandem_usrloc::store::{Contact, Text};

use crate::aor::key_of;
use crate::request::Register;
use crate::state::Registrar;

/// Contacts of a request that are looked at.
const CONTACTS_MAX: usize = 4;

/// Binds the contacts that a REGISTER has written to its connection. Behind a proxy, which has
/// put its own Via on top, the connection is that of the proxy, and Path says how it is reached.
pub(crate) fn bind(
    call: &Call<'_, '_, '_>,
    registrar: &Registrar,
    (table, source): (&Table, &Source),
    register: &Register<'_>,
    contacts: &[Arc<Contact>],
) {
    let streams = &call.cx.node.streams;
    if !streams.carries(source.socket) || call.ctx.msg.values(HeaderName::Via).count() != 1 {
        return;
    }
    let is_written = |c: &&Arc<Contact>| c.call_id() == register.call_id && c.cseq == register.cseq;
    for contact in contacts.iter().filter(is_written).filter(|c| is_of_connections(c)) {
        streams.bind(source, registrar.usrloc.flow_name(table, contact));
    }
}

/// Whether a contact is reached over a connection: by what its URI or its source says, or since
/// its phone wants it (RFC 5626 4.2.1).
fn is_of_connections(contact: &Contact) -> bool {
    let of = |uri: &[u8]| Uri::parse(uri).is_ok_and(|uri| uri.transport() == Some(Transport::Tcp));
    let wants = || Uri::parse(contact.uri()).is_ok_and(|uri| uri.param(b"ob").is_some());
    contact.text(Text::Path).is_empty() && (of(contact.uri()) || of(contact.received()) || wants())
}

/// Seconds that a connection outlives the contacts registered over it.
const CONNECTION_GRACE_S: u64 = 10;

/// Keeps the connection of a message for as long as the contacts of its user over it: those of a
/// Call-ID, those that are reached over it, and those that came over it before. Behind a proxy a
/// user may have several phones on one connection.
pub(crate) fn keep(
    cx: &Cx<'_>,
    registrar: &Registrar,
    (table, source): (&Table, &Source),
    (aor, call_id): (&[u8], Option<&[u8]>),
    contacts: &[Arc<Contact>],
) {
    let (now_s, streams) = (cx.now.unix_s(), &cx.node.streams);
    let kept = |c: &Arc<Contact>| {
        let leads = streams.flow(registrar.usrloc.flow_name(table, c));
        let leads_here = leads.map(|to| to == (source.socket, source.addr));
        let is_here = Some(c.call_id()) == call_id || leads_here == Some(true);
        let left = c.remaining_s(now_s).filter(|s| *s > 0 && (is_here || leads_here.is_none()))?;
        let until = cx.now.after_s(left + CONNECTION_GRACE_S);
        Some(Kept { contact: c.id, until, is_here })
    };
    let all: Vec<Kept> = contacts.iter().filter_map(kept).collect();
    streams.keep(cx.now, source, registrar.usrloc.user_number(table, aor), &all);
}

impl Registrar {
    /// A connection that leads to no contact has brought a request: whose is it?
    pub(crate) fn find_phone(&self, cx: &Cx<'_>, source: &Source, request: &Message) {
        // A connection of a proxy is nobody's.
        if request.values(HeaderName::Via).count() != 1 {
            return;
        }
        let Some(aor) = request.from().ok().and_then(|f| key_of(f.uri, &self.params).ok()) else {
            return;
        };
        for table in self.usrloc.tables() {
            let (mut is_bound, contacts) = (false, self.usrloc.lookup(&table, &aor, cx.now));
            for contact in &contacts {
                let is_it = is_of_connections(contact)
                    && last_ip(contact) == Some(source.addr.ip())
                    && names(request, contact)
                    && !self.leads_somewhere(cx.node, &table, contact);
                if is_it && cx.node.streams.bind(source, self.usrloc.flow_name(&table, contact)) {
                    is_bound = true;
                }
            }
            if is_bound && self.params.tcp_persistent_flag != 0 {
                keep(cx, self, (&table, source), (&aor, None), &contacts);
            }
        }
    }

    /// Whether the old connection of a contact lives: its phone alone can say that it does not.
    fn leads_somewhere(&self, node: &Node, table: &Table, contact: &Contact) -> bool {
        let socket = self.usrloc.socket_of(node, contact);
        let leads = |to| socket.is_some_and(|socket| node.streams.leads_to(socket, to));
        self.usrloc.flow_of(node, table, contact).is_some()
            || address(contact.received()).is_some_and(leads)
    }
}

/// The address at which a phone was last: what was observed, else what it says.
fn last_ip(contact: &Contact) -> Option<IpAddr> {
    let at = if contact.received().is_empty() { contact.uri() } else { contact.received() };
    Uri::parse(at).ok()?.host_ip()
}

fn address(uri: &[u8]) -> Option<SocketAddr> {
    let uri = Uri::parse(uri).ok()?;
    Some(SocketAddr::new(uri.host_ip()?, uri.port.unwrap_or(5060)))
}

/// Whether a request comes from the phone of a contact, as its Contact says.
fn names(request: &Message, contact: &Contact) -> bool {
    request.addrs(HeaderName::Contact).flatten().take(CONTACTS_MAX).any(|addr| {
        let instance = addr.params.get(b"+sip.instance").flatten().unwrap_or_default();
        let instance = instance.strip_prefix(b"\"").unwrap_or(instance);
        let instance = instance.strip_suffix(b"\"").unwrap_or(instance);
        let known = contact.text(Text::Instance);
        (!known.is_empty() && instance == known) || addr.uri == contact.uri()
    })
}
