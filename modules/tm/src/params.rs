//! Module parameters.

use tandem_engine::module::{Build, BuildError, ParamValue};
use tandem_engine::table::{moot, param};
use tandem_script::sig::{ParamKind, ParamSig, Routes};
use tandem_transaction::{Settings, Timers};

use crate::anycast::Anycast;
use crate::outside::Append;
use crate::table::OldMatch;

pub(crate) const PARAMS: &[ParamSig] = &[
    ParamSig {
        old_names: &["fr_timer"],
        ..param(
            "fr_timeout",
            ParamKind::Int,
            Some("30"),
            "Seconds to wait for a final reply or an ACK.",
        )
    },
    ParamSig {
        old_names: &["fr_inv_timer"],
        ..param(
            "fr_inv_timeout",
            ParamKind::Int,
            Some("120"),
            "Seconds to wait for a final reply to an INVITE after a provisional one.",
        )
    },
    param("wt_timer", ParamKind::Int, Some("5"), "Seconds a finished transaction lingers."),
    param("T1_timer", ParamKind::Int, Some("500"), "First retransmission interval, in ms."),
    param("T2_timer", ParamKind::Int, Some("4000"), "Longest retransmission interval, in ms."),
    param(
        "restart_fr_on_each_reply",
        ParamKind::Int,
        Some("1"),
        "Every provisional reply restarts fr_inv_timeout, not only the first.",
    ),
    param(
        "ruri_matching",
        ParamKind::Int,
        Some("1"),
        "The R-URI counts when a request without the cookie of RFC 3261 is matched.",
    ),
    param(
        "via1_matching",
        ParamKind::Int,
        Some("1"),
        "The topmost Via counts when a request without the cookie of RFC 3261 is matched.",
    ),
    param(
        "local_request_route",
        ParamKind::Str,
        None,
        "Name of a route that sees requests of the node before they leave, after local_route.",
    ),
    param(
        "local_reply_route",
        ParamKind::Str,
        None,
        "Name of a route that sees final replies of the node before they leave.",
    ),
    moot("delete_timer", ParamKind::Int, "a transaction goes when nothing needs it any more"),
    moot("unix_tx_timeout", ParamKind::Int, "nothing waits for the reader of a socket"),
    moot(
        "pass_provisional_replies",
        ParamKind::Int,
        "a command has one answer, which is the final reply",
    ),
    moot("syn_branch", ParamKind::Int, "branches are random and found by their label"),
    moot("timer_partitions", ParamKind::Int, "every worker has a timer wheel of its own"),
    param("auto_100trying", ParamKind::Int, Some("1"), "Answer an INVITE with 100 at once."),
    param("disable_6xx_block", ParamKind::Int, Some("0"), "Treat a 6xx like any negative reply."),
    param(
        "onreply_avp_mode",
        ParamKind::Int,
        Some("0"),
        "1: the transaction's AVPs are visible in onreply routes.",
    ),
    param(
        "minor_branch_flag",
        ParamKind::BranchFlag,
        None,
        "Branches with this flag are not waited for when all others have failed.",
    ),
    param(
        "tm_replication_cluster",
        ParamKind::Int,
        Some("0"),
        "Cluster whose nodes share anycast sockets; 0: none do.",
    ),
    param(
        "cluster_param",
        ParamKind::Str,
        Some("cid"),
        "Via parameter with the id of the node that sent the request.",
    ),
    param(
        "cluster_auto_cancel",
        ParamKind::Int,
        Some("1"),
        "CANCELs to anycast sockets find their node without the script.",
    ),
    ParamSig {
        multiple: true,
        check: Some(|text| Append::parse(text).map(|_| ())),
        ..param(
            "tw_append",
            ParamKind::Str,
            None,
            "name:element;element: what t_write_req and t_write_unix add under this name.",
        )
    },
    param("enable_stats", ParamKind::Int, Some("1"), "Keep the statistics."),
];

/// The parameters as numbers.
#[derive(Clone, Debug)]
pub(crate) struct Params {
    pub(crate) timers: Timers,
    pub(crate) settings: Settings,
    pub(crate) auto_100trying: bool,
    pub(crate) onreply_avps: bool,
    pub(crate) stats: bool,
    /// A 503 goes upstream as it is (`disable_503_translation`).
    pub(crate) keeps_503: bool,
    pub(crate) old_match: OldMatch,
    pub(crate) anycast: Anycast,
    pub(crate) appends: Vec<Append>,
    pub(crate) local_request_route: Option<String>,
    pub(crate) local_reply_route: Option<String>,
    /// Mask of `minor_branch_flag`.
    pub(crate) minor_branch: u32,
}

impl Params {
    pub(crate) fn read(build: &Build<'_>) -> Result<Self, BuildError> {
        let timers = Timers {
            t1_ms: positive(build, "T1_timer", 1)?,
            t2_ms: positive(build, "T2_timer", 1)?,
            fr_ms: positive(build, "fr_timeout", 1_000)?,
            fr_inv_ms: positive(build, "fr_inv_timeout", 1_000)?,
            wait_ms: positive(build, "wt_timer", 1_000)?,
        };
        if timers.t2_ms < timers.t1_ms {
            return Err(BuildError::new("T2_timer", "T2_timer is shorter than T1_timer"));
        }
        let on = |name| build.int(name).is_some_and(|n| n != 0);
        let settings = Settings {
            restart_fr_on_each_reply: on("restart_fr_on_each_reply"),
            disable_6xx_block: on("disable_6xx_block"),
            ..Settings::default()
        };
        Ok(Self {
            timers,
            settings,
            auto_100trying: on("auto_100trying"),
            onreply_avps: on("onreply_avp_mode"),
            stats: on("enable_stats"),
            anycast: anycast(build)?,
            appends: appends(build),
            old_match: OldMatch { uri: on("ruri_matching"), via: on("via1_matching") },
            local_request_route: route(build, "local_request_route")?,
            local_reply_route: route(build, "local_reply_route")?,
            minor_branch: build.branch_flag("minor_branch_flag"),
            keeps_503: build.global_int("disable_503_translation").is_some_and(|n| n != 0),
        })
    }
}

/// The values of `tw_append`; they were checked with the script.
fn appends(build: &Build<'_>) -> Vec<Append> {
    let texts = build.all("tw_append").iter().filter_map(|value| match value {
        ParamValue::Str(text) => Some(text),
        ParamValue::Int(_) => None,
    });
    texts.filter_map(|text| Append::parse(text).ok()).collect()
}

fn anycast(build: &Build<'_>) -> Result<Anycast, BuildError> {
    let param = build.text("cluster_param").unwrap_or("cid").to_owned();
    let token = |b: u8| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b);
    if param.is_empty() || !param.bytes().all(token) {
        return Err(BuildError::new("cluster_param", "this is no name of a Via parameter"));
    }
    let cluster = build.int("tm_replication_cluster").unwrap_or(0);
    let cluster = u32::try_from(cluster).map_err(|_| {
        BuildError::new("tm_replication_cluster", "the id of a cluster is greater than 0")
    })?;
    let auto_cancel = build.int("cluster_auto_cancel").is_some_and(|n| n != 0);
    Ok(Anycast { cluster, param, auto_cancel })
}

/// A parameter that names a `route[NAME]` of the script.
fn route(build: &Build<'_>, name: &'static str) -> Result<Option<String>, BuildError> {
    let Some(text) = build.text(name).filter(|t| !t.is_empty()) else { return Ok(None) };
    let mut routes = build.program.routes_of(Routes::REQUEST);
    if routes.any(|(_, route)| route.name == text) {
        return Ok(Some(text.to_owned()));
    }
    let message = format!("there is no route[{text}] in the script");
    Err(BuildError::new(name, message))
}

/// A parameter in milliseconds; `unit_ms` is what one of it lasts.
fn positive(build: &Build<'_>, name: &'static str, unit_ms: u32) -> Result<u32, BuildError> {
    let number = build.int(name).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
    number
        .and_then(|n| n.checked_mul(unit_ms))
        .ok_or_else(|| BuildError::new(name, "the time must be greater than 0 and fit 49 days"))
}
