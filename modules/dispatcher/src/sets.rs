//! Sets of destinations, as their table says.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;
use tandem_bin::dispatcher as wire;
use tandem_db::{Row, Rows, Value};
use tandem_engine::sockets::{Proto, SocketId, Sockets};
use tandem_freeswitch::FsUrl;
use tandem_targets::{Address, Faults, Status, is_socket};

/// Columns of the table, in the order in which they are selected.
pub(crate) const COLUMNS: [&str; 9] = [
    "setid_col",
    "destination_col",
    "socket_col",
    "state_col",
    "weight_col",
    "priority_col",
    "attrs_col",
    "description_col",
    "probe_mode_col",
];
/// Bits of a state.
pub(crate) const INACTIVE: u32 = wire::INACTIVE as u32;
pub(crate) const PROBING: u32 = wire::PROBING as u32;
/// The table in faults.
const TABLE: &str = "destinations";

/// What a node remembers of a destination for itself; it outlives the tables.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Failures since it was alive.
    pub(crate) failures: AtomicU32,
    /// How often it was the first choice.
    pub(crate) hits: AtomicU64,
    pub(crate) script_attrs: RwLock<String>,
}

/// How much of a set falls on a destination.
#[derive(Debug)]
pub(crate) struct Weight {
    now: AtomicU32,
    /// Who tells it.
    pub(crate) told_by: Option<Arc<FsUrl>>,
}

impl Weight {
    pub(crate) fn get(&self) -> u32 {
        self.now.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, weight: u32) {
        self.now.store(weight, Ordering::Relaxed);
    }

    /// Of the column; `freeswitch_max` is the weight of a FreeSWITCH that has told nothing yet.
    fn of(text: &str, freeswitch_max: Option<u32>) -> Result<Self, String> {
        let fixed = |now: u32| Self { now: now.into(), told_by: None };
        match freeswitch_max {
            _ if text.is_empty() => Ok(fixed(1)),
            None if FsUrl::is_meant(text) => Err("its weight is that of a FreeSWITCH, but \
                                                  fetch_freeswitch_stats is not set"
                .into()),
            Some(max) if FsUrl::is_meant(text) => {
                let told_by = Some(Arc::new(FsUrl::parse(text)?));
                Ok(Self { now: max.into(), told_by })
            }
            _ => text.parse().map(fixed).map_err(|_| "its weight is no number".into()),
        }
    }
}

/// A state in the words of the management interface.
pub(crate) fn state_text(bits: u32) -> &'static str {
    match bits {
        0 => "Active",
        bits if bits & INACTIVE != 0 => "Inactive",
        _ => "Probing",
    }
}

/// What the column `state` says.
pub(crate) fn of_column(state: i64) -> u32 {
    match state {
        1 => INACTIVE,
        2 => PROBING,
        _ => 0,
    }
}

/// The same for the other direction.
pub(crate) fn column(bits: u32) -> i64 {
    match bits {
        0 => 0,
        bits if bits & INACTIVE != 0 => 1,
        _ => 2,
    }
}

/// A destination.
#[derive(Debug)]
pub(crate) struct Destination {
    pub(crate) set: i64,
    /// As the table has it.
    pub(crate) uri: Bytes,
    /// `host[:port]` and the transport, as they go into a Request-URI.
    pub(crate) hostport: String,
    pub(crate) transport: Option<String>,
    pub(crate) host: String,
    /// The host is a name, which has to be looked up.
    pub(crate) is_named: bool,
    pub(crate) port: u16,
    pub(crate) proto: Option<Proto>,
    pub(crate) socket: Option<SocketId>,
    pub(crate) socket_text: String,
    pub(crate) weight: Weight,
    pub(crate) priority: i64,
    pub(crate) attrs: String,
    pub(crate) description: String,
    /// It is probed while it is active, too.
    pub(crate) always_probed: bool,
    pub(crate) status: Arc<Status>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) ips: RwLock<Vec<IpAddr>>,
}

/// The sets of a partition, each in the order of its priorities.
#[derive(Debug, Default)]
pub(crate) struct Sets {
    sets: BTreeMap<i64, Vec<Arc<Destination>>>,
    /// What was wrong with rows.
    pub(crate) faults: Faults,
    /// When they were read; 0: never.
    pub(crate) unix_s: u64,
}

fn text(value: &Value) -> String {
    match value {
        Value::Int(n) => n.to_string(),
        value => value.as_str().unwrap_or_default().trim().to_owned(),
    }
}

impl Sets {
    /// From rows of [`COLUMNS`].
    pub(crate) fn of(
        rows: &Rows,
        sockets: &Sockets,
        with_state: bool,
        freeswitch_max: Option<u32>,
    ) -> Self {
        let (mut sets, mut known) = (Self::default(), HashSet::new());
        let faults = &mut sets.faults;
        for row in &rows.rows {
            let mut notes = Vec::new();
            match destination(row, sockets, (with_state, freeswitch_max), &mut notes) {
                Ok(new) if !known.insert((new.set, new.uri.clone())) => {
                    let uri = String::from_utf8_lossy(&new.uri);
                    faults.refuse(TABLE, format!("set {}: {uri} is there twice", new.set));
                }
                Ok(new) => {
                    faults.take_row(TABLE, notes);
                    sets.sets.entry(new.set).or_default().push(Arc::new(new));
                }
                Err(why) => faults.refuse(TABLE, why),
            }
        }
        for set in sets.sets.values_mut() {
            set.sort_by_key(|destination| std::cmp::Reverse(destination.priority));
        }
        sets
    }

    /// Keeps what is known, also where they are, of the destinations that were there before.
    pub(crate) fn inherit(&mut self, old: &Self, with_state: bool) {
        let key = |of: &Destination| (of.set, of.uri.to_ascii_lowercase());
        let mut before = HashMap::new();
        for known in old.all() {
            before.entry(key(known)).or_insert(known);
        }
        for destination in self.sets.values_mut().flatten() {
            let known = before.get(&key(destination));
            let (Some(known), Some(own)) = (known, Arc::get_mut(destination)) else { continue };
            own.memory = Arc::clone(&known.memory);
            if own.is_named {
                // Until they are found again.
                own.ips = RwLock::new(known.ips.read().clone());
            }
            if with_state {
                own.status = Arc::clone(&known.status);
            }
        }
    }

    pub(crate) fn set(&self, id: i64) -> Option<&[Arc<Destination>]> {
        self.sets.get(&id).map(Vec::as_slice)
    }

    pub(crate) fn sets(&self) -> impl Iterator<Item = (i64, &[Arc<Destination>])> {
        self.sets.iter().map(|(id, set)| (*id, set.as_slice()))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Destination>> {
        self.sets.values().flatten()
    }

    pub(crate) fn find(&self, set: i64, uri: &[u8]) -> Option<&Arc<Destination>> {
        self.sets.get(&set)?.iter().find(|d| d.uri.eq_ignore_ascii_case(uri))
    }
}

fn destination(
    row: &Row,
    sockets: &Sockets,
    (with_state, freeswitch_max): (bool, Option<u32>),
    notes: &mut Vec<String>,
) -> Result<Destination, String> {
    let [set, uri, socket, state, weight, priority, attrs, description, probe] = row.as_slice()
    else {
        return Err("a row has not the nine columns".into());
    };
    let set = set.as_int().ok_or("a destination has no set")?;
    let written = text(uri);
    let wrong = |why: &str| format!("set {set}, destination `{written}`: {why}");
    let address = Address::of(&written).map_err(|why| wrong(&why))?;
    let weight = Weight::of(&text(weight), freeswitch_max).map_err(|why| wrong(&why))?;
    let Address { host, host_bare, port, proto, ip } = address;
    let port_text = if port == 0 { String::new() } else { format!(":{port}") };
    let socket_text = text(socket);
    let socket = sockets.named(&socket_text);
    if !socket_text.is_empty() && socket.is_none() && !is_socket(&socket_text) {
        let why = "is none such as udp:192.0.2.1:5060: any is used";
        notes.push(wrong(&format!("socket `{socket_text}` {why}")));
    }
    let mut int = |column: &str, value: &Value, fits: fn(i64) -> bool, why: &str| {
        let number = value.as_int().filter(|number| fits(*number));
        if number.is_none() && !text(value).is_empty() {
            notes.push(wrong(&format!("{column} `{}` {why}", text(value))));
        }
        number.unwrap_or(0)
    };
    let state = if with_state { state } else { &Value::Null };
    let is_state = |state| (0..=2).contains(&state);
    let state = int("state", state, is_state, "is none of 0, 1 and 2: it begins as active");
    let priority = int("priority", priority, |_| true, "is no number: it has priority 0");
    let is_mode = |mode| (0..=2).contains(&mode);
    let why = "is none of 0, 1 and 2: it is not probed while it is active";
    let probe_mode = int("probe_mode", probe, is_mode, why);
    Ok(Destination {
        set,
        hostport: format!("{host}{port_text}"),
        transport: proto.map(|proto| proto.text().to_owned()),
        host: host_bare,
        is_named: ip.is_none(),
        port,
        proto,
        socket,
        socket_text,
        weight,
        priority,
        attrs: text(attrs),
        description: text(description),
        always_probed: probe_mode != 0,
        status: Arc::new(Status::new(of_column(state))),
        memory: Arc::default(),
        ips: RwLock::new(ip.into_iter().collect()),
        uri: Bytes::from(written.clone()),
    })
}
