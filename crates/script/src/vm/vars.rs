//! The table of `$var`: one slot per name in the program, plus computed names.

use std::sync::Arc;

use bytes::Bytes;
use regex::bytes::Regex;

use crate::program::Program;
use crate::transform::subst::Subst;
use crate::value::Value;

/// Names that exist only at run time, per table.
const DYNAMIC_NAMES_MAX: usize = 1000;
/// Expressions compiled at run time, per table.
const REGEXES_MAX: usize = 32;

/// `$var` values of a worker. They belong to it, not to a message or route, and keep their
/// values across a reload by name.
#[derive(Clone, Debug, Default)]
pub struct Vars {
    names: Arc<[Bytes]>,
    slots: Vec<Value>,
    dynamic: Vec<(Bytes, Value)>,
    /// Expressions from variables, the latest last.
    regexes: Vec<(Bytes, Arc<Regex>)>,
    substs: Vec<(Bytes, Arc<Subst>)>,
}

impl Vars {
    /// A table with all variables null.
    pub fn new(program: &Program) -> Self {
        let mut vars = Self::default();
        vars.adapt(program);
        vars
    }

    /// Presets a variable (`varset`), also one that the script does not name.
    pub fn preset(&mut self, name: &[u8], value: Value) {
        self.set_named(name, value);
    }

    pub fn get_named(&self, name: &[u8]) -> Value {
        if let Some(slot) = self.names.iter().position(|n| n == name) {
            return self.slot(slot as u32);
        }
        self.dynamic.iter().find(|(n, _)| n == name).map_or(Value::Null, |(_, v)| v.clone())
    }

    pub(super) fn set_named(&mut self, name: &[u8], value: Value) -> bool {
        if let Some(slot) = self.names.iter().position(|n| n == name) {
            self.set_slot(slot as u32, value);
            return true;
        }
        match self.dynamic.iter().position(|(n, _)| n == name) {
            Some(at) if value.is_null() => {
                self.dynamic.swap_remove(at);
            }
            Some(at) => {
                if let Some(entry) = self.dynamic.get_mut(at) {
                    entry.1 = value;
                }
            }
            None if value.is_null() => {}
            None if self.dynamic.len() >= DYNAMIC_NAMES_MAX => return false,
            None => self.dynamic.push((Bytes::copy_from_slice(name), value)),
        }
        true
    }

    pub(super) fn slot(&self, slot: u32) -> Value {
        self.slots.get(slot as usize).cloned().unwrap_or_default()
    }

    pub(super) fn set_slot(&mut self, slot: u32, value: Value) {
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = value;
        }
    }

    /// Rearranges the slots when the program is another one than last time.
    pub(super) fn adapt(&mut self, program: &Program) {
        if Arc::ptr_eq(&self.names, &program.var_names) {
            return;
        }
        let old_names = std::mem::replace(&mut self.names, Arc::clone(&program.var_names));
        let old_slots = std::mem::replace(&mut self.slots, vec![Value::Null; self.names.len()]);
        let dynamic = std::mem::take(&mut self.dynamic);
        for (name, value) in old_names.iter().cloned().zip(old_slots).chain(dynamic) {
            self.set_named(&name, value);
        }
    }

    /// A table with the values of these variables; the others are null.
    pub(super) fn with_only(&self, program: &Program, names: &[Bytes]) -> Self {
        let mut kept = Self::new(program);
        for name in names {
            kept.set_named(name, self.get_named(name));
        }
        kept
    }

    pub(super) fn regex(&mut self, pattern: &[u8]) -> Option<Arc<Regex>> {
        if let Some((_, regex)) = self.regexes.iter().find(|(p, _)| p == pattern) {
            return Some(Arc::clone(regex));
        }
        let regex = Arc::new(super::ops::compile_regex(pattern).ok()?);
        if self.regexes.len() >= REGEXES_MAX {
            self.regexes.remove(0);
        }
        self.regexes.push((Bytes::copy_from_slice(pattern), Arc::clone(&regex)));
        Some(regex)
    }

    /// A substitution whose expression is known at run time only.
    pub(super) fn subst(&mut self, text: &[u8]) -> Result<Arc<Subst>, String> {
        if let Some((_, subst)) = self.substs.iter().find(|(t, _)| t == text) {
            return Ok(Arc::clone(subst));
        }
        let subst = Arc::new(Subst::plain(text)?);
        if self.substs.len() >= REGEXES_MAX {
            self.substs.remove(0);
        }
        self.substs.push((Bytes::copy_from_slice(text), Arc::clone(&subst)));
        Ok(subst)
    }

    pub(super) fn bytes_held(&self) -> usize {
        let values = self.slots.iter().chain(self.dynamic.iter().map(|(_, v)| v));
        values.map(|v| if let Value::Str(s) | Value::Both(_, s) = v { s.len() } else { 0 }).sum()
    }
}
