//! A later version of a script beside the one that runs.

use crate::program::{
    Arg, Op, Place, Program, Ready, Route, RouteId, RouteTarget, Setting, Socket,
};

/// Differing lines that are named one by one.
const LINES_MAX: usize = 20;

impl Program {
    /// What differs outside of routes, a line each with its place: such a version cannot take
    /// over.
    pub fn config_differences(&self, later: &Self) -> Vec<String> {
        let (before, after) = (self.config_lines(), later.config_lines());
        let gone = before.iter().filter(|(line, _)| !after.iter().any(|(l, _)| l == line));
        let new = after.iter().filter(|(line, _)| !before.iter().any(|(l, _)| l == line));
        let at =
            |program: &Self, place: &Place| format!("{}:{}", program.file_name(*place), place.line);
        let mut lines: Vec<String> = gone
            .map(|(line, place)| format!("{} was: {line}", at(self, place)))
            .chain(new.map(|(line, place)| format!("{} is: {line}", at(later, place))))
            .collect();
        let same_set = lines.is_empty();
        let in_order = before.iter().map(|l| &l.0).eq(after.iter().map(|l| &l.0));
        if same_set && !in_order {
            lines.push("the order or number of globals, loadmodule and modparam lines".to_owned());
        }
        if lines.len() > LINES_MAX {
            let more = lines.len() - LINES_MAX;
            lines.truncate(LINES_MAX);
            lines.push(format!("and {more} more lines"));
        }
        lines
    }

    fn config_lines(&self) -> Vec<(String, Place)> {
        let shown = |value: &Setting| match value {
            Setting::Int(n) => n.to_string(),
            Setting::Str(s) => format!("{s:?}"),
        };
        let mut lines = Vec::new();
        for g in &self.globals {
            lines.push((format!("{} = {}", g.name, shown(&g.value)), g.place));
        }
        for s in &self.sockets {
            lines.push((format!("socket = {}", socket_text(s)), s.place));
        }
        for b in &self.bonds {
            lines.push((format!("socket = bond:{} {:?}", b.name, b.members), b.place));
        }
        for a in &self.aliases {
            let proto = a.proto.as_ref().map_or(String::new(), |p| format!("{p}:"));
            let port = a.port.map_or(String::new(), |p| format!(":{p}"));
            let more = if a.accept_subdomain { " accept_subdomain" } else { "" };
            lines.push((format!("alias = {proto}{}{port}{more}", a.host), a.place));
        }
        for m in &self.modules {
            lines.push((format!("loadmodule {}", m.name), m.place));
        }
        for p in &self.modparams {
            let text = format!("modparam {} {} {}", p.module_name, p.name, shown(&p.value));
            lines.push((text, p.place));
        }
        lines
    }

    /// Gives every route the number that its kind and name has in the version before; names that
    /// are gone keep theirs, with an empty block. So a route that was armed then is looked up by
    /// its name now.
    pub fn keep_numbers(&mut self, before: &Self) {
        let mut routes: Vec<Route> = Vec::with_capacity(before.routes.len());
        let mut number_of: Vec<Option<u32>> = vec![None; self.routes.len()];
        let empty = self.code.len() as u32;
        for old in &before.routes {
            let now = self.routes.iter().position(|r| r.kind == old.kind && r.name == old.name);
            match now.and_then(|at| Some((at, self.routes.get(at)?))) {
                Some((at, route)) => {
                    if let Some(slot) = number_of.get_mut(at) {
                        *slot = Some(routes.len() as u32);
                    }
                    routes.push(route.clone());
                }
                None => routes.push(Route { entry: empty, gone: true, ..old.clone() }),
            }
        }
        for (route, slot) in self.routes.iter().zip(&mut number_of) {
            if slot.is_none() {
                *slot = Some(routes.len() as u32);
                routes.push(route.clone());
            }
        }
        self.routes = routes;
        self.code.push(Op::End);
        self.places.push(Place::default());
        let renumber = |id: &mut RouteId| {
            if let Some(Some(now)) = number_of.get(id.0 as usize) {
                *id = RouteId(*now);
            }
        };
        let args = self.calls.iter_mut().flat_map(|c| &mut c.args);
        for arg in args.chain(self.route_calls.iter_mut().flat_map(|c| &mut c.args)) {
            if let Arg::Ready(Ready::Route(id)) = arg {
                renumber(id);
            }
        }
        self.calls.iter_mut().for_each(|call| call.fix());
        for call in &mut self.route_calls {
            if let RouteTarget::Fixed(id) = &mut call.target {
                renumber(id);
            }
        }
        self.detached.iter_mut().filter_map(|d| d.route.as_mut()).for_each(renumber);
    }
}

fn socket_text(s: &Socket) -> String {
    let host = if s.host.contains(':') { format!("[{}]", s.host) } else { s.host.clone() };
    let mut text = format!("{}:{host}", s.proto);
    for (n, (a, b)) in s.ports.iter().enumerate() {
        text.push(if n == 0 { ':' } else { ',' });
        text += &if a == b { a.to_string() } else { format!("{a}-{b}") };
    }
    if let Some((host, port)) = &s.advertised {
        text += &format!(" as {host}");
        text += &port.map_or(String::new(), |p| format!(":{p}"));
    }
    let valued = [
        ("tag", s.tag.clone()),
        ("use_workers", s.workers.map(|n| n.to_string())),
        ("tos", s.tos.map(|n| n.to_string())),
    ];
    for (name, value) in valued {
        text += &value.map_or(String::new(), |v| format!(" {name} {v}"));
    }
    let flags = [
        ("anycast", s.anycast),
        ("frag", s.frag),
        ("reuse_port", s.reuse_port),
        ("accept_subdomain", s.accept_subdomain),
        ("allow_proxy_protocol", s.proxy.reads),
        ("send_proxy_protocol", s.proxy.writes),
    ];
    for (name, _) in flags.into_iter().filter(|(_, on)| *on) {
        text += &format!(" {name}");
    }
    text
}
