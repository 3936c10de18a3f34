//! `mi_http`: management commands over HTTP: JSON-RPC in the bodies of POST requests.

use std::sync::Arc;

use tandem_engine::endpoint::{
    HttpPage, HttpServes, PRETTY_PRINTING, TRACE_BWLIST, TRACE_DESTINATION, pretty,
};
use tandem_engine::module::{Build, BuildError, Module, ModuleDef};
use tandem_engine::table::{needs, param};
use tandem_httpd::Httpd;
use tandem_script::sig::ParamKind;

/// The table of `mi_http`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "mi_http",
    help: "Management commands over HTTP.",
    dependencies: &[needs("httpd")],
    params: &[
        param("root", ParamKind::Str, Some("mi"), "First part of the path."),
        TRACE_DESTINATION,
        TRACE_BWLIST,
        PRETTY_PRINTING,
    ],
    functions: &[],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build,
};

/// Its page is the listener's; nothing is left to hold here.
struct MiHttp;

impl Module for MiHttp {}

fn build(from: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    let httpd = from
        .module::<Httpd>()
        .ok_or_else(|| BuildError::new("", "mi_http needs the module httpd"))?;
    let page = HttpPage {
        root: from.text("root").unwrap_or("mi").trim_matches('/').to_owned(),
        module: "mi_http",
        serves: HttpServes::Mi { pretty: pretty(from) },
    };
    httpd.add_page(page).map_err(|e| BuildError::new("root", e))?;
    Ok(Arc::new(MiHttp))
}
