//! Parameters of the module.

use bytes::Bytes;
use tandem_engine::keys::Key;
use tandem_engine::module::{Build, BuildError};
use tandem_script::sig::{ParamKind, ParamSig};

use crate::gruu::Gruu;
use crate::push::Push;

/// The parameters of the module, with what it needs of usrloc's.
#[derive(Clone, Debug)]
pub(crate) struct Params {
    pub(crate) default_expires_s: u32,
    /// q x 1000; -1: none.
    pub(crate) default_q: i16,
    pub(crate) case_sensitive: bool,
    pub(crate) realm_prefix: String,
    /// 0: no limit.
    pub(crate) min_expires_s: u32,
    /// 0: no limit.
    pub(crate) max_expires_s: u32,
    pub(crate) expires_deviation_s: u32,
    pub(crate) received_param: String,
    pub(crate) received_avp: Option<Bytes>,
    pub(crate) attr_avp: Option<Bytes>,
    /// Mask; 0: unset.
    pub(crate) tcp_persistent_flag: u32,
    /// 0: none is sent.
    pub(crate) retry_after_s: u32,
    pub(crate) sock_hdr_name: String,
    /// 0: no limit.
    pub(crate) max_contacts: usize,
    pub(crate) max_username_len: usize,
    pub(crate) max_domain_len: usize,
    pub(crate) max_aor_len: usize,
    pub(crate) max_contact_len: usize,
    pub(crate) allow_dup_cseq: bool,
    /// AVP with a contact as it was forwarded to another registrar.
    pub(crate) mcontact_avp: Option<Bytes>,
    /// `None`: disable_gruu is 1.
    pub(crate) gruu: Option<Gruu>,
    /// `None`: pn_enable is 0.
    pub(crate) push: Option<Push>,
    /// usrloc's.
    pub(crate) use_domain: bool,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            default_expires_s: 3600,
            default_q: -1,
            case_sensitive: true,
            realm_prefix: String::new(),
            min_expires_s: 60,
            max_expires_s: 0,
            expires_deviation_s: 0,
            received_param: "received".into(),
            received_avp: None,
            attr_avp: None,
            tcp_persistent_flag: 0,
            retry_after_s: 0,
            sock_hdr_name: String::new(),
            max_contacts: 0,
            max_username_len: 64,
            max_domain_len: 64,
            max_aor_len: 256,
            max_contact_len: 255,
            allow_dup_cseq: true,
            mcontact_avp: None,
            gruu: None,
            push: None,
            use_domain: true,
        }
    }
}

const fn param(
    name: &'static str,
    kind: ParamKind,
    default: Option<&'static str>,
    help: &'static str,
) -> ParamSig {
    let (multiple, old_names, check) = (false, &[] as &[&str], None);
    ParamSig { name, kind, default, multiple, old_names, check, moot: None, help }
}

const fn int(name: &'static str, default: &'static str, help: &'static str) -> ParamSig {
    let check = Some(check_positive as fn(&str) -> Result<(), String>);
    ParamSig { check, ..param(name, ParamKind::Int, Some(default), help) }
}

fn check_positive(text: &str) -> Result<(), String> {
    let is_number = text.parse::<u32>().is_ok();
    is_number.then_some(()).ok_or_else(|| "a number from 0 is wanted".into())
}

fn check_q(text: &str) -> Result<(), String> {
    let in_range = text.parse::<i16>().is_ok_and(|q| (-1..=1000).contains(&q));
    in_range.then_some(()).ok_or_else(|| "q x 1000 is from 0 to 1000, or -1 for none".into())
}

fn check_avp(text: &str) -> Result<(), String> {
    let name = text.strip_prefix("$avp(").and_then(|t| t.strip_suffix(')'));
    let is_avp = name.is_some_and(|n| !n.is_empty());
    is_avp.then_some(()).ok_or_else(|| "an AVP such as `$avp(received)` is wanted".into())
}

/// The parameter table.
pub(crate) const PARAMS: &[ParamSig] = &[
    int("default_expires", "3600", "Seconds where a REGISTER says nothing."),
    ParamSig {
        check: Some(check_q),
        ..param("default_q", ParamKind::Int, Some("-1"), "q x 1000 of contacts without q.")
    },
    int("case_sensitive", "1", "1: users of AoRs differ by case."),
    param("realm_prefix", ParamKind::Str, Some(""), "Removed from the domain of AoRs."),
    int("min_expires", "60", "Shortest lifetime in seconds; 0: no limit."),
    int("max_expires", "0", "Longest lifetime in seconds; 0: no limit."),
    int("expires_max_deviation", "0", "Seconds by which lifetimes vary at random."),
    param(
        "received_param",
        ParamKind::Str,
        Some("received"),
        "Contact parameter of a reply that shows where a contact came from.",
    ),
    ParamSig {
        check: Some(check_avp),
        ..param("received_avp", ParamKind::Var, None, "Where a contact came from (nathelper's).")
    },
    ParamSig {
        check: Some(check_avp),
        ..param("attr_avp", ParamKind::Var, None, "Text stored with a contact and given back.")
    },
    param(
        "tcp_persistent_flag",
        ParamKind::MessageFlag,
        None,
        "Message flag: the connection of a REGISTER stays as long as its contacts.",
    ),
    int("retry_after", "0", "Seconds in Retry-After of 5xx replies; 0: none."),
    param("sock_hdr_name", ParamKind::Str, None, "Header that names the socket of a contact."),
    int("max_contacts", "0", "Contacts of one AoR; 0: no limit."),
    int("max_username_len", "64", "Longest user of an AoR."),
    int("max_domain_len", "64", "Longest domain of an AoR."),
    int("max_aor_len", "256", "Longest AoR."),
    int("max_contact_len", "255", "Longest contact URI."),
    int("allow_dup_cseq", "1", "1: a REGISTER may repeat the CSeq of its Call-ID."),
    ParamSig {
        check: Some(check_avp),
        ..param(
            "mcontact_avp",
            ParamKind::Var,
            None,
            "A contact as it was forwarded to another registrar, whose reply save() stores.",
        )
    },
    int("disable_gruu", "1", "0: contacts with +sip.instance get GRUUs; 1: none is given out."),
    param(
        "gruu_secret",
        ParamKind::Str,
        None,
        "Key of temporary GRUUs; without it the node's own, which its peers know.",
    ),
    int("pn_enable", "0", "1: contacts may ask for push notifications (RFC 8599)."),
    param("pn_providers", ParamKind::Str, None, "Push services that are taken, with commas."),
    ParamSig {
        check: Some(check_names),
        ..param(
            "pn_ct_match_params",
            ParamKind::Str,
            Some("pn-provider, pn-prid, pn-param"),
            "URI parameters by which a push contact is known again.",
        )
    },
    int(
        "pn_pnsreg_interval",
        "130",
        "Seconds before its end at which a phone that is awake \
        refreshes a push contact by itself (+sip.pnsreg).",
    ),
    int(
        "pn_trigger_interval",
        "120",
        "Seconds before the end of a push contact at which \
        E_UL_CONTACT_REFRESH is raised.",
    ),
    int(
        "pn_skip_pn_interval",
        "0",
        "Seconds after a REGISTER in which a phone counts as awake; 0: never.",
    ),
    int(
        "pn_refresh_timeout",
        "6",
        "Seconds in which a phone that is woken has to register before the request does without.",
    ),
    int("pn_enable_purr", "0", "1: push contacts get a name for their dialogs (+sip.pnspurr)."),
];

fn check_names(text: &str) -> Result<(), String> {
    let has_one = text.split(',').any(|name| !name.trim().is_empty());
    has_one.then_some(()).ok_or_else(|| "names of URI parameters are wanted".into())
}

impl Params {
    pub(crate) fn read(build: &Build<'_>, use_domain: bool) -> Result<Self, BuildError> {
        let number = |name: &'static str| {
            let given = build.int(name).and_then(|n| u32::try_from(n).ok());
            given.ok_or_else(|| BuildError::new(name, "a number from 0 is wanted"))
        };
        let length = |name| number(name).map(|n| n as usize);
        let text = |name: &str| build.text(name).unwrap_or_default().to_owned();
        let min_expires_s = number("min_expires")?;
        let max_expires_s = number("max_expires")?;
        let gruu = (number("disable_gruu")? == 0).then(|| Gruu {
            key: build.text("gruu_secret").map(|secret| Key::of_secret(secret.as_bytes())),
        });
        if max_expires_s != 0 && min_expires_s > max_expires_s {
            return Err(BuildError::new("max_expires", "it is lower than min_expires"));
        }
        Ok(Self {
            default_expires_s: number("default_expires")?,
            default_q: build.int("default_q").and_then(|q| i16::try_from(q).ok()).unwrap_or(-1),
            case_sensitive: number("case_sensitive")? != 0,
            realm_prefix: text("realm_prefix"),
            min_expires_s,
            max_expires_s,
            expires_deviation_s: number("expires_max_deviation")?,
            received_param: text("received_param"),
            received_avp: build.avp("received_avp"),
            attr_avp: build.avp("attr_avp"),
            tcp_persistent_flag: build.message_flag("tcp_persistent_flag"),
            retry_after_s: number("retry_after")?,
            sock_hdr_name: text("sock_hdr_name"),
            max_contacts: length("max_contacts")?,
            max_username_len: length("max_username_len")?,
            max_domain_len: length("max_domain_len")?,
            max_aor_len: length("max_aor_len")?,
            max_contact_len: length("max_contact_len")?,
            allow_dup_cseq: number("allow_dup_cseq")? != 0,
            mcontact_avp: build.avp("mcontact_avp"),
            gruu,
            push: match number("pn_enable")? {
                0 => None,
                _ => Some(Push {
                    providers: names(build.text("pn_providers").unwrap_or_default()),
                    match_params: names(&text("pn_ct_match_params")),
                    pnsreg_interval_s: number("pn_pnsreg_interval")?,
                    trigger_interval_s: number("pn_trigger_interval")?,
                    skip_interval_s: number("pn_skip_pn_interval")?,
                    refresh_timeout_s: number("pn_refresh_timeout")?.max(1),
                    gives_purr: number("pn_enable_purr")? != 0,
                }),
            },
            use_domain,
        })
    }
}

/// `a, b` in its parts.
fn names(list: &str) -> Vec<Box<[u8]>> {
    let names = list.split(',').map(str::trim).filter(|n| !n.is_empty());
    names.map(|n| n.as_bytes().into()).collect()
}
