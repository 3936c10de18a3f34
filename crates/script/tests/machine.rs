//! The language at work: one test per rule of precedence, comparison, arithmetic and flow.

use crate::common;

use common::{World, lines, program, run};
use proptest::prelude::*;
use tandem_script::sig::Routes;
use tandem_script::value::Value;
use tandem_script::vm::{self, End, RunState, Step};

/// What `xlog` shows of `$var(r)` after the statements.
fn value(body: &str) -> String {
    let all = lines(&format!("{body}\nxlog(\"L_INFO\", \"$var(r)\");"));
    all.last().expect("a line").trim_start_matches("[3] ").to_owned()
}

fn truth(cond: &str) -> bool {
    let setup = "$var(int10) = 10; $var(t10) = \"10\"; $var(abc) = \"ABC\"; $var(zero) = 0; \
                 $var(empty) = \"\"; $var(t0) = \"0\"; $var(neg) = -1; $var(ip) = \"10.1.2.3\";";
    value(&format!("{setup} if ({cond}) $var(r) = 1; else $var(r) = 0;")) == "1"
}

#[test]
fn precedence_is_three_flat_levels_from_left_to_right() {
    assert!(!truth("1 || 0 && 0"));
    assert!(truth("0 && 0 || 1"));
    assert_eq!(value("$var(r) = 10-2*3;"), "24");
    assert_eq!(value("$var(r) = 2*3+4*5;"), "50");
    assert_eq!(value("$var(r) = 1|2&1;"), "1");
    assert_eq!(value("$var(r) = 1|1+1;"), "3");
    assert_eq!(value("$var(r) = 1<<2+1;"), "8");
    assert_eq!(value("$var(r) = ~0 + 1;"), "0");
    assert_eq!(value("$var(r) = (1+2)*-3;"), "-9");
}

#[test]
fn truth_of_variables() {
    for (cond, wanted) in [
        ("$var(unset)", false),
        ("$var(empty)", false),
        ("$var(zero)", false),
        ("$var(neg)", true),
        ("$var(t0)", true),
        ("!$var(unset)", true),
        ("not $var(t0) or $var(neg) and 1", true),
        ("[ $var(int10) - 10 ]", false),
        ("[ $var(int10) & 2 ]", true),
    ] {
        assert_eq!(truth(cond), wanted, "{cond}");
    }
}

#[test]
fn null_compares_only_with_null() {
    for (cond, wanted) in [
        ("$var(unset) == null", true),
        ("$var(unset) != NULL", false),
        ("$var(unset) == $var(unset2)", true),
        ("$var(unset) =~ $var(unset2)", true),
        ("$var(unset) < $var(unset2)", false),
        ("$var(unset) < 5", false),
        ("$var(unset) == 5", false),
        ("$var(unset) != 5", true),
        ("$var(unset) !~ \"x\"", true),
        ("$var(unset) =~ \"x\"", false),
        ("$var(int10) == null", false),
        ("$var(int10) != null", true),
    ] {
        assert_eq!(truth(cond), wanted, "{cond}");
    }
}

#[test]
fn texts_and_integers_compare_as_documented() {
    for (cond, wanted) in [
        ("$var(abc) == \"abc\"", true),
        ("$var(abc) =~ \"^b|c$\"", true),
        ("$var(abc) !~ \"^[[:digit:]]\"", true),
        ("$var(abc) < \"abd\"", true),
        ("$var(int10) == \"10\"", true),
        ("$var(t10) == $var(int10)", true),
        ("$var(t10) == 10", false),
        ("$var(t10) != 10", false),
        ("!($var(t10) == 10)", false),
        ("$var(int10) >= 10", true),
        ("$var(ip) == 10.0.0.0/8", true),
        ("$var(ip) == 10.0.0.0/255.0.0.0", true),
        ("$var(ip) == 10.1.2.0/255.255.255.128", true),
        ("$var(ip) == 11.0.0.0/255.0.0.0", false),
        ("$var(ip) == 10.1.2.3", true),
        ("$var(ip) != 10.1.2.4", true),
        ("$var(abc) == 10.0.0.0/8", false),
    ] {
        assert_eq!(truth(cond), wanted, "{cond}");
    }
}

#[test]
fn arithmetic_follows_the_left_operand() {
    assert_eq!(value("$var(i) = 5; $var(r) = $var(i) + $var(null);"), "5");
    assert_eq!(value("$var(i) = 5; $var(t) = \"a\"; $var(r) = $var(t) + $var(i);"), "a5");
    assert_eq!(value("$var(t) = \"a\"; $var(r) = 7; $var(r) = $var(t) + 5;"), "7");
    assert_eq!(value("$var(t) = \"a\"; $var(r) = 7; $var(r) = 5 + $var(t);"), "7");
    assert_eq!(value("$var(t) = \"a\"; $var(r) = $var(t) + $var(null);"), "a");
    assert_eq!(value("$var(t) = \"a\"; $var(r) = $var(null) + $var(t);"), "a");
    assert_eq!(value("$var(r) = \"a\"; $var(r) += \"b\";"), "ab");
    assert_eq!(value("$var(a) = \"ab\"; $var(r) = $var(a) ^ \"  \";"), "AB");
    assert_eq!(value("$var(r) = 5; $var(r) = $var(r) / 0;"), "0");
    assert_eq!(value("$var(r) = 5; $var(r) %= 0;"), "0");
    assert_eq!(value("$var(r) = 2147483647; $var(r) += 1;"), "-2147483648");
    assert_eq!(value("$var(r) = -7 / 2;"), "-3");
    assert_eq!(value("$var(r) = -7 % 2;"), "-1");
    assert_eq!(value("$var(r) = 3; $var(r) += $var(null);"), "3");
    assert_eq!(value("$var(a) = 1; $var(r) = ($var(a) == 1);"), "1");
    assert_eq!(value("$var(a) = \"x\"; $var(r) = ($var(a) == 1);"), "-1");
    assert_eq!(value("$var(r) = ret(-3);"), "-3");
    assert_eq!(value("$var(r) = 1; $var(r) = null;"), "<null>");
}

#[test]
fn failed_assignment_sets_minus_one() {
    let all = lines(
        "$var(t) = \"a\"; $var(x) = $var(t) + 5; xlog(\"rc $rc\");\n$var(x) = 1; xlog(\"rc $rc\");",
    );
    assert_eq!(all, ["[-1] a text and an integer do not go together", "[2] rc -1", "[2] rc 1"]);
}

#[test]
fn strings_expand_in_arguments_and_logs_only() {
    let all = lines(
        "$var(a) = \"x$var(b)\"; trace(\"$var(a) $$\"); log(1, \"$var(a)\"); \
            xdbg(\"$var(a)$var(u)\");
         $var(n) = \"a\"; xlog(\"$var($var(n))\\x41\\101\\1\"); xlog('\\n$var(n)');
         $avp(l) = 1; $avp(l) = 2; xlog(\"$avp(l)/$(avp(l)[1])/$(avp(l)[-1])/$avp(none)\");",
    );
    assert_eq!(
        all,
        [
            "trace(x$var(b) $)",
            "[1] $var(a)",
            "[4] x$var(b)<null>",
            "[2] x$var(b)AA\\1",
            "[2] \\na",
            "[2] 2/1/1/<null>",
        ]
    );
}

#[test]
fn error_only_logs() {
    assert_eq!(lines("error(\"a\", \"b$var(x)\"); xlog(\"on\");"), ["[-1] a: b$var(x)", "[2] on"]);
}

#[test]
fn switch_falls_through_until_break() {
    let body = |v: &str| {
        lines(&format!(
            "$var(x) = {v}; switch ($var(x)) {{ case 1: xlog(\"one\"); case \"b\": xlog(\"b\"); \
                break;
             case 10: xlog(\"ten\"); default: xlog(\"default\"); }}"
        ))
    };
    assert_eq!(body("1"), ["[2] one", "[2] b"]);
    assert_eq!(body("\"B\""), ["[2] b"]);
    assert_eq!(body("10"), ["[2] ten", "[2] default"]);
    assert_eq!(body("\"10\""), ["[2] default"]);
    assert_eq!(body("null"), ["[2] default"]);
    let digits = lines("$var(x) = 7; switch ($var(x)) { case \"7\": xlog(\"seven\"); }");
    assert_eq!(digits, ["[2] seven"]);
}

#[test]
fn loops_end_at_their_limit_and_by_break() {
    let all = lines(
        "$var(i) = 0; while ($var(i) < 3) { $var(i) += 1; if ($var(i) == 2) break; } \
            xlog(\"$var(i)\");
         while (1) { $var(n) = $var(n) + 1; } xlog(\"$var(n)\");
         $avp(l) = 1; $avp(l) = 2; for ($var(x) in $(avp(l)[*])) xlog(\"$var(x)\");",
    );
    assert_eq!(
        all,
        ["[2] 2", "[-1] max_while_loops reached, the loop was left", "[2] 10000", "[2] 2", "[2] 1",]
    );
}

#[test]
fn nested_endless_loops_end_the_run() {
    let program = program("max_while_loops = 1000000000\nroute { while (1) { while (1) { ; } } }");
    let mut world = World::default();
    assert_eq!(run(&program, &mut world).1, End::Limit);
    assert!(world.trace[0].contains("too many steps"));
}

fn end(text: &str) -> (i32, End, Vec<String>) {
    let program = program(text);
    let mut world = World::default();
    let (code, how) = run(&program, &mut world);
    (code, how, world.trace)
}

#[test]
fn return_codes_travel_as_documented() {
    let text = |sub: &str| {
        format!("route {{ route(S); xlog(\"$rc $return(0)\"); }}\nroute[S] {{ {sub} }}")
    };
    let line = |sub: &str| end(&text(sub)).2.pop().unwrap_or_default();
    assert_eq!(line("return;"), "[2] 1 <null> @1");
    assert_eq!(line("return(5, \"a\", 2);"), "[2] 5 a @1");
    assert_eq!(line("return -2;"), "[2] -2 <null> @1");
    assert_eq!(line("return($var(unset));"), "[2] -1 <null> @1");
    assert_eq!(line("$var(t) = \"x\"; return($var(t));"), "[2] 1 <null> @1");
    assert_eq!(line("ret(7);"), "[2] 7 <null> @1");
    assert_eq!(line("if ($var(u) == 1) ret(7);"), "[2] 1 <null> @1");
    assert_eq!(line("if (ret(-4)) ret(7);"), "[2] -4 <null> @1");
    assert_eq!(line("if (!ret(4)) ret(7);"), "[2] 4 <null> @1");
    assert_eq!(line("if (ret(-4)) ret(7); else ret(-8);"), "[2] -8 <null> @1");
    assert_eq!(line(";"), "[2] 1 <null> @1");
}

#[test]
fn zero_exit_and_drop_end_everything() {
    let sub = |s: &str| {
        let (_, how, trace) =
            end(&format!("route {{ route(S); xlog(\"after\"); }}\nroute[S] {{ {s} }}"));
        (how, trace.iter().any(|l| l.contains("after")))
    };
    assert_eq!(sub("return(0);"), (End::Exit, false));
    assert_eq!(sub("exit;"), (End::Exit, false));
    assert_eq!(sub("drop();"), (End::Drop, false));
    assert_eq!(sub("ret(0);"), (End::Exit, false));
    assert_eq!(sub("if (!ret(0)) exit;"), (End::Exit, false));
    assert_eq!(sub("return(1);"), (End::Fell, true));
}

#[test]
fn routes_get_parameters_and_know_their_stack() {
    let (_, _, trace) =
        end("route { $var(v) = \"val\"; route(A, 1, \"raw $var(v)\", $var(v)); $var(n) = \"A\"; \
         route($var(n)); route(\"A\"); route(\"$var(none)\"); xlog(\"$rc\"); }
         route[A] { \
             xlog(\"$param(1)|$param(2)|$param(3)|$param(4)|$route|$(route[-1])|$(route[*])\"); }");
    assert_eq!(trace[0], "[2] 1|raw $var(v)|val|<null>|route[A]|route|route[A] > route @2");
    assert_eq!(trace[1], trace[2]);
    assert_eq!(trace[3], "[-1] there is no route[<null>] @1");
    assert_eq!(trace[4], "[2] -1 @1");
}

#[test]
fn endless_recursion_is_cut_at_100() {
    let (_, how, trace) =
        end("route { route(A); }\nroute[A] { $var(n) = $var(n) + 1; route(A); exit; }");
    assert_eq!(how, End::Exit);
    assert_eq!(trace.len(), 1);
    assert!(trace[0].contains("deeper than 100"));
}

#[test]
fn arguments_are_prepared_and_typed() {
    let (_, _, trace) =
        end("route { $var(i) = 7; $var(t) = \"7\"; ret($var(i)); xlog(\"$rc\"); ret($var(t)); \
            xlog(\"$rc\");
         trace($var(i)); fetch($avp(x)); xlog(\"$avp(x)\"); setflag(\"A\"); setbflag(\"B\", 2); }");
    let wanted = [
        "ret(7)",
        "[2] 7 @1",
        "[-1] argument 1 is an integer, but $var(t) is a text @1",
        "[2] -1 @1",
        "trace(7)",
        "fetch($avp(x), -)",
        "[2] fetched @2",
        "setflag(MessageFlag(0))",
        "setbflag(BranchFlag(0), 2)",
    ];
    assert_eq!(trace, wanted);
}

#[test]
fn transformations_change_values() {
    for (expression, wanted) in [
        ("sip:alice@host.org:5070;lr;p=1|{uri.user}", "alice"),
        ("sip:alice@host.org:5070;lr;p=1|{uri.host}", "host.org"),
        ("sip:alice@host.org:5070;lr;p=1|{uri.port}", "5070"),
        ("sip:alice@host.org;lr;p=1|{uri.param,p}", "1"),
        ("sip:[::1]:5070|{uri.host}", "[::1]"),
        ("+40123|{s.substr,0,1}", "+"),
        ("+40123|{s.substr,1,0}", "40123"),
        ("abcdef|{s.substr,-3,-1}", "de"),
        ("a/b/c|{s.select,-1,/}", "c"),
        ("a.b.c|{s.select,1,.}{s.toupper}", "B"),
        ("a=1;b=2|{param.value,b}", "2"),
        ("a=1;b=2|{param.count}", "2"),
        ("x, y ,z|{csv.value,1}", "y"),
        ("\\\"A B\\\" <sip:a@b>;tag=7|{nameaddr.param,tag}", "7"),
        ("\\\"A B\\\" <sip:a@b>;tag=7|{nameaddr.uri}{uri.host}", "b"),
        ("12abc|{s.int}", "12"),
        ("abcab|{s.index,b}", "1"),
        ("abcab|{s.rindex,b}", "4"),
        ("5|{s.fill.left,0,3}", "005"),
        ("ab|{s.encode.hexa}{s.decode.hexa}{s.len}", "2"),
    ] {
        let (text, chain) = expression.split_once('|').expect("two parts");
        let got = value(&format!("$var(t) = \"{text}\"; $var(r) = $(var(t){chain});"));
        assert_eq!(got, wanted, "{expression}");
    }
}

#[test]
fn async_continues_in_its_route_with_the_code() {
    let text = "route { $var(keep) = 1; async(wait(5), R, 9); xlog(\"never\"); }
                route[R] { xlog(\"$rc $var(keep) $route\"); }";
    let compiled = program(text);
    let mut world = World::default();
    run(&compiled, &mut world);
    assert_eq!(world.trace, ["async Some(9)", "wait(5)", "[2] 1 1 route[R] @2"]);
    let mut world = World { suspend: vec![true], ..World::default() };
    run(&compiled, &mut world);
    assert_eq!(world.trace[2], "[2] 1 <null> route[R] @2");
}

#[test]
fn assert_stops_only_when_enabled() {
    let body = "route { assert($var(x) == 1, \"x is one\"); xlog(\"on\"); }";
    assert_eq!(end(body).2, ["[2] on @1"]);
    let (_, how, trace) = end(&format!("enable_asserts = yes\n{body}"));
    assert_eq!((how, trace[0].as_str()), (End::Assert, "[-1] assertion failed: x is one @2"));
}

#[test]
fn var_table_outlives_runs_and_reloads() {
    let first = program("route { $var(a) = 1; $var(b) = 2; }");
    let second = program("route { xlog(\"$var(b)$var(a)$var(c)\"); }");
    let mut world = World::default();
    let route = first.route_named(Routes::REQUEST, "").expect("route");
    let mut state = RunState::start(&first, route, &[]);
    assert_eq!(vm::run(&first, &mut state, &mut world), Step::Done { code: 1, how: End::Fell });
    let mut next = RunState::start(&second, route, &[]);
    next.vars = std::mem::take(&mut state.vars);
    vm::run(&second, &mut next, &mut world);
    assert_eq!(world.trace, ["[2] 21<null> @1"]);
    assert_eq!(next.vars.get_named(b"a"), Value::Int(1));
}

#[test]
fn event_parameters_are_read_by_name() {
    let compiled = program("event_route[E_CORE_THRESHOLD] { xlog(\"$param(source)\"); }");
    let (id, _) = compiled.routes_of(Routes::EVENT).next().expect("route");
    let named = vec![(bytes::Bytes::from_static(b"source"), Value::str("db"))];
    let mut state = RunState::start(&compiled, id, &[]).with_named(named);
    let mut world = World::default();
    vm::run(&compiled, &mut state, &mut world);
    assert_eq!(world.trace, ["[2] db @1"]);
}

#[test]
fn run_state_is_send() {
    fn send<T: Send + 'static>() {}
    send::<RunState>();
    send::<tandem_script::Program>();
}

const BUSY: &str = r#"
route {
    $var(i) = 0;
    while ($var(i) < 4) {
        $var(i) += 1;
        route(SUB, $var(i));
        if (ret(1) && !ret(-1) || ret(-2)) trace("in $var(i) $rc");
        switch ($rc) { case 1: trace("one"); case 2: fetch($avp(x)); break; default: trace("d"); }
    }
    for ($var(e) in $(avp(x)[*])) { trace("$var(e)"); if (ret(1)) break; }
    $var(r) = ret(9);
    trace("$var(r)");
    if (ret(0)) trace("never");
}
route[SUB] { trace("sub $param(1)"); if ($param(1) == 3) return(-1, $param(1)); ret(2); }
"#;

proptest! {
    #[test]
    fn suspending_anywhere_changes_nothing(
        pattern in proptest::collection::vec(any::<bool>(), 1..40),
    ) {
        let program = program(BUSY);
        let mut straight = World::default();
        let direct = run(&program, &mut straight);
        let mut halting = World { suspend: pattern, ..World::default() };
        prop_assert_eq!(run(&program, &mut halting), direct);
        prop_assert_eq!(halting.trace, straight.trace);
    }
}
