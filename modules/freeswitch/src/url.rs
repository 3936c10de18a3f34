//! Where a FreeSWITCH is: `fs://[user]:password@host[:port]`.

use std::fmt;

/// The port of event sockets.
const PORT: u16 = 8021;
/// Bytes of a URL.
const BYTES_MAX: usize = 512;

/// An event socket, and what it wants to hear before it speaks.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FsUrl {
    /// Empty: the password is that of the socket itself.
    pub(crate) user: String,
    pub(crate) password: String,
    /// A name, or an address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl FsUrl {
    /// Whether a text is meant to be one.
    pub fn is_meant(text: &str) -> bool {
        text.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("fs://"))
    }

    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it; the password is not in it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{why}: it is written fs://[user]:password@host[:port]");
        let rest = text.get(5..).filter(|_| Self::is_meant(text));
        let rest = rest.ok_or_else(|| wrong("it is no URL of a FreeSWITCH"))?;
        if text.len() > BYTES_MAX {
            return Err(format!("a URL of a FreeSWITCH has {BYTES_MAX} bytes at most"));
        }
        // It goes into a line of its own.
        if rest.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Err(wrong("the URL of the FreeSWITCH has a blank"));
        }
        let no_password = || wrong("the URL of the FreeSWITCH has no password");
        let (login, place) = rest.rsplit_once('@').ok_or_else(no_password)?;
        let (user, password) = login.split_once(':').ok_or_else(no_password)?;
        if password.is_empty() {
            return Err(no_password());
        }
        let (host, port) = host_and_port(place).ok_or_else(|| {
            wrong("the URL of the FreeSWITCH has no host, or a port that is none")
        })?;
        Ok(Self { user: user.into(), password: password.into(), host, port })
    }

    /// What is said to be let in.
    pub(crate) fn login(&self) -> String {
        let Self { user, password, .. } = self;
        match user.is_empty() {
            true => format!("auth {password}\n\n"),
            false => format!("userauth {user}:{password}\n\n"),
        }
    }
}

fn host_and_port(place: &str) -> Option<(String, u16)> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
        }
        None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    let is_host = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    if host.is_empty() || !host.chars().all(is_host) {
        return None;
    }
    let port = match port {
        None => PORT,
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
    };
    Some((host.to_ascii_lowercase(), port))
}

/// For people: without user and password.
impl fmt::Display for FsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Debug for FsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fs://{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_url_has_a_password_and_a_place() {
        let of = |text: &str| FsUrl::parse(text).unwrap();
        let plain = of("fs://:ClueCon@10.0.0.1");
        assert_eq!((plain.login(), plain.to_string()), ("auth ClueCon\n\n".into(), of_place()));
        let user = of("FS://1000@x:p@w:d@Some.Host:8031");
        assert_eq!(user.login(), "userauth 1000@x:p@w:d\n\n");
        assert_eq!(user.to_string(), "some.host:8031");
        assert_eq!(of("fs://:x@[::1]:9").to_string(), "[::1]:9");
        for wrong in [
            "",
            "fs://",
            "fs://host",
            "fs://:@host",
            "fs://user@host",
            "fs://:x@",
            "fs://:x@h:0",
            "fs://:x@h:99999",
            "fs://:x@[::1",
            "fs://:x@[h]",
            "fs://:x y@h",
            "fs://:x\ny@h",
            "http://:x@h",
            "fs://:x@h/y",
        ] {
            let why = FsUrl::parse(wrong).unwrap_err();
            assert!(!why.contains("x y"), "{why}");
        }
        assert!(!format!("{plain:?}").contains("ClueCon"));
    }

    fn of_place() -> String {
        "10.0.0.1:8021".to_owned()
    }

    proptest! {
        #[test]
        fn what_is_read_fits_a_line(text in "(fs://)?[a-z:@\\[\\]\n 0-9\u{e9}]{0,30}") {
            if let Ok(url) = FsUrl::parse(&text) {
                prop_assert_eq!(url.login().matches('\n').count(), 2);
            }
        }
    }
}
