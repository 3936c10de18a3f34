//! `httpd`: the HTTP listener that other modules hang their pages on.
//!
//! The transport is the binary's. A module that has a page depends on this one, and calls
//! [`Httpd::add_page`] while it is built.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use tandem_engine::endpoint::{Endpoint, HttpAuth, HttpOptions, HttpPage, HttpTls};
use tandem_engine::mi::{MiCall, MiDef, MiOutcome};
use tandem_engine::module::{Build, BuildError, Module, ModuleDef};
use tandem_engine::table::param;
use tandem_script::sig::{ParamKind, ParamSig};

/// The largest body that is taken when the script names no limit. The default of the field, 1024
/// bytes, is the size of a buffer there and refuses requests that commands really have.
const BODY_BYTES: usize = 64 << 10;
/// The smallest buffer that the field takes.
const POST_BUFFER_MIN: i64 = 256;

/// The table of `httpd`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "httpd",
    help: "The HTTP listener that other modules hang their pages on.",
    dependencies: &[],
    params: &[
        param("port", ParamKind::Int, Some("8888"), "Port, 1024 or higher."),
        param("ip", ParamKind::Str, Some("127.0.0.1"), "Address; `*` is every one."),
        param(
            "buf_size",
            ParamKind::Int,
            Some("0"),
            "Bytes of an answer at most; 0: as many as it has. A longer one is an error 500.",
        ),
        param("conn_timeout", ParamKind::Int, Some("30"), "Idle seconds; 0: no limit."),
        param(
            "post_buf_size",
            ParamKind::Int,
            None,
            "Bytes of a request's body at most, 256 or more; default: 65536.",
        ),
        param(
            "receive_buf_size",
            ParamKind::Int,
            None,
            "Bytes of a request's body at most; the larger of this and post_buf_size counts.",
        ),
        param("auth_realm", ParamKind::Str, Some("OpenSIPS MI"), "Realm of Basic auth."),
        param("auth_username", ParamKind::Str, None, "User of Basic auth."),
        param("auth_password", ParamKind::Str, None, "Password of Basic auth."),
        param("tls_cert_file", ParamKind::Str, None, "Certificates in PEM; makes it HTTPS."),
        param("tls_key_file", ParamKind::Str, None, "The key of the first certificate, in PEM."),
        ParamSig {
            check: Some(check_priority),
            ..param(
                "tls_ciphers",
                ParamKind::Str,
                None,
                "Versions and ciphers as GnuTLS writes them: \"SECURE256:-VERS-ALL:+VERS-TLS1.2\"; \
                 default: TLS 1.2 and 1.3. There is nothing below 1.2.",
            )
        },
    ],
    functions: &[],
    variables: &[],
    mi: &[MiDef {
        name: "httpd:list_root_path",
        old_names: &["httpd_list_root_path"],
        param_sets: &[&[]],
        help: "The pages and the modules they belong to.",
        run: list_root_path,
    }],
    statistics: &[],
    events: &[],
    build,
};

/// The listener and its pages.
pub struct Httpd {
    options: HttpOptions,
    pages: Mutex<Vec<HttpPage>>,
}

impl Httpd {
    /// Hangs a page on the listener.
    ///
    /// # Errors
    /// A root that another module has, or that is no single part of a path.
    pub fn add_page(&self, page: HttpPage) -> Result<(), String> {
        let root = &page.root;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
        if root.is_empty() || !root.bytes().all(plain) {
            return Err(format!("`{root}` is not one part of a path: letters, digits and -_.~"));
        }
        let mut pages = self.pages.lock();
        if let Some(other) = pages.iter().find(|p| p.root == *root) {
            return Err(format!("the page /{root} belongs to {} already", other.module));
        }
        pages.push(page);
        Ok(())
    }
}

impl Module for Httpd {
    fn endpoints(&self) -> Vec<Endpoint> {
        let pages = self.pages.lock().clone();
        vec![Endpoint::Http(HttpOptions { pages, ..self.options.clone() })]
    }
}

fn list_root_path(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let Some(httpd) = call.cx.node.module::<Httpd>(call.cx.slot) else {
        return MiOutcome::failed(500, "httpd is not there");
    };
    let pages = httpd.pages.lock();
    let row = |p: &HttpPage| json!({"http_root": p.root, "module": p.module});
    MiOutcome::Done(Json::Array(pages.iter().map(row).collect()))
}

fn build(from: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    let port = from
        .int("port")
        .and_then(|n| u16::try_from(n).ok())
        .filter(|port| *port >= 1024)
        .ok_or_else(|| BuildError::new("port", "a port of 1024 or higher is wanted"))?;
    let ip = match from.text("ip").unwrap_or("127.0.0.1") {
        "*" => None,
        text => {
            let bare = text.trim_matches(['[', ']']);
            let ip = bare.parse().map_err(|_| {
                BuildError::new("ip", format!("`{text}` is not an IP address"))
                    .help("write an address, or \"*\" for every one")
            })?;
            Some(ip)
        }
    };
    let number = |name: &'static str, least: i64| match from.int(name) {
        None => Ok(None),
        Some(n) if n >= least => Ok(Some(n)),
        Some(_) => Err(BuildError::new(name, format!("{least} or more is wanted"))),
    };
    let limits = [number("post_buf_size", POST_BUFFER_MIN)?, number("receive_buf_size", 1)?];
    let body = limits.iter().flatten().max().and_then(|n| usize::try_from(*n).ok());
    let answer = number("buf_size", 0)?.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
    let idle = number("conn_timeout", 0)?.unwrap_or(30);
    let options = HttpOptions {
        ip,
        port,
        auth: auth(from)?,
        tls: tls(from)?,
        body_bytes_max: body.unwrap_or(BODY_BYTES),
        answer_bytes_max: answer.unwrap_or(usize::MAX),
        idle_s: u32::try_from(idle).unwrap_or(u32::MAX),
        pages: Vec::new(),
    };
    Ok(Arc::new(Httpd { options, pages: Mutex::default() }))
}

fn auth(from: &Build<'_>) -> Result<Option<HttpAuth>, BuildError> {
    let text = |name: &str| from.text(name).filter(|t| !t.is_empty()).map(str::to_owned);
    match (text("auth_username"), text("auth_password")) {
        (None, None) => Ok(None),
        (Some(username), Some(password)) => {
            let realm = text("auth_realm").unwrap_or_default();
            Ok(Some(HttpAuth { realm, username, password }))
        }
        // Half of a pair would leave the commands open to everybody.
        (Some(_), None) => {
            Err(BuildError::new("auth_username", "auth_username needs auth_password"))
        }
        (None, Some(_)) => {
            Err(BuildError::new("auth_password", "auth_password needs auth_username"))
        }
    }
}

fn tls(from: &Build<'_>) -> Result<Option<HttpTls>, BuildError> {
    let text = |name: &str| from.text(name).filter(|t| !t.is_empty());
    match (text("tls_cert_file"), text("tls_key_file")) {
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => Ok(Some(HttpTls {
            cert_file: cert.into(),
            key_file: key.into(),
            ciphers: text("tls_ciphers").map(str::to_owned),
        })),
        // Without one of them the listener would be open to whoever reads along.
        (Some(_), None) => {
            Err(BuildError::new("tls_cert_file", "tls_cert_file needs tls_key_file"))
        }
        (None, Some(_)) => Err(BuildError::new("tls_key_file", "tls_key_file needs tls_cert_file")),
    }
}

/// The form of a priority string; what of it the server has is known to the binary.
fn check_priority(text: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"+-!@%._".contains(&b);
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(plain);
    match text.split(':').find(|word| !is_word(word)) {
        None => Ok(()),
        Some(word) => Err(format!("`{word}` is no word of a GnuTLS priority string")),
    }
}
