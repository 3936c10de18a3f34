//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use tandem_db::{Query, Value};
use tandem_engine::catalogue::Modules;
use tandem_engine::testing::{TestNode, cover};
use tandem_sip::{Algorithm, Response};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_db_sqlite::MODULE,
    &tandem_sl::MODULE,
    &tandem_signaling::MODULE,
    &tandem_auth::MODULE,
    &tandem_auth_db::MODULE,
];
const MODULE_LINES: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
     loadmodule \"db_sqlite.so\"\nloadmodule \"sl.so\"\nloadmodule \"signaling.so\"\n\
     loadmodule \"auth.so\"\nloadmodule \"auth_db.so\"\n";
const URL: &str = "modparam(\"auth_db\", \"db_url\", \"sqlite:///tmp/x.db\")\n";
const PLAIN: &str = "modparam(\"auth_db\", \"calculate_ha1\", 1)\n\
     modparam(\"auth_db\", \"password_column\", \"password\")\n";
const WWW: &str = "$var(rc) = www_authorize(\"a.test\", \"subscriber\");
     if ($var(rc) < 0) { xlog(\"L_NOTICE\", \"$var(rc)\"); www_challenge(\"a.test\", \"auth\"); exit; }
     xlog(\"L_NOTICE\", \"$var(rc)\");";

fn insert(
    node: &mut tandem_db::memory::MemoryDb,
    table: &'static str,
    row: &[(&'static str, &str)],
) {
    let row = row.iter().map(|(column, value)| ((*column).into(), (*value).into())).collect();
    node.execute(&Query::Insert { table: table.into(), row }).unwrap();
}

fn hash(algorithm: Algorithm, password: &str) -> String {
    let hex = algorithm.ha1(b"bob", b"a.test", password.as_bytes());
    String::from_utf8(hex.as_bytes().to_vec()).unwrap()
}

/// A node with the users bob@a.test and ann@b.test, and the rows of `uri`.
fn node_on(url: &str, params: &str, route: &str) -> TestNode {
    let script = format!("{MODULE_LINES}{url}{params}route {{ {route} }}");
    let node = TestNode::with_database(&script, MODULES, |db| {
        let md5 = hash(Algorithm::Md5, "pw");
        let sha = hash(Algorithm::Sha256, "pw");
        let sha512 = hash(Algorithm::Sha512_256, "pw");
        insert(
            db,
            "subscriber",
            &[
                ("username", "bob"),
                ("domain", "a.test"),
                ("password", "pw"),
                ("ha1", &md5),
                ("ha1_sha256", &sha),
                ("ha1_sha512t256", &sha512),
            ],
        );
        insert(db, "subscriber", &[("username", "ann"), ("domain", "b.test"), ("password", "x")]);
        insert(db, "uri", &[("username", "bob"), ("domain", "a.test"), ("uri_user", "sales")]);
        for (table, version) in [("subscriber", 8), ("uri", 2)] {
            let row = vec![
                ("table_name".into(), Value::from(table)),
                ("table_version".into(), Value::Int(version)),
            ];
            db.execute(&Query::Insert { table: "version".into(), row }).unwrap();
        }
    });
    node.unwrap()
}

fn node(params: &str, route: &str) -> TestNode {
    node_on(URL, params, route)
}

fn request(headers: &str) -> String {
    format!(
        "REGISTER sip:a.test SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKx\n\
         From: <sip:sales@a.test>;tag=f\nTo: <sip:bob@a.test>\nCall-ID: c\nCSeq: 1 REGISTER\n\
         {headers}Content-Length: 0\n\n"
    )
}

fn feed(node: &mut TestNode, headers: &str) -> (Vec<String>, Vec<String>) {
    node.udp("127.0.0.9:5060", &request(headers));
    let sent = node.sent().into_iter().map(|(_, text)| text).collect();
    (sent, node.logs().into_iter().map(|(_, text)| text).collect())
}

fn answer(
    node: &mut TestNode,
    header: &str,
    user: &str,
    password: &str,
    algorithm: &str,
) -> String {
    let (sent, _) = feed(node, "");
    let at = sent[0].find("nonce=\"").unwrap() + 7;
    let nonce = sent[0][at..].split('"').next().unwrap().to_owned();
    let known = Algorithm::of(algorithm.as_bytes()).unwrap();
    let response = Response {
        algorithm: known,
        method: b"REGISTER",
        uri: b"sip:a.test",
        nonce: nonce.as_bytes(),
        qop: b"auth",
        nc: b"00000001",
        cnonce: b"xyz",
        body: b"",
    };
    let ha1 = known.ha1(user.as_bytes(), b"a.test", password.as_bytes());
    let response = response.compute(ha1.as_bytes());
    let response = std::str::from_utf8(response.as_bytes()).unwrap();
    format!(
        "{header}: Digest username=\"{user}\", realm=\"a.test\", nonce=\"{nonce}\", \
         uri=\"sip:a.test\", response=\"{response}\", algorithm={algorithm}, qop=auth, \
         nc=00000001, cnonce=\"xyz\"\n"
    )
}

/// The code for these credentials.
fn code(params: &str, user: &str, password: &str, algorithm: &str) -> String {
    code_in(&mut node(params, WWW), user, password, algorithm)
}

fn code_in(node: &mut TestNode, user: &str, password: &str, algorithm: &str) -> String {
    let header = answer(node, "Authorization", user, password, algorithm);
    feed(node, &header).1.pop().unwrap()
}

/// What a route logs for the request of bob, who has authenticated.
fn logs_after_login(params: &str, route: &str) -> Vec<String> {
    let mut node = node(&format!("{PLAIN}{params}"), &format!("{WWW} {route}"));
    let header = answer(&mut node, "Authorization", "bob", "pw", "MD5");
    feed(&mut node, &header).1.split_off(1)
}

fn logs(params: &str, route: &str) -> Vec<String> {
    feed(&mut node(params, route), "").1
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_auth_db::MODULE,
        &[
            ("param db_url", database),
            ("param user_column", user_columns),
            ("param domain_column", user_columns),
            ("param password_column", secrets),
            ("param hash_column_sha256", secrets),
            ("param hash_column_sha512t256", secrets),
            ("param uri_user_column", uri_columns),
            ("param uri_domain_column", uri_columns),
            ("param uri_uriuser_column", uri_columns),
            ("param calculate_ha1", secrets),
            ("param use_domain", domains),
            ("param load_credentials", loading),
            ("param skip_version_check", versions),
            ("function www_authorize", codes),
            ("function proxy_authorize", proxy),
            ("function db_does_uri_exist", existence),
            ("function db_is_to_authorized", to_and_from),
            ("function db_is_from_authorized", to_and_from),
            ("function db_get_auth_id", auth_ids),
        ],
    );
}

fn database() {
    let script = format!("{MODULE_LINES}route {{ {WWW} }}");
    let errors = TestNode::try_new(&script, MODULES).err().unwrap();
    assert!(errors.contains("auth_db needs a database"), "{errors}");
    let global = "db_default_url = \"sqlite:///tmp/y.db\"\n";
    assert_eq!(code_in(&mut node_on(global, PLAIN, WWW), "bob", "pw", "MD5"), "1");
}

fn codes() {
    assert_eq!(code(PLAIN, "bob", "pw", "MD5"), "1");
    assert_eq!(code(PLAIN, "bob@a.test", "pw", "SHA-256"), "1");
    assert_eq!(code(PLAIN, "bob", "wrong", "MD5"), "-2");
    assert_eq!(code(PLAIN, "eve", "pw", "MD5"), "-1");
    let mut node = node(PLAIN, WWW);
    assert_eq!(feed(&mut node, "").1, ["-4"]);
    let header = answer(&mut node, "Authorization", "bob", "pw", "MD5");
    assert_eq!(feed(&mut node, &header).1, ["1"]);
    let (sent, logs) = feed(&mut node, &header);
    assert_eq!(logs, ["-3"]);
    assert!(sent[0].contains(", stale=true"), "known across the wait: {sent:?}");
    let mut node = self::node(PLAIN, &WWW.replace("subscriber", "nosuchtable"));
    assert_eq!(code_in(&mut node, "bob", "pw", "MD5"), "-5");
}

fn proxy() {
    let route = WWW.replace("www_", "proxy_");
    let mut node = node(PLAIN, &route);
    let header = answer(&mut node, "Proxy-Authorization", "bob", "pw", "MD5");
    assert_eq!(feed(&mut node, &header).1, ["1"]);
    let header = answer(&mut node, "Authorization", "bob", "pw", "MD5");
    assert_eq!(feed(&mut node, &header).1, ["-4"]);
}

fn secrets() {
    // Hashes by algorithm, from their columns.
    for algorithm in ["MD5", "SHA-256", "SHA-512-256"] {
        assert_eq!(code("", "bob", "pw", algorithm), "1", "{algorithm}");
    }
    let sha256 = "modparam(\"auth_db\", \"hash_column_sha256\", \"ha1_sha512t256\")\n";
    assert_eq!(code(sha256, "bob", "pw", "SHA-256"), "-2");
    let sha512 = "modparam(\"auth_db\", \"hash_column_sha512t256\", \"ha1_sha256\")\n";
    assert_eq!(code(sha512, "bob", "pw", "SHA-512-256"), "-2");
    let plain_as_hash = "modparam(\"auth_db\", \"password_column\", \"password\")\n";
    assert_eq!(code(plain_as_hash, "bob", "pw", "MD5"), "-2");
    let hash_as_plain = "modparam(\"auth_db\", \"calculate_ha1\", 1)\n";
    assert_eq!(code(hash_as_plain, "bob", "pw", "MD5"), "-2");
    // A user without a hash cannot be impersonated with an empty one.
    assert_eq!(code("modparam(\"auth_db\", \"use_domain\", 0)\n", "ann", "", "MD5"), "-2");
}

fn user_columns() {
    let user = "modparam(\"auth_db\", \"user_column\", \"domain\")\n";
    assert_eq!(code(&format!("{PLAIN}{user}"), "bob", "pw", "MD5"), "-1");
    let domain = "modparam(\"auth_db\", \"domain_column\", \"username\")\n";
    assert_eq!(code(&format!("{PLAIN}{domain}"), "bob", "pw", "MD5"), "-1");
    let wrong = format!(
        "{MODULE_LINES}{URL}modparam(\"auth_db\", \"user_column\", \"a b\")\n\
         route {{ exit; }}"
    );
    assert!(TestNode::try_new(&wrong, MODULES).is_err());
}

fn domains() {
    assert_eq!(code(PLAIN, "ann", "x", "MD5"), "-1");
    let without = format!("{PLAIN}modparam(\"auth_db\", \"use_domain\", 0)\n");
    assert_eq!(code(&without, "ann", "x", "MD5"), "1");
}

fn loading() {
    let set = "modparam(\"auth_db\", \"load_credentials\", \"$avp(d)=domain;username\")\n";
    let logs = logs_after_login(set, "xlog(\"L_NOTICE\", \"$avp(d) $avp(username)\");");
    assert_eq!(logs, ["a.test bob"]);
}

fn versions() {
    let mut old = node(PLAIN, WWW);
    let set = vec![("table_version".into(), Value::Int(7))];
    let conds = vec![tandem_db::Cond::eq("table_name", "subscriber")];
    old.db.execute(&Query::Update { table: "version".into(), set, conds }).unwrap();
    let header = answer(&mut old, "Authorization", "bob", "pw", "MD5");
    let (_, logs) = feed(&mut old, &header);
    assert!(logs[0].contains("`subscriber` has version 7"), "{logs:?}");
    assert_eq!(logs[1], "1");
    let header = answer(&mut old, "Authorization", "bob", "pw", "MD5");
    assert_eq!(feed(&mut old, &header).1, ["1"], "said once");
    let skip = "modparam(\"auth_db\", \"skip_version_check\", 1)\n";
    let mut old = node(&format!("{PLAIN}{skip}"), WWW);
    let conds = vec![tandem_db::Cond::eq("table_name", "subscriber")];
    old.db.execute(&Query::Delete { table: "version".into(), conds }).unwrap();
    let header = answer(&mut old, "Authorization", "bob", "pw", "MD5");
    assert_eq!(feed(&mut old, &header).1, ["1"]);
}

fn existence() {
    let code = |uri: &str, params: &str| {
        let route = format!(
            "db_does_uri_exist(\"{uri}\", \"subscriber\"); \
             xlog(\"L_NOTICE\", \"$rc\");"
        );
        logs(params, &route).pop().unwrap()
    };
    assert_eq!(code("sip:bob@a.test", ""), "1");
    assert_eq!(code("sip:bob@b.test", ""), "-1");
    assert_eq!(code("sip:bob@b.test", "modparam(\"auth_db\", \"use_domain\", 0)\n"), "1");
    assert_eq!(code("sip:a.test", ""), "-1");
    assert_eq!(code("garbage", ""), "-1");
}

fn to_and_from() {
    let code = |call: &str| {
        logs_after_login("", &format!("{call}; xlog(\"L_NOTICE\", \"$rc\");")).pop().unwrap()
    };
    // Bob may use the user `sales` of From by the table; his own name needs none.
    assert_eq!(code("db_is_from_authorized(\"uri\")"), "1");
    assert_eq!(code("db_is_to_authorized(\"uri\")"), "-1");
    assert_eq!(code("db_is_to_authorized(\"\")"), "1");
    assert_eq!(code("db_is_from_authorized(\"\")"), "-1");
    let nobody = logs("", "db_is_to_authorized(\"\"); xlog(\"L_NOTICE\", \"$rc\");");
    assert!(nobody[0].contains("nobody has authenticated") && nobody[1] == "-1", "{nobody:?}");
}

fn auth_ids() {
    let found_in = |table: &str, uri: &str| {
        let route = format!(
            "db_get_auth_id(\"{table}\", \"{uri}\", $avp(id), $var(realm)); \
             xlog(\"L_NOTICE\", \"$rc $avp(id) $var(realm)\");"
        );
        logs("", &route).pop().unwrap()
    };
    let found = |uri: &str| found_in("uri", uri);
    assert_eq!(found_in("subscriber", "sip:bob@a.test"), "1 bob a.test");
    assert_eq!(found_in("subscriber", "sip:sales@a.test"), "-1 <null> <null>");
    assert_eq!(found("sip:sales@a.test"), "1 bob a.test");
    assert_eq!(found("sip:bob@a.test"), "-1 <null> <null>");
}

fn uri_columns() {
    let exists = |params: &str| {
        let route = "db_does_uri_exist(\"sip:bob@a.test\", \"subscriber\"); \
             xlog(\"L_NOTICE\", \"$rc\");";
        logs(params, route).pop().unwrap()
    };
    assert_eq!(exists(""), "1");
    assert_eq!(exists("modparam(\"auth_db\", \"uri_user_column\", \"password\")\n"), "-1");
    assert_eq!(exists("modparam(\"auth_db\", \"uri_domain_column\", \"username\")\n"), "-1");
    let id = "db_get_auth_id(\"uri\", \"sip:bob@a.test\", $avp(id), $avp(r)); \
         xlog(\"L_NOTICE\", \"$rc\");";
    let swapped = "modparam(\"auth_db\", \"uri_uriuser_column\", \"username\")\n";
    assert_eq!(logs(swapped, id).pop().unwrap(), "1");
}
