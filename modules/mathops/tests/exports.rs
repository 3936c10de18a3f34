//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use tandem_engine::catalogue::Modules;
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_sl::MODULE,
    &tandem_mathops::MODULE,
];
const MODULE_LINES: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
     loadmodule \"sl.so\"\nloadmodule \"mathops.so\"\n";
const REQUEST: &str = "OPTIONS sip:u@uri.test SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKx\n\
     From: <sip:f@from.test>;tag=f\nTo: <sip:a@to.test>\nCall-ID: c\nCSeq: 1 OPTIONS\n\
     Content-Length: 0\n\n";

/// The return code of a call and `$avp(x)`.
fn with(params: &str, call: &str) -> String {
    let route = format!("{call}; xlog(\"L_NOTICE\", \"$rc $avp(x)\");");
    let mut node = TestNode::new(&format!("{MODULE_LINES}{params}route {{ {route} }}"), MODULES);
    node.udp("127.0.0.9:5060", REQUEST);
    node.logs().pop().unwrap().1
}

fn asked(call: &str) -> String {
    with("", call)
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_mathops::MODULE,
        &[
            ("param decimal_digits", digits),
            ("function math_eval", eval),
            ("function math_rpn", rpn),
            ("function math_floor", whole),
            ("function math_ceil", whole),
            ("function math_trunc", whole),
            ("function math_round", round),
            ("function math_round_sf", figures),
            ("function math_compare", compare),
        ],
    );
}

fn digits() {
    let params = "modparam(\"mathops\", \"decimal_digits\", 2)\n";
    assert_eq!(with(params, "math_eval(\"2/3\", $avp(x))"), "1 0.67");
    let wrong = format!("{MODULE_LINES}{}route {{ exit; }}", params.replace('2', "-1"));
    assert!(TestNode::try_new(&wrong, MODULES).is_err());
}

fn eval() {
    assert_eq!(asked("$var(n) = 4; math_eval(\"1 + $var(n) / 2\", $avp(x))"), "1 3.000000");
    assert_eq!(asked("math_eval(\"1 / 0\", $avp(x))"), "-1 <null>");
    assert_eq!(asked("math_eval(\"1 +\", $avp(x))"), "-1 <null>");
}

fn rpn() {
    assert_eq!(asked("math_rpn(\"1 4 2 / +\", $avp(x))"), "1 3.000000");
    assert_eq!(asked("math_rpn(\"1 +\", $avp(x))"), "-1 <null>");
}

fn whole() {
    assert_eq!(asked("math_floor(\"-2.5\", $avp(x))"), "1 -3");
    assert_eq!(asked("math_ceil(\"-2.5\", $avp(x))"), "1 -2");
    assert_eq!(asked("math_trunc(\"2.9\", $avp(x))"), "1 2");
    assert_eq!(asked("math_trunc(\"5000000000.9\", $avp(x))"), "1 5000000000");
    assert_eq!(asked("math_floor(\"two\", $avp(x))"), "-1 <null>");
}

fn round() {
    assert_eq!(asked("math_round(\"2.5\", $avp(x))"), "1 3");
    assert_eq!(asked("math_round(\"-2.5\", $avp(x))"), "1 -3");
    assert_eq!(asked("math_round(\"17.8665\", $avp(x), 2)"), "1 17.87");
    assert_eq!(asked("math_round(\"1\", $avp(x), 99)"), "-1 <null>");
}

fn figures() {
    assert_eq!(asked("math_round_sf(\"18565\", $avp(x), 2)"), "1 19000");
    assert_eq!(asked("math_round_sf(\"0.0012345\", $avp(x))"), "1 0.001235");
    assert_eq!(asked("math_round_sf(\"0\", $avp(x), 3)"), "1 0");
    assert_eq!(asked("math_round_sf(\"1\", $avp(x), 0)"), "-1 <null>");
}

fn compare() {
    assert_eq!(asked("math_compare(\"1.5\", \"1.50\", $avp(x))"), "1 0");
    assert_eq!(asked("math_compare(\"1\", \"2\", $avp(x))"), "1 -1");
    assert_eq!(asked("math_compare(\"10\", \"9\", $avp(x))"), "1 1");
    assert_eq!(asked("math_compare(\"x\", \"9\", $avp(x))"), "-1 <null>");
}
