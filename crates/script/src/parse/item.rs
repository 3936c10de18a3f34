//! Globals, modules, parameters, blocks.

use super::Parser;
use crate::ast::{Block, GlobalValue, Item};
use crate::diag::Diag;
use crate::lex::Tok;
use crate::sig::Routes;
use crate::source::Span;

/// Words that go on with a socket on the next line.
const SOCKET_WORDS: &[&str] = &[
    "as",
    "use_workers",
    "use_children",
    "anycast",
    "tag",
    "use_auto_scaling_profile",
    "tos",
    "frag",
    "reuse_port",
    "accept_subdomain",
    "allow_proxy_protocol",
    "allow_proxy",
    "send_proxy_protocol",
    "proxy_protocol",
];

impl Parser<'_> {
    pub(super) fn items(mut self) -> Vec<Item> {
        let mut items = Vec::new();
        while !self.at_end() {
            let before = self.at;
            match self.item() {
                Some(item) => items.push(item),
                None => self.skip_to_item(),
            }
            if self.at == before && !self.at_end() {
                self.advance();
            }
        }
        items
    }

    fn item(&mut self) -> Option<Item> {
        let word = self.word(0).unwrap_or_default().to_owned();
        if let Some(kind) = block_kind(&word) {
            return self.block(kind).map(Item::Block);
        }
        match word.as_str() {
            "loadmodule" => {
                self.advance();
                let path = self.text("the name of a module in quotes")?;
                self.take(";");
                Some(Item::LoadModule(path))
            }
            "modparam" => self.modparam(),
            "" => {
                self.unexpected("a global, `loadmodule`, `modparam` or a route block");
                None
            }
            _ => self.global(),
        }
    }

    fn skip_to_item(&mut self) {
        while !self.at_end() {
            let Some(token) = self.token(0) else { return };
            let starts = token.first
                && self.word(0).is_some_and(|w| {
                    matches!(w, "loadmodule" | "modparam")
                        || block_kind(w).is_some() && !self.is_ahead(1, "(")
                });
            let assigns = token.first && self.word(0).is_some() && self.is_ahead(1, "=");
            if starts || assigns {
                return;
            }
            self.advance();
        }
    }

    fn global(&mut self) -> Option<Item> {
        let mut name = self.ident("a name")?;
        // `mem-group`
        while self.is("-") {
            self.advance();
            let rest = self.ident("a name")?;
            name.name = format!("{}-{}", name.name, rest.name);
            name.span = name.span.to(rest.span);
        }
        if !self.is("=") {
            let text = format!("`{}` opens nothing at this level", name.name);
            let help = "a global is `name = value`; statements belong into a route block";
            self.diags.push(Diag::error("E0105", name.span, text).help(help));
            return None;
        }
        self.advance();
        let listens = matches!(name.name.as_str(), "socket" | "listen" | "alias");
        // A host may begin with a digit.
        let is_host = listens || name.name == "advertised_address";
        let next_first = self.token(1).is_none_or(|t| t.first);
        let value = match self.tok() {
            Tok::Str { .. } if next_first || !listens => GlobalValue::Text(self.texts("a value")?),
            _ if !is_host && self.is_int() => {
                let (value, span) = self.int()?;
                GlobalValue::Int(value, span)
            }
            _ => self.raw_value()?,
        };
        if self.is_word("use_auto_scaling_profile") {
            let span = self.advance();
            let profile = self.ident("the name of a profile")?;
            let text = "auto scaling has no meaning here: no worker ever waits";
            self.diags.push(Diag::note("N0222", span.to(profile.span), text));
        }
        let extra = !self.at_end() && !self.token(0).is_some_and(|t| t.first) && !self.is(";");
        if extra {
            let rest = self.raw_value()?;
            let text = format!("nothing can follow the value of `{}`", name.name);
            self.diags.push(Diag::error("E0106", rest.span(), text));
        }
        self.take(";");
        Some(Item::Global { name, value })
    }

    /// The rest of the line as it is.
    fn raw_value(&mut self) -> Option<GlobalValue> {
        let start = self.span();
        if self.at_end() {
            self.unexpected("a value");
            return None;
        }
        let mut end = self.advance();
        let mut braces = 0usize;
        while !self.at_end() && !self.is(";") {
            let goes_on =
                self.word(0).is_some_and(|w| SOCKET_WORDS.contains(&w)) && !self.is_ahead(1, "=");
            if self.token(0).is_some_and(|t| t.first) && braces == 0 && !goes_on {
                break;
            }
            if self.is("{") {
                braces += 1;
            } else if self.is("}") {
                braces = braces.saturating_sub(1);
            }
            end = self.advance();
        }
        let span = start.to(end);
        Some(GlobalValue::Raw(String::from_utf8_lossy(self.map.text(span)).into_owned(), span))
    }

    fn modparam(&mut self) -> Option<Item> {
        self.advance();
        self.expect("(")?;
        let module = self.text("the name of a module in quotes")?;
        self.expect(",")?;
        let param = self.text("the name of a parameter in quotes")?;
        self.expect(",")?;
        let value = if self.is_int() {
            let (value, span) = self.int()?;
            GlobalValue::Int(value, span)
        } else {
            GlobalValue::Text(self.texts("a number or a string")?)
        };
        self.expect(")")?;
        self.take(";");
        Some(Item::ModParam { module, param, value })
    }

    fn block(&mut self, kind: Routes) -> Option<Block> {
        let start = self.advance();
        let mut name = None;
        let mut interval = None;
        if self.take("[") {
            name = Some(self.name()?);
            if kind == Routes::TIMER && !self.is(",") {
                let shown = name.as_ref().map_or("", |n| n.name.as_str());
                let text = "a timer_route needs its interval in seconds";
                let help = format!("write timer_route[{shown}, 60]");
                let span = start.to(self.previous());
                self.diags.push(Diag::error("E0107", span, text).help(help));
                interval = Some((1, span));
            } else if kind == Routes::TIMER {
                self.advance();
                interval = Some(self.int()?);
            } else if kind == Routes::EVENT && self.take(",") {
                let mode = self.ident("`sync` or `async`")?;
                let text = "event routes are always asynchronous";
                let help = "write event_route[EVENT]";
                self.diags.push(Diag::note("N0107", mode.span, text).help(help));
            }
            self.expect("]")?;
        }
        let head = start.to(self.previous());
        self.check_name(kind, name.is_some(), head);
        self.loops = 0;
        let body = self.body()?;
        Some(Block { kind, name, interval, head, body })
    }

    fn check_name(&mut self, kind: Routes, named: bool, head: Span) {
        let (must, may) = match kind {
            Routes::REQUEST | Routes::ONREPLY => (false, true),
            Routes::ERROR | Routes::LOCAL | Routes::STARTUP => (false, false),
            _ => (true, true),
        };
        if must && !named {
            let text = "this kind of block needs a name";
            self.diags.push(Diag::error("E0108", head, text));
        } else if named && !may {
            let text = "this kind of block has no name";
            self.diags.push(Diag::error("E0108", head, text));
        }
    }
}

fn block_kind(word: &str) -> Option<Routes> {
    Some(match word {
        "route" => Routes::REQUEST,
        "failure_route" => Routes::FAILURE,
        "branch_route" => Routes::BRANCH,
        "onreply_route" => Routes::ONREPLY,
        "error_route" => Routes::ERROR,
        "local_route" => Routes::LOCAL,
        "startup_route" => Routes::STARTUP,
        "timer_route" => Routes::TIMER,
        "event_route" => Routes::EVENT,
        _ => return None,
    })
}
