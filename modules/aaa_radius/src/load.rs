//! The files of a door: `radiusclient.conf`, and what it names.

use tandem_engine::log::Level;
use tandem_radius::client::{Client, Kind, Patience, Spec};
use tandem_radius::config::{self, Config, Host};
use tandem_radius::dictionary::Dictionary;
use tandem_radius::loader::{Loader, beside};

/// Standard ports: RFC 2865 3, RFC 2866 3.
const AUTH_PORT: u16 = 1812;
const ACCT_PORT: u16 = 1813;

/// Files on their way.
pub(crate) struct Loading {
    path: String,
    config: Option<Config>,
    /// The file with the secrets, and its text.
    servers: Option<String>,
    secrets: Option<String>,
    dictionary: Option<Loader>,
    asked: usize,
}

/// All that a door's files say.
pub(crate) struct Loaded {
    pub(crate) config: Config,
    pub(crate) dictionary: Dictionary,
    pub(crate) client: Client,
    pub(crate) said: Vec<(Level, String)>,
}

/// What follows from a file.
pub(crate) enum Step {
    /// These are to be read next, or others are awaited.
    Ask(Vec<String>),
    Whole(Box<Loaded>),
    /// The node cannot go on.
    Failed(String),
}

impl Loading {
    /// The file with this name is to be read first.
    pub(crate) fn new(path: &str) -> Self {
        let path = path.to_owned();
        let (config, servers, secrets, dictionary) = (None, None, None, None);
        Self { path, config, servers, secrets, dictionary, asked: 1 }
    }

    /// A file has come, or why not.
    pub(crate) fn came(&mut self, name: &str, text: Result<Option<&[u8]>, String>) -> Step {
        self.asked = self.asked.saturating_sub(1);
        let text = match text {
            Ok(text) => text,
            Err(why) => return Step::Failed(format!("{name}: {why}")),
        };
        let next = if self.config.is_none() {
            match self.configured(text) {
                Ok(next) => next,
                Err(why) => return Step::Failed(why),
            }
        } else if self.servers.as_deref() == Some(name) && self.secrets.is_none() {
            let Some(text) = text else {
                return Step::Failed(format!(
                    "{name}: there is no such file: `servers` in {} names it",
                    self.path
                ));
            };
            self.secrets = Some(String::from_utf8_lossy(text).into_owned());
            Vec::new()
        } else {
            self.dictionary.as_mut().map(|loader| loader.came(name, text)).unwrap_or_default()
        };
        self.asked += next.len();
        match (self.asked, self.config.take()) {
            (0, Some(config)) => self.whole(config),
            (_, config) => {
                self.config = config;
                Step::Ask(next)
            }
        }
    }

    /// Reads the first file; which are next.
    fn configured(&mut self, text: Option<&[u8]>) -> Result<Vec<String>, String> {
        let path = &self.path;
        let text = text.ok_or_else(|| {
            format!("{path}: there is no such file; radiusclient.conf of radcli is an example")
        })?;
        let config = Config::parse(path, &String::from_utf8_lossy(text)).map_err(|faults| {
            faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        })?;
        let mut next = Vec::new();
        if config.auth.iter().chain(&config.acct).any(|host| host.secret.is_none()) {
            let named = config.servers.as_deref().map(|servers| beside(path, servers));
            let named = named.ok_or_else(|| {
                format!("{path}: a server has no secret: name the file with secrets in `servers`")
            })?;
            self.servers = Some(named.clone());
            next.push(named);
        }
        let (loader, first) = Loader::new(&beside(path, &config.dictionary));
        self.dictionary = Some(loader);
        next.push(first);
        self.config = Some(config);
        Ok(next)
    }

    fn whole(&self, config: Config) -> Step {
        let made = self.dictionary.as_ref().map(Loader::dictionary);
        let dictionary = match made {
            Some(Ok(dictionary)) => dictionary,
            Some(Err(fault)) => return Step::Failed(fault.to_string()),
            None => return Step::Failed(format!("{}: no dictionary", self.path)),
        };
        let mut specs = Vec::new();
        for (kind, hosts) in [(Kind::Auth, &config.auth), (Kind::Acct, &config.acct)] {
            for host in hosts {
                match self.spec(kind, host) {
                    // Answers to accounting have an authenticator that counts for all of them.
                    Ok(spec) => {
                        let needs_proof = config.needs_proof && kind == Kind::Auth;
                        specs.push(Spec { needs_proof, ..spec });
                    }
                    Err(why) => return Step::Failed(why),
                }
            }
        }
        let said = dictionary.faults().iter();
        let said = said.map(|fault| (Level::Warning, format!("aaa_radius: {fault}"))).collect();
        let patience = Patience {
            timeout_s: config.timeout_s,
            retries: config.retries,
            deadtime_s: config.deadtime_s,
        };
        let client = Client::new(specs, patience);
        Step::Whole(Box::new(Loaded { config, dictionary, client, said }))
    }

    fn spec(&self, kind: Kind, host: &Host) -> Result<Spec, String> {
        let found = || config::secret(self.secrets.as_deref().unwrap_or_default(), &host.name);
        let secret = host.secret.clone().or_else(found).ok_or_else(|| {
            format!(
                "{}:{}: the server {name} has no secret: add a line `{name} SECRET` to {}",
                self.path,
                host.line,
                self.servers.as_deref().unwrap_or("the file `servers`"),
                name = host.name,
            )
        })?;
        let standard = if kind == Kind::Auth { AUTH_PORT } else { ACCT_PORT };
        let port = host.port.unwrap_or(standard);
        let (host, secret) = (host.name.clone(), secret.into_bytes());
        Ok(Spec { kind, host, port, secret, needs_proof: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONF: &str = "authserver a,b:9:own\nservers servers\ndictionary /d/dictionary\n";

    /// What becomes of a door whose files are these.
    fn loaded(files: &[(&str, &str)]) -> Result<Box<Loaded>, String> {
        let mut loading = Loading::new("/etc/r/conf");
        let mut wanted = vec!["/etc/r/conf".to_owned()];
        loop {
            let name = wanted.pop().expect("a file to wait for");
            let text = files.iter().find(|(n, _)| *n == name).map(|(_, text)| text.as_bytes());
            match loading.came(&name, Ok(text)) {
                Step::Ask(more) => wanted.extend(more),
                Step::Whole(loaded) => return Ok(loaded),
                Step::Failed(why) => return Err(why),
            }
        }
    }

    #[test]
    fn the_files_of_a_door_are_read_one_after_the_other() {
        let files = [
            ("/etc/r/conf", CONF),
            ("/etc/r/servers", "a one\n"),
            ("/d/dictionary", "$INCLUDE more\nOdd\n"),
            ("/d/more", "ATTRIBUTE User-Name 1 string\n"),
        ];
        let all = loaded(&files).unwrap();
        assert!(all.dictionary.attribute_named("User-Name").is_some());
        let secret = |n| all.client.spec(n).map(|s| (s.port, s.secret.clone()));
        assert_eq!(secret(0), Some((1812, b"one".to_vec())));
        assert_eq!(secret(1), Some((9, b"own".to_vec())));
        assert!(all.said[0].1.starts_with("aaa_radius: /d/dictionary:2: `Odd` is none of"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let why = |files: &[(&str, &str)]| loaded(files).err().unwrap();
        assert!(why(&[]).starts_with("/etc/r/conf: there is no such file"));
        assert!(
            why(&[("/etc/r/conf", "x\n")]).starts_with("/etc/r/conf:1: there is no option `x`")
        );
        let conf = ("/etc/r/conf", CONF);
        let dictionary = ("/d/dictionary", "");
        assert!(why(&[conf, dictionary]).starts_with("/etc/r/servers: there is no such file"));
        let wrong = why(&[conf, dictionary, ("/etc/r/servers", "b x\n")]);
        let said = "/etc/r/conf:1: the server a has no secret: add a line `a SECRET` to \
                    /etc/r/servers";
        assert_eq!(wrong, said);
        let wrong = why(&[conf, ("/etc/r/servers", "a x\n")]);
        assert!(wrong.starts_with("/d/dictionary: there is no such file"), "{wrong}");
        let bare = why(&[("/etc/r/conf", "authserver a\ndictionary d\n")]);
        assert!(bare.contains("a server has no secret"), "{bare}");
    }
}
