//! Lists of destinations that are not to be used.

use serde_json::{Value as Json, json};

use crate::blacklist::parse::{self, proto_of};
use crate::blacklist::{List, ListError, Net, Rule, Site};
use crate::mi::{MiCall, MiDef, MiOutcome, MiParam};
use crate::table::{command, mi_int, mi_text};

const NAME: &[MiParam] = &[mi_text("name")];
const IP: &[MiParam] = &[mi_text("ip")];
const PROTO: &[MiParam] = &[mi_text("proto"), mi_text("ip")];
const PORT: &[MiParam] = &[mi_text("proto"), mi_text("ip"), mi_int("port")];
const PATTERN: &[MiParam] = &[mi_text("proto"), mi_text("ip"), mi_int("port"), mi_text("pattern")];

const NAME_IP: &[MiParam] = &[mi_text("name"), mi_text("ip")];
const NAME_PROTO: &[MiParam] = &[mi_text("name"), mi_text("proto"), mi_text("ip")];
const NAME_PORT: &[MiParam] = &[mi_text("name"), mi_text("proto"), mi_text("ip"), mi_int("port")];
const NAME_PATTERN: &[MiParam] =
    &[mi_text("name"), mi_text("proto"), mi_text("ip"), mi_int("port"), mi_text("pattern")];
const RULE: &[MiParam] = &[mi_text("name"), mi_text("rule")];
const RULE_EXPIRE: &[MiParam] = &[mi_text("name"), mi_text("rule"), mi_int("expire")];

pub(super) const COMMANDS: &[MiDef] = &[
    command(
        "blacklists:list",
        &["list_blacklists"],
        &[&[], NAME],
        "The lists of destinations that are not used.",
        |call| {
            let (node, now) = (call.cx.node, call.cx.now);
            match call.text("name") {
                None => {
                    let lists = node.blacklists.views(now);
                    let shown: Vec<Json> = lists.iter().map(|l| shown(l, call)).collect();
                    MiOutcome::Done(json!({"Lists": shown}))
                }
                Some(name) => match node.blacklists.view(now, &name) {
                    Some(list) => MiOutcome::Done(shown(&list, call)),
                    None => MiOutcome::failed(404, "Unknown name"),
                },
            }
        },
    ),
    command(
        "blacklists:check_all",
        &["check_blacklists"],
        &[IP, PROTO, PORT, PATTERN],
        "The lists that hold a destination.",
        |call| {
            let pattern = call.text("pattern").unwrap_or_default();
            let site = match site(call, &pattern) {
                Ok(site) => site,
                Err(refusal) => return refusal,
            };
            let (lists, now) = (&call.cx.node.blacklists, call.cx.now);
            let holds = |l: &List| l.rules.iter().any(|r| r.holds(&site));
            let names = lists.views(now).into_iter().filter(holds).map(|l| Json::from(l.name));
            MiOutcome::Done(names.collect())
        },
    ),
    command(
        "blacklists:check",
        &["check_blacklist"],
        &[NAME_IP, NAME_PROTO, NAME_PORT, NAME_PATTERN],
        "Whether a list holds a destination.",
        |call| {
            let pattern = call.text("pattern").unwrap_or_default();
            let site = match site(call, &pattern) {
                Ok(site) => site,
                Err(refusal) => return refusal,
            };
            let name = call.text("name").unwrap_or_default();
            match call.cx.node.blacklists.check(call.cx.now, &name, &site) {
                Ok(Some(rule)) => MiOutcome::Done(shown_rule(&rule, call)),
                Ok(None) => MiOutcome::failed(404, "Not Matched"),
                Err(_) => no_list(),
            }
        },
    ),
    command(
        "blacklists:add_rule",
        &["add_blacklist_rule"],
        &[RULE, RULE_EXPIRE],
        "Adds a rule to a list.",
        |call| {
            let Ok(expire_s) = u32::try_from(call.int("expire").unwrap_or(0)) else {
                return MiOutcome::failed(404, "Bad expire value");
            };
            change(call, |call, name, rule| {
                call.cx.node.blacklists.add(call.cx.now, name, rule, expire_s)
            })
        },
    ),
    command(
        "blacklists:del_rule",
        &["del_blacklist_rule"],
        &[RULE],
        "Takes a rule off a list.",
        |call| {
            change(call, |call, name, rule| {
                call.cx.node.blacklists.remove(call.cx.now, name, &rule)
            })
        },
    ),
];

fn no_list() -> MiOutcome {
    MiOutcome::failed(400, "Missing or bad blacklist name")
}

fn change(
    call: &mut MiCall<'_, '_>,
    how: impl FnOnce(&mut MiCall<'_, '_>, &str, Rule) -> Result<(), ListError>,
) -> MiOutcome {
    let name = call.text("name").unwrap_or_default();
    if call.cx.node.blacklists.view(call.cx.now, &name).is_none() {
        return no_list();
    }
    let Ok(rule) = parse::rule(&call.text("rule").unwrap_or_default()) else {
        return MiOutcome::failed(404, "Bad rule");
    };
    match how(call, &name, rule) {
        Ok(()) => MiOutcome::Done(Json::from("OK")),
        Err(ListError::Unknown) => no_list(),
        Err(ListError::ReadOnly) => MiOutcome::failed(403, "Cannot modify read-only blacklist"),
        Err(ListError::NoExpiry) => MiOutcome::failed(404, "Blacklist without expire support"),
        Err(ListError::NoRule) => MiOutcome::failed(404, "Rule not found"),
        Err(ListError::Full) => MiOutcome::failed(500, "The blacklist is full"),
    }
}

/// The destination that a command asks about.
fn site<'a>(call: &MiCall<'_, '_>, text: &'a str) -> Result<Site<'a>, MiOutcome> {
    let net = call.text("ip").and_then(|ip| Net::parse(&ip));
    let ip = net.ok_or_else(|| MiOutcome::failed(400, "Missing or bad IP"))?.ip;
    let bad = || MiOutcome::failed(404, "Bad params");
    let proto = match call.text("proto").filter(|name| !name.is_empty()) {
        None => None,
        Some(name) => proto_of(&name).ok_or_else(bad)?,
    };
    let port = u16::try_from(call.int("port").unwrap_or(0)).map_err(|_| bad())?;
    Ok(Site { proto, ip, port, text: text.as_bytes() })
}

fn shown(list: &List, call: &MiCall<'_, '_>) -> Json {
    let all = [("default", list.default), ("expire", list.expires), ("readonly", list.read_only)];
    let flags: Vec<&str> = all.iter().filter(|(_, set)| *set).map(|(name, _)| *name).collect();
    let rules: Vec<Json> = list.rules.iter().map(|rule| shown_rule(rule, call)).collect();
    json!({"name": list.name, "owner": list.owner, "flags": flags, "Rules": rules})
}

fn shown_rule(rule: &Rule, call: &MiCall<'_, '_>) -> Json {
    let mut shown = json!({
        "flags": i32::from(rule.negated),
        "IP": rule.net.ip.to_string(),
        "Mask": rule.net.mask().to_string(),
        "Proto": rule.proto.map_or("any", |p| p.text()),
        "Port": rule.port,
    });
    if !rule.pattern.is_empty() {
        shown["Match"] = Json::from(rule.pattern.as_str());
    }
    if let Some(until) = rule.until {
        let left_s = until.saturating_sub(call.cx.now.mono_ns).div_ceil(tandem_clock::SEC);
        shown["Expire"] = Json::from(left_s);
    }
    shown
}
