//! Parameters and partitions.

use bytes::Bytes;
use tandem_db::{Name, Select, check_name};
use tandem_engine::cached::Part as Table;
use tandem_engine::module::{Build, BuildError, ParamValue};
use tandem_engine::table::param;
use tandem_script::program::VarId;
use tandem_script::sig::{ParamKind, ParamSig, Routes};
use tandem_targets::{self as targets, Blacklist, Mode, Probing, Sharing};

use crate::sets::{COLUMNS, Sets};

/// The partition that is meant without a name.
pub(crate) const DEFAULT: &str = "default";

const fn text(name: &'static str, default: Option<&'static str>, help: &'static str) -> ParamSig {
    param(name, ParamKind::Str, default, help)
}

const fn checked(row: ParamSig, check: fn(&str) -> Result<(), String>) -> ParamSig {
    ParamSig { check: Some(check), ..row }
}

const fn name(name: &'static str, default: &'static str, help: &'static str) -> ParamSig {
    checked(text(name, Some(default), help), check_table)
}

const fn avp(name: &'static str, default: Option<&'static str>, help: &'static str) -> ParamSig {
    checked(text(name, default, help), |text| avp_of(text).map(|_| ()))
}

const fn int(name: &'static str, default: &'static str, help: &'static str) -> ParamSig {
    param(name, ParamKind::Int, Some(default), help)
}

const fn many(row: ParamSig) -> ParamSig {
    ParamSig { multiple: true, ..row }
}

/// The parameter table.
pub(crate) const PARAMS: &[ParamSig] = &[
    many(checked(
        text(
            "partition",
            None,
            "A partition: \"name: db_url=URL; table_name=TABLE; dst_avp=$avp(x); ..\".",
        ),
        |text| Given::parse(text).map(|_| ()),
    )),
    text("db_url", None, "Database of partitions without one; else db_default_url."),
    name("table_name", "dispatcher", "Table of partitions without one."),
    name("setid_col", "setid", "Column with the set."),
    name("destination_col", "destination", "Column with the SIP URI."),
    name("socket_col", "socket", "Column with the socket to send from."),
    name("state_col", "state", "Column with the state: 0 active, 1 inactive, 2 probing."),
    name("weight_col", "weight", "Column with the weight."),
    name("priority_col", "priority", "Column with the priority: the largest number first."),
    name("attrs_col", "attrs", "Column with a text for the script."),
    name("description_col", "description", "Column with a text for people."),
    name("probe_mode_col", "probe_mode", "Column: 1 is probed while it is active, too."),
    avp("dst_avp", Some("$avp(ds_dst_failover)"), "AVP with the destinations, the used one first."),
    avp("grp_avp", Some("$avp(ds_grp_failover)"), "AVP with the set."),
    avp("cnt_avp", Some("$avp(ds_cnt_failover)"), "AVP with how many destinations there are."),
    avp("sock_avp", Some("$avp(ds_sock_failover)"), "AVP with the sockets of the destinations."),
    avp("attrs_avp", None, "AVP for the attributes of the used destination."),
    avp("script_attrs_avp", None, "AVP for its attributes that the script has set."),
    text("hash_pvar", Some(""), "The text that algorithm 7 hashes, with variables."),
    param("setid_pvar", ParamKind::Var, None, "Variable for the set that ds_is_in_list() found."),
    text(
        "pvar_algo_pattern",
        Some(""),
        "What algorithm 9 goes by: %u is the URI of a destination, %i its host.",
    ),
    text(
        "algo_route",
        None,
        "Route that algorithm 10 asks for the load of a destination: $param(1) is its URI, $param(2) \
         its attributes; it returns the load, or a negative number to pass it over.",
    ),
    ParamSig {
        old_names: &["ds_probing_threshhold"],
        ..int("ds_probing_threshold", "3", "Failures in a row after which one is probing.")
    },
    text("ds_ping_method", Some("OPTIONS"), "Method of probes."),
    text("ds_ping_from", Some("sip:dispatcher@localhost"), "From of probes."),
    int("ds_ping_interval", "0", "Seconds between probes of a destination; 0: none are sent."),
    int("ds_ping_maxfwd", "-1", "Max-Forwards of probes; -1: the usual."),
    int(
        "ds_probing_mode",
        "0",
        "0: those in state probing are probed; 1: all that are not inactive.",
    ),
    checked(text("options_reply_codes", None, "Codes that mean alive besides 200."), |text| {
        targets::check_codes(text)
    }),
    text("ds_probing_sock", None, "Socket of probes to destinations without one."),
    checked(
        text("ds_probing_list", None, "The sets that are probed; else all: \"1,2\"."),
        |text| numbers(text).map(|_| ()),
    ),
    many(checked(
        text("ds_define_blacklist", None, "A blacklist of sets: \"name= set,set\"."),
        Blacklist::check,
    )),
    int("persistent_state", "1", "1: states are read from the table and written to it."),
    int(
        "fetch_freeswitch_stats",
        "0",
        "1: a weight may be a FreeSWITCH, fs://[user]:password@host[:port], whose HEARTBEATs tell \
         what it is at each moment.",
    ),
    int(
        "max_freeswitch_weight",
        "100",
        "The weight of a FreeSWITCH that bears nothing, or has not told yet what it bears: less by \
         the share of its sessions and of its processor that is in use.",
    ),
    targets::CLUSTER_ID,
    targets::SHARING_TAG,
    targets::PROBING_MODE,
];

/// The AVPs of a partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Avps {
    pub(crate) destination: Bytes,
    pub(crate) set: Bytes,
    pub(crate) count: Bytes,
    pub(crate) socket: Bytes,
    pub(crate) attrs: Option<Bytes>,
    pub(crate) script_attrs: Option<Bytes>,
}

/// A partition as a parameter gives it.
#[derive(Clone, Debug, Default)]
struct Given {
    name: String,
    url: Option<String>,
    table: Option<String>,
    destination: Option<Bytes>,
    set: Option<Bytes>,
    count: Option<Bytes>,
    socket: Option<Bytes>,
    attrs: Option<Bytes>,
    script_attrs: Option<Bytes>,
    blacklists: Vec<Blacklist>,
}

impl Given {
    fn parse(text: &str) -> Result<Self, String> {
        let shape = "a partition is written \"name: db_url=URL; table_name=TABLE; ..\"";
        let (name, rest) = text.split_once(':').ok_or(shape)?;
        if name.trim().is_empty() || name.contains('=') {
            return Err(shape.to_owned());
        }
        let mut given = Self { name: name.trim().to_owned(), ..Self::default() };
        for item in rest.split(';').map(str::trim).filter(|item| !item.is_empty()) {
            let (key, value) =
                item.split_once('=').ok_or_else(|| format!("`{item}` has no `=`"))?;
            let value = value.trim().trim_matches('"').trim();
            match key.trim() {
                "db_url" => given.url = Some(value.to_owned()),
                "table_name" => {
                    check_table(value)?;
                    given.table = Some(value.to_owned());
                }
                "dst_avp" => given.destination = Some(avp_of(value)?),
                "grp_avp" => given.set = Some(avp_of(value)?),
                "cnt_avp" => given.count = Some(avp_of(value)?),
                "sock_avp" => given.socket = Some(avp_of(value)?),
                "attrs_avp" => given.attrs = Some(avp_of(value)?),
                "script_attrs" | "script_attrs_avp" => given.script_attrs = Some(avp_of(value)?),
                "ds_define_blacklist" => given.blacklists.push(Blacklist::parse(value)?),
                other => return Err(format!("`{other}` is nothing that a partition has")),
            }
        }
        Ok(given)
    }
}

/// A partition with its place in the database.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) table: Table<Sets>,
    pub(crate) avps: Avps,
    pub(crate) blacklists: Vec<Blacklist>,
}

/// The parameters of the module.
#[derive(Debug)]
pub(crate) struct Params {
    pub(crate) hash_format: String,
    pub(crate) load_pattern: String,
    pub(crate) load_route: Option<String>,
    pub(crate) set_var: Option<VarId>,
    pub(crate) threshold: u32,
    pub(crate) probing: Probing,
    pub(crate) probes_all: bool,
    pub(crate) probed_sets: Option<Vec<i64>>,
    pub(crate) keeps_state: bool,
    pub(crate) state_column: String,
    pub(crate) set_column: String,
    pub(crate) uri_column: String,
    pub(crate) sharing: Sharing,
    /// The largest weight of a FreeSWITCH; `None`: none is listened to.
    pub(crate) freeswitch_max: Option<u32>,
}

impl Params {
    pub(crate) fn read(build: &Build<'_>) -> Result<Self, BuildError> {
        let text = |name: &str| build.text(name).unwrap_or_default().to_owned();
        let number = |name: &'static str| {
            let number = build.int(name).unwrap_or(0);
            u32::try_from(number).map_err(|_| BuildError::new(name, "0 or more is wanted"))
        };
        let sharing = Sharing::read(build)?;
        let listens = build.int("fetch_freeswitch_stats").is_some_and(|n| n != 0);
        let largest = number("max_freeswitch_weight")?;
        let codes = build.text("options_reply_codes").and_then(|t| targets::codes(t).ok());
        let probing = Probing {
            interval_s: u64::from(number("ds_ping_interval")?),
            method: Bytes::from(text("ds_ping_method")),
            from: Bytes::from(text("ds_ping_from")),
            socket: targets::probing_socket(build, "ds_probing_sock")?,
            codes: codes.unwrap_or_default(),
            max_forwards: build.int("ds_ping_maxfwd").and_then(|n| u32::try_from(n).ok()),
            mode: Mode::read(build, &sharing)?,
        };
        Ok(Self {
            hash_format: text("hash_pvar"),
            load_pattern: text("pvar_algo_pattern"),
            load_route: load_route(build)?,
            set_var: build.var(PARAMS, "setid_pvar"),
            threshold: number("ds_probing_threshold")?.max(1),
            probing,
            probes_all: build.int("ds_probing_mode") == Some(1),
            probed_sets: build.text("ds_probing_list").and_then(|t| numbers(t).ok()),
            keeps_state: build.int("persistent_state") != Some(0),
            state_column: text("state_col"),
            set_column: text("setid_col"),
            uri_column: text("destination_col"),
            sharing,
            freeswitch_max: listens.then_some(largest),
        })
    }
}

/// The partitions; the default one is first, if it has a database.
pub(crate) fn partitions(build: &mut Build<'_>) -> Result<Vec<Partition>, BuildError> {
    let fault = |why: String| BuildError::new("partition", why);
    let mut given = Vec::new();
    for text in texts(build, "partition") {
        given.push(Given::parse(&text).map_err(fault)?);
    }
    let of_all: Vec<Blacklist> = texts(build, "ds_define_blacklist")
        .iter()
        .filter_map(|text| Blacklist::parse(text).ok())
        .collect();
    let named_default = given.iter().any(|g| g.name == DEFAULT);
    // Other partitions have databases of their own; this one has that of all modules, too.
    if !named_default && (given.is_empty() || build.database_param("db_url")?.is_some()) {
        given.insert(0, Given { name: DEFAULT.to_owned(), ..Given::default() });
    }
    let mut all: Vec<Partition> = Vec::new();
    for given in given {
        if all.iter().any(|known| known.table.name == given.name) {
            return Err(fault(format!("partition `{}` is there twice", given.name)));
        }
        let database = match &given.url {
            Some(url) => build.database(url).map_err(fault)?,
            None => build.database_param("db_url")?.ok_or_else(|| {
                BuildError::new("db_url", format!("partition `{}` needs a database", given.name))
                    .help("set `db_url` of dispatcher, or the global `db_default_url`")
            })?,
        };
        let is_default = given.name == DEFAULT;
        let avps = avps(build, &given, is_default);
        let mut blacklists = given.blacklists;
        if is_default {
            blacklists.extend(of_all.iter().cloned());
        }
        let table = Table::new(given.name, database, select(build, given.table));
        all.push(Partition { table, avps, blacklists });
    }
    Ok(all)
}

/// The AVPs of a partition: its own names, or the general ones, with its name for any but the
/// default one.
fn avps(build: &Build<'_>, given: &Given, is_default: bool) -> Avps {
    let general = |name: &str| {
        let own = build.avp(name)?;
        Some(match is_default {
            true => own,
            false => Bytes::from([&own, b"_".as_slice(), given.name.as_bytes()].concat()),
        })
    };
    let of = |own: &Option<Bytes>, name: &str| own.clone().or_else(|| general(name));
    Avps {
        destination: of(&given.destination, "dst_avp").unwrap_or_default(),
        set: of(&given.set, "grp_avp").unwrap_or_default(),
        count: of(&given.count, "cnt_avp").unwrap_or_default(),
        socket: of(&given.socket, "sock_avp").unwrap_or_default(),
        attrs: of(&given.attrs, "attrs_avp"),
        script_attrs: of(&given.script_attrs, "script_attrs_avp"),
    }
}

fn select(build: &Build<'_>, table: Option<String>) -> Select {
    let name = |param: &str| Name::from(build.text(param).unwrap_or_default().to_owned());
    Select {
        table: table.map_or_else(|| name("table_name"), Name::from),
        columns: COLUMNS.map(name).to_vec(),
        ..Select::default()
    }
}

/// The route of algorithm 10, which has to be in the script.
fn load_route(build: &Build<'_>) -> Result<Option<String>, BuildError> {
    let Some(name) = build.text("algo_route").filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let mut routes = build.program.routes_of(Routes::REQUEST);
    if routes.any(|(_, route)| route.name == name) {
        return Ok(Some(name.to_owned()));
    }
    Err(BuildError::new("algo_route", format!("there is no route[{name}] in the script")))
}

fn texts(build: &Build<'_>, name: &str) -> Vec<String> {
    let all = build.all(name).iter().filter_map(|value| match value {
        ParamValue::Str(text) => Some(text.clone()),
        ParamValue::Int(_) => None,
    });
    all.collect()
}

fn avp_of(text: &str) -> Result<Bytes, String> {
    match text.strip_prefix("$avp(").and_then(|t| t.strip_suffix(')')) {
        Some(name) if !name.is_empty() => Ok(Bytes::copy_from_slice(name.as_bytes())),
        _ => Err("it is an AVP, written $avp(name)".into()),
    }
}

fn numbers(text: &str) -> Result<Vec<i64>, String> {
    let items = text.split([',', ';']).map(str::trim).filter(|item| !item.is_empty());
    items.map(|item| item.parse().map_err(|_| format!("`{item}` is no set"))).collect()
}

fn check_table(text: &str) -> Result<(), String> {
    check_name(text).map_err(|e| e.to_string())
}
