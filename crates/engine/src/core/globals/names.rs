//! How the node shows itself, what it takes for its own, and what it writes by itself.

use tandem_script::sig::{ParamKind, ParamSig};

use super::global;

use ParamKind::{Int, Str};

pub(super) const GLOBALS: &[ParamSig] = &[
    global(
        "advertised_address",
        Str,
        None,
        &[],
        "Host in Via and Record-Route instead of the socket's; `as` of a socket wins.",
    ),
    global(
        "advertised_port",
        Int,
        Some("0"),
        &[],
        "Port in Via and Record-Route instead of the socket's.",
    ),
    global(
        "check_via",
        Int,
        Some("0"),
        &[],
        "Whether replies are dropped whose topmost Via is not ours.",
    ),
    global(
        "disable_stateless_fwd",
        Int,
        Some("0"),
        &[],
        "Whether replies that no transaction knows are dropped; not when forward() is used. \
         They go on by their Vias: the node that knew them may have died.",
    ),
    global(
        "user_agent_header",
        Str,
        None,
        &[],
        "The User-Agent header line of requests that the node makes.",
    ),
    global(
        "tos",
        ParamKind::IntOrStr,
        None,
        &[],
        "The TOS byte of what is sent: a number, or IPTOS_LOWDELAY and its like.",
    ),
    global("maxbuffer", Int, None, &[], "Bytes of a UDP socket's receive buffer, at most."),
    global("sip_warning", Int, Some("0"), &[], "Whether replies carry a Warning header."),
    global(
        "disable_503_translation",
        Int,
        Some("0"),
        &[],
        "Whether a 503 goes upstream as it is, and not as 500.",
    ),
];
