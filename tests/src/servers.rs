//! Real database servers, each in a folder of its own.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tandem_db::{DbUrl, Query, Rows};
use tandem_drivers::sql_server::{self, ServerOptions};

use crate::ctl::{Answer, run};
use crate::{Lan, PATIENCE, Process, Site, certificates, is_root, wait_until};

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    MariaDb,
    Postgres,
}

/// A server with the user `opensips`, who may do everything.
#[derive(Debug)]
pub struct DbServer {
    kind: Kind,
    ip: Ipv4Addr,
    dir: PathBuf,
    /// Words that start it on a host of its own.
    host: Vec<String>,
    /// Whether it has a certificate.
    tls: bool,
    password: &'static str,
    /// `None`: it is down.
    pub process: Option<Process>,
}

const USER: &str = "opensips";
const PASSWORD: &str = "opensips'rw";

impl DbServer {
    /// Makes the files of a server and starts it; `None`, and a line that says why, where the
    /// system has none.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(site: &Site, kind: Kind) -> Option<Self> {
        Self::new(site, kind).begin()
    }

    /// The same on a host of a network of its own.
    ///
    /// # Panics
    /// As [`DbServer::start`].
    #[must_use]
    pub fn start_on(site: &Site, lan: &Lan, host: u8, kind: Kind) -> Option<Self> {
        let ip = Ipv4Addr::new(10, 77, 0, host);
        Self { ip, host: lan.words(host), ..Self::new(site, kind) }.begin()
    }

    /// The same, with a certificate that [`DbServer::ca`] has signed.
    ///
    /// # Panics
    /// As [`DbServer::start`].
    #[must_use]
    pub fn start_tls(site: &Site, kind: Kind) -> Option<Self> {
        Self { tls: true, ..Self::new(site, kind) }.begin()
    }

    /// The same at this address, with this password of the user.
    ///
    /// # Panics
    /// As [`DbServer::start`].
    #[must_use]
    pub fn start_at(site: &Site, kind: Kind, ip: Ipv4Addr, password: &'static str) -> Option<Self> {
        Self { ip, password, ..Self::new(site, kind) }.begin()
    }

    fn new(site: &Site, kind: Kind) -> Self {
        let (ip, dir) = (site.net.ip(200), site.dir().join("server"));
        Self { kind, ip, dir, host: Vec::new(), tls: false, password: PASSWORD, process: None }
    }

    fn begin(mut self) -> Option<Self> {
        std::fs::create_dir(&self.dir).unwrap_or_else(|e| panic!("{}: {e}", self.dir.display()));
        let Some(program) = self.program() else {
            eprintln!("SKIPPED: there is no server of {:?} here", self.kind);
            return None;
        };
        if self.tls {
            certificates(&self.dir, self.ip.into());
        }
        self.install(&program);
        self.up();
        Some(self)
    }

    /// The url of a database of this server.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let (ip, password) = (self.ip, self.password);
        match self.kind {
            Kind::MariaDb => format!("mysql://{USER}:{password}@{ip}:3306/{database}"),
            Kind::Postgres => format!("postgres://{USER}:{password}@{ip}:5432/{database}"),
        }
    }

    /// Starts it (again) and waits until it serves.
    ///
    /// # Panics
    /// If it does not.
    pub fn up(&mut self) {
        let program = self.program().expect("it was there before");
        let log = self.dir.with_extension("log");
        let words = [self.host.clone(), self.words(&program)].concat();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (first, rest) = words.split_first().expect("a command");
        let dir = self.dir.parent().unwrap_or(Path::new("/"));
        let process = Process::start("the database", Path::new(first), rest, dir, &log);
        self.process = Some(process);
        let database = if self.kind == Kind::Postgres { "postgres" } else { "mysql" };
        wait_until("the database serves", 2 * PATIENCE, || {
            if !self.host.is_empty() {
                return self.client(database, "SELECT 1").status == 0;
            }
            self.ask(database, Query::Raw { sql: "SELECT 1".into() }).is_ok()
        });
    }

    /// Who has signed its certificate.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Asks a query.
    ///
    /// # Errors
    /// What the server says.
    pub fn ask(&self, database: &str, query: Query) -> Result<Rows, String> {
        let url = DbUrl::parse(&self.url(database)).map_err(|e| e.to_string())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| e.to_string())?;
        let options = ServerOptions::new(url);
        runtime.block_on(sql_server::ask(&options, &query)).map_err(|e| e.to_string())
    }

    /// What MariaDB's own client says to a query, wherever the server is: a line for each row.
    ///
    /// # Panics
    /// If it is refused.
    #[must_use]
    pub fn tell(&self, database: &str, sql: &str) -> String {
        let answer = self.client(database, sql);
        assert_eq!(answer.status, 0, "{sql}: {}", answer.stderr);
        answer.stdout
    }

    fn client(&self, database: &str, sql: &str) -> Answer {
        let socket = format!("--socket={}/sock", self.data());
        let words = ["--no-defaults", &socket, "-u", "root", "-N", "-B", database, "-e", sql];
        run(Command::new("mariadb").args(words))
    }

    /// The file of the server's program.
    fn program(&self) -> Option<PathBuf> {
        match self.kind {
            Kind::MariaDb => {
                let places = ["/usr/sbin/mariadbd", "/usr/local/sbin/mariadbd"];
                places.iter().map(PathBuf::from).find(|p| p.is_file())
            }
            Kind::Postgres => {
                let releases = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
                let mut found: Vec<PathBuf> = releases
                    .map(|r| r.path().join("bin/postgres"))
                    .filter(|p| p.is_file())
                    .collect();
                found.sort();
                found.pop()
            }
        }
    }

    fn install(&self, program: &Path) {
        let data = self.data();
        let done = match self.kind {
            Kind::MariaDb => {
                let user = format!(
                    "CREATE USER IF NOT EXISTS '{USER}'@'%' IDENTIFIED BY '{}';\n\
                     GRANT ALL ON *.* TO '{USER}'@'%';\n",
                    self.password.replace('\'', "''")
                );
                std::fs::write(self.dir.join("init.sql"), user).expect("a file");
                let install = || {
                    let mut command = Command::new("mariadb-install-db");
                    command.args(["--no-defaults", "--skip-test-db", "--user=root"]);
                    run(command.arg(format!("--datadir={data}")))
                };
                let done = install();
                if done.status == 0 {
                    done
                } else {
                    // Seen once on a busy machine, without a word of the cause.
                    eprintln!("mariadb-install-db is run again: {}{}", done.stdout, done.stderr);
                    let _ = std::fs::remove_dir_all(&data);
                    install()
                }
            }
            Kind::Postgres => {
                let password = self.dir.join("password");
                std::fs::write(&password, self.password).expect("a file");
                if is_root() {
                    let owner =
                        ["-R", "postgres:", &self.dir.display().to_string()].map(str::to_owned);
                    run(Command::new("chown").args(owner));
                }
                let initdb = program.with_file_name("initdb").display().to_string();
                let more = ["-A", "scram-sha-256", "--no-sync", "-E", "UTF8", "-U", USER];
                let mut words = as_postgres();
                words.extend([
                    initdb,
                    "-D".into(),
                    data,
                    format!("--pwfile={}", password.display()),
                ]);
                words.extend(more.map(str::to_owned));
                run(Command::new(&words[0]).args(&words[1..]))
            }
        };
        assert_eq!(done.status, 0, "{}{}", done.stdout, done.stderr);
    }

    fn data(&self) -> String {
        self.dir.join("data").display().to_string()
    }

    fn words(&self, program: &Path) -> Vec<String> {
        let mut words = self.plain_words(program);
        let file = |name: &str| self.dir.join(name).display().to_string();
        let (cert, key, ca) = (file("cert.pem"), file("key.pem"), file("ca.pem"));
        match self.kind {
            _ if !self.tls => {}
            Kind::MariaDb => {
                let options = [("cert", cert), ("key", key), ("ca", ca)];
                words.extend(options.map(|(name, file)| format!("--ssl-{name}={file}")));
            }
            Kind::Postgres => {
                let options =
                    [("ssl", "on".into()), ("ssl_cert_file", cert), ("ssl_key_file", key)];
                let set = |(name, value): (&str, String)| ["-c".into(), format!("{name}={value}")];
                words.extend(options.into_iter().flat_map(set));
            }
        }
        words
    }

    fn plain_words(&self, program: &Path) -> Vec<String> {
        let (program, ip, data) = (program.display().to_string(), self.ip, self.data());
        match self.kind {
            Kind::MariaDb => vec![
                program,
                "--no-defaults".into(),
                "--user=root".into(),
                format!("--datadir={data}"),
                format!("--socket={data}/sock"),
                format!("--pid-file={data}/pid"),
                format!("--bind-address={ip}"),
                format!("--init-file={}", self.dir.join("init.sql").display()),
                "--port=3306".into(),
                "--skip-name-resolve".into(),
                "--innodb-buffer-pool-size=32M".into(),
            ],
            Kind::Postgres => {
                let mut words = as_postgres();
                let own = ["-D", &data, "-h", &ip.to_string(), "-p", "5432", "-k", ""];
                words.push(program);
                words.extend(own.map(str::to_owned));
                words
            }
        }
    }
}

/// PostgreSQL does not run as root.
fn as_postgres() -> Vec<String> {
    let words: &[&str] = match is_root() {
        true => &[
            "setpriv",
            "--reuid=postgres",
            "--regid=postgres",
            "--init-groups",
            "--pdeathsig=KILL",
            "--",
        ],
        false => &["env"],
    };
    words.iter().map(|s| (*s).to_owned()).collect()
}
