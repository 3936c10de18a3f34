//! Conditions to jumps, expressions to the stack.

use std::sync::Arc;

use super::{Label, Lower};
use crate::ast::{Expr, ExprKind, LogicOp, Right, Var};
use crate::program::{Compare, CompareOp, Op, Operand};
use crate::vm::compile_regex;

impl Lower<'_> {
    /// Jumps to `yes`, `no` or `error`; `next` is the label that follows at once.
    pub(super) fn cond(&mut self, e: &Expr, yes: Label, no: Label, error: Label, next: Label) {
        self.here = e.span;
        match &e.kind {
            ExprKind::Logic(op, left, right) => {
                let middle = self.label();
                match op {
                    LogicOp::And => self.cond(left, middle, no, error, middle),
                    LogicOp::Or => self.cond(left, yes, middle, error, middle),
                }
                self.put(middle);
                self.cond(right, yes, no, error, next);
            }
            ExprKind::Not(inner) => self.cond(inner, no, yes, error, next),
            ExprKind::Int(n) => {
                let to = if *n == 0 { no } else { yes };
                if to != next {
                    self.jump(to);
                }
            }
            ExprKind::Var(var) => {
                if let Some(var) = self.var(*var, false) {
                    self.emit(Op::TestVar(var));
                }
                self.branch(yes, no, None, next);
            }
            ExprKind::Compare(op, left, right) => {
                self.compare(*op, *left, right);
                self.branch(yes, no, Some(error), next);
            }
            ExprKind::Call(call) => {
                self.call(call);
                self.emit(Op::TestRc);
                self.branch(yes, no, None, next);
            }
            ExprKind::Assign(assign) => {
                self.assign(assign);
                self.emit(Op::TestRc);
                self.branch(yes, no, None, next);
            }
            ExprKind::Bracket(inner) => {
                self.expr(inner);
                self.emit(Op::TestTop);
                self.branch(yes, no, Some(error), next);
            }
            ExprKind::Stmts(stmts) => {
                self.stmts(stmts);
                self.emit(Op::TestRc);
                self.branch(yes, no, None, next);
            }
            ExprKind::Text(_) | ExprKind::Null => {
                self.error("E0270", e.span, "a constant text or null is no condition");
            }
            ExprKind::Arith(..) | ExprKind::BitNot(_) | ExprKind::Negate(_) => {
                self.error("E0271", e.span, "arithmetic as a condition stands in [ ]").help =
                    Some("write [ ... ], or compare a variable".to_owned());
                self.expr(e);
            }
            ExprKind::Wrong => {}
        }
    }

    fn branch(&mut self, yes: Label, no: Label, error: Option<Label>, next: Label) {
        if let Some(error) = error.filter(|e| *e != no || next == no) {
            self.emit(Op::JumpError(error.0 as u32));
        }
        if next == no {
            self.emit(Op::JumpTrue(yes.0 as u32));
        } else if next == yes {
            self.emit(Op::JumpFalse(no.0 as u32));
            if error == Some(no) {
                self.emit(Op::JumpError(no.0 as u32));
            }
        } else {
            self.emit(Op::JumpTrue(yes.0 as u32));
            self.jump(no);
        }
    }

    fn compare(&mut self, op: CompareOp, left: Var, right: &Right) {
        let left = self.var(left, false);
        let right = match right {
            Right::Null => Some(Operand::Null),
            Right::Int(n) => Some(Operand::Int(*n)),
            Right::Net(net) => Some(Operand::Net(*net)),
            Right::Var(var) => self.var(*var, false).map(Operand::Var),
            Right::Text(text) if matches!(op, CompareOp::Match | CompareOp::NoMatch) => {
                match compile_regex(&text.value) {
                    Ok(regex) => Some(Operand::Regex(Arc::new(regex))),
                    Err(why) => {
                        let message = format!("not a valid expression: {why}");
                        self.error("E0272", text.span, message);
                        None
                    }
                }
            }
            Right::Text(text) => Some(Operand::Str(text.value.clone().into())),
        };
        if let (Some(left), Some(right)) = (left, right) {
            self.program.compares.push(Compare { op, left, right });
            self.emit(Op::Compare(self.program.compares.len() as u32 - 1));
        }
    }

    /// Leaves one value on the stack.
    pub(super) fn expr(&mut self, e: &Expr) {
        self.here = e.span;
        match &e.kind {
            ExprKind::Int(n) => self.emit(Op::PushInt(*n)),
            ExprKind::Text(text) => {
                let string = self.string(&text.value);
                self.emit(Op::PushStr(string));
            }
            ExprKind::Var(var) => {
                if let Some(var) = self.var(*var, false) {
                    self.emit(Op::PushVar(var));
                }
            }
            ExprKind::Null => {
                self.error("E0273", e.span, "null is no operand").help =
                    Some("it can be assigned and compared".to_owned());
            }
            ExprKind::Arith(op, left, right) => {
                self.expr(left);
                self.expr(right);
                self.here = e.span;
                self.emit(Op::Arith(*op));
            }
            ExprKind::BitNot(inner) => {
                self.expr(inner);
                self.emit(Op::BitNot);
            }
            ExprKind::Negate(inner) => {
                self.expr(inner);
                self.emit(Op::Negate);
            }
            ExprKind::Compare(op, left, right) => {
                self.compare(*op, *left, right);
                self.emit(Op::PushTest);
            }
            ExprKind::Call(call) => {
                self.call(call);
                self.emit(Op::PushRc);
            }
            ExprKind::Assign(assign) => {
                self.assign(assign);
                self.emit(Op::PushRc);
            }
            ExprKind::Bracket(inner) => self.expr(inner),
            ExprKind::Logic(..) | ExprKind::Not(_) => self.truth(e),
            ExprKind::Stmts(_) => {
                self.error("E0274", e.span, "statements are no value");
            }
            ExprKind::Wrong => {}
        }
    }

    /// A condition as the number 1, 0, or -1 for an error.
    fn truth(&mut self, e: &Expr) {
        let (yes, no, error, end) = (self.label(), self.label(), self.label(), self.label());
        self.cond(e, yes, no, error, yes);
        self.put(yes);
        self.emit(Op::PushInt(1));
        self.jump(end);
        self.put(no);
        self.emit(Op::PushInt(0));
        self.jump(end);
        self.put(error);
        self.emit(Op::PushInt(-1));
        self.put(end);
    }
}
