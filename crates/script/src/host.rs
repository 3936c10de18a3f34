//! The door between a running script and the node.

use std::net::IpAddr;

use bytes::Bytes;

use crate::program::{Call, Place, RouteId};
use crate::value::Value;
use crate::vm::Running;

/// What a variable access names: the variable of a module's table, plus the evaluated inner
/// name and index.
#[derive(Clone, Copy, Debug)]
pub struct VarAccess<'a> {
    /// Index of the module in the catalogue, and of the variable in its table.
    pub module: u16,
    pub variable: u16,
    /// `$hdr(name)`; empty when the variable takes none.
    pub name: &'a [u8],
    pub index: Index,
    pub context: Context,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Index {
    None,
    At(i32),
    All,
    Append,
}

/// `$(<request>v)`, `$(<reply>v)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    Current,
    Request,
    Reply,
}

/// `=` pushes on lists, `:=` replaces all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assign {
    Set,
    Replace,
}

/// What a function call ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called {
    /// > 0 true, < 0 false, 0 ends the script.
    Returned(i32),
    /// The answer comes later: the run stops here and [`crate::vm::resume`] continues it with
    /// the return code.
    Suspended,
}

/// An argument as the function gets it.
#[derive(Clone, Debug)]
pub enum ArgValue {
    /// Omitted.
    None,
    Value(Value),
    /// A variable to read or write: [`Running::get`], [`Running::set`].
    Var(crate::program::VarId),
    /// What the compiler prepared from a literal: a compiled expression, flag bits, a route.
    Ready(crate::program::Ready),
}

/// A route or a function of a run that is profiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profiled<'a> {
    /// `false`: it begins.
    pub ends: bool,
    pub name: &'a str,
    /// The kind of the block, or `function`.
    pub kind: &'static str,
    /// Routes around it.
    pub depth: usize,
    pub place: Place,
    /// The return code at the end; 0 at the beginning.
    pub status: i32,
}

/// Everything a script can do to the world.
pub trait Host {
    fn get(&mut self, var: VarAccess<'_>) -> Value;

    /// `Err` is logged with the place; the statement's return code is then -1.
    fn set(&mut self, var: VarAccess<'_>, how: Assign, value: Value) -> Result<(), String>;

    /// Calls function `function` of module `module`. `call` identifies the place in the program.
    /// `args` has exactly as many entries as the function's table row. `running` reads and
    /// writes the variables that arguments name.
    fn call(
        &mut self,
        module: u16,
        function: u16,
        call: &Call,
        args: &[ArgValue],
        running: &mut Running<'_>,
    ) -> Called;

    /// A line of `xlog`, `log`, or a complaint of the VM itself, with the place it comes from.
    fn log(&mut self, level: i32, text: &[u8], place: Place);

    /// Whether a line of this level would be written; saves building it otherwise.
    fn logs(&self, level: i32) -> bool {
        let _ = level;
        true
    }

    /// A line of `xlog`; it has a threshold of its own.
    fn xlog(&mut self, level: i32, text: &[u8], place: Place) {
        self.log(level, text, place);
    }

    /// Whether a line of `xlog` of this level would be written.
    fn xlogs(&self, level: i32) -> bool {
        self.logs(level)
    }

    /// Whether [`Host::profile`] wants to be told.
    fn profiles(&self) -> bool {
        false
    }

    /// A route or a function has begun or ended, while [`Host::profiles`].
    fn profile(&mut self, what: &Profiled<'_>) {
        let _ = what;
    }

    /// The address of a name, as far as it is known without waiting.
    fn resolve(&mut self, name: &str) -> Option<IpAddr> {
        let _ = name;
        None
    }

    /// `async()` is about to call its function; `route` runs when that ends. The host creates
    /// the transaction here. `Ok(false)`: nothing more is to be done for the message, such as for
    /// a retransmission. `Err` is logged, and the statement's return code is -1.
    fn begin_async(&mut self, route: RouteId, timeout_s: Option<i32>) -> Result<bool, String> {
        let _ = (route, timeout_s);
        Err("async() needs the module tm".to_owned())
    }

    /// `launch()`: starts the function beside the script. When it has ended the host runs
    /// `route` ([`crate::vm::RunState::start`]) with `text` as `$param(1)`. Gives the return
    /// code of the statement.
    fn launch(
        &mut self,
        call: &Call,
        args: &[ArgValue],
        route: Option<RouteId>,
        text: Option<Bytes>,
    ) -> i32 {
        let _ = (call, args, route, text);
        -1
    }
}
