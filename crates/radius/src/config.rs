//! The files `radiusclient.conf` and `servers`, as radcli and its forerunners write them.

use std::net::IpAddr;

use crate::Fault;

/// Servers of one kind, at most.
const SERVERS_MAX: usize = 16;
const TIMEOUT_S: u64 = 10;
const RETRIES: u32 = 3;
/// Options of programs that log people in, which mean nothing to a SIP server.
const OTHERS: &[&str] = &[
    "auth_order",
    "clientdebug",
    "default_realm",
    "issue",
    "login_local",
    "login_radius",
    "login_timeout",
    "login_tries",
    "mapfile",
    "nologin",
    "radius_timeout_max",
    "seqfile",
    "serv-auth-type",
    "serv-type",
    "tls-ca-file",
    "tls-cert-file",
    "tls-key-file",
    "use-public-addr",
];
const OPTIONS: &[&str] = &[
    "authserver",
    "acctserver",
    "servers",
    "dictionary",
    "radius_timeout",
    "radius_retries",
    "radius_deadtime",
    "bindaddr",
    "nas-identifier",
    "nas-ip",
    "require-message-authenticator",
];

/// A server as the file names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    pub name: String,
    /// `None`: the standard one.
    pub port: Option<u16>,
    /// `None`: it is in the file `servers`.
    pub secret: Option<String>,
    pub line: usize,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub auth: Vec<Host>,
    pub acct: Vec<Host>,
    /// The file with the secrets, beside this one.
    pub servers: Option<String>,
    pub dictionary: String,
    /// How long a server may take, and how often it is asked again.
    pub timeout_s: u64,
    pub retries: u32,
    /// How long one that did not answer is left alone.
    pub deadtime_s: u64,
    pub from: Option<IpAddr>,
    pub nas_identifier: Option<String>,
    pub nas_ip: Option<IpAddr>,
    /// Answers to questions of access count with a Message-Authenticator alone.
    pub needs_proof: bool,
}

impl Config {
    /// Reads the text of `file`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<Fault>> {
        let mut read = Reading::default();
        for (at, line) in text.lines().enumerate() {
            if let Err(why) = read.line(line, at + 1) {
                read.faults.push(Fault { file: file.to_owned(), line: at + 1, text: why });
            }
        }
        let whole = |text: &str| Fault { file: file.to_owned(), line: 0, text: text.to_owned() };
        if read.dictionary.is_none() {
            read.faults.push(whole("`dictionary FILE` is missing"));
        }
        if read.auth.is_empty() && read.acct.is_empty() {
            read.faults.push(whole("neither `authserver HOST` nor `acctserver HOST` is there"));
        }
        match (read.dictionary, read.faults.is_empty()) {
            (Some(dictionary), true) => Ok(Self {
                auth: read.auth,
                acct: read.acct,
                servers: read.servers,
                dictionary,
                timeout_s: read.timeout_s.unwrap_or(TIMEOUT_S).max(1),
                retries: read.retries.unwrap_or(RETRIES),
                deadtime_s: read.deadtime_s,
                from: read.from,
                nas_identifier: read.nas_identifier,
                nas_ip: read.nas_ip,
                needs_proof: read.needs_proof,
            }),
            _ => Err(read.faults),
        }
    }
}

#[derive(Default)]
struct Reading {
    auth: Vec<Host>,
    acct: Vec<Host>,
    servers: Option<String>,
    dictionary: Option<String>,
    timeout_s: Option<u64>,
    retries: Option<u32>,
    deadtime_s: u64,
    from: Option<IpAddr>,
    nas_identifier: Option<String>,
    nas_ip: Option<IpAddr>,
    needs_proof: bool,
    faults: Vec<Fault>,
}

impl Reading {
    fn line(&mut self, line: &str, at: usize) -> Result<(), String> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let (name, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let value = value.trim();
        let number = || value.parse().map_err(|_| format!("{name}: `{value}` is no number"));
        // Options may stand there without a value.
        if value.is_empty() && OPTIONS.contains(&name) {
            return Ok(());
        }
        match name {
            "authserver" => hosts(&mut self.auth, value, at)?,
            "acctserver" => hosts(&mut self.acct, value, at)?,
            "servers" => self.servers = Some(value.to_owned()),
            "dictionary" => self.dictionary = Some(value.to_owned()),
            "radius_timeout" => self.timeout_s = Some(number()?),
            "radius_retries" => self.retries = Some(number()?.min(100) as u32),
            "radius_deadtime" => self.deadtime_s = number()?,
            "bindaddr" => self.from = address(name, value)?,
            "nas-identifier" => self.nas_identifier = Some(value.to_owned()),
            "nas-ip" => self.nas_ip = address(name, value)?,
            "require-message-authenticator" => {
                self.needs_proof = match value {
                    "yes" => true,
                    "no" => false,
                    _ => return Err(format!("{name}: `{value}` is neither `yes` nor `no`")),
                };
            }
            "serv-type" if value != "udp" => {
                return Err(format!("servers are asked over UDP alone, not over {value}"));
            }
            _ if OTHERS.contains(&name) => {}
            _ => {
                return Err(format!(
                    "there is no option `{name}`; those that mean something here are {}",
                    OPTIONS.join(", ")
                ));
            }
        }
        Ok(())
    }
}

/// An address; `None`: any.
fn address(name: &str, value: &str) -> Result<Option<IpAddr>, String> {
    if value == "*" {
        return Ok(None);
    }
    let found = value.parse().map(Some);
    found.map_err(|_| format!("{name}: `{value}` is no address of this host, and no `*`"))
}

/// Servers of one line: `host[:port[:secret]]`, separated by commas.
fn hosts(all: &mut Vec<Host>, value: &str, line: usize) -> Result<(), String> {
    for text in value.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        if all.len() >= SERVERS_MAX {
            return Err(format!("more than {SERVERS_MAX} servers of one kind"));
        }
        let (name, rest) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((name, rest)) => (name, rest.strip_prefix(':')),
            None => text.split_once(':').map_or((text, None), |(name, rest)| (name, Some(rest))),
        };
        let (port, secret) = match rest {
            None => (None, None),
            Some(rest) => match rest.split_once(':') {
                Some((port, secret)) => (Some(port), Some(secret.to_owned())),
                None => (Some(rest), None),
            },
        };
        let number = |port: &str| port.parse().ok().filter(|port| *port != 0);
        let port = match port.filter(|port| !port.is_empty()) {
            Some(port) => Some(number(port).ok_or_else(|| format!("`{port}` is no port"))?),
            None => None,
        };
        if name.is_empty() {
            return Err(format!("`{text}` names no host"));
        }
        all.push(Host { name: name.to_owned(), port, secret, line });
    }
    Ok(())
}

/// The secret of a server in the text of the file `servers`: lines `server secret` or
/// `client/server secret`.
pub fn secret(text: &str, server: &str) -> Option<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let mut found = lines.filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (names, secret) = (words.next()?, words.next()?);
        let is_this = names.split('/').any(|name| {
            let bare = name.trim_start_matches('[').trim_end_matches(']');
            bare.eq_ignore_ascii_case(server)
        });
        is_this.then(|| secret.to_owned())
    });
    found.next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn host(name: &str, port: Option<u16>, secret: Option<&str>, line: usize) -> Host {
        Host { name: name.to_owned(), port, secret: secret.map(str::to_owned), line }
    }

    #[test]
    fn the_file_of_radcli_is_read() {
        let text = "# General settings\nauthserver \tlocalhost\nacctserver a:1,[::1]:1813:s3\n\
            servers\t\t/etc/radcli/servers\ndictionary \t/etc/radcli/dictionary\ndefault_realm\n\
            radius_timeout\t7\nradius_retries\t2\nradius_deadtime 9\nbindaddr\t*\n\
            nas-identifier sip1\nlogin_tries 4\nrequire-message-authenticator yes\n";
        let found = Config::parse("f", text).unwrap();
        assert_eq!(found.auth, [host("localhost", None, None, 2)]);
        let acct = [host("a", Some(1), None, 3), host("::1", Some(1813), Some("s3"), 3)];
        assert_eq!(found.acct, acct);
        assert_eq!(found.servers.as_deref(), Some("/etc/radcli/servers"));
        assert_eq!(found.dictionary, "/etc/radcli/dictionary");
        assert_eq!((found.timeout_s, found.retries, found.deadtime_s), (7, 2, 9));
        assert_eq!((found.from, found.nas_identifier.as_deref()), (None, Some("sip1")));
        assert!(found.needs_proof);
        let least = Config::parse("f", "authserver a\ndictionary d\nradius_timeout\n").unwrap();
        assert_eq!((least.timeout_s, least.retries), (TIMEOUT_S, RETRIES));
        assert!(!least.needs_proof);
    }

    #[test]
    fn everything_that_is_wrong_is_named_with_its_line() {
        let text = "authserver a:x\nradius_timeout soon\nbindaddr here\nauthservr a\nserv-type tls\n\
             require-message-authenticator maybe\n";
        let faults = Config::parse("/f", text).unwrap_err();
        let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
        let expected = [
            "/f:1: `x` is no port",
            "/f:2: radius_timeout: `soon` is no number",
            "/f:3: bindaddr: `here` is no address",
            "/f:4: there is no option `authservr`",
            "/f:5: servers are asked over UDP alone",
            "/f:6: require-message-authenticator: `maybe` is neither `yes` nor `no`",
            "/f: `dictionary FILE` is missing",
            "/f: neither `authserver HOST`",
        ];
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.starts_with(expected), "{told}");
        }
    }

    #[test]
    fn secrets_are_found_by_server() {
        let text = "# a no\na.test\tone\nme/b.test two extra\n[::1] three\nc\n";
        let found = |server| secret(text, server);
        assert_eq!(found("A.test").as_deref(), Some("one"));
        assert_eq!(found("b.test").as_deref(), Some("two"));
        assert_eq!(found("::1").as_deref(), Some("three"));
        assert_eq!((found("c"), found("a")), (None, None));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(
            text in "(authserver|dictionary|servers|bindaddr| |:|,|\\[|\\]|\n|a|1|\\PC){0,30}"
        ) {
            let _ = Config::parse("f", &text);
            let _ = secret(&text, "a");
        }
    }
}
