//! Parameters of the module, and what they come to.

use tandem_engine::effect::DatabaseId;
use tandem_engine::module::{Build, BuildError};
use tandem_script::sig::{ParamKind, ParamSig};

use crate::store::Matching;

/// When contacts are written to SQL (`sql_write_mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    None,
    /// Before the reply.
    Through,
    /// By timer.
    Back,
}

/// Where contacts live, as a preset or the three single parameters say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mode {
    /// `cluster_mode` full-sharing.
    is_shared: bool,
    /// `cluster_mode` sql-only.
    is_sql_only: bool,
    loads_from_sql: bool,
    syncs_from_cluster: bool,
    writes: Writes,
}

/// `pinging_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pinging {
    /// Tagged contacts by ownership, untagged ones by cooperation.
    Unset,
    Ownership,
    Cooperation,
}

/// The columns of a location table, in the order in which they are read and written.
#[derive(Clone, Debug)]
pub(crate) struct Columns {
    pub(crate) contact_id: String,
    pub(crate) user: String,
    pub(crate) domain: String,
    pub(crate) contact: String,
    pub(crate) expires: String,
    pub(crate) q: String,
    pub(crate) callid: String,
    pub(crate) cseq: String,
    pub(crate) flags: String,
    pub(crate) cflags: String,
    pub(crate) user_agent: String,
    pub(crate) received: String,
    pub(crate) path: String,
    pub(crate) socket: String,
    pub(crate) methods: String,
    pub(crate) sip_instance: String,
    pub(crate) kv_store: String,
    pub(crate) attr: String,
}

/// The parameters of the module.
#[derive(Clone, Debug)]
pub struct Params {
    /// All nodes of a cluster have all contacts.
    pub is_shared: bool,
    /// Contacts live in SQL alone, which several nodes share.
    pub(crate) is_sql_only: bool,
    pub(crate) loads_from_sql: bool,
    pub(crate) syncs_from_cluster: bool,
    pub writes: Writes,
    /// `skip_replicated_db_ops`: what peers changed, they write.
    pub(crate) skips_replicated: bool,
    /// `regen_broken_contactid`.
    pub(crate) regenerates_ids: bool,
    /// `contact_refresh_timer`: push contacts are woken before they end.
    pub(crate) wakes: bool,
    /// Parameters that have another spelling by now, and that spelling.
    pub(crate) outdated: Vec<String>,
    pub use_domain: bool,
    pub matching: Matching,
    /// Seconds; 0: off.
    pub cseq_delay_s: u64,
    /// Name of the branch flag that marks a contact behind NAT; empty: none.
    pub nat_flag: String,
    /// Its mask.
    pub nat_flag_mask: u32,
    pub pinging: Pinging,
    /// Cluster of the contacts; 0: none.
    pub cluster: u32,
    pub timer_interval_s: u64,
    pub latency_min_us: u32,
    pub latency_min_delta_us: u32,
    pub(crate) newest_first: bool,
    pub(crate) hash_size: u32,
    pub(crate) dump_key_values: bool,
    pub(crate) deletes_a_query: usize,
    pub(crate) database: Option<DatabaseId>,
    pub(crate) columns: Columns,
}

const fn param(
    name: &'static str,
    kind: ParamKind,
    default: Option<&'static str>,
    help: &'static str,
) -> ParamSig {
    let (multiple, old_names, check) = (false, &[] as &[&str], None);
    ParamSig { name, kind, default, multiple, old_names, check, moot: None, help }
}

const fn int(name: &'static str, default: &'static str, help: &'static str) -> ParamSig {
    param(name, ParamKind::Int, Some(default), help)
}

const fn column(name: &'static str, default: &'static str) -> ParamSig {
    param(name, ParamKind::Str, Some(default), "Name of a column of the location table.")
}

const fn checked(sig: ParamSig, check: fn(&str) -> Result<(), String>) -> ParamSig {
    ParamSig { check: Some(check), ..sig }
}

/// The parameter table.
pub(crate) const PARAMS: &[ParamSig] = &[
    checked(
        param(
            "working_mode_preset",
            ParamKind::Str,
            None,
            "Where contacts live: single-instance-no-db (as if unset), \
             single-instance-sql-write-through, single-instance-sql-write-back, \
             sql-only, full-sharing-cluster. It wins over the three parameters behind it.",
        ),
        check_preset,
    ),
    checked(
        param("cluster_mode", ParamKind::Str, Some("none"), "none, full-sharing or sql-only."),
        check_cluster_mode,
    ),
    checked(
        param(
            "restart_persistency",
            ParamKind::Str,
            Some("none"),
            "Where contacts come from at start: none, load-from-sql, sync-from-cluster.",
        ),
        check_persistency,
    ),
    checked(
        param(
            "sql_write_mode",
            ParamKind::Str,
            None,
            "none, write-through (before the reply) or write-back (by timer, as if unset with \
             load-from-sql).",
        ),
        check_write_mode,
    ),
    checked(
        param("db_mode", ParamKind::Int, None, "Until 3.6: 0 to 3 for the first four presets."),
        check_db_mode,
    ),
    param("shared_pinging", ParamKind::Int, None, "Until 3.6: 1 for pinging_mode cooperation."),
    param("db_url", ParamKind::Str, None, "Database of the SQL modes; else db_default_url."),
    int("timer_interval", "60", "Seconds between writes of changed contacts to SQL."),
    int("use_domain", "1", "1: the key of an AoR is user@domain, 0: user."),
    int("desc_time_order", "0", "1: contacts in order of time, newest first; 0: by q."),
    checked(
        int("matching_mode", "0", "0: by contact URI, 1: by contact URI and Call-ID."),
        check_matching,
    ),
    int("cseq_delay", "20", "Seconds in which the same CSeq counts as a retransmission; 0: off."),
    checked(int("hash_size", "9", "Log2 of the shards of a table, at most 16."), check_hash_size),
    param("nat_bflag", ParamKind::BranchFlag, None, "Branch flag of contacts behind NAT."),
    checked(
        param(
            "pinging_mode",
            ParamKind::Str,
            None,
            "Who pings in a full-sharing cluster: ownership (the holder of the contact's tag) or \
             cooperation (all nodes share). Unset: ownership for tagged contacts, cooperation \
             for others.",
        ),
        check_pinging,
    ),
    int("location_cluster", "0", "Cluster id of full-sharing-cluster."),
    int("max_contact_delete", "10", "Rows deleted in one query."),
    int("skip_replicated_db_ops", "0", "1: what peers changed is not written to SQL."),
    int("regen_broken_contactid", "0", "1: rows whose contact id is none of their AoR are taken."),
    int("contact_refresh_timer", "0", "1: E_UL_CONTACT_REFRESH before push contacts end."),
    int("mi_dump_kv_store", "0", "1: listings show the key/values of contacts."),
    int("latency_event_min_us", "0", "E_UL_LATENCY_UPDATE tells latencies from here on."),
    int("latency_event_min_us_delta", "0", "The same for a difference to the latency before."),
    column("contact_id_column", "contact_id"),
    column("user_column", "username"),
    column("domain_column", "domain"),
    column("contact_column", "contact"),
    column("expires_column", "expires"),
    column("q_column", "q"),
    column("callid_column", "callid"),
    column("cseq_column", "cseq"),
    column("flags_column", "flags"),
    column("cflags_column", "cflags"),
    column("user_agent_column", "user_agent"),
    column("received_column", "received"),
    column("path_column", "path"),
    column("socket_column", "socket"),
    column("methods_column", "methods"),
    column("sip_instance_column", "sip_instance"),
    column("kv_store_column", "kv_store"),
    column("attr_column", "attr"),
];

/// Presets that exist and are not here yet.
const LATER: [&str; 3] =
    ["federation-cluster", "federation-cachedb-cluster", "full-sharing-cachedb-cluster"];

impl Mode {
    const MEMORY: Self = Self {
        is_shared: false,
        is_sql_only: false,
        loads_from_sql: false,
        syncs_from_cluster: false,
        writes: Writes::None,
    };

    fn preset(text: &str) -> Option<Self> {
        let sql = |writes| Self { loads_from_sql: true, writes, ..Self::MEMORY };
        Some(match text {
            "single-instance-no-db" => Self::MEMORY,
            "single-instance-sql-write-through" => sql(Writes::Through),
            "single-instance-sql-write-back" => sql(Writes::Back),
            "sql-only" => Self { is_sql_only: true, ..sql(Writes::Through) },
            "full-sharing-cluster" => {
                Self { is_shared: true, syncs_from_cluster: true, ..Self::MEMORY }
            }
            _ => return None,
        })
    }

    /// Of the single parameters.
    fn of_parts(cluster: &str, persistency: &str, writes: Option<&str>) -> Self {
        if let ("sql-only", Some(mode)) = (cluster, Self::preset("sql-only")) {
            return mode;
        }
        let loads_from_sql = persistency == "load-from-sql";
        Self {
            is_shared: cluster == "full-sharing",
            is_sql_only: false,
            loads_from_sql,
            syncs_from_cluster: persistency == "sync-from-cluster",
            writes: match writes {
                Some("write-through") => Writes::Through,
                Some("write-back") => Writes::Back,
                None if loads_from_sql => Writes::Back,
                _ => Writes::None,
            },
        }
    }
}

/// `db_mode` of old as a preset.
fn of_db_mode(number: &str) -> Option<&'static str> {
    Some(match number {
        "0" => "single-instance-no-db",
        "1" => "single-instance-sql-write-through",
        "2" => "single-instance-sql-write-back",
        "3" => "sql-only",
        _ => return None,
    })
}

fn check_preset(text: &str) -> Result<(), String> {
    match Mode::preset(text) {
        Some(_) => Ok(()),
        None if LATER.contains(&text) => Err(format!("working mode `{text}` is not in Tandem yet")),
        None => Err(format!("`{text}` is no working mode")),
    }
}

fn one_of(text: &str, here: &[&str], later: &[&str]) -> Result<(), String> {
    if later.contains(&text) {
        return Err(format!("`{text}` is not in Tandem yet"));
    }
    let is_here = here.contains(&text);
    is_here.then_some(()).ok_or_else(|| format!("one of these is wanted: {}", here.join(", ")))
}

fn check_cluster_mode(text: &str) -> Result<(), String> {
    let later = ["federation", "federation-cachedb", "full-sharing-cachedb"];
    one_of(text, &["none", "full-sharing", "sql-only"], &later)
}

fn check_persistency(text: &str) -> Result<(), String> {
    one_of(text, &["none", "load-from-sql", "sync-from-cluster"], &[])
}

fn check_write_mode(text: &str) -> Result<(), String> {
    one_of(text, &["none", "write-through", "write-back"], &[])
}

fn check_db_mode(text: &str) -> Result<(), String> {
    let preset = of_db_mode(text).ok_or_else(|| "the database mode is from 0 to 3".to_owned())?;
    check_preset(preset)
}

fn check_matching(text: &str) -> Result<(), String> {
    match text {
        "0" | "1" => Ok(()),
        _ => Err("the matching mode is 0 (URI) or 1 (URI and Call-ID)".into()),
    }
}

fn check_hash_size(text: &str) -> Result<(), String> {
    let in_range = text.parse::<u32>().is_ok_and(|n| n <= 16);
    in_range.then_some(()).ok_or_else(|| "hash_size is a number from 0 to 16".into())
}

fn check_pinging(text: &str) -> Result<(), String> {
    match text {
        "ownership" | "cooperation" => Ok(()),
        _ => Err("the pinging mode is `ownership` or `cooperation`".into()),
    }
}

impl Params {
    /// Whether E_UL_LATENCY_UPDATE tells a latency; `before_us` is the one before, 0 if there was
    /// none. A limit of 0 is not set; without any, all are told, else what reaches one of them.
    pub(crate) fn tells_latency(&self, before_us: u32, latency_us: u32) -> bool {
        let change_us = if before_us == 0 { 0 } else { before_us.abs_diff(latency_us) };
        let limits = [(self.latency_min_us, latency_us), (self.latency_min_delta_us, change_us)];
        let mut set = limits.iter().filter(|(limit_us, _)| *limit_us > 0).peekable();
        set.peek().is_none() || set.any(|(limit_us, value_us)| value_us >= limit_us)
    }

    pub(crate) fn read(build: &mut Build<'_>) -> Result<Self, BuildError> {
        let (mode, outdated) = mode(build)?;
        let cluster = build.int("location_cluster").and_then(|n| u32::try_from(n).ok());
        let cluster = cluster.unwrap_or(0);
        check_cluster(mode, cluster)?;
        let needs_database = mode.loads_from_sql || mode.writes != Writes::None;
        let database = if needs_database { Some(database(build)?) } else { None };
        let positive = |name: &str, default: u64| {
            build.int(name).and_then(|n| u64::try_from(n).ok()).unwrap_or(default)
        };
        let is_on = |name: &str| build.int(name).unwrap_or(0) != 0;
        let micros = |name: &str| u32::try_from(positive(name, 0)).unwrap_or(u32::MAX);
        Ok(Self {
            is_shared: mode.is_shared,
            is_sql_only: mode.is_sql_only,
            loads_from_sql: mode.loads_from_sql,
            syncs_from_cluster: mode.syncs_from_cluster,
            writes: mode.writes,
            skips_replicated: is_on("skip_replicated_db_ops"),
            regenerates_ids: is_on("regen_broken_contactid"),
            wakes: is_on("contact_refresh_timer"),
            outdated,
            use_domain: is_on("use_domain"),
            matching: match build.int("matching_mode") {
                Some(1) => Matching::UriCallId,
                _ => Matching::Uri,
            },
            cseq_delay_s: positive("cseq_delay", 20),
            nat_flag: build.text("nat_bflag").unwrap_or_default().to_owned(),
            nat_flag_mask: build.branch_flag("nat_bflag"),
            pinging: match (build.text("pinging_mode"), build.int("shared_pinging")) {
                (Some("ownership"), _) => Pinging::Ownership,
                (Some("cooperation"), _) => Pinging::Cooperation,
                (_, Some(n)) if n != 0 => Pinging::Cooperation,
                _ => Pinging::Unset,
            },
            cluster,
            timer_interval_s: positive("timer_interval", 60).max(1),
            latency_min_us: micros("latency_event_min_us"),
            latency_min_delta_us: micros("latency_event_min_us_delta"),
            newest_first: is_on("desc_time_order"),
            hash_size: positive("hash_size", 9).min(16) as u32,
            dump_key_values: is_on("mi_dump_kv_store"),
            deletes_a_query: positive("max_contact_delete", 10).clamp(1, 1000) as usize,
            database,
            columns: Columns::read(build),
        })
    }
}

/// The mode, and what is to be said of its spelling.
fn mode(build: &Build<'_>) -> Result<(Mode, Vec<String>), BuildError> {
    let mut outdated = Vec::new();
    if let Some(n) = build.int("shared_pinging") {
        let now = if n == 0 { "ownership" } else { "cooperation" };
        outdated.push(format!("shared_pinging is pinging_mode \"{now}\" since 4.0"));
    }
    if let Some(text) = build.text("working_mode_preset") {
        let mode = Mode::preset(text);
        let mode = mode.ok_or_else(|| BuildError::new("working_mode_preset", "no such mode"))?;
        return Ok((mode, outdated));
    }
    if let Some(n) = build.int("db_mode") {
        let preset = of_db_mode(&n.to_string());
        let mode = preset.and_then(Mode::preset);
        let mode = mode.ok_or_else(|| BuildError::new("db_mode", "no such mode"))?;
        let preset = preset.unwrap_or_default();
        outdated.push(format!("db_mode {n} is working_mode_preset \"{preset}\" since 4.0"));
        return Ok((mode, outdated));
    }
    let text = |name: &str| build.text(name).unwrap_or("none").to_owned();
    let (cluster, persistency) = (text("cluster_mode"), text("restart_persistency"));
    Ok((Mode::of_parts(&cluster, &persistency, build.text("sql_write_mode")), outdated))
}

fn check_cluster(mode: Mode, cluster: u32) -> Result<(), BuildError> {
    let name = "location_cluster";
    match (mode.is_shared, cluster) {
        (true, 0) => Err(BuildError::new(name, "full-sharing needs a cluster")
            .help("set `location_cluster` to the cluster's id")),
        (false, _) if mode.syncs_from_cluster => {
            Err(BuildError::new("restart_persistency", "there is no cluster to sync from")
                .help("set `cluster_mode` to \"full-sharing\""))
        }
        (true, _) | (_, 0) => Ok(()),
        _ => Err(BuildError::new(name, "this working mode does not use a cluster")
            .help("set `working_mode_preset` to \"full-sharing-cluster\"")),
    }
}

fn database(build: &mut Build<'_>) -> Result<DatabaseId, BuildError> {
    let url = build.text("db_url").or_else(|| build.global_text("db_default_url"));
    let Some(url) = url.map(str::to_owned) else {
        let error = BuildError::new("working_mode_preset", "this mode needs a database");
        return Err(error.help("set `db_url`, or the global `db_default_url`"));
    };
    build.database(&url).map_err(|e| BuildError::new("db_url", e))
}

impl Columns {
    fn read(build: &Build<'_>) -> Self {
        let name = |param: &str| build.text(param).unwrap_or_default().to_owned();
        Self {
            contact_id: name("contact_id_column"),
            user: name("user_column"),
            domain: name("domain_column"),
            contact: name("contact_column"),
            expires: name("expires_column"),
            q: name("q_column"),
            callid: name("callid_column"),
            cseq: name("cseq_column"),
            flags: name("flags_column"),
            cflags: name("cflags_column"),
            user_agent: name("user_agent_column"),
            received: name("received_column"),
            path: name("path_column"),
            socket: name("socket_column"),
            methods: name("methods_column"),
            sip_instance: name("sip_instance_column"),
            kv_store: name("kv_store_column"),
            attr: name("attr_column"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_taken_refused_by_name_or_unknown() {
        assert!(check_preset("full-sharing-cluster").is_ok());
        for later in LATER {
            assert!(check_preset(later).unwrap_err().contains("not in Tandem yet"));
        }
        assert!(check_preset("nonsense").unwrap_err().contains("no working mode"));
    }

    #[test]
    fn values_out_of_range_are_refused_at_load() {
        assert!(check_matching("2").is_err() && check_matching("1").is_ok());
        assert!(check_hash_size("17").is_err() && check_hash_size("16").is_ok());
        assert!(check_pinging("both").is_err() && check_pinging("ownership").is_ok());
    }

    #[test]
    fn a_cluster_is_wanted_by_one_mode_only() {
        let shared = Mode::preset("full-sharing-cluster").unwrap();
        let back = Mode::preset("single-instance-sql-write-back").unwrap();
        assert!(check_cluster(shared, 1).is_ok());
        assert!(check_cluster(shared, 0).is_err());
        assert!(check_cluster(Mode::MEMORY, 0).is_ok());
        assert!(check_cluster(back, 1).is_err());
        assert!(check_cluster(Mode::of_parts("none", "sync-from-cluster", None), 0).is_err());
    }

    #[test]
    fn single_parameters_make_the_presets_and_more() {
        let of = Mode::of_parts;
        let preset = |text| Mode::preset(text).unwrap();
        assert_eq!(of("none", "none", None), preset("single-instance-no-db"));
        assert_eq!(of("none", "load-from-sql", None), preset("single-instance-sql-write-back"));
        let through = of("none", "load-from-sql", Some("write-through"));
        assert_eq!(through, preset("single-instance-sql-write-through"));
        let shared = of("full-sharing", "sync-from-cluster", None);
        assert_eq!(shared, preset("full-sharing-cluster"));
        assert_eq!(of("sql-only", "none", None), preset("sql-only"));
        assert!(check_cluster_mode("federation").unwrap_err().contains("not in Tandem yet"));
        assert!(check_db_mode("3").is_ok());
        assert!(check_db_mode("4").is_err() && check_db_mode("1").is_ok());
        assert!(check_write_mode("write").is_err() && check_persistency("sql").is_err());
    }
}
