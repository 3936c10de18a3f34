//! Parameters.

use tandem_engine::effect::DatabaseId;
use tandem_engine::module::{Build, BuildError};
use tandem_engine::table::{moot, param};
use tandem_script::program::VarId;
use tandem_script::sig::{Check, ParamKind, ParamSig};

const HASH: &str = "the table grows by itself: there is no size to choose";

/// The parameter table.
pub(crate) const PARAMS: &[ParamSig] = &[
    param(
        "db_url",
        ParamKind::Str,
        None,
        "Database of publications and subscriptions. Unset: they live in memory alone, in that of \
         the other nodes if cluster_id is set.",
    ),
    text("presentity_table", "presentity", "Table of publications."),
    text("active_watchers_table", "active_watchers", "Table of subscriptions."),
    text("watchers_table", "watchers", "Table of who may watch whom."),
    int(
        "clean_period",
        "100",
        "Seconds between cleanups of expired rows; 0 or less: nothing ends because of its time. \
         What is in memory ends in the second in which its time is over.",
    ),
    int(
        "db_update_period",
        "100",
        "Seconds between writes of changed subscriptions; 0 or less: they are written at once.",
    ),
    int("expires_offset", "0", "Seconds added to the end that is stored in the database."),
    int("max_expires_subscribe", "3600", "Most seconds of a subscription."),
    int("max_expires_publish", "3600", "Most seconds of a publication."),
    text("contact_user", "presence", "User part of the Contact of this server."),
    moot(
        "server_address",
        ParamKind::Str,
        "the Contact of this server is the socket that the request came by, with contact_user",
    ),
    moot("subs_htable_size", ParamKind::Int, HASH),
    moot("pres_htable_size", ParamKind::Int, HASH),
    int(
        "fallback2db",
        "0",
        "1: what is not in memory is looked for in the database, which other nodes write too.",
    ),
    int("enable_sphere_check", "0", "1: rules are asked with the sphere of the presentity."),
    checked(
        int(
            "waiting_subs_daysno",
            "3",
            "Days for which subscriptions that nobody decided on are kept, at most 30.",
        ),
        check_days,
    ),
    int("mix_dialog_presence", "0", "1: who is on the phone is shown so in presence."),
    param(
        "bla_presentity_spec",
        ParamKind::Var,
        None,
        "Variable with the presentity of a SUBSCRIBE for dialog;sla. Unset: the user of Contact at \
         the domain of From.",
    ),
    int(
        "bla_fix_remote_target",
        "1",
        "1: an address in the remote target of a body of dialog;sla is replaced by the domain, so \
         that phones call through this server.",
    ),
    int("notify_offline_body", "0", "1: somebody who has published nothing is shown as closed."),
    int("end_sub_on_timeout", "1", "1: a subscription ends when nobody answers its NOTIFY."),
    int(
        "cluster_id",
        "0",
        "Cluster whose Tandem nodes all have publications and subscriptions; stock nodes share \
         publications according to cluster_federation_mode.",
    ),
    checked(
        text(
            "cluster_federation_mode",
            "disabled",
            "How publications are shared with stock nodes: disabled, on-demand-sharing (kept where \
             somebody watches) or full-sharing.",
        ),
        check_federation,
    ),
    param(
        "cluster_be_active_shtag",
        ParamKind::Str,
        None,
        "Tag of the whole node: while another node holds it, this one notifies nobody, ends \
         nothing and shares nothing with stock nodes.",
    ),
    param(
        "cluster_pres_events",
        ParamKind::Str,
        None,
        "Events that are shared with stock nodes, separated by commas; unset: all.",
    ),
];

const fn int(name: &'static str, default: &'static str, help: &'static str) -> ParamSig {
    param(name, ParamKind::Int, Some(default), help)
}

const fn text(name: &'static str, default: &'static str, help: &'static str) -> ParamSig {
    param(name, ParamKind::Str, Some(default), help)
}

const fn checked(param: ParamSig, check: Check) -> ParamSig {
    ParamSig { check: Some(check), ..param }
}

/// How publications are shared with stock nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Federation {
    #[default]
    Disabled,
    OnDemand,
    Full,
}

/// The parameters as they are used.
#[derive(Debug)]
pub struct Params {
    pub(crate) database: Option<DatabaseId>,
    pub(crate) presentity_table: String,
    pub(crate) active_watchers_table: String,
    pub(crate) watchers_table: String,
    /// 0: nothing ends by time.
    pub(crate) clean_period_s: u32,
    /// 0: at once.
    pub(crate) db_update_period_s: u32,
    pub(crate) expires_offset_s: i64,
    pub max_expires_subscribe_s: u32,
    pub max_expires_publish_s: u32,
    pub(crate) contact_user: String,
    pub(crate) fallback2db: bool,
    pub(crate) checks_sphere: bool,
    pub(crate) waiting_days: u32,
    pub(crate) mixes_dialogs: bool,
    pub(crate) bla_presentity: Option<VarId>,
    pub(crate) bla_fixes_target: bool,
    pub(crate) notifies_offline: bool,
    pub(crate) ends_on_timeout: bool,
    /// 0: none.
    pub cluster: u32,
    pub(crate) federation: Federation,
    /// Tag of the whole node, with its cluster.
    pub(crate) node_tag: Option<(String, u32)>,
    /// Empty: all.
    pub(crate) shared_events: Vec<Vec<u8>>,
}

impl Params {
    pub(crate) fn read(build: &mut Build<'_>) -> Result<Self, BuildError> {
        let database = match build.text("db_url").map(str::to_owned) {
            Some(url) => Some(build.database(&url).map_err(|e| BuildError::new("db_url", e))?),
            None => None,
        };
        let on = |name: &str| build.int(name).unwrap_or(0) != 0;
        let number =
            |name: &str| u32::try_from(build.int(name).unwrap_or(0).max(0)).unwrap_or(u32::MAX);
        let name = |name: &str| build.text(name).unwrap_or_default().to_owned();
        let cluster = number("cluster_id");
        let federation = federation(&name("cluster_federation_mode")).unwrap_or_default();
        if cluster == 0 {
            for (is_set, param) in [
                (federation != Federation::Disabled, "cluster_federation_mode"),
                (build.text("cluster_be_active_shtag").is_some(), "cluster_be_active_shtag"),
            ] {
                if is_set {
                    let error = BuildError::new(param, "there is no cluster to share it with");
                    return Err(error.help("set `cluster_id` to the cluster's id"));
                }
            }
        }
        let events = name("cluster_pres_events");
        let events = events.split(',').map(str::trim).filter(|e| !e.is_empty());
        let shared_events = events.map(|e| crate::request::package_key(e.as_bytes())).collect();
        let node_tag = build.text("cluster_be_active_shtag").map(|tag| tag_parts(tag, cluster));
        Ok(Self {
            database,
            presentity_table: name("presentity_table"),
            active_watchers_table: name("active_watchers_table"),
            watchers_table: name("watchers_table"),
            clean_period_s: number("clean_period"),
            db_update_period_s: number("db_update_period"),
            expires_offset_s: build.int("expires_offset").unwrap_or(0),
            max_expires_subscribe_s: number("max_expires_subscribe").max(1),
            max_expires_publish_s: number("max_expires_publish").max(1),
            contact_user: name("contact_user"),
            fallback2db: on("fallback2db") && database.is_some(),
            checks_sphere: on("enable_sphere_check"),
            waiting_days: number("waiting_subs_daysno"),
            mixes_dialogs: on("mix_dialog_presence"),
            bla_presentity: build.var(PARAMS, "bla_presentity_spec"),
            bla_fixes_target: on("bla_fix_remote_target"),
            notifies_offline: on("notify_offline_body"),
            ends_on_timeout: on("end_sub_on_timeout"),
            cluster,
            federation,
            node_tag: node_tag.map(|(tag, cluster)| (tag.to_owned(), cluster)),
            shared_events,
        })
    }

    /// Whether an event is shared with stock nodes.
    pub fn shares(&self, event: &[u8]) -> bool {
        self.federation != Federation::Disabled
            && (self.shared_events.is_empty() || self.shared_events.iter().any(|e| e == event))
    }
}

/// The parts of `name` or `name/cluster`.
pub(crate) fn tag_parts(tag: &str, cluster: u32) -> (&str, u32) {
    match tag.rsplit_once('/') {
        Some((name, number)) => (name, number.parse().unwrap_or(cluster)),
        None => (tag, cluster),
    }
}

fn federation(text: &str) -> Option<Federation> {
    Some(match text {
        "disabled" => Federation::Disabled,
        "on-demand-sharing" => Federation::OnDemand,
        "full-sharing" => Federation::Full,
        _ => return None,
    })
}

fn check_federation(text: &str) -> Result<(), String> {
    let known = federation(text).map(|_| ());
    known.ok_or_else(|| "it is one of disabled, on-demand-sharing, full-sharing".into())
}

fn check_days(text: &str) -> Result<(), String> {
    let fits = text.parse::<u32>().is_ok_and(|days| days <= 30);
    fits.then_some(()).ok_or_else(|| "it is a number of days from 0 to 30".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_refused_at_load() {
        assert!(check_days("30").is_ok() && check_days("31").is_err() && check_days("x").is_err());
        assert!(check_federation("full-sharing").is_ok() && check_federation("full").is_err());
        assert_eq!(tag_parts("a/7", 1), ("a", 7));
        assert_eq!(tag_parts("a", 1), ("a", 1));
    }
}
