//! Tree to program: one walk that checks everything and emits code.

mod call;
mod cond;
mod config;
mod reach;
mod stmt;
mod var;

use std::collections::HashMap;

use bytes::Bytes;

use crate::ast::{Block, Ident, Item};
use crate::diag::Diag;
use crate::nearest::nearest;
use crate::program::{Op, Place, Program, Route, RouteId, TagName};
use crate::sig::{Catalogue, ModuleSig, Routes};
use crate::source::{SourceMap, Span};
use crate::vm::kind_name;

pub use reach::REACHED;

/// Iterations of one `while`, unless the global says otherwise.
const WHILE_LOOPS: u32 = 10_000;
/// Distinct names of message flags and of branch flags.
const FLAGS_MAX: usize = 32;

pub(crate) fn lower(
    items: &[Item],
    map: &SourceMap,
    catalogue: &Catalogue<'_>,
    before: Option<&Program>,
    diags: &mut Vec<Diag>,
) -> Program {
    let mut program = Program { while_loops_max: WHILE_LOOPS, ..Program::default() };
    if let Some(before) = before {
        program.message_flags.clone_from(&before.message_flags);
        program.branch_flags.clone_from(&before.branch_flags);
    }
    program.files = map.files.iter().map(|f| f.name.clone()).collect();
    let mut lower = Lower {
        map,
        catalogue,
        diags,
        program,
        loaded: vec![0],
        missing: Vec::new(),
        labels: Vec::new(),
        breaks: Vec::new(),
        var_names: Vec::new(),
        strings: HashMap::new(),
        here: Span::default(),
        block: 0,
        asserts: false,
        edges: Vec::new(),
        sites: Vec::new(),
        heads: Vec::new(),
        tags_defined: Vec::new(),
        tags_used: Vec::new(),
    };
    lower.config(items);
    let blocks: Vec<&Block> =
        items.iter().filter_map(|i| if let Item::Block(b) = i { Some(b) } else { None }).collect();
    for block in &blocks {
        lower.declare(block);
    }
    for (index, block) in blocks.iter().enumerate() {
        lower.block = index;
        lower.block(index, block);
    }
    lower.reachability();
    lower.tags();
    let scope = lower.scope();
    let mut program = lower.program;
    program.scope = scope;
    program.may_trace = program.calls(0, "script_trace");
    program.var_names = lower.var_names.into();
    program.calls.iter_mut().for_each(|call| call.fix());
    program
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label(usize);

/// A call of a route from a block.
struct Edge {
    from: usize,
    to: usize,
    span: Span,
}

/// Something that may stand in some kinds of blocks only.
struct Site {
    block: usize,
    name: String,
    routes: Routes,
    span: Span,
}

pub(crate) struct Lower<'a> {
    map: &'a SourceMap,
    catalogue: &'a Catalogue<'a>,
    diags: &'a mut Vec<Diag>,
    program: Program,
    /// Modules that are loaded, in order; the core first.
    loaded: Vec<u16>,
    /// Modules that the script loads and nobody has: that was said.
    missing: Vec<String>,
    /// Where labels are, once they are placed.
    labels: Vec<Option<u32>>,
    breaks: Vec<Label>,
    var_names: Vec<Bytes>,
    strings: HashMap<Bytes, u32>,
    /// What the next instructions belong to.
    here: Span,
    /// Index of the block in hand.
    block: usize,
    asserts: bool,
    edges: Vec<Edge>,
    sites: Vec<Site>,
    heads: Vec<Span>,
    tags_defined: Vec<TagName>,
    tags_used: Vec<(TagName, Span)>,
}

impl<'a> Lower<'a> {
    fn error(&mut self, code: &'static str, span: Span, text: impl Into<String>) -> &mut Diag {
        self.report(Diag::error(code, span, text))
    }

    fn note(&mut self, code: &'static str, span: Span, text: impl Into<String>) -> &mut Diag {
        self.report(Diag::note(code, span, text))
    }

    fn report(&mut self, diag: Diag) -> &mut Diag {
        self.diags.push(diag);
        let last = self.diags.len() - 1;
        &mut self.diags[last]
    }

    fn place(&self, span: Span) -> Place {
        let at = self.map.position(span.lo);
        Place { file: at.file as u16, line: at.line, column: at.column }
    }

    fn module(&self, index: u16) -> Option<&'a ModuleSig<'a>> {
        self.catalogue.modules.get(usize::from(index))
    }

    fn emit(&mut self, op: Op) {
        let place = self.place(self.here);
        self.program.code.push(op);
        self.program.places.push(place);
    }

    fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    fn put(&mut self, label: Label) {
        let at = self.program.code.len() as u32;
        if let Some(slot) = self.labels.get_mut(label.0) {
            *slot = Some(at);
        }
    }

    fn string(&mut self, text: &[u8]) -> u32 {
        if let Some(i) = self.strings.get(text) {
            return *i;
        }
        let bytes = Bytes::copy_from_slice(text);
        let index = self.program.strings.len() as u32;
        self.program.strings.push(bytes.clone());
        self.strings.insert(bytes, index);
        index
    }

    fn declare(&mut self, block: &Block) {
        let name = block.name.as_ref().map_or(String::new(), |n| n.name.clone());
        let kind = block.kind;
        let same = self.program.routes.iter().position(|r| r.kind == kind && r.name == name);
        if let Some(first) = same {
            let shown = title(kind, &name);
            let before = self.heads.get(first).copied().unwrap_or_default();
            let diag = Diag::error("E0201", block.head, format!("{shown} is there twice"));
            self.diags.push(diag.related(before, "the first one is here"));
        }
        if kind == Routes::EVENT
            && let Some(event) = &block.name
        {
            self.check_event(event);
        }
        let interval_s = match block.interval {
            Some((n, span)) if n <= 0 => {
                self.error("E0202", span, "the interval must be at least 1 second");
                1
            }
            Some((n, _)) => n as u32,
            None => 0,
        };
        let place = self.place(block.head);
        self.program.routes.push(Route { kind, name, interval_s, place, entry: 0, gone: false });
        self.heads.push(block.head);
    }

    fn check_event(&mut self, event: &Ident) {
        let modules = self.loaded.iter().filter_map(|m| self.module(*m));
        let names: Vec<&str> = modules.flat_map(|m| m.events.iter().copied()).collect();
        if names.contains(&event.name.as_str()) {
            return;
        }
        let owners = self.catalogue.known.event(&event.name);
        let elsewhere = self.catalogue.modules.iter().find(|m| m.events.contains(&&*event.name));
        if let Some(module) = elsewhere {
            let (text, help) = not_loaded("event", &event.name, module.name);
            self.error("E0203", event.span, text).help = Some(help);
        } else if owners.is_empty() {
            let near = nearest(&event.name, names.iter().copied());
            let help = near.map(|n| format!("did you mean `{n}`?")).or_else(|| {
                Some("it runs only if the script raises it with raise_event()".to_owned())
            });
            let text = format!("no loaded module raises the event `{}`", event.name);
            let diag = Diag::warning("W0203", event.span, text).maybe_help(help);
            self.diags.push(diag);
        } else {
            let text = format!("event `{}` is not in Tandem yet", event.name);
            self.error("E0203", event.span, text);
        }
    }

    fn block(&mut self, index: usize, block: &Block) {
        let entry = self.program.code.len() as u32;
        if let Some(route) = self.program.routes.get_mut(index) {
            route.entry = entry;
        }
        self.labels.clear();
        self.breaks.clear();
        self.stmts(&block.body);
        self.here = block.body.last().map_or(block.head, |s| s.span);
        self.emit(Op::End);
        self.patch(entry as usize);
    }

    /// Jumps carry labels until the block is complete.
    fn patch(&mut self, from: usize) {
        let labels = &self.labels;
        let place = |l: u32| labels.get(l as usize).copied().flatten().unwrap_or(u32::MAX);
        for op in self.program.code.iter_mut().skip(from) {
            match op {
                Op::Jump(l) | Op::JumpTrue(l) | Op::JumpFalse(l) | Op::JumpError(l) => {
                    *l = place(*l);
                }
                Op::CaseInt(_, l) | Op::CaseStr(_, l) | Op::LoopCount(l) | Op::ForNext(_, l) => {
                    *l = place(*l);
                }
                _ => {}
            }
        }
    }

    /// A block that must exist. Says what is near otherwise.
    fn find_route(&mut self, kinds: Routes, name: &Ident) -> Option<RouteId> {
        let found =
            self.program.routes.iter().position(|r| kinds.allows(r.kind) && r.name == name.name);
        if let Some(index) = found {
            return Some(RouteId(index as u32));
        }
        let wanted = self.program.routes.iter().filter(|r| kinds.allows(r.kind));
        let near = nearest(&name.name, wanted.map(|r| r.name.as_str())).map(str::to_owned);
        let other = self.program.routes.iter().find(|r| r.name == name.name).map(|r| r.kind);
        let kind = kind_name(Routes(kinds.0 & kinds.0.wrapping_neg()));
        let help = match (near, other) {
            (Some(near), _) => Some(format!("did you mean `{near}`?")),
            (None, Some(other)) => Some(format!(
                "there is a {}[{}], but this needs a {kind}",
                kind_name(other),
                name.name
            )),
            (None, None) => None,
        };
        let text = format!("there is no {kind}[{}]", name.name);
        self.error("E0204", name.span, text).help = help;
        None
    }

    /// The bit of a flag name; a new name takes the next one.
    fn flag(&mut self, branch: bool, name: &str, span: Span) -> u8 {
        let names =
            if branch { &mut self.program.branch_flags } else { &mut self.program.message_flags };
        if let Some(bit) = names.iter().position(|n| n == name) {
            return bit as u8;
        }
        if names.len() < FLAGS_MAX {
            names.push(name.to_owned());
            return (names.len() - 1) as u8;
        }
        let kind = if branch { "branch" } else { "message" };
        let text = format!("more than {FLAGS_MAX} different {kind} flags in this script");
        self.error("E0205", span, text);
        0
    }

    fn tags(&mut self) {
        self.program.sharing_tags.clone_from(&self.tags_defined);
        for (tag, span) in std::mem::take(&mut self.tags_used) {
            let same = |d: &&TagName| {
                d.name == tag.name && (tag.cluster.is_none() || tag.cluster == d.cluster)
            };
            if self.tags_defined.iter().any(|d| same(&d)) {
                continue;
            }
            let text = format!("sharing tag `{}` is used here but never defined", tag.name);
            let near = nearest(&tag.name, self.tags_defined.iter().map(|t| t.name.as_str()));
            let cluster = tag.cluster.unwrap_or(1);
            let help = near.map_or_else(
                || format!(
                    "define it: modparam(\"clusterer\", \"sharing_tag\", \"{}/{cluster}=active\")",
                    tag.name
                ),
                |n| format!("a tag named `{n}` is defined; did you mean that one?"),
            );
            self.diags.push(Diag::warning("W0217", span, text).help(help));
            if !self.program.sharing_tags.contains(&tag) {
                self.program.sharing_tags.push(tag);
            }
        }
    }
}

fn title(kind: Routes, name: &str) -> String {
    if name.is_empty() {
        kind_name(kind).to_owned()
    } else {
        format!("{}[{name}]", kind_name(kind))
    }
}

fn not_loaded(what: &str, name: &str, module: &str) -> (String, String) {
    (
        format!("{what} `{name}` belongs to module {module}, which is not loaded"),
        format!("load module {module}: loadmodule \"{module}.so\""),
    )
}

/// `name` or `name/cluster`, as functions take it.
pub(crate) fn tag_name(text: &str) -> Option<TagName> {
    let (name, cluster) = match text.split_once('/') {
        None => (text, None),
        Some((n, c)) => (n, Some(c.trim().parse().ok()?)),
    };
    let name = name.trim();
    (!name.is_empty()).then(|| TagName { name: name.to_owned(), cluster })
}
