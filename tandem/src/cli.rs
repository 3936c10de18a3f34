//! The command line of the server.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand};

use crate::script::Rigour;
use crate::server::Options;
use crate::{build_info, docs, pair, script, server, tables};

/// Scripts that are run when `-f` names none, the first that exists.
const DEFAULT_FILES: &[&str] = &["/etc/tandem/tandem.cfg", "/etc/opensips/opensips.cfg"];

/// A SIP server for services that must not go down.
///
/// Started as `opensips` (a link), it goes into the background unless told not to, and runs the
/// default script when none is named. So does `tandem -P FILE` without -F, as start scripts expect.
#[derive(Debug, Parser)]
#[command(name = "tandem", disable_version_flag = true)]
struct Cli {
    #[command(flatten)]
    start: Start,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What starts a node, as the server it replaces takes it.
#[derive(Args, Debug, Default)]
struct Start {
    /// Run one node with this script.
    #[arg(short = 'f', value_name = "FILE")]
    file: Option<PathBuf>,
    /// Check the script and end, with status 0 if it can run.
    #[arg(short = 'c', action = ArgAction::Count)]
    check: u8,
    /// The same, and refuse functions where the calls of routes lead to another kind of block.
    #[arg(short = 'C', action = ArgAction::Count)]
    check_all: u8,
    /// One more socket: [PROTO:]ADDRESS[:PORT], added to those of the script; several times.
    #[arg(short = 'l', value_name = "SOCKET")]
    listen: Vec<String>,
    /// UDP worker threads.
    #[arg(short = 'n', value_name = "N")]
    udp_workers: Option<usize>,
    /// A value for the script: NAME=VALUE, read there as $argv(NAME); several times.
    #[arg(short = 'o', value_name = "NAME=VALUE")]
    option: Vec<String>,
    /// Stay in the foreground.
    #[arg(short = 'F')]
    foreground: bool,
    /// Debug: stay in the foreground, log everything to standard error.
    #[arg(short = 'D')]
    debug: bool,
    /// One log level more; several times.
    #[arg(short = 'd', action = ArgAction::Count)]
    louder: u8,
    /// Log to standard error, whatever the script says.
    #[arg(short = 'E')]
    stderr: bool,
    /// Go into the background; the command ends when the node serves.
    #[arg(long)]
    daemon: bool,
    /// Write the process id here; without -F, -D: go into the background.
    #[arg(short = 'P', value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Write the process group id here.
    #[arg(short = 'G', value_name = "FILE")]
    group_file: Option<PathBuf>,
    /// Pipe the script, its includes put in, through this command.
    #[arg(short = 'p', value_name = "CMD")]
    preprocessor: Option<String>,
    /// Change the root folder, when the script has been read.
    #[arg(short = 't', value_name = "DIR")]
    chroot: Option<PathBuf>,
    /// Change the working folder; in the background the default is /.
    #[arg(short = 'w', value_name = "DIR")]
    working_dir: Option<PathBuf>,
    /// Run as this user, when the sockets are open.
    #[arg(short = 'u', value_name = "USER")]
    user: Option<String>,
    /// Run as this group, when the sockets are open.
    #[arg(short = 'g', value_name = "GROUP")]
    group: Option<String>,
    /// Print version and build.
    #[arg(short = 'V', long)]
    version: bool,
    /// Print how this program was built.
    #[arg(short = 'I')]
    internals: bool,
    /// Where the node keeps its own state: who held which sharing tag.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Soft limit of memory: near it, phones that are new get 503.
    #[arg(short = 'm', value_name = "MB")]
    memory_mb: Option<u64>,
    #[command(flatten)]
    without_meaning: WithoutMeaning,
}

/// Options that belong to a server of processes with shared memory; each is taken with a note.
#[derive(Args, Debug, Default)]
struct WithoutMeaning {
    /// Has no meaning here: TCP is served by one thread.
    #[arg(short = 'N', value_name = "N")]
    tcp_workers: Option<String>,
    /// Has no meaning here: there is no pool of private memory.
    #[arg(short = 'M', value_name = "MB")]
    private_memory: Option<String>,
    /// Has no meaning here: the receive buffer is as large as the system allows.
    #[arg(short = 'b', value_name = "BYTES")]
    receive_buffer: Option<String>,
    /// Has no meaning here: there is one way to wait for sockets.
    #[arg(short = 'W', value_name = "METHOD")]
    poll_method: Option<String>,
    /// Has no meaning here: there is one allocator.
    #[arg(short = 'a', value_name = "NAME")]
    allocator: Option<String>,
    /// Has no meaning here: there is one allocator.
    #[arg(short = 's', value_name = "NAME")]
    shared_allocator: Option<String>,
    /// Has no meaning here: there is one allocator.
    #[arg(short = 'k', value_name = "NAME")]
    private_allocator: Option<String>,
    /// Has no meaning here: there is one allocator.
    #[arg(short = 'e', value_name = "NAME")]
    persistent_allocator: Option<String>,
    /// Has no meaning here: `received` is added without asking the DNS.
    #[arg(short = 'r')]
    dns_via: bool,
    /// Has no meaning here: `received` is added without asking the DNS.
    #[arg(short = 'R')]
    reverse_dns_via: bool,
    /// Has no meaning here: a reply whose topmost Via is not ours is never forwarded.
    #[arg(short = 'v')]
    check_via: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Report every problem of a script; nothing is started.
    Check {
        file: PathBuf,
        /// Warnings count as errors.
        #[arg(long)]
        strict: bool,
    },
    /// Run an active and a backup node on this machine, with an embedded database.
    Pair {
        /// Folder for the database, the state and the links; default: under the temporary folder.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Print what modules there are and what they export.
    Modules {
        /// As JSON: the whole export tables.
        #[arg(long)]
        json: bool,
        /// Write the pages of the book that are made from the tables below this folder.
        #[arg(long, value_name = "DIR", conflicts_with = "json")]
        docs: Option<PathBuf>,
    },
    /// The command line of a running node; the same as `tandemctl`.
    #[command(disable_help_flag = true)]
    Ctl {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
}

/// Runs what the command line asks for. `replaces`: called under the name of the server that
/// Tandem replaces, by a start script that knows only its ways.
pub fn main(replaces: bool) -> ExitCode {
    if !replaces && std::env::args_os().len() < 2 {
        let _ = Cli::command().print_help();
        return ExitCode::from(2);
    }
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Check { file, strict }) => {
            let rigour = if strict { Rigour::NoWarnings } else { Rigour::Starts };
            script::check(&file, None, rigour)
        }
        Some(Command::Pair { dir }) => pair::run(dir),
        Some(Command::Modules { docs: Some(dir), .. }) => docs::write(&dir),
        Some(Command::Modules { json, .. }) => tables::print(json),
        Some(Command::Ctl { words }) => {
            tandemctl::run(std::iter::once(OsString::from("tandemctl")).chain(words))
        }
        None => cli.start.run(replaces),
    }
}

impl Start {
    fn run(self, replaces: bool) -> ExitCode {
        if self.version || self.internals {
            print!("{}", build_info::text(self.internals));
            return ExitCode::SUCCESS;
        }
        let file = self
            .file
            .clone()
            .or_else(|| DEFAULT_FILES.iter().map(PathBuf::from).find(|file| file.is_file()));
        let Some(file) = file else {
            let places = DEFAULT_FILES.join(" nor ");
            eprintln!("tandem: there is neither {places}; name a script: tandem -f FILE");
            return ExitCode::FAILURE;
        };
        for note in self.without_meaning.notes() {
            eprintln!("tandem: note: {note}");
        }
        if self.check > 0 || self.check_all > 0 {
            let rigour = if self.check_all > 0 { Rigour::Reached } else { Rigour::Starts };
            return script::check(&file, self.preprocessor.as_deref(), rigour);
        }
        let background =
            !self.foreground && !self.debug && (replaces || self.daemon || self.pid_file.is_some());
        server::run(self.into_options(file), background)
    }

    fn into_options(self, file: PathBuf) -> Options {
        Options {
            file,
            preprocessor: self.preprocessor,
            state_dir: self.state_dir,
            memory_mb: self.memory_mb,
            listen: self.listen,
            udp_workers: self.udp_workers,
            stderr: self.stderr || self.debug,
            debug: self.debug,
            louder: self.louder,
            pid_file: self.pid_file,
            group_file: self.group_file,
            chroot: self.chroot,
            working_dir: self.working_dir,
            user: self.user,
            group: self.group,
        }
    }
}

impl WithoutMeaning {
    /// A line for each option that was given.
    fn notes(&self) -> Vec<String> {
        let command = Cli::command();
        let help = |short: char| {
            let of = |a: &&clap::Arg| a.get_short() == Some(short);
            let arg = command.get_arguments().find(of);
            arg.and_then(|a| a.get_help()).map(ToString::to_string).unwrap_or_default()
        };
        let given = [
            ('N', self.tcp_workers.is_some()),
            ('M', self.private_memory.is_some()),
            ('b', self.receive_buffer.is_some()),
            ('W', self.poll_method.is_some()),
            ('a', self.allocator.is_some()),
            ('s', self.shared_allocator.is_some()),
            ('k', self.private_allocator.is_some()),
            ('e', self.persistent_allocator.is_some()),
            ('r', self.dns_via),
            ('R', self.reverse_dns_via),
            ('v', self.check_via),
        ];
        let given = given.iter().filter(|(_, given)| *given);
        given.map(|(short, _)| format!("-{short} {}", help(*short).to_lowercase())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(words: &str) -> Start {
        let words = std::iter::once("tandem").chain(words.split(' '));
        Cli::try_parse_from(words).unwrap().start
    }

    #[test]
    fn the_line_of_a_start_script_is_taken() {
        let start = start(
            "-P /run/o.pid -f /etc/o.cfg -m 64 -M 4 -u opensips -g opensips -w /tmp -n 4 -N 2 \
             -l udp:127.0.0.1:5060 -l 127.0.0.2 -F -E -dd",
        );
        assert_eq!(start.listen, ["udp:127.0.0.1:5060", "127.0.0.2"]);
        assert_eq!((start.louder, start.foreground, start.udp_workers), (2, true, Some(4)));
        let notes = start.without_meaning.notes();
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(notes.iter().all(|n| n.contains("has no meaning here")), "{notes:?}");
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }
}
