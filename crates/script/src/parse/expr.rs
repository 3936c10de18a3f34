//! Expressions and conditions: one grammar, what may stand where is checked later.

use super::Parser;
use crate::ast::{AssignExpr, AssignOp, Expr, ExprKind, LogicOp, Right, Var};
use crate::diag::Diag;
use crate::host::Assign;
use crate::lex::Tok;
use crate::program::{ArithOp, CompareOp, IpNet};
use crate::source::Span;

/// Operators in a row; the tree leans to the left and is walked recursively.
const CHAIN_MAX: usize = 200;

#[derive(Clone, Copy)]
enum Infix {
    Logic(LogicOp),
    Arith(ArithOp),
}

impl Infix {
    fn text(self) -> &'static str {
        match self {
            Self::Logic(LogicOp::And) => "&&",
            Self::Logic(LogicOp::Or) => "||",
            Self::Arith(ArithOp::Add) => "+",
            Self::Arith(ArithOp::Sub) => "-",
            Self::Arith(ArithOp::Mul) => "*",
            Self::Arith(ArithOp::Div) => "/",
            Self::Arith(ArithOp::Mod) => "%",
            Self::Arith(ArithOp::And) => "&",
            Self::Arith(ArithOp::Or) => "|",
            Self::Arith(ArithOp::Xor) => "^",
            Self::Arith(ArithOp::Shl) => "<<",
            Self::Arith(ArithOp::Shr) => ">>",
        }
    }

    /// How tightly the operator binds in other languages, among those of its level here.
    fn elsewhere(self) -> u8 {
        match self {
            Self::Logic(LogicOp::Or) | Self::Arith(ArithOp::Add | ArithOp::Sub | ArithOp::Or) => 1,
            Self::Arith(ArithOp::And) => 3,
            Self::Arith(ArithOp::Shl | ArithOp::Shr) => 4,
            _ => 2,
        }
    }
}

impl Parser<'_> {
    /// Operators of at least `level`: 1 logic, 2 bits and shifts, 3 arithmetic. Within a level
    /// they go from left to right, `&&` and `||` alike.
    pub(super) fn expr(&mut self, level: u8) -> Option<Expr> {
        let mut left = self.deeper(Self::primary)?;
        let mut chain = 0;
        let mut loosest: Option<Infix> = None;
        while let Some((infix, of_level)) = self.infix().filter(|(_, l)| *l >= level) {
            chain += 1;
            if chain > CHAIN_MAX {
                let span = self.span();
                let text = format!("more than {CHAIN_MAX} operators in a row");
                self.diags.push(Diag::error("E0104", span, text));
                return None;
            }
            let before = loosest.filter(|l| l.elsewhere() < infix.elsewhere());
            let op = self.advance();
            let right = self.expr(of_level + 1)?;
            if let Some(before) = before {
                self.surprise(before, infix, op, left.span);
            }
            let looser = loosest.is_none_or(|l| infix.elsewhere() < l.elsewhere());
            loosest = if looser { Some(infix) } else { loosest };
            // Said once for a chain.
            loosest = if before.is_some() { Some(infix) } else { loosest };
            let span = left.span.to(right.span);
            let (left_box, right_box) = (Box::new(left), Box::new(right));
            let kind = match infix {
                Infix::Logic(op) => ExprKind::Logic(op, left_box, right_box),
                Infix::Arith(op) => ExprKind::Arith(op, left_box, right_box),
            };
            left = Expr { kind, span };
        }
        Some(left)
    }

    /// `a || b && c` is `(a || b) && c` here.
    fn surprise(&mut self, before: Infix, op: Infix, at: Span, left: Span) {
        let (before, op) = (before.text(), op.text());
        let text = format!("`{before}` and `{op}` go from left to right, whichever comes first");
        let diag = Diag::note("N0118", at, text)
            .related(left, format!("so this is what `{op}` takes as its left side"))
            .help("write the parentheses that you mean");
        self.diags.push(diag);
    }

    fn infix(&self) -> Option<(Infix, u8)> {
        let logic = |op| Some((Infix::Logic(op), 1));
        let arith = |op, level| Some((Infix::Arith(op), level));
        match self.tok() {
            Tok::Punct("&&") => logic(LogicOp::And),
            Tok::Punct("||") => logic(LogicOp::Or),
            Tok::Ident if self.is_word("and") => logic(LogicOp::And),
            Tok::Ident if self.is_word("or") => logic(LogicOp::Or),
            Tok::Punct("|") => arith(ArithOp::Or, 2),
            Tok::Punct("&") => arith(ArithOp::And, 2),
            Tok::Punct("^") => arith(ArithOp::Xor, 2),
            Tok::Punct("<<") => arith(ArithOp::Shl, 2),
            Tok::Punct(">>") => arith(ArithOp::Shr, 2),
            Tok::Punct("+") => arith(ArithOp::Add, 3),
            Tok::Punct("-") => arith(ArithOp::Sub, 3),
            Tok::Punct("*") => arith(ArithOp::Mul, 3),
            Tok::Punct("/") => arith(ArithOp::Div, 3),
            Tok::Punct("%") => arith(ArithOp::Mod, 3),
            _ => None,
        }
    }

    fn primary(&mut self) -> Option<Expr> {
        let start = self.span();
        let kind = self.primary_kind()?;
        let expr = Expr { kind, span: start.to(self.previous()) };
        if self.compare_op().is_some() && !matches!(expr.kind, ExprKind::Compare(..)) {
            let text = "the left side of a comparison must be a variable";
            let help = "store it first: $var(x) = ...";
            self.diags.push(Diag::error("E0120", expr.span, text).help(help));
            self.advance();
            let right = self.primary()?;
            return Some(Expr { kind: ExprKind::Wrong, span: start.to(right.span) });
        }
        Some(expr)
    }

    fn primary_kind(&mut self) -> Option<ExprKind> {
        match self.tok().clone() {
            Tok::Var => {
                let var = self.var("a variable")?;
                if let Some(op) = self.compare_op() {
                    self.advance();
                    return Some(ExprKind::Compare(op, var, Box::new(self.right(op)?)));
                }
                if assign_op(self.tok()).is_some() {
                    return Some(ExprKind::Assign(Box::new(self.assign(var)?)));
                }
                Some(ExprKind::Var(var))
            }
            Tok::Str { .. } => Some(ExprKind::Text(self.text("a string")?)),
            Tok::Punct("(") => {
                self.advance();
                let inner = self.expr(1)?;
                self.expect(")")?;
                Some(inner.kind)
            }
            Tok::Punct("[") => {
                self.advance();
                let inner = self.expr(2)?;
                self.expect("]")?;
                Some(ExprKind::Bracket(Box::new(inner)))
            }
            Tok::Punct("!") => {
                self.advance();
                Some(ExprKind::Not(Box::new(self.deeper(Self::primary)?)))
            }
            Tok::Punct("~") => {
                self.advance();
                Some(ExprKind::BitNot(Box::new(self.deeper(Self::primary)?)))
            }
            Tok::Punct("{") => Some(ExprKind::Stmts(self.body()?)),
            _ if self.is_int() => Some(ExprKind::Int(self.int()?.0)),
            Tok::Punct("-") => {
                self.advance();
                Some(ExprKind::Negate(Box::new(self.deeper(Self::primary)?)))
            }
            Tok::Ident => self.word_kind(),
            _ => {
                self.unexpected("a value or a condition");
                None
            }
        }
    }

    fn word_kind(&mut self) -> Option<ExprKind> {
        match self.word(0).unwrap_or_default() {
            "not" => {
                self.advance();
                Some(ExprKind::Not(Box::new(self.deeper(Self::primary)?)))
            }
            "null" | "NULL" => {
                self.advance();
                Some(ExprKind::Null)
            }
            "if" => Some(ExprKind::Stmts(vec![self.stmt()?])),
            _ => Some(ExprKind::Call(self.call()?)),
        }
    }

    fn compare_op(&self) -> Option<CompareOp> {
        Some(match self.tok() {
            Tok::Punct("==") => CompareOp::Eq,
            Tok::Punct("!=") => CompareOp::Ne,
            Tok::Punct("<") => CompareOp::Lt,
            Tok::Punct("<=") => CompareOp::Le,
            Tok::Punct(">") => CompareOp::Gt,
            Tok::Punct(">=") => CompareOp::Ge,
            Tok::Punct("=~") => CompareOp::Match,
            Tok::Punct("!~") => CompareOp::NoMatch,
            _ => return None,
        })
    }

    fn right(&mut self, op: CompareOp) -> Option<Right> {
        let equality = matches!(op, CompareOp::Eq | CompareOp::Ne);
        if matches!(self.word(0), Some("null" | "NULL")) {
            let span = self.advance();
            if !equality {
                let text = "null can only be compared with == and !=";
                self.diags.push(Diag::error("E0121", span, text));
            }
            return Some(Right::Null);
        }
        if equality && let Some(net) = self.ip_net() {
            return Some(Right::Net(net));
        }
        let matching = matches!(op, CompareOp::Match | CompareOp::NoMatch);
        match self.tok() {
            Tok::Var => Some(Right::Var(self.var("a variable")?)),
            Tok::Str { .. } => Some(Right::Text(self.text("a string")?)),
            _ if self.is_int() && !matching => Some(Right::Int(self.int()?.0)),
            Tok::Ident if !matching => {
                let span = self.dotted()?;
                self.unquoted(span);
                Some(Right::Null)
            }
            _ => {
                self.unexpected(match op {
                    CompareOp::Match | CompareOp::NoMatch => "a string or a variable",
                    _ => "a number, a string or a variable",
                });
                None
            }
        }
    }

    /// `10.0.0.0/8`, `2001:db8::/32`, `[::1]`: tokens without space between that make an
    /// address.
    fn ip_net(&mut self) -> Option<IpNet> {
        let start = self.span();
        let mut end = start;
        let mut count = 0;
        while let Some(token) = self.token(count) {
            let fits = matches!(
                token.tok,
                Tok::Num | Tok::Ident | Tok::Punct("." | ":" | "/" | "[" | "]")
            );
            if !fits || (count > 0 && token.span.lo != end.hi) || count > 40 {
                break;
            }
            end = token.span;
            count += 1;
        }
        let text = std::str::from_utf8(self.map.text(start.to(end))).ok()?;
        let net = parse_net(text)?;
        self.at += count;
        Some(net)
    }

    pub(super) fn assign_stmt(&mut self) -> Option<AssignExpr> {
        let var = self.var("a variable")?;
        if assign_op(self.tok()).is_none() {
            if self.is("=~") {
                let text = "`=~` compares; write `= ~` to assign a complement";
                let span = self.span();
                self.diags.push(Diag::error("E0122", span, text));
            } else {
                self.unexpected("an assignment: `=`, `:=`, `+=`, ...");
            }
            return None;
        }
        self.assign(var)
    }

    fn assign(&mut self, var: Var) -> Option<AssignExpr> {
        let op = assign_op(self.tok())?;
        let op_span: Span = self.advance();
        let value = self.expr(2)?;
        if matches!(value.kind, ExprKind::Null) && matches!(op, AssignOp::Compound(_)) {
            let text = "null can only be assigned with `=` and `:=`";
            self.diags.push(Diag::error("E0123", op_span.to(value.span), text));
        }
        let span = var.span.to(value.span);
        Some(AssignExpr { var, op, value, span })
    }
}

fn assign_op(tok: &Tok) -> Option<AssignOp> {
    let Tok::Punct(punct) = tok else { return None };
    Some(match *punct {
        "=" => AssignOp::Plain(Assign::Set),
        ":=" => AssignOp::Plain(Assign::Replace),
        "+=" => AssignOp::Compound(ArithOp::Add),
        "-=" => AssignOp::Compound(ArithOp::Sub),
        "*=" => AssignOp::Compound(ArithOp::Mul),
        "/=" => AssignOp::Compound(ArithOp::Div),
        "%=" => AssignOp::Compound(ArithOp::Mod),
        "&=" => AssignOp::Compound(ArithOp::And),
        "|=" => AssignOp::Compound(ArithOp::Or),
        "^=" => AssignOp::Compound(ArithOp::Xor),
        _ => return None,
    })
}

pub(crate) fn parse_net(text: &str) -> Option<IpNet> {
    let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
    if !address.contains(['.', ':']) {
        return None;
    }
    let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
    let addr: std::net::IpAddr = bare.parse().ok()?;
    let max = if addr.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        None => max,
        Some(b) => match b.parse::<u8>() {
            Ok(bits) => Some(bits).filter(|b| *b <= max)?,
            Err(_) => mask_bits(addr, b)?,
        },
    };
    Some(IpNet { addr, bits })
}

/// The length of a netmask that is written as an address: `255.255.0.0`.
fn mask_bits(of: std::net::IpAddr, mask: &str) -> Option<u8> {
    use std::net::IpAddr::{V4, V6};
    let bare = mask.strip_prefix('[').and_then(|m| m.strip_suffix(']')).unwrap_or(mask);
    let (ones, is_whole) = match (of, bare.parse().ok()?) {
        (V4(_), V4(mask)) => {
            let bits = u32::from(mask);
            (bits.leading_ones(), bits.leading_ones() + bits.trailing_zeros() >= 32)
        }
        (V6(_), V6(mask)) => {
            let bits = u128::from(mask);
            (bits.leading_ones(), bits.leading_ones() + bits.trailing_zeros() >= 128)
        }
        _ => return None,
    };
    is_whole.then(|| u8::try_from(ones).ok()).flatten()
}
