//! `-p CMD`: the script with its includes put in, piped through a command of the operator.
//!
//! Annotation lines say which file and line the text after them came from, so that what the
//! checker finds later is shown where a person wrote it.

use std::io::Write as _;
use std::process::{Command, Stdio};

use tandem_script::source::Loader;

/// How deep files may include each other.
const DEPTH_MAX: usize = 50;

/// Reads `path` and its includes through `files`, and gives what `command` makes of them.
///
/// # Errors
/// A file that is missing, a circle of includes, or a command that fails.
pub(crate) fn run(files: &mut impl Loader, path: &str, command: &str) -> Result<Vec<u8>, String> {
    let mut flat = Vec::new();
    flatten(files, path, None, 0, &mut flat)?;
    pipe(command, flat)
}

fn flatten(
    files: &mut impl Loader,
    path: &str,
    from: Option<&str>,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err(format!("{path}: files include each other more than {DEPTH_MAX} deep"));
    }
    let file = files.load(path, from).map_err(|e| format!("{path}: {e}"))?;
    out.extend_from_slice(format!("__OSSPP_FILEBEGIN__ \"{}\"\n", file.name).as_bytes());
    out.extend_from_slice(b"__OSSPP_LINE__ 1\n");
    for (at, line) in file.text.split_inclusive(|b| *b == b'\n').enumerate() {
        let Some(inner) = included(line) else {
            out.extend_from_slice(line);
            continue;
        };
        flatten(files, &inner, Some(&file.name), depth + 1, out)?;
        out.extend_from_slice(format!("__OSSPP_LINE__ {}\n", at + 2).as_bytes());
    }
    if !out.ends_with(b"\n") {
        out.push(b'\n');
    }
    out.extend_from_slice(b"__OSSPP_FILEEND__\n");
    Ok(())
}

/// The file that a line includes: `include_file "f"` or `import_file 'f'`.
fn included(line: &[u8]) -> Option<String> {
    let line = std::str::from_utf8(line).ok()?.trim_start();
    let rest = line.strip_prefix("include_file").or_else(|| line.strip_prefix("import_file"))?;
    let rest = rest.trim_start();
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let (name, _) = rest.get(1..)?.split_once(quote)?;
    Some(name.to_owned())
}

fn pipe(command: &str, text: Vec<u8>) -> Result<Vec<u8>, String> {
    let cannot = |e: std::io::Error| format!("the preprocessor `{command}` cannot run: {e}");
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(cannot)?;
    let stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        // A command may answer before it has read everything; one that reads nothing is no fault.
        scope.spawn(move || stdin.map(|mut pipe| pipe.write_all(&text)));
        child.wait_with_output()
    });
    let output = output.map_err(cannot)?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(format!("the preprocessor `{command}` failed: {}", output.status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_engine::testing::Files;

    fn files() -> Files {
        let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        Files([file("a", "one\n  include_file \"b\"\nthree\n"), file("b", "two")].into())
    }

    #[test]
    fn includes_are_put_in_with_the_places_they_came_from() {
        let text = run(&mut files(), "a", "cat").unwrap();
        let expected = "__OSSPP_FILEBEGIN__ \"a\"\n__OSSPP_LINE__ 1\none\n\
            __OSSPP_FILEBEGIN__ \"b\"\n__OSSPP_LINE__ 1\ntwo\n__OSSPP_FILEEND__\n\
            __OSSPP_LINE__ 3\nthree\n__OSSPP_FILEEND__\n";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn the_command_changes_the_text_and_its_failure_is_an_error() {
        let text = run(&mut files(), "b", "sed s/two/2/").unwrap();
        assert!(String::from_utf8(text).unwrap().contains("\n2\n"));
        assert!(run(&mut files(), "b", "exit 3").unwrap_err().contains("exit 3"));
        assert!(run(&mut files(), "none", "cat").unwrap_err().contains("none"));
        let circle = Files([("a".to_owned(), "include_file 'a'".to_owned())].into());
        assert!(run(&mut { circle }, "a", "cat").unwrap_err().contains("more than 50 deep"));
    }
}
