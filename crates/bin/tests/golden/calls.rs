//! Fields of the packets about calls: dialogs, their profiles, messages of anycast transactions.

use serde_json::json;
use tandem_bin::dialog::entries::Value as Entry;
use tandem_bin::dialog::{DialogName, DialogPacket, FullDialog, profiles};
use tandem_bin::tm::{HandedOn, TmPacket};

use super::{Out, text};

pub(crate) fn dialog(o: &mut Out, packet: &DialogPacket) {
    match packet {
        DialogPacket::Created(d) | DialogPacket::Updated(d) => full(o, d),
        DialogPacket::Deleted(name) => named(o, name),
        DialogPacket::Cseq { name, cseq } => {
            named(o, name);
            o.put("cseq", *cseq);
        }
        DialogPacket::Value { call_id, id, name, value } => {
            o.put("callid", text(call_id));
            o.put("h_id", *id);
            o.put("name", text(name));
            match value {
                None => o.put("type", 0),
                Some(Entry::Text(value)) => {
                    o.put("type", 1);
                    o.put("value", text(value));
                }
                Some(Entry::Int(value)) => {
                    o.put("type", 2);
                    o.put("value", *value);
                }
            }
        }
    }
}

fn named(o: &mut Out, name: &DialogName) {
    o.put("callid", text(&name.call_id));
    o.put("from_tag", text(&name.from_tag));
    o.put("to_tag", text(&name.to_tag));
    o.put("h_id", name.id);
}

pub(crate) fn full(o: &mut Out, d: &FullDialog) {
    for (name, value) in [
        ("callid", &d.call_id),
        ("from_tag", &d.caller.tag),
        ("to_tag", &d.callee.tag),
        ("from_uri", &d.from_uri),
        ("to_uri", &d.to_uri),
    ] {
        o.put(name, text(value));
    }
    o.put("h_id", d.id);
    o.put("start_ts", d.start_unix_s);
    o.put("state", d.state);
    for (name, value) in [
        ("caller_socket", &d.caller.socket),
        ("callee_socket", &d.callee.socket),
        ("caller_cseq", &d.caller.cseq),
        ("callee_cseq", &d.callee.cseq),
        ("caller_route_set", &d.caller.route_set),
        ("callee_route_set", &d.callee.route_set),
        ("caller_contact", &d.caller.contact),
        ("callee_contact", &d.callee.contact),
        ("mangled_from_uri", &d.mangled_from),
        ("mangled_to_uri", &d.mangled_to),
        ("caller_in_sdp", &d.caller.sdp_in),
        ("caller_out_sdp", &d.caller.sdp_out),
        ("callee_in_sdp", &d.callee.sdp_in),
        ("callee_out_sdp", &d.callee.sdp_out),
        ("caller_adv_contact", &d.caller.advertised_contact),
        ("callee_adv_contact", &d.callee.advertised_contact),
        ("vars", &d.variables),
        ("profiles", &d.profiles),
    ] {
        o.put(name, text(value));
    }
    o.put("user_flags", d.user_flags);
    o.put("mod_flags", d.module_flags);
    o.put("flags", d.flags);
    o.put("timeout_abs", d.expires_unix_s);
    o.put("caller_last_gen_cseq", d.caller.last_generated_cseq);
    o.put("callee_last_gen_cseq", d.callee.last_generated_cseq);
    o.put("rt_on_answer", text(&d.on_answer));
    o.put("rt_on_timeout", text(&d.on_timeout));
    o.put("rt_on_hangup", text(&d.on_hangup));
}

pub(crate) fn counter(o: &mut Out, counter: &profiles::Counter) {
    o.put("profile", text(&counter.profile));
    o.put("has_value", i32::from(counter.value.is_some()));
    counter.value.iter().for_each(|value| o.put("value", text(value)));
    o.put("count", counter.count);
}

pub(crate) fn tm(o: &mut Out, packet: &TmPacket) {
    match packet {
        TmPacket::Reply(message) | TmPacket::Request(message) => handed_on(o, message),
        TmPacket::AutoCancel(message, parts) => {
            handed_on(o, message);
            for (name, place) in
                [("branch", parts.branch), ("host", parts.host), ("transport", parts.transport)]
            {
                o.put(format!("via_{name}_off"), place.map_or(0, |(at, _)| at));
                place.iter().for_each(|(_, len)| o.put(format!("via_{name}_len"), *len));
            }
            o.put("via_port", parts.via_port);
            o.put("cancel_reason", text(&parts.reason));
            o.put("hash_index", parts.hash_index);
        }
    }
}

fn handed_on(o: &mut Out, message: &HandedOn) {
    o.put("proto", message.proto);
    o.put("dst_host", text(&message.socket));
    o.put("dst_port", message.port);
    let hex: String = message.raw_source.iter().map(|b| format!("{b:02x}")).collect();
    o.put("src_ip", json!(format!("hex:{hex}")));
    o.put("src_port", message.source_port);
    o.put("message", text(&message.message));
    assert!(message.source().unwrap().is_loopback());
}
