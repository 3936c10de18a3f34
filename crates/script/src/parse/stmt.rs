//! Statements.

use super::Parser;
use crate::ast::{Arg, ArgKind, Call, Case, CaseValue, Stmt, StmtKind, Text, Var};
use crate::diag::Diag;
use crate::lex::Tok;
use crate::source::Span;
use crate::vm::L_ERR;

/// Arguments of one call.
const ARGS_MAX: usize = 8;

impl Parser<'_> {
    /// `{ ... }`
    pub(super) fn body(&mut self) -> Option<Vec<Stmt>> {
        let open = self.expect("{")?;
        let mut stmts = Vec::new();
        while !self.is("}") {
            if self.at_end() || self.starts_block() {
                self.never_closed(open);
                return Some(stmts);
            }
            self.stmt_or_skip(&mut stmts);
        }
        self.advance();
        Some(stmts)
    }

    /// A new route block inside a block means that a brace is missing.
    fn starts_block(&self) -> bool {
        let first = self.token(0).is_some_and(|t| t.first);
        first
            && self.word(0).is_some_and(|w| w == "route" || w.ends_with("_route"))
            && (self.is_ahead(1, "[") || self.is_ahead(1, "{"))
    }

    fn never_closed(&mut self, open: Span) {
        let mut diag = Diag::error("E0110", open, "this `{` is never closed");
        if !self.at_end() {
            diag = diag
                .related(self.span(), "the next block starts here")
                .help("a `}` is missing somewhere between");
        }
        self.diags.push(diag);
    }

    fn stmt_or_skip(&mut self, stmts: &mut Vec<Stmt>) {
        let before = self.at;
        match self.stmt() {
            Some(stmt) => stmts.push(stmt),
            None => self.skip_stmt(),
        }
        if self.at == before && !self.is("}") {
            self.advance();
        }
    }

    fn skip_stmt(&mut self) {
        let mut braces = 0usize;
        while !self.at_end() && !self.starts_block() {
            if self.is("{") {
                braces += 1;
            } else if self.is("}") {
                if braces == 0 {
                    return;
                }
                braces -= 1;
                if braces == 0 {
                    self.advance();
                    return;
                }
            } else if self.is(";") && braces == 0 {
                self.advance();
                return;
            }
            self.advance();
        }
    }

    pub(super) fn sub(&mut self) -> Option<Vec<Stmt>> {
        if self.is("{") { self.deeper(Self::body) } else { Some(vec![self.stmt()?]) }
    }

    pub(super) fn stmt(&mut self) -> Option<Stmt> {
        let start = self.span();
        let kind = self.deeper(Self::stmt_kind)?;
        Some(Stmt { kind, span: start.to(self.previous()) })
    }

    fn stmt_kind(&mut self) -> Option<StmtKind> {
        if self.take(";") {
            return Some(StmtKind::Empty);
        }
        if *self.tok() == Tok::Var {
            let assign = self.assign_stmt()?;
            self.end_stmt();
            return Some(StmtKind::Assign(Box::new(assign)));
        }
        let word = self.word(0).unwrap_or_default().to_owned();
        let kind = match word.as_str() {
            "if" => return self.if_stmt(),
            "while" => return self.while_stmt(),
            "for" => return self.for_stmt(),
            "switch" => return self.switch_stmt(),
            "break" => self.break_stmt()?,
            "exit" => self.bare(StmtKind::Exit)?,
            "drop" => self.bare(StmtKind::Drop)?,
            "return" => self.return_stmt()?,
            "async" => self.async_stmt()?,
            "launch" => self.launch_stmt()?,
            "assert" => self.assert_stmt()?,
            "xlog" | "xdbg" => self.xlog_stmt(word == "xdbg")?,
            "log" => self.log_stmt()?,
            "error" => self.error_stmt()?,
            "case" | "default" | "else" => {
                let text = format!("`{word}` without its {}", owner(&word));
                let span = self.advance();
                self.diags.push(Diag::error("E0111", span, text));
                return None;
            }
            "" => {
                self.unexpected("a statement");
                return None;
            }
            _ => StmtKind::Call(self.call()?),
        };
        self.end_stmt();
        Some(kind)
    }

    /// A missing `;` is reported and assumed.
    fn end_stmt(&mut self) {
        if self.expect(";").is_none() {
            let fresh = self.token(0).is_some_and(|t| t.first);
            if !fresh && !self.is("}") {
                self.skip_stmt();
            }
        }
    }

    fn bare(&mut self, kind: StmtKind) -> Option<StmtKind> {
        self.advance();
        if self.take("(") {
            self.expect(")")?;
        }
        Some(kind)
    }

    fn break_stmt(&mut self) -> Option<StmtKind> {
        let span = self.advance();
        if self.loops == 0 {
            let text = "`break` outside of while, for and switch";
            self.diags.push(Diag::error("E0112", span, text).help("to leave a route use `return`"));
        }
        Some(StmtKind::Break)
    }

    fn if_stmt(&mut self) -> Option<StmtKind> {
        self.advance();
        self.expect("(")?;
        let cond = self.expr(1)?;
        self.expect(")")?;
        let then = self.sub()?;
        let otherwise = if self.is_word("else") {
            self.advance();
            Some(self.sub()?)
        } else {
            None
        };
        Some(StmtKind::If { cond, then, otherwise })
    }

    fn while_stmt(&mut self) -> Option<StmtKind> {
        self.advance();
        self.expect("(")?;
        let cond = self.expr(1)?;
        self.expect(")")?;
        let body = self.looped(Self::sub)?;
        Some(StmtKind::While { cond, body })
    }

    fn looped<T>(&mut self, inner: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        self.loops += 1;
        let result = inner(self);
        self.loops -= 1;
        result
    }

    fn for_stmt(&mut self) -> Option<StmtKind> {
        self.advance();
        self.expect("(")?;
        let var = self.var("a variable")?;
        if !self.is_word("in") {
            self.unexpected("`in`");
            return None;
        }
        self.advance();
        let list = self.var("a list variable like $(avp(x)[*])")?;
        self.expect(")")?;
        let body = self.looped(Self::sub)?;
        Some(StmtKind::For { var, list, body })
    }

    pub(super) fn var(&mut self, wanted: &str) -> Option<Var> {
        if *self.tok() != Tok::Var {
            self.unexpected(wanted);
            return None;
        }
        Some(Var { span: self.advance() })
    }

    fn switch_stmt(&mut self) -> Option<StmtKind> {
        self.advance();
        self.expect("(")?;
        let value = self.var("a variable")?;
        self.expect(")")?;
        let open = self.expect("{")?;
        let cases = self.looped(|p| p.cases(open))?;
        Some(StmtKind::Switch { value, cases })
    }

    fn cases(&mut self, open: Span) -> Option<Vec<Case>> {
        let mut cases: Vec<Case> = Vec::new();
        while !self.is("}") {
            if self.at_end() || self.starts_block() {
                self.never_closed(open);
                return Some(cases);
            }
            let start = self.span();
            let value = if self.is_word("case") {
                self.advance();
                Some(if self.is_int() {
                    CaseValue::Int(self.int()?.0)
                } else {
                    CaseValue::Text(self.text("a number or a string")?.value)
                })
            } else if self.is_word("default") {
                self.advance();
                None
            } else {
                self.unexpected("`case`, `default` or `}`");
                self.stmt_or_skip(&mut Vec::new());
                continue;
            };
            let span = start.to(self.previous());
            self.check_case(&cases, value.as_ref(), span);
            self.expect(":")?;
            let mut body = Vec::new();
            while !self.is("}") && !self.is_word("case") && !self.is_word("default") {
                if self.at_end() || self.starts_block() {
                    break;
                }
                self.stmt_or_skip(&mut body);
            }
            cases.push(Case { value, span, body });
        }
        self.advance();
        Some(cases)
    }

    fn check_case(&mut self, before: &[Case], value: Option<&CaseValue>, span: Span) {
        if let Some(default) = before.iter().find(|c| c.value.is_none()) {
            let text = if value.is_some() {
                "`default` must be the last case"
            } else {
                "a second `default` in this switch"
            };
            let diag = Diag::error("E0113", span, text);
            self.diags.push(diag.related(default.span, "`default` is here"));
        } else if value.is_some()
            && let Some(same) = before.iter().find(|c| c.value.as_ref() == value)
        {
            let diag = Diag::warning("W0114", span, "this case was there before and wins");
            self.diags.push(diag.related(same.span, "first one"));
        }
    }

    fn return_stmt(&mut self) -> Option<StmtKind> {
        self.advance();
        let mut values = Vec::new();
        let code = if self.is(";") {
            None
        } else if self.take("(") {
            let code = if self.is(")") { None } else { Some(self.expr(1)?) };
            while self.take(",") {
                values.push(self.expr(1)?);
            }
            self.expect(")")?;
            code
        } else {
            Some(self.expr(1)?)
        };
        Some(StmtKind::Return { code, values })
    }

    fn async_stmt(&mut self) -> Option<StmtKind> {
        self.advance();
        self.expect("(")?;
        let call = self.call()?;
        self.expect(",")?;
        let route = self.name()?;
        let timeout = if self.take(",") { Some(self.int()?.0) } else { None };
        self.expect(")")?;
        Some(StmtKind::Async { call, route, timeout })
    }

    fn launch_stmt(&mut self) -> Option<StmtKind> {
        self.advance();
        self.expect("(")?;
        let call = self.call()?;
        let route = if self.take(",") { Some(self.name()?) } else { None };
        let text = if self.take(",") { Some(self.texts("a string")?) } else { None };
        self.expect(")")?;
        Some(StmtKind::Launch { call, route, text })
    }

    fn assert_stmt(&mut self) -> Option<StmtKind> {
        self.advance();
        self.expect("(")?;
        let cond = self.expr(1)?;
        let text = if self.take(",") { Some(self.texts("a string")?) } else { None };
        self.expect(")")?;
        Some(StmtKind::Assert { cond, text })
    }

    fn xlog_stmt(&mut self, debug: bool) -> Option<StmtKind> {
        self.advance();
        self.expect("(")?;
        let first = self.texts("a string")?;
        let (level, text) = if !debug && self.take(",") {
            (Some(first), self.texts("a string")?)
        } else {
            (None, first)
        };
        self.expect(")")?;
        Some(StmtKind::Xlog { level, text, debug })
    }

    fn log_stmt(&mut self) -> Option<StmtKind> {
        self.advance();
        self.expect("(")?;
        let mut level = 1;
        if self.is_int() {
            level = self.int()?.0;
            self.expect(",")?;
        }
        let text = self.texts("a string")?;
        self.expect(")")?;
        Some(StmtKind::Log { level, text })
    }

    /// `error("a", "b")` does nothing but log.
    fn error_stmt(&mut self) -> Option<StmtKind> {
        self.advance();
        self.expect("(")?;
        let mut text = self.text("a string")?;
        self.expect(",")?;
        let more = self.text("a string")?;
        self.expect(")")?;
        text.value.extend_from_slice(b": ");
        text.value.extend(more.value);
        Some(StmtKind::Log { level: L_ERR, text })
    }

    pub(super) fn call(&mut self) -> Option<Call> {
        let name = self.ident("the name of a function")?;
        if !self.is("(") {
            let text = format!("`{}` stands alone", name.name);
            let help = format!("to call a function write `{}()`", name.name);
            self.diags.push(Diag::error("E0115", name.span, text).help(help));
            return None;
        }
        self.advance();
        let args = self.args()?;
        let span = name.span.to(self.expect(")")?);
        if args.len() > ARGS_MAX {
            let text = format!("at most {ARGS_MAX} arguments are possible");
            self.diags.push(Diag::error("E0116", span, text));
            return None;
        }
        Some(Call { name, args, span })
    }

    fn args(&mut self) -> Option<Vec<Arg>> {
        let mut args = Vec::new();
        if self.is(")") {
            return Some(args);
        }
        loop {
            let start = self.span();
            let kind = match self.tok().clone() {
                Tok::Punct("," | ")") => ArgKind::Omitted,
                Tok::Var => ArgKind::Var(self.var("a variable")?),
                Tok::Str { .. } => ArgKind::Text(self.text("a string")?),
                _ if self.is_int() => ArgKind::Int(self.int()?.0),
                Tok::Ident if self.is_host() => {
                    let span = self.dotted()?;
                    self.unquoted(span);
                    ArgKind::Text(Text { value: self.map.text(span).to_vec(), raw: true, span })
                }
                Tok::Ident => ArgKind::Word(self.ident("an argument")?.name),
                _ => {
                    self.unexpected("an argument: a number, a string or a variable");
                    return None;
                }
            };
            // An omitted argument is shown between its commas.
            let span =
                if matches!(kind, ArgKind::Omitted) { start } else { start.to(self.previous()) };
            args.push(Arg { kind, span });
            if self.is(")") {
                return Some(args);
            }
            if !self.take(",") {
                let text = format!("expected `,` or `)`, found {}", self.found());
                let help = "an argument is a number, a string or a variable; compute it before: \
                            $var(x) = ...";
                let span = self.span();
                self.diags.push(Diag::error("E0117", span, text).help(help));
                return None;
            }
        }
    }
}

impl Parser<'_> {
    /// A word that goes on with a dot or a dash.
    fn is_host(&self) -> bool {
        let joined = self.token(1).is_some_and(|t| t.span.lo == self.span().hi);
        joined && (self.is_ahead(1, ".") || self.is_ahead(1, "-"))
    }
}

fn owner(word: &str) -> &'static str {
    if word == "else" { "`if`" } else { "`switch`" }
}
