//! Parameters of the module.

use tandem_engine::module::{Build, BuildError};
use tandem_engine::table::param;
use tandem_script::sig::{ParamKind, ParamSig};
use tandem_sip::Uri;

const fn checked(
    name: &'static str,
    default: Option<&'static str>,
    help: &'static str,
    check: fn(&str) -> Result<(), String>,
) -> ParamSig {
    ParamSig { check: Some(check), ..param(name, ParamKind::Str, default, help) }
}

const fn number(name: &'static str, default: &'static str, help: &'static str) -> ParamSig {
    let check = Some(check_number as fn(&str) -> Result<(), String>);
    ParamSig { check, ..param(name, ParamKind::Int, Some(default), help) }
}

fn check_number(text: &str) -> Result<(), String> {
    let is_number = text.parse::<u32>().is_ok();
    is_number.then_some(()).ok_or_else(|| "a number from 0 is wanted".into())
}

fn check_method(text: &str) -> Result<(), String> {
    let is_token = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    is_token.then_some(()).ok_or_else(|| "the name of a method is wanted".into())
}

fn check_uri(text: &str) -> Result<(), String> {
    let is_uri = Uri::parse(text.as_bytes()).is_ok_and(|uri| uri.is_sip());
    is_uri.then_some(()).ok_or_else(|| "a SIP URI such as `sip:keepalive@host` is wanted".into())
}

/// Whole header lines; the last one may lack its line end.
fn check_headers(text: &str) -> Result<(), String> {
    let mut lines = text.strip_suffix("\r\n").unwrap_or(text).split("\r\n");
    let is_header = |line: &str| {
        let name = line.split(':').next().unwrap_or_default();
        line.contains(':') && !name.is_empty() && !name.contains([' ', '\n', '\r'])
    };
    let fine = text.is_empty() || lines.all(|line| is_header(line) && !line.contains('\n'));
    fine.then_some(()).ok_or_else(|| "header lines such as `X-Name: value\\r\\n` are wanted".into())
}

/// The parameter table.
pub(crate) const PARAMS: &[ParamSig] = &[
    number("keepalive_interval", "60", "Seconds between keepalives of an endpoint; 0: none."),
    checked("keepalive_method", Some("NOTIFY"), "Method of keepalives.", check_method),
    checked(
        "keepalive_from",
        None,
        "From of keepalives; unset: sip:keepalive@ and the address they leave from.",
        check_uri,
    ),
    checked("keepalive_extra_headers", None, "Header lines of keepalives.", check_headers),
    param(
        "keepalive_state_file",
        ParamKind::Str,
        Some("keepalive_state"),
        "File that keeps the endpoints over a restart; a relative name is one in the state folder.",
    ),
    number("cluster_id", "0", "Cluster of cluster_sharing_tag."),
    param(
        "cluster_sharing_tag",
        ParamKind::Str,
        None,
        "Send keepalives only while this tag is held.",
    ),
];

/// The parameters, read.
#[derive(Debug)]
pub(crate) struct Params {
    pub(crate) interval_s: u64,
    pub(crate) method: String,
    pub(crate) from: Option<String>,
    /// With its line ends.
    pub(crate) headers: String,
    pub(crate) file: String,
    /// Cluster and name of the tag that switches keepalives.
    pub(crate) tag: Option<(u32, String)>,
}

impl Params {
    pub(crate) fn read(from: &Build<'_>) -> Result<Self, BuildError> {
        let number = |name: &str| from.int(name).and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        let text = |name: &str| from.text(name).map(str::to_owned);
        let cluster = number("cluster_id");
        let tag = text("cluster_sharing_tag").map(|name| (cluster, name));
        if tag.is_some() && cluster == 0 {
            let message = "cluster_sharing_tag needs cluster_id";
            return Err(BuildError::new("cluster_sharing_tag", message)
                .help("add modparam(\"nat_traversal\", \"cluster_id\", 1)"));
        }
        let mut headers = text("keepalive_extra_headers").unwrap_or_default();
        if !headers.is_empty() && !headers.ends_with("\r\n") {
            headers.push_str("\r\n");
        }
        Ok(Self {
            interval_s: u64::from(number("keepalive_interval")),
            method: text("keepalive_method").unwrap_or_default().to_ascii_uppercase(),
            from: text("keepalive_from"),
            headers,
            file: text("keepalive_state_file").unwrap_or_default(),
            tag,
        })
    }
}
