//! Management commands.

use std::sync::Arc;

use regex::bytes::Regex;
use serde_json::{Value as Json, json};
use tandem_engine::mi::{MiCall, MiDef, MiOutcome};
use tandem_engine::module::Cx;
use tandem_engine::table::mi_text;

use crate::events;
use crate::notify::Errand;
use crate::package::number_of;
use crate::record::{Key, Subscription};
use crate::request::{Event, key_of};
use crate::state::Presence;
use crate::table::{Presentity, SHARDS};

/// The command table.
pub(crate) const COMMANDS: &[MiDef] = &[
    MiDef {
        name: "presence:refresh_watchers",
        old_names: &["refresh_watchers"],
        param_sets: &[&[mi_text("presentity_uri"), mi_text("event"), mi_text("refresh_type")]],
        help: "Notifies the watchers of a presentity. refresh_type 0: its rules have changed, so \
               the watchers are judged again; else: its state has.",
        run: refresh_watchers,
    },
    MiDef {
        name: "presence:cleanup",
        old_names: &["cleanup"],
        param_sets: &[&[]],
        help: "Ends at once what is over, and deletes its rows.",
        run: cleanup,
    },
    MiDef {
        name: "presence:expose",
        old_names: &["pres_expose"],
        param_sets: &[&[mi_text("event")], &[mi_text("event"), mi_text("filter")]],
        help: "Raises E_PRESENCE_EXPOSED for every publication of an event; with a filter, a \
               regular expression, for presentities that it matches.",
        run: expose,
    },
    MiDef {
        name: "presence:phtable_list",
        old_names: &["pres_phtable_list"],
        param_sets: &[&[]],
        help: "Lists the presentities that have published something.",
        run: publications,
    },
    MiDef {
        name: "presence:subs_phtable_list",
        old_names: &["subs_phtable_list"],
        param_sets: &[&[], &[mi_text("from"), mi_text("to")]],
        help: "Lists subscriptions: all, or those of watchers and presentities by shell patterns.",
        run: subscriptions,
    },
];

fn presence(call: &MiCall<'_, '_>) -> Option<Arc<Presence>> {
    call.cx.node.module::<Presence>(call.cx.slot)
}

fn gone() -> MiOutcome {
    MiOutcome::failed(500, "Internal Error")
}

fn refresh_watchers(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let Some(presence) = presence(call) else { return gone() };
    let uri = call.text("presentity_uri").unwrap_or_default();
    let event = call.text("event").unwrap_or_default();
    if uri.is_empty() {
        return MiOutcome::failed(404, "Empty presentity URI");
    }
    if event.is_empty() {
        return MiOutcome::failed(400, "Empty event parameter");
    }
    let Some(key) = key_of(uri.as_bytes(), event.as_bytes()) else {
        return MiOutcome::failed(404, "Invalid presentity URI");
    };
    let key = Arc::new(key);
    match call.text("refresh_type").unwrap_or_default().trim() {
        "0" => {
            if let Some(package) = presence.package(&key.event) {
                package.rules_changed(&key.uri);
            }
            presence.ask_rules_again(call.cx, &key);
        }
        _ => presence.walk_for(call.cx, &key, Errand::Ask),
    }
    MiOutcome::Done("OK".into())
}

fn cleanup(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let Some(presence) = presence(call) else { return gone() };
    presence.clean_now(call.cx);
    MiOutcome::Done("OK".into())
}

fn expose(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let Some(presence) = presence(call) else { return gone() };
    let event = call.text("event").unwrap_or_default();
    let Some(event) = Event::parse(event.as_bytes()) else {
        return MiOutcome::failed(404, "Invalid event");
    };
    if presence.package(&event.package).is_none() {
        return MiOutcome::failed(404, "unknown event");
    }
    let filter = match call.text("filter") {
        None => None,
        Some(text) => match Regex::new(&text) {
            Ok(filter) => Some(filter),
            Err(_) => return MiOutcome::failed(400, "Invalid filter"),
        },
    };
    for bucket in 0..SHARDS {
        for key in presence.table.keys(bucket) {
            let is_it = key.event[..] == event.package[..]
                && filter.as_ref().is_none_or(|filter| filter.is_match(&key.uri));
            if is_it {
                expose_one(call.cx, &presence, &key);
            }
        }
    }
    MiOutcome::Done("OK".into())
}

fn expose_one(cx: &mut Cx<'_>, presence: &Presence, key: &Key) {
    let now_s = cx.now.unix_s();
    let live = presence.table.read(key, |p| {
        let all = p.publications.iter().map(|p| &p.publication);
        all.filter(|p| p.is_live(now_s)).cloned().collect::<Vec<_>>()
    });
    for p in live.unwrap_or_default() {
        let left_s = u64::from(p.expires_s).saturating_sub(now_s) as u32;
        events::raise(cx, events::EXPOSED, key, &p, b"", left_s);
    }
}

fn text(bytes: &[u8]) -> Json {
    String::from_utf8_lossy(bytes).into()
}

fn publications(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let Some(presence) = presence(call) else { return gone() };
    let mut list = Vec::new();
    for bucket in 0..SHARDS {
        for key in presence.table.keys(bucket) {
            let entry = presence.table.read(&key, |p| presentity(&key, p, call.cx.now.unix_s()));
            list.extend(entry.flatten());
        }
    }
    MiOutcome::Done(list.into())
}

fn presentity(key: &Key, p: &Presentity, now_s: u64) -> Option<Json> {
    let live = || p.publications.iter().map(|p| &p.publication).filter(|p| p.is_live(now_s));
    let newest = live().next()?;
    let mut entry = json!({
        "pres_uri": text(&key.uri),
        "event": number_of(&key.event),
        "etag_count": live().count(),
    });
    if !p.sphere().is_empty() {
        entry["sphere"] = text(p.sphere());
    }
    entry["etag"] = text(&newest.etag);
    Some(entry)
}

fn subscriptions(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let Some(presence) = presence(call) else { return gone() };
    let pattern = |name: &str| {
        let text = call.text(name)?;
        Some(tandem_engine::glob::compile(text.strip_prefix("sip:").unwrap_or(&text)))
    };
    let (Ok(from), Ok(to)) = (pattern("from").transpose(), pattern("to").transpose()) else {
        return MiOutcome::failed(400, "Invalid pattern");
    };
    let mut list = Vec::new();
    for bucket in 0..SHARDS {
        for key in presence.table.keys(bucket) {
            let fits = |pattern: &Option<Regex>, uri: &[u8]| {
                let uri = uri.strip_prefix(b"sip:").unwrap_or(uri);
                pattern.as_ref().is_none_or(|p| p.is_match(uri))
            };
            if !fits(&to, &key.uri) {
                continue;
            }
            let all = presence.table.read(&key, |p| {
                p.subscriptions.values().map(|s| s.subscription.clone()).collect::<Vec<_>>()
            });
            for s in all.unwrap_or_default() {
                if fits(&from, &s.watcher_uri()) {
                    list.push(subscription(&presence, &key, &s));
                }
            }
        }
    }
    MiOutcome::Done(list.into())
}

fn subscription(presence: &Presence, key: &Arc<Key>, s: &Subscription) -> Json {
    let mut entry = json!({
        "pres_uri": text(&key.uri),
        "event": text(&key.event),
        "expires": s.expires_s,
        "db_flag": u8::from(presence.is_unsaved(key, &s.id)),
        "version": s.sent.version,
    });
    if !s.tag.is_empty() {
        entry["sharing_tag"] = text(&s.tag);
    }
    for (name, value) in [
        ("to_user", &s.to_user),
        ("to_domain", &s.to_domain),
        ("to_tag", &s.id.to_tag),
        ("from_user", &s.from_user),
        ("from_domain", &s.from_domain),
        ("from_tag", &s.id.from_tag),
        ("contact", &s.contact),
        ("callid", &s.id.call_id),
    ] {
        entry[name] = text(value);
    }
    if !s.routes.is_empty() {
        entry["next_hop"] = text(&s.routes);
    }
    entry["local_cseq"] = s.sent.cseq.into();
    entry["remote_cseq"] = s.remote_cseq.into();
    entry
}
