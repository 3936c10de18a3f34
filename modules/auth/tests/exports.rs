//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use tandem_auth::Auth;
use tandem_engine::catalogue::Modules;
use tandem_engine::module::Module;
use tandem_engine::testing::{TestNode, cover};
use tandem_sip::{Algorithm, Response};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_sl::MODULE,
    &tandem_tm::MODULE,
    &tandem_signaling::MODULE,
    &tandem_auth::MODULE,
];
const HEAD: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
     loadmodule \"sl.so\"\nloadmodule \"tm.so\"\nloadmodule \"signaling.so\"\n\
     loadmodule \"auth.so\"\n";
const SPECS: &str = "modparam(\"auth\", \"username_spec\", \"$avp(u)\")\n\
     modparam(\"auth\", \"password_spec\", \"$avp(p)\")\n";
const PLAIN: &str = "modparam(\"auth\", \"calculate_ha1\", 1)\n";
/// Checks the credentials of bob, and asks when they are missing or wrong.
const ROUTE: &str = "$avp(u) = \"bob\"; $avp(p) = \"pw\";
     $var(rc) = pv_www_authorize(\"a.test\");
     if ($var(rc) < 0) { xlog(\"L_NOTICE\", \"$var(rc)\"); www_challenge(\"a.test\", \
     \"auth,auth-int\", \"MD5,SHA-256,SHA-512-256\"); exit; }
     xlog(\"L_NOTICE\", \"$var(rc)\");";

fn node(params: &str, route: &str) -> TestNode {
    TestNode::new(&format!("{HEAD}{params}\nroute {{ {route} }}"), MODULES)
}

fn request(method: &str, headers: &str) -> String {
    format!(
        "{method} sip:a.test SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKx\n\
         From: <sip:bob@from.test>;tag=f\nTo: <sip:bob@to.test>\nCall-ID: c\nCSeq: 1 {method}\n\
         {headers}Content-Length: 4\n\nv=0\n"
    )
}

/// What was sent, and what was logged, for one request.
fn feed(node: &mut TestNode, request: &str) -> (Vec<String>, Vec<String>) {
    node.udp("127.0.0.9:5060", request);
    let sent = node.sent().into_iter().map(|(_, text)| text).collect();
    (sent, node.logs().into_iter().map(|(_, text)| text).collect())
}

fn value<'a>(text: &'a str, name: &str) -> &'a str {
    let at = text.find(name).unwrap_or_else(|| panic!("no {name} in {text}"));
    let rest = &text[at + name.len()..];
    rest.split(['"', ',', '\r']).next().unwrap()
}

/// An Authorization header that answers the nonce in a challenge.
fn answer(challenge: &str, header: &str, password: &str, algorithm: &str, qop: &str) -> String {
    let nonce = value(challenge, "nonce=\"");
    let known = Algorithm::of(algorithm.as_bytes()).unwrap();
    let response = Response {
        algorithm: known,
        method: b"REGISTER",
        uri: b"sip:a.test",
        nonce: nonce.as_bytes(),
        qop: qop.as_bytes(),
        nc: b"00000001",
        cnonce: b"xyz",
        body: b"v=0\r\n".get(..4).unwrap(),
    };
    let ha1 = known.ha1(b"bob", b"a.test", password.as_bytes());
    let response = response.compute(ha1.as_bytes());
    let response = std::str::from_utf8(response.as_bytes()).unwrap();
    let qop = match qop {
        "" => String::new(),
        qop => format!(", qop={qop}, nc=00000001, cnonce=\"xyz\""),
    };
    format!(
        "{header}: Digest username=\"bob\", realm=\"a.test\", nonce=\"{nonce}\", \
         uri=\"sip:a.test\", response=\"{response}\", algorithm={algorithm}{qop}\n"
    )
}

/// A challenge of the node.
fn challenge(node: &mut TestNode) -> String {
    feed(node, &request("REGISTER", "")).0.remove(0)
}

/// The code for the right password under these parameters.
fn code_with(params: &str, password: &str, algorithm: &str, qop: &str) -> String {
    let mut node = node(&format!("{SPECS}{params}"), ROUTE);
    let asked = challenge(&mut node);
    let header = answer(&asked, "Authorization", password, algorithm, qop);
    feed(&mut node, &request("REGISTER", &header)).1.remove(0)
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_auth::MODULE,
        &[
            ("param secret", secrets),
            ("param nonce_expire", expiry),
            ("param rpid_prefix", rpid_header),
            ("param rpid_suffix", rpid_header),
            ("param realm_prefix", realms),
            ("param rpid_avp", rpid_header),
            ("param username_spec", specs),
            ("param password_spec", specs),
            ("param calculate_ha1", ha1),
            ("param disable_nonce_check", reuse),
            ("function www_challenge", challenges),
            ("function proxy_challenge", challenges),
            ("function pv_www_authorize", codes),
            ("function pv_proxy_authorize", proxy_codes),
            ("function consume_credentials", consuming),
            ("function is_rpid_user_e164", rpid_number),
            ("function append_rpid_hf", rpid_header),
        ],
    );
}

fn secrets() {
    // Two nodes with one secret take each other's nonces; without, they ask again.
    let try_both = |params: &str, other_params: &str| {
        let mut first = node(&format!("{SPECS}{PLAIN}{params}"), ROUTE);
        let asked = challenge(&mut first);
        let mut second = node(&format!("{SPECS}{PLAIN}{other_params}"), ROUTE);
        let header = answer(&asked, "Authorization", "pw", "MD5", "auth");
        feed(&mut second, &request("REGISTER", &header))
    };
    let secret = "modparam(\"auth\", \"secret\", \"0123456789abcdef0123456789abcdef\")\n";
    assert_eq!(try_both(secret, secret).1, ["1"]);
    let (sent, logs) = try_both(secret, "modparam(\"auth\", \"secret\", \"another one\")\n");
    assert_eq!(logs, ["-3"]);
    assert!(sent[0].contains(", stale=true\r\n"), "a nonce that cannot be judged: {sent:?}");
    // Without one, Tandem nodes of a cluster tell each other their keys; with one they do not.
    let mut first = node(&format!("{SPECS}{PLAIN}"), ROUTE);
    let asked = challenge(&mut first);
    let mut second = node(&format!("{SPECS}{PLAIN}"), ROUTE);
    let auth = |node: &TestNode| node.node().find::<Auth>().unwrap().1;
    let header = answer(&asked, "Authorization", "pw", "MD5", "auth");
    second.node().find::<Auth>().unwrap().1.learn(7, b"not a key");
    auth(&second).learn(0, &auth(&first).nonce_key().unwrap());
    assert_eq!(feed(&mut second, &request("REGISTER", &header)).1, ["1"]);
    assert!(auth(&node(secret, ROUTE)).nonce_key().is_none());
    let short = format!("{HEAD}modparam(\"auth\", \"secret\", \"short\")\nroute {{ exit; }}");
    assert!(TestNode::try_new(&short, MODULES).is_err());
}

fn expiry() {
    let code_after = |ms: u64, params: &str| {
        let mut node = node(&format!("{SPECS}{PLAIN}{params}"), ROUTE);
        let asked = challenge(&mut node);
        node.advance_ms(ms);
        let header = answer(&asked, "Authorization", "pw", "MD5", "auth");
        feed(&mut node, &request("REGISTER", &header))
    };
    assert_eq!(code_after(29_000, "").1, ["1"]);
    let (sent, logs) = code_after(31_000, "");
    assert_eq!(logs, ["-3"]);
    assert!(sent[0].contains(", stale=true\r\n"), "{sent:?}");
    let longer = "modparam(\"auth\", \"nonce_expire\", 60)\n";
    assert_eq!(code_after(31_000, longer).1, ["1"]);
}

fn reuse() {
    let second_use = |params: &str| {
        let mut node = node(&format!("{SPECS}{PLAIN}{params}"), ROUTE);
        let asked = challenge(&mut node);
        let header = answer(&asked, "Authorization", "pw", "MD5", "auth");
        assert_eq!(feed(&mut node, &request("REGISTER", &header)).1, ["1"]);
        feed(&mut node, &request("REGISTER", &header))
    };
    let (sent, logs) = second_use("");
    assert_eq!(logs, ["-3"]);
    assert!(sent[0].contains(", stale=true\r\n"), "{sent:?}");
    assert_eq!(second_use("modparam(\"auth\", \"disable_nonce_check\", 1)\n").1, ["1"]);
}

fn realms() {
    let realm = |route: &str, method: &str, params: &str| {
        let mut node = node(params, route);
        let (mut sent, _) = feed(&mut node, &request(method, ""));
        value(&sent.remove(0), "realm=\"").to_owned()
    };
    let (www, proxy) = ("www_challenge(\"\", \"auth\");", "proxy_challenge(\"\", \"auth\");");
    assert_eq!(realm(www, "REGISTER", ""), "to.test");
    assert_eq!(realm(www, "INVITE", ""), "from.test");
    assert_eq!(realm(proxy, "REGISTER", ""), "from.test");
    let prefix = "modparam(\"auth\", \"realm_prefix\", \"from.\")\n";
    assert_eq!(realm(proxy, "INVITE", prefix), "test");
}

fn challenges() {
    let mut node = node("", "www_challenge(\"a.test\", \"auth,auth-int\", \"SHA-256,MD5\");");
    let text = challenge(&mut node);
    assert!(text.starts_with("SIP/2.0 401 Unauthorized\r\n"), "{text}");
    let lines: Vec<_> = text.lines().filter(|l| l.starts_with("WWW-Authenticate: ")).collect();
    assert_eq!(lines.len(), 2, "a header for each algorithm (RFC 8760): {text}");
    assert!(lines[0].starts_with("WWW-Authenticate: Digest realm=\"a.test\", nonce=\""));
    assert!(lines[0].ends_with(", qop=\"auth,auth-int\", algorithm=SHA-256"), "{text}");
    assert!(lines[1].ends_with(", algorithm=MD5"), "{text}");
    assert_ne!(value(&text, "nonce=\""), value(&challenge(&mut node), "nonce=\""));

    let mut node = self::node("", "proxy_challenge(\"a.test\");");
    let text = challenge(&mut node);
    assert!(text.starts_with("SIP/2.0 407 Proxy Authentication Required\r\n"), "{text}");
    assert!(text.contains("\r\nProxy-Authenticate: Digest realm=\"a.test\", "), "{text}");
    assert!(!text.contains("qop") && !text.contains("algorithm"), "{text}");
    let ack = feed(&mut node, &request("ACK", ""));
    assert!(ack.0.is_empty(), "an ACK is never answered");
    for wrong in ["www_challenge(\"a\", \"conf\");", "www_challenge(\"a\", \"auth\", \"MD4\");"] {
        let script = format!("{HEAD}route {{ {wrong} }}");
        assert!(TestNode::try_new(&script, MODULES).is_err(), "{wrong}");
    }
}

fn codes() {
    for algorithm in ["MD5", "MD5-sess", "SHA-256", "SHA-256-sess", "SHA-512-256"] {
        for qop in ["auth", "auth-int", ""] {
            // A session cannot be without the client's nonce.
            let code = if qop.is_empty() && algorithm.ends_with("sess") { "-5" } else { "1" };
            assert_eq!(code_with(PLAIN, "pw", algorithm, qop), code, "{algorithm} {qop}");
        }
    }
    assert_eq!(code_with(PLAIN, "wrong", "MD5", "auth"), "-2");
    let mut node = node(&format!("{SPECS}{PLAIN}"), ROUTE);
    let code =
        |node: &mut TestNode, header: &str| feed(node, &request("REGISTER", header)).1.remove(0);
    assert_eq!(code(&mut node, ""), "-4");
    let asked = challenge(&mut node);
    let right = answer(&asked, "Authorization", "pw", "MD5", "auth");
    assert_eq!(code(&mut node, &right.replace("a.test", "b.test")), "-4", "another realm");
    assert_eq!(code(&mut node, &right.replace("\"bob\"", "\"eve\"")), "-1");
    assert_eq!(code(&mut node, &right.replace("algorithm=MD5", "algorithm=MD4")), "-5");
    assert_eq!(code(&mut node, &right.replace(", qop=auth", "")), "-2");
    assert_eq!(code(&mut node, &right.replace("cnonce=\"xyz\"", "")), "-5");
    assert_eq!(code(&mut node, "Authorization: Digest realm=\"a.test\", x=\"\n"), "-5");
    // Of several credentials, the matching ones are found.
    let others = "Authorization: Basic YTpi\nAuthorization: Digest username=\"x\", \
         realm=\"other\", nonce=\"n\", uri=\"u\", response=\"r\"\n";
    assert_eq!(code(&mut node, &format!("{others}{right}")), "1");
    // Neither can be challenged, so both pass.
    assert_eq!(feed(&mut node, &request("ACK", "")).1, ["1"]);
}

fn proxy_codes() {
    let route = ROUTE.replace("www_", "proxy_");
    let mut node = node(&format!("{SPECS}{PLAIN}"), &route);
    let asked = challenge(&mut node);
    assert!(asked.starts_with("SIP/2.0 407 "), "{asked}");
    let wrong_header = answer(&asked, "Authorization", "pw", "MD5", "auth");
    assert_eq!(feed(&mut node, &request("REGISTER", &wrong_header)).1, ["-4"]);
    let right = answer(&asked, "Proxy-Authorization", "pw", "MD5", "auth");
    assert_eq!(feed(&mut node, &request("REGISTER", &right)).1, ["1"]);
}

fn specs() {
    let mut without = node("", ROUTE);
    let asked = challenge(&mut without);
    let header = answer(&asked, "Authorization", "pw", "MD5", "auth");
    let logs = feed(&mut without, &request("REGISTER", &header)).1;
    assert!(logs[0].contains("username_spec and password_spec") && logs[1] == "-5", "{logs:?}");
    let variables = "modparam(\"auth\", \"username_spec\", \"$var(u)\")\n\
         modparam(\"auth\", \"password_spec\", \"$var(p)\")\n";
    let mut node = node(&format!("{variables}{PLAIN}"), &ROUTE.replace("$avp", "$var"));
    let asked = challenge(&mut node);
    let header = answer(&asked, "Authorization", "pw", "MD5", "auth");
    assert_eq!(feed(&mut node, &request("REGISTER", &header)).1, ["1"]);
}

fn ha1() {
    let ha1 = Algorithm::Md5.ha1(b"bob", b"a.test", b"pw");
    let ha1 = std::str::from_utf8(ha1.as_bytes()).unwrap();
    let mut node = node(SPECS, &ROUTE.replace("\"pw\"", &format!("\"{ha1}\"")));
    let asked = challenge(&mut node);
    let header = answer(&asked, "Authorization", "pw", "MD5", "auth");
    assert_eq!(feed(&mut node, &request("REGISTER", &header)).1, ["1"]);
    assert_eq!(code_with("", "pw", "MD5", "auth"), "-2", "a plain password is no HA1");
    assert_eq!(code_with(PLAIN, "pw", "MD5", "auth"), "1");
}

fn consuming() {
    let route = format!(
        "{ROUTE} consume_credentials(); xlog(\"L_NOTICE\", \"consumed $rc\"); \
         $du = \"sip:127.0.0.8\"; t_relay();"
    );
    let mut node = node(&format!("{SPECS}{PLAIN}"), &route);
    let asked = challenge(&mut node);
    let right = answer(&asked, "Authorization", "pw", "MD5", "auth");
    let other = "Authorization: Digest username=\"x\", realm=\"other\", nonce=\"n\", uri=\"u\", \
         response=\"r\"\n";
    let (sent, logs) = feed(&mut node, &request("REGISTER", &format!("{other}{right}")));
    assert_eq!(logs, ["1", "consumed 1"]);
    let relayed = sent.iter().find(|m| m.starts_with("REGISTER")).unwrap();
    assert!(relayed.contains("realm=\"other\"") && !relayed.contains("\"a.test\""), "{relayed}");
    let mut node = self::node("", "consume_credentials(); xlog(\"L_NOTICE\", \"$rc\");");
    assert_eq!(feed(&mut node, &request("REGISTER", "")).1, ["-1"]);
}

fn rpid_number() {
    let code = |rpid: &str| {
        let route = format!(
            "$avp(rpid) = \"{rpid}\"; is_rpid_user_e164(); \
             xlog(\"L_NOTICE\", \"$rc\");"
        );
        feed(&mut node("", &route), &request("INVITE", "")).1.remove(0)
    };
    assert_eq!(code("sip:+4912345@a.test"), "1");
    assert_eq!(code("\\\"Bob\\\" <sip:+4912345@a.test>"), "1");
    assert_eq!(code("+4912345"), "1");
    for wrong in ["sip:4912345@a.test", "sip:+4912a@a.test", "sip:+1@a.test", "bob"] {
        assert_eq!(code(wrong), "-1", "{wrong}");
    }
}

fn rpid_header() {
    let relayed = |params: &str, avp: &str, call: &str| {
        let route = format!(
            "$avp({avp}) = \"<sip:b@a.test>\"; {call}; \
             xlog(\"L_NOTICE\", \"$rc\"); $du = \"sip:127.0.0.8\"; t_relay();"
        );
        let (sent, logs) = feed(&mut node(params, &route), &request("INVITE", ""));
        (sent.into_iter().find(|m| m.starts_with("INVITE")).unwrap(), logs.join(","))
    };
    let (text, code) = relayed("", "rpid", "append_rpid_hf()");
    let line =
        "\r\nRemote-Party-ID: <sip:b@a.test>;party=calling;id-type=subscriber;screen=yes\r\n";
    assert!(text.contains(line) && code == "1", "{text}");
    let (text, _) = relayed("", "rpid", "append_rpid_hf(\"B \", \";x\")");
    assert!(text.contains("\r\nRemote-Party-ID: B <sip:b@a.test>;x\r\n"), "{text}");
    let params = "modparam(\"auth\", \"rpid_prefix\", \"P \")\n\
         modparam(\"auth\", \"rpid_suffix\", \";s\")\n\
         modparam(\"auth\", \"rpid_avp\", \"$avp(other)\")\n";
    let (text, _) = relayed(params, "other", "append_rpid_hf()");
    assert!(text.contains("\r\nRemote-Party-ID: P <sip:b@a.test>;s\r\n"), "{text}");
    let (text, code) = relayed(params, "rpid", "append_rpid_hf()");
    assert!(!text.contains("Remote-Party-ID") && code == "-1", "{text}");
}
