//! A FreeRADIUS of a test's own.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use crate::{PATIENCE, Process, Site};

/// What the server and its clients know.
pub const SECRET: &str = "s3cret";
const PROGRAMS: [&str; 2] = ["/usr/sbin/freeradius", "/usr/sbin/radiusd"];
const STANDARD: &str = "/usr/share/freeradius";

/// The running server.
#[derive(Debug)]
pub struct FreeRadius {
    ip: Ipv4Addr,
    dir: PathBuf,
    program: PathBuf,
    /// `None`: it is down.
    process: Option<Process>,
}

impl FreeRadius {
    /// Starts one at an address, which authorizes as these lines of its own language say; `None`,
    /// and a line that says why, where the system has none. Beside the RFCs it knows what the
    /// example of the book does.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(site: &Site, ip: Ipv4Addr, authorize: &str) -> Option<Self> {
        let found = PROGRAMS.iter().map(PathBuf::from).find(|program| program.is_file());
        let Some(program) = found else {
            eprintln!("SKIPPED: there is no FreeRADIUS here");
            return None;
        };
        let dir = site.dir().join(format!("freeradius-{ip}"));
        std::fs::create_dir(&dir).expect("a folder");
        let server = Self { ip, dir, program, process: None };
        server.write(authorize);
        let mut server = server;
        server.up();
        Some(server)
    }

    fn write(&self, authorize: &str) {
        let (dir, ip) = (self.dir.display(), self.ip);
        let put = |name: &str, text: &str| {
            std::fs::write(self.dir.join(name), text).expect("a file");
        };
        let mut all = String::new();
        for part in ["rfc2865", "rfc2866", "rfc2869", "freeradius", "freeradius.internal"] {
            let _ = writeln!(all, "$INCLUDE {STANDARD}/dictionary.{part}");
        }
        let _ = writeln!(all, "$INCLUDE {}", examples().join("radius/dictionary.sip").display());
        put("dictionary", &all);
        // It wants these to be there.
        put("dictionary.dhcp", "");
        put("dictionary.vqp", "");
        let listen = |kind: &str, port: u16| {
            format!("listen {{\ntype = {kind}\nipaddr = {ip}\nport = {port}\n}}\n")
        };
        let text = format!(
            "raddbdir = {dir}/none\nlogdir = {dir}\nlibdir = /usr/lib/freeradius\n\
             pidfile = {dir}/pid\nsecurity {{\nallow_vulnerable_openssl = yes\n}}\n\
             client all {{\nipaddr = 127.0.0.0/8\nsecret = {SECRET}\n}}\n\
             modules {{\nalways reject {{\nrcode = reject\n}}\n\
             detail {{\nfilename = {dir}/detail\n}}\n}}\n\
             server default {{\n{}{}authorize {{\n{authorize}\n}}\naccounting {{\ndetail\n}}\n}}\n",
            listen("auth", 1812),
            listen("acct", 1813),
        );
        put("radiusd.conf", &text);
        std::fs::create_dir(self.dir.join("none")).expect("a folder");
        put("none/dictionary", "");
    }

    /// Starts it (again).
    ///
    /// # Panics
    /// If it does not start.
    pub fn up(&mut self) {
        let dir = self.dir.display().to_string();
        let log = self.dir.join("log");
        let skip = std::fs::read_to_string(&log).map(|text| text.len()).unwrap_or(0);
        let args = ["-D", &dir, "-d", &dir, "-fxx", "-l", "stdout"];
        let mut process = Process::start("freeradius", &self.program, &args, &self.dir, &log);
        process.wait_for_output_after(skip, "Ready to process requests", PATIENCE);
        self.process = Some(process);
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// The records that it was told, each a block of lines.
    #[must_use]
    pub fn records(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.join("detail")).unwrap_or_default();
        text.split("\n\n").filter(|block| !block.trim().is_empty()).map(str::to_owned).collect()
    }
}

/// The folder with the examples of the book.
#[must_use]
pub fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples")
}

/// Puts the files of a client into the folder of a site, from the examples of the book, for a
/// server at this address.
///
/// # Panics
/// If an example is missing.
pub fn client_files(site: &Site, server: Ipv4Addr) {
    for name in ["radiusclient.conf", "servers", "dictionary", "dictionary.sip"] {
        let example = examples().join("radius").join(name);
        let text = std::fs::read_to_string(&example).expect("an example of the book");
        assert!(name != "servers" || text.contains(SECRET), "another secret in the example");
        site.write(name, &text.replace("192.0.2.30", &server.to_string()));
    }
}
