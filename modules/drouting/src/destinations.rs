//! Gateways and carriers, as their tables say.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::RwLock;
use tandem_db::{Row, Value};
use tandem_engine::sockets::{Proto, SocketId, Sockets};
use tandem_sip::{Transport, Uri};

use tandem_targets::{Faults, Status, is_socket};

use crate::status::Kind;

/// Columns of the table of gateways, in the order in which they are selected.
pub(crate) const GATEWAY_COLUMNS: [&str; 9] =
    ["gwid", "type", "address", "strip", "pri_prefix", "attrs", "probe_mode", "state", "socket"];
/// Columns of the table of carriers.
pub(crate) const CARRIER_COLUMNS: [&str; 6] =
    ["carrierid", "gwlist", "flags", "sort_alg", "state", "attrs"];

/// Entries of one list of gateways.
const LIST_MAX: usize = 1_000;

/// What is done about gateways whose socket is none of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    /// They are taken, and any socket is used.
    All,
    /// The column is not looked at.
    Ignore,
    /// They are left out.
    MatchedOnly,
}

/// A gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) id: Arc<str>,
    pub(crate) kind: i64,
    /// As the table has it.
    pub(crate) address: String,
    /// `host[:port][;transport=]`, as it goes into a URI.
    pub(crate) hostport: String,
    pub(crate) host: String,
    /// Its host is a name, which has to be looked up.
    pub(crate) is_named: bool,
    /// 0: any.
    pub(crate) port: u16,
    /// `None`: any.
    pub(crate) proto: Option<Proto>,
    pub(crate) strip: usize,
    pub(crate) prefix: String,
    pub(crate) attrs: String,
    pub(crate) probe_mode: i64,
    pub(crate) socket: Option<SocketId>,
    pub(crate) socket_text: String,
    pub(crate) status: Arc<Status>,
    /// The addresses of its host, as far as they are known.
    pub(crate) ips: RwLock<Vec<IpAddr>>,
}

impl Gateway {
    /// The URI of the gateway itself.
    pub(crate) fn uri(&self) -> String {
        format!("sip:{}", self.hostport)
    }

    /// Its address and port for people.
    pub(crate) fn ip_text(&self) -> String {
        let port = if self.port == 0 { 5060 } else { self.port };
        match self.ips.read().first() {
            Some(ip) => std::net::SocketAddr::new(*ip, port).to_string(),
            None => format!("{}:{port}", self.host),
        }
    }
}

/// How a list is brought into the order in which it is tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sort {
    #[default]
    AsWritten,
    Weight,
    /// By what the calls were like, which the module qrouting knows.
    Quality,
}

/// A carrier.
#[derive(Debug)]
pub(crate) struct Carrier {
    pub(crate) id: Arc<str>,
    pub(crate) list: Vec<Choice>,
    pub(crate) first_only: bool,
    pub(crate) sort: Sort,
    pub(crate) attrs: String,
    pub(crate) status: Arc<Status>,
}

/// Where an entry of a list leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Gateway(u32),
    Carrier(u32),
}

/// An entry of a list of gateways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) target: Target,
    pub(crate) weight: u32,
}

/// The gateways and carriers of a partition.
#[derive(Debug, Default)]
pub(crate) struct Destinations {
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) carriers: Vec<Carrier>,
    gateway_ids: BTreeMap<Arc<str>, u32>,
    carrier_ids: BTreeMap<Arc<str>, u32>,
}

/// What a reader of rows knows.
pub(crate) struct Reader<'a> {
    pub(crate) sockets: &'a Sockets,
    pub(crate) filter: Filter,
    /// Characters of ids beside letters and digits.
    pub(crate) id_chars: &'a str,
    /// The column `state` counts.
    pub(crate) with_state: bool,
}

/// The text of a column, whatever its type.
pub(crate) fn shown(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Int(n) => n.to_string().into(),
        value => value.as_str().unwrap_or_default().trim().into(),
    }
}

pub(crate) fn text(value: &Value) -> String {
    shown(value).into_owned()
}

pub(crate) fn int(value: &Value) -> i64 {
    value.as_int().unwrap_or(0)
}

impl Reader<'_> {
    fn id(&self, value: &Value, what: &str) -> Result<Arc<str>, String> {
        let id = text(value);
        let fits = |c: char| c.is_ascii_alphanumeric() || self.id_chars.contains(c);
        if id.is_empty() {
            return Err(format!("a {what} has no id"));
        }
        match id.chars().find(|c| !fits(*c)) {
            None => Ok(id.into()),
            Some(c) => Err(format!("{what} `{id}`: {c:?} is no part of an id (extra_id_chars)")),
        }
    }

    /// A gateway of a row of [`GATEWAY_COLUMNS`]; `None`: it is not for this node. `notes` gets
    /// what is taken otherwise than it is written.
    fn gateway(&self, row: &Row, notes: &mut Vec<String>) -> Result<Option<Gateway>, String> {
        let [id, kind, address, strip, prefix, attrs, probe, state, socket] = row.as_slice() else {
            return Err("a row of gateways has not the nine columns".into());
        };
        let id = self.id(id, "gateway")?;
        let address = text(address);
        let wrong = |why: &str| format!("gateway `{id}`: address `{address}`: {why}");
        let scheme = address.get(..4).is_some_and(|s| s.eq_ignore_ascii_case("sip:"));
        let hostport = if scheme { address.get(4..).unwrap_or_default() } else { &address };
        if address.get(..5).is_some_and(|s| s.eq_ignore_ascii_case("sips:")) {
            return Err(wrong("Tandem does not speak its transport"));
        }
        let uri = format!("sip:{hostport}");
        let uri = Uri::parse(uri.as_bytes()).map_err(|e| wrong(&e.to_string()))?;
        if uri.user.is_some() || uri.host.is_empty() {
            return Err(wrong("it is written [sip:]host[:port][;transport=]"));
        }
        let proto = match uri.param(b"transport") {
            None => None,
            Some(_) => Some(match uri.transport() {
                Some(Transport::Udp) => Proto::Udp,
                Some(Transport::Tcp) => Proto::Tcp,
                _ => return Err(wrong("Tandem does not speak its transport")),
            }),
        };
        let socket_text = if self.filter == Filter::Ignore { String::new() } else { text(socket) };
        let socket = Some(&socket_text).filter(|t| !t.is_empty());
        let socket = socket.and_then(|text| self.sockets.named(text));
        if !socket_text.is_empty() && socket.is_none() && self.filter == Filter::MatchedOnly {
            return Ok(None);
        }
        if !socket_text.is_empty() && socket.is_none() && !is_socket(&socket_text) {
            let why = "is none such as udp:192.0.2.1:5060: any is used";
            notes.push(format!("gateway `{id}`: socket `{socket_text}` {why}"));
        }
        let probe_mode = int(probe);
        if !(0..=2).contains(&probe_mode) {
            let why = "is none of 0, 1 and 2: it is not probed";
            notes.push(format!("gateway `{id}`: probe_mode {probe_mode} {why}"));
        }
        let prefix = text(prefix);
        if !is_user(&prefix) {
            let why = "holds what no user part of a URI holds";
            return Err(format!("gateway `{id}`: pri_prefix `{prefix}` {why}"));
        }
        let strip = int(strip);
        let negative = || format!("gateway `{id}`: strip {strip} is negative");
        let strip = usize::try_from(strip).map_err(|_| negative())?;
        Ok(Some(Gateway {
            kind: int(kind),
            hostport: hostport.to_owned(),
            host: String::from_utf8_lossy(uri.host_bare()).into_owned(),
            is_named: uri.host_ip().is_none(),
            port: uri.port.unwrap_or(0),
            proto,
            strip,
            prefix,
            attrs: text(attrs),
            probe_mode,
            socket,
            socket_text,
            status: Arc::new(Status::new(self.state(Kind::Gateway, state))),
            ips: RwLock::new(uri.host_ip().into_iter().collect()),
            address: address.clone(),
            id,
        }))
    }

    fn state(&self, kind: Kind, value: &Value) -> u32 {
        if self.with_state { kind.of_column(int(value)) } else { 0 }
    }
}

impl Destinations {
    pub(crate) fn add_gateway(&mut self, reader: &Reader<'_>, row: &Row, faults: &mut Faults) {
        let mut notes = Vec::new();
        match reader.gateway(row, &mut notes) {
            Ok(Some(gateway)) if self.gateway_ids.contains_key(&gateway.id) => {
                faults.refuse("gateways", format!("gateway `{}` is there twice", gateway.id));
            }
            Ok(Some(gateway)) => {
                let at = self.gateways.len() as u32;
                self.gateway_ids.insert(Arc::clone(&gateway.id), at);
                self.gateways.push(gateway);
                faults.take_row("gateways", notes);
            }
            Ok(None) => {}
            Err(why) => faults.refuse("gateways", why),
        }
    }

    pub(crate) fn add_carrier(&mut self, reader: &Reader<'_>, row: &Row, faults: &mut Faults) {
        if let Err(why) = self.try_add_carrier(reader, row, faults) {
            faults.refuse("carriers", why);
        }
    }

    fn try_add_carrier(
        &mut self,
        reader: &Reader<'_>,
        row: &Row,
        faults: &mut Faults,
    ) -> Result<(), String> {
        let [id, list, flags, sort, state, attrs] = row.as_slice() else {
            return Err("a row of carriers has not the six columns".into());
        };
        let id = reader.id(id, "carrier")?;
        if self.carrier_ids.contains_key(&id) {
            return Err(format!("carrier `{id}` is there twice"));
        }
        let place = format!("carrier `{id}`");
        let (list, missing) = self.list(&text(list), false, &place);
        let in_part = !missing.is_empty();
        missing.into_iter().for_each(|why| faults.note("carriers", why));
        if list.is_empty() {
            return Err(format!("{place} leads to no gateway"));
        }
        let flags = int(flags);
        let off = if flags & 2 != 0 { Kind::Carrier.bits() } else { 0 };
        let carrier = Carrier {
            list,
            first_only: flags & 1 != 0,
            sort: sort_of(&text(sort)).map_err(|why| format!("{place}: {why}"))?,
            attrs: text(attrs),
            status: Arc::new(Status::new(off | reader.state(Kind::Carrier, state))),
            id: Arc::clone(&id),
        };
        if in_part {
            faults.count_row();
        }
        self.carrier_ids.insert(id, self.carriers.len() as u32);
        self.carriers.push(carrier);
        Ok(())
    }

    /// `gw1=10,#carrier,gw2`: what is known of it, and what is not, in words.
    pub(crate) fn list(
        &self,
        text: &str,
        carriers: bool,
        place: &str,
    ) -> (Vec<Choice>, Vec<String>) {
        let items = text.split([',', ';']).map(str::trim).filter(|item| !item.is_empty());
        let (mut list, mut missing) = (Vec::new(), Vec::new());
        for item in items.take(LIST_MAX) {
            let (name, weight) = item.split_once('=').unwrap_or((item, "0"));
            let weight = weight.trim().parse();
            let target = match name.trim().strip_prefix('#') {
                Some(id) if carriers => {
                    self.carrier_ids.get(id.trim()).copied().map(Target::Carrier)
                }
                Some(_) => None,
                None => self.gateway_ids.get(name.trim()).copied().map(Target::Gateway),
            };
            match (target, weight) {
                (Some(target), Ok(weight)) => list.push(Choice { target, weight }),
                (Some(_), Err(_)) => {
                    let why = "its weight is no number from 0 on";
                    missing.push(format!("{place}: `{item}` is left out: {why}"));
                }
                _ => missing.push(format!("{place}: `{item}` is left out: it names nothing known")),
            }
        }
        (list, missing)
    }

    /// Whether an entry of a list is a carrier that is sorted by quality.
    pub(crate) fn is_by_quality(&self, to: Choice) -> bool {
        let Target::Carrier(at) = to.target else { return false };
        self.carriers.get(at as usize).is_some_and(|carrier| carrier.sort == Sort::Quality)
    }

    pub(crate) fn gateway(&self, id: &str) -> Option<(u32, &Gateway)> {
        let at = *self.gateway_ids.get(id)?;
        Some((at, self.gateways.get(at as usize)?))
    }

    pub(crate) fn carrier(&self, id: &str) -> Option<(u32, &Carrier)> {
        let at = *self.carrier_ids.get(id)?;
        Some((at, self.carriers.get(at as usize)?))
    }

    /// Every state with what it belongs to.
    pub(crate) fn statuses(&self) -> impl Iterator<Item = (Kind, &Arc<str>, &Arc<Status>)> {
        let carriers = self.carriers.iter().map(|c| (Kind::Carrier, &c.id, &c.status));
        carriers.chain(self.gateways.iter().map(|g| (Kind::Gateway, &g.id, &g.status)))
    }

    /// Gives a gateway or carrier the state that it had.
    pub(crate) fn set_state(&mut self, kind: Kind, id: &str, bits: u32) {
        let ids = if kind == Kind::Gateway { &self.gateway_ids } else { &self.carrier_ids };
        let Some(at) = ids.get(id).map(|at| *at as usize) else { return };
        let status = match kind {
            Kind::Gateway => self.gateways.get_mut(at).map(|gateway| &mut gateway.status),
            Kind::Carrier => self.carriers.get_mut(at).map(|carrier| &mut carrier.status),
        };
        if let Some(status) = status {
            *status = Arc::new(Status::new(bits));
        }
    }

    /// Keeps the addresses of the names that were there before, until they are found again.
    pub(crate) fn keep_addresses(&mut self, old: &Self) {
        for gateway in self.gateways.iter_mut().filter(|gateway| gateway.is_named) {
            let known = old.gateway(&gateway.id).map(|(_, known)| known);
            if let Some(known) = known.filter(|g| g.host.eq_ignore_ascii_case(&gateway.host)) {
                gateway.ips = RwLock::new(known.ips.read().clone());
            }
        }
    }

    /// Keeps the states of the gateways and carriers that were there before, as far as `keeps`
    /// says so.
    pub(crate) fn inherit(&mut self, old: &Self, keeps: impl Fn(&Status) -> bool) {
        for gateway in &mut self.gateways {
            let known = old.gateway(&gateway.id).filter(|(_, known)| keeps(&known.status));
            if let Some((_, known)) = known {
                gateway.status = Arc::clone(&known.status);
            }
        }
        for carrier in &mut self.carriers {
            let known = old.carrier(&carrier.id).filter(|(_, known)| keeps(&known.status));
            if let Some((_, known)) = known {
                carrier.status = Arc::clone(&known.status);
            }
        }
    }
}

/// Whether a text may stand in the user part of a URI.
fn is_user(text: &str) -> bool {
    let uri = format!("sip:{text}0@a");
    let user = Uri::parse(uri.as_bytes()).ok().and_then(|uri| uri.user);
    user.is_some_and(|user| user.strip_suffix(b"0") == Some(text.as_bytes()))
}

/// The order that a letter names.
pub(crate) fn sort_of(text: &str) -> Result<Sort, String> {
    match text {
        "" | "N" => Ok(Sort::AsWritten),
        "W" => Ok(Sort::Weight),
        "Q" => Ok(Sort::Quality),
        other => Err(format!("sort_alg `{other}` is none of N, W and Q")),
    }
}
