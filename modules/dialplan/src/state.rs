//! Parameters and partitions.

use std::sync::Arc;

use tandem_db::{DbError, Name, Rows, Select};
use tandem_engine::cached::{Cached, Part, Partition};
use tandem_engine::log::Level;
use tandem_engine::module::{Build, BuildError, Cx, Module, ParamValue};
use tandem_engine::table::param;
use tandem_script::sig::{ParamKind, ParamSig};

use crate::rules::{COLUMNS, Rules};

const fn name(name: &'static str, default: &'static str, help: &'static str) -> ParamSig {
    ParamSig { check: Some(check_name), ..param(name, ParamKind::Str, Some(default), help) }
}

/// The parameter table.
pub(crate) const PARAMS: &[ParamSig] = &[
    ParamSig {
        check: Some(check_partition),
        multiple: true,
        ..param(
            "partition",
            ParamKind::Str,
            None,
            "A further table: \"name: db_url=URL; table_name=TABLE\"; \"default: name\" makes \
             another one the default.",
        )
    },
    param(
        "db_url",
        ParamKind::Str,
        None,
        "Database of the partition `default`; else \
         db_default_url.",
    ),
    name("table_name", "dialplan", "Table of the partition `default`."),
    name("dpid_col", "dpid", "Column with the id of the set of rules."),
    name("pr_col", "pr", "Column with the priority: the smallest number first."),
    name("match_op_col", "match_op", "Column: 0 equal, 1 expression."),
    name("match_exp_col", "match_exp", "Column with the text or the expression."),
    name("match_flags_col", "match_flags", "Column: 1 ignores case."),
    name("subst_exp_col", "subst_exp", "Column with the expression whose groups are used."),
    name("repl_exp_col", "repl_exp", "Column with the new text, with \\1 and the like."),
    name("attrs_col", "attrs", "Column with a text for the script."),
    name("timerec_col", "timerec", "Column with the times at which the rule holds."),
    name("disabled_col", "disabled", "Column: 1 leaves the rule out."),
];

/// The state of the module.
pub(crate) struct Dialplan {
    pub(crate) partitions: Cached<Rules>,
    /// What is meant without a name.
    pub(crate) default: String,
    /// Urls without passwords, in the order of the partitions.
    pub(crate) urls: Vec<String>,
}

impl Dialplan {
    pub(crate) fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
        let mut parts: Vec<Part<Rules>> = Vec::new();
        let mut default = "default".to_owned();
        let texts: Vec<String> = build.all("partition").iter().filter_map(text_of).collect();
        let fault = |why: String| BuildError::new("partition", why);
        for text in texts {
            if let Some(name) = alias(&text) {
                default = name.to_owned();
                continue;
            }
            let partition = Partition::parse(&text).map_err(fault)?;
            let database = match &partition.url {
                Some(url) => build.database(url).map_err(fault)?,
                None => build.database_param("db_url")?.ok_or_else(|| {
                    fault(format!("partition `{}` needs a db_url", partition.name))
                })?,
            };
            let select = select(build, partition.table);
            parts.push(Part::new(partition.name, database, select));
        }
        let has = |parts: &[Part<Rules>], name: &str| parts.iter().any(|p| p.name == name);
        if default == "default" && !has(&parts, "default") {
            if let Some(database) = build.database_param("db_url")? {
                parts.insert(0, Part::new("default", database, select(build, None)));
            }
        } else if !has(&parts, &default) {
            return Err(fault(format!("there is no partition `{default}`")));
        }
        let urls = parts.iter().map(|p| build.database_text(p.database)).collect();
        let partitions = Cached::new(parts, (500, "Failed to reload"));
        Ok(Arc::new(Self { partitions: partitions.map_err(fault)?, default, urls }))
    }

    /// A partition, or the default one.
    pub(crate) fn part(&self, name: Option<&str>) -> Option<&Part<Rules>> {
        match name {
            None | Some("default") => self.partitions.part(&self.default),
            Some(name) => self.partitions.part(name),
        }
    }
}

impl Module for Dialplan {
    fn start(&self, cx: &mut Cx<'_>) {
        self.partitions.start(cx);
    }

    fn db(&self, cx: &mut Cx<'_>, token: u64, result: Result<Rows, DbError>) {
        self.partitions.answered(cx, token, result, |cx, rows| {
            let (rules, faults) = Rules::of(rows);
            for why in faults {
                cx.log(Level::Error, format!("dialplan: a rule is left out: {why}"));
            }
            rules
        });
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

/// The name in `default: name`.
fn alias(text: &str) -> Option<&str> {
    let name = text.trim().strip_prefix("default")?.trim_start().strip_prefix(':')?.trim();
    (!name.is_empty() && !name.contains('=')).then_some(name)
}

fn text_of(value: &ParamValue) -> Option<String> {
    match value {
        ParamValue::Str(text) => Some(text.clone()),
        ParamValue::Int(_) => None,
    }
}

fn check_partition(text: &str) -> Result<(), String> {
    if alias(text).is_some() { Ok(()) } else { Partition::check(text) }
}

fn check_name(text: &str) -> Result<(), String> {
    tandem_db::check_name(text).map_err(|e| e.to_string())
}
