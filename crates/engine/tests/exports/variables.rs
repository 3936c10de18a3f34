//! Variables of the core.

use tandem_engine::testing::Check;

use super::{PHONE, REQUEST, is, node, said, target};

pub(super) const CHECKS: &[Check] = &[
    ("variable avp", || target("$avp(a) = 1; $avp(a) = 2;", "$(avp(a)[*])", "2, 1")),
    ("variable hdr", || is("$hdr(User-Agent)", "ua/1")),
    ("variable hdrcnt", || is("$hdrcnt(Via)", "1")),
    ("variable ci", || is("$ci", "c1")),
    ("variable cs", || is("$cs", "7")),
    ("variable ct", || {
        is("$ct", "<sip:al@127.0.0.9>");
        let contacts = "Al <sip:a@x>;q=0.5, \"B, C\" <sip:b@y>;expires=9;methods=\"A\"";
        let all = with(&format!("Contact: {contacts}"), "$(ct[1])|$(ct[-2])|$(ct[*])");
        assert_eq!(all, format!("{}|{}|{contacts}", &contacts[20..], &contacts[..18]));
    }),
    ("variable ct.fields", || {
        let header = "Contact: Al <sip:a@x>;q=0.5, <sip:b@y>;expires=9;methods=\"A\"";
        let text = "$ct.fields(name) $ct.fields(uri) $(ct.fields(q)[0]) $(ct.fields(uri)[1]) \
             $(ct.fields(expires)[1]) $(ct.fields(methods)[1]) $(ct.fields(params)[1]) \
             $ct.fields(received)";
        let expected = "Al sip:a@x 0.5 sip:b@y 9 A expires=9;methods=\"A\" <null>";
        assert_eq!(with(header, text), expected);
    }),
    ("variable cl", || is("$cl", "2")),
    ("variable cT", || {
        is("$cT $(cT[0])", "text/plain text/plain");
        assert_eq!(parts("$(cT[1]) $(cT[*])"), "text/b text/a, text/b");
    }),
    ("variable rb", || {
        is("$rb", "hi");
        assert_eq!(parts("$(rb[1]) $(rb[-2]) $rb(text/b) $rb(text/c)"), "two one two <null>");
    }),
    ("variable mb", || assert!(said("", "$mb").starts_with("MESSAGE sip:bob@"))),
    ("variable ml", || assert!(said("", "$ml").parse::<usize>().is_ok_and(|n| n > 200))),
    ("variable mf", || target("setflag(\"F\"); setflag(\"G\"); resetflag(\"F\");", "$mf", "G")),
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
    ("variable ru_q", || {
        target("$ru_q = 700;", "$ru_q", "700");
        target("$ru_q = \"0.7\";", "$ru_q $ds", "700 <sip:bob@example.org:5070;x=1>;q=0.7");
        target("$ru_q = 700; $ru_q = \"1.1\";", "$rc $ru_q", "-1 700");
        target("$ru_q = 700; $ru_q = NULL;", "$ru_q", "<null>");
    }),
    ("variable du", || target("$du = \"sip:d:9\";", "$du", "sip:d:9")),
    ("variable dd", || target("$du = \"sip:d:9\";", "$dd", "d")),
    ("variable bf", || target("setbflag(\"F\"); setbflag(\"G\");", "$bf", "F G")),
    ("variable socket_in", || {
        is("$socket_in $socket_in(af) $socket_in(anycast)", "udp:127.0.0.1:5060 INET 0");
        is("$socket_in(ip) $socket_in(port) $socket_in(proto)", "127.0.0.1 5060 udp");
        is("$socket_in(tag)", "lan");
    }),
    ("variable hdr_name", || is("$hdr_name $(hdr_name[1]) $(hdr_name[-1])", NAMES)),
    ("variable path", || {
        assert_eq!(with("Path: <sip:a;lr>, <sip:b;lr>", "$path"), "<sip:a;lr>, <sip:b;lr>");
    }),
    ("variable mi", || {
        let mut node = node("", "xlog(\"L_NOTICE\", \"$mi\");");
        node.udp(PHONE, REQUEST);
        node.udp(PHONE, REQUEST);
        assert_eq!(node.logs().into_iter().map(|l| l.1).collect::<Vec<_>>(), ["1", "2"]);
    }),
    ("variable ouri", || target("seturi(\"sip:z@z\");", "$ouri", "sip:bob@example.org:5070;x=1")),
    ("variable op", || target("seturi(\"sip:z@z\");", "$op", "5070")),
    ("variable oP", || is("$oP", "udp")),
    ("variable msg.flag", || {
        let set = "setflag(\"F\"); resetflag(\"F\"); $msg.flag(F) = 1;";
        target(set, "$msg.flag(F) $mf", "1 F");
        target(&format!("{set} $msg.flag(F) = 0;"), "$msg.flag(F)", "0");
        // A name that no function mentions is a flag all the same.
        target("$msg.flag(G) = 1;", "$msg.flag(G)$msg.flag(H)", "10");
    }),
    ("variable msg.is_request", || is("$msg.is_request", "1")),
    ("variable msg.type", || is("$msg.type", "request")),
    ("variable from", || is("$from", "sip:al@a.org")),
    ("variable from.user", || is("$from.user", "al")),
    ("variable from.domain", || is("$from.domain", "a.org")),
    ("variable to", || is("$to", "sip:bo@b.org")),
    ("variable to.user", || is("$to.user", "bo")),
    ("variable to.domain", || is("$to.domain", "b.org")),
    ("variable ai", || {
        assert_eq!(with("P-Asserted-Identity: \"A\" <sip:a@x>", "$ai"), "sip:a@x");
    }),
    ("variable pu", preferred),
    ("variable pU", preferred),
    ("variable pd", preferred),
    ("variable pn", preferred),
    ("variable re", || {
        assert_eq!(with("Remote-Party-ID: <sip:r@x>;party=calling", "$re"), "sip:r@x");
    }),
    ("variable rt", || assert_eq!(with("Refer-To: <sip:t@x>", "$rt"), "sip:t@x")),
    ("variable di", diversion),
    ("variable dir", diversion),
    ("variable dip", diversion),
    ("variable ruri", || target("$ruri = \"sip:n@n\";", "$ru $ruri", "sip:n@n sip:n@n")),
    ("variable ruri.user", || target("$ruri.user = \"n\";", "$rU $ruri.user", "n n")),
    ("variable ruri.domain", || target("$ruri.domain = \"n\";", "$rd $ruri.domain", "n n")),
    ("variable rP", || target("$ru = \"sip:a@b;transport=TCP\";", "$rP", "tcp")),
    ("variable duri", || target("$duri = \"sip:d:9\";", "$du $duri", "sip:d:9 sip:d:9")),
    ("variable dp", || {
        target("$du = \"sip:d\";", "$dp", "5060");
        target("$du = \"sip:d\"; $dp = 9; $dd = \"e\";", "$du", "sip:e:9");
    }),
    ("variable dP", || target("$du = \"sips:d\";", "$dP", "tls")),
    ("variable ds", || {
        let add = "$ru_q = 500; append_msg_branch(\"sip:c@c\");";
        target(add, "$ds", "<sip:bob@example.org:5070;x=1>;q=0.5, <sip:c@c>");
    }),
    ("variable branch", || {
        target("$branch = \"sip:c@c\";", "$branch $branch(uri)", "sip:c@c sip:c@c");
        let set = "$branch = \"sip:c@c\"; $(branch(duri)[0]) = \"sip:d\"; $branch(q) = 300;";
        target(set, "$(msg.branch.duri[1]) $(branch(q)[-1])", "sip:d 300");
        target(&format!("{set} $branch(q) = \"0.25\";"), "$branch(q)", "250");
        let flags = "setbflag(\"F\"); $branch = \"sip:c@c\"; $branch(flags) = \"F\";";
        target(&format!("{flags} $branch(flags) = \"Z\";"), "$rc $branch(flags)", "-1 F");
        target(&format!("{set} $branch(attrs) = \"x\";"), "$branch(attrs)", "x");
    }),
    ("variable branch.flag", || {
        target("setbflag(\"F\");", "$branch.flag(F) $(branch.flag(F)[0])", "1 1");
        let set = "$branch = \"sip:c@c\"; $(branch.flag(F)[1]) = 1;";
        target(set, "$branch.flag(F) $(branch.flag(F)[1]) $(msg.branch.flags[1])", "0 1 F");
    }),
    ("variable msg.branch", || target("$msg.branch = \"sip:c@c\";", "$msg.branch", "sip:c@c")),
    ("variable msg.branch.uri", || {
        let set = "$msg.branch = \"sip:c@c\"; $(msg.branch.uri[1]) = \"sip:e@e\";";
        target(set, "$(msg.branch.uri[*])", "sip:bob@example.org:5070;x=1, sip:e@e");
    }),
    ("variable msg.branch.duri", || field("duri", "\"sip:d\"", "sip:d")),
    ("variable msg.branch.path", || field("path", "\"<sip:p;lr>\"", "<sip:p;lr>")),
    ("variable msg.branch.q", || field("q", "250", "250")),
    ("variable msg.branch.flags", || {
        target("setbflag(\"F\"); $msg.branch.flags = NULL;", "-$bf-", "--");
        target("setbflag(\"F\", 0); $msg.branch.flags = \"F\";", "$bf", "F");
    }),
    ("variable msg.branch.socket", || {
        field("socket", "\"udp:127.0.0.1:5060\"", "udp:127.0.0.1:5060");
    }),
    ("variable msg.branch.flag", || {
        target("setbflag(\"F\"); $msg.branch.flag(F) = 0;", "$msg.branch.flag(F)", "0");
    }),
    ("variable msg.branch.attr", || {
        target(
            "$msg.branch.attr(k) = \"v\";",
            "$msg.branch.attr(k) $msg.branch.attr(l)",
            "v <null>",
        );
    }),
    ("variable msg.branch.last_idx", || {
        target("$msg.branch = \"sip:c@c\";", "$msg.branch.last_idx", "1");
    }),
    ("variable src_ip", || is("$src_ip", "127.0.0.9")),
    ("variable socket_out", || {
        is("$socket_out", "<null>");
        let set = "$socket_out = \"udp:127.0.0.1:5060\";";
        target(set, "$socket_out(port) $socket_out(forced)", "5060 udp:127.0.0.1:5060");
    }),
    ("variable Tsm", || is("$Tsm", "0")),
    ("variable Tf", || is("$Tf", "Fri Jan 15 08:00:00 2027")),
    ("variable TS", || {
        let mut node = node("", "xlog(\"L_NOTICE\", \"$TS $Ts\");");
        node.advance_ms(5_000);
        node.udp(PHONE, REQUEST);
        assert_eq!(node.logs().pop().unwrap().1, "1800000000 1800000005");
    }),
    ("variable time", || is("$time(%F %H:%M)", "2027-01-15 08:00")),
    ("variable pp", || {
        let mut node = node("", "xlog(\"L_NOTICE\", \"$pp\");");
        node.node().set_pid(77);
        node.udp(PHONE, REQUEST);
        assert_eq!(node.logs().pop().unwrap().1, "77");
    }),
    ("variable log_level", || {
        target("$log_level = 4; $log_level = -1;", "$log_level", "-1");
        target("$log_level = 4; $log_level = NULL;", "$log_level", "2");
    }),
    ("variable xlog_level", || {
        let route = "$xlog_level = 4; xlog(\"L_DBG\", \"seen $xlog_level\"); $xlog_level = NULL; \
             xlog(\"L_DBG\", \"not seen\");";
        let mut node = node("", route);
        node.udp(PHONE, REQUEST);
        let lines: Vec<String> = node.logs().into_iter().map(|l| l.1).collect();
        assert_eq!(lines, ["seen 4"]);
    }),
    ("variable C", || is("-$C(gx)-", "--")),
    ("variable err.class", bad_requests_reach_the_error_route),
    ("variable err.level", bad_requests_reach_the_error_route),
    ("variable err.rcode", bad_requests_reach_the_error_route),
    ("variable err.rreason", bad_requests_reach_the_error_route),
    ("variable err.info", bad_requests_reach_the_error_route),
];

fn bad_requests_reach_the_error_route() {
    let values = "$err.class|$err.level|$err.rcode|$err.rreason|$err.info";
    let line_of = format!("xlog(\"L_NOTICE\", \"{values}\");");
    let mut unread = node("", &format!("exit; }}\nerror_route {{ {line_of}"));
    unread.udp(PHONE, &REQUEST.replace("Call-ID: c1\n", ""));
    let line = unread.logs().pop().unwrap().1;
    assert_eq!(line, "1|3|400|Missing Call-ID header|Missing Call-ID header");
    let body = format!("assert($rU == \"zz\", \"no\"); }}\nerror_route {{ {line_of}");
    let mut node = node("enable_asserts = yes", &body);
    node.udp(PHONE, REQUEST);
    let line = node.logs().pop().unwrap().1;
    assert_eq!(line, "2|1|500|Server Internal Error|Server Internal Error");
}

const NAMES: &str = "Via From Content-Length";

/// What a text looks like for a request with one header more.
fn with(header: &str, text: &str) -> String {
    let mut node = node("", &format!("xlog(\"L_NOTICE\", \"{text}\");"));
    let request = REQUEST.replace("Contact: <sip:al@127.0.0.9>\n", "");
    node.udp(PHONE, &request.replace("User-Agent:", &format!("{header}\nUser-Agent:")));
    node.logs().pop().unwrap().1
}

/// What a text looks like for a request whose body has two parts.
fn parts(text: &str) -> String {
    let mut node = node("", &format!("xlog(\"L_NOTICE\", \"{text}\");"));
    let body = "--x\r\nContent-Type: text/a\r\n\r\none\r\n--x\r\nContent-Type: text/b\r\n\r\n\
                two\r\n--x--\r\n";
    let request = REQUEST
        .replace("text/plain", "multipart/mixed;boundary=x")
        .replace("Content-Length: 2\n\nhi", &format!("Content-Length: {}\n\n{body}", body.len()));
    node.udp(PHONE, &request);
    node.logs().pop().unwrap().1
}

/// Writes a field of the R-URI branch and reads it back.
fn field(name: &str, value: &str, expected: &str) {
    let set = format!("$msg.branch.{name} = {value};");
    target(
        &set,
        &format!("$msg.branch.{name} $(msg.branch.{name}[0])"),
        &format!("{expected} {expected}"),
    );
}

fn preferred() {
    let text = with("P-Preferred-Identity: \"P\" <sip:p@x>", "$pu $pU $pd $pn");
    assert_eq!(text, "sip:p@x p x \"P\"");
}

fn diversion() {
    let header = "Diversion: <sip:d@x>;reason=user-busy;privacy=\"full\"";
    assert_eq!(with(header, "$di $dir $dip"), "sip:d@x user-busy full");
}

#[test]
fn older_names_of_variables_are_notes() {
    is("$pr $proto $Ri $Rp $af", "udp udp 127.0.0.1 5060 INET");
    is("$rT", "route");
}
