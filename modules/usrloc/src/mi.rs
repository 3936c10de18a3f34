//! Management commands.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};
use tandem_engine::mi::{MiCall, MiDef, MiOutcome};
use tandem_engine::node::Node;
use tandem_engine::replication::Replicated;
use tandem_engine::table::{mi_int, mi_text};

use crate::sql::Rewrite;
use crate::state::{Table, Usrloc};
use crate::store::{
    ALL_METHODS, Change, Contact, Edit, Local, NewContact, Outcome, Q_UNSET, Text, Why,
};

/// The command table.
pub(crate) const COMMANDS: &[MiDef] = &[
    MiDef {
        name: "usrloc:rm",
        old_names: &["ul_rm"],
        param_sets: &[&[mi_text("table_name"), mi_text("aor")]],
        help: "Deletes an AoR with all its contacts.",
        run: rm,
    },
    MiDef {
        name: "usrloc:rm_contact",
        old_names: &["ul_rm_contact"],
        param_sets: &[&[mi_text("table_name"), mi_text("aor"), mi_text("contact")]],
        help: "Deletes one contact of an AoR.",
        run: rm_contact,
    },
    MiDef {
        name: "usrloc:dump",
        old_names: &["ul_dump"],
        param_sets: &[&[], &[mi_int("brief")]],
        help: "Lists all AoRs with their contacts, where they live in SQL alone as they were read last; \
               with brief=1 the AoRs only.",
        run: dump,
    },
    MiDef {
        name: "usrloc:flush",
        old_names: &["ul_flush"],
        param_sets: &[&[]],
        help: "Writes to SQL what differs from it.",
        run: flush,
    },
    MiDef {
        name: "usrloc:add",
        old_names: &["ul_add"],
        param_sets: &[&[
            mi_text("table_name"),
            mi_text("aor"),
            mi_text("contact"),
            mi_int("expires"),
            mi_text("q"),
            mi_int("flags"),
            mi_text("cflags"),
            mi_int("methods"),
        ]],
        help: "Adds a contact; expires is in seconds from now, 0 is for ever.",
        run: add,
    },
    MiDef {
        name: "usrloc:show_contact",
        old_names: &["ul_show_contact"],
        param_sets: &[&[mi_text("table_name"), mi_text("aor")]],
        help: "Lists the contacts of an AoR.",
        run: show_contact,
    },
    MiDef {
        name: "usrloc:sync",
        old_names: &["ul_sync"],
        param_sets: &[&[mi_text("table_name")], &[mi_text("table_name"), mi_text("aor")]],
        help: "Rewrites the rows of a table, or of one AoR, from memory.",
        run: sync,
    },
    MiDef {
        name: "usrloc:cluster_sync",
        old_names: &["ul_cluster_sync"],
        param_sets: &[&[]],
        help: "Asks another node for all contacts.",
        run: cluster_sync,
    },
];

type Found = (Arc<Usrloc>, Arc<Table>, Vec<u8>);

fn usrloc(call: &MiCall<'_, '_>) -> Result<Arc<Usrloc>, MiOutcome> {
    let state = call.cx.node.module::<Usrloc>(call.cx.slot);
    state.ok_or_else(|| MiOutcome::failed(500, "Internal Error"))
}

fn table(call: &MiCall<'_, '_>) -> Result<(Arc<Usrloc>, Arc<Table>), MiOutcome> {
    let usrloc = usrloc(call)?;
    let name = call.text("table_name").unwrap_or_default();
    let table = usrloc.table(&name).ok_or_else(|| MiOutcome::failed(404, "Table not found"))?;
    Ok((usrloc, table))
}

fn table_and_aor(call: &MiCall<'_, '_>) -> Result<Found, MiOutcome> {
    let (usrloc, table) = table(call)?;
    let aor = call.text("aor").unwrap_or_default();
    if usrloc.params.use_domain && !aor.contains('@') {
        return Err(MiOutcome::failed(400, "Domain missing in AOR"));
    }
    let aor = usrloc.key_of(aor.as_bytes());
    Ok((usrloc, table, aor))
}

/// The same when the rows of the AoR have to be read first.
fn fetched_aor(call: &mut MiCall<'_, '_>, name: &'static str) -> Result<Found, MiOutcome> {
    let (usrloc, table, aor) = table_and_aor(call)?;
    match usrloc.fetch_for(call, name, (&table, &aor)) {
        Some(outcome) => Err(outcome),
        None => Ok((usrloc, table, aor)),
    }
}

fn rm(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let (usrloc, table, aor) = match fetched_aor(call, "usrloc:rm") {
        Ok(found) => found,
        Err(outcome) => return outcome,
    };
    usrloc.edit(call.cx, &table, &aor, |edit| edit.apply(Change::DeleteAor));
    MiOutcome::ok()
}

fn rm_contact(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let (usrloc, table, aor) = match fetched_aor(call, "usrloc:rm_contact") {
        Ok(found) => found,
        Err(outcome) => return outcome,
    };
    if table.domain.all_of(&aor).is_empty() {
        return MiOutcome::failed(404, "AOR not found");
    }
    let uri = call.text("contact").unwrap_or_default();
    let remove = |edit: &mut Edit<'_>| {
        let id = edit.contacts().find(|c| c.uri() == uri.as_bytes()).map(|c| c.id);
        id.map(|id| edit.apply(Change::Delete { id }))
    };
    match usrloc.edit(call.cx, &table, &aor, remove).0 {
        Some(Outcome::Deleted) => MiOutcome::ok(),
        _ => MiOutcome::failed(404, "Contact not found"),
    }
}

fn dump(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let usrloc = match usrloc(call) {
        Ok(usrloc) => usrloc,
        Err(outcome) => return outcome,
    };
    let brief = call.int("brief").unwrap_or(0) != 0;
    let node = Arc::clone(call.cx.node);
    let now_s = call.cx.now.unix_s();
    let list = |table: &Arc<Table>| {
        let mut aors: Vec<Json> = Vec::new();
        for shard in 0..table.domain.shard_count() {
            aors.extend(table.domain.empty_aors(shard).iter().map(|aor| match brief {
                true => json!({ "AOR": lossy(aor) }),
                false => json!({ "AOR": lossy(aor), "Contacts": [] }),
            }));
            let all = table.domain.shard_contacts(shard);
            for of_aor in all.chunk_by(|(a, _), (b, _)| a.aor() == b.aor()) {
                let aor = of_aor.first().map(|(c, _)| lossy(c.aor()));
                let shown = |(contact, local): &(Arc<Contact>, Local)| {
                    contact_json(&usrloc, &node, contact, local, now_s)
                };
                aors.push(match brief {
                    true => json!({ "AOR": aor }),
                    false => {
                        let contacts: Vec<Json> = of_aor.iter().map(shown).collect();
                        json!({ "AOR": aor, "Contacts": contacts })
                    }
                });
            }
        }
        json!({ "name": table.name(), "hash_size": table.domain.shard_count(), "AORs": aors })
    };
    let domains: Vec<Json> = usrloc.tables().iter().map(list).collect();
    MiOutcome::Done(json!({ "Domains": domains }))
}

fn show_contact(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let (usrloc, table, aor) = match fetched_aor(call, "usrloc:show_contact") {
        Ok(found) => found,
        Err(outcome) => return outcome,
    };
    let now_s = call.cx.now.unix_s();
    let all = table.domain.all_of(&aor);
    let live = all.iter().filter(|(contact, _)| !contact.is_expired(now_s));
    let contacts: Vec<Json> = live
        .map(|(contact, local)| contact_json(&usrloc, call.cx.node, contact, local, now_s))
        .collect();
    if contacts.is_empty() {
        return MiOutcome::failed(404, "AOR not found");
    }
    MiOutcome::Done(json!({ "AOR": lossy(&aor), "Contacts": contacts }))
}

fn contact_json(
    usrloc: &Usrloc,
    node: &Node,
    contact: &Contact,
    local: &Local,
    now_s: u64,
) -> Json {
    let mut out = Map::new();
    let text = |of: Text| lossy(contact.text(of));
    let mut put = |name: &str, value: Json| {
        out.insert(name.to_owned(), value);
    };
    put("Contact", text(Text::Uri));
    put("ContactID", contact.id.to_string().into());
    put(
        "Expires",
        match contact.remaining_s(now_s) {
            None => "permanent".into(),
            Some(0) => "expired".into(),
            Some(left_s) => left_s.into(),
        },
    );
    put(
        "Q",
        match contact.q() {
            Q_UNSET => "".into(),
            q => (f64::from(q) / 1000.0).to_string().into(),
        },
    );
    put("Callid", text(Text::CallId));
    put("Cseq", contact.cseq.into());
    put("User-agent", text(Text::UserAgent));
    for (name, of) in [("Received", Text::Received), ("Path", Text::Path)] {
        if !contact.text(of).is_empty() {
            put(name, text(of));
        }
    }
    put("State", local.db.name().into());
    put("Flags", contact.flags().into());
    put("Cflags", text(Text::BranchFlags));
    let socket = usrloc.socket_of(node, contact).and_then(|id| node.sockets.get(id));
    if let Some(socket) = socket {
        put("Socket", socket.text().into());
    }
    put("Methods", contact.methods().into());
    for (name, of) in [("Attr", Text::Attr), ("SIP_instance", Text::Instance)] {
        if !contact.text(of).is_empty() {
            put(name, text(of));
        }
    }
    if local.ping().latency_us != 0 {
        put("Ping-Latency", local.ping().latency_us.into());
    }
    if usrloc.params.dump_key_values {
        put("KV-Store", text(Text::KeyValues));
    }
    Json::Object(out)
}

fn add(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let (usrloc, table, aor) = match fetched_aor(call, "usrloc:add") {
        Ok(found) => found,
        Err(outcome) => return outcome,
    };
    let bad = || MiOutcome::failed(400, "Bad parameter value");
    let uri = call.text("contact").unwrap_or_default();
    if tandem_sip::Uri::parse(uri.as_bytes()).is_err() {
        return bad();
    }
    let number = |name: &str| call.int(name).and_then(|n| u64::try_from(n).ok());
    let Some(expires_s) = number("expires") else { return bad() };
    let Some(flags) = number("flags").and_then(|n| u32::try_from(n).ok()) else { return bad() };
    let Some(methods) = number("methods").and_then(|n| u32::try_from(n).ok()) else {
        return bad();
    };
    let Some(q) = parse_q(&call.text("q").unwrap_or_default()) else { return bad() };
    let cflags = call.text("cflags").unwrap_or_default();
    let now_s = call.cx.now.unix_s();
    let contact = NewContact {
        uri: uri.as_bytes(),
        call_id: b"management",
        user_agent: b"Tandem management",
        branch_flags: if cflags == "0" { b"" } else { cflags.as_bytes() },
        expires_s: if expires_s == 0 { 0 } else { now_s + expires_s },
        last_modified_s: now_s,
        cseq: 1,
        q,
        flags,
        methods: if methods == 0 { ALL_METHODS } else { methods },
        ..NewContact::default()
    };
    let matching = &usrloc.params.matching;
    let put = |edit: &mut Edit<'_>| edit.apply(Change::Put { contact, matching });
    match usrloc.edit(call.cx, &table, &aor, put).0 {
        Outcome::Ignored(Why::NotStored(_)) => MiOutcome::failed(500, "Internal Error"),
        _ => MiOutcome::ok(),
    }
}

/// `0.5` or empty or `-1` for none, as q x 1000.
fn parse_q(text: &str) -> Option<i16> {
    if text.is_empty() || text == "-1" {
        return Some(Q_UNSET);
    }
    let q: f64 = text.parse().ok()?;
    (0.0..=1.0).contains(&q).then(|| (q * 1000.0).round() as i16)
}

fn flush(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let usrloc = match usrloc(call) {
        Ok(usrloc) => usrloc,
        Err(outcome) => return outcome,
    };
    if let Some(sql) = &usrloc.sql {
        sql.flush(call.cx, &usrloc.tables());
    }
    MiOutcome::ok()
}

fn sync(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let (usrloc, table, aor) = if call.has("aor") {
        match table_and_aor(call) {
            Ok((usrloc, table, aor)) => (usrloc, table, Some(aor)),
            Err(outcome) => return outcome,
        }
    } else {
        match table(call) {
            Ok((usrloc, table)) => (usrloc, table, None),
            Err(outcome) => return outcome,
        }
    };
    if aor.as_ref().is_some_and(|aor| table.domain.all_of(aor).is_empty()) {
        return MiOutcome::failed(404, "AOR not found");
    }
    // Without SQL there is nothing that could differ.
    let Some(sql) = &usrloc.sql else {
        return MiOutcome::failed(200, "Contacts already synced");
    };
    let of = Rewrite { table: &table, aor: aor.as_deref() };
    sql.rewrite(call.cx, &usrloc.tables(), &of);
    MiOutcome::ok()
}

fn cluster_sync(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let usrloc = match usrloc(call) {
        Ok(usrloc) => usrloc,
        Err(outcome) => return outcome,
    };
    if !usrloc.is_replicated() {
        return MiOutcome::failed(400, "Clustering not enabled");
    }
    let now = call.cx.now;
    let membership = call.cx.node.membership();
    let clusters = membership.status().map(|s| s.clusters).unwrap_or_default();
    let own = clusters.into_iter().filter(|c| c.cluster == usrloc.params.cluster);
    let mut caps = own.flat_map(|c| c.capabilities);
    let cap = caps.find(|c| c.name == usrloc.capability()).map(|c| c.cap);
    let asked = cap.and_then(|cap| membership.with(|m, out| m.request_sync(now, cap, out)));
    match asked {
        Some(()) => MiOutcome::ok(),
        None => MiOutcome::failed(400, "Failed to send sync request"),
    }
}

fn lossy(bytes: &[u8]) -> Json {
    String::from_utf8_lossy(bytes).into_owned().into()
}
