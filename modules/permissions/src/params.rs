//! Parameters of the module.

use tandem_db::{Name, Order, Select};
use tandem_engine::cached::{Cached, Part, Partition};
use tandem_engine::module::{Build, BuildError, ParamValue};
use tandem_engine::table::param;
use tandem_script::sig::{ParamKind, ParamSig};

use crate::address::Addresses;

const fn name(name: &'static str, default: &'static str, help: &'static str) -> ParamSig {
    ParamSig { check: Some(check_name), ..param(name, ParamKind::Str, Some(default), help) }
}

const fn text(name: &'static str, default: &'static str, help: &'static str) -> ParamSig {
    param(name, ParamKind::Str, Some(default), help)
}

/// The parameter table.
pub(crate) const PARAMS: &[ParamSig] = &[
    text(
        "default_allow_file",
        "permissions.allow",
        "Rules that let through, for allow_routing(); a relative name is beside the script.",
    ),
    text("default_deny_file", "permissions.deny", "Rules that refuse, for allow_routing()."),
    param(
        "check_all_branches",
        ParamKind::Int,
        Some("1"),
        "1: allow_routing() looks at every branch; 0: at the R-URI alone.",
    ),
    text(
        "allow_suffix",
        ".allow",
        "What a basename gets behind it for the file that lets through.",
    ),
    text("deny_suffix", ".deny", "What a basename gets behind it for the file that refuses."),
    ParamSig {
        check: Some(Partition::check),
        multiple: true,
        ..param(
            "partition",
            ParamKind::Str,
            None,
            "A further table: \"name: db_url=URL; table_name=TABLE\".",
        )
    },
    param(
        "db_url",
        ParamKind::Str,
        None,
        "Database of the partition `default`; else \
         db_default_url.",
    ),
    name("address_table", "address", "Table of the partition `default`."),
    name("ip_col", "ip", "Column with the address."),
    name("proto_col", "proto", "Column with the protocol, or `any`."),
    name("pattern_col", "pattern", "Column with a pattern that the functions' pattern must fit."),
    name("info_col", "context_info", "Column with a text for the script."),
    name("grp_col", "grp", "Column with the group; 0: every group."),
    name("mask_col", "mask", "Column with the length of the prefix."),
    name("port_col", "port", "Column with the port; 0: every port."),
];

/// The parameters of the module, but for the tables.
#[derive(Debug)]
pub(crate) struct Params {
    pub(crate) allow_file: String,
    pub(crate) deny_file: String,
    pub(crate) allow_suffix: String,
    pub(crate) deny_suffix: String,
    pub(crate) all_branches: bool,
}

impl Params {
    pub(crate) fn read(build: &Build<'_>) -> Self {
        let text = |name: &str| build.text(name).unwrap_or_default().to_owned();
        Self {
            allow_file: text("default_allow_file"),
            deny_file: text("default_deny_file"),
            allow_suffix: text("allow_suffix"),
            deny_suffix: text("deny_suffix"),
            all_branches: build.int("check_all_branches") != Some(0),
        }
    }
}

/// The partitions: the one named `default` by `db_url`, and those of `partition`.
pub(crate) fn partitions(build: &mut Build<'_>) -> Result<Cached<Addresses>, BuildError> {
    let mut parts = Vec::new();
    let given: Vec<String> = build.all("partition").iter().filter_map(text_of).collect();
    for text in given {
        let fault = |why: String| BuildError::new("partition", why);
        let partition = Partition::parse(&text).map_err(fault)?;
        let database = match &partition.url {
            Some(url) => build.database(url).map_err(fault)?,
            None => build
                .database_param("db_url")?
                .ok_or_else(|| fault(format!("partition `{}` needs a db_url", partition.name)))?,
        };
        if parts.iter().any(|p: &Part<Addresses>| p.name == partition.name) {
            return Err(fault(format!("partition `{}` is given twice", partition.name)));
        }
        let select = select(build, partition.table);
        parts.push(Part::new(partition.name, database, select));
    }
    if !parts.iter().any(|p| p.name == "default")
        && let Some(database) = build.database_param("db_url")?
    {
        parts.insert(0, Part::new("default", database, select(build, None)));
    }
    let refusal = (400, "Trusted table reload failed");
    Cached::new(parts, refusal).map_err(|why| BuildError::new("partition", why))
}

fn select(build: &Build<'_>, table: Option<String>) -> Select {
    let name = |param: &str| Name::from(build.text(param).unwrap_or_default().to_owned());
    let columns =
        ["grp_col", "ip_col", "mask_col", "port_col", "proto_col", "pattern_col", "info_col"];
    Select {
        table: table.map_or_else(|| name("address_table"), Name::from),
        columns: columns.map(name).to_vec(),
        order: Vec::<Order>::new(),
        ..Select::default()
    }
}

fn text_of(value: &ParamValue) -> Option<String> {
    match value {
        ParamValue::Str(text) => Some(text.clone()),
        ParamValue::Int(_) => None,
    }
}

fn check_name(text: &str) -> Result<(), String> {
    tandem_db::check_name(text).map_err(|e| e.to_string())
}
