//! The tables of all modules in the form that the script compiler reads.

use tandem_script::known::Known;
use tandem_script::sig::{Catalogue, FunctionSig, ModuleSig, VariableSig};

use crate::module::ModuleDef;

/// Every module that this build has; `core` first. A module's place here is its slot.
pub type Modules = &'static [&'static ModuleDef];

/// Owns what a [`Catalogue`] borrows.
pub struct Tables {
    modules: Vec<OwnedSig>,
    known: Known,
}

struct OwnedSig {
    def: &'static ModuleDef,
    functions: Vec<FunctionSig>,
    variables: Vec<VariableSig>,
    events: Vec<&'static str>,
}

impl Tables {
    pub fn new(modules: Modules) -> Self {
        let modules = modules
            .iter()
            .map(|def| OwnedSig {
                def,
                functions: def.functions.iter().map(|f| f.sig).collect(),
                variables: def.variables.iter().map(|v| v.sig).collect(),
                events: def.events.iter().map(|e| e.name).collect(),
            })
            .collect();
        Self { modules, known: Known::builtin() }
    }

    /// Calls `use_it` with the catalogue, e.g. to compile a script against it.
    pub fn with<R>(&self, use_it: impl FnOnce(&Catalogue<'_>) -> R) -> R {
        let modules: Vec<ModuleSig<'_>> = self
            .modules
            .iter()
            .map(|m| ModuleSig {
                name: m.def.name,
                help: m.def.help,
                dependencies: m.def.dependencies,
                params: m.def.params,
                functions: &m.functions,
                variables: &m.variables,
                events: &m.events,
            })
            .collect();
        use_it(&Catalogue { modules: &modules, known: &self.known })
    }
}
