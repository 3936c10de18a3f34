//! `db_url` values.

use std::fmt;

use thiserror::Error;

/// A `db_url`, taken apart. Neither `Debug` nor `Display` shows the password.
#[derive(Clone, PartialEq, Eq)]
pub struct DbUrl {
    pub backend: Backend,
    /// SQLite: the path of the file. Servers: the name of the database.
    pub database: String,
    pub user: Option<String>,
    pub password: Option<String>,
    pub host: Option<String>,
    pub port: Option<u16>,
    /// What follows `?`: the connection is one of TLS.
    pub tls: Option<Box<UrlTls>>,
}

/// How a connection to a server is protected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UrlTls {
    /// `tls_domain=NAME`; without a store of domains it asks for TLS and no more.
    pub domain: Option<String>,
    /// `tls_ca=FILE`: who signs the server's certificate; else those that the system trusts.
    pub ca: Option<String>,
    /// `tls_cert=FILE` and `tls_key=FILE`: what the server is shown.
    pub cert: Option<String>,
    pub key: Option<String>,
    pub verify: TlsVerify,
}

/// `tls_verify=0|1|2`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVerify {
    Nothing,
    /// Who signed the certificate.
    #[default]
    Signer,
    /// That, and whether it is the certificate of the host of the URL.
    Host,
}

impl UrlTls {
    /// Reads `name=value&name=value`.
    fn parse(options: &str) -> Result<Self, UrlError> {
        let mut tls = Self::default();
        for option in options.split('&').filter(|o| !o.is_empty()) {
            let unknown = || UrlError::Option(option.to_owned());
            let (name, value) = option.split_once('=').ok_or_else(unknown)?;
            if value.is_empty() {
                return Err(unknown());
            }
            let text = Some(value.to_owned());
            match name {
                "tls_domain" => tls.domain = text,
                "tls_ca" => tls.ca = text,
                "tls_cert" => tls.cert = text,
                "tls_key" => tls.key = text,
                "tls_verify" => {
                    tls.verify = match value {
                        "0" => TlsVerify::Nothing,
                        "1" => TlsVerify::Signer,
                        "2" => TlsVerify::Host,
                        _ => return Err(unknown()),
                    };
                }
                _ => return Err(unknown()),
            }
        }
        Ok(tls)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    Sqlite,
    MySql,
    Postgres,
}

/// Why a `db_url` is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UrlError {
    #[error("a database URL looks like `sqlite:///var/lib/tandem/tandem.db`; `://` is missing")]
    NoScheme,
    #[error("`{0}` is no database that Tandem knows; it has `sqlite`, `mysql` and `postgres`")]
    UnknownScheme(String),
    #[error("the database URL names no {0}")]
    NoDatabase(&'static str),
    #[error("the port of the database URL is no number between 1 and 65535")]
    BadPort,
    #[error(
        "`{0}` in a database URL is none of tls_domain=NAME, tls_ca=FILE, tls_cert=FILE, \
         tls_key=FILE and tls_verify=0|1|2"
    )]
    Option(String),
}

impl DbUrl {
    /// Reads `scheme://rest`. For SQLite the rest is a path: `sqlite:///abs/olute`,
    /// `sqlite://relative`. For servers it is `[user[:password]@]host[:port]/database`.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = url.trim().split_once("://").ok_or(UrlError::NoScheme)?;
        match scheme.to_ascii_lowercase().as_str() {
            "sqlite" => Self::sqlite(rest),
            "mysql" => Self::server(Backend::MySql, rest),
            "postgres" | "postgresql" => Self::server(Backend::Postgres, rest),
            _ => Err(UrlError::UnknownScheme(scheme.to_owned())),
        }
    }

    /// The path of the SQLite file; `None` for a server.
    pub fn sqlite_path(&self) -> Option<&str> {
        (self.backend == Backend::Sqlite).then_some(&*self.database)
    }

    fn sqlite(path: &str) -> Result<Self, UrlError> {
        if path.is_empty() || path.ends_with('/') || path.contains('\0') {
            return Err(UrlError::NoDatabase("file"));
        }
        let database = path.to_owned();
        Ok(Self {
            backend: Backend::Sqlite,
            database,
            user: None,
            password: None,
            host: None,
            port: None,
            tls: None,
        })
    }

    fn server(backend: Backend, rest: &str) -> Result<Self, UrlError> {
        // The last `@`: a password may hold one.
        let (login, place) = rest.rsplit_once('@').map_or((None, rest), |(l, p)| (Some(l), p));
        let (address, database) = place.split_once('/').unwrap_or((place, ""));
        if database.is_empty() {
            return Err(UrlError::NoDatabase("database"));
        }
        let (database, tls) = match database.split_once('?') {
            None => (database, None),
            Some((database, options)) => (database, Some(Box::new(UrlTls::parse(options)?))),
        };
        let (user, password) = match login.map(|login| login.split_once(':').ok_or(login)) {
            None => (None, None),
            Some(Err(user)) => (Some(user.to_owned()), None),
            Some(Ok((user, password))) => (Some(user.to_owned()), Some(password.to_owned())),
        };
        let (host, port) = split_port(address)?;
        let host = (!host.is_empty()).then(|| host.to_owned());
        Ok(Self { backend, database: database.to_owned(), user, password, host, port, tls })
    }
}

impl fmt::Display for DbUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.backend.scheme())?;
        if let Some(user) = &self.user {
            let hidden = if self.password.is_some() { ":***" } else { "" };
            write!(f, "{user}{hidden}@")?;
        }
        if let Some(host) = &self.host {
            f.write_str(host)?;
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        let slash = if self.backend == Backend::Sqlite { "" } else { "/" };
        write!(f, "{slash}{}", self.database)
    }
}

impl fmt::Debug for DbUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DbUrl({self})")
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "SQLite",
            Self::MySql => "MySQL",
            Self::Postgres => "PostgreSQL",
        })
    }
}

impl Backend {
    fn scheme(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::MySql => "mysql",
            Self::Postgres => "postgres",
        }
    }
}

/// Host and port; the host may be an IPv6 address in brackets.
fn split_port(address: &str) -> Result<(&str, Option<u16>), UrlError> {
    let port_at = match address.rfind(']') {
        Some(bracket) => address[bracket..].find(':').map(|colon| bracket + colon),
        None => address.rfind(':'),
    };
    let Some(at) = port_at else { return Ok((address, None)) };
    match address[at + 1..].parse::<u16>() {
        Ok(port) if port != 0 => Ok((&address[..at], Some(port))),
        _ => Err(UrlError::BadPort),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sqlite_paths_are_absolute_with_three_slashes_and_relative_with_two() {
        let path = |url| DbUrl::parse(url).map(|u| u.sqlite_path().map(str::to_owned));
        assert_eq!(path("sqlite:///var/lib/t.db"), Ok(Some("/var/lib/t.db".to_owned())));
        assert_eq!(path("sqlite://t.db"), Ok(Some("t.db".to_owned())));
        assert_eq!(DbUrl::parse("sqlite://"), Err(UrlError::NoDatabase("file")));
        assert_eq!(DbUrl::parse("/var/lib/t.db"), Err(UrlError::NoScheme));
    }

    #[test]
    fn a_server_is_recognised_and_its_password_kept_secret() {
        let url = DbUrl::parse("mysql://u:p@ss@[::1]:3306/opensips").expect("url");
        assert_eq!(url.password.as_deref(), Some("p@ss"));
        assert_eq!((url.host.as_deref(), url.port), (Some("[::1]"), Some(3306)));
        assert_eq!(url.sqlite_path(), None);
        assert!(!format!("{url:?} {url}").contains("p@ss"));
    }

    #[test]
    fn what_follows_the_name_says_how_tls_is_used() {
        let tls = |options: &str| {
            let url = DbUrl::parse(&format!("mysql://u:p@h/db?{options}"))?;
            assert_eq!((url.database.as_str(), url.to_string().contains('?')), ("db", false));
            Ok::<_, UrlError>(*url.tls.expect("it asks for TLS"))
        };
        let read = tls("tls_domain=dom1&tls_ca=/a.pem&tls_verify=2").expect("options");
        assert_eq!((read.domain.as_deref(), read.ca.as_deref()), (Some("dom1"), Some("/a.pem")));
        assert_eq!(read.verify, TlsVerify::Host);
        assert_eq!(tls("tls_cert=/c&tls_key=/k").expect("options").verify, TlsVerify::Signer);
        for wrong in ["tls_verify=yes", "tls_ca=", "charset=utf8", "x"] {
            assert_eq!(tls(wrong), Err(UrlError::Option(wrong.to_owned())), "{wrong}");
        }
    }

    #[test]
    fn an_unknown_scheme_is_named() {
        let error = DbUrl::parse("oracle://x/y").expect_err("unknown");
        assert_eq!(error, UrlError::UnknownScheme("oracle".to_owned()));
    }

    proptest! {
        #[test]
        fn any_text_is_taken_without_a_panic(
            text in "(mysql|sqlite|pg)?(://)?[a:@/\\[\\]é0-9]{0,24}",
        ) {
            let _ = DbUrl::parse(&text);
        }

        #[test]
        fn what_is_shown_reads_back_when_there_is_no_password(
            host in "[a-z]{1,8}", port in proptest::option::of(1u16..), name in "[a-z]{1,8}",
        ) {
            let port = port.map_or(String::new(), |p| format!(":{p}"));
            let text = format!("postgres://{host}{port}/{name}");
            prop_assert_eq!(DbUrl::parse(&text).expect("url").to_string(), text);
        }
    }
}
