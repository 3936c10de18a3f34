//! Whatever the text, compiling and running it ends, without a panic.

use crate::common;

use common::{World, compile_files};
use proptest::prelude::*;
use tandem_script::Program;
use tandem_script::diag::render_all;
use tandem_script::vm::{self, RunState, Step};

/// Compiles, renders, and runs every block that came out; as a later version, too.
fn survive(text: &str) {
    let (program, diags, map) = compile_files(&[("main.cfg", text), ("b", "$avp(x")]);
    let _ = render_all(&diags, &map);
    let Some(program) = program else {
        assert!(!diags.is_empty());
        return;
    };
    for (index, _) in program.routes.iter().enumerate() {
        let id = tandem_script::program::RouteId(index as u32);
        let mut world = World { suspend: vec![true, false], ..World::default() };
        let mut run = RunState::start(&program, id, &[]);
        let mut step = vm::run(&program, &mut run, &mut world);
        while step == Step::Suspended {
            step = vm::resume(&program, &mut run, 1, &mut world);
        }
        assert!(world.trace.len() < 1_000_000, "a run without end");
    }
    become_later(program);
}

/// The script as a version after another one, and another one after it.
fn become_later(program: Program) {
    let other = compile_files(&[("o", "route { exit; }\nfailure_route[F] { exit; }")]).0;
    let mut other = other.expect("a script");
    let _ = program.config_differences(&other);
    let mut later = program.clone();
    later.keep_numbers(&other);
    other.keep_numbers(&program);
    for (index, route) in program.routes.iter().enumerate() {
        let same = other.routes.get(index).expect("every number is kept");
        assert_eq!((same.kind, &same.name), (route.kind, &route.name));
        let id = tandem_script::program::RouteId(index as u32);
        vm::run(&other, &mut RunState::start(&other, id, &[]), &mut World::default());
    }
}

const WORDS: &[&str] = &[
    "route",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    "if",
    "else",
    "while",
    "for",
    "in",
    "switch",
    "case",
    "default",
    ":",
    ";",
    ",",
    "=",
    ":=",
    "+=",
    "==",
    "=~",
    "!",
    "~",
    "-",
    "&&",
    "||",
    "|",
    "+",
    "*",
    "/",
    "<<",
    "1",
    "0x1f",
    "08",
    "\"a\"",
    "\"$avp(x) $\"",
    "'r'",
    "$avp(x)",
    "$var(i)",
    "$(avp(x)[*])",
    "$(ru{s.substr,0,1})",
    "$",
    "$(",
    "exit",
    "drop",
    "return",
    "break",
    "xlog",
    "ret",
    "trace",
    "async",
    "launch",
    "wait",
    "assert",
    "null",
    "R",
    "route[R]",
    "failure_route[F]",
    "\n",
    "\nlog_level=",
    "\nsocket=udp:1.2.3.4:5060",
    "#c\n",
    "/*",
    "*/",
    "\ninclude_file \"b\"",
    "\nmodparam(\"tm\",\"x\",1)",
    "\nloadmodule \"tm.so\"",
    "10.0.0.0/8",
    "é",
    "\\",
    "\"",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_text_compiles_or_is_refused(text in "\\PC{0,200}") {
        survive(&text);
    }

    #[test]
    fn any_words_compile_or_are_refused(
        words in proptest::collection::vec(proptest::sample::select(WORDS), 0..60),
    ) {
        survive(&words.join(" "));
        survive(&format!("route {{ {} }}\nroute[R] {{ ; }}", words.join(" ")));
    }

    #[test]
    fn any_variable_text_is_survived(inner in "[a-z$(){}\\[\\],.*0-9<>]{0,30}") {
        survive(&format!("route {{ xlog(\"$avp{inner}\"); $var(x) = $(ru{{s.{inner}}}); }}"));
    }

    #[test]
    fn any_chain_of_transformations_compiles_and_runs(
        chain in proptest::collection::vec(
            (proptest::sample::select(tandem_script::transform::TRANSFORMS.iter()
                .flat_map(|t| t.iter().map(|row| row.name)).collect::<Vec<_>>()),
             "(,[a-z0-9$()/\\\\,. -]{0,8}){0,3}"),
            1..4),
        text in "[ -~]{0,30}",
    ) {
        let chain: String = chain.iter().map(|(n, a)| format!("{{{n}{a}}}")).collect();
        let text = text.replace(['\'', '\n'], "");
        survive(&format!("route {{ $var(x) = '{text}'; xlog(\"$(var(x){chain})\"); }}"));
        survive(&format!("route {{ $var(x) = '{text}'; $var(y) = $(var(x){{s.eval}}{chain}); }}"));
    }

    #[test]
    fn any_text_is_expanded_at_run_time_or_refused(text in "[$(){}a-z\\[\\],.0-9<>* ]{0,40}") {
        survive(&format!("route {{ $var(a) = '{text}'; $avp(x) = $(var(a){{s.eval}}); }}"));
        survive(&format!("route {{ $var(a) = 'x'; $var(b) = '/{text}/{text}/g'; \
            $avp(x) = $(var(a){{re.subst,$var(b)}}); }}"));
    }

    #[test]
    fn any_lines_of_a_preprocessor_are_survived(
        lines in proptest::collection::vec(proptest::sample::select(&[
            "__OSSPP_FILEBEGIN__ \"a\"", "__OSSPP_LINE__ 4294967295", "__OSSPP_LINE__ 0",
            "__OSSPP_LINE__ x", "__OSSPP_FILEEND__", "route {", "xlog(\"$nope\");", "}",
            "\"open", "/* open", "", "exit;", "include_file \"b\"",
        ][..]), 0..20),
    ) {
        survive(&format!("__OSSPP_FILEBEGIN__ \"m\"\n{}", lines.join("\n")));
    }

    #[test]
    fn any_expression_compiles_and_runs(
        terms in proptest::collection::vec(
            (proptest::sample::select(&["+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>"][..]),
             proptest::sample::select(
                &["1", "-2147483648", "$var(a)", "\"t\"", "$avp(n)", "0"][..])),
            0..12),
    ) {
        let tail: String = terms.iter().map(|(o, t)| format!(" {o} {t}")).collect();
        survive(&format!("route {{ $var(a) = 5; $var(b) = 3{tail}; $var(b) += 1{tail}; }}"));
    }
}

#[test]
fn deep_nesting_is_refused_not_crashed_on() {
    for (open, close) in [("(", ")"), ("!", ""), ("~", ""), ("[", "]"), ("{ if (", ") ; }")] {
        let text = format!("route {{ if ({}1{}) exit; }}", open.repeat(5000), close.repeat(5000));
        survive(&text);
    }
    survive(&format!("route {{ {}; }}", "if (1) ".repeat(5000)));
    survive(&format!("route {{ {} }}", "{".repeat(5000)));
    survive(&format!("route {{ {} exit; }}", "if (1) exit; else ".repeat(5000)));
    survive(&format!("route {{ $var(x) = 1{}; }}", " + 1".repeat(50_000)));
    survive(&format!("route {{ if (1{}) exit; }}", " && 1".repeat(50_000)));
    survive(&format!("route {{ xlog(\"{}\"); }}", "$avp(".repeat(5000)));
}
