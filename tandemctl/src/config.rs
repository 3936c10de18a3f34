//! Which FIFO is meant.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::args::{Call, folder};

/// Where to ask, and how long to wait.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) way: Way,
    pub(crate) reply_dir: PathBuf,
    pub(crate) timeout: Duration,
}

/// How a node is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Fifo(PathBuf),
    /// `auth` is `user:password`.
    Http {
        host: String,
        path: String,
        auth: Option<String>,
    },
    Udp(String),
    Unix(PathBuf),
}

/// `http://[USER:PASSWORD@]HOST[:PORT][/PATH]`, `udp:HOST:PORT`, `unix:/PATH`, `fifo:/PATH`.
pub(crate) fn parse_url(url: &str) -> Result<Way, String> {
    let (scheme, rest) = url.split_once(':').unwrap_or(("", url));
    match scheme {
        "http" => {
            let rest = rest.trim_start_matches('/');
            let (at, path) = rest.split_once('/').unwrap_or((rest, "mi"));
            let (auth, host) = match at.rsplit_once('@') {
                Some((auth, host)) => (Some(auth.to_owned()), host),
                None => (None, at),
            };
            Ok(Way::Http { host: host.to_owned(), path: format!("/{path}"), auth })
        }
        "udp" => Ok(Way::Udp(rest.trim_start_matches('/').to_owned())),
        "unix" => Ok(Way::Unix(rest.into())),
        "fifo" => Ok(Way::Fifo(rest.into())),
        _ => Err(format!(
            "{url}: write http://HOST:PORT/mi, udp:HOST:PORT, unix:/PATH or fifo:/PATH"
        )),
    }
}

pub(crate) fn resolve(call: &Call) -> Result<Target, String> {
    let url = call.url.clone().or_else(|| {
        let from_environment = std::env::var("TANDEM_URL").ok().filter(|url| !url.is_empty());
        from_environment.filter(|_| call.fifo.is_none())
    });
    let way = match url {
        Some(url) => parse_url(&url)?,
        None => Way::Fifo(fifo_of(call)),
    };
    Ok(Target {
        way,
        reply_dir: call.reply_dir.clone().unwrap_or_else(|| PathBuf::from("/tmp")),
        timeout: call.timeout.unwrap_or(Duration::from_secs(5)),
    })
}

fn fifo_of(call: &Call) -> PathBuf {
    call.fifo
        .clone()
        .or_else(|| from_environment("TANDEM_FIFO"))
        .or_else(|| from_environment("OSIPS_FIFO"))
        .or_else(|| rc_files(&call.program).iter().find_map(|file| from_rc(file)))
        .unwrap_or_else(|| PathBuf::from("/tmp/opensips_fifo"))
}

fn from_environment(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from)
}

fn rc_files(program: &Path) -> Vec<PathBuf> {
    let beside = folder(program).map(Path::to_path_buf);
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let fixed = ["/etc/tandem", "/etc/opensips"].map(PathBuf::from);
    let mut files = Vec::new();
    for dir in beside.into_iter().chain(fixed) {
        files.push(dir.join("tandemctlrc"));
        files.push(dir.join("opensipsctlrc"));
    }
    files.extend(home.map(|h| h.join(".opensipsctlrc")));
    files
}

/// `OSIPS_FIFO="/path"` of a shell-style file.
fn from_rc(file: &Path) -> Option<PathBuf> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find_map(parse_line)
}

fn parse_line(line: &str) -> Option<PathBuf> {
    let (name, value) = line.trim().split_once('=')?;
    let value = value.trim().trim_matches(['"', '\'']);
    (name.trim() == "OSIPS_FIFO" && !value.is_empty()).then(|| PathBuf::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_the_way_to_a_node() {
        let http = |host: &str, path: &str, auth: Option<&str>| Way::Http {
            host: host.into(),
            path: path.into(),
            auth: auth.map(String::from),
        };
        assert_eq!(parse_url("http://h:8888"), Ok(http("h:8888", "/mi", None)));
        assert_eq!(parse_url("http://u:p@h/x"), Ok(http("h", "/x", Some("u:p"))));
        assert_eq!(parse_url("udp:h:8080"), Ok(Way::Udp("h:8080".into())));
        assert_eq!(parse_url("unix:/run/mi"), Ok(Way::Unix("/run/mi".into())));
        assert!(parse_url("ftp://h").unwrap_err().contains("http://"));
    }

    #[test]
    fn the_fifo_of_an_opensipsctlrc_is_found() {
        let fifo = parse_line(r#"OSIPS_FIFO="/run/opensips/fifo""#);
        assert_eq!(fifo.as_deref(), Some(Path::new("/run/opensips/fifo")));
        assert_eq!(parse_line("# OSIPS_FIFO=/x"), None);
        assert_eq!(parse_line("DBENGINE=MYSQL"), None);
    }
}
