//! Parameters.

use bytes::Bytes;
use tandem_db::check_name;
use tandem_engine::effect::DatabaseId;
use tandem_engine::module::{Build, BuildError, ParamValue};
use tandem_engine::table::param;
use tandem_script::program::VarId;
use tandem_script::sig::{ParamKind, ParamSig};
use tandem_targets::{self as targets, Blacklist, Mode, Probing, Sharing};

use crate::destinations::Filter;
use crate::prefix::Alphabet;

/// The partition of a node without partitions.
pub(crate) const DEFAULT: &str = "Default";

const fn text(name: &'static str, default: Option<&'static str>, help: &'static str) -> ParamSig {
    param(name, ParamKind::Str, default, help)
}

const fn name(name: &'static str, default: &'static str, help: &'static str) -> ParamSig {
    ParamSig { check: Some(check_table), ..text(name, Some(default), help) }
}

const fn avp(name: &'static str, default: Option<&'static str>, help: &'static str) -> ParamSig {
    ParamSig { check: Some(check_avp), ..text(name, default, help) }
}

const fn int(name: &'static str, default: &'static str, help: &'static str) -> ParamSig {
    param(name, ParamKind::Int, Some(default), help)
}

const fn checked(row: ParamSig, check: fn(&str) -> Result<(), String>) -> ParamSig {
    ParamSig { check: Some(check), ..row }
}

const fn many(row: ParamSig) -> ParamSig {
    ParamSig { multiple: true, ..row }
}

/// The parameter table.
pub(crate) const PARAMS: &[ParamSig] = &[
    int("use_partitions", "0", "1: the partitions are those of a table."),
    text("db_partitions_url", None, "Database of the table of partitions; else db_default_url."),
    name("db_partitions_table", "dr_partitions", "Table of the partitions."),
    text("db_url", None, "Database of the tables without partitions; else db_default_url."),
    name("drd_table", "dr_gateways", "Table of the gateways."),
    name("drr_table", "dr_rules", "Table of the rules."),
    name("drg_table", "dr_groups", "Table with the groups of callers."),
    name("drc_table", "dr_carriers", "Table of the carriers."),
    int("use_domain", "1", "1: the group of a caller is looked up with the domain, too."),
    name("drg_user_col", "username", "Column of drg_table with the user."),
    name("drg_domain_col", "domain", "Column of drg_table with the domain."),
    name("drg_grpid_col", "groupid", "Column of drg_table with the group."),
    avp("ruri_avp", Some("$avp(___dr_ruri__)"), "AVP with the URIs that are left to try."),
    avp("gw_id_avp", Some("$avp(___dr_gw_id__)"), "AVP with the ids of gateways, the used first."),
    avp("gw_priprefix_avp", None, "AVP with the prefixes of gateways, the used first."),
    avp("gw_sock_avp", Some("$avp(___dr_sock__)"), "AVP with the sockets that are left."),
    avp("rule_id_avp", None, "AVP for the id of the rule."),
    avp("rule_prefix_avp", None, "AVP for the prefix of the rule."),
    avp("carrier_id_avp", None, "AVP with the ids of carriers, the used first."),
    int("force_dns", "1", "1: names of gateways are looked up when the tables are loaded."),
    int("default_group", "-1", "Group of callers that have none; -1: there is none."),
    many(checked(
        text("define_blacklist", None, "A blacklist of gateways: \"[partition:]name= type,type\"."),
        check_blacklist,
    )),
    int("probing_interval", "30", "Seconds between probes of a gateway; 0: none are sent."),
    text("probing_method", Some("OPTIONS"), "Method of probes."),
    text("probing_from", Some("sip:prober@localhost"), "From of probes."),
    text("probing_socket", None, "Socket of probes to gateways without a socket of their own."),
    checked(
        text("probing_reply_codes", None, "Codes that mean alive besides 200: \"404,405\"."),
        targets::check_codes,
    ),
    int("persistent_state", "1", "1: states are read from the tables and written to them."),
    many(text(
        "rule_tables_query",
        None,
        "SQL that names several tables of rules: \"[partition:]SELECT ..\".",
    )),
    int("no_concurrent_reload", "0", "1: a reload during another one is refused."),
    param(
        "partition_id_pvar",
        ParamKind::Var,
        None,
        "Variable for the partition that was found where `*` was asked for.",
    ),
    targets::CLUSTER_ID,
    targets::SHARING_TAG,
    targets::PROBING_MODE,
    checked(text("extra_prefix_chars", Some(""), "Characters of prefixes beside digits."), |t| {
        Alphabet::new(t).map(|_| ())
    }),
    text("extra_id_chars", Some("_-."), "Characters of ids beside letters and digits."),
    checked(
        text(
            "gw_socket_filter_mode",
            Some("all"),
            "Gateways whose socket is none of this node: all: are taken; ignore: nobody looks; \
             matched-only: are left out.",
        ),
        |t| one_of(t, &["all", "ignore", "matched-only"]),
    ),
    int("generate_data_checksum", "0", "1: a reload tells an MD5 sum of what was read."),
    int(
        "enable_restart_persistency",
        "0",
        "1: what was read is kept in a file of the node's state, from which it serves at once after \
         a restart; the tables are read behind it.",
    ),
];

/// The AVPs of a partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Avps {
    pub(crate) ruri: Bytes,
    pub(crate) gateway: Bytes,
    pub(crate) socket: Bytes,
    pub(crate) prefix: Option<Bytes>,
    pub(crate) rule: Option<Bytes>,
    pub(crate) rule_prefix: Option<Bytes>,
    pub(crate) carrier: Option<Bytes>,
    /// Where a fallback goes on.
    pub(crate) state: Bytes,
    /// The carriers through which the gateways were listed, and the attributes of the rule.
    pub(crate) through: Bytes,
    pub(crate) rule_attrs: Bytes,
}

/// The names of the tables of a partition.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) gateways: String,
    pub(crate) rules: String,
    pub(crate) groups: String,
    pub(crate) carriers: String,
}

/// How callers find their group.
#[derive(Clone, Debug)]
pub(crate) struct Callers {
    pub(crate) user: String,
    pub(crate) domain: Option<String>,
    pub(crate) group: String,
    pub(crate) default: Option<u32>,
}

/// The parameters of the module.
#[derive(Debug)]
pub(crate) struct Params {
    /// Database and table of the partitions.
    pub(crate) partitions: Option<(DatabaseId, String)>,
    pub(crate) database: Option<DatabaseId>,
    pub(crate) names: Names,
    pub(crate) avps: Avps,
    pub(crate) callers: Callers,
    pub(crate) resolves: bool,
    /// Blacklists of types of gateways, with their partitions.
    pub(crate) blacklists: Vec<(String, Blacklist)>,
    pub(crate) probing: Probing,
    pub(crate) keeps_state: bool,
    /// The tables are in a file for the next start.
    pub(crate) keeps_tables: bool,
    /// SQL that names tables of rules, by partition.
    pub(crate) rule_queries: Vec<(String, String)>,
    pub(crate) one_reload: bool,
    pub(crate) partition_var: Option<VarId>,
    pub(crate) sharing: Sharing,
    pub(crate) alphabet: Alphabet,
    pub(crate) id_chars: String,
    pub(crate) filter: Filter,
    pub(crate) sums: bool,
}

fn needs(name: &'static str) -> BuildError {
    BuildError::new(name, "drouting needs a database")
        .help(format!("set `{name}` of drouting, or the global `db_default_url`"))
}

impl Params {
    pub(crate) fn read(build: &mut Build<'_>) -> Result<Self, BuildError> {
        let text = |name: &str| build.text(name).unwrap_or_default().to_owned();
        let flag = |name: &str| build.int(name).unwrap_or(0) != 0;
        let fault = |name: &'static str, why: String| BuildError::new(name, why);
        let names = Names {
            gateways: text("drd_table"),
            rules: text("drr_table"),
            groups: text("drg_table"),
            carriers: text("drc_table"),
        };
        let callers = Callers {
            user: text("drg_user_col"),
            domain: flag("use_domain").then(|| text("drg_domain_col")),
            group: text("drg_grpid_col"),
            default: build.int("default_group").and_then(|n| u32::try_from(n).ok()),
        };
        let alphabet = Alphabet::new(&text("extra_prefix_chars"))
            .map_err(|why| fault("extra_prefix_chars", why))?;
        let filter = match build.text("gw_socket_filter_mode") {
            Some("ignore") => Filter::Ignore,
            Some("matched-only") => Filter::MatchedOnly,
            _ => Filter::All,
        };
        let (uses, table) = (flag("use_partitions"), text("db_partitions_table"));
        let (keeps_state, one_reload) = (flag("persistent_state"), flag("no_concurrent_reload"));
        let (resolves, sums) = (flag("force_dns"), flag("generate_data_checksum"));
        let keeps_tables = flag("enable_restart_persistency");
        let (id_chars, avps) = (text("extra_id_chars"), Avps::read(build));
        let blacklists = texts(build, "define_blacklist").filter_map(|t| blacklist(&t).ok());
        let blacklists = blacklists.collect();
        let rule_queries = texts(build, "rule_tables_query").map(|t| rule_query(&t)).collect();
        let sharing = Sharing::read(build)?;
        let probing = probing(build, &sharing)?;
        let partition_var = build.var(PARAMS, "partition_id_pvar");
        let (mut partitions, mut database) = (None, None);
        if uses {
            let name = "db_partitions_url";
            let found = build.database_param(name)?.ok_or_else(|| needs(name))?;
            partitions = Some((found, table));
        } else {
            database = Some(build.database_param("db_url")?.ok_or_else(|| needs("db_url"))?);
        }
        if uses && let Some(url) = build.text("db_url").map(str::to_owned) {
            // A partition may be in it.
            build.database(&url).map_err(|why| fault("db_url", why))?;
        }
        Ok(Self {
            partitions,
            database,
            names,
            avps,
            callers,
            resolves,
            blacklists,
            probing,
            keeps_state,
            keeps_tables,
            rule_queries,
            one_reload,
            partition_var,
            sharing,
            alphabet,
            id_chars,
            filter,
            sums,
        })
    }
}

impl Avps {
    fn read(build: &Build<'_>) -> Self {
        Self {
            ruri: build.avp("ruri_avp").unwrap_or_default(),
            gateway: build.avp("gw_id_avp").unwrap_or_default(),
            socket: build.avp("gw_sock_avp").unwrap_or_default(),
            prefix: build.avp("gw_priprefix_avp"),
            rule: build.avp("rule_id_avp"),
            rule_prefix: build.avp("rule_prefix_avp"),
            carrier: build.avp("carrier_id_avp"),
            state: Bytes::from_static(b"___dr_state__"),
            through: Bytes::from_static(b"___dr_through__"),
            rule_attrs: Bytes::from_static(b"___dr_rule_attrs__"),
        }
    }

    /// Those of a partition, told apart by its name.
    pub(crate) fn of_partition(&self, partition: &str) -> Self {
        let named =
            |name: &Bytes| Bytes::from([name, b"_".as_slice(), partition.as_bytes()].concat());
        Self {
            ruri: named(&self.ruri),
            gateway: named(&self.gateway),
            socket: named(&self.socket),
            prefix: self.prefix.as_ref().map(named),
            rule: self.rule.as_ref().map(named),
            rule_prefix: self.rule_prefix.as_ref().map(named),
            carrier: self.carrier.as_ref().map(named),
            state: named(&self.state),
            through: named(&self.through),
            rule_attrs: named(&self.rule_attrs),
        }
    }
}

impl Avps {
    /// Takes the names that a row of the table of partitions gives, `$avp(x)` or `x`.
    pub(crate) fn name(&mut self, given: &[String]) {
        let name = |at: usize| {
            let text = given.get(at).filter(|text| !text.is_empty())?;
            let bare = text.strip_prefix("$avp(").and_then(|t| t.strip_suffix(')'));
            Some(Bytes::copy_from_slice(bare.unwrap_or(text).as_bytes()))
        };
        for (at, place) in [(0, &mut self.ruri), (1, &mut self.gateway), (3, &mut self.socket)] {
            if let Some(name) = name(at) {
                *place = name;
            }
        }
        for (at, place) in [
            (2, &mut self.prefix),
            (4, &mut self.rule),
            (5, &mut self.rule_prefix),
            (6, &mut self.carrier),
        ] {
            *place = name(at).or_else(|| place.take());
        }
    }
}

fn probing(build: &Build<'_>, sharing: &Sharing) -> Result<Probing, BuildError> {
    let text = |name: &str| Bytes::from(build.text(name).unwrap_or_default().to_owned());
    let interval = build.int("probing_interval").unwrap_or(30);
    let interval_s = u64::try_from(interval)
        .map_err(|_| BuildError::new("probing_interval", "0 or more seconds are wanted"))?;
    let codes = build.text("probing_reply_codes").and_then(|t| targets::codes(t).ok());
    Ok(Probing {
        interval_s,
        method: text("probing_method"),
        from: text("probing_from"),
        socket: targets::probing_socket(build, "probing_socket")?,
        codes: codes.unwrap_or_default(),
        max_forwards: None,
        mode: Mode::read(build, sharing)?,
    })
}

fn texts(build: &Build<'_>, name: &str) -> impl Iterator<Item = String> {
    let all = build.all(name).iter().filter_map(|value| match value {
        ParamValue::Str(text) => Some(text.clone()),
        ParamValue::Int(_) => None,
    });
    all.collect::<Vec<_>>().into_iter()
}

/// `[partition:]SELECT ..`.
fn rule_query(text: &str) -> (String, String) {
    let named = text.split_once(':').filter(|(name, _)| {
        let word = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        !name.trim().is_empty() && name.trim().chars().all(word)
    });
    match named {
        Some((name, sql)) => (name.trim().to_owned(), sql.trim().to_owned()),
        None => (DEFAULT.to_owned(), text.trim().to_owned()),
    }
}

/// `[partition:]name= type,type`.
fn blacklist(text: &str) -> Result<(String, Blacklist), String> {
    let head = text.split('=').next().unwrap_or_default();
    let named = head.split_once(':').map(|(partition, _)| partition);
    let list = named.and_then(|partition| text.get(partition.len() + 1..)).unwrap_or(text);
    let partition = named.unwrap_or(DEFAULT).trim().to_owned();
    if partition.is_empty() {
        return Err("it is written \"[partition:]name= type,type\"".to_owned());
    }
    Ok((partition, Blacklist::parse(list)?))
}

fn check_blacklist(text: &str) -> Result<(), String> {
    blacklist(text).map(|_| ())
}

fn check_table(text: &str) -> Result<(), String> {
    check_name(text).map_err(|e| e.to_string())
}

fn check_avp(text: &str) -> Result<(), String> {
    match text.strip_prefix("$avp(").and_then(|t| t.strip_suffix(')')) {
        Some(name) if !name.is_empty() => Ok(()),
        _ => Err("it is an AVP, written $avp(name)".into()),
    }
}

fn one_of(text: &str, known: &[&str]) -> Result<(), String> {
    if known.contains(&text) { Ok(()) } else { Err(format!("it is one of {}", known.join(", "))) }
}
