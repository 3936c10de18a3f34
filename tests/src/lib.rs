//! End-to-end tests: real processes, real phones.
//!
//! A [`Site`] is a folder, a network of its own in 127.0.0.0/8 and the hot standby pair of
//! `examples/` rewritten to live there, so that any number of tests run side by side. What a test
//! started ends with it, also when it fails; then the last lines of every node are printed.
//!
//! The program under test is `$TANDEM_BIN`, else `tandem` of the release profile beside the
//! tests. Nothing here sleeps for a fixed time: [`wait_for`] polls until a deadline.

mod calls;
mod certificates;
mod crowd;
mod ctl;
mod dialog;
mod digest;
mod dns;
mod dump;
mod fifo;
pub mod freeswitch;
mod lan;
mod machine;
mod message;
mod network;
mod node;
mod opensips_cli;
mod phone;
mod process;
pub mod radius;
pub mod routes;
mod servers;
mod site;
mod soak;
mod standby;
mod stream;
mod tools;
mod user;
mod world;

pub use calls::{Exchange, Plan, uptime_ms};
pub use certificates::certificates;
pub use crowd::Crowd;
pub use ctl::{Answer, Ctl};
pub use dialog::Dialog;
pub use digest::authorization;
pub use dns::{DnsServer, Said};
pub use dump::{assert_same_contacts, contacts};
pub use fifo::{exchange, mi};
pub use lan::{ELECTION, Inside, Lan, is_root};
pub use machine::{Machine, SERVICE};
pub use message::Message;
pub use network::Network;
pub use node::Node;
pub use opensips_cli::OpensipsCli;
pub use phone::{Phone, Ping};
pub use process::{Ended, Process, is_alive, signal_to, tail};
pub use servers::{DbServer, Kind};
pub use site::{NODE_1, NODE_2, Site};
pub use soak::{Counts, RUN_OUT, Reading, Soak};
pub use standby::{Blow, Deed, PHONES, Phones, Standby, Store, Tally};
pub use stream::stream;
pub use tools::{sipp, sipsak, start_sipp};
pub use user::{Subscription, User};
pub use world::in_own_world;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long anything may take that should take no time, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// The time, which a test of real processes has to read from the machine.
#[expect(clippy::disallowed_methods, reason = "real processes run on real time")]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// Rests between two looks at a condition.
#[expect(clippy::disallowed_methods, reason = "polling a real process; no test waits a fixed time")]
pub(crate) fn breathe() {
    std::thread::sleep(Duration::from_millis(20));
}

/// Looks again and again until `look` finds something.
///
/// # Panics
/// If it has found nothing after `patience`.
pub fn wait_for<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(now() < deadline, "not within {patience:?}: {what}");
        breathe();
    }
}

/// Looks again and again until the condition holds.
///
/// # Panics
/// If it does not hold after `patience`.
pub fn wait_until(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
    wait_for(what, patience, || holds().then_some(()));
}

/// The program under test.
///
/// # Panics
/// If it was not built.
#[must_use]
pub fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("TANDEM_BIN") {
        let path = PathBuf::from(path);
        return path.canonicalize().unwrap_or_else(|e| panic!("TANDEM_BIN {path:?}: {e}"));
    }
    // target/PROFILE/deps/test-binary
    let own = std::env::current_exe().unwrap_or_default();
    let target = own.ancestors().nth(3).unwrap_or(Path::new("target"));
    let path = target.join("release/tandem");
    assert!(path.is_file(), "{} is missing: run `cargo build --release` first", path.display());
    path
}

/// The root of the repository.
#[must_use]
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"))
}
