//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use tandem_engine::catalogue::Modules;
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_sl::MODULE,
    &tandem_tm::MODULE,
    &tandem_rr::MODULE,
    &tandem_uac_auth::MODULE,
    &tandem_uac::MODULE,
];
const MODULE_LINES: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
     loadmodule \"sl.so\"\nloadmodule \"tm.so\"\nloadmodule \"rr.so\"\nloadmodule \"uac_auth.so\"\n\
     loadmodule \"uac.so\"\n";
const AVPS: &str = "modparam(\"uac_auth\", \"auth_username_avp\", \"$avp(u)\")\n\
    modparam(\"uac_auth\", \"auth_realm_avp\", \"$avp(r)\")\n\
    modparam(\"uac_auth\", \"auth_password_avp\", \"$avp(p)\")\n";
const INVITE: &str = "INVITE sip:b@127.0.0.2 SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKa\n\
    From: <sip:a@a>;tag=f\nTo: <sip:b@b>\nCall-ID: c\nCSeq: 7 INVITE\nContent-Length: 0\n\n";

fn set(credential: &str) -> String {
    format!("modparam(\"uac_auth\", \"credential\", \"{credential}\")\n")
}

/// User name and response of the answer to a challenge of the realm r.test; empty if there was
/// none.
fn answered(params: &str, before: &str) -> (String, String) {
    let script = format!(
        "{MODULE_LINES}{params}route {{ {before} t_on_failure(\"f\"); t_relay(); }} \
         failure_route[f] {{ if (uac_auth()) t_relay(); }}"
    );
    let mut node = TestNode::new(&script, MODULES);
    node.udp("127.0.0.9:5060", INVITE);
    let sent = node.sent().into_iter().find(|(_, text)| text.starts_with("INVITE")).unwrap().1;
    let via = sent.lines().find(|line| line.starts_with("Via")).unwrap();
    node.udp(
        "127.0.0.2:5060",
        &format!(
            "SIP/2.0 401 x\n{via}\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKa\n\
             From: <sip:a@a>;tag=f\nTo: <sip:b@b>;tag=t\nCall-ID: c\nCSeq: 7 INVITE\n\
             WWW-Authenticate: Digest realm=\"r.test\", nonce=\"n\"\nContent-Length: 0\n\n"
        ),
    );
    let again = node.sent().into_iter().map(|(_, text)| text);
    let line = again.flat_map(|t| t.lines().map(str::to_owned).collect::<Vec<_>>());
    let line = line.into_iter().find(|line| line.starts_with("Authorization")).unwrap_or_default();
    let value = |name: &str| {
        let rest = line.split(&format!("{name}=\"")).nth(1).unwrap_or("");
        rest.split('"').next().unwrap_or("").to_owned()
    };
    (value("username"), value("response"))
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_uac_auth::MODULE,
        &[
            ("param credential", credential),
            ("param auth_username_avp", avps),
            ("param auth_realm_avp", avps),
            ("param auth_password_avp", avps),
        ],
    );
}

fn credential() {
    assert_eq!(answered("", "").0, "");
    let both = format!("{}{}", set("one:other.test:x"), set("me:r.test:secret"));
    let (user, response) = answered(&both, "");
    assert_eq!(user, "me");
    let ha1 = tandem_sip::Algorithm::Md5.ha1(b"me", b"r.test", b"secret");
    let ha1 = String::from_utf8_lossy(ha1.as_bytes()).into_owned();
    assert_eq!(answered(&set(&format!("me:r.test:0x{ha1}")), ""), ("me".into(), response.clone()));
    assert_ne!(answered(&set("me:r.test:other"), "").1, response);
    let wrong = format!("{MODULE_LINES}{}route {{ exit; }}", set("me"));
    assert!(TestNode::try_new(&wrong, MODULES).is_err());
}

fn avps() {
    let params = format!("{}{AVPS}", set("me:r.test:secret"));
    let own = "$avp(u) = \"own\"; $avp(r) = \"r.test\"; $avp(p) = \"pw\";";
    let (user, response) = answered(&params, own);
    assert_eq!(user, "own");
    assert_ne!(answered(&params, &own.replace("pw", "qw")).1, response);
    assert_eq!(answered(&params, &own.replace("r.test", "x.test")).0, "me");
    assert_eq!(answered(&params, "$avp(u) = \"own\";").0, "me");
    let alone = "modparam(\"uac_auth\", \"auth_username_avp\", \"$avp(u)\")\n";
    let script = format!("{MODULE_LINES}{alone}route {{ exit; }}");
    assert!(TestNode::try_new(&script, MODULES).err().unwrap().contains("go together"));
    let script = format!("{MODULE_LINES}{}route {{ exit; }}", AVPS.replace("$avp(u)", "u"));
    assert!(TestNode::try_new(&script, MODULES).is_err());
}
