//! `$shv`: variables that all workers share.

use std::collections::BTreeMap;

use bytes::Bytes;
use parking_lot::RwLock;
use tandem_engine::module::{VarCall, VariableDef};
use tandem_script::host::Assign;
use tandem_script::sig::VariableSig;
use tandem_script::value::Value;

use crate::CfgUtils;

/// Names of a node; more are refused, so that a script cannot fill memory with what it is sent.
const NAMES_MAX: usize = 100_000;

pub(crate) const VARIABLES: &[VariableDef] = &[VariableDef {
    sig: VariableSig {
        name: "shv",
        writable: true,
        takes_name: true,
        takes_index: false,
        help: "A variable that all workers share; 0 until it is set.",
    },
    get: |call| {
        let found = call.state::<CfgUtils>().and_then(|s| s.shared.get(call.access.name));
        found.unwrap_or(Value::Int(0))
    },
    set: Some(set),
}];

fn set(call: &mut VarCall<'_, '_>, _: Assign, value: Value) -> Result<(), String> {
    let state = call.state::<CfgUtils>().ok_or("the module is not there")?;
    state.shared.set(call.access.name, value)
}

/// The table of shared variables.
pub(crate) struct Shared(RwLock<BTreeMap<Bytes, Value>>);

impl Shared {
    pub(crate) fn new(presets: Vec<(Bytes, Value)>) -> Self {
        Self(RwLock::new(presets.into_iter().collect()))
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<Value> {
        self.0.read().get(name).cloned()
    }

    /// Null takes a variable back to what it was before it was set.
    pub(crate) fn set(&self, name: &[u8], value: Value) -> Result<(), String> {
        let mut all = self.0.write();
        if value.is_null() {
            all.remove(name);
            return Ok(());
        }
        if all.len() >= NAMES_MAX && !all.contains_key(name) {
            return Err(format!("more than {NAMES_MAX} names of $shv"));
        }
        all.insert(Bytes::copy_from_slice(name), value);
        Ok(())
    }

    pub(crate) fn all(&self) -> Vec<(Bytes, Value)> {
        self.0.read().iter().map(|(n, v)| (n.clone(), v.clone())).collect()
    }
}
