//! Mutilated messages through every function: nothing panics, and the node goes on.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::fs;
use std::path::Path;

use bytes::Bytes;
use tandem_clock::Chance;
use tandem_engine::catalogue::Modules;
use tandem_engine::testing::TestNode;

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_sl::MODULE,
    &tandem_tm::MODULE,
    &tandem_sipmsgops::MODULE,
];
const SCRIPT: &str = r#"
socket=udp:127.0.0.1:5060
loadmodule "proto_udp.so"
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "sipmsgops.so"
route {
    is_method("INVITE|REGISTER"); has_totag(); is_present_hf("Subject"); is_privacy("id");
    has_body("application/sdp"); sipmsg_validate("shrftc", $avp(e)); sip_to_json($avp(j));
    get_glob_headers_values("*", $avp(n), $avp(v)); is_uri_user_e164($ru);
    list_hdr_add_option("Supported", "x"); list_hdr_remove_option("Require", "y");
    codec_move_up("PCMA"); codec_move_down_re("PCM"); codec_delete("PCMU"); stream_exists("audio");
    is_audio_on_hold(); stream_delete("video"); ruri_add_param("a=b"); ruri_del_param("x");
    ruri_tel2sip(); append_urihf("X-U: ", "\r\n"); remove_hf_glob("X-*"); remove_hf_re("^s");
    add_body_part("more", "text/plain"); remove_body_part("text/html");
    get_updated_body_part("text/plain", $avp(b)); append_hf("X-A: 1\r\n"); append_time();
    $du = "sip:127.0.0.8"; t_relay();
}"#;

fn mutilated(bytes: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..=chance.below(4) {
        let at = |n: usize, chance: &mut Chance| chance.below(n.max(1) as u32) as usize;
        let (a, b) = (at(out.len(), chance), at(out.len(), chance));
        let (from, to) = (a.min(b), a.max(b).min(a.min(b) + 40));
        match chance.below(4) {
            0 if !out.is_empty() => out[a] = chance.u32() as u8,
            1 => drop(out.drain(from..to)),
            2 => {
                let piece = out[from..to].to_vec();
                let place = at(out.len(), chance);
                out.splice(place..place, piece);
            }
            _ => {
                let marks = b"\r\n;,<>\"\\@:=? []%";
                out.insert(a, marks[at(marks.len(), chance)]);
            }
        }
    }
    out
}

#[test]
fn mutilated_messages_are_answered_relayed_or_dropped() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/sip/tests/data");
    let files = ["rfc4475", "rfc5118"].iter().flat_map(|dir| fs::read_dir(data.join(dir)).unwrap());
    let mut files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "dat"));
    files.sort();
    let mut node = TestNode::new(SCRIPT, MODULES);
    let mut chance = Chance::from_number(4475);
    for path in &files {
        let bytes = fs::read(path).unwrap();
        for _ in 0..40 {
            node.raw_udp("127.0.0.9:5060", Bytes::from(mutilated(&bytes, &mut chance)));
        }
        node.advance_ms(40_000);
        node.logs();
        for (_, sent) in node.sent_bytes() {
            assert!(tandem_sip::Message::parse(sent.clone()).is_ok(), "{sent:?}");
        }
    }
}
