//! What may stand where: functions by kind of block, through the routes that blocks call.

use std::collections::VecDeque;

use super::{Lower, title};
use crate::diag::Diag;
use crate::sig::Routes;
use crate::source::Span;
use crate::vm::kind_name;

/// A function in a block `route[x]` that another kind of block calls; `-C` refuses it.
pub const REACHED: &str = "W0296";

const KINDS: &[Routes] = &[
    Routes::REQUEST,
    Routes::FAILURE,
    Routes::ONREPLY,
    Routes::BRANCH,
    Routes::ERROR,
    Routes::LOCAL,
    Routes::STARTUP,
    Routes::TIMER,
    Routes::EVENT,
];

impl Lower<'_> {
    pub(super) fn reachability(&mut self) {
        for kind in KINDS {
            let from = self.walk(*kind);
            for i in 0..self.sites.len() {
                self.judge(i, *kind, &from);
            }
        }
        self.unnamed_sites();
    }

    /// For each block that code of `kind` reaches: the call that leads there, `None` for the
    /// blocks where it starts.
    fn walk(&self, kind: Routes) -> Vec<Option<Option<(usize, Span)>>> {
        let mut from = vec![None; self.program.routes.len()];
        let mut queue = VecDeque::new();
        for (i, route) in self.program.routes.iter().enumerate() {
            // `route[x]` starts nowhere by itself; `route` does.
            let starts = route.kind == kind && (kind != Routes::REQUEST || route.name.is_empty());
            if starts && let Some(slot) = from.get_mut(i) {
                *slot = Some(None);
                queue.push_back(i);
            }
        }
        while let Some(block) = queue.pop_front() {
            for edge in self.edges.iter().filter(|e| e.from == block) {
                if let Some(slot @ None) = from.get_mut(edge.to) {
                    *slot = Some(Some((block, edge.span)));
                    queue.push_back(edge.to);
                }
            }
        }
        from
    }

    fn judge(&mut self, site: usize, kind: Routes, from: &[Option<Option<(usize, Span)>>]) {
        let Some(site) = self.sites.get(site) else { return };
        let Some(Some(step)) = from.get(site.block) else { return };
        if site.routes.allows(kind) {
            return;
        }
        let text = format!("`{}` cannot be used in {}", site.name, article(kind));
        // A block `route[x]` may hold what requests may call. That another kind of block leads
        // there is no reason not to start: whoever runs the call judges it by the block then.
        let lenient = step.is_some() && site.routes.allows(Routes::REQUEST);
        let mut diag = if lenient && kind != Routes::REQUEST {
            Diag::warning(REACHED, site.span, text)
        } else {
            Diag::error("E0296", site.span, text)
        };
        diag = diag.help(allowed(site.routes));
        let mut step = *step;
        // The chain is a path in a tree, so it ends.
        while let Some((block, span)) = step {
            let route = self.program.routes.get(block);
            let caller = route.map_or(String::new(), |r| title(r.kind, &r.name));
            diag = diag.related(span, format!("called from {caller} here"));
            step = from.get(block).copied().flatten().flatten();
        }
        self.diags.push(diag);
    }

    /// Blocks `route[x]` that nothing in the script calls are request routes.
    fn unnamed_sites(&mut self) {
        let mut reached = vec![false; self.program.routes.len()];
        for kind in KINDS {
            for (flag, from) in reached.iter_mut().zip(self.walk(*kind)) {
                *flag |= from.is_some();
            }
        }
        let wrong: Vec<Diag> = self
            .sites
            .iter()
            .filter(|s| reached.get(s.block) == Some(&false) && !s.routes.allows(Routes::REQUEST))
            .map(|s| {
                let text = format!("`{}` cannot be used in {}", s.name, article(Routes::REQUEST));
                Diag::error("E0296", s.span, text).help(allowed(s.routes))
            })
            .collect();
        self.diags.extend(wrong);
    }
}

fn article(kind: Routes) -> String {
    match kind {
        Routes::REQUEST => "a request route".to_owned(),
        Routes::ONREPLY | Routes::ERROR | Routes::EVENT => format!("an {}", kind_name(kind)),
        _ => format!("a {}", kind_name(kind)),
    }
}

fn allowed(routes: Routes) -> String {
    let names = KINDS.iter().filter(|k| routes.allows(**k)).map(|k| kind_name(*k));
    format!("allowed in {}", names.collect::<Vec<_>>().join(", "))
}
