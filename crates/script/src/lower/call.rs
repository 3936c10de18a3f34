//! Calls of functions and routes, and their arguments.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Lower, not_loaded, tag_name};
use crate::ast::{self, ArgKind as Given, Ident};
use crate::flags;
use crate::former::instead;
use crate::known::OldKind;
use crate::nearest::nearest;
use crate::program::{Arg, Call, CallId, FormatId, Op, Part, Ready, RouteCall, RouteTarget};
use crate::sig::{ArgKind, ArgSig, AsyncUse, FlagSig, FunctionSig, Routes};
use crate::source::Span;
use crate::vm::compile_regex;

/// Parameters of `route()`.
const ROUTE_ARGS_MAX: usize = 7;

impl Lower<'_> {
    pub(super) fn call(&mut self, call: &ast::Call) {
        if call.name.name == "route" {
            self.route_call(call);
            return;
        }
        let Some((id, use_)) = self.call_site(call) else { return };
        if use_ == AsyncUse::Only {
            let text = format!("`{}` works only with async() and launch()", call.name.name);
            self.error("E0280", call.name.span, text).help =
                Some(format!("write async({}(...), ROUTE)", call.name.name));
        }
        self.here = call.span;
        self.emit(Op::Call(id));
    }

    fn route_call(&mut self, call: &ast::Call) {
        let Some((first, rest)) = call.args.split_first() else {
            self.error("E0281", call.span, "route() needs the name of a route");
            return;
        };
        if rest.len() > ROUTE_ARGS_MAX {
            let text = format!("a route takes at most {ROUTE_ARGS_MAX} parameters");
            self.error("E0282", call.span, text);
        }
        let target = self.route_target(first);
        let mut args = SmallVec::new();
        for arg in rest {
            args.push(match &arg.kind {
                Given::Omitted => Arg::None,
                Given::Int(n) => Arg::Int(*n),
                // Texts are handed over as they are.
                Given::Text(t) => Arg::Str(t.value.clone().into()),
                Given::Var(v) => self.var(*v, false).map_or(Arg::None, Arg::Var),
                Given::Word(w) if w == "null" || w == "NULL" => Arg::None,
                Given::Word(w) => {
                    let text = format!("`{w}` must be quoted");
                    self.error("E0283", arg.span, text);
                    Arg::None
                }
            });
        }
        if let Some(target) = target {
            self.here = call.span;
            self.program.route_calls.push(RouteCall { target, args });
            self.emit(Op::Route(self.program.route_calls.len() as u32 - 1));
        }
    }

    fn route_target(&mut self, arg: &ast::Arg) -> Option<RouteTarget> {
        let name = match &arg.kind {
            Given::Omitted => {
                self.error("E0281", arg.span, "route() needs the name of a route");
                return None;
            }
            Given::Var(v) => return self.var(*v, false).map(|v| RouteTarget::Dynamic(Arg::Var(v))),
            Given::Int(n) => n.to_string(),
            Given::Word(w) => w.clone(),
            Given::Text(t) => match self.format(t) {
                Ok(Some(format)) => return Some(RouteTarget::Dynamic(Arg::Format(format))),
                Ok(None) => t.lossy(),
                Err(()) => return None,
            },
        };
        let name = Ident { name, span: arg.span };
        let target = self.find_route(Routes::REQUEST, &name);
        self.link(target, &name);
        target.map(RouteTarget::Fixed)
    }

    /// Checks a call and makes its site.
    pub(super) fn call_site(&mut self, call: &ast::Call) -> Option<(CallId, AsyncUse)> {
        let (module, function, sig) = self.find_function(&call.name)?;
        self.site(&call.name.name, sig.routes, call.name.span);
        self.count(call, &sig)?;
        let mut args: SmallVec<[Arg; 4]> = SmallVec::new();
        for (i, row) in sig.args.iter().enumerate() {
            args.push(match call.args.get(i) {
                Some(arg) => self.argument(arg, row).unwrap_or(Arg::None),
                None => Arg::None,
            });
        }
        let id = CallId(self.program.calls.len() as u32);
        let place = self.place(call.name.span);
        let name = sig.name;
        self.program.calls.push(Call { id, module, function, name, place, args, fixed: None });
        Some((id, sig.async_use))
    }

    /// Too many, too few, or an omitted one that must be there.
    fn count(&mut self, call: &ast::Call, sig: &FunctionSig) -> Option<()> {
        let given = call.args.len();
        if let Some(extra) = call.args.get(sig.args.len()) {
            let text = match sig.args.len() {
                0 => format!("`{}` takes no arguments", sig.name),
                1 => format!("`{}` takes at most 1 argument, {given} given", sig.name),
                n => format!("`{}` takes at most {n} arguments, {given} given", sig.name),
            };
            self.error("E0284", extra.span, text).help = Some(usage(sig));
            return None;
        }
        for (i, row) in sig.args.iter().enumerate().filter(|(_, r)| !r.optional) {
            let span = match call.args.get(i) {
                Some(ast::Arg { kind: Given::Omitted, span }) => *span,
                Some(_) => continue,
                None => call.span,
            };
            let text = format!("`{}` needs its argument `{}`", sig.name, row.name);
            self.error("E0285", span, text).help = Some(usage(sig));
            return None;
        }
        Some(())
    }

    fn find_function(&mut self, name: &Ident) -> Option<(u16, u16, FunctionSig)> {
        if let Some(found) = self.lookup(&name.name) {
            return Some(found);
        }
        let known = self.catalogue.known;
        if let Some(old) = known.old(OldKind::Function, &name.name)
            && let Some(new) = old.replaced_by
            && let Some(found) = self.lookup(new)
        {
            let text = format!("`{}` is an older name", name.name);
            self.note("N0220", name.span, text).help = Some(format!("write `{new}`"));
            return Some(found);
        }
        let modules = self.catalogue.modules;
        let owner = modules.iter().find(|m| m.functions.iter().any(|f| f.name == name.name));
        if let Some(module) = owner {
            let (text, help) = not_loaded("function", &name.name, module.name);
            self.error("E0286", name.span, text).help = Some(help);
        } else if let Some(module) = known.function(&name.name).first() {
            let text = format!("function `{}` of {module} is not in Tandem yet", name.name);
            self.error("E0287", name.span, text).help =
                instead(module, &name.name).map(str::to_owned);
        } else {
            let rows = self.loaded.iter().filter_map(|m| self.module(*m));
            let names = rows.flat_map(|m| m.functions).map(|f| f.name);
            let words = ["route", "xlog", "exit", "drop", "return"];
            let near =
                nearest(&name.name, names.chain(words)).map(|n| format!("did you mean `{n}`?"));
            let help = near.or_else(|| self.near_elsewhere(&name.name));
            let text = format!("unknown function `{}`", name.name);
            self.error("E0102", name.span, text).help = help;
        }
        None
    }

    /// A similar function of a module that is not loaded.
    fn near_elsewhere(&self, name: &str) -> Option<String> {
        let modules = self.catalogue.modules;
        let near = nearest(name, modules.iter().flat_map(|m| m.functions).map(|f| f.name))?;
        let owner = modules.iter().find(|m| m.functions.iter().any(|f| f.name == near))?;
        Some(format!("did you mean `{near}` of module {}, which is not loaded?", owner.name))
    }

    /// The first loaded function of the name that allows the block; else the first of the name.
    fn lookup(&self, name: &str) -> Option<(u16, u16, FunctionSig)> {
        let kind = self.program.routes.get(self.block).map_or(Routes::ANY, |r| r.kind);
        let mut fallback = None;
        for module in &self.loaded {
            let rows = self.module(*module).map_or(&[][..], |m| m.functions);
            for (i, row) in rows.iter().enumerate().filter(|(_, f)| f.name == name) {
                let found = (*module, i as u16, *row);
                if row.routes.allows(kind) {
                    return Some(found);
                }
                fallback = fallback.or(Some(found));
            }
        }
        fallback
    }

    fn argument(&mut self, arg: &ast::Arg, row: &ArgSig) -> Option<Arg> {
        match &arg.kind {
            Given::Omitted => Some(Arg::None),
            Given::Var(var) => self.variable(*var, arg.span, row),
            Given::Int(n) => self.integer(*n, arg.span, row),
            Given::Text(text) => self.text(text, row),
            Given::Word(word) => self.bare(word, arg.span, row),
        }
    }

    fn variable(&mut self, var: ast::Var, span: Span, row: &ArgSig) -> Option<Arg> {
        let prepared =
            matches!(row.kind, ArgKind::MessageFlag | ArgKind::BranchFlag | ArgKind::Format);
        if row.is_static || prepared {
            let text = format!("argument `{}` must be a literal", row.name);
            self.error("E0288", span, text);
            return None;
        }
        let id = self.var(var, false)?;
        Some(match row.kind {
            ArgKind::Var => Arg::Ref(id),
            ArgKind::Vars => Arg::Ready(Ready::Vars([id].into())),
            ArgKind::Int => Arg::IntVar(id),
            ArgKind::Flags(_) => Arg::Var(id),
            _ => Arg::StrVar(id),
        })
    }

    fn integer(&mut self, n: i32, span: Span, row: &ArgSig) -> Option<Arg> {
        match row.kind {
            ArgKind::Int => {
                self.checked(&n.to_string(), span, row)?;
                Some(Arg::Int(n))
            }
            ArgKind::Flags(list) => match flags::parse_mask(list, n) {
                Some(parsed) => Some(self.old_flags(parsed, span, &n.to_string())),
                None => {
                    self.error("E0289", span, format!("`{n}` names no flags of `{}`", row.name));
                    None
                }
            },
            ArgKind::MessageFlag | ArgKind::BranchFlag | ArgKind::Route(_) => {
                self.word(&n.to_string(), span, row)
            }
            _ => {
                let text = format!("argument `{}` is {}, not a number", row.name, wanted(row.kind));
                let quoted = matches!(row.kind, ArgKind::Str).then(|| format!("write \"{n}\""));
                self.error("E0290", span, text).help = quoted;
                None
            }
        }
    }

    fn bare(&mut self, word: &str, span: Span, row: &ArgSig) -> Option<Arg> {
        let flag =
            matches!(row.kind, ArgKind::MessageFlag | ArgKind::BranchFlag | ArgKind::Route(_));
        if flag {
            let text = "a name without quotes is an older spelling";
            self.note("N0291", span, text).help = Some(format!("write \"{word}\""));
            return self.word(word, span, row);
        }
        if matches!(word, "null" | "NULL") {
            let text = format!("null is no value for argument `{}`", row.name);
            self.error("E0290", span, text).help =
                Some("an argument that is left out is just empty: f(1, , 2)".to_owned());
            return None;
        }
        let text = format!("`{word}` must be quoted");
        self.error("E0283", span, text).help = Some(format!("write \"{word}\""));
        None
    }

    /// A literal name of a flag or route.
    fn word(&mut self, word: &str, span: Span, row: &ArgSig) -> Option<Arg> {
        Some(Arg::Ready(match row.kind {
            ArgKind::MessageFlag => Ready::MessageFlag(self.flag(false, word, span)),
            ArgKind::BranchFlag => Ready::BranchFlag(self.flag(true, word, span)),
            ArgKind::Route(kinds) => {
                let name = Ident { name: word.to_owned(), span };
                Ready::Route(self.find_route(kinds, &name)?)
            }
            _ => return None,
        }))
    }

    fn text(&mut self, text: &ast::Text, row: &ArgSig) -> Option<Arg> {
        let literal = text.lossy();
        match row.kind {
            ArgKind::Int => {
                let number = literal.trim().parse::<i32>().ok();
                let message = format!("argument `{}` is a number, not a text", row.name);
                self.error("E0290", text.span, message).help =
                    number.map(|n| format!("write {n} without quotes"));
                return None;
            }
            ArgKind::Var => {
                let message =
                    format!("argument `{}` is a variable, written without quotes", row.name);
                self.error("E0290", text.span, message);
                return None;
            }
            ArgKind::MessageFlag | ArgKind::BranchFlag => {
                return self.word(&literal, text.span, row);
            }
            ArgKind::Vars => return self.variables(text, row),
            ArgKind::Format => {
                let format = self.always_format(text)?;
                return Some(Arg::Ready(Ready::Format(FormatId(format))));
            }
            ArgKind::Subst => {
                return self.subst_text(text).map(|subst| Arg::Ready(Ready::Subst(subst)));
            }
            _ => {}
        }
        let has_variable = if matches!(row.kind, ArgKind::Regex) {
            // A lone `$` is the end of the text to match.
            text.value
                .windows(2)
                .any(|w| matches!(w, [b'$', b] if b.is_ascii_alphabetic() || *b == b'('))
        } else {
            text.value.contains(&b'$')
        };
        if has_variable && !row.is_static {
            return match self.format(text) {
                Ok(Some(format)) => Some(Arg::Format(format)),
                _ => None,
            };
        }
        self.prepared(text, &literal, row)
    }

    /// A text that is a list of variables.
    fn variables(&mut self, text: &ast::Text, row: &ArgSig) -> Option<Arg> {
        let format = self.format(text).ok()?;
        let parts =
            format.and_then(|at| self.program.formats.get(at as usize)?.parts.clone().into());
        let mut vars = Vec::new();
        let mut rest = false;
        for part in parts.unwrap_or_default() {
            match part {
                Part::Var(var) => vars.push(var),
                Part::Text(between) => {
                    rest |= !between.iter().all(|b| b";, \t".contains(b));
                }
            }
        }
        if vars.is_empty() || rest {
            let message = format!("argument `{}` is a list of variables", row.name);
            self.error("E0290", text.span, message).help =
                Some("write \"$avp(one);$avp(two)\"".to_owned());
            return None;
        }
        Some(Arg::Ready(Ready::Vars(vars.into())))
    }

    /// A literal without variables: everything that can be prepared is.
    fn prepared(&mut self, text: &ast::Text, literal: &str, row: &ArgSig) -> Option<Arg> {
        self.checked(literal, text.span, row)?;
        Some(match row.kind {
            ArgKind::Regex => match compile_regex(&text.value) {
                Ok(regex) => Arg::Ready(Ready::Regex(Arc::new(regex))),
                Err(why) => {
                    self.error("E0272", text.span, format!("not a valid expression: {why}"));
                    return None;
                }
            },
            ArgKind::Flags(list) => return self.flag_list(list, literal, text.span),
            ArgKind::Route(_) => return self.word(literal, text.span, row),
            ArgKind::SharingTag => match tag_name(literal) {
                Some(tag) => {
                    self.tags_used.push((tag.clone(), text.span));
                    self.program.tags_in_calls.push((tag.clone(), text.span));
                    Arg::Ready(Ready::SharingTag(Arc::new(tag)))
                }
                None => {
                    let message = "a sharing tag is written `name` or `name/cluster`";
                    self.error("E0292", text.span, message);
                    return None;
                }
            },
            ArgKind::Methods => {
                let methods: Vec<String> =
                    literal.split('|').map(|m| m.trim().to_ascii_uppercase()).collect();
                if methods.iter().any(String::is_empty) {
                    let message = "methods are separated by one `|`: \"INVITE|ACK\"";
                    self.error("E0293", text.span, message);
                    return None;
                }
                Arg::Ready(Ready::Methods(methods.into()))
            }
            _ => Arg::Str(text.value.clone().into()),
        })
    }

    fn checked(&mut self, literal: &str, span: Span, row: &ArgSig) -> Option<()> {
        let Some(check) = row.check else { return Some(()) };
        match check(literal) {
            Ok(()) => Some(()),
            Err(why) => {
                self.error("E0294", span, format!("argument `{}`: {why}", row.name));
                None
            }
        }
    }

    fn flag_list(&mut self, list: &'static [FlagSig], text: &str, span: Span) -> Option<Arg> {
        match flags::parse(list, text) {
            Ok(parsed) => Some(self.old_flags(parsed, span, text)),
            Err(why) => {
                let names = list.iter().map(|f| f.name).collect::<Vec<_>>().join(", ");
                self.error("E0289", span, why).help = Some(format!("flags: {names}"));
                None
            }
        }
    }

    fn old_flags(&mut self, parsed: flags::Parsed, span: Span, old: &str) -> Arg {
        if let Some(modern) = parsed.modern {
            let text = format!("`{old}` is an older spelling of flags");
            self.note("N0295", span, text).help = Some(format!("write \"{modern}\""));
        }
        Arg::Ready(Ready::Flags(Arc::new(parsed.flags)))
    }
}

fn wanted(kind: ArgKind) -> &'static str {
    match kind {
        ArgKind::Var => "a variable",
        ArgKind::Regex => "an expression",
        ArgKind::SharingTag => "the name of a sharing tag",
        ArgKind::Methods => "a list of methods",
        ArgKind::Vars => "a list of variables",
        _ => "a text",
    }
}

fn usage(sig: &FunctionSig) -> String {
    let args = sig
        .args
        .iter()
        .map(|a| if a.optional { format!("[{}]", a.name) } else { a.name.to_owned() });
    format!("{}({})", sig.name, args.collect::<Vec<_>>().join(", "))
}
