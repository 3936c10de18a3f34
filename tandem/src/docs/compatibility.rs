//! What there is of what scripts of the field may ask for.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use tandem_engine::module::ModuleDef;
use tandem_script::known::{Known, KnownModule};
use tandem_script::sig::VariableSig;
use tandem_script::transform::TRANSFORMS;
use tandem_script::vm::VARIABLES;

const HEAD: &str = "# Compatibility

What OpenSIPS 4.0 exports, and how much of it is here. The page is made from the export tables in
the code, held against the list of names in `crates/script/src/known.txt`: `tandem modules --docs
docs` writes it. What is counted as there has a check in `tests/exports.rs` of its module that
uses it. What is not there is an error with its place at `tandem check` and at start, never
ignored. *No meaning here* counts as there: such a parameter is accepted, with a note that tells
why it does nothing.

";

/// What kind of name, how the table of the field calls it, and what the code has.
struct Kind {
    title: &'static str,
    field: fn(&KnownModule) -> &[&'static str],
    ours: fn(&ModuleDef) -> Vec<&'static str>,
}

const KINDS: &[Kind] = &[
    Kind {
        title: "parameters",
        field: |m| &m.params,
        ours: |d| {
            let sockets: &[&str] = if d.name == "core" { &["socket", "alias"] } else { &[] };
            let older = d.params.iter().flat_map(|p| p.old_names.iter().copied());
            d.params.iter().map(|p| p.name).chain(older).chain(sockets.iter().copied()).collect()
        },
    },
    Kind {
        title: "functions",
        field: |m| &m.functions,
        ours: |d| d.functions.iter().map(|f| f.sig.name).collect(),
    },
    Kind {
        title: "variables",
        field: |m| &m.variables,
        ours: |d| {
            // Those of the virtual machine belong to the language: they are always there.
            let own: &[VariableSig] = if d.name == "core" { VARIABLES } else { &[] };
            let own = own.iter().map(|v| v.name);
            d.variables.iter().map(|v| v.sig.name).chain(own).collect()
        },
    },
    Kind {
        title: "transformations",
        field: |m| &m.transformations,
        ours: |d| match d.name {
            "core" => TRANSFORMS.iter().flat_map(|t| t.iter()).map(|t| t.name).collect(),
            _ => Vec::new(),
        },
    },
    Kind {
        title: "commands",
        field: |m| &m.commands,
        ours: |d| d.mi.iter().map(|c| c.name).collect(),
    },
    Kind {
        title: "statistics",
        field: |m| &m.statistics,
        ours: |d| d.statistics.iter().map(|s| s.name).collect(),
    },
    Kind {
        title: "events",
        field: |m| &m.events,
        ours: |d| d.events.iter().map(|e| e.name).collect(),
    },
];

/// The page as Markdown.
pub(super) fn write(modules: &[&ModuleDef]) -> String {
    let known = Known::builtin();
    let mut page = HEAD.to_owned();
    summary(&mut page, modules, &known);
    missing(&mut page, modules, &known);
    absent(&mut page, modules, &known);
    page
}

/// Names without the group that the field writes before them: `usrloc:dump` is `dump`.
fn bare(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or(name)
}

/// How many names of a kind the field has, and which of them are not here.
fn compare(kind: &Kind, def: &ModuleDef, field: &KnownModule) -> (usize, Vec<&'static str>) {
    let ours: BTreeSet<&str> = (kind.ours)(def).into_iter().map(bare).collect();
    let names: BTreeSet<&'static str> = (kind.field)(field).iter().copied().collect();
    let missing = names.iter().copied().filter(|n| !ours.contains(bare(n)) && !n.contains('<'));
    (names.len(), missing.collect())
}

fn summary(page: &mut String, modules: &[&ModuleDef], known: &Known) {
    page.push_str("## Modules that are here\n\n| Module |");
    for kind in KINDS {
        let _ = write!(page, " {} |", kind.title);
    }
    let _ = write!(page, "\n|---|{}\n", "---|".repeat(KINDS.len()));
    for def in modules {
        let _ = write!(page, "| [{0}](modules/{0}.md) |", def.name);
        for kind in KINDS {
            match known.module(def.name).map(|field| compare(kind, def, field)) {
                Some((all, missing)) if all > 0 => {
                    let _ = write!(page, " {} of {all} |", all - missing.len());
                }
                _ => page.push_str(" |"),
            }
        }
        page.push('\n');
    }
}

fn missing(page: &mut String, modules: &[&ModuleDef], known: &Known) {
    page.push_str("\n## What these modules lack\n\n");
    for def in modules {
        let Some(field) = known.module(def.name) else { continue };
        let mut lines = String::new();
        for kind in KINDS {
            let (_, missing) = compare(kind, def, field);
            if !missing.is_empty() {
                let _ = writeln!(lines, "- {}: `{}`", kind.title, missing.join("`, `"));
            }
        }
        if !lines.is_empty() {
            let _ = write!(page, "**{}**\n\n{lines}\n", def.name);
        }
    }
}

fn absent(page: &mut String, modules: &[&ModuleDef], known: &Known) {
    let here: BTreeSet<&str> = modules.iter().map(|d| d.name).collect();
    let names = known.modules.iter().map(|m| m.name).filter(|n| !here.contains(n));
    let names: Vec<String> = names.map(|n| format!("`{n}`")).collect();
    let _ = write!(page, "## Modules that are not here yet\n\n{}\n", names.join(", "));
}
