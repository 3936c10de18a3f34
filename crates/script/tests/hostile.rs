//! Whatever the text, compiling and running it ends, without a panic.

mod common;

use common::{World, compile_files};
use proptest::prelude::*;
use tandem_script::diag::render_all;
use tandem_script::vm::{self, RunState, Step};

/// Compiles, renders, and runs every block that came out.
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
    #![proptest_config(ProptestConfig::with_cases(600))]

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
