//! A function being called and a variable being used, as their module sees them.

use std::sync::Arc;

use bytes::Bytes;
use tandem_script::host::{ArgValue, Called, VarAccess};
use tandem_script::program::{Call as CallSite, Ready};
use tandem_script::value::Value;
use tandem_script::vm::Running;

use crate::context::Ctx;
use crate::log::Level;
use crate::module::{Cx, Module};

/// A script function being called.
pub struct Call<'a, 'b, 'c> {
    pub cx: &'a mut Cx<'b>,
    pub ctx: &'a mut Ctx,
    pub args: &'a [ArgValue],
    pub site: &'a CallSite,
    pub(crate) running: &'a mut Running<'c>,
}

impl Call<'_, '_, '_> {
    /// The state of the module that exports the function.
    pub fn state<T: Module>(&self) -> Option<Arc<T>> {
        self.cx.node.module::<T>(self.cx.slot)
    }

    /// A text argument; empty when omitted or null.
    pub fn text(&self, index: usize) -> Bytes {
        match self.args.get(index) {
            Some(ArgValue::Value(value)) => value.clone().into_bytes().unwrap_or_default(),
            _ => Bytes::new(),
        }
    }

    /// Whether an optional argument was given and is not null.
    pub fn given(&self, index: usize) -> bool {
        match self.args.get(index) {
            None | Some(ArgValue::None | ArgValue::Value(Value::Null)) => false,
            Some(_) => true,
        }
    }

    /// Whether a variable was named as an argument, whatever it holds.
    pub fn given_var(&self, index: usize) -> bool {
        matches!(self.args.get(index), Some(ArgValue::Var(_)))
    }

    pub fn int(&self, index: usize) -> Option<i32> {
        match self.args.get(index)? {
            ArgValue::Value(value) => value.int(),
            _ => None,
        }
    }

    /// What the compiler prepared from a literal argument.
    pub fn ready(&self, index: usize) -> Option<&Ready> {
        match self.args.get(index)? {
            ArgValue::Ready(ready) => Some(ready),
            _ => None,
        }
    }

    /// Says why a function failed, with its place in the script, and returns -1.
    pub fn complain(&mut self, level: Level, text: impl AsRef<str>) -> Called {
        let place = self.site.place;
        let file = self.running.program.file_name(place);
        let place = format!("{file}:{}:{}", place.line, place.column);
        self.cx.log(level, format!("{place}: {}", text.as_ref()));
        Called::Returned(-1)
    }
}

/// A variable being read or written.
pub struct VarCall<'a, 'b> {
    pub cx: &'a mut Cx<'b>,
    pub ctx: &'a mut Ctx,
    pub access: VarAccess<'a>,
}

impl VarCall<'_, '_> {
    pub fn state<T: Module>(&self) -> Option<Arc<T>> {
        self.cx.node.module::<T>(self.cx.slot)
    }
}
