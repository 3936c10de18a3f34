//! Parameters.

use bytes::Bytes;
use tandem_db::{Name, Select, check_name};
use tandem_engine::effect::DatabaseId;
use tandem_engine::module::{Build, BuildError, ParamValue};
use tandem_engine::table::param;
use tandem_script::sig::{ParamKind, ParamSig};
use tandem_targets::{self as targets, Blacklist, Mode, Probing, Sharing};

use crate::table::COLUMNS;

/// What status reports call the one table.
pub(crate) const PARTITION: &str = "Default";

const fn text(name: &'static str, default: Option<&'static str>, help: &'static str) -> ParamSig {
    param(name, ParamKind::Str, default, help)
}

const fn int(name: &'static str, default: &'static str, help: &'static str) -> ParamSig {
    param(name, ParamKind::Int, Some(default), help)
}

/// The parameter table.
pub(crate) const PARAMS: &[ParamSig] = &[
    text("db_url", None, "Database of the destinations; else db_default_url."),
    ParamSig {
        check: Some(|text| check_name(text).map_err(|e| e.to_string())),
        ..text("db_table", Some("load_balancer"), "Table of the destinations.")
    },
    int("probing_interval", "30", "Seconds between probes of a destination; 0: none are sent."),
    int("probing_verbose", "0", "1: the log tells when a destination is enabled or disabled."),
    text("probing_method", Some("OPTIONS"), "Method of probes."),
    text("probing_from", Some("sip:prober@localhost"), "From of probes."),
    ParamSig {
        check: Some(targets::check_codes),
        ..text("probing_reply_codes", None, "Codes that mean alive besides 200: \"404,405\".")
    },
    ParamSig {
        check: Some(Blacklist::check),
        multiple: true,
        ..text("lb_define_blacklist", None, "A blacklist of groups: \"name= group,group\".")
    },
    targets::CLUSTER_ID,
    targets::SHARING_TAG,
    int(
        "fetch_freeswitch_stats",
        "0",
        "1: the size of a resource may be a FreeSWITCH, fs://[user]:password@host[:port], whose \
         HEARTBEATs tell what it is at each moment.",
    ),
    int(
        "initial_freeswitch_load",
        "1000",
        "The size of a FreeSWITCH that has not told yet what it bears.",
    ),
];

/// The parameters of the module.
#[derive(Debug)]
pub(crate) struct Params {
    pub(crate) database: DatabaseId,
    pub(crate) select: Select,
    pub(crate) probing: Probing,
    pub(crate) verbose: bool,
    pub(crate) blacklists: Vec<Blacklist>,
    pub(crate) sharing: Sharing,
    /// The first size of a FreeSWITCH; `None`: none is listened to.
    pub(crate) freeswitch_initial: Option<u32>,
}

impl Params {
    pub(crate) fn read(build: &mut Build<'_>) -> Result<Self, BuildError> {
        let listens = build.int("fetch_freeswitch_stats").is_some_and(|n| n != 0);
        let initial = build.int("initial_freeswitch_load").unwrap_or(0);
        let initial = u32::try_from(initial)
            .map_err(|_| BuildError::new("initial_freeswitch_load", "0 or more is wanted"))?;
        let database = build.database_param("db_url")?.ok_or_else(|| {
            BuildError::new("db_url", "load_balancer needs a database")
                .help("set `db_url` of load_balancer, or the global `db_default_url`")
        })?;
        let sharing = Sharing::read(build)?;
        let bytes = |name: &str| Bytes::from(build.text(name).unwrap_or_default().to_owned());
        let interval_s = u64::try_from(build.int("probing_interval").unwrap_or(30))
            .map_err(|_| BuildError::new("probing_interval", "0 or more seconds are wanted"))?;
        let codes = build.text("probing_reply_codes").and_then(|t| targets::codes(t).ok());
        let probing = Probing {
            interval_s,
            method: bytes("probing_method"),
            from: bytes("probing_from"),
            socket: None,
            codes: codes.unwrap_or_default(),
            max_forwards: None,
            mode: Mode::usual(&sharing),
        };
        let blacklists = build.all("lb_define_blacklist").iter().filter_map(|value| match value {
            ParamValue::Str(text) => Blacklist::parse(text).ok(),
            ParamValue::Int(_) => None,
        });
        let select = Select {
            table: Name::from(build.text("db_table").unwrap_or_default().to_owned()),
            columns: COLUMNS.map(Name::from).to_vec(),
            ..Select::default()
        };
        Ok(Self {
            database,
            select,
            probing,
            verbose: build.int("probing_verbose").unwrap_or(0) != 0,
            blacklists: blacklists.collect(),
            sharing,
            freeswitch_initial: listens.then_some(initial),
        })
    }
}
