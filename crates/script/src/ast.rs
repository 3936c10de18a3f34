//! The syntax tree.

use crate::host::Assign;
use crate::program::{ArithOp, CompareOp, IpNet};
use crate::sig::Routes;
use crate::source::Span;

/// A string literal.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    pub(crate) value: Vec<u8>,
    /// Single quotes: source and value are the same bytes.
    pub(crate) raw: bool,
    pub(crate) span: Span,
}

impl Text {
    pub(crate) fn lossy(&self) -> String {
        String::from_utf8_lossy(&self.value).into_owned()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Ident {
    pub(crate) name: String,
    pub(crate) span: Span,
}

#[derive(Clone, Debug)]
pub(crate) enum Item {
    Global { name: Ident, value: GlobalValue },
    LoadModule(Text),
    ModParam { module: Text, param: Text, value: GlobalValue },
    Block(Block),
}

#[derive(Clone, Debug)]
pub(crate) enum GlobalValue {
    Int(i32, Span),
    Text(Text),
    /// Anything else, as written: `udp:1.2.3.4:5060 tag x`, `epoll`.
    Raw(String, Span),
}

impl GlobalValue {
    pub(crate) fn span(&self) -> Span {
        match self {
            Self::Int(_, s) | Self::Raw(_, s) => *s,
            Self::Text(t) => t.span,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) kind: Routes,
    pub(crate) name: Option<Ident>,
    pub(crate) interval: Option<(i32, Span)>,
    /// The opening words.
    pub(crate) head: Span,
    pub(crate) body: Vec<Stmt>,
}

#[derive(Clone, Debug)]
pub(crate) struct Stmt {
    pub(crate) kind: StmtKind,
    pub(crate) span: Span,
}

#[derive(Clone, Debug)]
pub(crate) enum StmtKind {
    Empty,
    Call(Call),
    Assign(Box<AssignExpr>),
    If { cond: Expr, then: Vec<Stmt>, otherwise: Option<Vec<Stmt>> },
    While { cond: Expr, body: Vec<Stmt> },
    For { var: Var, list: Var, body: Vec<Stmt> },
    Switch { value: Var, cases: Vec<Case> },
    Break,
    Exit,
    Drop,
    Return { code: Option<Expr>, values: Vec<Expr> },
    Async { call: Call, route: Ident, timeout: Option<i32> },
    Launch { call: Call, route: Option<Ident>, text: Option<Text> },
    Assert { cond: Expr, text: Option<Text> },
    Xlog { level: Option<Text>, text: Text, debug: bool },
    Log { level: i32, text: Text },
}

#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// `None`: default.
    pub(crate) value: Option<CaseValue>,
    pub(crate) span: Span,
    pub(crate) body: Vec<Stmt>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CaseValue {
    Int(i32),
    Text(Vec<u8>),
}

/// A function call or `route()`.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) name: Ident,
    pub(crate) args: Vec<Arg>,
    pub(crate) span: Span,
}

#[derive(Clone, Debug)]
pub(crate) struct Arg {
    pub(crate) kind: ArgKind,
    pub(crate) span: Span,
}

#[derive(Clone, Debug)]
pub(crate) enum ArgKind {
    Omitted,
    Int(i32),
    Text(Text),
    Var(Var),
    /// A bare word: old spelling of a quoted one; a route name; `null`.
    Word(String),
}

/// A variable as written, `$` included.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Var {
    pub(crate) span: Span,
}

#[derive(Clone, Debug)]
pub(crate) struct AssignExpr {
    pub(crate) var: Var,
    pub(crate) op: AssignOp,
    pub(crate) value: Expr,
    pub(crate) span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AssignOp {
    Plain(Assign),
    Compound(ArithOp),
}

#[derive(Clone, Debug)]
pub(crate) struct Expr {
    pub(crate) kind: ExprKind,
    pub(crate) span: Span,
}

#[derive(Clone, Debug)]
pub(crate) enum ExprKind {
    Int(i32),
    Text(Text),
    Var(Var),
    Null,
    Arith(ArithOp, Box<Expr>, Box<Expr>),
    Logic(LogicOp, Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    BitNot(Box<Expr>),
    Negate(Box<Expr>),
    Compare(CompareOp, Var, Box<Right>),
    Call(Call),
    Assign(Box<AssignExpr>),
    /// `[ expr ]` as a condition.
    Bracket(Box<Expr>),
    /// Statements as a condition: the code of the last one.
    Stmts(Vec<Stmt>),
    /// A mistake that has been reported.
    Wrong,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogicOp {
    And,
    Or,
}

#[derive(Clone, Debug)]
pub(crate) enum Right {
    Null,
    Int(i32),
    Text(Text),
    Var(Var),
    Net(IpNet),
}
