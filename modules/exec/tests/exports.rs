//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use tandem_engine::catalogue::Modules;
use tandem_engine::effect::{Command, Ended};
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_sl::MODULE,
    &tandem_tm::MODULE,
    &tandem_exec::MODULE,
];
const MODULE_LINES: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
     loadmodule \"sl.so\"\nloadmodule \"tm.so\"\nloadmodule \"exec.so\"\n";
const REQUEST: &str = "OPTIONS sip:u@uri.test SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKx\n\
     From: <sip:f@from.test>;tag=f\nTo: <sip:a@to.test>\nCall-ID: c\nCSeq: 1 OPTIONS\n\
     X-One: 1\nX-One: 2\nContent-Length: 0\n\n";

/// A node whose commands end as `ends` says.
fn node(params: &str, route: &str, ends: fn(&Command) -> Result<Ended, String>) -> TestNode {
    let mut node = TestNode::new(&format!("{MODULE_LINES}{params}route {{ {route} }}"), MODULES);
    node.programs = Some(ends);
    node
}

/// A shell that knows three commands.
fn shell(program: &Command) -> Result<Ended, String> {
    let get = |name: &str| {
        let found = program.env.iter().find(|(n, _)| n == name);
        found.map_or("-".to_owned(), |(_, value)| value.clone())
    };
    let (status, stdout) = match program.command.as_str() {
        "cat" => (0, String::from_utf8_lossy(&program.stdin).into_owned()),
        "false" => (1, String::new()),
        "none" => return Err("there is no such shell".into()),
        "after" => (0, format!("{:?}", program.ends_after_s)),
        "wants" => (i32::from(program.wants != [false, true]), String::new()),
        name => (0, name.split(' ').map(get).collect::<Vec<_>>().join(" ")),
    };
    Ok(Ended { status, stdout: stdout.into(), stderr: "err".into() })
}

/// The return code of a call with `$var(o)` and `$var(e)`.
fn asked(params: &str, call: &str) -> String {
    let route = format!("{call}; xlog(\"L_NOTICE\", \"$rc $var(o) $var(e)\");");
    let mut node = node(params, &route, shell);
    node.udp("127.0.0.9:5060", REQUEST);
    node.logs().pop().unwrap().1
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_exec::MODULE,
        &[
            ("param time_to_kill", time_to_kill),
            ("param setvars", setvars),
            ("function exec", exec),
        ],
    );
}

fn exec() {
    assert_eq!(asked("", "exec(\"cat\", \"in $rU\", $var(o), $var(e))"), "1 in u err");
    assert_eq!(asked("", "exec(\"false\", , $var(o))"), "-1  <null>");
    assert_eq!(asked("", "exec(\"none\", , $var(o))"), "-1 <null> <null>");
    assert_eq!(asked("", "exec(\"wants\", , , $var(e))"), "1 <null> err");
    let env = "$avp(env) = \"A=1=2\"; $avp(env) = \"B=x\"; exec(\"A B\", , $var(o), , $avp(env))";
    assert_eq!(asked("", env), "1 1=2 x <null>");
    let wrong = "$avp(env) = \"A\"; exec(\"A\", , $var(o), , $avp(env))";
    assert_eq!(asked("", wrong), "-1 <null> <null>");
    let asynchronous = "async(exec(\"cat\", \"x\", $avp(o)), done); } route[done] { \
        xlog(\"L_NOTICE\", \"$rc $avp(o)\");";
    let mut node = node("", asynchronous, shell);
    node.udp("127.0.0.9:5060", REQUEST);
    assert_eq!(node.logs().pop().unwrap().1, "1 x");
    // Of its $var the route behind sees what the command has written, and nothing else.
    for (begin, wanted) in [
        ("async(exec(\"cat\", \"x\", $var(o)), done)", "1 x <null> <null>"),
        ("$var(n) = \"o\"; async(exec(\"cat\", \"x\", $var($var(n))), done)", "1 x <null> <null>"),
        ("launch(exec(\"cat\", \"x\", $var(o)), done, \"p\")", "1 x <null> p"),
        ("launch(exec(\"false\", , $var(o)), done)", "-1  <null> <null>"),
    ] {
        let route = format!(
            "$var(kept) = 1; {begin}; }} route[done] {{ \
             xlog(\"L_NOTICE\", \"$rc $var(o) $var(kept) $param(1)\");"
        );
        let mut node = self::node("", &route, shell);
        node.udp("127.0.0.9:5060", REQUEST);
        assert_eq!(node.logs().pop().unwrap().1, wanted, "{begin}");
    }
    let script = format!("{MODULE_LINES}route {{ exit; }} branch_route[b] {{ exec(\"x\"); }}");
    assert!(TestNode::try_new(&script, MODULES).is_err());
}

fn time_to_kill() {
    assert_eq!(asked("", "exec(\"after\", , $var(o))"), "1 None <null>");
    let params = "modparam(\"exec\", \"time_to_kill\", 5)\n";
    assert_eq!(asked(params, "exec(\"after\", , $var(o))"), "1 Some(5) <null>");
}

fn setvars() {
    let call = "exec(\"SIP_SRCIP SIP_RURI SIP_OUSER SIP_METHOD SIP_HF_X_ONE\", , $var(o))";
    assert_eq!(asked("", call), "1 - - - - - <null>");
    let params = "modparam(\"exec\", \"setvars\", 1)\n";
    let wanted = "1 127.0.0.9 sip:u@uri.test u OPTIONS 1, 2 <null>";
    assert_eq!(asked(params, call), wanted);
}
