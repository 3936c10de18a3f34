//! Functions that choose and change lists of destinations that are not used.

use tandem_script::host::Called;
use tandem_script::sig::{ArgKind, ArgSig, Routes};

use crate::blacklist::parse::proto_of;
use crate::blacklist::{ListError, Net, Rule, Site};
use crate::log::Level;
use crate::module::{Call, FunctionDef};
use crate::table::{arg, function, optional};

const NAME: &[ArgSig] = &[arg("name", ArgKind::Str)];
const RULE: &[ArgSig] = &[
    arg("name", ArgKind::Str),
    arg("ip", ArgKind::Str),
    optional("port", ArgKind::Int),
    optional("proto", ArgKind::Str),
    optional("pattern", ArgKind::Str),
];
const TIMED: &[ArgSig] = &[
    arg("name", ArgKind::Str),
    arg("ip", ArgKind::Str),
    optional("port", ArgKind::Int),
    optional("proto", ArgKind::Str),
    optional("pattern", ArgKind::Str),
    optional("expire", ArgKind::Int),
];

pub(super) const FUNCTIONS: &[FunctionDef] = &[
    function(
        "use_blacklist",
        NAME,
        Routes::ANY,
        "The destinations of this list are not used for this message.",
        |call| {
            let name = name(call);
            let chosen = call.cx.node.blacklists.choose(&mut call.ctx.blacklists, &name);
            done(call, chosen)
        },
    ),
    function(
        "unuse_blacklist",
        NAME,
        Routes::ANY,
        "This list (or \"all\") says nothing about this message.",
        |call| {
            let name = name(call);
            let refused = call.cx.node.blacklists.refuse(&mut call.ctx.blacklists, &name);
            done(call, refused)
        },
    ),
    function(
        "check_blacklist_rule",
        RULE,
        Routes::ANY,
        "Tests whether a list holds a destination.",
        |call| {
            let (name, pattern) = (name(call), call.text(4));
            let rule = match rule(call) {
                Ok(rule) => rule,
                Err(why) => return call.complain(Level::Error, why),
            };
            let site = Site { proto: rule.proto, ip: rule.net.ip, port: rule.port, text: &pattern };
            match call.cx.node.blacklists.check(call.cx.now, &name, &site) {
                Ok(found) => Called::Returned(if found.is_some() { 1 } else { -1 }),
                Err(error) => done(call, Err(error)),
            }
        },
    ),
    function("add_blacklist_rule", TIMED, Routes::ANY, "Adds a rule to a list.", |call| {
        let expire_s = call.int(5).and_then(|s| u32::try_from(s).ok()).unwrap_or(0);
        change(call, |call, name, rule| {
            call.cx.node.blacklists.add(call.cx.now, name, rule, expire_s)
        })
    }),
    function("del_blacklist_rule", RULE, Routes::ANY, "Takes a rule off a list.", |call| {
        change(call, |call, name, rule| call.cx.node.blacklists.remove(call.cx.now, name, &rule))
    }),
];

fn name(call: &Call<'_, '_, '_>) -> String {
    String::from_utf8_lossy(&call.text(0)).into_owned()
}

/// The rule that the arguments describe; `!` before the address turns it round.
fn rule(call: &Call<'_, '_, '_>) -> Result<Rule, String> {
    let text = |index| String::from_utf8_lossy(&call.text(index)).into_owned();
    let ip = text(1);
    let (negated, net) = match ip.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, ip.as_str()),
    };
    let net = Net::parse(net).ok_or_else(|| format!("`{net}` is no address and no net"))?;
    let port = u16::try_from(call.int(2).unwrap_or(0)).map_err(|_| "a port goes up to 65535")?;
    let proto = match text(3).as_str() {
        "" => None,
        name => proto_of(name).ok_or_else(|| format!("`{name}` is no transport"))?,
    };
    Ok(Rule { negated, proto, net, port, pattern: text(4), until: None })
}

fn change(
    call: &mut Call<'_, '_, '_>,
    how: impl FnOnce(&mut Call<'_, '_, '_>, &str, Rule) -> Result<(), ListError>,
) -> Called {
    let name = name(call);
    match rule(call) {
        Ok(rule) => {
            let changed = how(call, &name, rule);
            done(call, changed)
        }
        Err(why) => call.complain(Level::Error, why),
    }
}

fn done(call: &mut Call<'_, '_, '_>, result: Result<(), ListError>) -> Called {
    match result {
        Ok(()) => Called::Returned(1),
        Err(ListError::NoRule) => Called::Returned(-1),
        Err(error) => call.complain(Level::Error, error.to_string()),
    }
}
