//! Globals, modules and their parameters.

use regex::RegexBuilder;

use super::{Lower, not_loaded, tag_name};
use crate::ast::{GlobalValue, Ident, Item, Text, Var};
use crate::diag::Diag;
use crate::former::{instead, successor};
use crate::known::OldKind;
use crate::nearest::nearest;
use crate::program::{Global, LoadedModule, ModParam, Setting};
use crate::sig::{ParamKind, ParamSig};
use crate::socket;
use crate::source::Span;

/// Modules that went into the core.
const BUILT_IN: &[&str] = &["event_route"];

/// Globals of before 3.0 that no list of the field names any more.
const OLDEST: &[&str] = &["port", "maxbuffersize", "udp_mtu", "syn_branch", "memory_debug"];

/// What to do about a global that is gone.
fn older_help(name: &str) -> &'static str {
    match name {
        "port" => "remove the line and write the port behind the address: socket = udp:HOST:PORT",
        "fork" => "remove the line: the node stays in the foreground, -F or not",
        "disable_tcp" => "remove the line: without the module proto_tcp there is no TCP",
        "disable_tls" => "remove the line: without the module proto_tls there is no TLS",
        _ => "remove the line",
    }
}

impl Lower<'_> {
    pub(super) fn config(&mut self, items: &[Item]) {
        for (at, item) in items.iter().enumerate() {
            match item {
                Item::Global { name, value } => self.global(name, value),
                Item::LoadModule(path) => self.load_module(path),
                Item::ModParam { module, param, value } => {
                    self.modparam(module, param, value);
                    let below = items.get(at + 1..).unwrap_or_default();
                    self.modparam_below(below, module, param, value);
                }
                Item::Block(_) => {}
            }
        }
        self.dependencies();
        if let Some(Setting::Int(n)) = self.program.global("max_while_loops") {
            self.program.while_loops_max = u32::try_from(*n).unwrap_or(0);
        }
        self.asserts = matches!(self.program.global("enable_asserts"), Some(Setting::Int(1..)));
    }

    fn global(&mut self, name: &Ident, value: &GlobalValue) {
        if matches!(name.name.as_str(), "socket" | "listen" | "alias") {
            self.address(name, value);
            return;
        }
        let Some((sig, old)) = self.find_global(name) else { return };
        if old {
            let text = format!("`{}` is an older name", name.name);
            self.note("N0220", name.span, text).help = Some(format!("write `{}`", sig.name));
        }
        self.moot(sig, name.span);
        let Some(setting) = self.setting(sig, value) else { return };
        if !sig.multiple && self.program.global(sig.name).is_some() {
            let before = self.program.globals.iter().rev().find(|g| g.name == sig.name);
            let before = before.map_or(name.span, |g| g.span);
            let text = format!("`{}` was set before; this value wins", sig.name);
            let diag = Diag::warning("W0221", name.span, text);
            self.diags.push(diag.related(before, "the value before"));
        }
        let (span, place) = (value.span(), self.place(name.span));
        self.program.globals.push(Global { name: sig.name, value: setting, span, place });
    }

    /// The row of a global, and whether an older name was used.
    fn find_global(&mut self, name: &Ident) -> Option<(&'static ParamSig, bool)> {
        let core = self.module(0)?.params;
        if let Some(sig) = core.iter().find(|p| p.name == name.name) {
            return Some((sig, false));
        }
        if let Some(sig) = core.iter().find(|p| p.old_names.contains(&&*name.name)) {
            return Some((sig, true));
        }
        let known = self.catalogue.known;
        if let Some(old) = known.old(OldKind::Global, &name.name) {
            let new = old.replaced_by.and_then(|n| core.iter().find(|p| p.name == n));
            if let Some(sig) = new {
                return Some((sig, true));
            }
            let text = format!("`{}` is a global of older versions and has no effect", name.name);
            self.note("N0222", name.span, text).help = Some(older_help(&name.name).to_owned());
            return None;
        }
        if OLDEST.contains(&&*name.name) {
            let text = format!("`{}` is a global of older versions and has no effect", name.name);
            self.note("N0222", name.span, text).help = Some(older_help(&name.name).to_owned());
            return None;
        }
        let yet = known.module("core").is_some_and(|m| m.params.contains(&&*name.name));
        if yet {
            let text = format!("global `{}` is not in Tandem yet", name.name);
            self.error("E0223", name.span, text);
        } else {
            let near = nearest(&name.name, core.iter().map(|p| p.name).chain(["socket", "alias"]));
            let text = format!("unknown global `{}`", name.name);
            self.error("E0224", name.span, text).help =
                near.map(|n| format!("did you mean `{n}`?"));
        }
        None
    }

    fn setting(&mut self, sig: &ParamSig, value: &GlobalValue) -> Option<Setting> {
        let wants_int = matches!(sig.kind, ParamKind::Int);
        let wants_text = !matches!(sig.kind, ParamKind::Int | ParamKind::IntOrStr);
        let setting = match value {
            GlobalValue::Int(i, span) if wants_text => {
                let text = format!("`{}` takes a string", sig.name);
                self.error("E0225", *span, text).help = Some(format!("write \"{i}\""));
                return None;
            }
            GlobalValue::Int(i, _) => Setting::Int(*i),
            GlobalValue::Text(t) if wants_int => {
                let text = format!("`{}` takes a number", sig.name);
                let bare = t.lossy().parse::<i32>().ok();
                self.error("E0225", t.span, text).help =
                    bare.map(|n| format!("write {n} without quotes"));
                return None;
            }
            GlobalValue::Raw(raw, span) if wants_int => {
                let text = format!("`{}` takes a number, not `{raw}`", sig.name);
                self.error("E0225", *span, text);
                return None;
            }
            GlobalValue::Text(t) => Setting::Str(t.lossy()),
            GlobalValue::Raw(raw, _) => Setting::Str(raw.clone()),
        };
        if let Some(check) = sig.check {
            let text = match &setting {
                Setting::Int(i) => i.to_string(),
                Setting::Str(s) => s.clone(),
            };
            if let Err(why) = check(&text) {
                let message = format!("`{}`: {why}", sig.name);
                self.error("E0226", value.span(), message);
                return None;
            }
        }
        Some(setting)
    }

    fn address(&mut self, name: &Ident, value: &GlobalValue) {
        if name.name == "listen" {
            self.note("N0220", name.span, "`listen` is an older name").help =
                Some("write `socket`".to_owned());
        }
        let (text, span, shift) = match value {
            GlobalValue::Raw(raw, span) => (raw.clone(), *span, 0),
            GlobalValue::Text(t) => (t.lossy(), t.span, 1),
            GlobalValue::Int(_, span) => {
                self.error("E0227", *span, "an address is expected here");
                return;
            }
        };
        let place = self.place(span);
        let result = if name.name == "alias" {
            socket::aliases(&text, span, place).map(|a| self.program.aliases.extend(a))
        } else {
            socket::bond(&text, span, place).and_then(|bond| match bond {
                Some(bond) => {
                    self.program.bonds.push(bond);
                    Ok(())
                }
                None => socket::socket(&text, span, place).map(|s| self.program.sockets.push(s)),
            })
        };
        if let Err(e) = result {
            let lo = span.lo + shift + e.at as u32;
            self.error("E0227", Span { lo, hi: lo + e.len as u32 }, e.message);
        }
    }

    fn load_module(&mut self, path: &Text) {
        let name = &*loaded_name(path);
        if BUILT_IN.contains(&name) {
            let text = format!("module {name} is built in; the line has no effect");
            self.note("N0230", path.span, text).help = Some("remove the line".to_owned());
            return;
        }
        let modules = self.catalogue.modules;
        let Some(index) = modules.iter().position(|m| m.name == name && m.name != "core") else {
            self.missing.push(name.to_owned());
            if self.catalogue.known.module(name).is_some_and(|m| m.name != "core") {
                let text = format!("module {name} is not in Tandem yet");
                self.error("E0231", path.span, text).help = instead(name, "").map(str::to_owned);
            } else {
                let names = modules.iter().skip(1).map(|m| m.name);
                let near = || nearest(name, names).map(|n| format!("did you mean \"{n}.so\"?"));
                let help = successor(name).map(str::to_owned).or_else(near);
                self.error("E0232", path.span, format!("unknown module `{name}`")).help = help;
            }
            return;
        };
        let module = index as u16;
        if self.loaded.contains(&module) {
            let before = self.program.modules.iter().find(|m| m.module == module).map(|m| m.span);
            let diag = Diag::note("N0233", path.span, format!("module {name} is loaded already"));
            self.diags.push(diag.related(before.unwrap_or(path.span), "loaded here"));
            return;
        }
        if !path.lossy().ends_with(".so") {
            let text = "a module without the ending is an older spelling";
            self.note("N0291", path.span, text).help = Some(format!("write \"{name}.so\""));
        }
        self.loaded.push(module);
        let place = self.place(path.span);
        let name = modules.get(index).map_or("", |m| m.name);
        self.program.modules.push(LoadedModule { module, name, span: path.span, place });
    }

    fn modparam(&mut self, module: &Text, param: &Text, value: &GlobalValue) {
        let written = module.lossy();
        let built = RegexBuilder::new(&format!("^(?:{written})$")).case_insensitive(true).build();
        let Ok(regex) = built else {
            let text = format!("`{written}` is not a valid expression for modules");
            self.error("E0234", module.span, text);
            return;
        };
        let modules = self.catalogue.modules;
        let hits: Vec<u16> = self
            .loaded
            .iter()
            .copied()
            .skip(1)
            .filter(|m| modules.get(usize::from(*m)).is_some_and(|s| regex.is_match(s.name)))
            .collect();
        if hits.is_empty() {
            self.no_module(&written, module.span);
        }
        for index in hits {
            self.one_param(index, param, value);
        }
    }

    /// A module that the expression names by itself (`registrar|nathelper`) and that is loaded
    /// further down gets the parameter as well: that is what who wrote the line meant.
    fn modparam_below(&mut self, below: &[Item], module: &Text, param: &Text, value: &GlobalValue) {
        let written = module.lossy();
        let modules = self.catalogue.modules;
        for name in written.split('|').map(str::trim).filter(|n| *n != written) {
            let Some(index) = modules.iter().position(|m| m.name == name) else { continue };
            let loads =
                |item: &&Item| matches!(item, Item::LoadModule(p) if loaded_name(p) == name);
            if self.loaded.contains(&(index as u16)) || !below.iter().any(|item| loads(&item)) {
                continue;
            }
            let text = format!("{name} is loaded below this line, and gets the parameter as well");
            self.note("N0225", module.span, text).help =
                Some("move the line below: other servers leave it out".to_owned());
            self.one_param(index as u16, param, value);
        }
    }

    fn no_module(&mut self, written: &str, span: Span) {
        let modules = self.catalogue.modules;
        if BUILT_IN.contains(&written) || self.missing.iter().any(|m| m == written) {
            return;
        }
        if modules.iter().skip(1).any(|m| m.name == written) {
            let text = format!("module {written} is not loaded before this line");
            let help = format!("load module {written} above: loadmodule \"{written}.so\"");
            self.error("E0235", span, text).help = Some(help);
        } else if self.catalogue.known.module(written).is_some() {
            let text = format!("module {written} is not in Tandem yet");
            self.error("E0231", span, text);
        } else {
            let near = nearest(written, modules.iter().skip(1).map(|m| m.name));
            let text = format!("`{written}` matches no loaded module");
            self.error("E0235", span, text).help = near.map(|n| format!("did you mean `{n}`?"));
        }
    }

    fn one_param(&mut self, module: u16, param: &Text, value: &GlobalValue) {
        let Some(sig) = self.module(module) else { return };
        let name = param.lossy();
        let current = sig.params.iter().position(|p| p.name == name);
        let older = || sig.params.iter().position(|p| p.old_names.contains(&&*name));
        let Some(index) = current.or_else(older) else {
            let known = self.catalogue.known.module(sig.name);
            if known.is_some_and(|m| m.params.contains(&&*name)) {
                let text = format!("parameter `{name}` of {} is not in Tandem yet", sig.name);
                self.error("E0236", param.span, text).help =
                    instead(sig.name, &name).map(str::to_owned);
            } else {
                let near = nearest(&name, sig.params.iter().map(|p| p.name));
                let text = format!("module {} has no parameter `{name}`", sig.name);
                self.error("E0237", param.span, text).help =
                    near.map(|n| format!("did you mean `{n}`?"));
            }
            return;
        };
        let Some(row) = sig.params.get(index) else { return };
        if current.is_none() {
            let text = format!("`{name}` is an older name");
            self.note("N0220", param.span, text).help = Some(format!("write \"{}\"", row.name));
        }
        self.moot(row, param.span);
        let Some(setting) = self.setting(row, value) else { return };
        let span = value.span();
        let same = |p: &&ModParam| p.module == module && usize::from(p.param) == index;
        if !row.multiple
            && let Some(before) = self.program.modparams.iter().find(same)
        {
            let text = format!("`{}` was set before; this value wins", row.name);
            let diag = Diag::warning("W0221", param.span, text);
            self.diags.push(diag.related(before.span, "the value before"));
        }
        let mut flag = None;
        let (mut var, mut format) = (None, None);
        if let Setting::Str(text) = &setting {
            match row.kind {
                ParamKind::BranchFlag => flag = Some(self.flag(true, text, span)),
                ParamKind::MessageFlag => flag = Some(self.flag(false, text, span)),
                ParamKind::Var => {
                    let inner = Span { lo: span.lo + 1, hi: span.hi.saturating_sub(1) };
                    var = self.var(Var { span: inner }, false);
                }
                ParamKind::Vars => {
                    if let GlobalValue::Text(text) = value {
                        format = self.format(text).ok().flatten();
                    }
                }
                _ => self.tag_param(sig.name, row.name, text, span),
            }
        }
        let (param, place) = (index as u16, self.place(param.span));
        self.program.modparams.push(ModParam {
            module,
            param,
            module_name: sig.name,
            name: row.name,
            value: setting,
            span,
            place,
            flag,
            var,
            format,
        });
    }

    /// Says that a parameter does nothing here, and why.
    fn moot(&mut self, row: &ParamSig, span: Span) {
        if let Some(why) = row.moot {
            let text = format!("`{}` has no meaning here: {why}", row.name);
            self.note("N0222", span, text);
        }
    }

    /// Parameters that define or use a sharing tag.
    fn tag_param(&mut self, module: &str, param: &str, text: &str, span: Span) {
        if module == "clusterer" && param == "sharing_tag" {
            let tag = text.split('=').next().and_then(tag_name);
            match tag.filter(|t| t.cluster.is_some()) {
                Some(tag) => self.tags_defined.push(tag),
                None => {
                    let text = "a sharing tag is defined as \"name/cluster=active\" or =backup";
                    self.error("E0238", span, text);
                }
            }
        } else if param.ends_with("sharing_tag") || param.ends_with("shtag") {
            self.tags_used.extend(tag_name(text).map(|t| (t, span)));
        }
    }

    fn dependencies(&mut self) {
        for loaded in self.program.modules.clone() {
            let Some(sig) = self.module(loaded.module) else { continue };
            for dependency in sig.dependencies {
                let set = self.program.modparams.iter().any(|p| {
                    p.module == loaded.module
                        && sig
                            .params
                            .get(usize::from(p.param))
                            .is_some_and(|s| s.name == dependency.when_param)
                        && !matches!(p.value, Setting::Int(0))
                });
                let needed = dependency.when_param.is_empty() || set;
                let there = self.loaded.iter().filter_map(|m| self.module(*m));
                if !needed || there.into_iter().any(|m| m.name == dependency.module) {
                    continue;
                }
                let why = if dependency.when_param.is_empty() {
                    String::new()
                } else {
                    format!(" when `{}` is set", dependency.when_param)
                };
                let text = format!("module {} needs module {}{why}", sig.name, dependency.module);
                let (_, help) = not_loaded("module", "", dependency.module);
                self.error("E0239", loaded.span, text).help = Some(help);
            }
        }
    }
}

/// The module that a `loadmodule` names: the last part of the path, without the ending.
fn loaded_name(path: &Text) -> String {
    let written = path.lossy();
    let file = written.rsplit('/').next().unwrap_or_default();
    file.strip_suffix(".so").unwrap_or(file).to_owned()
}
