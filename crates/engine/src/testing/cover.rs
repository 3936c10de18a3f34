//! Every entry of an export table has a check, and every check uses its entry.

use super::evidence;
use crate::module::ModuleDef;

/// A check of an entry of an export table: `("function save", save_works)`.
pub type Check = (&'static str, fn());

/// Runs a check for every entry of a module's table. An entry is named by its kind and name:
/// `param`, `function`, `variable`, `mi`, `statistic`, `event`.
///
/// # Panics
/// If an entry has no check, a check has no entry, a check fails, or a check has not used its
/// entry: its name was in no script, command, answer or event (see [`evidence`]).
pub fn cover(def: &ModuleDef, checks: &[Check]) {
    let entries = entries(def);
    let checked: Vec<&str> = checks.iter().map(|(name, _)| *name).collect();
    let missing: Vec<_> = entries.iter().filter(|(e, _)| !checked.contains(&e.as_str())).collect();
    let known = |check: &str| entries.iter().any(|(e, _)| e == check);
    let unknown: Vec<_> = checked.iter().filter(|check| !known(check)).collect();
    assert!(missing.is_empty(), "{}: entries without a check: {missing:?}", def.name);
    assert!(unknown.is_empty(), "{}: checks without an entry: {unknown:?}", def.name);
    let mut unused = Vec::new();
    for (name, check) in checks {
        eprintln!("{name}");
        evidence::take();
        check();
        let seen = evidence::take();
        let names = entries.iter().find(|(e, _)| e == name).map(|(_, names)| names.as_slice());
        if !names.unwrap_or_default().iter().any(|n| seen.contains(n)) {
            unused.push(*name);
        }
    }
    assert!(unused.is_empty(), "{}: checks that do not use their entry: {unused:?}", def.name);
}

/// The entries of a table, each with the texts of which one shows that it was used.
fn entries(def: &ModuleDef) -> Vec<(String, Vec<&'static str>)> {
    let mut all: Vec<(String, Vec<&'static str>)> = Vec::new();
    all.extend(def.params.iter().map(|p| (format!("param {}", p.name), vec![p.name])));
    let functions = def.functions.iter().map(|f| f.sig.name);
    all.extend(functions.map(|name| (format!("function {name}"), vec![name])));
    let variables = def.variables.iter().map(|v| v.sig.name);
    all.extend(variables.map(|name| (format!("variable {name}"), vec![name])));
    let commands = def.mi.iter().map(|c| (c, [&[c.name][..], c.old_names].concat()));
    all.extend(commands.map(|(c, names)| (format!("mi {}", c.name), names)));
    let statistics = def.statistics.iter().map(|s| s.name);
    all.extend(statistics.map(|name| (format!("statistic {name}"), vec![name])));
    let events = def.events.iter().map(|e| e.name);
    all.extend(events.map(|name| (format!("event {name}"), vec![name])));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::gauge;
    use std::panic::catch_unwind;
    use std::sync::Arc;

    static DEF: ModuleDef = ModuleDef {
        name: "some",
        help: "Some.",
        dependencies: &[],
        params: &[],
        functions: &[],
        variables: &[],
        mi: &[],
        statistics: &[gauge("things", "Things.")],
        events: &[],
        build: |_| Ok(Arc::new(Some_)),
    };

    struct Some_;

    impl crate::module::Module for Some_ {}

    #[test]
    fn a_check_that_does_nothing_is_none() {
        let of = |check| catch_unwind(move || cover(&DEF, &[("statistic things", check)]));
        assert!(of(|| evidence::note("stat things")).is_ok());
        assert!(of(|| {}).is_err());
        assert!(catch_unwind(|| cover(&DEF, &[])).is_err());
    }
}
