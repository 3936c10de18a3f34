//! Functions that send without state, and those that say how our own Via looks.

use tandem_script::host::Called;
use tandem_script::sig::{ArgKind, ArgSig, FlagSig, Routes};

use super::sending::{forward, send};
use crate::log::Level;
use crate::module::{Call, FunctionDef};
use crate::table::{arg, function, optional};

const OK: Called = Called::Returned(1);
const FAILED: Called = Called::Returned(-1);

const DESTINATION: &[ArgSig] = &[optional("destination", ArgKind::Str)];
const SEND: &[ArgSig] = &[arg("destination", ArgKind::Str), optional("headers", ArgKind::Str)];
const ADDRESS: &[ArgSig] = &[arg("addr", ArgKind::Str)];
const PORT: &[ArgSig] = &[arg("port", ArgKind::Str)];
const VIA: &[ArgSig] = &[arg("flags", ArgKind::Flags(VIA_FLAGS))];

const fn flag(name: &'static str, help: &'static str) -> FlagSig {
    FlagSig { name, takes_value: false, old: "", help }
}

const VIA_FLAGS: &[FlagSig] =
    &[flag("force-rport", "As force_rport()."), flag("add-local-rport", "As add_local_rport().")];

pub(super) const FUNCTIONS: &[FunctionDef] = &[
    function(
        "forward",
        DESTINATION,
        Routes::ANY,
        "Sends the request on without state, to an address or to its R-URI.",
        forward,
    ),
    function(
        "send",
        SEND,
        Routes::ANY,
        "Sends the message as it was received, without a Via of ours.",
        send,
    ),
    function("add_local_rport", &[], Routes::ANY, "Puts rport into our Via.", |call| {
        call.ctx.own_via.rport = true;
        OK
    }),
    function(
        "set_advertised_address",
        ADDRESS,
        Routes::ANY,
        "The host in our Via and Record-Route of this request.",
        |call| {
            let host = call.text(0);
            if host.is_empty() || host.iter().any(|b| !is_host(*b)) {
                return call.complain(Level::Error, "this is no host to advertise");
            }
            call.ctx.own_via.host = Some(host);
            call.cx.node.advertise(&call.ctx.own_via);
            OK
        },
    ),
    function(
        "set_advertised_port",
        PORT,
        Routes::ANY,
        "The port in our Via and Record-Route of this request.",
        |call| {
            let text = call.text(0);
            let port = std::str::from_utf8(&text).ok().and_then(|t| t.trim().parse::<u16>().ok());
            let Some(port) = port.filter(|p| *p != 0) else {
                return call.complain(Level::Error, "a port goes from 1 to 65535");
            };
            call.ctx.own_via.port = Some(port);
            call.cx.node.advertise(&call.ctx.own_via);
            OK
        },
    ),
    function(
        "set_via_handling",
        VIA,
        Routes::ANY,
        "How the Vias of this request are treated, by names of flags.",
        |call| {
            let Some(set) = flags(call) else { return FAILED };
            call.ctx.force_rport |= set.has(0);
            call.ctx.own_via.rport |= set.has(1);
            OK
        },
    ),
];

fn flags(call: &Call<'_, '_, '_>) -> Option<tandem_script::flags::FlagSet> {
    use tandem_script::program::Ready;
    if let Some(Ready::Flags(set)) = call.ready(0) {
        return Some(tandem_script::flags::FlagSet::clone(set));
    }
    let text = call.text(0);
    tandem_script::flags::parse(VIA_FLAGS, std::str::from_utf8(&text).ok()?).ok().map(|p| p.flags)
}

fn is_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']')
}
