//! Parameters.

use tandem_db::Name;
use tandem_engine::effect::DatabaseId;
use tandem_engine::module::{Build, BuildError};
use tandem_engine::table::{moot, param};
use tandem_script::sig::{ParamKind, ParamSig};

const fn int(name: &'static str, default: &'static str, help: &'static str) -> ParamSig {
    param(name, ParamKind::Int, Some(default), help)
}

/// The parameter table.
pub(crate) const PARAMS: &[ParamSig] = &[
    moot("hash_size", ParamKind::Int, "the table grows by itself: there is no size to choose"),
    param(
        "db_url",
        ParamKind::Str,
        None,
        "Database of the records, which outlive a restart there; else db_default_url. Without \
         one they live in the memory of the nodes.",
    ),
    ParamSig {
        check: Some(check_name),
        ..param("db_table", ParamKind::Str, Some("pua"), "Table of the records.")
    },
    int("min_expires", "300", "The least seconds that are asked for."),
    int("default_expires", "3600", "Seconds that are asked for where nobody says how many."),
    int(
        "update_period",
        "100",
        "Seconds before its end that a record is refreshed, and between two writes of what has \
         changed to the database; 0 or less: neither is done.",
    ),
    int("cluster_id", "0", "Cluster whose nodes have the records too."),
    param(
        "cluster_sharing_tag",
        ParamKind::Str,
        None,
        "Tag of the records that are made here: its holder refreshes them.",
    ),
];

fn check_name(text: &str) -> Result<(), String> {
    tandem_db::check_name(text).map_err(|e| e.to_string())
}

/// The parameters as they are used.
#[derive(Clone, Debug)]
pub(crate) struct Params {
    pub(crate) database: Option<DatabaseId>,
    pub(crate) table: Name,
    pub(crate) min_expires_s: u32,
    pub(crate) default_expires_s: u32,
    /// 0: nothing is refreshed or written.
    pub(crate) update_period_s: u32,
    /// 0: none.
    pub(crate) cluster: u32,
    pub(crate) tag: Option<String>,
}

impl Params {
    pub(crate) fn read(build: &mut Build<'_>) -> Result<Self, BuildError> {
        let database = build.database_param("db_url")?;
        let number =
            |name: &str| u32::try_from(build.int(name).unwrap_or(0).max(0)).unwrap_or(u32::MAX);
        let cluster = number("cluster_id");
        let tag = build.text("cluster_sharing_tag").filter(|t| !t.is_empty()).map(str::to_owned);
        if cluster == 0 && tag.is_some() {
            let error = BuildError::new("cluster_sharing_tag", "there is no cluster to share in");
            return Err(error.help("set `cluster_id` to the cluster's id"));
        }
        Ok(Self {
            database,
            table: build.text("db_table").unwrap_or("pua").to_owned().into(),
            min_expires_s: number("min_expires"),
            default_expires_s: number("default_expires").max(1),
            update_period_s: number("update_period"),
            cluster,
            tag,
        })
    }
}
