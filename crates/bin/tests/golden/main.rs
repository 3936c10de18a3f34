//! Every captured packet is read with no byte left, compared field by field with
//! `vectors.json`, and written again to the same bytes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use bytes::Bytes;
use serde_json::{Value, json};
use std::path::PathBuf;
use tandem_bin::cachedb_local::CachedbLocal;
use tandem_bin::clusterer::{Body, Extra, Internal};
use tandem_bin::dialog::{DialogPacket, FullDialog, profiles};
use tandem_bin::dispatcher;
use tandem_bin::drouting;
use tandem_bin::load_balancer;
use tandem_bin::presence;
use tandem_bin::pua;
use tandem_bin::ratelimit;
use tandem_bin::tm::TmPacket;
use tandem_bin::usrloc::{Aor, BranchFlags, Contact, MatchMode, SyncRecord, Usrloc};
use tandem_bin::{Framer, Packet};

mod calls;

type Fields = Vec<(String, Value)>;

fn dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn frame(file: &str) -> Bytes {
    let text = std::fs::read_to_string(dir().join(file)).unwrap();
    let hex: String = text.lines().filter(|line| !line.starts_with('#')).collect();
    let byte = |i: usize| u8::from_str_radix(&hex[i..i + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn vectors() -> Vec<Value> {
    let text = std::fs::read_to_string(dir().join("vectors.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn text(bytes: &Bytes) -> Value {
    json!(String::from_utf8(bytes.to_vec()).unwrap())
}

struct Out(Fields, String);

impl Out {
    fn put(&mut self, name: impl std::fmt::Display, value: impl Into<Value>) {
        self.0.push((format!("{}{name}", self.1), value.into()));
    }

    fn ids(&mut self, count: &str, item: &str, ids: &[u32]) {
        self.put(count, ids.len());
        for (i, id) in ids.iter().enumerate() {
            self.put(format!("{item}[{i}]"), *id);
        }
    }
}

fn description(o: &mut Out, prefix: &str, d: &tandem_bin::clusterer::Description) {
    o.put(format!("{prefix}url"), text(&d.url));
    o.put(format!("{prefix}sip_addr"), text(&d.sip_addr));
    o.put(format!("{prefix}priority"), d.priority);
    o.put(format!("{prefix}no_ping_retries"), d.ping_retries);
}

fn internal(o: &mut Out, packet: &Internal) {
    o.put("cluster_id", packet.cluster);
    o.put("source_id", packet.source);
    match &packet.body {
        Body::Ping { want_list } => o.put("req_node_list", i32::from(*want_list)),
        Body::Pong { nodes } => o.ids("n_nodes", "node", nodes),
        Body::LinkState(ls) => {
            o.put("seq_no", ls.sequence);
            o.put("timestamp", ls.timestamp);
            o.put("neigh_id", ls.neighbour);
            o.put("new_state", i32::from(!ls.up));
            o.ids("path_len", "path", &ls.path);
        }
        Body::FullTop(top) => full_top(o, top),
        Body::UnknownId => {}
        Body::Description(d) => {
            description(o, "", &d.description);
            o.ids("path_len", "path", &d.path);
        }
        Body::Capabilities(cap) => {
            o.put("seq_no", cap.sequence);
            o.put("timestamp", cap.timestamp);
            o.put("n_nodes", cap.nodes.len());
            for (i, node) in cap.nodes.iter().enumerate() {
                o.put(format!("node[{i}].id"), node.node);
                o.put(format!("node[{i}].n_caps"), node.capabilities.len());
                for (k, (name, state)) in node.capabilities.iter().enumerate() {
                    o.put(format!("node[{i}].cap[{k}].name"), text(name));
                    o.put(format!("node[{i}].cap[{k}].state"), i32::from(*state));
                }
            }
            o.put("require_reply", i32::from(cap.require_reply));
            o.ids("path_len", "path", &cap.path);
        }
    }
}

fn full_top(o: &mut Out, top: &tandem_bin::clusterer::FullTopUpdate) {
    o.put("seq_no", top.sequence);
    o.put("timestamp", top.timestamp);
    o.put("n_nodes", top.nodes.len());
    for (i, node) in top.nodes.iter().enumerate() {
        let at = format!("node[{i}].");
        o.put(format!("{at}id"), node.node);
        o.put(format!("{at}has_descr"), i32::from(node.description.is_some()));
        if let Some(d) = &node.description {
            description(o, &at, d);
        }
        o.put(format!("{at}ls_seq_no"), node.ls_sequence);
        o.put(format!("{at}ls_timestamp"), node.ls_timestamp);
        o.ids(&format!("{at}n_neigh"), &format!("{at}neigh"), &node.neighbours);
    }
    o.ids("path_len", "path", &top.path);
}

/// Records of a sync are compared as types where the capability has them, else as bytes only.
fn extra(o: &mut Out, packet: &Extra) {
    match packet {
        Extra::RemoveNode { node } => o.put("target_node", *node),
        Extra::Generic(g) => {
            o.put("req_like", i32::from(g.request));
            o.put("exchange_tag", text(&g.exchange_tag));
            o.put("message", text(&g.message));
        }
        Extra::Mi(mi) => {
            o.put("command", text(&mi.command));
            o.put("n_params", mi.params.len());
            for (i, param) in mi.params.iter().enumerate() {
                o.put(format!("param[{i}]"), text(param));
            }
        }
        Extra::SyncReq { capability } => o.put("capability_name", text(capability)),
        Extra::Sync(sync) => {
            assert!(sync.intact);
            o.put("capability_name", text(&sync.capability));
            o.put("data_version", sync.data_version);
            for (i, chunk) in sync.chunks.iter().enumerate() {
                o.1 = format!("chunk[{i}].");
                o.put("size", chunk.len());
                o.put("marker", tandem_bin::clusterer::CHUNK_MARKER);
                if sync.capability.as_ref() == tandem_bin::usrloc::CAPABILITY {
                    sync_record(o, chunk);
                }
                if sync.capability.as_ref() == dispatcher::CAPABILITY {
                    let record = dispatcher::SyncRecord::decode(chunk).unwrap();
                    assert_eq!(&record.encode().unwrap(), chunk);
                    destination(o, &record.of);
                    o.put("state", record.flags);
                }
                if sync.capability.as_ref() == drouting::CAPABILITY {
                    let record = drouting::SyncRecord::decode(chunk).unwrap();
                    assert_eq!(&record.encode().unwrap(), chunk);
                    o.put("is_gw", i32::from(record.is_gateway));
                    gateway_status(o, &record.status);
                }
                if sync.capability.as_ref() == load_balancer::CAPABILITY {
                    let record = load_balancer::Status::decode(chunk).unwrap();
                    assert_eq!(&record.encode().unwrap(), chunk);
                    balanced(o, &record);
                }
                if sync.capability.as_ref() == tandem_bin::dialog::CAPABILITY {
                    let version = sync.data_version.try_into().unwrap();
                    let dialog = FullDialog::decode(version, chunk).unwrap();
                    assert_eq!(&dialog.encode().unwrap(), chunk);
                    calls::full(o, &dialog);
                }
            }
        }
        Extra::SyncEnd(end) => {
            o.put("capability_name", text(&end.capability));
            o.put("n_chunks", end.chunks);
        }
        Extra::ShtagActive { tag } => o.put("tag_name", text(tag)),
    }
}

fn sync_record(o: &mut Out, chunk: &Bytes) {
    let record = SyncRecord::decode(5, chunk).unwrap();
    assert_eq!(&record.encode().unwrap(), chunk);
    match record {
        SyncRecord::Aor(a) => {
            o.put("is_contact", 0);
            aor(o, &a);
        }
        SyncRecord::Contact(c) => {
            o.put("is_contact", 1);
            contact(o, &c, true);
        }
    }
}

fn aor(o: &mut Out, a: &Aor) {
    o.put("domain", text(&a.table));
    o.put("aor", text(&a.aor));
    o.put("label", a.label);
    o.put("next_clabel", a.next_contact_label);
    o.put("kv_storage", text(&a.key_values));
}

fn match_mode(o: &mut Out, mode: &MatchMode) {
    let number = match mode {
        MatchMode::Default => -1,
        MatchMode::Uri => 0,
        MatchMode::UriAndCallId => 1,
        MatchMode::Params(_) => 2,
    };
    o.put("cmatch_mode", number);
    if let MatchMode::Params(names) = mode {
        o.put("cmatch_nparams", names.len());
        for (i, name) in names.iter().enumerate() {
            o.put(format!("cmatch_param[{i}]"), text(name));
        }
    }
}

fn contact(o: &mut Out, c: &Contact, id_first: bool) {
    o.put("domain", text(&c.table));
    o.put("aor", text(&c.aor));
    o.put("contact", text(&c.uri));
    if id_first {
        o.put("contact_id", c.id);
    }
    o.put("callid", text(&c.call_id));
    o.put("user_agent", text(&c.user_agent));
    o.put("path", text(&c.path));
    o.put("attr", text(&c.attr));
    o.put("received", text(&c.received));
    o.put("instance", text(&c.instance));
    o.put("expires", c.expires_unix_s);
    o.put("q", c.q);
    o.put("socket", text(&c.socket));
    o.put("cseq", c.cseq);
    o.put("flags", c.flags);
    let BranchFlags::Names(names) = &c.branch_flags else { panic!("version 5 has names") };
    o.put("cflags", text(names));
    o.put("methods", c.methods as i32);
    o.put("last_modified", c.last_modified_unix_s);
    o.put("kv_storage", text(&c.key_values));
    if !id_first {
        o.put("contact_id", c.id);
    }
    match_mode(o, &c.match_mode);
}

fn usrloc(o: &mut Out, packet: &Usrloc) {
    match packet {
        Usrloc::AorInsert(a) => aor(o, a),
        Usrloc::AorDelete { table, aor } => {
            o.put("domain", text(table));
            o.put("aor", text(aor));
        }
        Usrloc::ContactInsert(c) => contact(o, c, true),
        Usrloc::ContactUpdate(c) => contact(o, c, false),
        Usrloc::ContactDelete(d) => {
            o.put("domain", text(&d.table));
            o.put("aor", text(&d.aor));
            o.put("contact", text(&d.uri));
            o.put("callid", text(&d.call_id));
            o.put("cseq", d.cseq);
            match_mode(o, &d.match_mode);
        }
    }
}

fn pipe(o: &mut Out, pipe: &ratelimit::Pipe) {
    o.put("pipe", text(&pipe.name));
    let numbers = [pipe.flags, pipe.algorithm, pipe.limit, pipe.counter];
    for (name, number) in ["flags", "algo", "limit", "counter"].into_iter().zip(numbers) {
        o.put(name, number);
    }
}

fn destination(o: &mut Out, of: &dispatcher::Destination) {
    o.put("partition", text(&of.partition));
    o.put("set_id", of.set);
    o.put("uri", text(&of.uri));
}

fn balanced(o: &mut Out, status: &load_balancer::Status) {
    o.put("group", status.group);
    o.put("uri", text(&status.uri));
    o.put("flags", status.flags);
}

fn gateway_status(o: &mut Out, status: &drouting::Status) {
    o.put("partition", text(&status.partition));
    o.put("id", text(&status.id));
    o.put("flags", status.flags);
}

fn publication(o: &mut Out, p: &presence::Publish) {
    let optional = |bytes: &Bytes| if bytes.is_empty() { json!(" ") } else { text(bytes) };
    o.put("user", text(&p.user));
    o.put("domain", text(&p.domain));
    o.put("event", text(&p.event));
    o.put("old_etag", optional(&p.old_etag));
    o.put("new_etag", text(&p.new_etag));
    o.put("expires", p.expires_s);
    o.put("received_time", p.received_s);
    o.put("sender", optional(&p.sender));
    o.put("extra_hdrs", optional(&p.extra_headers));
    o.put("sphere", optional(&p.sphere));
    o.put("body", text(&p.body));
}

fn cached(o: &mut Out, packet: &CachedbLocal) {
    let (collection, key) = match packet {
        CachedbLocal::Insert(insert) => (&insert.collection, &insert.key),
        CachedbLocal::Remove { collection, key } => (collection, key),
    };
    o.put("collection", text(collection));
    o.put("attr", text(key));
    if let CachedbLocal::Insert(insert) = packet {
        o.put("value", text(&insert.value));
        o.put("expires", insert.expires_s);
    }
}

/// The payload of a capability of a module written from the types, if there are types.
fn through_payload(o: &mut Out, packet: &Packet) -> Option<Bytes> {
    let (kind, version, payload) = (packet.packet_type, packet.version, &packet.payload);
    let written = match packet.capability.as_ref() {
        b"usrloc-contact-repl" => {
            let typed = Usrloc::decode(kind, version, payload).unwrap();
            usrloc(o, &typed);
            typed.encode()
        }
        b"dialog-dlg-repl" => {
            let typed = DialogPacket::decode(kind, version, payload).unwrap();
            assert_eq!(typed.packet_type(), kind);
            calls::dialog(o, &typed);
            typed.encode()
        }
        b"dialog-prof-repl" => {
            let counters = profiles::decode(payload).unwrap();
            counters.iter().for_each(|c| calls::counter(o, c));
            profiles::encode(&counters)
        }
        b"tm-repl" => {
            let typed = TmPacket::decode(kind, payload).unwrap();
            assert_eq!(typed.packet_type(), kind);
            calls::tm(o, &typed);
            typed.encode()
        }
        b"ratelimit-pipe-repl" if kind == ratelimit::COUNTERS => {
            let pipes = ratelimit::decode(payload).unwrap();
            pipes.iter().for_each(|p| pipe(o, p));
            ratelimit::encode(&pipes)
        }
        b"ratelimit-pipe-repl" => {
            let (cluster, pipes) = ratelimit::decode_bridged(payload).unwrap();
            o.put("src_cluster", cluster);
            pipes.iter().for_each(|p| pipe(o, p));
            ratelimit::encode_bridged(cluster, &pipes)
        }
        dispatcher::CAPABILITY => {
            let typed = dispatcher::Status::decode(payload).unwrap();
            destination(o, &typed.of);
            o.put("op", i32::from(typed.sets));
            o.put("state", typed.bits);
            typed.encode()
        }
        load_balancer::CAPABILITY => {
            let typed = load_balancer::Status::decode(payload).unwrap();
            balanced(o, &typed);
            typed.encode()
        }
        drouting::CAPABILITY => {
            let typed = drouting::Status::decode(payload).unwrap();
            gateway_status(o, &typed);
            typed.encode()
        }
        pua::CAPABILITY => {
            let typed = pua::Update::decode(payload).unwrap();
            o.put("pres_uri", text(&typed.uri));
            o.put("flag", typed.source);
            o.put("id", text(&typed.id));
            o.put("event", typed.event);
            o.put("etag", text(&typed.etag));
            typed.encode()
        }
        presence::CAPABILITY if kind == presence::QUERY => {
            let typed = presence::Query::decode(payload).unwrap();
            o.put("pres_uri", text(&typed.uri));
            o.put("event", text(&typed.event));
            typed.encode()
        }
        presence::CAPABILITY => {
            let typed = presence::Publish::decode(payload).unwrap();
            publication(o, &typed);
            typed.encode()
        }
        b"cachedb-local-repl" => {
            let typed = CachedbLocal::decode(kind, payload).unwrap();
            cached(o, &typed);
            typed.encode()
        }
        _ => return None,
    };
    Some(written.unwrap())
}

/// The fields of a packet and its bytes written from the types, if the capability has types.
fn through_types(packet: &Packet) -> Option<(Fields, Bytes)> {
    let mut o = Out(Vec::new(), String::new());
    let bytes = match packet.capability.as_ref() {
        b"clusterer-internal" => {
            let typed = Internal::from_packet(packet).unwrap();
            internal(&mut o, &typed);
            typed.encode().unwrap()
        }
        b"clusterer-extra" => {
            let typed = Extra::decode(packet.packet_type, packet.version, &packet.payload).unwrap();
            extra(&mut o, &typed);
            typed.encode(packet.trailer.as_ref().unwrap()).unwrap()
        }
        _ => {
            let payload = through_payload(&mut o, packet)?;
            Packet { payload, ..packet.clone() }.encode().unwrap()
        }
    };
    Some((o.0, bytes))
}

fn check_header(vector: &Value, packet: &Packet) {
    assert_eq!(text(&packet.capability), vector["capability"]);
    assert_eq!(json!(packet.packet_type), vector["type"]);
    assert_eq!(json!(packet.version), vector["version"]);
    match &packet.trailer {
        None => assert!(vector.get("trailer").is_none()),
        Some(t) => {
            let wanted = &vector["trailer"];
            assert_eq!(json!(t.cluster), wanted["cluster_id"]);
            assert_eq!(json!(t.source), wanted["source_id"]);
            assert_eq!(json!(t.destination), wanted["dest_id"]);
            assert_eq!(json!(t.bridge), *wanted.get("bridge_src_cluster").unwrap_or(&Value::Null));
        }
    }
}

#[test]
fn every_captured_packet_is_read_and_written_identically() {
    let vectors = vectors();
    assert!(vectors.len() >= 107);
    for vector in &vectors {
        let file = vector["file"].as_str().unwrap();
        let bytes = frame(file);
        let mut framer = Framer::default();
        framer.push(&bytes);
        let whole = framer.next_frame().unwrap().unwrap();
        assert_eq!(framer.pending_bytes(), 0, "{file}");
        let packet = Packet::decode(whole).unwrap();
        assert_eq!(packet.encode().unwrap(), bytes, "{file}");
        check_header(vector, &packet);
        if file.contains("malformed") {
            continue;
        }
        let Some((fields, written)) = through_types(&packet) else { continue };
        assert_eq!(written, bytes, "{file}");
        let wanted: Fields = serde_json::from_value(vector["fields"].clone()).unwrap();
        let known = |(name, _): &(String, Value)| fields.iter().any(|(n, _)| n == name);
        let foreign = packet.packet_type == 11 && !wanted.iter().all(known);
        let wanted: Fields =
            if foreign { wanted.into_iter().filter(known).collect() } else { wanted };
        assert_eq!(fields, wanted, "{file}");
    }
}

#[test]
fn a_malformed_capability_update_gives_its_blocks_and_is_not_to_be_flooded() {
    let packet = Packet::decode(frame("108-clusterer-internal-09-cap-update-malformed.hex"));
    let Body::Capabilities(update) = Internal::from_packet(&packet.unwrap()).unwrap().body else {
        panic!("not a capability update")
    };
    assert!(!update.intact);
    assert!(!update.require_reply);
    assert!(update.path.is_empty());
    let counts: Vec<_> = update.nodes.iter().map(|n| (n.node, n.capabilities.len())).collect();
    assert_eq!(counts, [(2, 9)]);
}
