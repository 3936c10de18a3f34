//! The text that Prometheus reads (format 0.0.4).

use std::collections::BTreeMap;

use tandem_engine::stats::StatKind;

use crate::labels::Rule;

/// Where the group of a statistic stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Without,
    InName,
    Label,
}

/// How names are made.
#[derive(Clone, Debug)]
pub(crate) struct Naming {
    pub(crate) prefix: String,
    pub(crate) delimiter: String,
    pub(crate) group_prefix: String,
    pub(crate) group_label: String,
    pub(crate) mode: Mode,
}

/// All values of one name stand together, as the format wants it.
#[derive(Debug, Default)]
pub(crate) struct Page(BTreeMap<String, Metric>);

#[derive(Debug, Default)]
struct Metric {
    kind: String,
    help: String,
    /// Labels and value.
    values: Vec<(String, String)>,
}

impl Naming {
    /// The name in front of which the prefix stands.
    pub(crate) fn full(&self, group: Option<&str>, name: &str) -> String {
        let mut out = self.prefix.clone();
        if let Some(group) = group {
            join(&mut out, &self.delimiter, &format!("{}{group}", self.group_prefix));
        }
        join(&mut out, &self.delimiter, name);
        let letter = |(at, c): (usize, char)| {
            let fine = c.is_ascii_alphabetic() || c == '_' || c == ':';
            if fine || (at > 0 && c.is_ascii_digit()) { c } else { '_' }
        };
        out.chars().enumerate().map(letter).collect()
    }
}

fn join(out: &mut String, delimiter: &str, part: &str) {
    if !out.is_empty() && !part.is_empty() {
        out.push_str(delimiter);
    }
    out.push_str(part);
}

impl Page {
    pub(crate) fn add(
        &mut self,
        naming: &Naming,
        rules: &[Rule],
        full: &str,
        kind: StatKind,
        value: u64,
    ) {
        let (group, name) = full.split_once(':').unwrap_or(("", full));
        let changed = rules.iter().find_map(|rule| rule.apply(group, name));
        let (name, mut labels) = changed.unwrap_or_else(|| (name.to_owned(), String::new()));
        let in_name = (naming.mode == Mode::InName).then_some(group);
        if naming.mode == Mode::Label {
            let group = label(&naming.group_label, group);
            labels = if labels.is_empty() { group } else { format!("{group},{labels}") };
        }
        let kind = if kind == StatKind::Counter { "counter" } else { "gauge" };
        self.declare(naming.full(in_name, &name), kind, "").push(labels, value.to_string());
    }

    /// A name, with its kind and help when it is new.
    pub(crate) fn declare(&mut self, name: String, kind: &str, help: &str) -> Declared<'_> {
        let new = || Metric { kind: kind.to_owned(), help: one_line(help), values: Vec::new() };
        Declared(self.0.entry(name).or_insert_with(new))
    }

    pub(crate) fn into_text(self) -> String {
        let mut out = String::new();
        for (name, metric) in self.0 {
            if !metric.help.is_empty() {
                out.push_str(&format!("# HELP {name} {}\n", metric.help));
            }
            out.push_str(&format!("# TYPE {name} {}\n", metric.kind));
            for (labels, value) in metric.values {
                match labels.is_empty() {
                    true => out.push_str(&format!("{name} {value}\n")),
                    false => out.push_str(&format!("{name}{{{labels}}} {value}\n")),
                }
            }
        }
        out
    }
}

/// A name that gets values.
pub(crate) struct Declared<'a>(&'a mut Metric);

impl Declared<'_> {
    pub(crate) fn push(self, labels: String, value: String) {
        self.0.values.push((labels, value));
    }
}

/// One label, its value in quotes.
pub(crate) fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let letter = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    format!("{}=\"{value}\"", name.chars().map(letter).collect::<String>())
}

fn one_line(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}
