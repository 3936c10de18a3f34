//! Export tables: what a module offers to a script, as data.
//!
//! The checker, `tandem modules --json`, the help, the documentation and the tests all read
//! these tables, so a name exists in one place only.

/// The kinds of route blocks, as a bit set. A function lists the blocks it may stand in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Routes(pub u16);

impl Routes {
    pub const REQUEST: Self = Self(1);
    pub const FAILURE: Self = Self(1 << 1);
    pub const ONREPLY: Self = Self(1 << 2);
    pub const BRANCH: Self = Self(1 << 3);
    pub const ERROR: Self = Self(1 << 4);
    pub const LOCAL: Self = Self(1 << 5);
    pub const STARTUP: Self = Self(1 << 6);
    pub const TIMER: Self = Self(1 << 7);
    pub const EVENT: Self = Self(1 << 8);
    pub const ANY: Self = Self(0x1ff);

    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub const fn allows(self, block: Self) -> bool {
        self.0 & block.0 != 0
    }
}

/// What one function argument takes.
#[derive(Clone, Copy, Debug)]
pub enum ArgKind {
    Int,
    Str,
    /// A writable or readable variable, written unquoted.
    Var,
    /// A POSIX extended expression; a literal one is compiled at load.
    Regex,
    /// `/expression/replacement/flags`, with variables in the replacement; a literal only.
    Subst,
    /// Comma separated names, `name` or `name=value`; each must be in the list.
    Flags(&'static [FlagSig]),
    /// Name of a message flag (32 distinct names a script).
    MessageFlag,
    /// Name of a branch flag.
    BranchFlag,
    /// Name of a block of the given kind, which must exist: `t_on_failure("x")`.
    Route(Routes),
    /// Name of a sharing tag, `name` or `name/cluster`; one that nobody defines is a warning.
    SharingTag,
    /// SIP methods separated by `|`.
    Methods,
    /// Variables to write, separated by `;` in one text: `"$avp(a);$avp(b)"`.
    Vars,
    /// A text with variables that the function expands itself, later; a literal only.
    Format,
}

/// One name of a flag list.
#[derive(Clone, Copy, Debug)]
pub struct FlagSig {
    pub name: &'static str,
    /// Whether `name=value` is wanted.
    pub takes_value: bool,
    /// Spelling up to 3.3: a letter, or the decimal value of its bit in numeric masks ("16").
    /// Empty: none.
    pub old: &'static str,
    pub help: &'static str,
}

/// Judges a literal; the error is shown to the operator.
pub type Check = fn(&str) -> Result<(), String>;

/// One argument of a function.
#[derive(Clone, Copy, Debug)]
pub struct ArgSig {
    pub name: &'static str,
    pub kind: ArgKind,
    pub optional: bool,
    /// A literal only, no variables in it.
    pub is_static: bool,
    /// Checks a literal at load; the message is shown under the argument.
    pub check: Option<Check>,
}

/// Whether a function may be called through `async()` and `launch()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsyncUse {
    No,
    Only,
    Both,
}

#[derive(Clone, Copy, Debug)]
pub struct FunctionSig {
    pub name: &'static str,
    pub args: &'static [ArgSig],
    pub routes: Routes,
    pub async_use: AsyncUse,
    pub help: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub struct VariableSig {
    /// Without the `$`.
    pub name: &'static str,
    pub writable: bool,
    /// `$name(inner)`.
    pub takes_name: bool,
    /// `$(name[index])`.
    pub takes_index: bool,
    pub help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamKind {
    Int,
    Str,
    /// Either is accepted.
    IntOrStr,
    /// The text names a branch flag.
    BranchFlag,
    /// The text names a message flag.
    MessageFlag,
    /// The text is a variable, e.g. `$avp(rcv)`.
    Var,
    /// The text has variables in it; their module takes it apart.
    Vars,
}

/// A module parameter (`modparam`) or a global (`name = value`).
#[derive(Clone, Copy, Debug)]
pub struct ParamSig {
    pub name: &'static str,
    pub kind: ParamKind,
    /// Default as written in a script; `None`: unset.
    pub default: Option<&'static str>,
    /// May be given several times.
    pub multiple: bool,
    /// An older name that is taken with a note that names this one.
    pub old_names: &'static [&'static str],
    /// Checks the value at load; the message is shown under it.
    pub check: Option<Check>,
    /// The parameter is accepted and does nothing here; the note that tells why. `None`: it
    /// means something.
    pub moot: Option<&'static str>,
    pub help: &'static str,
}

/// What a module needs to be loaded as well.
#[derive(Clone, Copy, Debug)]
pub struct Dependency {
    pub module: &'static str,
    /// Needed only when this parameter is set; empty: always.
    pub when_param: &'static str,
}

/// The part of a module's table that the language needs.
#[derive(Clone, Copy, Debug)]
pub struct ModuleSig<'a> {
    pub name: &'static str,
    pub help: &'static str,
    pub dependencies: &'static [Dependency],
    pub params: &'static [ParamSig],
    pub functions: &'a [FunctionSig],
    pub variables: &'a [VariableSig],
    pub events: &'a [&'static str],
}

/// Everything the checker may accept: index 0 of `modules` is `core`, whose params are the
/// globals and which is always loaded.
#[derive(Clone, Copy, Debug)]
pub struct Catalogue<'a> {
    pub modules: &'a [ModuleSig<'a>],
    /// Names that exist in the field and not here yet (see `known.rs`): the checker says "not in
    /// Tandem yet" for them and "unknown" for everything else.
    pub known: &'a crate::known::Known,
}
