//! Documents as texts, in the layouts that scripts of the field know.

use serde_json::Value as Json;

/// A layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// `{ "a": [ 1, 2 ] }`
    Spaced,
    /// `{"a":[1,2]}`
    Compact,
    /// A line for each value.
    Pretty,
    /// As compact, with plain slashes.
    Plain,
}

pub(crate) fn text(json: &Json, style: Style) -> String {
    let mut out = String::new();
    write(&mut out, json, style, 0);
    out
}

fn write(out: &mut String, json: &Json, style: Style, depth: usize) {
    match json {
        Json::Object(object) => {
            let items = object.iter().map(|(key, value)| (Some(key.as_str()), value));
            list(out, ('{', '}'), items, style, depth);
        }
        Json::Array(items) => {
            list(out, ('[', ']'), items.iter().map(|value| (None, value)), style, depth);
        }
        Json::String(text) => quoted(out, text, style),
        plain => out.push_str(&plain.to_string()),
    }
}

fn list<'a>(
    out: &mut String,
    (open, close): (char, char),
    items: impl Iterator<Item = (Option<&'a str>, &'a Json)>,
    style: Style,
    depth: usize,
) {
    out.push(open);
    let mut any = false;
    for (key, value) in items {
        if any {
            out.push(',');
        }
        any = true;
        gap(out, style, depth + 1);
        if let Some(key) = key {
            quoted(out, key, style);
            out.push_str(if style == Style::Spaced { ": " } else { ":" });
        }
        write(out, value, style, depth + 1);
    }
    if any || style == Style::Spaced {
        gap(out, style, depth);
    }
    out.push(close);
}

/// What stands before a value or a closing bracket.
fn gap(out: &mut String, style: Style, depth: usize) {
    match style {
        Style::Spaced => out.push(' '),
        Style::Pretty => {
            out.push('\n');
            (0..depth).for_each(|_| out.push_str("  "));
        }
        Style::Compact | Style::Plain => {}
    }
}

fn quoted(out: &mut String, text: &str, style: Style) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '/' if style != Style::Plain => out.push_str("\\/"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn the_layouts_differ_in_blanks_and_slashes() {
        let json = json!({"a": [1, "x/y"], "b": {}, "c": []});
        let spaced = r#"{ "a": [ 1, "x\/y" ], "b": { }, "c": [ ] }"#;
        assert_eq!(text(&json, Style::Spaced), spaced);
        assert_eq!(text(&json, Style::Compact), r#"{"a":[1,"x\/y"],"b":{},"c":[]}"#);
        assert_eq!(text(&json, Style::Plain), r#"{"a":[1,"x/y"],"b":{},"c":[]}"#);
        assert_eq!(text(&json!({"a": [1]}), Style::Pretty), "{\n  \"a\":[\n    1\n  ]\n}");
    }

    proptest! {
        #[test]
        fn every_text_is_read_back(key in "\\PC{0,8}", value in "[\\x00-\\x7f]{0,12}") {
            let json = json!({key: [value, 1, true, null]});
            for style in [Style::Spaced, Style::Compact, Style::Pretty, Style::Plain] {
                let read: Json = serde_json::from_str(&text(&json, style)).unwrap();
                prop_assert_eq!(&read, &json);
            }
        }
    }
}
