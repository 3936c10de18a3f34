//! Statements to code.

use super::{Edge, Label, Lower, Site};
use crate::ast::{AssignExpr, AssignOp, Case, CaseValue, Expr, Ident, Stmt, StmtKind, Text, Var};
use crate::diag::Diag;
use crate::host::Assign;
use crate::nearest::nearest;
use crate::program::{Arg, Detached, IndexRef, Op, RouteId, Setting, Statement};
use crate::sig::{AsyncUse, Routes};

const LEVELS: &[(&str, i32)] = &[
    ("L_ALERT", -3),
    ("L_CRIT", -2),
    ("L_ERR", -1),
    ("L_WARN", 1),
    ("L_NOTICE", 2),
    ("L_INFO", 3),
    ("L_DBG", 4),
];
const L_DBG: i32 = 4;

/// Spellings of levels that are understood.
fn older_level(name: &str) -> Option<(&'static str, i32)> {
    let name = match name.to_ascii_uppercase().as_str() {
        "L_WARNING" => "L_WARN",
        "L_ERROR" => "L_ERR",
        "L_CRITICAL" => "L_CRIT",
        "L_DEBUG" => "L_DBG",
        other => LEVELS.iter().map(|l| l.0).find(|n| *n == other)?,
    };
    LEVELS.iter().find(|l| l.0 == name).copied()
}

impl Lower<'_> {
    pub(super) fn stmts(&mut self, stmts: &[Stmt]) {
        let mut ended: Option<&Stmt> = None;
        let mut told = false;
        for stmt in stmts {
            let idle = matches!(stmt.kind, StmtKind::Empty | StmtKind::Break);
            if let Some(end) = ended
                && !idle
                && !told
            {
                told = true;
                let diag = Diag::note("N0260", stmt.span, "this is never reached");
                self.diags.push(diag.related(end.span, "the script ends or leaves here"));
            }
            self.stmt(stmt);
            if matches!(
                stmt.kind,
                StmtKind::Exit
                    | StmtKind::Drop
                    | StmtKind::Return { .. }
                    | StmtKind::Break
                    | StmtKind::Async { .. }
            ) {
                ended = ended.or(Some(stmt));
            }
        }
    }

    fn stmt(&mut self, stmt: &Stmt) {
        self.here = stmt.span;
        self.note_statement(&stmt.kind);
        match &stmt.kind {
            StmtKind::Empty => {}
            StmtKind::Call(call) => self.call(call),
            StmtKind::Assign(assign) => self.assign(assign),
            StmtKind::If { cond, then, otherwise } => {
                self.if_stmt(cond, then, otherwise.as_deref());
            }
            StmtKind::While { cond, body } => self.while_stmt(cond, body),
            StmtKind::For { var, list, body } => self.for_stmt(*var, *list, body),
            StmtKind::Switch { value, cases } => self.switch(*value, cases),
            StmtKind::Break => {
                // Outside of loops it was reported by the parser.
                if let Some(label) = self.breaks.last().copied() {
                    self.jump(label);
                }
            }
            StmtKind::Exit => self.emit(Op::Exit),
            StmtKind::Drop => self.emit(Op::Drop),
            StmtKind::Return { code, values } => self.return_stmt(code.as_ref(), values),
            StmtKind::Async { call, route, timeout } => {
                self.site("async()", Routes::REQUEST.or(Routes::ONREPLY), call.span);
                let target = self.find_route(Routes::REQUEST, route);
                self.link(target, route);
                self.detached(call, target, *timeout, Arg::None, true);
            }
            StmtKind::Launch { call, route, text } => {
                let target = route.as_ref().and_then(|r| self.find_route(Routes::REQUEST, r));
                let text = text.as_ref().map_or(Arg::None, |t| self.text_arg(t));
                self.detached(call, target, None, text, false);
            }
            StmtKind::Assert { cond, text } => self.assert_stmt(cond, text.as_ref()),
            StmtKind::Xlog { level, text, debug } => self.xlog(level.as_ref(), text, *debug),
            StmtKind::Log { level, text } => {
                let string = self.string(&text.value);
                self.emit(Op::Log(*level, string));
            }
        }
    }

    /// Notes where a statement begins, for runs that are traced.
    fn note_statement(&mut self, kind: &StmtKind) {
        let name = match kind {
            // A call names itself, in conditions as well.
            StmtKind::Empty | StmtKind::Call(_) => return,
            StmtKind::Assign(_) => "assign equal",
            StmtKind::If { .. } => "core if",
            StmtKind::While { .. } => "core while",
            StmtKind::For { .. } => "core for each",
            StmtKind::Switch { .. } => "core switch",
            StmtKind::Break => "core break",
            StmtKind::Exit => "core exit",
            StmtKind::Drop => "core drop",
            StmtKind::Return { .. } => "core return",
            StmtKind::Async { .. } => "core async",
            StmtKind::Launch { .. } => "core launch",
            StmtKind::Assert { .. } if !self.asserts => return,
            StmtKind::Assert { .. } => "core assert",
            StmtKind::Xlog { .. } => "core xlog",
            StmtKind::Log { .. } => "core log",
        };
        let at = self.program.code.len() as u32;
        self.program.statements.push(Statement { at, name });
    }

    pub(super) fn jump(&mut self, label: Label) {
        self.emit(Op::Jump(label.0 as u32));
    }

    pub(super) fn site(&mut self, name: &str, routes: Routes, span: crate::source::Span) {
        self.sites.push(Site { block: self.block, name: name.to_owned(), routes, span });
    }

    pub(super) fn link(&mut self, target: Option<RouteId>, name: &Ident) {
        if let Some(RouteId(to)) = target {
            self.edges.push(Edge { from: self.block, to: to as usize, span: name.span });
        }
    }

    fn text_arg(&mut self, text: &Text) -> Arg {
        match self.format(text) {
            Ok(Some(format)) => Arg::Format(format),
            Ok(None) => Arg::Str(text.value.clone().into()),
            Err(()) => Arg::None,
        }
    }

    fn detached(
        &mut self,
        call: &crate::ast::Call,
        route: Option<RouteId>,
        timeout_s: Option<i32>,
        text: Arg,
        is_async: bool,
    ) {
        let Some((id, use_)) = self.call_site(call) else { return };
        if use_ == AsyncUse::No {
            let word = if is_async { "async()" } else { "launch()" };
            let text = format!("`{}` cannot be used with {word}", call.name.name);
            self.error("E0261", call.name.span, text).help =
                Some("call it directly; a call that waits does not block a worker".to_owned());
        }
        let index = self.program.detached.len() as u32;
        self.program.detached.push(Detached { call: id, route, timeout_s, text });
        self.emit(if is_async { Op::Async(index) } else { Op::Launch(index) });
    }

    pub(super) fn assign(&mut self, assign: &AssignExpr) {
        let target = self.var(assign.var, true);
        let is_null = matches!(assign.value.kind, crate::ast::ExprKind::Null);
        match (assign.op, target) {
            (AssignOp::Plain(how), target) => {
                if is_null {
                    self.emit(Op::PushNull);
                } else {
                    self.expr(&assign.value);
                }
                self.here = assign.span;
                if let Some(var) = target {
                    self.emit(Op::Store(var, how));
                }
            }
            (AssignOp::Compound(op), target) => {
                if let Some(var) = target {
                    self.emit(Op::PushVar(var));
                }
                self.expr(&assign.value);
                self.here = assign.span;
                self.emit(Op::Compound(op));
                if let Some(var) = target {
                    self.emit(Op::Store(var, Assign::Set));
                }
            }
        }
    }

    fn if_stmt(&mut self, cond: &Expr, then: &[Stmt], otherwise: Option<&[Stmt]>) {
        let (yes, no, end) = (self.label(), self.label(), self.label());
        if otherwise.is_none() {
            self.emit(Op::Condition);
        }
        self.cond(cond, yes, no, no, yes);
        self.put(yes);
        self.stmts(then);
        self.jump(end);
        self.put(no);
        match otherwise {
            Some(stmts) => self.stmts(stmts),
            None => self.emit(Op::NoBranch),
        }
        self.put(end);
    }

    fn while_stmt(&mut self, cond: &Expr, body: &[Stmt]) {
        let (top, inside, out) = (self.label(), self.label(), self.label());
        self.emit(Op::LoopEnter);
        self.put(top);
        self.cond(cond, inside, out, out, inside);
        self.put(inside);
        self.emit(Op::LoopCount(out.0 as u32));
        self.looped(out, body);
        self.jump(top);
        self.put(out);
        self.emit(Op::LoopLeave);
    }

    fn looped(&mut self, out: Label, body: &[Stmt]) {
        self.breaks.push(out);
        self.stmts(body);
        self.breaks.pop();
    }

    fn for_stmt(&mut self, var: Var, list: Var, body: &[Stmt]) {
        let target = self.var(var, true);
        let source = self.var(list, false);
        let walks = source.and_then(|v| self.program.vars.get(v.0 as usize));
        if walks.is_some_and(|v| !matches!(v.index, IndexRef::All)) {
            let text = "`for` walks a list: the variable needs the index [*]";
            self.error("E0262", list.span, text).help = Some("write $(avp(x)[*])".to_owned());
        }
        if let (Some(var), Some(list)) = (target, source) {
            self.program.fors.push((var, list));
        }
        let index = (self.program.fors.len() as u32).saturating_sub(1);
        let (top, out) = (self.label(), self.label());
        self.emit(Op::LoopEnter);
        self.put(top);
        self.emit(Op::ForNext(index, out.0 as u32));
        self.looped(out, body);
        self.jump(top);
        self.put(out);
        self.emit(Op::LoopLeave);
    }

    fn switch(&mut self, value: Var, cases: &[Case]) {
        if let Some(var) = self.var(value, false) {
            self.emit(Op::PushVar(var));
        }
        let end = self.label();
        let labels: Vec<Label> = cases.iter().map(|_| self.label()).collect();
        let mut default = end;
        for (case, label) in cases.iter().zip(&labels) {
            self.here = case.span;
            match &case.value {
                Some(CaseValue::Int(n)) => self.emit(Op::CaseInt(*n, label.0 as u32)),
                Some(CaseValue::Text(text)) => {
                    let string = self.string(text);
                    self.emit(Op::CaseStr(string, label.0 as u32));
                }
                None => default = *label,
            }
        }
        self.emit(Op::Pop);
        self.jump(default);
        self.breaks.push(end);
        for (case, label) in cases.iter().zip(&labels) {
            self.put(*label);
            self.stmts(&case.body);
        }
        self.breaks.pop();
        self.put(end);
    }

    fn return_stmt(&mut self, code: Option<&Expr>, values: &[Expr]) {
        match code {
            Some(code) => self.expr(code),
            None => self.emit(Op::PushInt(1)),
        }
        for value in values {
            self.expr(value);
        }
        if values.len() > 7 {
            let span = values.last().map_or(self.here, |v| v.span);
            self.error("E0263", span, "return takes at most 7 extra values");
        }
        self.emit(Op::Return(u8::try_from(values.len()).unwrap_or(u8::MAX)));
    }

    fn assert_stmt(&mut self, cond: &Expr, text: Option<&Text>) {
        let start = self.program.code.len();
        let (yes, no) = (self.label(), self.label());
        self.cond(cond, yes, no, no, no);
        self.put(no);
        let text = text.map_or(&b"assert()"[..], |t| &t.value);
        let string = self.string(text);
        self.emit(Op::AssertFailed(string));
        if !self.asserts {
            // It was checked; without enable_asserts it costs nothing.
            self.program.code.truncate(start);
            self.program.places.truncate(start);
        }
        self.put(yes);
    }

    fn xlog(&mut self, level: Option<&Text>, text: &Text, debug: bool) {
        let value = match level {
            None if debug => L_DBG,
            None => match self.program.global("xlog_print_level") {
                Some(Setting::Int(n)) => *n,
                _ => 2,
            },
            Some(text) => {
                let name = text.lossy();
                match LEVELS.iter().find(|(n, _)| *n == name) {
                    Some((_, level)) => *level,
                    None if older_level(&name).is_some() => {
                        let (name, level) = older_level(&name).unwrap_or(("L_NOTICE", 2));
                        let message = "an older spelling of a log level";
                        self.note("N0265", text.span, message).help =
                            Some(format!("write \"{name}\""));
                        level
                    }
                    None => {
                        let near = nearest(&name, LEVELS.iter().map(|l| l.0));
                        let message = format!("unknown log level `{name}`");
                        self.error("E0264", text.span, message).help =
                            near.map(|n| format!("did you mean `{n}`?"));
                        2
                    }
                }
            }
        };
        if let Some(format) = self.always_format(text) {
            self.emit(Op::Xlog(value, format));
        }
    }
}
