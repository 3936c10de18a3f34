//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::sync::Arc;

use serde_json::{Value as Json, json};
use tandem_engine::catalogue::Modules;
use tandem_engine::endpoint::{Endpoint, HttpAsk, HttpOptions, HttpPage, HttpServes};
use tandem_engine::module::{Build, BuildError, Module, ModuleDef};
use tandem_engine::table::needs;
use tandem_engine::testing::{TestNode, cover};
use tandem_httpd::Httpd;

static MODULES: Modules =
    &[&tandem_engine::core::CORE, &tandem_proto_udp::MODULE, &tandem_httpd::MODULE, &PAGE];

/// A module with a page, as they come later.
static PAGE: ModuleDef = ModuleDef {
    name: "page",
    help: "",
    dependencies: &[needs("httpd")],
    params: &[],
    functions: &[],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build: page,
};

struct Page;

impl Module for Page {
    fn http(&self, cx: &mut tandem_engine::module::Cx<'_>, request: u64, ask: HttpAsk) {
        let body = format!("{} {}", ask.method, ask.path).into();
        let answer = tandem_engine::endpoint::HttpAnswer { status: 200, content_type: "x/y", body };
        cx.http_reply(request, answer);
    }
}

fn page(from: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    let serves = HttpServes::Module { slot: from.slot };
    let page = HttpPage { root: "page".into(), module: "page", serves };
    let httpd = from.module::<Httpd>().ok_or_else(|| BuildError::new("", "no httpd"))?;
    httpd.add_page(page.clone()).map_err(|e| BuildError::new("", e))?;
    assert!(httpd.add_page(page.clone()).unwrap_err().contains("belongs to page"));
    assert!(httpd.add_page(HttpPage { root: "a/b".into(), ..page }).is_err());
    Ok(Arc::new(Page))
}

fn try_node(settings: &str) -> Result<TestNode, String> {
    let head = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\nloadmodule \"page.so\"\n\
        loadmodule \"httpd.so\"\n";
    TestNode::try_new(&format!("{head}{settings}\nroute {{ exit; }}"), MODULES)
}

fn with(settings: &[(&str, &str)]) -> Result<HttpOptions, String> {
    let lines: Vec<String> =
        settings.iter().map(|(n, v)| format!("modparam(\"httpd\", \"{n}\", {v})\n")).collect();
    let node = try_node(&lines.concat())?;
    let mut endpoints = node.node().loaded().flat_map(|(_, _, m)| m.endpoints());
    match endpoints.next() {
        Some(Endpoint::Http(options)) => Ok(options),
        other => panic!("{other:?}"),
    }
}

fn options(name: &str, value: &str) -> HttpOptions {
    with(&[(name, value)]).unwrap_or_else(|e| panic!("{e}"))
}

fn refused(settings: &[(&str, &str)], why: &str) {
    let error = with(settings).unwrap_err();
    assert!(error.contains(why), "{error}");
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_httpd::MODULE,
        &[
            ("param port", || {
                assert_eq!(with(&[]).unwrap().port, 8888);
                assert_eq!(options("port", "9000").port, 9000);
                refused(&[("port", "80")], "1024 or higher");
            }),
            ("param ip", || {
                assert_eq!(with(&[]).unwrap().ip, Some([127, 0, 0, 1].into()));
                assert_eq!(options("ip", "\"*\"").ip, None);
                assert_eq!(options("ip", "\"[::1]\"").ip, Some("::1".parse().unwrap()));
                refused(&[("ip", "\"eth0\"")], "not an IP address");
            }),
            ("param buf_size", || {
                assert_eq!(with(&[]).unwrap().answer_bytes_max, usize::MAX);
                assert_eq!(options("buf_size", "4096").answer_bytes_max, 4096);
            }),
            ("param conn_timeout", || {
                assert_eq!(with(&[]).unwrap().idle_s, 30);
                assert_eq!(options("conn_timeout", "0").idle_s, 0);
            }),
            ("param post_buf_size", || {
                assert_eq!(with(&[]).unwrap().body_bytes_max, 65_536);
                assert_eq!(options("post_buf_size", "2048").body_bytes_max, 2048);
                refused(&[("post_buf_size", "100")], "256 or more");
            }),
            ("param receive_buf_size", || {
                let both = with(&[("post_buf_size", "2048"), ("receive_buf_size", "4096")]);
                assert_eq!(both.unwrap().body_bytes_max, 4096);
            }),
            ("param auth_realm", || {
                let own = [("auth_realm", "\"r\""), ("auth_username", "\"u\"")];
                let own = [own[0], own[1], ("auth_password", "\"p\"")];
                assert_eq!(with(&own).unwrap().auth.unwrap().realm, "r");
                assert_eq!(with(&own[1..]).unwrap().auth.unwrap().realm, "OpenSIPS MI");
            }),
            ("param auth_username", || {
                assert_eq!(with(&[]).unwrap().auth, None);
                refused(&[("auth_username", "\"u\"")], "needs auth_password");
            }),
            ("param auth_password", || {
                refused(&[("auth_password", "\"p\"")], "needs auth_username");
            }),
            ("param tls_cert_file", || {
                assert_eq!(with(&[]).unwrap().tls, None);
                refused(&[("tls_cert_file", "\"/c.pem\"")], "needs tls_key_file");
            }),
            ("param tls_key_file", || {
                refused(&[("tls_key_file", "\"/k.pem\"")], "needs tls_cert_file");
            }),
            ("param tls_ciphers", || {
                let files = [("tls_cert_file", "\"/c.pem\""), ("tls_key_file", "\"/k.pem\"")];
                let tls = with(&files).unwrap().tls.unwrap();
                assert_eq!((tls.cert_file.to_str(), tls.ciphers), (Some("/c.pem"), None));
                let chosen = [files[0], files[1], ("tls_ciphers", "\"NORMAL:-VERS-TLS1.2\"")];
                let tls = with(&chosen).unwrap().tls.unwrap();
                assert_eq!(tls.ciphers.as_deref(), Some("NORMAL:-VERS-TLS1.2"));
                let odd = [files[0], files[1], ("tls_ciphers", "\"NORMAL::x\"")];
                refused(&odd, "no word of a GnuTLS priority string");
            }),
            ("mi httpd:list_root_path", || {
                let answer = try_node("").unwrap().mi("httpd_list_root_path", Json::Null);
                assert_eq!(answer["result"], json!([{"http_root": "page", "module": "page"}]));
            }),
        ],
    );
}

#[test]
fn a_request_for_a_page_reaches_the_module_that_hung_it_there() {
    let mut node = try_node("").unwrap();
    let ask = |path: &str| HttpAsk {
        method: "GET".into(),
        path: path.into(),
        query: String::new(),
        body: "".into(),
    };
    let answer = node.http(3, ask("/page/x")).unwrap();
    assert_eq!((answer.status, &answer.body[..]), (200, &b"GET /page/x"[..]));
    // A module without a page of its own.
    assert_eq!(node.http(2, ask("/httpd")).unwrap().status, 404);
}
