//! Parameters.

use tandem_engine::module::{Build, BuildError};
use tandem_engine::table::{moot, param};
use tandem_script::sig::{ParamKind, ParamSig};

use crate::index::Profile;
use crate::record::Marker;
use crate::shared::SharedCounts;
use crate::sql::{Columns, DbMode, SqlParams};

/// The parameter table.
pub(crate) const PARAMS: &[ParamSig] = &[
    param("enable_stats", ParamKind::Int, Some("1"), "Whether statistics are kept."),
    param(
        "hash_size",
        ParamKind::Int,
        Some("4096"),
        "Slots of the table, a power of 2; the same on all nodes of a cluster, because names of \
         dialogs begin with the slot.",
    ),
    moot("log_profile_hash_size", ParamKind::Int, "indexes grow by themselves"),
    ParamSig {
        check: Some(check_token),
        ..param(
            "rr_param",
            ParamKind::Str,
            Some("did"),
            "Parameter of Record-Route that names the dialog.",
        )
    },
    param("default_timeout", ParamKind::Int, Some("43200"), "Lifetime of a dialog in seconds."),
    param(
        "options_ping_interval",
        ParamKind::Int,
        Some("30"),
        "Seconds between two OPTIONS to a side.",
    ),
    param(
        "reinvite_ping_interval",
        ParamKind::Int,
        Some("300"),
        "Seconds between two re-INVITEs to a side.",
    ),
    param(
        "delete_delay",
        ParamKind::Int,
        Some("0"),
        "Seconds that an ended dialog stays readable.",
    ),
    ParamSig {
        check: Some(check_lines),
        ..param(
            "dlg_extra_hdrs",
            ParamKind::Str,
            None,
            "Header lines, each with its end, for the BYEs and pings of this node.",
        )
    },
    ParamSig {
        check: Some(check_mode_number),
        ..param(
            "dlg_match_mode",
            ParamKind::Int,
            Some("1"),
            "How a request finds its dialog: 0 by the parameter of Record-Route, 1 by it or else \
             by Call-ID and tags, 2 by Call-ID and tags.",
        )
    },
    param(
        "race_condition_timeout",
        ParamKind::Int,
        Some("5"),
        "Seconds from a race to the end of a dialog that was made with end-on-race-condition.",
    ),
    param(
        "auto_prack_hangup_on_failure",
        ParamKind::Int,
        Some("0"),
        "Whether a call ends when a PRACK in the name of its caller fails.",
    ),
    param(
        "auto_prack_fr_timeout",
        ParamKind::Int,
        Some("3"),
        "Seconds that the answer to such a PRACK is waited for.",
    ),
    ParamSig {
        check: Some(check_profiles),
        ..param(
            "profiles_with_value",
            ParamKind::Str,
            None,
            "Names of profiles with values, separated by `;`; a name with /b is counted over all \
             nodes, one with /s in a key-value store.",
        )
    },
    ParamSig {
        check: Some(check_profiles),
        ..param(
            "profiles_no_value",
            ParamKind::Str,
            None,
            "Names of profiles without values, as above.",
        )
    },
    ParamSig {
        check: Some(check_store),
        ..param(
            "cachedb_url",
            ParamKind::Str,
            None,
            "Key-value store in which profiles with /s are counted: local://.",
        )
    },
    param(
        "profile_value_prefix",
        ParamKind::Str,
        Some("dlg_val_"),
        "What the keys of such a profile with values begin with.",
    ),
    param(
        "profile_no_value_prefix",
        ParamKind::Str,
        Some("dlg_noval_"),
        "The same for one without values.",
    ),
    param(
        "profile_size_prefix",
        ParamKind::Str,
        Some("dlg_size_"),
        "The same for the count of all values together.",
    ),
    param(
        "profile_timeout",
        ParamKind::Int,
        Some("86400"),
        "Seconds after which such a key ends that nobody changes.",
    ),
    param(
        "dialog_replication_cluster",
        ParamKind::Int,
        Some("0"),
        "Cluster whose nodes have the same dialogs; 0: none.",
    ),
    param(
        "profile_replication_cluster",
        ParamKind::Int,
        Some("0"),
        "Cluster over whose nodes profiles with /b are counted; 0: none.",
    ),
    param(
        "replicate_profiles_timer",
        ParamKind::Int,
        Some("200"),
        "Milliseconds after which this node tells its counts again.",
    ),
    moot("replicate_profiles_check", ParamKind::Int, "an old count is never believed"),
    param(
        "replicate_profiles_buffer",
        ParamKind::Int,
        Some("1400"),
        "Bytes of a packet of counts, at most.",
    ),
    param(
        "replicate_profiles_expire",
        ParamKind::Int,
        Some("10"),
        "Seconds for which the count of a node is believed that tells nothing.",
    ),
    moot("cluster_auto_sync", ParamKind::Int, "nodes that were apart compare their dialogs always"),
    param("db_url", ParamKind::Str, None, "Database of dialogs; else db_default_url."),
    ParamSig {
        check: Some(check_db_mode),
        ..param(
            "db_mode",
            ParamKind::Int,
            Some("0"),
            "When dialogs are stored: 0 never, 1 at once, 2 every db_update_period, 3 when the node \
             ends.",
        )
    },
    param("db_update_period", ParamKind::Int, Some("60"), "Seconds between writes of db_mode 2."),
    param(
        "db_flush_vals_profiles",
        ParamKind::Int,
        Some("0"),
        "Whether db_mode 1 stores a value as soon as it changes.",
    ),
    param("timer_bulk_del_no", ParamKind::Int, Some("1"), "Rows deleted in one transaction."),
    param("table_name", ParamKind::Str, Some("dialog"), "Table of dialogs."),
    column("dlg_id_column", "dlg_id"),
    column("call_id_column", "callid"),
    column("from_uri_column", "from_uri"),
    column("from_tag_column", "from_tag"),
    column("to_uri_column", "to_uri"),
    column("to_tag_column", "to_tag"),
    column("state_column", "state"),
    column("start_time_column", "start_time"),
    column("timeout_column", "timeout"),
    column("to_cseq_column", "callee_cseq"),
    column("from_cseq_column", "caller_cseq"),
    column("to_route_column", "callee_route_set"),
    column("from_route_column", "caller_route_set"),
    column("to_contact_column", "callee_contact"),
    column("from_contact_column", "caller_contact"),
    column("to_sock_column", "callee_sock"),
    column("from_sock_column", "caller_sock"),
    column("profiles_column", "profiles"),
    column("vars_column", "vars"),
    column("sflags_column", "script_flags"),
    column("mflags_column", "module_flags"),
    column("flags_column", "flags"),
];

/// A parameter that names a column.
const fn column(name: &'static str, default: &'static str) -> ParamSig {
    param(name, ParamKind::Str, Some(default), "Name of the column.")
}

/// How a request within a dialog finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchMode {
    DidOnly,
    DidFallback,
    DidNone,
}

impl MatchMode {
    pub(crate) fn uses_did(self) -> bool {
        self != Self::DidNone
    }

    pub(crate) fn uses_tags(self) -> bool {
        self != Self::DidOnly
    }

    /// The names of `match_dialog`.
    pub(crate) fn named(text: &str) -> Option<Self> {
        Some(match text {
            "DID_ONLY" => Self::DidOnly,
            "DID_FALLBACK" => Self::DidFallback,
            "DID_NONE" => Self::DidNone,
            _ => return None,
        })
    }
}

/// The parameters as the module uses them.
#[derive(Debug)]
pub struct Params {
    pub stats: bool,
    pub hash_size: u32,
    pub rr_param: String,
    pub default_timeout_s: u32,
    pub options_interval_s: u32,
    pub reinvite_interval_s: u32,
    pub delete_delay_s: u32,
    pub extra_headers: Vec<u8>,
    pub match_mode: MatchMode,
    pub race_timeout_s: u32,
    pub prack_timeout_s: u32,
    pub hangs_up_unpracked: bool,
    pub profiles: Vec<Profile>,
    /// Where profiles with `/s` are counted; `None`: they are this node's alone.
    pub shared: Option<SharedCounts>,
    /// Cluster whose nodes have the same dialogs; 0: none.
    pub cluster: u32,
    /// Cluster over whose nodes profiles are counted; 0: none.
    pub counts_cluster: u32,
    /// How often, and in packets of which size, this node tells its counts.
    pub tell_ms: u32,
    pub tell_bytes: usize,
    /// Seconds for which the count of a silent node is believed.
    pub believe_s: u32,
    pub(crate) sql: Option<SqlParams>,
}

impl Params {
    pub(crate) fn read(build: &mut Build<'_>) -> Result<Self, BuildError> {
        let sql = read_sql(build)?;
        let int = |name: &'static str, min: i64, max: i64| int_of(build, name, min, max);
        let text = |name: &str| build.text(name).unwrap_or_default().to_owned();
        let hash_size = int("hash_size", 1, 1 << 20)?;
        if !hash_size.is_power_of_two() {
            return Err(BuildError::new("hash_size", "it is a power of 2")
                .help(format!("{} is the next one", hash_size.next_power_of_two())));
        }
        let mut profiles = Vec::new();
        for (param, has_value) in [("profiles_with_value", true), ("profiles_no_value", false)] {
            profiles_of(&text(param), has_value, &mut profiles)
                .map_err(|why| BuildError::new(param, why))?;
        }
        Ok(Self {
            stats: build.int("enable_stats") != Some(0),
            hash_size,
            rr_param: text("rr_param"),
            default_timeout_s: int("default_timeout", 1, i64::from(i32::MAX))?,
            options_interval_s: int("options_ping_interval", 1, 86_400)?,
            reinvite_interval_s: int("reinvite_ping_interval", 1, 86_400)?,
            delete_delay_s: int("delete_delay", 0, 86_400)?,
            extra_headers: text("dlg_extra_hdrs").into_bytes(),
            match_mode: match build.int("dlg_match_mode") {
                Some(0) => MatchMode::DidOnly,
                Some(2) => MatchMode::DidNone,
                _ => MatchMode::DidFallback,
            },
            race_timeout_s: int("race_condition_timeout", 1, 86_400)?,
            prack_timeout_s: int("auto_prack_fr_timeout", 1, 3_600)?,
            hangs_up_unpracked: build.int("auto_prack_hangup_on_failure").is_some_and(|n| n != 0),
            profiles,
            shared: read_shared(build)?,
            cluster: int("dialog_replication_cluster", 0, i64::from(u32::MAX))?,
            counts_cluster: int("profile_replication_cluster", 0, i64::from(u32::MAX))?,
            tell_ms: int("replicate_profiles_timer", 10, 3_600_000)?,
            tell_bytes: int("replicate_profiles_buffer", 100, 65_000)? as usize,
            believe_s: int("replicate_profiles_expire", 1, 86_400)?,
            sql,
        })
    }
}

fn int_of(build: &Build<'_>, name: &'static str, min: i64, max: i64) -> Result<u32, BuildError> {
    let value = build.int(name).unwrap_or(min);
    match (min..=max).contains(&value) {
        true => Ok(value as u32),
        false => Err(BuildError::new(name, format!("it is {min} to {max}"))),
    }
}

/// Where shared profiles are counted; `None`: nowhere.
fn read_shared(build: &Build<'_>) -> Result<Option<SharedCounts>, BuildError> {
    let Some(url) = build.text("cachedb_url").filter(|url| !url.is_empty()) else {
        return Ok(None);
    };
    let text = |name: &str| build.text(name).unwrap_or_default().to_owned();
    Ok(Some(SharedCounts {
        store: SharedCounts::store_of(url).map_err(|why| BuildError::new("cachedb_url", why))?,
        value_prefix: text("profile_value_prefix"),
        plain_prefix: text("profile_no_value_prefix"),
        size_prefix: text("profile_size_prefix"),
        expire_s: int_of(build, "profile_timeout", 1, i64::from(i32::MAX))?,
    }))
}

fn check_store(url: &str) -> Result<(), String> {
    SharedCounts::store_of(url).map(|_| ())
}

/// Where and when dialogs are stored; `None`: nowhere.
fn read_sql(build: &mut Build<'_>) -> Result<Option<SqlParams>, BuildError> {
    let mode = match build.int("db_mode") {
        Some(1) => DbMode::Realtime,
        Some(2) => DbMode::Delayed(int_of(build, "db_update_period", 1, 86_400)?),
        Some(3) => DbMode::Shutdown,
        _ => return Ok(None),
    };
    let Some(database) = build.database_param("db_url")? else {
        let error = BuildError::new("db_mode", "this mode needs a database");
        return Err(error.help("set `db_url`, or the global `db_default_url`"));
    };
    Ok(Some(SqlParams {
        database,
        mode,
        table: build.text("table_name").unwrap_or("dialog").to_owned(),
        columns: Columns::read(build),
        flushes_values: build.int("db_flush_vals_profiles").is_some_and(|n| n != 0),
        deletes_a_query: int_of(build, "timer_bulk_del_no", 1, 1000)? as usize,
    }))
}

fn check_db_mode(text: &str) -> Result<(), String> {
    match text {
        "0" | "1" | "2" | "3" => Ok(()),
        _ => Err("the modes are 0 (none), 1 (at once), 2 (delayed) and 3 (at the end)".into()),
    }
}

/// Reads a list of profiles.
fn profiles_of(text: &str, has_value: bool, all: &mut Vec<Profile>) -> Result<(), String> {
    for item in text.split(';').map(str::trim).filter(|item| !item.is_empty()) {
        let (name, marker) = match item.split_once('/').map(|(n, m)| (n.trim(), m.trim())) {
            None => (item, Marker::Local),
            Some((name, "b")) => (name, Marker::Bin),
            Some((name, "s")) => (name, Marker::Cache),
            Some((_, other)) => {
                return Err(format!("`{other}` is no marker: /b is for nodes, /s for a store"));
            }
        };
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(format!("`{name}` is no name of a profile: it has letters and digits"));
        }
        let profile = Profile { name: name.to_owned(), has_value, marker };
        if all.iter().any(|p| p.name == profile.name && p.marker == marker) {
            return Err(format!("profile `{}` is there twice", profile.full_name()));
        }
        all.push(profile);
    }
    Ok(())
}

fn check_profiles(text: &str) -> Result<(), String> {
    profiles_of(text, true, &mut Vec::new())
}

fn check_mode_number(text: &str) -> Result<(), String> {
    match text {
        "0" | "1" | "2" => Ok(()),
        _ => Err("the modes are 0 (DID_ONLY), 1 (DID_FALLBACK) and 2 (DID_NONE)".into()),
    }
}

fn check_token(text: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    match !text.is_empty() && text.bytes().all(plain) {
        true => Ok(()),
        false => Err("it has letters, digits and -_. only".into()),
    }
}

/// Header lines as they are put into requests.
pub(crate) fn check_lines(text: &str) -> Result<(), String> {
    let whole = text.is_empty() || text.ends_with("\r\n");
    let named = |line: &str| {
        let name = line.split_once(':').map_or("", |(name, _)| name);
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic())
    };
    let lines = text.split_terminator("\r\n");
    match whole && lines.clone().all(named) && !text.contains("\r\n\r\n") {
        true => Ok(()),
        false => Err("it is whole header lines, each with \\r\\n at its end".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_read_with_their_markers() {
        let mut all = Vec::new();
        profiles_of("caller/b ; gw;x/s;", true, &mut all).unwrap();
        let names: Vec<String> = all.iter().map(Profile::full_name).collect();
        assert_eq!(names, ["caller/b", "gw", "x/s"]);
        for wrong in ["a/x", "a b", "gw", "/b"] {
            assert!(profiles_of(wrong, false, &mut all.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lines_are_whole() {
        assert!(check_lines("X-A: b\r\nY: z\r\n").is_ok() && check_lines("").is_ok());
        for wrong in ["X-A: b", "X-A\r\n", "X: a\r\n\r\nbody\r\n", "X: a\r\n\r\n"] {
            assert!(check_lines(wrong).is_err(), "{wrong:?}");
        }
    }
}
