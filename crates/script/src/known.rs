//! Names that exist in the field: what is not in the catalogue but here is "not in Tandem yet"
//! instead of "unknown".

/// One module of the field with the names it exports.
#[derive(Clone, Debug, Default)]
pub struct KnownModule {
    pub name: &'static str,
    pub functions: Vec<&'static str>,
    /// Parameters; the globals for `core`.
    pub params: Vec<&'static str>,
    pub variables: Vec<&'static str>,
    pub events: Vec<&'static str>,
    /// Management commands, `usrloc:dump`.
    pub commands: Vec<&'static str>,
    /// Statistics, `usrloc:registered_users`; parts in `<>` depend on the configuration.
    pub statistics: Vec<&'static str>,
    pub transformations: Vec<&'static str>,
}

/// What kind of name an [`OldName`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldKind {
    Function,
    Global,
    Variable,
}

/// A core name of an older version.
#[derive(Clone, Copy, Debug)]
pub struct OldName {
    pub kind: OldKind,
    pub name: &'static str,
    /// The name that replaces it; `None`: gone without a replacement.
    pub replaced_by: Option<&'static str>,
}

/// The table; `core` is a module of it.
#[derive(Clone, Debug, Default)]
pub struct Known {
    pub modules: Vec<KnownModule>,
    pub old: Vec<OldName>,
}

impl Known {
    /// The table that comes with Tandem. It is parsed on each call; keep it while compiling.
    pub fn builtin() -> Self {
        Self::parse(include_str!("known.txt"))
    }

    /// Reads the format that `known.py` writes; lines it does not know are skipped.
    pub fn parse(text: &'static str) -> Self {
        let mut known = Self::default();
        for line in text.lines() {
            let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
            if kind == "module" {
                known.modules.push(KnownModule { name: rest, ..KnownModule::default() });
            } else if kind == "old" {
                known.old.extend(old_name(rest));
            } else if let Some(module) = known.modules.last_mut() {
                let names = rest.split(' ').filter(|n| !n.is_empty());
                match kind {
                    "f" => module.functions.extend(names),
                    "p" => module.params.extend(names),
                    "v" => module.variables.extend(names),
                    "e" => module.events.extend(names),
                    "m" => module.commands.extend(names),
                    "s" => module.statistics.extend(names),
                    "t" => module.transformations.extend(names),
                    _ => {}
                }
            }
        }
        known
    }

    pub fn module(&self, name: &str) -> Option<&KnownModule> {
        self.modules.iter().find(|m| m.name == name)
    }

    /// The modules that export a function of this name.
    pub fn function(&self, name: &str) -> Vec<&'static str> {
        self.owners(|m| m.functions.contains(&name))
    }

    /// The modules that export a variable of this name (without `$`).
    pub fn variable(&self, name: &str) -> Vec<&'static str> {
        self.owners(|m| m.variables.contains(&name))
    }

    pub fn event(&self, name: &str) -> Vec<&'static str> {
        self.owners(|m| m.events.contains(&name))
    }

    pub fn transformation(&self, name: &str) -> bool {
        self.modules.iter().any(|m| m.transformations.contains(&name))
    }

    pub fn old(&self, kind: OldKind, name: &str) -> Option<OldName> {
        self.old.iter().find(|o| o.kind == kind && o.name == name).copied()
    }

    fn owners(&self, has: impl Fn(&KnownModule) -> bool) -> Vec<&'static str> {
        self.modules.iter().filter(|m| has(m)).map(|m| m.name).collect()
    }
}

fn old_name(rest: &'static str) -> Option<OldName> {
    let mut words = rest.split(' ');
    let kind = match words.next()? {
        "f" => OldKind::Function,
        "p" => OldKind::Global,
        "v" => OldKind::Variable,
        _ => return None,
    };
    let name = words.next()?.trim_start_matches('$');
    let replaced_by = words.next().filter(|w| *w != "-");
    Some(OldName { kind, name, replaced_by })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builtin_table_knows_modules_functions_and_older_names() {
        let known = Known::builtin();
        assert!(known.modules.len() > 100);
        assert_eq!(known.function("lookup"), ["registrar"]);
        assert!(known.module("dispatcher").is_some());
        assert_eq!(known.variable("DLG_timeout"), ["dialog"]);
        assert!(known.transformation("s.sha256"));
        assert!(known.module("usrloc").is_some_and(|m| m.commands.contains(&"usrloc:dump")));
        let old = known.old(OldKind::Global, "children").expect("children");
        assert_eq!(old.replaced_by, Some("udp_workers"));
        assert_eq!(known.old(OldKind::Global, "fork").expect("fork").replaced_by, None);
    }
}
