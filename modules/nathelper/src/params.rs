//! Parameters of the module.

use bytes::Bytes;
use tandem_engine::module::{Build, BuildError};
use tandem_engine::sockets::SocketId;
use tandem_engine::table::{moot, param};
use tandem_script::sig::{ParamKind, ParamSig};
use tandem_sip::Uri;

use crate::fix::check_avp;

const fn int(name: &'static str, default: &'static str, help: &'static str) -> ParamSig {
    let check = Some(check_number as fn(&str) -> Result<(), String>);
    ParamSig { check, ..param(name, ParamKind::Int, Some(default), help) }
}

const fn flag(name: &'static str, help: &'static str) -> ParamSig {
    param(name, ParamKind::BranchFlag, None, help)
}

fn check_number(text: &str) -> Result<(), String> {
    let is_number = text.parse::<u32>().is_ok();
    is_number.then_some(()).ok_or_else(|| "a number from 0 is wanted".into())
}

fn check_uri(text: &str) -> Result<(), String> {
    let is_uri = Uri::parse(text.as_bytes()).is_ok_and(|uri| uri.is_sip());
    is_uri.then_some(()).ok_or_else(|| "a SIP URI such as `sip:pinger@host` is wanted".into())
}

fn check_method(text: &str) -> Result<(), String> {
    let is_token = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    is_token.then_some(()).ok_or_else(|| "the name of a method is wanted".into())
}

fn check_codes(text: &str) -> Result<(), String> {
    codes(text).map(drop)
}

fn check_skip(text: &str) -> Result<(), String> {
    let is_known = !text.is_empty() && text.bytes().all(|b| matches!(b, b'o' | b'c'));
    is_known.then_some(()).ok_or_else(|| "`o`, `c` or `oc` is wanted".into())
}

/// The parameter table.
pub(crate) const PARAMS: &[ParamSig] = &[
    int("natping_interval", "0", "Seconds between pings of a contact; 0: none."),
    int("ping_nated_only", "0", "1: ping only contacts with usrloc's nat_bflag."),
    param(
        "nortpproxy_str",
        ParamKind::Str,
        Some("a=nortpproxy:yes"),
        "Line of a body that was dealt with already; empty: none.",
    ),
    ParamSig {
        check: Some(check_avp),
        ..param("received_avp", ParamKind::Str, None, "AVP for the source of a REGISTER.")
    },
    param("force_socket", ParamKind::Str, None, "Socket of pings to contacts without a known one."),
    ParamSig {
        check: Some(check_codes),
        ..param(
            "sipping_ignore_rpl_codes",
            ParamKind::Str,
            None,
            "Codes of replies that do not count as an answer to a ping, with commas.",
        )
    },
    ParamSig {
        check: Some(check_uri),
        ..param("sipping_from", ParamKind::Str, None, "From of SIP pings; unset: none are sent.")
    },
    ParamSig {
        check: Some(check_method),
        ..param("sipping_method", ParamKind::Str, Some("OPTIONS"), "Method of SIP pings.")
    },
    flag("sipping_bflag", "Branch flag of contacts that get SIP pings."),
    flag("sipping_latency_flag", "Branch flag of contacts whose latency is measured."),
    flag("remove_on_timeout_bflag", "Branch flag of contacts removed when they do not answer."),
    int("natping_tcp", "0", "1: ping contacts behind a connection too, as long as it is there."),
    moot(
        "natping_partitions",
        ParamKind::Int,
        "pings are spread evenly over the whole interval, whatever their number",
    ),
    param("natping_socket", ParamKind::Str, None, "Source `ip:port` of plain pings."),
    ParamSig {
        check: Some(check_skip),
        ..param(
            "oldip_skip",
            ParamKind::Str,
            None,
            "`o`: fix_nated_sdp() leaves no a=oldoip, `c`: no a=oldcip.",
        )
    },
    int("ping_threshold", "3", "Seconds after which a ping without an answer is lost."),
    int("max_pings_lost", "3", "Pings lost in a row after which a contact is removed."),
    int("cluster_id", "0", "Cluster of cluster_sharing_tag."),
    param("cluster_sharing_tag", ParamKind::Str, None, "Ping only while this tag is held."),
];

/// The parameters, read.
#[derive(Default)]
pub(crate) struct Params {
    pub(crate) interval_s: u64,
    pub(crate) nated_only: bool,
    pub(crate) pings_streams: bool,
    pub(crate) nortpproxy: String,
    pub(crate) received_avp: Option<Bytes>,
    pub(crate) force_socket: Option<SocketId>,
    pub(crate) plain_socket: Option<SocketId>,
    /// `natping_socket`, if this node has no such socket.
    pub(crate) foreign_socket: Option<String>,
    pub(crate) ignored_codes: Vec<u16>,
    pub(crate) from: Option<String>,
    pub(crate) method: String,
    /// Names of branch flags; `None`: no contact has it.
    pub(crate) sip_flag: Option<String>,
    pub(crate) latency_flag: Option<String>,
    pub(crate) remove_flag: Option<String>,
    pub(crate) skips_oldoip: bool,
    pub(crate) skips_oldcip: bool,
    pub(crate) threshold_s: u64,
    pub(crate) lost_max: u16,
    /// Cluster and name of the tag that switches the pinger.
    pub(crate) tag: Option<(u32, String)>,
}

impl Params {
    pub(crate) fn read(from: &Build<'_>) -> Result<Self, BuildError> {
        let number = |name: &'static str| {
            let given = from.int(name).and_then(|n| u64::try_from(n).ok());
            given.ok_or_else(|| BuildError::new(name, "a number from 0 is wanted"))
        };
        let text = |name: &str| from.text(name).map(str::to_owned);
        let cluster = u32::try_from(number("cluster_id")?).unwrap_or(0);
        let tag = from.text("cluster_sharing_tag").map(|name| (cluster, name.to_owned()));
        if tag.is_some() && cluster == 0 {
            let message = "cluster_sharing_tag needs cluster_id";
            return Err(BuildError::new("cluster_sharing_tag", message)
                .help("add modparam(\"nathelper\", \"cluster_id\", 1)"));
        }
        let plain = text("natping_socket");
        let plain_socket = plain.as_ref().and_then(|t| from.sockets.named(&format!("udp:{t}")));
        let skip = text("oldip_skip").unwrap_or_default();
        let codes = codes(&text("sipping_ignore_rpl_codes").unwrap_or_default());
        Ok(Self {
            interval_s: number("natping_interval")?,
            nated_only: number("ping_nated_only")? != 0,
            pings_streams: number("natping_tcp")? != 0,
            nortpproxy: text("nortpproxy_str").unwrap_or_default(),
            received_avp: from.avp("received_avp"),
            force_socket: own_socket(from, "force_socket")?,
            foreign_socket: plain.filter(|_| plain_socket.is_none()),
            plain_socket,
            ignored_codes: codes.map_err(|e| BuildError::new("sipping_ignore_rpl_codes", e))?,
            from: text("sipping_from"),
            method: text("sipping_method").unwrap_or_default().to_ascii_uppercase(),
            sip_flag: text("sipping_bflag"),
            latency_flag: text("sipping_latency_flag"),
            remove_flag: text("remove_on_timeout_bflag"),
            skips_oldoip: skip.contains('o'),
            skips_oldcip: skip.contains('c'),
            threshold_s: number("ping_threshold")?.max(1),
            lost_max: u16::try_from(number("max_pings_lost")?.max(1)).unwrap_or(u16::MAX),
            tag,
        })
    }
}

fn own_socket(from: &Build<'_>, name: &'static str) -> Result<Option<SocketId>, BuildError> {
    let Some(text) = from.text(name) else { return Ok(None) };
    let found = from.sockets.named(text).or_else(|| from.sockets.named(&format!("udp:{text}")));
    match found {
        Some(socket) => Ok(Some(socket)),
        None => Err(BuildError::new(name, format!("`{text}` is no socket of this node"))
            .help("name one of the script's `socket` lines, as in udp:10.0.0.1:5060")),
    }
}

fn codes(list: &str) -> Result<Vec<u16>, String> {
    let items = list.split(',').map(str::trim).filter(|c| !c.is_empty());
    let code = |c: &str| c.parse::<u16>().ok().filter(|c| (100..700).contains(c));
    items.map(|c| code(c).ok_or_else(|| format!("`{c}` is no code of a reply"))).collect()
}
