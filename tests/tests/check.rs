//! `tandem check`: every problem of a script, with its place, in one pass.

use std::path::Path;
use std::process::Command;

use tandem_tests::{Site, program, repository};

/// Exit status and all that was printed.
fn check(file: &Path, more: &[&str]) -> (Option<i32>, String) {
    let output =
        Command::new(program()).arg("check").arg(file).args(more).output().expect("tandem check");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

/// What must be said about one mistake: where it is, a part of the cause, a part of the help.
struct Expected {
    at: &'static str,
    underlined: &'static str,
    cause: &'static str,
    help: &'static str,
}

const MISTAKES: &[Expected] = &[
    Expected { at: "1:1", underlined: "log_levl", cause: "unknown global", help: "log_level" },
    Expected { at: "8:12", underlined: "\"registar.so\"", cause: "registar", help: "registrar" },
    Expected { at: "9:12", underlined: "\"rtpengine.so\"", cause: "not in Tandem yet", help: "" },
    Expected { at: "10:16", underlined: "\"fr_timout\"", cause: "fr_timout", help: "fr_timeout" },
    Expected { at: "11:34", underlined: "\"yes\"", cause: "append_fromtag", help: "" },
    Expected { at: "13:7", underlined: "lokup", cause: "unknown function", help: "lookup" },
    Expected { at: "14:14", underlined: "\"404\"", cause: "number", help: "without quotes" },
    Expected { at: "17:8", underlined: "RELY", cause: "no route[RELY]", help: "RELAY" },
    Expected { at: "18:23", underlined: "$fuu", cause: "unknown variable", help: "did you mean" },
    Expected { at: "19:2", underlined: "rtpengine_offer", cause: "not in Tandem yet", help: "" },
    Expected { at: "20:15", underlined: "\"MISSING\"", cause: "no failure_route", help: "" },
    Expected { at: "23:7", underlined: "t_realy", cause: "unknown function", help: "t_relay" },
    Expected { at: "24:3", underlined: "sl_reply_error", cause: "not loaded", help: "sl.so" },
];

#[test]
fn every_mistake_is_reported_in_one_pass_with_place_cause_and_nearest_name() {
    let file = repository().join("tests/scripts/mistakes.cfg");
    let (status, text) = check(&file, &[]);
    assert_eq!(status, Some(1), "{text}");
    for expected in MISTAKES {
        let place = format!("{}:{}\n", file.display(), expected.at);
        let end = text.find(&place).unwrap_or_else(|| panic!("nothing at {place} in\n{text}"));
        let block = block_around(&text, end);
        let marks = "^".repeat(expected.underlined.len());
        let underlines =
            block.lines().any(|l| l.ends_with(&marks) && !l.ends_with(&format!("^{marks}")));
        assert!(underlines, "not {} marks in\n{block}", marks.len());
        assert!(block.contains(expected.cause), "no {:?} in\n{block}", expected.cause);
        assert!(block.contains(expected.help), "no {:?} in\n{block}", expected.help);
    }
}

/// The finding (a paragraph) that has the byte at `inside`.
fn block_around(text: &str, inside: usize) -> &str {
    let start = text[..inside].rfind("\n\n").map_or(0, |at| at + 2);
    let end = text[inside..].find("\n\n").map_or(text.len(), |at| inside + at);
    &text[start..end]
}

#[test]
fn a_script_with_mistakes_does_not_start_and_says_the_same() {
    let file = repository().join("tests/scripts/mistakes.cfg");
    let (_, checked) = check(&file, &[]);
    let output = Command::new(program()).arg("-f").arg(&file).output().expect("tandem -f");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    let findings = checked.lines().filter(|l| l.starts_with("error["));
    for finding in findings {
        assert!(said.contains(finding), "no {finding:?} at start-up:\n{said}");
    }
}

#[test]
fn what_another_kind_of_block_reaches_is_refused_by_the_greater_check_alone() {
    let file = repository().join("tests/scripts/check/wrong_route_02_through_one_route.cfg");
    for (option, status) in [("-c", 0), ("-C", 1)] {
        let mut command = Command::new(program());
        let output = command.args([option, "-f"]).arg(&file).output().expect("tandem");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(status), "{option}: {said}");
        assert!(said.contains("warning[W0296]: `t_relay` cannot be used in an onreply_route"));
    }
}

#[test]
fn the_examples_are_free_of_mistakes() {
    let folder = repository().join("examples/hot-standby");
    for name in ["node1.cfg", "node2.cfg"] {
        let (status, text) = check(&folder.join(name), &["--strict"]);
        assert_eq!(status, Some(0), "{text}");
        assert!(text.contains("0 errors, 0 warnings"), "{text}");
    }
}

#[test]
fn an_older_spelling_is_noted_and_a_tag_nobody_defines_is_a_warning() {
    let site = Site::bare("check");
    let example = tandem_tests::NODE_1;
    let older = example.replace(r#""my_node_id", 1"#, r#""current_id", 1"#);
    assert_ne!(older, example);
    let (status, text) = check(&site.write("older.cfg", &older), &["--strict"]);
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("note") && text.contains("my_node_id"), "{text}");

    let undefined = example.replace(r#", "service")"#, r#", "servise")"#);
    assert_ne!(undefined, example);
    let file = site.write("undefined.cfg", &undefined);
    let (status, text) = check(&file, &[]);
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("warning") && text.contains("servise"), "{text}");
    assert!(text.contains("service"), "the defined tag is not named:\n{text}");
    assert_eq!(check(&file, &["--strict"]).0, Some(1));
}

#[test]
fn a_file_that_is_missing_or_no_text_is_an_error() {
    let site = Site::bare("check-files");
    assert_eq!(check(&site.dir().join("none.cfg"), &[]).0, Some(1));
    let file = site.dir().join("bytes.cfg");
    std::fs::write(&file, [0xff, 0, 0xfe, b'{', 0x80]).expect("a file");
    let (status, text) = check(&file, &[]);
    assert_eq!(status, Some(1), "{text}");
}

#[test]
fn the_export_tables_are_json_and_name_every_module_of_the_example() {
    let output = Command::new(program()).args(["modules", "--json"]).output().expect("tandem");
    assert!(output.status.success());
    let tables: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = tables.to_string();
    let example = tandem_tests::NODE_1;
    let loaded = example.lines().filter_map(|l| l.strip_prefix("loadmodule \""));
    for module in loaded.filter_map(|l| l.split(".so").next()) {
        assert!(text.contains(&format!("\"{module}\"")), "{module} is not in the tables");
    }
}
