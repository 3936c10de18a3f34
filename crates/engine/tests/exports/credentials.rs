//! Variables of digest credentials.

use tandem_engine::testing::Check;

use super::{PHONE, REQUEST, node};

const HEADER: &str = "Proxy-Authorization: Digest username=\"bob@a.test\", realm=\"a.test\", \
    nonce=\"n1\", uri=\"sip:x\", response=\"r1\", algorithm=MD5, cnonce=\"c1\", opaque=\"o1\", \
    qop=auth, nc=00000001\n";

pub(super) const CHECKS: &[Check] = &[
    ("variable au", || is("$au", "bob")),
    ("variable aU", || is("$aU", "bob@a.test")),
    ("variable ad", || is("$ad", "a.test")),
    ("variable ar", || is("$ar", "a.test")),
    ("variable adu", || is("$adu", "sip:x")),
    ("variable an", || is("$an", "n1")),
    ("variable auth.nonce", || is("$auth.nonce", "n1")),
    ("variable auth.resp", || is("$auth.resp", "r1")),
    ("variable auth.cnonce", || is("$auth.cnonce", "c1")),
    ("variable auth.opaque", || is("$auth.opaque", "o1")),
    ("variable auth.alg", || is("$auth.alg", "MD5")),
    ("variable auth.qop", || is("$auth.qop", "auth")),
    ("variable Au", || either("$Au", "bob", "al")),
    ("variable challenge.realm", || challenge("$challenge.realm", "r.test")),
    ("variable challenge.nonce", || challenge("$challenge.nonce", "n2")),
    ("variable challenge.opaque", || challenge("$challenge.opaque", "o2")),
    ("variable challenge.qop", || challenge("$challenge.qop", "auth,auth-int")),
    ("variable challenge.algorithm", || challenge("$challenge.algorithm", "SHA-256")),
    ("variable challenge.ik", || challenge("$challenge.ik", "0a1b")),
    ("variable challenge.ck", || challenge("$challenge.ck", "2c3d")),
    ("variable auth.nc", || is("$auth.nc", "00000001")),
];

/// With credentials the variable has this value, without any it is null.
fn is(variable: &str, expected: &str) {
    either(variable, expected, "<null>");
}

/// With credentials the variable has one value, without any another.
fn either(variable: &str, with: &str, without: &str) {
    let mut node = node("", &format!("xlog(\"L_NOTICE\", \"{variable}\");"));
    node.udp(PHONE, &REQUEST.replace("User-Agent:", &format!("{HEADER}User-Agent:")));
    node.udp(PHONE, REQUEST);
    let lines: Vec<_> = node.logs().into_iter().map(|(_, line)| line).collect();
    assert_eq!(lines, [with, without], "{variable}");
}

/// What a reply that asks for credentials says; null in one that does not.
fn challenge(variable: &str, expected: &str) {
    let routes = format!("exit; }}\nonreply_route {{ xlog(\"L_NOTICE\", \"{variable}\");");
    let mut node = node("", &routes);
    let reply = |line: &str| {
        format!(
            "SIP/2.0 401 No\nVia: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKx\nFrom: <sip:a@a>;tag=f\n\
             To: <sip:b@b>;tag=t\nCall-ID: c\nCSeq: 1 INVITE\n{line}Content-Length: 0\n\n"
        )
    };
    let asks = "WWW-Authenticate: Digest realm=\"r.test\", nonce=\"n2\", opaque=\"o2\", \
        qop=\"auth,auth-int\", algorithm=SHA-256, ik=\"0a1b\", CK = 2c3d\n";
    node.udp(PHONE, &reply(asks));
    node.udp(PHONE, &reply(""));
    let lines: Vec<_> = node.logs().into_iter().map(|(_, line)| line).collect();
    assert_eq!(lines, [expected, "<null>"], "{variable}");
}
