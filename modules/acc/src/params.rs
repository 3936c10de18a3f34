//! Parameters.

use std::sync::Arc;

use tandem_db::{Name, check_name};
use tandem_engine::effect::DatabaseId;
use tandem_engine::log::Level;
use tandem_engine::module::{Build, BuildError, ParamValue};
use tandem_engine::table::{moot, param};
use tandem_script::nearest;
use tandem_script::program::VarId;
use tandem_script::sig::{ParamKind, ParamSig};

use crate::fields::{self, Fields};
use crate::marks::{Backend, backends};

const fn name(name: &'static str, default: &'static str, help: &'static str) -> ParamSig {
    ParamSig { check: Some(check_db_name), ..param(name, ParamKind::Str, Some(default), help) }
}

const fn declares(name: &'static str, help: &'static str) -> ParamSig {
    let param = param(name, ParamKind::Str, None, help);
    ParamSig { check: Some(fields::check), multiple: true, ..param }
}

/// The parameter table.
pub(crate) const PARAMS: &[ParamSig] = &[
    param(
        "early_media",
        ParamKind::Int,
        Some("0"),
        "1: a provisional reply with a body is accounted as well.",
    ),
    param("report_cancels", ParamKind::Int, Some("0"), "1: CANCEL requests are accounted."),
    param(
        "detect_direction",
        ParamKind::Int,
        Some("0"),
        "1: requests of the callee are accounted with From and To tag as the caller sees them.",
    ),
    param(
        "log_level",
        ParamKind::Int,
        Some("2"),
        "Level of the lines of the type log (2: L_NOTICE).",
    ),
    moot(
        "log_facility",
        ParamKind::Str,
        "lines go where the node's log goes: set syslog_facility for all of them",
    ),
    declares(
        "extra_fields",
        "Fields of $acc_extra(tag) that a type adds to its records: \
         \"db: tag->column; tag2\", \"log: tag->name\", \"evi: tag\", \"aaa: tag->Attribute\".",
    ),
    declares("leg_fields", "The same for fields of each leg, $(acc_leg(tag)[leg])."),
    param(
        "aaa_url",
        ParamKind::Str,
        None,
        "The RADIUS servers of the type aaa: \"radius:FILE\", where FILE is a radiusclient.conf.",
    ),
    param(
        "service_type",
        ParamKind::Int,
        Some("-1"),
        "Service-Type of RADIUS records; -1: Sip-Session of the dictionary, else 15.",
    ),
    param("db_url", ParamKind::Str, None, "The database of the type db; else db_default_url."),
    name("db_table_acc", "acc", "Table of transactions and calls."),
    name("db_table_missed_calls", "missed_calls", "Table of missed calls."),
    param(
        "db_table_avp",
        ParamKind::Var,
        None,
        "A variable with the name of the table, read by do_accounting() and acc_db_request().",
    ),
    name("acc_method_column", "method", "Column with the method."),
    name("acc_from_tag_column", "from_tag", "Column with the From tag."),
    name("acc_to_tag_column", "to_tag", "Column with the To tag."),
    name("acc_callid_column", "callid", "Column with the Call-ID."),
    name("acc_sip_code_column", "sip_code", "Column with the reply code."),
    name("acc_sip_reason_column", "sip_reason", "Column with the reason phrase."),
    name("acc_time_column", "time", "Column with the time."),
];

const CORE_COLUMNS: [&str; 7] = [
    "acc_method_column",
    "acc_from_tag_column",
    "acc_to_tag_column",
    "acc_callid_column",
    "acc_sip_code_column",
    "acc_sip_reason_column",
    "acc_time_column",
];

/// The parameters as they are used.
pub(crate) struct Params {
    pub(crate) early_media: bool,
    pub(crate) report_cancels: bool,
    pub(crate) detect_direction: bool,
    pub(crate) log_level: Level,
    pub(crate) extra: Fields,
    pub(crate) legs: Fields,
    pub(crate) database: Option<DatabaseId>,
    pub(crate) table_acc: Name,
    pub(crate) table_missed: Name,
    pub(crate) table_var: Option<VarId>,
    /// Columns of a transaction and of a call.
    pub(crate) columns: Arc<[Name]>,
    pub(crate) cdr_columns: Arc<[Name]>,
}

impl Params {
    pub(crate) fn read(build: &mut Build<'_>) -> Result<Self, BuildError> {
        let extra = declared(build, "extra_fields")?;
        let legs = declared(build, "leg_fields")?;
        check_tags(build, 0, "$acc_extra", "extra_fields", &extra)?;
        check_tags(build, 1, "$acc_leg", "leg_fields", &legs)?;
        let database = build.database_param("db_url")?;
        if database.is_none() && uses(build, Backend::Db, "acc_db_request") {
            let error = BuildError::new("", "the script accounts to a database, and there is none");
            return Err(error.help("set db_url, or db_default_url for all modules"));
        }
        let mut columns: Vec<Name> = CORE_COLUMNS.iter().map(|c| text(build, c)).collect();
        let more = extra.of(Backend::Db).iter().chain(legs.of(Backend::Db));
        columns.extend(more.map(|(_, column)| column.clone()));
        let with = |more: &[&'static str]| {
            let more = more.iter().map(|name| Name::from(*name));
            columns.iter().cloned().chain(more).collect::<Arc<[Name]>>()
        };
        Ok(Self {
            early_media: is_on(build, "early_media"),
            report_cancels: is_on(build, "report_cancels"),
            detect_direction: is_on(build, "detect_direction"),
            log_level: Level::from_number(build.int("log_level").unwrap_or(2) as i32),
            database,
            table_acc: text(build, "db_table_acc"),
            table_missed: text(build, "db_table_missed_calls"),
            table_var: build.var(PARAMS, "db_table_avp"),
            columns: with(&["setuptime", "created"]),
            cdr_columns: with(&["duration", "ms_duration", "setuptime", "created"]),
            extra,
            legs,
        })
    }
}

fn is_on(build: &Build<'_>, name: &str) -> bool {
    build.int(name).unwrap_or(0) != 0
}

fn text(build: &Build<'_>, name: &str) -> Name {
    build.text(name).unwrap_or_default().to_owned().into()
}

fn declared(build: &Build<'_>, param: &'static str) -> Result<Fields, BuildError> {
    let mut fields = Fields::default();
    for value in build.all(param) {
        if let ParamValue::Str(text) = value {
            fields.declare(text).map_err(|why| BuildError::new(param, why))?;
        }
    }
    Ok(fields)
}

/// A tag that nobody declared is a mistake of the script.
fn check_tags(
    build: &Build<'_>,
    variable: u16,
    shown: &str,
    param: &'static str,
    fields: &Fields,
) -> Result<(), BuildError> {
    for (tag, written) in build.program.variable_names(build.slot, variable) {
        if fields.position(tag).is_some() {
            continue;
        }
        let tag = String::from_utf8_lossy(tag);
        let known = fields.tags.iter().filter_map(|t| std::str::from_utf8(t).ok());
        let help = match nearest(&tag, known) {
            Some(near) => format!("did you mean {shown}({near})?"),
            None => format!("declare it: modparam(\"acc\", \"{param}\", \"log: {tag}\")"),
        };
        let text = format!("{written} is no field: {param} does not declare `{tag}`");
        return Err(BuildError::new("", text).help(help));
    }
    Ok(())
}

/// Whether the script names a type, or calls its function.
pub(crate) fn uses(build: &Build<'_>, backend: Backend, function: &str) -> bool {
    let mut types = build.program.texts(build.slot, "do_accounting", 0);
    let named = |text: &[u8]| {
        let found = backends(&String::from_utf8_lossy(text));
        found.is_ok_and(|all| all.contains(&backend))
    };
    types.any(|text| named(text)) || build.program.calls(build.slot, function)
}

fn check_db_name(text: &str) -> Result<(), String> {
    check_name(text).map_err(|e| e.to_string())
}
