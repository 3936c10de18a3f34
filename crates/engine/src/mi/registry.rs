//! Which command a name means, and which of its parameter sets a request fits.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::envelope::{Params, RpcError};
use super::{MiDef, MiKind, MiParam};

/// A command and the slot of the module it belongs to.
#[derive(Clone, Copy)]
pub struct Found {
    pub def: &'static MiDef,
    pub slot: u16,
}

/// All commands of the loaded modules.
#[derive(Default)]
pub struct Registry {
    commands: Vec<Found>,
    /// Canonical and old names.
    exact: BTreeMap<&'static str, usize>,
    /// The part behind the colon; several when modules share it.
    short: BTreeMap<&'static str, Vec<usize>>,
}

impl Registry {
    pub fn add(&mut self, slot: u16, def: &'static MiDef) {
        let index = self.commands.len();
        self.commands.push(Found { def, slot });
        self.exact.insert(def.name, index);
        let short = def.name.split_once(':').map(|(_, short)| short);
        // An old name that is the unqualified one is ambiguous like that.
        for old in def.old_names.iter().filter(|old| Some(**old) != short) {
            self.exact.entry(old).or_insert(index);
        }
        if let Some(short) = short {
            self.short.entry(short).or_default().push(index);
        }
    }

    /// Canonical names in the order of loading, as `which` lists them.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.commands.iter().map(|c| c.def.name)
    }

    /// Canonical name, then unqualified name if only one module has it, then the 3.x name.
    pub fn find(&self, name: &str) -> Result<Found, RpcError> {
        let by_index = |index: &usize| self.commands.get(*index).copied();
        if let Some(found) = self.exact.get(name).filter(|_| name.contains(':')).and_then(by_index)
        {
            return Ok(found);
        }
        match self.short.get(name).map(Vec::as_slice) {
            Some([one]) => by_index(one).ok_or_else(RpcError::method_not_found),
            Some(several) if !self.exact.contains_key(name) => Err(self.ambiguous(several)),
            _ => self.exact.get(name).and_then(by_index).ok_or_else(RpcError::method_not_found),
        }
    }

    fn ambiguous(&self, indexes: &[usize]) -> RpcError {
        let names: Vec<&str> =
            indexes.iter().filter_map(|i| self.commands.get(*i)).map(|c| c.def.name).collect();
        RpcError {
            code: -32001,
            message: "Method ambiguous".into(),
            data: Some(format!("supported names: {}", names.join(", "))),
        }
    }
}

/// Finds the parameter set that a request fits and brings the values into its order.
pub(super) fn match_params(
    def: &MiDef,
    params: Params,
) -> Result<Vec<(&'static str, Json)>, RpcError> {
    let wrong_count = || RpcError::invalid_params("Too few or too many parameters");
    let values = match params {
        Params::None => {
            def.param_sets.iter().find(|s| s.is_empty()).ok_or_else(wrong_count)?;
            Vec::new()
        }
        Params::Positional(_) if is_named_only(def) => {
            return Err(RpcError::invalid_params("Command only supports named parameters"));
        }
        Params::Positional(list) => {
            let mut fitting = def.param_sets.iter().filter(|s| s.len() == list.len());
            let set = fitting.next().ok_or_else(wrong_count)?;
            if fitting.next().is_some() {
                let text = "Ambiguous call, use named parameters instead";
                return Err(RpcError::invalid_params(text));
            }
            set.iter().zip(list).collect()
        }
        Params::Named(mut map) => {
            if !def.param_sets.iter().any(|s| s.len() == map.len()) {
                return Err(wrong_count());
            }
            let set = def
                .param_sets
                .iter()
                .find(|s| s.len() == map.len() && s.iter().all(|p| map.contains_key(p.name)))
                .ok_or_else(|| RpcError::invalid_params("Named parameters do not match"))?;
            set.iter().filter_map(|p| map.remove(p.name).map(|v| (p, v))).collect()
        }
    };
    values.into_iter().map(|(param, value)| check_type(param, value)).collect()
}

/// Whether the order of the parameters says nothing.
fn is_named_only(def: &MiDef) -> bool {
    let mut all = def.param_sets.iter().copied().flatten();
    all.any(|param| matches!(param.kind, MiKind::NamedInt | MiKind::NamedStr))
}

fn check_type(param: &MiParam, value: Json) -> Result<(&'static str, Json), RpcError> {
    let fits = match (param.kind, &value) {
        (MiKind::Int | MiKind::NamedInt, Json::Number(n)) => n.is_i64() || n.is_u64(),
        (MiKind::Int | MiKind::NamedInt, Json::String(s)) => s.parse::<i64>().is_ok(),
        (MiKind::Str | MiKind::NamedStr, Json::String(_) | Json::Number(_)) => true,
        (MiKind::Array, Json::Array(_)) => true,
        (MiKind::Any, _) => true,
        _ => false,
    };
    if fits {
        Ok((param.name, value))
    } else {
        Err(RpcError::invalid_params(format!("Bad type for parameter '{}'", param.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mi::MiOutcome;
    use serde_json::json;

    const fn def(
        name: &'static str,
        old_names: &'static [&'static str],
        param_sets: &'static [&'static [MiParam]],
    ) -> MiDef {
        MiDef { name, old_names, param_sets, help: "", run: |_| MiOutcome::ok() }
    }

    const TAG: &[MiParam] = &[MiParam { name: "tag", kind: MiKind::Str }];
    const BRIEF: &[MiParam] = &[MiParam { name: "brief", kind: MiKind::Int }];
    static DUMP: MiDef = def("usrloc:dump", &["ul_dump"], &[&[], BRIEF]);
    static LIST: MiDef = def("clusterer:list", &["clusterer_list"], &[&[]]);
    static STATS: MiDef = def("statistics:list", &["list_statistics"], &[&[]]);
    static PIKE: MiDef = def("pike:list", &["list"], &[&[]]);
    static ACTIVE: MiDef =
        def("clusterer:shtag_set_active", &["clusterer_shtag_set_active"], &[TAG]);

    fn registry() -> Registry {
        let mut registry = Registry::default();
        for (slot, def) in [&DUMP, &LIST, &STATS, &ACTIVE, &PIKE].into_iter().enumerate() {
            registry.add(slot as u16, def);
        }
        registry
    }

    fn data(error: RpcError) -> String {
        error.data.unwrap_or_default()
    }

    #[test]
    fn canonical_short_and_old_names_find_a_command() {
        let registry = registry();
        for name in ["usrloc:dump", "dump", "ul_dump"] {
            assert_eq!(registry.find(name).ok().map(|f| f.def.name), Some("usrloc:dump"));
        }
        let error = registry.find("list").err().unwrap();
        assert_eq!(error.code, -32001);
        assert_eq!(data(error), "supported names: clusterer:list, statistics:list, pike:list");
        assert_eq!(registry.find("nosuch").err().unwrap().code, -32601);
    }

    #[test]
    fn parameters_match_by_count_or_by_name_and_by_type() {
        let brief = |v: Json| Params::Positional(vec![v]);
        assert_eq!(match_params(&DUMP, Params::None).unwrap(), []);
        assert_eq!(match_params(&DUMP, brief(json!(1))).unwrap(), [("brief", json!(1))]);
        assert_eq!(
            data(match_params(&DUMP, brief(json!("x"))).unwrap_err()),
            "Bad type for parameter 'brief'"
        );
        let two = Params::Positional(vec![json!(1), json!(2)]);
        assert_eq!(data(match_params(&DUMP, two).unwrap_err()), "Too few or too many parameters");
        let named = |name: &str| {
            Params::Named(std::iter::once((name.to_string(), json!("service/1"))).collect())
        };
        assert!(match_params(&ACTIVE, named("tag")).is_ok());
        assert_eq!(
            data(match_params(&ACTIVE, named("tga")).unwrap_err()),
            "Named parameters do not match"
        );
        assert_eq!(
            data(match_params(&ACTIVE, Params::None).unwrap_err()),
            "Too few or too many parameters"
        );
    }
}
