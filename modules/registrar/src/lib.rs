//! The `registrar` module: a REGISTER becomes contacts, and an AoR their addresses.
//!
//! The contacts themselves are kept by `usrloc`, which this module changes and asks.
//!
//! Where to look: `request` reads a REGISTER; `save` carries it out and `reply` answers it;
//! `lookup` finds where to send a request; `query` holds the smaller functions; `aor` says what
//! the key of an AoR is; `flags` the names that `save` and `lookup` take; `push` is RFC 8599 and
//! `waking` the requests that wait for a phone; `gruu` is RFC 5627; `onreply` stores what another
//! registrar has accepted.

mod aor;
mod flags;
mod flow;
mod gruu;
mod lookup;
mod onreply;
mod params;
mod push;
mod query;
mod reply;
mod request;
mod save;
mod state;
mod waking;

pub use state::Registrar;

use tandem_engine::module::{FunctionDef, ModuleDef};
use tandem_engine::stats::StatDef;
use tandem_engine::table::{arg, counter, function, gauge, literal, needs, optional};
use tandem_script::sig::{ArgKind, ArgSig, AsyncUse, FunctionSig, Routes};

/// Places in the table of statistics.
mod stat {
    pub(crate) const MAX_EXPIRES: usize = 0;
    pub(crate) const MAX_CONTACTS: usize = 1;
    pub(crate) const DEFAULT_EXPIRE: usize = 2;
    pub(crate) const ACCEPTED: usize = 3;
    pub(crate) const REJECTED: usize = 4;
}

const STATISTICS: &[StatDef] = &[
    gauge("max_expires", "The parameter of this name."),
    gauge("max_contacts", "The parameter of this name."),
    gauge("default_expire", "The parameter default_expires."),
    counter("accepted_regs", "REGISTER requests that were accepted."),
    counter("rejected_regs", "REGISTER requests that were refused."),
];

const DOMAIN: ArgSig = literal("domain", ArgKind::Str);
const AOR: ArgSig = optional("aor", ArgKind::Str);

const SAVE: &[ArgSig] = &[
    DOMAIN,
    optional("flags", ArgKind::Flags(flags::SAVE)),
    AOR,
    optional("ownership_tag", ArgKind::SharingTag),
];
const LOOKUP: &[ArgSig] = &[DOMAIN, optional("flags", ArgKind::Flags(flags::LOOKUP)), AOR];
const REMOVE: &[ArgSig] = &[
    DOMAIN,
    arg("aor", ArgKind::Str),
    optional("contact", ArgKind::Str),
    optional("next_hop", ArgKind::Str),
    optional("sip_instance", ArgKind::Str),
    optional("bflag", ArgKind::BranchFlag),
];
const REMOVE_IP: &[ArgSig] = &[arg("ip", ArgKind::Str), arg("port", ArgKind::Int), DOMAIN, AOR];
const IS_REGISTERED: &[ArgSig] = &[DOMAIN, AOR];
const IS_CONTACT: &[ArgSig] =
    &[DOMAIN, AOR, optional("contact", ArgKind::Str), optional("callid", ArgKind::Str)];
const IS_IP: &[ArgSig] =
    &[DOMAIN, AOR, arg("ip_var", ArgKind::Var), optional("port_var", ArgKind::Var)];
const SOCK_HDR: &[ArgSig] = &[arg("hdr_name", ArgKind::Str)];

const LOOKUPS: Routes = Routes::REQUEST.or(Routes::FAILURE).or(Routes::ONREPLY);
const QUERIES: Routes = LOOKUPS.or(Routes::BRANCH).or(Routes::LOCAL);

const FUNCTIONS: &[FunctionDef] = &[
    function(
        "save",
        SAVE,
        Routes::REQUEST.or(Routes::ONREPLY),
        "Carries a REGISTER out and answers it; in an onreply route, stores the contacts of a \
         REGISTER that another registrar has accepted.",
        save::save,
    ),
    function("lookup", LOOKUP, LOOKUPS, "Turns an AoR into its contacts.", lookup::lookup),
    function(
        "remove",
        REMOVE,
        Routes::REQUEST.or(Routes::ONREPLY),
        "Removes the contacts of an AoR that fit.",
        query::remove,
    ),
    function(
        "remove_ip_port",
        REMOVE_IP,
        Routes::ANY,
        "Removes the contacts behind an address and port.",
        query::remove_ip_port,
    ),
    function(
        "is_registered",
        IS_REGISTERED,
        QUERIES,
        "Tests whether an AoR has a contact.",
        query::is_registered,
    ),
    function(
        "is_contact_registered",
        IS_CONTACT,
        QUERIES,
        "Tests whether an AoR has a certain contact.",
        query::is_contact_registered,
    ),
    function(
        "is_ip_registered",
        IS_IP,
        QUERIES,
        "Tests whether an AoR has a contact behind an address.",
        query::is_ip_registered,
    ),
    function(
        "add_sock_hdr",
        SOCK_HDR,
        QUERIES,
        "Adds a header with the socket that received the request.",
        query::add_sock_hdr,
    ),
    FunctionDef {
        sig: FunctionSig {
            name: "pn_process_purr",
            args: &[DOMAIN],
            routes: Routes::REQUEST.or(Routes::ONREPLY),
            async_use: AsyncUse::Only,
            help: "Wakes the phone that a request of a dialog names with pn-purr: 1 when it has \
                   registered, 2 when nothing is to be done, -2 when it did not come in time.",
        },
        run: waking::pn_process_purr,
    },
];

/// The export table.
pub static MODULE: ModuleDef = ModuleDef {
    name: "registrar",
    help: "Carries REGISTER requests out and finds the contacts of users.",
    dependencies: &[needs("usrloc"), needs("signaling")],
    params: params::PARAMS,
    functions: FUNCTIONS,
    variables: &[],
    mi: &[],
    statistics: STATISTICS,
    events: &[],
    build: Registrar::build,
};
