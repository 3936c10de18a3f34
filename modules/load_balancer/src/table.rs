//! The destinations, as their table says.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;
use tandem_db::{Row, Rows, Value};
use tandem_engine::sockets::Proto;
use tandem_freeswitch::FsUrl;
use tandem_targets::{Address, Faults, Status};

/// Columns of the table, in the order in which they are selected.
pub(crate) const COLUMNS: [&str; 6] =
    ["id", "group_id", "dst_uri", "resources", "probe_mode", "attrs"];
/// The table in faults.
const TABLE: &str = "destinations";
/// Resources of one destination.
const RESOURCES_MAX: usize = 64;

/// A resource of a destination.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) name: String,
    max: AtomicU32,
    /// Who tells its size.
    pub(crate) told_by: Option<Arc<FsUrl>>,
    /// It was told.
    is_told: AtomicBool,
}

impl Resource {
    fn of(name: &str, size: &str, freeswitch_initial: Option<u32>) -> Result<Self, String> {
        let (max, told_by) = match freeswitch_initial {
            None if FsUrl::is_meant(size) => {
                return Err(format!(
                    "the size of resource `{name}` is that of a FreeSWITCH, but \
                     fetch_freeswitch_stats is not set"
                ));
            }
            Some(initial) if FsUrl::is_meant(size) => {
                let url = FsUrl::parse(size).map_err(|why| format!("resource `{name}`: {why}"))?;
                (initial, Some(Arc::new(url)))
            }
            _ => {
                let wrong =
                    |_| format!("the size `{size}` of resource `{name}` is no number of calls");
                (size.parse().map_err(wrong)?, None)
            }
        };
        let (max, is_told) = (max.into(), AtomicBool::new(false));
        Ok(Self { name: name.to_owned(), max, told_by, is_told })
    }

    /// Whether the server of its size has told it.
    pub(crate) fn is_told(&self) -> bool {
        self.is_told.load(Ordering::Relaxed)
    }

    /// The server of its size has told it.
    pub(crate) fn tell(&self, max: u32) {
        self.resize(max);
        self.is_told.store(true, Ordering::Relaxed);
    }

    /// Calls that it can bear.
    pub(crate) fn max(&self) -> u32 {
        self.max.load(Ordering::Relaxed)
    }

    pub(crate) fn resize(&self, max: u32) {
        self.max.store(max, Ordering::Relaxed);
    }
}

/// When a destination is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbeMode {
    Never,
    WhileDisabled,
    Always,
}

/// A destination.
#[derive(Debug)]
pub(crate) struct Destination {
    pub(crate) id: i64,
    pub(crate) group: i64,
    /// As the table has it.
    pub(crate) uri: Bytes,
    pub(crate) resources: Vec<Resource>,
    pub(crate) probe_mode: ProbeMode,
    pub(crate) attrs: String,
    /// 0: any.
    pub(crate) port: u16,
    pub(crate) proto: Option<Proto>,
    pub(crate) ips: RwLock<Vec<IpAddr>>,
    /// Its host is an address.
    pub(crate) is_literal: bool,
    pub(crate) status: Arc<Status>,
}

impl Destination {
    pub(crate) fn resource(&self, name: &str) -> Option<&Resource> {
        self.resources.iter().find(|resource| resource.name == name)
    }

    /// Whether it is at an address; 0 is any port.
    pub(crate) fn is_at(&self, ip: IpAddr, port: u16) -> bool {
        (port == 0 || self.port == 0 || self.port == port) && self.ips.read().contains(&ip)
    }
}

/// All destinations, in the order of their ids.
#[derive(Debug, Default)]
pub(crate) struct Table {
    all: Vec<Arc<Destination>>,
    groups: BTreeMap<i64, Vec<usize>>,
    /// Every resource that some destination has.
    resources: BTreeSet<String>,
    /// What was wrong with rows.
    pub(crate) faults: Faults,
    /// When it was read; 0: never.
    pub(crate) unix_s: u64,
}

impl Table {
    /// From rows of [`COLUMNS`].
    pub(crate) fn of(rows: &Rows, freeswitch_initial: Option<u32>) -> Self {
        let (mut table, mut read) = (Self::default(), Vec::<Destination>::new());
        for row in &rows.rows {
            match destination(row, freeswitch_initial) {
                Ok(new) => read.push(new),
                Err(why) => table.faults.refuse(TABLE, why),
            }
        }
        read.sort_by_key(|destination| destination.id);
        let mut known = HashSet::new();
        for new in read {
            if known.insert((new.group, new.uri.clone())) {
                table.add(new);
            } else {
                let uri = String::from_utf8_lossy(&new.uri);
                let why = format!("id {}: group {} has {uri} already", new.id, new.group);
                table.faults.refuse(TABLE, why);
            }
        }
        table
    }

    fn add(&mut self, new: Destination) {
        self.groups.entry(new.group).or_default().push(self.all.len());
        self.resources.extend(new.resources.iter().map(|resource| resource.name.clone()));
        self.all.push(Arc::new(new));
    }

    /// Keeps the states of the destinations that were there before, their addresses until they
    /// are found again, and the sizes that they told.
    pub(crate) fn inherit(&mut self, old: &Self) {
        let before: HashMap<_, _> =
            old.all.iter().map(|known| ((known.group, known.uri.clone()), known)).collect();
        for destination in &mut self.all {
            let known = before.get(&(destination.group, destination.uri.clone()));
            if let (Some(known), Some(own)) = (known, Arc::get_mut(destination)) {
                own.status = Arc::clone(&known.status);
                for resource in own.resources.iter().filter(|r| r.told_by.is_some()) {
                    let before = known.resource(&resource.name);
                    let before = before.filter(|b| b.is_told() && b.told_by == resource.told_by);
                    before.into_iter().for_each(|before| resource.tell(before.max()));
                }
                if own.ips.read().is_empty() {
                    own.ips = RwLock::new(known.ips.read().clone());
                }
            }
        }
    }

    pub(crate) fn all(&self) -> &[Arc<Destination>] {
        &self.all
    }

    pub(crate) fn group(&self, group: i64) -> impl Iterator<Item = &Arc<Destination>> {
        self.groups.get(&group).into_iter().flatten().filter_map(|at| self.all.get(*at))
    }

    pub(crate) fn find(&self, group: i64, uri: &[u8]) -> Option<&Arc<Destination>> {
        self.group(group).find(|destination| destination.uri == uri)
    }

    /// The one that a peer means: also a URI with more parameters. (A stock node takes any URI
    /// that begins as its own does; then 10.0.0.10 would mean 10.0.0.1.)
    pub(crate) fn meant(&self, group: i64, uri: &[u8]) -> Option<&Arc<Destination>> {
        let is_more = |own: &[u8]| {
            uri.strip_prefix(own).is_some_and(|rest| matches!(rest.first(), Some(b';' | b'?')))
        };
        let begins = || self.group(group).find(|destination| is_more(&destination.uri));
        self.find(group, uri).or_else(begins)
    }

    pub(crate) fn by_id(&self, id: i64) -> Option<&Arc<Destination>> {
        self.all.iter().find(|destination| destination.id == id)
    }

    /// The names of resources that no destination has.
    pub(crate) fn unknown<'a>(&self, resources: &'a [String]) -> Vec<&'a str> {
        let unknown = resources.iter().filter(|name| !self.resources.contains(*name));
        unknown.map(String::as_str).collect()
    }

    pub(crate) fn resource_names(&self) -> impl Iterator<Item = &str> {
        self.resources.iter().map(String::as_str)
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Int(n) => n.to_string(),
        value => value.as_str().unwrap_or_default().trim().to_owned(),
    }
}

fn destination(row: &Row, freeswitch_initial: Option<u32>) -> Result<Destination, String> {
    let [id, group, uri, resources, probe_mode, attrs] = row.as_slice() else {
        return Err("a row has not the six columns".into());
    };
    let id = id.as_int().ok_or("a destination has no id")?;
    let uri = text(uri);
    let wrong = |why: &str| format!("id {id}, destination `{uri}`: {why}");
    let group = group.as_int().ok_or_else(|| wrong("it has no group"))?;
    let group = i32::try_from(group).map_err(|_| wrong("its group is too large"))?;
    let address = Address::of(&uri).map_err(|why| wrong(&why))?;
    let resources = self::resources(&text(resources), freeswitch_initial);
    let resources = resources.map_err(|why| wrong(&why))?;
    let mode = || text(probe_mode);
    let probe_mode = match probe_mode.as_int() {
        None if !mode().is_empty() => {
            return Err(wrong(&format!("probe_mode `{}` is none of 0, 1 and 2", mode())));
        }
        None | Some(0) => ProbeMode::Never,
        Some(1) => ProbeMode::WhileDisabled,
        Some(2) => ProbeMode::Always,
        Some(other) => return Err(wrong(&format!("probe_mode {other} is none of 0, 1 and 2"))),
    };
    Ok(Destination {
        id,
        group: i64::from(group),
        resources,
        probe_mode,
        attrs: text(attrs),
        port: address.port,
        proto: address.proto,
        is_literal: address.ip.is_some(),
        ips: RwLock::new(address.ip.into_iter().collect()),
        status: Arc::new(Status::new(0)),
        uri: Bytes::from(uri),
    })
}

/// `pstn=32;transcoding=12`, or `pstn=fs://:password@host`.
fn resources(text: &str, freeswitch_initial: Option<u32>) -> Result<Vec<Resource>, String> {
    let mut all: Vec<Resource> = Vec::new();
    for item in text.split(';').map(str::trim).filter(|item| !item.is_empty()) {
        // Passwords are not for logs.
        let shown = if item.to_ascii_lowercase().contains("fs://") { "fs://.." } else { item };
        let (name, size) =
            item.split_once('=').ok_or_else(|| format!("resource `{shown}` has no `=`"))?;
        let (name, size) = (name.trim(), size.trim());
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(format!("`{shown}` names no resource: it is written name=32"));
        }
        if all.iter().any(|known| known.name == name) {
            return Err(format!("it has resource `{name}` twice"));
        }
        all.push(Resource::of(name, size, freeswitch_initial)?);
    }
    match all.len() {
        0 => Err("it has no resources: they are written pstn=32;transcoding=12".into()),
        n if n > RESOURCES_MAX => Err(format!("it has {n} resources; {RESOURCES_MAX} may be")),
        _ => Ok(all),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn resources_have_sizes() {
        let read = resources("pstn=32; transcoding = 12;", None).unwrap();
        let read: Vec<_> = read.iter().map(|r| (r.name.as_str(), r.max())).collect();
        assert_eq!(read, [("pstn", 32), ("transcoding", 12)]);
        for wrong in ["", ";", "a", "=3", "a=x", "a=-1", "a=1;a=2", "a b=1", "a=5000000000"] {
            assert!(resources(wrong, None).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_size_may_be_told_by_a_freeswitch() {
        let why = resources("ch=fs://:pw@10.0.0.1", None).unwrap_err();
        assert!(why.contains("FreeSWITCH") && why.contains("fetch_freeswitch_stats"), "{why}");
        let read = resources("ch=fs://:p=w@10.0.0.1; pstn=3", Some(500)).unwrap();
        let read: Vec<_> = read.iter().map(|r| (r.max(), r.told_by.is_some())).collect();
        assert_eq!(read, [(500, true), (3, false)]);
        let why = resources("ch=fs://10.0.0.1", Some(500)).unwrap_err();
        assert!(why.contains("`ch`") && why.contains("password"), "{why}");
        for wrong in ["fs://:Geheim@h", "=fs://:Geheim@h", "a b=fs://:Geheim@h", "a=fs://:Geheim@"]
        {
            let why = resources(wrong, Some(500)).unwrap_err();
            assert!(!why.contains("Geheim"), "{why}");
        }
    }

    #[test]
    fn a_peer_may_write_a_longer_uri() {
        let row = |id: i64, group: i64, uri: &str| {
            vec![id.into(), group.into(), uri.into(), "a=1".into(), 0.into(), Value::Null]
        };
        let rows = vec![row(2, 1, "sip:a"), row(1, 1, "sip:ab"), row(3, 2, "sip:a")];
        let table = Table::of(&Rows { rows, ..Rows::default() }, None);
        assert!(table.faults.all.is_empty(), "{:?}", table.faults);
        let meant = |group, uri: &str| table.meant(group, uri.as_bytes()).map(|of| of.id);
        assert_eq!((meant(1, "sip:a"), meant(1, "sip:ab")), (Some(2), Some(1)));
        assert_eq!((meant(1, "sip:a;transport=udp"), meant(2, "sip:ab")), (Some(2), None));
        assert_eq!((meant(1, "sip:"), meant(3, "sip:a")), (None, None));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-z=;0-9 :/\u{e9}-]{0,40}") {
            let _ = resources(&text, None);
            let _ = resources(&text, Some(1));
        }
    }
}
