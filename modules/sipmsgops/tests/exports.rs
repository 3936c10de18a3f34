//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use tandem_engine::catalogue::Modules;
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_sl::MODULE,
    &tandem_tm::MODULE,
    &tandem_sipmsgops::MODULE,
];
const HEAD: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
                    loadmodule \"sl.so\"\nloadmodule \"tm.so\"\nloadmodule \"sipmsgops.so\"\n";
const REQUEST: &str = "INVITE sip:a@127.0.0.1;x=1;y SIP/2.0\n\
     Via: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKx\nFrom: <sip:f@127.0.0.9>;tag=f\n\
     To: <sip:a@127.0.0.1>\nCall-ID: c\nCSeq: 1 INVITE\nX-One: 1\nx-one: 2\nSubject: hi\n\
     Content-Type: application/sdp; x=y\nContent-Length: 4\n\nv=0\n";

fn run(route: &str, request: &str) -> (Vec<String>, Vec<String>) {
    let mut node = TestNode::new(&format!("{HEAD}route {{ {route} }}"), MODULES);
    node.udp("127.0.0.9:5060", request);
    let sent = node.sent().into_iter().map(|(_, text)| text).collect();
    (sent, node.logs().into_iter().map(|(_, text)| text).collect())
}

/// Whether a condition holds for the request.
fn holds(condition: &str) -> bool {
    let route =
        format!("if ({condition}) xlog(\"L_NOTICE\", \"yes\"); else xlog(\"L_NOTICE\", \"no\");");
    run(&route, REQUEST).1 == ["yes"]
}

/// What a function returned.
fn code(expression: &str) -> String {
    run(&format!("{expression}; xlog(\"L_NOTICE\", \"$rc\");"), REQUEST).1.remove(0)
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_sipmsgops::MODULE,
        &[
            ("function is_method", methods),
            ("function has_totag", tags),
            ("function is_present_hf", presence),
            ("function append_hf", edits),
            ("function insert_hf", edits),
            ("function remove_hf", edits),
            ("function append_to_reply", reply_headers),
            ("function has_body", bodies),
            ("function ruri_has_param", uri_params),
            ("function append_urihf", more_headers),
            ("function append_time", more_headers),
            ("function remove_hf_re", more_headers),
            ("function remove_hf_glob", more_headers),
            ("function is_privacy", more_headers),
            ("function get_glob_headers_values", more_headers),
            ("function list_hdr_has_option", lists),
            ("function list_hdr_add_option", lists),
            ("function list_hdr_remove_option", lists),
            ("function append_body_to_reply", reply_body),
            ("function change_reply_status", reply_status),
            ("function has_body_part", parts),
            ("function remove_body_part", parts),
            ("function add_body_part", parts),
            ("function get_updated_body_part", parts),
            ("function codec_exists", codecs),
            ("function codec_exists_re", codecs),
            ("function codec_delete", codecs),
            ("function codec_delete_re", codecs),
            ("function codec_delete_except_re", codecs),
            ("function codec_move_up", codec_order),
            ("function codec_move_up_re", codec_order),
            ("function codec_move_down", codec_order),
            ("function codec_move_down_re", codec_order),
            ("function stream_exists", streams),
            ("function stream_delete", streams),
            ("function is_audio_on_hold", hold),
            ("function sipmsg_validate", validation),
            ("function ruri_add_param", uri_changes),
            ("function ruri_del_param", uri_changes),
            ("function ruri_tel2sip", uri_changes),
            ("function is_uri_user_e164", numbers),
            ("function sip_to_json", as_json),
        ],
    );
}

fn methods() {
    assert!(holds("is_method(\"REGISTER|INVITE\")"));
    assert!(!holds("is_method(\"REGISTER\")"));
}

fn tags() {
    assert!(!holds("has_totag()"));
    let route = "if (has_totag()) xlog(\"L_NOTICE\", \"yes\");";
    let tagged = REQUEST.replace("To: <sip:a@127.0.0.1>", "To: <sip:a@127.0.0.1>;tag=t");
    assert_eq!(run(route, &tagged).1, ["yes"]);
}

fn presence() {
    assert!(holds("is_present_hf(\"Subject\")") && holds("is_present_hf(\"s\")"));
    assert!(!holds("is_present_hf(\"X-Two\")"));
}

fn edits() {
    let relayed = |edit: &str| {
        let (sent, _) = run(&format!("{edit}; $du = \"sip:127.0.0.8\"; t_relay();"), REQUEST);
        sent.into_iter().find(|m| m.starts_with("INVITE")).unwrap()
    };
    let text = relayed("append_hf(\"X-New: 1\\r\\n\")");
    assert!(text.contains("\r\nX-New: 1\r\n\r\n"), "{text}");
    let text = relayed("insert_hf(\"X-New: 1\\r\\n\", \"Subject\")");
    assert!(text.contains("\r\nX-New: 1\r\nSubject: hi\r\n"), "{text}");
    let text = relayed("remove_hf(\"X-One\")");
    assert!(!text.to_ascii_lowercase().contains("x-one"), "{text}");
    assert_eq!(code("append_hf(\"X-New: 1\\r\\n\")"), "1");
    assert_eq!(code("append_hf(\"X-New: 1\\r\\n\", \"No-Such\")"), "-1");
    assert_eq!(code("insert_hf(\"X-New: 1\\r\\n\", \"Subject\")"), "1");
    assert_eq!(code("insert_hf(\"X-New: 1\\r\\n\", \"No-Such\")"), "-1");
    assert_eq!(code("remove_hf(\"X-One\")"), "1");
    assert_eq!(code("remove_hf(\"No-Such\")"), "-1");
}

fn reply_headers() {
    let (sent, _) = run("append_to_reply(\"X-R: 1\\r\\n\"); sl_send_reply(404, \"No\");", REQUEST);
    assert!(sent[0].contains("\r\nX-R: 1\r\n"), "{sent:?}");
}

fn bodies() {
    assert!(holds("has_body()") && holds("has_body(\"application/sdp\")"));
    assert!(!holds("has_body(\"text/plain\")"));
}

fn uri_params() {
    assert!(holds("ruri_has_param(\"x\")") && holds("ruri_has_param(\"y\")"));
    assert!(holds("ruri_has_param(\"x\", \"1\")") && !holds("ruri_has_param(\"x\", \"2\")"));
    assert!(!holds("ruri_has_param(\"z\")"));
}

/// The request as it is relayed after some statements.
fn relayed(statements: &str, request: &str) -> String {
    let (sent, _) = run(&format!("{statements}; $du = \"sip:127.0.0.8\"; t_relay();"), request);
    sent.into_iter().find(|m| m.starts_with("INVITE")).unwrap()
}

/// What a text with variables looks like behind some statements.
fn said(statements: &str, text: &str, request: &str) -> String {
    let route = format!("{statements}; xlog(\"L_NOTICE\", \"{text}\");");
    run(&route, request).1.pop().unwrap()
}

const SDP: &str = "v=0\no=- 1 1 IN IP4 10.0.0.1\ns=-\nc=IN IP4 10.0.0.1\nt=0 0\n\
     m=audio 4000 RTP/AVP 0 8 101\na=rtpmap:101 telephone-event/8000\na=fmtp:101 0-15\n\
     m=video 4002 RTP/AVP 96\na=rtpmap:96 H264/90000\n";

fn with_body(content_type: &str, body: &str) -> String {
    let head = REQUEST.split_once("Content-Type:").unwrap().0;
    let length = body.replace('\n', "\r\n").len();
    format!("{head}Content-Type: {content_type}\nContent-Length: {length}\n\n{body}")
}

fn body(text: &str) -> &str {
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let length = format!("Content-Length: {}", body.len());
    assert!(head.ends_with(&length) || head.contains(&format!("{length}\r\n")), "{text}");
    body
}

fn more_headers() {
    let text = relayed("append_urihf(\"X-Uri: <\", \">\\r\\n\")", REQUEST);
    assert!(text.contains("\r\nX-Uri: <sip:a@127.0.0.1;x=1;y>\r\n"), "{text}");
    let (sent, _) = run("append_time(); sl_send_reply(404, \"No\");", REQUEST);
    assert!(sent[0].contains("\r\nDate: Fri, 15 Jan 2027 08:00:00 GMT\r\n"), "{sent:?}");
    let text = relayed("remove_hf_re(\"^x-\")", REQUEST).to_ascii_lowercase();
    assert!(!text.contains("x-one") && text.contains("subject"), "{text}");
    let text = relayed("remove_hf_glob(\"Sub*\")", REQUEST);
    assert!(!text.contains("Subject") && text.contains("X-One"), "{text}");
    assert_eq!(code("remove_hf_re(\"^nosuch\")"), "-1");
    assert_eq!(code("remove_hf_glob(\"no*\")"), "-1");
    let private = REQUEST.replace("Subject: hi", "Privacy: id; header");
    assert_eq!(said("is_privacy(\"Header\")", "$rc", &private), "1");
    assert_eq!(said("is_privacy(\"user\")", "$rc", &private), "-1");
    let listed = "get_glob_headers_values(\"x-*\", $avp(n), $avp(v))";
    let shown = "$rc $(avp(n)[*]) $(avp(v)[*])";
    assert_eq!(said(listed, shown, REQUEST), "1 X-One, x-one 1, 2");
    let none = "get_glob_headers_values(\"y-*\", $avp(n), $avp(v))";
    assert_eq!(said(none, "$rc $avp(n)", REQUEST), "-1 <null>");
}

fn lists() {
    let request = REQUEST.replace("Subject: hi", "Supported: a, b\nX-Y: 1\nk: c");
    let has = |option: &str, before: &str| {
        said(&format!("{before} list_hdr_has_option(\"Supported\", \"{option}\")"), "$rc", &request)
    };
    assert_eq!((has("B", ""), has("c", ""), has("d", "")), ("1".into(), "1".into(), "-1".into()));
    let add = "list_hdr_add_option(\"Supported\", \"d\");";
    let remove = "list_hdr_remove_option(\"Supported\", \"b\");";
    assert_eq!(has("d", add), "1", "sees what was added");
    assert_eq!(has("b", remove), "-1", "sees what was removed");
    let text = relayed(&format!("{add} {remove}"), &request);
    assert!(text.contains("\r\nSupported: a, c, d\r\nX-Y: 1\r\nContent-Type"), "{text}");
    let text = relayed("list_hdr_add_option(\"Require\", \"x\")", &request);
    assert!(text.contains("\r\nRequire: x\r\n"), "{text}");
    assert_eq!(said("list_hdr_remove_option(\"Supported\", \"z\")", "$rc", &request), "-1");
    let all = "list_hdr_remove_option(\"X-Y\", \"1\")";
    assert!(!relayed(all, &request).contains("X-Y"));
}

fn reply_body() {
    let (sent, _) = run(
        "append_to_reply(\"Content-Type: text/plain\\r\\n\"); append_body_to_reply(\"why \"); \
         append_body_to_reply(\"not\"); sl_send_reply(404, \"No\");",
        REQUEST,
    );
    assert_eq!(body(&sent[0]), "why not");
    assert!(sent[0].contains("\r\nContent-Type: text/plain\r\n"), "{sent:?}");
}

fn reply_status() {
    let through = |call: &str, status: &str| {
        let script = format!(
            "{HEAD}route {{ t_on_reply(\"R\"); $du = \"sip:127.0.0.8\"; t_relay(); }}\n\
             onreply_route[R] {{ {call}; xlog(\"L_NOTICE\", \"$rc\"); }}"
        );
        let mut node = TestNode::new(&script, MODULES);
        node.udp("127.0.0.9:5060", REQUEST);
        let sent = node.sent();
        let relayed = sent.iter().find(|(_, m)| m.starts_with("INVITE")).unwrap().1.clone();
        let head = relayed.split("\r\nX-One").next().unwrap().split_once("\r\n").unwrap().1;
        let reply = format!("SIP/2.0 {status}\r\n{head}\r\nContent-Length: 0\r\n\r\n");
        node.udp("127.0.0.8:5060", &reply);
        let code = node.logs().pop().unwrap().1;
        let back = node.sent().into_iter().map(|(_, m)| m).find(|m| m.starts_with("SIP/2.0"));
        (code, back.unwrap_or_default())
    };
    let (code, text) = through("change_reply_status(182, \"Queued\")", "183 Progress");
    assert!(code == "1" && text.starts_with("SIP/2.0 182 Queued\r\n"), "{code} {text}");
    let (code, _) = through("change_reply_status(200, \"OK\")", "183 Progress");
    assert!(code.ends_with("-1"), "{code}");
}

fn parts() {
    let mixed = with_body(
        "multipart/mixed;boundary=x",
        "--x\nContent-Type: application/sdp\n\nv=0\n\n--x\nContent-Type: text/plain\n\nhi\n--x--\n",
    );
    let ask = |call: &str, request: &str| said(call, "$rc", request);
    assert_eq!(ask("has_body_part(\"text/plain\")", &mixed), "1");
    assert_eq!(ask("has_body(\"application/sdp\")", &mixed), "1");
    assert_eq!(ask("has_body_part(\"text/html\")", &mixed), "-1");
    let text = relayed("remove_body_part(\"application/sdp\")", &mixed);
    assert!(body(&text) == "hi" && text.contains("Content-Type: text/plain\r\n"), "{text}");
    let text = relayed("remove_body_part(\"application/sdp\", \"revert\")", &mixed);
    assert!(body(&text) == "v=0\r\n" && text.contains("\r\nContent-Type: application/sdp\r\n"));
    assert!(!text.contains("multipart") && text.contains("\r\nContent-Length: 5\r\n"), "{text}");
    let three =
        mixed.replace("--x--", "--x\nContent-Type: a/b;\n c=d\nContent-ID: <7>\n\nab\n--x--");
    let three = three.replace("\nContent-Length: ", "\nX-Length: ");
    let text = relayed("remove_body_part(\"application/sdp\")", &three);
    assert!(body(&text).starts_with("--x\r\nContent-Type: text/plain\r\n"), "{text}");
    let text = relayed("remove_body_part(\"a/b\", \"revert\")", &three);
    let head = "Content-ID: <7>\r\n";
    assert!(body(&text) == "ab" && text.contains(head) && text.contains("a/b;"), "{text}");
    let text = relayed("remove_body_part()", REQUEST);
    assert!(body(&text).is_empty() && !text.contains("Content-Type"), "{text}");
    assert_eq!(ask("remove_body_part(\"text/html\")", &mixed), "-1");
    let text = relayed("remove_body_part(); add_body_part(\"new\", \"text/x\")", REQUEST);
    assert!(body(&text) == "new" && text.contains("Content-Type: text/x\r\n"), "{text}");
    let text = relayed("add_body_part(\"new\", \"text/x\", \"X-P: 1\\r\\n\")", REQUEST);
    assert!(text.contains("Content-Type: multipart/mixed;boundary="), "{text}");
    let part = "\r\nContent-Type: text/x\r\nX-P: 1\r\n\r\nnew\r\n--";
    assert!(body(&text).contains(part) && body(&text).contains("v=0"), "{text}");
    let text = relayed("add_body_part(\"new\", \"text/x\")", &mixed);
    assert!(body(&text).ends_with("--x\r\nContent-Type: text/x\r\n\r\nnew\r\n--x--\r\n"), "{text}");
    let get = "get_updated_body_part(\"text/plain\", $avp(b))";
    assert_eq!(said(get, "$rc $avp(b)", &mixed), "1 hi");
    let added = "add_body_part(\"new\", \"text/x\"); get_updated_body_part(\"text/x\", $avp(b))";
    assert_eq!(said(added, "$rc $avp(b)", REQUEST), "1 new");
    let get = "get_updated_body_part(\"text/html\", $avp(b))";
    assert_eq!(said(get, "$rc $avp(b)", &mixed), "-1 <null>");
}

fn media(text: &str) -> Vec<&str> {
    body(text).lines().filter(|line| line.starts_with("m=")).collect()
}

fn codecs() {
    let request = with_body("application/sdp", SDP);
    let ask = |call: &str| said(call, "$rc", &request);
    assert_eq!(ask("codec_exists(\"pcma\")"), "1", "without rtpmap, by its number");
    assert_eq!(ask("codec_exists(\"H264\", \"90000\")"), "1");
    assert_eq!(ask("codec_exists(\"H264\", \"8000\")"), "-1");
    assert_eq!(ask("codec_exists_re(\"^PCM.$\")"), "1");
    assert_eq!(ask("codec_exists_re(\"opus\")"), "-1");
    assert_eq!(said("codec_exists(\"PCMA\")", "$rc", REQUEST), "-1");
    let text = relayed("codec_delete(\"telephone-event\", \"8000\")", &request);
    assert_eq!(media(&text)[0], "m=audio 4000 RTP/AVP 0 8");
    assert!(!body(&text).contains("101"), "{text}");
    let text = relayed("codec_delete(\"PCMU\"); codec_delete_re(\"^tele\")", &request);
    assert_eq!(media(&text), ["m=audio 4000 RTP/AVP 8", "m=video 4002 RTP/AVP 96"]);
    let text = relayed("codec_delete_except_re(\"PCMA|H264\")", &request);
    assert_eq!(media(&text)[0], "m=audio 4000 RTP/AVP 8");
    assert_eq!(ask("codec_delete(\"opus\")"), "-1");
    assert_eq!(ask("codec_delete_except_re(\".\")"), "-1");
}

fn codec_order() {
    let request = with_body("application/sdp", SDP);
    let first = |call: &str| media(&relayed(call, &request))[0].to_owned();
    assert_eq!(first("codec_move_up(\"PCMA\")"), "m=audio 4000 RTP/AVP 8 0 101");
    assert_eq!(first("codec_move_up_re(\"^tele\")"), "m=audio 4000 RTP/AVP 101 0 8");
    assert_eq!(first("codec_move_down(\"PCMU\", \"8000\")"), "m=audio 4000 RTP/AVP 8 101 0");
    assert_eq!(first("codec_move_down_re(\"^PCM\")"), "m=audio 4000 RTP/AVP 101 0 8");
    let both = first("codec_delete(\"PCMU\"); codec_move_up_re(\"^tele\")");
    assert_eq!(both, "m=audio 4000 RTP/AVP 101 8");
}

fn streams() {
    let request = with_body("application/sdp", SDP);
    let ask = |call: &str| said(call, "$rc", &request);
    assert_eq!(ask("stream_exists(\"^video\")"), "1");
    assert_eq!(ask("stream_exists(\"^image\")"), "-1");
    assert_eq!(ask("stream_exists(\"audio\", \"fmtp:101\")"), "1");
    assert_eq!(ask("stream_exists(\"video\", \"fmtp:101\")"), "-1");
    let text = relayed("stream_delete(\"video\")", &request);
    assert_eq!(media(&text).len(), 1);
    assert!(!body(&text).contains("H264"), "{text}");
    assert_eq!(ask("stream_delete(\"video\", \"nosuch\")"), "-1");
}

fn hold() {
    let ask = |from: &str, to: &str| {
        let request = with_body("application/sdp", &SDP.replace(from, to));
        said("is_audio_on_hold()", "$rc", &request)
    };
    assert_eq!(ask("", ""), "-1");
    assert_eq!(ask("c=IN IP4 10.0.0.1", "c=IN IP4 0.0.0.0"), "1");
    assert_eq!(ask("a=fmtp:101 0-15", "a=inactive"), "2");
}

fn validation() {
    let good = REQUEST.replace("Subject: hi", "Max-Forwards: 70\nContact: <sip:f@127.0.0.9>");
    let code = |flags: &str, request: &str| {
        said(&format!("sipmsg_validate(\"{flags}\", $avp(e))"), "$rc", request)
    };
    let changed = |from: &str, to: &str| good.replace(from, to);
    assert_eq!(code("hrftc", &good), "1");
    assert_eq!(code("", &changed("Max-Forwards: 70\n", "")), "-13");
    assert_eq!(code("m", &changed("Max-Forwards: 70\n", "")), "1");
    assert_eq!(code("", &changed("Contact: <sip:f@127.0.0.9>\n", "")), "-14");
    assert_eq!(code("", &changed("X-One: 1", "Path: <sip:p>")), "-15");
    assert_eq!(code("", &changed("Content-Type: application/sdp; x=y\n", "")), "-21");
    assert_eq!(code("s", &good), "-6");
    assert_eq!(code("h", &changed("X-One: 1", "Expires: x")), "-2");
    assert_eq!(code("r", &changed("sip:a@127.0.0.1;x=1", "sip:a@-bad-;x=1")), "-12");
    assert_eq!(code("f", &changed("sip:f@127.0.0.9>;tag", "sip:f@-bad>;tag")), "-25");
    assert_eq!(code("f", &changed("sip:f@127.0.0.9>;tag", "sip:%zz@a>;tag")), "-28");
    assert_eq!(code("t", &changed("To: <sip:a@", "To: <sip:{}@")), "-29");
    assert_eq!(code("t", &changed("To: <sip:a@127.0.0.1>", "To: <sip:a@b-.c>")), "-23");
    assert_eq!(code("c", &changed("Contact: <sip:f@127.0.0.9>", "Contact: *")), "-30");
    assert_eq!(code("c", &changed("Contact: <sip:f@127.0.0.9>", "Contact: <sip:>")), "-26");
    for (from, to, wanted) in [
        ("Call-ID:", "X-Id:", "-3"),
        ("CSeq:", "X-Seq:", "-7"),
        ("From:", "X-From:", "-8"),
        ("To:", "X-To:", "-9"),
        ("Content-Length: ", "Content-Length: 9", "-5"),
        ("sip:a@127.0.0.1;x=1", "sip:", "-11"),
        ("To: <sip:a@127.0.0.1>", "To: \"a", "-22"),
        ("CSeq: 1 ", "CSeq: x ", "-2"),
        ("X-One: 1", "Call-ID: second", "-255"),
    ] {
        assert_eq!(code("", &changed(from, to)), wanted, "{to}");
    }
    let unfit = changed("Call-ID:", "X-Id:");
    let relay = "if (!sipmsg_validate()) $du = \"sip:127.0.0.3\"; t_relay(); forward();";
    let (sent, _) = run(relay, &unfit);
    assert!(sent.iter().all(|m| m.starts_with("SIP/2.0 ")), "it is not sent on: {sent:?}");
    let why = said("sipmsg_validate(\"\", $avp(e))", "$avp(e)", REQUEST);
    assert_eq!(why, "no Max-Forwards header");
    let wrong = format!("{HEAD}route {{ sipmsg_validate(\"z\"); }}");
    assert!(TestNode::try_new(&wrong, MODULES).is_err());
}

fn uri_changes() {
    let uri = |call: &str| said(call, "$rc $ru", REQUEST);
    assert_eq!(uri("ruri_add_param(\"z=2\")"), "1 sip:a@127.0.0.1;x=1;y;z=2");
    assert_eq!(uri("ruri_del_param(\"X\")"), "1 sip:a@127.0.0.1;y");
    assert_eq!(uri("ruri_del_param(\"nosuch\")"), "-1 sip:a@127.0.0.1;x=1;y");
    assert_eq!(uri("$ru = \"sip:a@b?h=1\"; ruri_add_param(\"z\")"), "1 sip:a@b;z?h=1");
    assert_eq!(
        uri("$ru = \"tel:+49-30-123;ext=5\"; ruri_tel2sip()"),
        "1 sip:+4930123;ext=5@127.0.0.9;user=phone"
    );
    assert_eq!(uri("ruri_tel2sip()"), "-1 sip:a@127.0.0.1;x=1;y");
}

fn numbers() {
    assert!(holds("is_uri_user_e164(\"sip:+4930123@a\")"));
    for wrong in ["sip:4930123@a", "sip:+1@a", "sip:+1234567890123456@a", "sip:+12a@a", "x"] {
        assert!(!holds(&format!("is_uri_user_e164(\"{wrong}\")")), "{wrong}");
    }
}

fn as_json() {
    let text = said("sip_to_json($avp(j))", "$avp(j)", REQUEST);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["first_line"], "INVITE sip:a@127.0.0.1;x=1;y SIP/2.0");
    assert_eq!(json["headers"]["X-One"], serde_json::json!(["1", "2"]));
    assert_eq!(json["body"], "v=0\n".replace('\n', "\r").get(..4).unwrap());
}
