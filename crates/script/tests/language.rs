//! The facts of the language, section by section; what `machine.rs` and `transformations.rs` do
//! not hold already.

use crate::common;

use common::{World, compile_files, lines, program, run};
use tandem_script::Severity;
use tandem_script::diag::render_all;
use tandem_script::program::Setting;
use tandem_script::sig::Routes;
use tandem_script::vm::{self, End, RunState};

/// What `xlog` shows of `$var(r)` after the statements.
fn value(body: &str) -> String {
    let all = lines(&format!("{body}\nxlog(\"L_INFO\", \"$var(r)\");"));
    all.last().map(|l| l.trim_start_matches("[3] ").to_owned()).unwrap_or_default()
}

fn refused(text: &str, part: &str) {
    let (program, diags, map) = compile_files(&[("t.cfg", text)]);
    let said = render_all(&diags, &map);
    assert!(program.is_none() && said.contains(part), "{text}\n{said}");
}

/// Compiles files and gives the codes of the findings.
fn codes(files: &[(&str, &str)]) -> Vec<&'static str> {
    compile_files(files).1.iter().map(|d| d.code).collect()
}

mod lexical_rules {
    use super::*;

    #[test]
    fn comments_are_lines_and_blocks_that_nest() {
        assert_eq!(lines("xlog(\"a\"); # xlog(\"b\");\n/* x /* y */ z */ xlog(\"c\");").len(), 2);
        assert_eq!(value("$var(r) = /* inside */ 5 # to the end\n;"), "5");
    }

    #[test]
    fn numbers_are_decimal_hexadecimal_octal_and_words() {
        for (written, wanted) in [
            ("0x1F", "31"),
            ("017", "15"),
            ("0", "0"),
            ("yes", "1"),
            ("true", "1"),
            ("on", "1"),
            ("enable", "1"),
            ("no", "0"),
            ("false", "0"),
            ("off", "0"),
            ("disable", "0"),
            ("0xffffffff", "-1"),
        ] {
            assert_eq!(value(&format!("$var(r) = {written};")), wanted, "{written}");
        }
        refused("route { $var(r) = YES; }", "YES");
        refused("route { $var(r) = 4294967296; }", "32 bits");
    }

    #[test]
    fn words_stand_for_operators() {
        assert_eq!(value("if (not 0 and 1) $var(r) = 1; else $var(r) = 0;"), "1");
        assert_eq!(value("if (0 or 1) $var(r) = 1; else $var(r) = 0;"), "1");
    }

    #[test]
    fn strings_may_span_lines_and_single_quotes_process_nothing() {
        assert_eq!(value("$var(r) = \"a\nb\";"), "a\nb");
        assert_eq!(value("$var(r) = 'a\\n\\x41';"), "a\\n\\x41");
        assert_eq!(value("$var(r) = \"\\x41\\101\\t\\\"\\\\\";"), "AA\t\"\\");
        assert_eq!(value("$var(r) = \"one \\\ntwo\";"), "one two");
    }

    #[test]
    fn adjacent_strings_are_one_in_logs_and_parameters_only() {
        assert_eq!(lines("xlog(\"L_INFO\", \"a\" \"b\"); xdbg(\"c\" 'd');"), ["[3] ab", "[4] cd"]);
        refused("route { trace(\"a\" \"b\"); }", "expected `,` or `)`");
        let text = "loadmodule \"usrloc.so\"\nmodparam(\"usrloc\", \"cluster_sharing_tag\", \"a\" \
                    \"b\")\nroute { exit; }";
        assert_eq!(program(text).modparams[0].value, Setting::Str("ab".into()));
    }

    #[test]
    fn a_variable_ends_at_operators_outside_parentheses() {
        assert_eq!(value("$var(i)=4;$var(r)=$var(i)-1;"), "3");
        assert_eq!(value("$var(r)=$(var(i){s.len})+1;"), "1");
        refused("route { $var(x)=~2; }", "= ~");
        assert_eq!(value("$var(r) = ~2;"), "-3");
    }

    #[test]
    fn files_are_included_at_any_line() {
        let files = [
            ("t.cfg", "route {\n  include_file \"a\"\n\timport_file 'b'\n  xlog(\"c\");\n}\n"),
            ("a", "if ($var(x) == 1) {\n"),
            ("b", "  xlog(\"one\");\n} else\n  xlog(\"other\");\n"),
        ];
        let (program, diags, map) = compile_files(&files);
        let mut world = World::default();
        run(&program.unwrap_or_else(|| panic!("{}", render_all(&diags, &map))), &mut world);
        assert_eq!(world.trace, ["[2] other @3", "[2] c @4"]);
        assert_eq!(codes(&[("t.cfg", "include_file \"none\"\nroute { exit; }")]), ["E0005"]);
    }

    #[test]
    fn includes_go_fifty_deep() {
        let files: Vec<(String, String)> =
            (0..=51).map(|n| (format!("f{n}"), format!("include_file \"f{}\"\n", n + 1))).collect();
        let upto = |n: usize| {
            let mut all: Vec<(&str, &str)> =
                files.iter().take(n).map(|(a, b)| (a.as_str(), b.as_str())).collect();
            let last = files[n].0.as_str();
            all.push((last, "route { exit; }"));
            codes(&all)
        };
        assert!(upto(50).is_empty());
        assert_eq!(upto(51), ["E0004"]);
    }

    #[test]
    fn places_come_from_the_lines_of_a_preprocessor() {
        let text = "__OSSPP_FILEBEGIN__ \"/etc/main.cfg\"\n__OSSPP_LINE__ 1\nroute {\n\
                    __OSSPP_FILEBEGIN__ \"/etc/body.cfg\"\n__OSSPP_LINE__ 1\n\n  lokup();\n\
                    __OSSPP_FILEEND__\n__OSSPP_LINE__ 3\n  xlog(\"$nope\");\n}\n\
                    __OSSPP_FILEEND__\n";
        let (_, diags, map) = compile_files(&[("t.cfg", text)]);
        let said = render_all(&diags, &map);
        assert!(said.contains("--> /etc/body.cfg:2:3"), "{said}");
        assert!(said.contains("= included from /etc/main.cfg:1"), "{said}");
        assert!(said.contains("--> /etc/main.cfg:3:9"), "{said}");
        assert!(said.contains("  xlog(\"$nope\");"), "{said}");
        let ok = text.replace("lokup();", "xlog(\"in\");").replace("$nope", "$cfg_line $cfg_file");
        let mut world = World::default();
        run(&program(&ok), &mut world);
        assert_eq!(world.trace, ["[2] in @2", "[2] 3 /etc/main.cfg @3"]);
    }
}

mod grammar {
    use super::*;

    #[test]
    fn names_of_routes_are_words_numbers_and_strings() {
        let text = "route { route(1); route(\"two\"); route(three); }
            route[1] { xlog(\"1\"); }\nroute[\"two\"] { xlog(\"2\"); }\nroute[three] { xlog(\"3\"); }";
        let mut world = World::default();
        run(&program(text), &mut world);
        assert_eq!(world.trace.len(), 3);
    }

    #[test]
    fn a_parameter_of_several_modules_is_an_expression() {
        let text = "loadmodule \"registrar.so\"\nloadmodule \"usrloc.so\"\n\
            loadmodule \"nathelper.so\"\n\
            modparam(\"Registrar|NATHELPER\", \"received_avp\", \"$avp(rcv)\")\nroute { exit; }";
        let program = program(text);
        assert_eq!(program.modparams.len(), 2);
        let both = "loadmodule \"usrloc.so\"\nloadmodule \"registrar.so\"\n\
            modparam(\"registrar|usrloc\", \"received_avp\", \"$avp(x)\")\nroute { exit; }";
        refused(both, "module usrloc has no parameter");
    }

    #[test]
    fn a_parameter_that_is_off_needs_no_module() {
        let with = |value: u32| {
            format!(
                "loadmodule \"usrloc.so\"\n\
                 modparam(\"usrloc\", \"location_cluster\", {value})\nroute {{ exit; }}"
            )
        };
        refused(&with(1), "module usrloc needs module clusterer when `location_cluster` is set");
        assert_eq!(program(&with(0)).modparams.len(), 1);
    }

    #[test]
    fn arguments_may_be_left_out_by_position() {
        let text = "loadmodule \"usrloc.so\"\nloadmodule \"registrar.so\"\n\
            loadmodule \"clusterer.so\"\nmodparam(\"clusterer\", \"sharing_tag\", \"s/1=active\")\n\
            route { save(\"location\", , , \"s\"); save(\"location\", ); }";
        let mut world = World::default();
        run(&program(text), &mut world);
        assert!(world.trace[0].starts_with("save(location, -, -, SharingTag"), "{:?}", world.trace);
        assert_eq!(world.trace[1], "save(location, -, -, -)");
        refused("route { trace(); }", "needs its argument");
    }

    #[test]
    fn operators_of_a_level_go_from_left_to_right_with_a_note_where_it_surprises() {
        let notes = |cond: &str| codes(&[("t", &format!("route {{ if ({cond}) exit; }}"))]);
        assert_eq!(notes("1 || 0 && 0"), ["N0118"]);
        assert!(notes("1 && 0 || 0").is_empty());
        assert!(notes("(1 || 0) && 0").is_empty());
        assert!(notes("1 || (0 && 0)").is_empty());
        let notes = |e: &str| codes(&[("t", &format!("route {{ $var(x) = {e}; }}"))]);
        for surprising in ["10-2*3", "2*3+4*5", "1|2&1", "1&2<<3", "1^2&3"] {
            assert_eq!(notes(surprising), ["N0118"], "{surprising}");
        }
        for plain in ["2*3+4", "1+2-3", "1|1+1", "(10-2)*3", "1<<2|3", "4*5/2%3"] {
            assert!(notes(plain).is_empty(), "{plain}");
        }
    }

    #[test]
    fn logic_stops_where_the_result_is_known() {
        let traced = |cond: &str| {
            let all = lines(&format!("if ({cond}) xlog(\"yes\"); else xlog(\"no\");"));
            all.iter().map(|l| l.trim_start_matches("[2] ").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(traced("ret(-1) && ret(1)"), ["ret(-1)", "no"]);
        assert_eq!(traced("ret(1) || ret(-1)"), ["ret(1)", "yes"]);
        assert_eq!(traced("ret(-1) || ret(1)"), ["ret(-1)", "ret(1)", "yes"]);
        assert_eq!(traced("!ret(1) || ret(2)"), ["ret(1)", "ret(2)", "yes"]);
    }

    #[test]
    fn conditions_of_every_kind() {
        let truth = |setup: &str, cond: &str| {
            value(&format!("{setup} if ({cond}) $var(r) = 1; else $var(r) = 0;")) == "1"
        };
        assert!(truth("", "1"));
        assert!(!truth("", "0"));
        assert!(truth("", "[ 5 - 4 ]"));
        assert!(!truth("", "[ 5 - 5 ]"));
        assert!(truth("", "$var(a) = 5"));
        assert!(truth("", "{ ret(3); }"));
        assert!(truth("", "if (1) ret(2);"));
        assert!(truth("$var(a) = \"10.1.2.3\";", "$var(a) == 10.0.0.0/8"));
        assert!(truth("$var(a) = \"2001:db8::7\";", "$var(a) == [2001:db8::7]"));
        assert!(truth("$var(a) = \"2001:db8::7\";", "$var(a) == 2001:db8::/32"));
        assert!(truth("$var(a) = \"x\"; $var(b) = \"^X$\";", "$var(a) =~ $var(b)"));
    }

    #[test]
    fn statements_take_no_more_than_they_may() {
        let args = ["1"; 9].join(", ");
        refused(&format!("route {{ trace({args}); }}"), "at most 8 arguments");
        let params = ["1"; 8].join(", ");
        refused(&format!("route {{ route(A, {params}); }}\nroute[A] {{ exit; }}"), "at most");
        refused("route { return(1, 1,2,3,4,5,6,7,8); }", "at most 7");
    }
}

mod values {
    use super::*;

    #[test]
    fn integers_wrap_and_divisions_go_to_zero() {
        assert_eq!(value("$var(r) = 2147483647 + 1;"), "-2147483648");
        assert_eq!(value("$var(r) = -2147483648 - 1;"), "2147483647");
        assert_eq!(value("$var(r) = 65536 * 65536;"), "0");
        assert_eq!(value("$var(r) = -7 / 2;"), "-3");
        assert_eq!(value("$var(r) = -7 % 3;"), "-1");
        assert_eq!(value("$var(r) = 1 << 31;"), "-2147483648");
        assert_eq!(value("$var(r) = 5; $var(r) ^= 1;"), "4");
        assert_eq!(value("$var(r) = 6; $var(r) &= 3; $var(r) |= 8;"), "10");
        assert_eq!(
            value("$var(r) = 7; $var(r) *= 3; $var(r) -= 1; $var(r) /= 2; $var(r) %= 7;"),
            "3"
        );
    }

    #[test]
    fn what_fails_leaves_the_target_alone_and_says_so() {
        let all = lines(
            "$var(r) = 5; $var(r) += null2; xlog(\"x\");".replace("null2", "$var(n)").as_str(),
        );
        assert_eq!(all, ["[-1] null in a compound assignment", "[2] x"]);
        assert_eq!(value("$var(r) = 5; $var(r) = $var(r) - \"a\";"), "5");
        assert_eq!(value("$var(r) = 5; $var(r) := 7;"), "7");
    }

    #[test]
    fn both_kinds_of_a_text_and_a_number_compare() {
        let truth = |cond: &str| {
            let setup = "$var(i) = 10; $var(t) = \"10\"; $var(b) = \"b\";";
            value(&format!("{setup} if ({cond}) $var(r) = 1; else $var(r) = 0;")) == "1"
        };
        assert!(truth("$var(i) == \"10\""));
        assert!(truth("$var(t) == $var(i)"));
        assert!(!truth("$var(t) == 10"));
        assert!(truth("$var(b) > \"A\""));
        assert!(truth("$var(b) == \"B\""));
        assert!(truth("$var(i) < 11 && $var(i) <= 10 && $var(i) > 9 && $var(i) >= 10"));
    }
}

mod flow {
    use super::*;

    #[test]
    fn values_of_return_are_read_by_number() {
        let text = "route { route(S); xlog(\"$rc $return(0) $return(1) $return(2)\"); }
            route[S] { $var(t) = \"b\"; return(3, \"a\", $var(t)); }";
        let mut world = World::default();
        run(&program(text), &mut world);
        assert_eq!(world.trace, ["[2] 3 a b <null> @1"]);
    }

    #[test]
    fn while_stops_at_its_limit_and_the_script_goes_on() {
        let text =
            "max_while_loops = 7\nroute { while (1) $var(n) = $var(n) + 1; xlog(\"$var(n)\"); }";
        let mut world = World::default();
        run(&program(text), &mut world);
        assert!(world.trace[0].contains("max_while_loops"), "{:?}", world.trace);
        assert_eq!(world.trace[1], "[2] 7 @2");
    }

    #[test]
    fn break_leaves_the_nearest_loop_or_switch() {
        let all = lines(
            "$var(i) = 0;
             while ($var(i) < 2) {
               $var(i) = $var(i) + 1;
               switch ($var(i)) { case 1: break; case 2: xlog(\"two\"); }
               xlog(\"after $var(i)\");
             }
             $avp(l) = 1; $avp(l) = 2; $avp(l) = 3;
             for ($var(x) in $(avp(l)[*])) { if ($var(x) == 2) break; xlog(\"x $var(x)\"); }",
        );
        assert_eq!(all, ["[2] after 1", "[2] two", "[2] after 2", "[2] x 3"]);
    }

    #[test]
    fn if_leaves_the_code_of_what_ran() {
        let rc = |body: &str| lines(&format!("{body} xlog(\"$rc\");")).pop().unwrap_or_default();
        assert_eq!(rc("if (ret(5)) ret(-7);"), "[2] -7");
        assert_eq!(rc("if (ret(-5)) ret(7);"), "[2] -5");
        assert_eq!(rc("$var(x) = 1;"), "[2] 1");
        assert_eq!(rc("ret(-2);"), "[2] -2");
        let retcode = lines("ret(-2); xlog(\"$retcode\");").pop();
        assert_eq!(retcode.as_deref(), Some("[2] -2"));
    }

    #[test]
    fn ends_of_blocks_are_told_apart() {
        let end = |body: &str| {
            let program = program(&format!("branch_route[B] {{ {body} }}\nroute {{ exit; }}"));
            let route = program.route_named(Routes::BRANCH, "B").expect("block");
            let mut state = RunState::start(&program, route, &[]);
            match vm::run(&program, &mut state, &mut World::default()) {
                vm::Step::Done { how, .. } => how,
                vm::Step::Suspended => End::Limit,
            }
        };
        assert_eq!(end("drop;"), End::Drop);
        assert_eq!(end("drop();"), End::Drop);
        assert_eq!(end("exit;"), End::Exit);
        assert_eq!(end("exit();"), End::Exit);
        assert_eq!(end("return;"), End::Fell);
        assert_eq!(end("return(0);"), End::Exit);
        assert_eq!(end(";"), End::Fell);
    }

    #[test]
    fn dynamic_names_of_routes_are_looked_up() {
        let text =
            "route { $var(n) = \"A\"; route($var(n), 5); route(\"$var(n)\"); route(\"no$var(n)\");
            xlog(\"$rc\"); }
            route[A] { xlog(\"a $param(1)\"); }";
        let mut world = World::default();
        run(&program(text), &mut world);
        let texts: Vec<_> =
            world.trace.iter().map(|l| l.split(" @").next().unwrap_or("")).collect();
        let missing = "[-1] there is no route[noA]";
        assert_eq!(texts, ["[2] a 5", "[2] a <null>", missing, "[2] -1"]);
    }
}

#[test]
fn an_older_log_level_is_a_note() {
    let (program, diags, _) = compile_files(&[("t", "route { xlog(\"L_WARNING\", \"x\"); }")]);
    assert!(program.is_some());
    assert_eq!(diags.iter().map(|d| d.severity).collect::<Vec<_>>(), [Severity::Note]);
}
