//! Parameters of the module.

use std::collections::BTreeMap;

use tandem_engine::module::{Build, BuildError, ParamValue};
use tandem_engine::table::{moot, param};
use tandem_script::sig::{Dependency, ParamKind, ParamSig};

/// Collections of one node.
const COLLECTIONS_MAX: usize = 256;
/// The collection that is always there.
pub(crate) const DEFAULT: &str = "default";

pub(crate) const DEPENDENCIES: &[Dependency] =
    &[Dependency { module: "clusterer", when_param: "cluster_id" }];

/// The parameter table.
pub(crate) const PARAMS: &[ParamSig] = &[
    param(
        "cache_clean_period",
        ParamKind::Int,
        Some("600"),
        "Seconds after which values that have ended leave the memory.",
    ),
    moot("exec_threshold", ParamKind::Int, "no operation takes long enough to be told"),
    ParamSig {
        check: Some(check_collections),
        multiple: true,
        ..param(
            "cache_collections",
            ParamKind::Str,
            None,
            "Collections: \"name; other/r\"; /r replicates. A size behind `=` is accepted: tables \
             grow by themselves.",
        )
    },
    ParamSig {
        check: Some(check_url),
        multiple: true,
        ..param(
            "cachedb_url",
            ParamKind::Str,
            None,
            "A name for a collection: \"local:group:///collection\".",
        )
    },
    param(
        "enable_restart_persistency",
        ParamKind::Int,
        Some("0"),
        "1: values survive a restart, in a file of the node's state.",
    ),
    param("cluster_id", ParamKind::Int, Some("0"), "Cluster that shares collections; 0: none."),
    ParamSig {
        check: Some(check_persistency),
        ..param(
            "cluster_persistency",
            ParamKind::Str,
            Some("sync-from-cluster"),
            "sync-from-cluster: a node that starts asks for all values; none: it does not.",
        )
    },
];

/// What the script says.
#[derive(Debug)]
pub(crate) struct Params {
    pub(crate) clean_period_s: u64,
    /// Names, and whether they are replicated.
    pub(crate) collections: BTreeMap<String, bool>,
    /// The collection behind each name of a store.
    pub(crate) ids: BTreeMap<String, String>,
    /// 0: none.
    pub(crate) cluster: u32,
    pub(crate) syncs: bool,
    /// Values survive a restart.
    pub(crate) persists: bool,
}

impl Params {
    pub(crate) fn read(build: &Build<'_>) -> Result<Self, BuildError> {
        let mut collections = BTreeMap::from([(DEFAULT.to_owned(), false)]);
        for text in texts(build, "cache_collections") {
            let read = parse_collections(&text);
            collections.extend(read.map_err(|why| BuildError::new("cache_collections", why))?);
        }
        if collections.len() > COLLECTIONS_MAX {
            let why = format!("at most {COLLECTIONS_MAX} collections are kept");
            return Err(BuildError::new("cache_collections", why));
        }
        let mut ids = BTreeMap::from([("local".to_owned(), DEFAULT.to_owned())]);
        for text in texts(build, "cachedb_url") {
            let fault = |why: String| BuildError::new("cachedb_url", why);
            let (id, collection) = parse_url(&text).map_err(fault)?;
            if !collections.contains_key(&collection) {
                return Err(fault(format!("there is no collection `{collection}`"))
                    .help("name it in cache_collections"));
            }
            ids.insert(id, collection);
        }
        let number = |name: &'static str| {
            let number = build.int(name).and_then(|n| u32::try_from(n).ok());
            number.ok_or_else(|| BuildError::new(name, "0 or more is wanted"))
        };
        Ok(Self {
            clean_period_s: u64::from(number("cache_clean_period")?.max(1)),
            collections,
            ids,
            cluster: number("cluster_id")?,
            persists: number("enable_restart_persistency")? != 0,
            syncs: build.text("cluster_persistency") != Some("none"),
        })
    }
}

fn texts(build: &Build<'_>, param: &str) -> Vec<String> {
    let text = |value: &ParamValue| match value {
        ParamValue::Str(text) => Some(text.clone()),
        ParamValue::Int(_) => None,
    };
    build.all(param).iter().filter_map(text).collect()
}

/// `name[/r][=size]; ...`
fn parse_collections(text: &str) -> Result<BTreeMap<String, bool>, String> {
    let items = text.split(';').map(str::trim).filter(|item| !item.is_empty());
    items
        .map(|item| {
            let plain: String = item.chars().filter(|c| !c.is_whitespace()).collect();
            let replicated = plain.contains("/r");
            let plain = plain.replace("/r", "");
            let (name, size) = plain.split_once('=').unwrap_or((&plain, "9"));
            let fine = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
            match !name.is_empty() && name.chars().all(fine) && size.parse::<u8>().is_ok() {
                true => Ok((name.to_owned(), replicated)),
                false => Err(format!("`{item}` is not of the form name/r=size")),
            }
        })
        .collect()
}

/// `local[:group]://[host]/collection`
fn parse_url(text: &str) -> Result<(String, String), String> {
    let wrong = || "it is written \"local:group:///collection\"".to_owned();
    let (id, rest) = text.trim().split_once("://").ok_or_else(wrong)?;
    let group = id.strip_prefix("local").ok_or_else(wrong)?;
    if !(group.is_empty() || (group.starts_with(':') && group.len() > 1)) {
        return Err(wrong());
    }
    let collection = rest.split_once('/').map_or("", |(_, collection)| collection.trim());
    let collection = if collection.is_empty() { DEFAULT } else { collection };
    Ok((id.to_owned(), collection.to_owned()))
}

fn check_collections(text: &str) -> Result<(), String> {
    parse_collections(text).map(|_| ())
}

fn check_url(text: &str) -> Result<(), String> {
    parse_url(text).map(|_| ())
}

fn check_persistency(text: &str) -> Result<(), String> {
    match text {
        "none" | "sync-from-cluster" => Ok(()),
        _ => Err("it is none or sync-from-cluster".into()),
    }
}
