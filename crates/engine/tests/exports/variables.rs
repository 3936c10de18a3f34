//! Variables of the core.

use tandem_engine::testing::Check;

use super::{PHONE, REQUEST, is, node, said, target};

pub(super) const CHECKS: &[Check] = &[
    ("variable avp", || target("$avp(a) = 1; $avp(a) = 2;", "$(avp(a)[*])", "2, 1")),
    ("variable hdr", || is("$hdr(User-Agent)", "ua/1")),
    ("variable hdrcnt", || is("$hdrcnt(Via)", "1")),
    ("variable ci", || is("$ci", "c1")),
    ("variable cs", || is("$cs", "7")),
    ("variable ct", || is("$ct", "<sip:al@127.0.0.9>")),
    ("variable cl", || is("$cl", "2")),
    ("variable cT", || is("$cT", "text/plain")),
    ("variable rb", || is("$rb", "hi")),
    ("variable mb", || assert!(said("", "$mb").starts_with("MESSAGE sip:bob@"))),
    ("variable ml", || assert!(said("", "$ml").parse::<usize>().is_ok_and(|n| n > 200))),
    ("variable mf", || target("setflag(\"F\");", "$mf", "1")),
    ("variable ua", || is("$ua", "ua/1")),
    ("variable rm", || is("$rm", "MESSAGE")),
    ("variable rs", || is("$rs", "<null>")),
    ("variable rr", || is("$rr", "<null>")),
    ("variable fu", || is("$fu", "sip:al@a.org")),
    ("variable fU", || is("$fU", "al")),
    ("variable fd", || is("$fd", "a.org")),
    ("variable fn", || assert!(said("", "$fn").contains("Al"))),
    ("variable ft", || is("$ft", "f")),
    ("variable tu", || is("$tu", "sip:bo@b.org")),
    ("variable tU", || is("$tU", "bo")),
    ("variable td", || is("$td", "b.org")),
    ("variable tn", || is("$tn", "Bo")),
    ("variable tt", || is("$tt", "t")),
    ("variable si", || is("$si", "127.0.0.9")),
    ("variable sp", || is("$sp", "5062")),
    ("variable Ts", || is("$Ts", "1800000000")),
    ("variable ou", || target("seturi(\"sip:z@z\");", "$ou", "sip:bob@example.org:5070;x=1")),
    ("variable oU", || target("seturi(\"sip:z@z\");", "$oU", "bob")),
    ("variable od", || target("seturi(\"sip:z@z\");", "$od", "example.org")),
    ("variable ru", || target("$ru = \"sip:n@n\";", "$ru", "sip:n@n")),
    ("variable rU", || target("$rU = \"n\";", "$ru", "sip:n@example.org:5070;x=1")),
    ("variable rd", || target("$rd = \"n\";", "$ru", "sip:bob@n:5070;x=1")),
    ("variable rp", || target("$rp = NULL;", "$ru $rp", "sip:bob@example.org;x=1 5060")),
    ("variable ru_q", || target("$ru_q = 700;", "$ru_q", "700")),
    ("variable du", || target("$du = \"sip:d:9\";", "$du", "sip:d:9")),
    ("variable dd", || target("$du = \"sip:d:9\";", "$dd", "d")),
    ("variable bf", || target("setbflag(\"F\");", "$bf", "1")),
    ("variable socket_in", || {
        is("$socket_in(ip) $socket_in(port) $socket_in(proto)", "127.0.0.1 5060 udp");
        is("$socket_in(tag)", "lan");
    }),
    ("variable err.rcode", bad_requests_reach_the_error_route),
    ("variable err.rreason", bad_requests_reach_the_error_route),
    ("variable err.info", bad_requests_reach_the_error_route),
];

fn bad_requests_reach_the_error_route() {
    let line = "xlog(\"L_NOTICE\", \"$err.rcode|$err.rreason|$err.info\");";
    let mut node = node("", &format!("exit; }}\nerror_route {{ {line}"));
    node.udp(PHONE, &REQUEST.replace("Call-ID: c1\n", ""));
    let line = node.logs().pop().unwrap().1;
    assert_eq!(line, "400|Missing Call-ID header|Missing Call-ID header");
}
