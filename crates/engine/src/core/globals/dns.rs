//! Names and blacklists; read by `dns::DnsSettings` and `blacklist`.

use tandem_script::sig::{ParamKind, ParamSig};

use super::global;

use ParamKind::{Int, Str};

pub(super) const GLOBALS: &[ParamSig] = &[
    global("dns_try_naptr", Int, Some("1"), &[], "Whether NAPTR records are asked for."),
    global(
        "dns_try_ipv6",
        Int,
        Some("0"),
        &[],
        "Whether a name without an IPv4 address is asked for one of IPv6.",
    ),
    global(
        "dns_retr_time",
        Int,
        None,
        &[],
        "Seconds that one question to a DNS server may take; default: 5.",
    ),
    global("dns_retr_no", Int, None, &[], "How often a question is asked; default: twice."),
    global("dns_servers_no", Int, None, &[], "DNS servers used of those the system names."),
    global(
        "dns_use_search_list",
        Int,
        Some("1"),
        &[],
        "Whether the search list of the system completes short names.",
    ),
    global(
        "disable_dns_failover",
        Int,
        Some("0"),
        &[],
        "Whether only the first destination of a name is tried.",
    ),
    global(
        "disable_dns_blacklist",
        Int,
        Some("1"),
        &[],
        "0: a destination that failed is in the blacklist `dns` for 4 minutes.",
    ),
    global(
        "exec_dns_threshold",
        Int,
        Some("0"),
        &["execdnsthreshold"],
        "Microseconds after which an answer of the DNS is counted as slow and logged; 0: never.",
    ),
    ParamSig {
        multiple: true,
        check: Some(|text| crate::blacklist::parse(text).map(|_| ())),
        ..global(
            "dst_blacklist",
            Str,
            None,
            &[],
            "A list of destinations that are not used: name/flags : { (proto, net, port, text) }.",
        )
    },
];
