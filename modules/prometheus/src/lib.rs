//! `prometheus`: statistics as a page that Prometheus reads.
//!
//! `page.rs` writes the text, `labels.rs` turns parts of names into labels, `script.rs` is what
//! `script_route` adds.

mod labels;
mod page;
mod script;

use std::sync::Arc;

use bytes::Bytes;
use tandem_engine::endpoint::{HttpAnswer, HttpAsk, HttpPage, HttpServes};
use tandem_engine::module::{Build, BuildError, Cx, Module, ModuleDef, ParamValue};
use tandem_engine::table::{needs, param};
use tandem_httpd::Httpd;
use tandem_script::program::RouteId;
use tandem_script::sig::{ParamKind, ParamSig, Routes};

use crate::labels::Rule;
use crate::page::{Mode, Naming};

/// The table of `prometheus`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "prometheus",
    help: "Statistics as a page that Prometheus reads.",
    dependencies: &[needs("httpd")],
    params: PARAMS,
    functions: script::FUNCTIONS,
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build,
};

const PARAMS: &[ParamSig] = &[
    param("root", ParamKind::Str, Some("metrics"), "First part of the path."),
    param("prefix", ParamKind::Str, Some("opensips"), "What every name begins with."),
    param("delimiter", ParamKind::Str, Some("_"), "What stands between the parts of a name."),
    param("group_prefix", ParamKind::Str, Some(""), "What stands before the group."),
    param("group_label", ParamKind::Str, Some("group"), "Label of the group, in mode 2."),
    ParamSig {
        check: Some(check_mode),
        ..param(
            "group_mode",
            ParamKind::Int,
            Some("0"),
            "0: names without the group; 1: with it; 2: the group is a label.",
        )
    },
    ParamSig {
        multiple: true,
        ..param(
            "statistics",
            ParamKind::Str,
            None,
            "What is shown: names, `group:` or `all`, with blanks between.",
        )
    },
    ParamSig {
        check: Some(labels::check),
        multiple: true,
        ..param(
            "labels",
            ParamKind::Str,
            None,
            "Labels out of names: \"group: /expression/name:label=\\\"\\1\\\"/\".",
        )
    },
    param("script_route", ParamKind::Str, None, "Route that adds values to each page."),
];

/// The parameters.
pub(crate) struct Prometheus {
    naming: Naming,
    wanted: Vec<String>,
    rules: Vec<Rule>,
    script_route: Option<RouteId>,
}

fn texts(build: &Build<'_>, param: &str) -> Vec<String> {
    let text = |value: &ParamValue| match value {
        ParamValue::Str(text) => Some(text.clone()),
        ParamValue::Int(_) => None,
    };
    build.all(param).iter().filter_map(text).collect()
}

fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    let httpd = build
        .module::<Httpd>()
        .ok_or_else(|| BuildError::new("", "prometheus needs the module httpd"))?;
    let text = |name: &str| build.text(name).unwrap_or_default().to_owned();
    let page = HttpPage {
        root: text("root").trim_matches('/').to_owned(),
        module: "prometheus",
        serves: HttpServes::Module { slot: build.slot },
    };
    httpd.add_page(page).map_err(|e| BuildError::new("root", e))?;
    let naming = Naming {
        prefix: text("prefix"),
        delimiter: text("delimiter"),
        group_prefix: text("group_prefix"),
        group_label: text("group_label"),
        mode: match build.int("group_mode") {
            Some(1) => Mode::InName,
            Some(2) => Mode::Label,
            _ => Mode::Without,
        },
    };
    let wanted = texts(build, "statistics").join(" ");
    let rules: Result<Vec<Rule>, String> =
        texts(build, "labels").iter().map(|text| Rule::parse(text)).collect();
    let script_route = match build.text("script_route").filter(|name| !name.is_empty()) {
        None => None,
        Some(name) => {
            let route = build.program.route_named(Routes::REQUEST, name);
            let why = || BuildError::new("script_route", format!("there is no route[{name}]"));
            Some(route.ok_or_else(why)?)
        }
    };
    Ok(Arc::new(Prometheus {
        naming,
        wanted: wanted.split_whitespace().map(str::to_owned).collect(),
        rules: rules.map_err(|why| BuildError::new("labels", why))?,
        script_route,
    }))
}

impl Module for Prometheus {
    fn http(&self, cx: &mut Cx<'_>, request: u64, ask: HttpAsk) {
        if ask.method != "GET" {
            let body = Bytes::from_static(b"GET is what this page is for\n");
            let answer = HttpAnswer { status: 405, content_type: "text/plain", body };
            return cx.http_reply(request, answer);
        }
        let all = cx.node.statistics(cx.now);
        let shown = all.iter().filter(|(name, ..)| self.wanted.iter().any(|w| means(w, name)));
        let mut page = page::Page::default();
        for (name, kind, value) in shown {
            page.add(&self.naming, &self.rules, name, *kind, *value);
        }
        if let Some(route) = self.script_route {
            script::run(cx, route, &self.naming, &mut page);
        }
        let body = Bytes::from(page.into_text());
        let content_type = "text/plain; version=0.0.4";
        cx.http_reply(request, HttpAnswer { status: 200, content_type, body });
    }
}

/// Whether a word of the list means the statistic `group:name`.
fn means(wanted: &str, full: &str) -> bool {
    let (group, name) = full.split_once(':').unwrap_or(("", full));
    wanted == "all"
        || wanted == full
        || wanted == name
        || wanted.strip_suffix(':').is_some_and(|wanted| wanted == group)
}

fn check_mode(text: &str) -> Result<(), String> {
    match text {
        "0" | "1" | "2" => Ok(()),
        _ => Err("the modes are 0, 1 and 2".into()),
    }
}
