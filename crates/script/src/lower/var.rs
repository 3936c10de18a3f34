//! Variables and texts with variables.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::{Lower, not_loaded};
use crate::ast::{Text, Var};
use crate::known::OldKind;
use crate::lex::source_offset;
use crate::nearest::nearest;
use crate::program::{Format, IndexRef, Name, Part, ScopeVar, VarId, VarRef, VarTarget};
use crate::pv::{self, Piece, PvError, Spec};
use crate::sig::VariableSig;
use crate::source::Span;
use crate::transform::subst::{self, Parts, Subst};
use crate::transform::{self, Run, TransformArg, TransformCall, TransformSig};
use crate::vm;

/// Variables within variables.
const DEPTH_MAX: usize = 8;

/// Text of a variable, and where its bytes stand in the source.
#[derive(Clone, Copy)]
struct Origin<'t> {
    text: &'t [u8],
    /// Start of the source.
    base: u32,
    /// The source of a string literal, whose escapes shift offsets.
    literal: Option<(&'t [u8], bool)>,
}

impl Origin<'_> {
    fn span(&self, at: usize, len: usize) -> Span {
        let shift = |o: usize| match self.literal {
            None => o as u32,
            Some((source, raw)) => source_offset(source, raw, o).min(source.len()) as u32,
        };
        Span { lo: self.base + shift(at), hi: self.base + shift(at + len.max(1)) }
    }
}

impl Lower<'_> {
    /// A variable that stands unquoted in the script.
    pub(super) fn var(&mut self, var: Var, write: bool) -> Option<VarId> {
        let map = self.map;
        let text = map.text(var.span);
        let origin = Origin { text, base: var.span.lo, literal: None };
        if text.first() != Some(&b'$') {
            self.error("E0240", var.span, "a variable is expected here, such as $avp(x)");
            return None;
        }
        let (id, end) = self.resolve(origin, 0, 0)?;
        if end != text.len() {
            let span = origin.span(end, text.len() - end);
            self.error("E0241", span, "this does not belong to the variable");
            return None;
        }
        if write {
            self.check_write(id, var.span)?;
        }
        Some(id)
    }

    fn check_write(&mut self, id: VarId, span: Span) -> Option<()> {
        let var = self.program.vars.get(id.0 as usize)?;
        let text = if !var.transforms.is_empty() {
            "a variable with a transformation cannot be written".to_owned()
        } else {
            let writable = match var.target {
                VarTarget::Slot(_) | VarTarget::DynamicVar => true,
                VarTarget::Module(m, v) => self
                    .module(m)
                    .and_then(|m| m.variables.get(usize::from(v)))
                    .is_some_and(|v| v.writable),
                _ => false,
            };
            if writable {
                return Some(());
            }
            format!("{} is read-only", var.text)
        };
        self.error("E0242", span, text);
        None
    }

    /// A literal text; `None` when it has no variables or a mistake (then it was reported).
    pub(super) fn format(&mut self, text: &Text) -> Result<Option<u32>, ()> {
        let map = self.map;
        let literal = Some((map.text(text.span), text.raw));
        let origin = Origin { text: &text.value, base: text.span.lo, literal };
        self.format_of(origin, Piece { text: &text.value, at: 0 }, 0)
    }

    fn format_of(
        &mut self,
        origin: Origin<'_>,
        piece: Piece<'_>,
        depth: usize,
    ) -> Result<Option<u32>, ()> {
        if !piece.text.contains(&b'$') {
            return Ok(None);
        }
        let end = piece.at + piece.text.len();
        let mut parts = Vec::new();
        let mut plain: Vec<u8> = Vec::new();
        let mut at = piece.at;
        let mut failed = false;
        while at < end {
            let byte = origin.text.get(at).copied().unwrap_or_default();
            // At the end it is the end of an expression: "^1[0-9]*$".
            if byte != b'$' || at + 1 == end {
                plain.push(byte);
                at += 1;
            } else if origin.text.get(at + 1) == Some(&b'$') {
                plain.push(b'$');
                at += 2;
            } else {
                if !plain.is_empty() {
                    parts.push(Part::Text(Bytes::from(std::mem::take(&mut plain))));
                }
                match self.resolve(origin, at, depth) {
                    Some((id, next)) => {
                        parts.push(Part::Var(id));
                        at = next;
                    }
                    None => {
                        failed = true;
                        at += 1;
                    }
                }
            }
        }
        if failed {
            return Err(());
        }
        if !plain.is_empty() {
            parts.push(Part::Text(Bytes::from(plain)));
        }
        self.program.formats.push(Format { parts });
        Ok(Some(self.program.formats.len() as u32 - 1))
    }

    /// A format even if the text has no variables.
    pub(super) fn always_format(&mut self, text: &Text) -> Option<u32> {
        match self.format(text) {
            Ok(Some(format)) => Some(format),
            Ok(None) => {
                let parts = vec![Part::Text(Bytes::copy_from_slice(&text.value))];
                self.program.formats.push(Format { parts });
                Some(self.program.formats.len() as u32 - 1)
            }
            Err(()) => None,
        }
    }

    /// The variable at `at`, and where it ends.
    fn resolve(&mut self, origin: Origin<'_>, at: usize, depth: usize) -> Option<(VarId, usize)> {
        if depth > DEPTH_MAX {
            self.error("E0243", origin.span(at, 1), "variables are nested too deep");
            return None;
        }
        let spec = match pv::spec(origin.text, at, |n| self.takes_name(n)) {
            Ok(spec) => spec,
            Err(PvError { message, at, len }) => {
                self.error("E0244", origin.span(at, len), message);
                return None;
            }
        };
        let end = spec.end;
        let id = self.resolve_spec(origin, at, &spec, depth)?;
        Some((id, end))
    }

    fn takes_name(&self, name: &str) -> bool {
        let modules = self.catalogue.modules.iter().flat_map(|m| m.variables.iter());
        // What nobody knows may well take a name; the error is about the variable anyway.
        let mut known = false;
        for sig in vm::VARIABLES.iter().chain(modules).filter(|v| v.name == name) {
            if sig.takes_name {
                return true;
            }
            known = true;
        }
        !known
    }

    fn resolve_spec(
        &mut self,
        origin: Origin<'_>,
        at: usize,
        spec: &Spec<'_>,
        depth: usize,
    ) -> Option<VarId> {
        let written = String::from_utf8_lossy(spec.name.text).into_owned();
        let span = origin.span(at, spec.name.at + spec.name.text.len() - at);
        let (name, field) = self.modern(written, span);
        let named = spec.inner.is_some() || field.is_some();
        let (mut target, sig) = self.target(&name, named, span)?;
        let inner_name = match spec.inner {
            Some(_) if !sig.takes_name => {
                let text = format!("${name} takes no name in parentheses");
                self.error("E0245", span, text);
                return None;
            }
            Some(inner) => match self.format_of(origin, inner, depth + 1).ok()? {
                Some(format) => Name::Format(format),
                None => Name::Text(Bytes::copy_from_slice(inner.text)),
            },
            None if field.is_some() => Name::Text(field.unwrap_or_default()),
            None if sig.takes_name && !self.bare_row(&name) => {
                let text = format!("${name} needs a name: ${name}(...)");
                self.error("E0245", span, text);
                return None;
            }
            None => Name::None,
        };
        let index = self.index(origin, spec, &sig, depth)?;
        if sig.name == "var" && matches!(target, VarTarget::Slot(_)) {
            target = match &inner_name {
                Name::Text(text) => VarTarget::Slot(self.slot(text)),
                _ => VarTarget::DynamicVar,
            };
        }
        if let (Some(branch), Name::Text(flag)) = (names_flag(sig.name), &inner_name) {
            self.flag(branch, &String::from_utf8_lossy(flag), span);
        }
        let mut transforms = SmallVec::new();
        for piece in &spec.transforms {
            transforms.push(self.transform(origin, *piece, depth)?);
        }
        let text =
            String::from_utf8_lossy(origin.text.get(at..spec.end).unwrap_or(&[])).into_owned();
        let context = spec.context;
        let var = VarRef { target, name: inner_name, index, context, transforms, text };
        self.program.vars.push(var);
        Some(VarId(self.program.vars.len() as u32 - 1))
    }

    /// The name of a variable that goes by another one today, with what stands in parentheses
    /// then: `$pr` is `$socket_in(proto)`.
    fn modern(&mut self, name: String, span: Span) -> (String, Option<Bytes>) {
        let known = self.catalogue.known;
        let Some(new) = known.old(OldKind::Variable, &name).and_then(|o| o.replaced_by) else {
            return (name, None);
        };
        let loaded = |name: &str| {
            let rows = self.loaded.iter().filter_map(|m| self.module(*m)).flat_map(|m| m.variables);
            rows.chain(vm::VARIABLES).any(|v| v.name == name)
        };
        let (head, field) = match new.trim_start_matches('$').trim_end_matches(')').split_once('(')
        {
            Some((head, field)) => (head, Some(Bytes::from_static(field.as_bytes()))),
            None => (new.trim_start_matches('$'), None),
        };
        if loaded(&name) || !loaded(head) {
            return (name, None);
        }
        self.note("N0220", span, format!("${name} is an older name")).help =
            Some(format!("write {new}"));
        (head.to_owned(), field)
    }

    fn slot(&mut self, name: &Bytes) -> u32 {
        if let Some(slot) = self.var_names.iter().position(|n| n == name) {
            return slot as u32;
        }
        self.var_names.push(name.clone());
        self.var_names.len() as u32 - 1
    }

    /// Whether a row without a name exists (`$branch` beside `$branch(x)`).
    fn bare_row(&self, name: &str) -> bool {
        let modules = self.loaded.iter().filter_map(|m| self.module(*m));
        modules.flat_map(|m| m.variables).any(|v| v.name == name && !v.takes_name)
    }

    fn target(&mut self, name: &str, named: bool, span: Span) -> Option<(VarTarget, VariableSig)> {
        if let Some(sig) = vm::VARIABLES.iter().find(|v| v.name == name) {
            return Some((own_target(name), *sig));
        }
        let mut fallback = None;
        for module in &self.loaded {
            let rows = self.module(*module).map_or(&[][..], |m| m.variables);
            for (i, row) in rows.iter().enumerate().filter(|(_, v)| v.name == name) {
                let found = (VarTarget::Module(*module, i as u16), *row);
                if row.takes_name == named {
                    return Some(found);
                }
                fallback = fallback.or(Some(found));
            }
        }
        if fallback.is_none() {
            self.unknown_var(name, span);
        }
        fallback
    }

    fn unknown_var(&mut self, name: &str, span: Span) {
        let known = self.catalogue.known;
        let elsewhere =
            self.catalogue.modules.iter().find(|m| m.variables.iter().any(|v| v.name == name));
        if let Some(module) = elsewhere {
            let (text, help) = not_loaded("variable", &format!("${name}"), module.name);
            self.error("E0246", span, text).help = Some(help);
            return;
        }
        if let Some(new) = known.old(OldKind::Variable, name).and_then(|o| o.replaced_by) {
            let text = format!("${name} is a variable of older versions");
            self.error("E0247", span, text).help = Some(format!("write {new}"));
            return;
        }
        if !known.variable(name).is_empty() {
            self.error("E0248", span, format!("variable ${name} is not in Tandem yet"));
            return;
        }
        let modules = self.loaded.iter().filter_map(|m| self.module(*m));
        let names = modules.flat_map(|m| m.variables).map(|v| v.name);
        let near = nearest(name, names.chain(vm::VARIABLES.iter().map(|v| v.name)));
        let dotted = name
            .split_once('.')
            .map(|(head, _)| format!("if a dot follows the variable, write $({head})"));
        let help = near.map(|n| format!("did you mean ${n}?")).or(dotted);
        self.error("E0249", span, format!("unknown variable ${name}")).help = help;
    }

    fn index(
        &mut self,
        origin: Origin<'_>,
        spec: &Spec<'_>,
        sig: &VariableSig,
        depth: usize,
    ) -> Option<IndexRef> {
        let Some(piece) = spec.index else { return Some(IndexRef::None) };
        let span = origin.span(piece.at, piece.text.len());
        if !sig.takes_index {
            self.error("E0250", span, format!("${} takes no index", sig.name));
            return None;
        }
        let text = String::from_utf8_lossy(piece.text).trim().to_owned();
        match text.as_str() {
            "*" => return Some(IndexRef::All),
            "append" => return Some(IndexRef::Append),
            _ => {}
        }
        if piece.text.first() == Some(&b'$') {
            let (var, end) = self.resolve(origin, piece.at, depth + 1)?;
            if end == piece.at + piece.text.len() {
                return Some(IndexRef::Var(var));
            }
        } else if let Ok(n) = text.parse() {
            return Some(IndexRef::At(n));
        }
        self.error("E0250", span, "an index is a number, `*`, `append` or a variable");
        None
    }

    fn transform(
        &mut self,
        origin: Origin<'_>,
        piece: Piece<'_>,
        depth: usize,
    ) -> Option<TransformCall> {
        let head = piece.text.split(|b| *b == b',').next().unwrap_or_default();
        let blanks = head.len() - head.trim_ascii_start().len();
        let written = String::from_utf8_lossy(head.trim_ascii()).to_ascii_lowercase();
        let span = origin.span(piece.at + blanks, head.trim_ascii().len());
        let (name, selector) = pv::transform_name(piece);
        if transform::OLD_NAMES.iter().any(|(old, _)| *old == written) {
            self.note("N0220", span, format!("{{{written}}} is an older name")).help =
                Some(format!("write {{{name}}}"));
        }
        let Some((index, sig)) = transform::find(&name) else {
            let near = nearest(&name, transform::names()).map(|n| format!("did you mean {{{n}}}?"));
            let help = near.or_else(|| class_help(&name));
            self.error("E0252", span, format!("unknown transformation {{{name}}}")).help = help;
            return None;
        };
        let parts = pv::transform_args(piece, sig);
        let given = parts.len();
        if given < usize::from(sig.args_min) || given > usize::from(sig.args_max) {
            let text = format!("{{{name}}} takes {}, {given} given", wanted(sig));
            self.error("E0253", span, text).help = Some(format!("{{{name}}}: {}", sig.help));
            return None;
        }
        let mut args = SmallVec::new();
        for (i, part) in parts.iter().enumerate() {
            args.push(self.transform_arg(origin, *part, sig, i, depth)?);
        }
        Some(TransformCall { index, selector, args })
    }

    fn transform_arg(
        &mut self,
        origin: Origin<'_>,
        part: Piece<'_>,
        sig: &TransformSig,
        at: usize,
        depth: usize,
    ) -> Option<TransformArg> {
        let trimmed = part.text.trim_ascii();
        if trimmed.first() == Some(&b'$') && trimmed.len() > 1 {
            let at = part.at + part.text.iter().take_while(|b| b.is_ascii_whitespace()).count();
            let (var, end) = self.resolve(origin, at, depth + 1)?;
            if end != at + trimmed.len() {
                let span = origin.span(end, at + trimmed.len() - end);
                self.error("E0241", span, "this does not belong to the variable");
                return None;
            }
            return Some(TransformArg::Var(var));
        }
        if matches!(sig.run, Run::Subst) {
            return self.subst(origin, part, depth);
        }
        if sig.ints & (1 << at) == 0 {
            return Some(TransformArg::Text(Bytes::copy_from_slice(part.text)));
        }
        let number = std::str::from_utf8(trimmed).ok().and_then(|t| t.parse().ok());
        if number.is_none() {
            let span = origin.span(part.at, part.text.len());
            self.error("E0254", span, "a number is expected here").help =
                Some(format!("{{{}}}: {}", sig.name, sig.help));
        }
        number.map(TransformArg::Int)
    }

    /// `/expression/replacement/flags`, with variables in the replacement.
    fn subst(&mut self, origin: Origin<'_>, part: Piece<'_>, depth: usize) -> Option<TransformArg> {
        self.substitution(origin, part, depth).map(TransformArg::Subst)
    }

    /// The same as an argument of a function.
    pub(super) fn subst_text(&mut self, text: &Text) -> Option<Arc<Subst>> {
        let map = self.map;
        let literal = Some((map.text(text.span), text.raw));
        let origin = Origin { text: &text.value, base: text.span.lo, literal };
        self.substitution(origin, Piece { text: &text.value, at: 0 }, 0)
    }

    fn substitution(
        &mut self,
        origin: Origin<'_>,
        part: Piece<'_>,
        depth: usize,
    ) -> Option<Arc<Subst>> {
        let span = origin.span(part.at, part.text.len());
        let compiled = subst::split(part.text)
            .map_err(str::to_owned)
            .and_then(|parts| Subst::compile(part.text, &parts).map(|s| (s, parts)));
        let (mut subst, parts) = match compiled {
            Ok(compiled) => compiled,
            Err(why) => {
                self.error("E0255", span, format!("substitution: {why}"));
                return None;
            }
        };
        let text = Parts::of(parts.replacement, part.text);
        let piece = Piece { text, at: part.at + parts.replacement.0 };
        match self.format_of(origin, piece, depth + 1).ok()? {
            None => subst.add_text(text),
            Some(format) => {
                let format = self.program.formats.get(format as usize).cloned();
                for part in format.unwrap_or_default().parts {
                    match part {
                        Part::Text(text) => subst.add_text(&text),
                        Part::Var(var) => subst.replacement.push(subst::Piece::Var(var)),
                    }
                }
            }
        }
        Some(Arc::new(subst))
    }

    /// What texts may name at run time.
    pub(super) fn scope(&self) -> Vec<ScopeVar> {
        let own = vm::VARIABLES.iter().map(|v| (v, own_target(v.name)));
        let modules = self.loaded.iter().flat_map(|m| {
            let rows = self.module(*m).map_or(&[][..], |s| s.variables);
            rows.iter().enumerate().map(|(i, v)| (v, VarTarget::Module(*m, i as u16)))
        });
        let all = own.chain(modules);
        all.map(|(v, target)| ScopeVar { name: v.name, takes_name: v.takes_name, target }).collect()
    }
}

/// Whether the name of a variable in parentheses is that of a flag: of a branch, or of the message.
fn names_flag(variable: &str) -> Option<bool> {
    match variable {
        "msg.flag" => Some(false),
        "branch.flag" | "msg.branch.flag" => Some(true),
        _ => None,
    }
}

fn own_target(name: &str) -> VarTarget {
    match name {
        "rc" | "retcode" => VarTarget::Rc,
        "param" => VarTarget::Param,
        "return" => VarTarget::Return,
        "route" => VarTarget::Route,
        "route.name" => VarTarget::RouteName,
        "route.type" => VarTarget::RouteType,
        "cfg_line" => VarTarget::CfgLine,
        "cfg_file" => VarTarget::CfgFile,
        _ => VarTarget::Slot(0),
    }
}

fn wanted(sig: &TransformSig) -> String {
    match (sig.args_min, sig.args_max) {
        (0, 0) => "no arguments".to_owned(),
        (1, 1) => "1 argument".to_owned(),
        (a, b) if a == b => format!("{a} arguments"),
        (a, b) => format!("{a} to {b} arguments"),
    }
}

/// The names of the class, when only the part behind the dot is wrong.
fn class_help(name: &str) -> Option<String> {
    let (class, _) = name.split_once('.')?;
    let same = |n: &&str| n.split_once('.').is_some_and(|(c, _)| c == class);
    let names: Vec<&str> = transform::names().filter(same).collect();
    (!names.is_empty()).then(|| format!("there are {}", names.join(", ")))
}
