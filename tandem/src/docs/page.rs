//! The page of a module.

use std::fmt::Write as _;

use tandem_engine::module::ModuleDef;
use tandem_script::sig::{ArgKind, ArgSig, AsyncUse, ParamKind, ParamSig, Routes};

use super::cell;

/// The page as Markdown.
pub(super) fn write(def: &ModuleDef, example: Option<&str>) -> String {
    let mut page = format!("# {}\n\n{}\n", def.name, def.help);
    needs(&mut page, def);
    if let Some(example) = example {
        let _ = write!(page, "\n## Example\n\n```\n{}\n```\n", example.trim_end());
    }
    params(&mut page, def);
    functions(&mut page, def);
    variables(&mut page, def);
    commands(&mut page, def);
    statistics(&mut page, def);
    events(&mut page, def);
    page.push_str(
        "\nThis page is made from the module's own table: `tandem modules --docs docs`.\n",
    );
    page
}

fn needs(page: &mut String, def: &ModuleDef) {
    if def.dependencies.is_empty() {
        return;
    }
    let each = def.dependencies.iter().map(|d| match d.when_param {
        "" => format!("`{}`", d.module),
        param => format!("`{}` (when `{param}` is set)", d.module),
    });
    let _ = writeln!(page, "\nNeeds: {}.", each.collect::<Vec<_>>().join(", "));
}

fn params(page: &mut String, def: &ModuleDef) {
    if def.params.is_empty() {
        return;
    }
    let (heading, name) =
        if def.name == "core" { ("Globals", "Global") } else { ("Parameters", "Parameter") };
    let _ = write!(
        page,
        "\n## {heading}\n\n| {name} | Type | Default | Meaning |\n|---|---|---|---|\n"
    );
    for p in def.params {
        let default = p.default.map_or_else(|| "unset".to_owned(), |d| format!("`{d}`"));
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} |",
            p.name,
            param_kind(p.kind),
            cell(&default),
            cell(&param_help(p))
        );
    }
}

fn param_help(p: &ParamSig) -> String {
    let mut help =
        p.moot.map_or_else(|| p.help.to_owned(), |why| format!("No meaning here: {why}."));
    if p.multiple && p.moot.is_none() {
        help.push_str(" May be given several times.");
    }
    if !p.old_names.is_empty() {
        let _ = write!(help, " Older name: `{}`.", p.old_names.join("`, `"));
    }
    help
}

fn param_kind(kind: ParamKind) -> &'static str {
    match kind {
        ParamKind::Int => "integer",
        ParamKind::Str => "text",
        ParamKind::IntOrStr => "integer or text",
        ParamKind::BranchFlag => "branch flag",
        ParamKind::MessageFlag => "message flag",
        ParamKind::Var => "variable",
        ParamKind::Vars => "text with variables",
    }
}

fn functions(page: &mut String, def: &ModuleDef) {
    if def.functions.is_empty() {
        return;
    }
    page.push_str("\n## Functions\n");
    for f in def.functions {
        let _ = write!(page, "\n### `{}({})`\n\n{}\n", f.sig.name, args(f.sig.args), f.sig.help);
        let _ =
            writeln!(page, "\nRoutes: {}.{}", routes(f.sig.routes), asynchronous(f.sig.async_use));
        for arg in f.sig.args {
            let _ = writeln!(page, "- `{}`: {}", arg.name, arg_kind(arg));
            if let ArgKind::Flags(flags) = arg.kind {
                for flag in flags {
                    let value = if flag.takes_value { "=VALUE" } else { "" };
                    let old = match flag.old {
                        "" => String::new(),
                        old => format!(" (older spelling `{old}`)"),
                    };
                    let _ = writeln!(page, "  - `{}{value}`{old}: {}", flag.name, flag.help);
                }
            }
        }
    }
}

fn args(args: &[ArgSig]) -> String {
    let mut text = String::new();
    for (i, arg) in args.iter().enumerate() {
        let comma = if i == 0 { "" } else { ", " };
        if arg.optional {
            let _ = write!(text, "[{comma}{}]", arg.name);
        } else {
            let _ = write!(text, "{comma}{}", arg.name);
        }
    }
    text
}

fn arg_kind(arg: &ArgSig) -> String {
    let kind = match arg.kind {
        ArgKind::Int => "integer",
        ArgKind::Str => "text",
        ArgKind::Var => "variable, without quotes",
        ArgKind::Regex => "POSIX extended expression",
        ArgKind::Flags(_) => "comma separated names of:",
        ArgKind::MessageFlag => "name of a message flag",
        ArgKind::BranchFlag => "name of a branch flag",
        ArgKind::Route(_) => "name of a route",
        ArgKind::SharingTag => "sharing tag, `name` or `name/cluster`",
        ArgKind::Methods => "methods separated by `|`",
        ArgKind::Format => "text with variables, expanded each time it is used",
        ArgKind::Vars => "variables in one text, separated by `;`",
        #[allow(unreachable_patterns, reason = "kinds that come later are named by themselves")]
        _ => "see above",
    };
    let optional = if arg.optional { "optional; " } else { "" };
    let literal = if arg.is_static { "; a literal only" } else { "" };
    format!("{optional}{kind}{literal}")
}

fn asynchronous(how: AsyncUse) -> &'static str {
    match how {
        AsyncUse::No => "",
        AsyncUse::Only => " Only in `async()` and `launch()`.",
        AsyncUse::Both => " Also in `async()` and `launch()`.",
    }
}

fn routes(routes: Routes) -> String {
    if routes == Routes::ANY { "any".to_owned() } else { crate::tables::routes(routes).join(", ") }
}

fn variables(page: &mut String, def: &ModuleDef) {
    if def.variables.is_empty() {
        return;
    }
    page.push_str("\n## Variables\n\n| Variable | Access | Meaning |\n|---|---|---|\n");
    for v in def.variables {
        let name = if v.sig.takes_name {
            format!("${}(name)", v.sig.name)
        } else {
            format!("${}", v.sig.name)
        };
        let access = if v.sig.writable { "read, write" } else { "read" };
        let index = if v.sig.takes_index { " Takes an index." } else { "" };
        let _ = writeln!(page, "| `{name}` | {access} | {}{index} |", cell(v.sig.help));
    }
}

fn commands(page: &mut String, def: &ModuleDef) {
    if def.mi.is_empty() {
        return;
    }
    page.push_str(
        "\n## Management commands\n\n| Command | Parameters | Meaning |\n|---|---|---|\n",
    );
    for c in def.mi {
        let sets = c.param_sets.iter().map(|set| {
            let names: Vec<_> = set.iter().map(|p| p.name).collect();
            if names.is_empty() { "none".to_owned() } else { format!("`{}`", names.join(" ")) }
        });
        let sets = sets.collect::<Vec<_>>().join("; ");
        let old = match c.old_names {
            [] => String::new(),
            names => format!(" Older name: `{}`.", names.join("`, `")),
        };
        let _ = writeln!(page, "| `{}` | {} | {}{old} |", c.name, cell(&sets), cell(c.help));
    }
}

fn statistics(page: &mut String, def: &ModuleDef) {
    if def.statistics.is_empty() {
        return;
    }
    page.push_str("\n## Statistics\n\n| Statistic | Meaning |\n|---|---|\n");
    for s in def.statistics {
        let reset = if s.resettable { "" } else { " Cannot be reset." };
        let _ = writeln!(page, "| `{}` | {}{reset} |", full(def, s.name), cell(s.help));
    }
}

fn full(def: &ModuleDef, name: &str) -> String {
    if name.contains(':') { name.to_owned() } else { format!("{}:{name}", def.name) }
}

fn events(page: &mut String, def: &ModuleDef) {
    if def.events.is_empty() {
        return;
    }
    page.push_str("\n## Events\n\n| Event | Parameters | Meaning |\n|---|---|---|\n");
    for e in def.events {
        let params = match e.params {
            [] => "none".to_owned(),
            names => format!("`{}`", names.join("`, `")),
        };
        let _ = writeln!(page, "| `{}` | {params} | {} |", e.name, cell(e.help));
    }
}
