//! A compiled script: plain data, immutable, shared by all workers.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use regex::bytes::Regex;
use smallvec::SmallVec;

use crate::flags::FlagSet;
use crate::host::{ArgValue, Assign, Context};
use crate::sig::Routes;
use crate::source::Span;
use crate::transform::TransformCall;
pub use crate::transform::subst::Subst;
use crate::value::Value;

/// Index of a variable reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VarId(pub u32);

/// Index of a route block in [`Program::routes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteId(pub u32);

/// Index of a call site in [`Program::calls`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallId(pub u32);

/// A place in the script; `file` indexes [`Program::files`], line and column count from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub file: u16,
    pub line: u32,
    pub column: u32,
}

/// An argument prepared at load.
#[derive(Clone, Debug)]
pub enum Ready {
    Regex(Arc<Regex>),
    Subst(Arc<Subst>),
    Flags(Arc<FlagSet>),
    /// Bit of a message flag, an index in [`Program::message_flags`].
    MessageFlag(u8),
    /// Bit of a branch flag, an index in [`Program::branch_flags`].
    BranchFlag(u8),
    Route(RouteId),
    SharingTag(Arc<TagName>),
    /// Upper case names.
    Methods(Arc<[String]>),
    Vars(Arc<[VarId]>),
    Format(FormatId),
}

/// A text with variables, to be expanded by [`crate::vm::Running::start_trace`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormatId(pub(crate) u32);

/// `name` or `name/cluster`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TagName {
    pub name: String,
    pub cluster: Option<u32>,
}

/// A call site.
#[derive(Clone, Debug)]
pub struct Call {
    pub id: CallId,
    pub module: u16,
    pub function: u16,
    pub name: &'static str,
    pub place: Place,
    pub(crate) args: SmallVec<[Arg; 4]>,
    /// The arguments as the function gets them, where all of them are known at load.
    pub(crate) fixed: Option<Box<[ArgValue]>>,
}

impl Call {
    /// Prepares what is known of the arguments.
    pub(crate) fn fix(&mut self) {
        let all = self.args.iter().map(Arg::fixed).collect::<Option<Vec<_>>>();
        self.fixed = all.map(Vec::into_boxed_slice);
    }
}

/// Where a value of an argument comes from.
#[derive(Clone, Debug)]
pub(crate) enum Arg {
    None,
    Int(i32),
    Str(Bytes),
    Format(u32),
    /// The value of a variable as it is.
    Var(VarId),
    /// The value must be an integer.
    IntVar(VarId),
    /// An integer becomes its text.
    StrVar(VarId),
    /// The variable itself.
    Ref(VarId),
    Ready(Ready),
}

impl Arg {
    /// The argument, if no run changes it.
    fn fixed(&self) -> Option<ArgValue> {
        Some(match self {
            Self::None => ArgValue::None,
            Self::Int(i) => ArgValue::Value(Value::Int(*i)),
            Self::Str(s) => ArgValue::Value(Value::Str(s.clone())),
            Self::Ref(var) => ArgValue::Var(*var),
            Self::Ready(ready) => ArgValue::Ready(ready.clone()),
            Self::Format(_) | Self::Var(_) | Self::IntVar(_) | Self::StrVar(_) => return None,
        })
    }
}

/// A compiled block.
#[derive(Clone, Debug)]
pub struct Route {
    /// Exactly one bit; `route[x]` is [`Routes::REQUEST`] like `route`.
    pub kind: Routes,
    /// Empty for blocks without a name.
    pub name: String,
    /// Seconds, for `timer_route`; 0 otherwise.
    pub interval_s: u32,
    pub place: Place,
    pub(crate) entry: u32,
    /// It was in an earlier version of the script and is not in this one.
    pub(crate) gone: bool,
}

/// A value in the global part of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    Int(i32),
    Str(String),
}

/// `name = value`.
#[derive(Clone, Debug)]
pub struct Global {
    /// The present name, also when the script uses an older one.
    pub name: &'static str,
    pub value: Setting,
    pub span: Span,
    pub place: Place,
}

/// One parameter of one module, after the module expression was expanded.
#[derive(Clone, Debug)]
pub struct ModParam {
    /// Index in the catalogue.
    pub module: u16,
    /// Index in the module's parameters.
    pub param: u16,
    pub module_name: &'static str,
    /// The present name of the parameter.
    pub name: &'static str,
    pub value: Setting,
    /// The value, for messages.
    pub span: Span,
    pub place: Place,
    /// The bit, when the parameter names a message or branch flag.
    pub flag: Option<u8>,
    /// The variable, when the parameter names one.
    pub var: Option<VarId>,
    /// The text taken apart, when it has variables in it.
    pub(crate) format: Option<u32>,
}

/// A part of a text with variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextPart {
    Text(Bytes),
    Var(VarId),
}

/// `loadmodule`.
#[derive(Clone, Debug)]
pub struct LoadedModule {
    /// Index in the catalogue.
    pub module: u16,
    pub name: &'static str,
    pub span: Span,
    pub place: Place,
}

/// `socket = PROTO:ADDR[:PORTS] [OPTION ...]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Lower case.
    pub proto: String,
    /// An address (IPv6 without brackets), a host or interface name, or `*`.
    pub host: String,
    /// Inclusive ranges; empty: the default port of the protocol.
    pub ports: Vec<(u16, u16)>,
    /// `as HOST[:PORT]`.
    pub advertised: Option<(String, Option<u16>)>,
    pub tag: Option<String>,
    pub workers: Option<u32>,
    pub tos: Option<u32>,
    pub anycast: bool,
    pub frag: bool,
    pub reuse_port: bool,
    pub accept_subdomain: bool,
    pub proxy: ProxyUse,
    pub span: Span,
    pub place: Place,
}

/// Which way the header of the PROXY protocol goes on a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProxyUse {
    /// `allow_proxy_protocol`: what comes may begin with it.
    pub reads: bool,
    /// `send_proxy_protocol`: what connects out begins with it.
    pub writes: bool,
}

/// `socket = bond:NAME { "proto:ip:port", ... }`: a name for several sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bond {
    pub name: String,
    pub members: Vec<String>,
    pub span: Span,
    pub place: Place,
}

/// `alias = [PROTO:]HOST[:PORT] [accept_subdomain]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    pub proto: Option<String>,
    pub host: String,
    pub port: Option<u16>,
    pub accept_subdomain: bool,
    pub span: Span,
    pub place: Place,
}

/// A reference to a variable, resolved.
#[derive(Clone, Debug)]
pub(crate) struct VarRef {
    pub(crate) target: VarTarget,
    pub(crate) name: Name,
    pub(crate) index: IndexRef,
    pub(crate) context: Context,
    pub(crate) transforms: SmallVec<[TransformCall; 1]>,
    /// As written, for messages.
    pub(crate) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VarTarget {
    /// Index in the catalogue and in the module's variables.
    Module(u16, u16),
    /// Slot of `$var(name)`.
    Slot(u32),
    /// `$var` with a computed name.
    DynamicVar,
    Rc,
    Param,
    Return,
    Route,
    RouteName,
    RouteType,
    CfgLine,
    CfgFile,
}

/// A variable that texts may name at run time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScopeVar {
    pub(crate) name: &'static str,
    pub(crate) takes_name: bool,
    pub(crate) target: VarTarget,
}

#[derive(Clone, Debug)]
pub(crate) enum Name {
    None,
    Text(Bytes),
    Format(u32),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum IndexRef {
    None,
    At(i32),
    Var(VarId),
    All,
    Append,
}

/// Literal text with variables in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Format {
    pub(crate) parts: Vec<Part>,
}

#[derive(Clone, Debug)]
pub(crate) enum Part {
    Text(Bytes),
    Var(VarId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CompareOp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Match,
    NoMatch,
}

#[derive(Clone, Debug)]
pub(crate) struct Compare {
    pub(crate) op: CompareOp,
    pub(crate) left: VarId,
    pub(crate) right: Operand,
}

#[derive(Clone, Debug)]
pub(crate) enum Operand {
    Null,
    Int(i32),
    Str(Bytes),
    Var(VarId),
    Net(IpNet),
    Regex(Arc<Regex>),
}

/// An address with the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IpNet {
    pub(crate) addr: IpAddr,
    pub(crate) bits: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArithOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    And,
    Or,
    Xor,
    Shl,
    Shr,
}

#[derive(Clone, Debug)]
pub(crate) struct RouteCall {
    pub(crate) target: RouteTarget,
    pub(crate) args: SmallVec<[Arg; 2]>,
}

#[derive(Clone, Debug)]
pub(crate) enum RouteTarget {
    Fixed(RouteId),
    Dynamic(Arg),
}

/// `async()` and `launch()`.
#[derive(Clone, Debug)]
pub(crate) struct Detached {
    pub(crate) call: CallId,
    pub(crate) route: Option<RouteId>,
    pub(crate) timeout_s: Option<i32>,
    pub(crate) text: Arg,
}

/// One instruction. Jumps are absolute; "test" is the register that conditions set.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Jump(u32),
    JumpTrue(u32),
    JumpFalse(u32),
    JumpError(u32),
    /// Forgets that a condition called something ([`Op::NoBranch`]).
    Condition,
    /// An `if` took no branch: the code is the condition's last call, 1 if there was none.
    NoBranch,
    TestVar(VarId),
    TestTop,
    TestRc,
    Compare(u32),
    PushInt(i32),
    PushStr(u32),
    PushNull,
    PushVar(VarId),
    PushTest,
    PushRc,
    Arith(ArithOp),
    /// Like `Arith`, but null on either side is an error.
    Compound(ArithOp),
    BitNot,
    Negate,
    Store(VarId, Assign),
    Pop,
    Call(CallId),
    Async(u32),
    Launch(u32),
    Route(u32),
    /// Pops this many extra values, then the code.
    Return(u8),
    Exit,
    Drop,
    /// The end of a block.
    End,
    /// Level, format.
    Xlog(i32, u32),
    /// Level, string.
    Log(i32, u32),
    CaseInt(i32, u32),
    CaseStr(u32, u32),
    LoopEnter,
    /// Counts; jumps out with an error at the limit.
    LoopCount(u32),
    LoopLeave,
    /// Index in `fors`, where to go at the end.
    ForNext(u32, u32),
    /// The string says which assertion failed.
    AssertFailed(u32),
}

/// What a traced run calls a statement that is no call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    /// The instruction that it begins with.
    pub(crate) at: u32,
    pub(crate) name: &'static str,
}

/// A checked and compiled script.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Names of the files, in the order of [`Place::file`].
    pub files: Vec<String>,
    pub routes: Vec<Route>,
    pub globals: Vec<Global>,
    /// In order of loading; `core` is not in the list.
    pub modules: Vec<LoadedModule>,
    /// In order of the script.
    pub modparams: Vec<ModParam>,
    pub sockets: Vec<Socket>,
    pub bonds: Vec<Bond>,
    pub aliases: Vec<Alias>,
    /// Names of message flags; the index is the bit.
    pub message_flags: Vec<String>,
    /// Names of branch flags; the index is the bit.
    pub branch_flags: Vec<String>,
    /// Sharing tags that the script defines or uses.
    pub sharing_tags: Vec<TagName>,
    /// Those that arguments of functions name, with their places.
    pub tags_in_calls: Vec<(TagName, Span)>,
    pub(crate) var_names: Arc<[Bytes]>,
    /// Every variable of the loaded modules.
    pub(crate) scope: Vec<ScopeVar>,
    pub(crate) calls: Vec<Call>,
    pub(crate) vars: Vec<VarRef>,
    pub(crate) formats: Vec<Format>,
    pub(crate) strings: Vec<Bytes>,
    pub(crate) compares: Vec<Compare>,
    pub(crate) route_calls: Vec<RouteCall>,
    pub(crate) detached: Vec<Detached>,
    /// Variable to set, list to walk.
    pub(crate) fors: Vec<(VarId, VarId)>,
    pub(crate) code: Vec<Op>,
    /// One place per instruction.
    pub(crate) places: Vec<Place>,
    pub(crate) while_loops_max: u32,
    /// Statements that are no calls, in the order of the code.
    pub(crate) statements: Vec<Statement>,
    /// Whether some run may be traced.
    pub(crate) may_trace: bool,
}

impl Program {
    /// The block of a kind and name; the empty name is the block without one.
    pub fn route_named(&self, kind: Routes, name: &str) -> Option<RouteId> {
        let found = self.routes.iter().position(|r| !r.gone && r.kind == kind && r.name == name);
        found.map(|i| RouteId(i as u32))
    }

    /// All blocks of a kind.
    pub fn routes_of(&self, kind: Routes) -> impl Iterator<Item = (RouteId, &Route)> {
        let numbered = self.routes.iter().enumerate();
        numbered
            .filter(move |(_, r)| r.kind == kind && !r.gone)
            .map(|(i, r)| (RouteId(i as u32), r))
    }

    pub fn route(&self, id: RouteId) -> Option<&Route> {
        self.routes.get(id.0 as usize)
    }

    pub fn call(&self, id: CallId) -> Option<&Call> {
        self.calls.get(id.0 as usize)
    }

    /// The literal texts that the script gives as first argument of some functions of a module,
    /// in its order.
    pub fn texts_of<'a>(
        &'a self,
        module: u16,
        wanted: impl Fn(&str) -> bool + 'a,
    ) -> impl Iterator<Item = &'a Bytes> {
        let calls = self.calls.iter().filter(move |c| c.module == module && wanted(c.name));
        calls.filter_map(|call| match call.args.first()? {
            Arg::Str(text) => Some(text),
            _ => None,
        })
    }

    /// The literal texts that the script gives as an argument of a module's function.
    pub fn texts<'a>(
        &'a self,
        module: u16,
        function: &'static str,
        arg: usize,
    ) -> impl Iterator<Item = &'a Bytes> {
        let calls = self.calls.iter().filter(move |c| c.module == module && c.name == function);
        calls.filter_map(move |call| match call.args.get(arg)? {
            Arg::Str(text) => Some(text),
            _ => None,
        })
    }

    /// Whether the script calls the function of a module (an index in the catalogue).
    pub fn calls(&self, module: u16, function: &str) -> bool {
        self.calls.iter().any(|c| c.module == module && c.name == function)
    }

    /// The names in parentheses that the script gives to a variable of a module, as far as they
    /// are literal, each with the variable as it is written.
    pub fn variable_names(
        &self,
        module: u16,
        variable: u16,
    ) -> impl Iterator<Item = (&Bytes, &str)> {
        let wanted = VarTarget::Module(module, variable);
        let found = self.vars.iter().filter(move |v| v.target == wanted);
        found.filter_map(|v| match &v.name {
            Name::Text(name) => Some((name, v.text.as_str())),
            Name::None | Name::Format(_) => None,
        })
    }

    /// The last value of a global, `None` when the script does not set it.
    pub fn global(&self, name: &str) -> Option<&Setting> {
        self.globals.iter().rev().find(|g| g.name == name).map(|g| &g.value)
    }

    pub fn file_name(&self, place: Place) -> &str {
        self.files.get(usize::from(place.file)).map_or("?", String::as_str)
    }

    /// The parts of a text with variables that a parameter has.
    pub fn parts_of(&self, param: &ModParam) -> Vec<TextPart> {
        let format = param.format.and_then(|at| self.formats.get(at as usize));
        let Some(format) = format else {
            let Setting::Str(text) = &param.value else { return Vec::new() };
            return vec![TextPart::Text(Bytes::copy_from_slice(text.as_bytes()))];
        };
        let part = |part: &Part| match part {
            Part::Text(text) => TextPart::Text(text.clone()),
            Part::Var(var) => TextPart::Var(*var),
        };
        format.parts.iter().map(part).collect()
    }

    /// A variable as the script writes it, for messages.
    pub fn var_text(&self, var: VarId) -> &str {
        self.vars.get(var.0 as usize).map_or("?", |v| v.text.as_str())
    }
}
