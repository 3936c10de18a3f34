//! The folder of the node's own state.

use std::path::{Path, PathBuf};

use tandem_engine::node::Node;

/// The largest state file that is read.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Where state files are: `--state-dir`, the global `state_dir`, `$STATE_DIRECTORY`, else
/// `/var/lib/tandem`; a folder per node id below it, or per script without one.
pub(super) struct StateDir(PathBuf);

impl StateDir {
    pub(super) fn choose(node: &Node, given: Option<PathBuf>, script: &Path) -> Self {
        let global = match node.program.global("state_dir") {
            Some(tandem_script::program::Setting::Str(dir)) => Some(PathBuf::from(dir)),
            _ => None,
        };
        let environment = || {
            let value = std::env::var_os("STATE_DIRECTORY")?;
            // systemd may name several folders, separated by colons.
            value.to_str()?.split(':').next().filter(|s| !s.is_empty()).map(PathBuf::from)
        };
        let chosen = given.or(global).or_else(environment);
        let is_shared = chosen.is_none();
        let base = chosen.unwrap_or_else(|| PathBuf::from("/var/lib/tandem"));
        let folder = match node.membership().node_id() {
            // Nodes without an id may be many on one machine.
            0 if is_shared => {
                format!("alone-{:08x}", crc32fast::hash(script.as_os_str().as_encoded_bytes()))
            }
            id => format!("node-{id}"),
        };
        Self(base.join(folder))
    }

    /// Where the files of modules are that only grow.
    pub(super) fn spool(&self) -> PathBuf {
        self.0.join("spool")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        let path = self.path(name);
        tandem_drivers::files::read(&path, FILE_BYTES_MAX)
            .map_err(|e| format!("cannot read {}: {e}", path.display()))
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), String> {
        let path = self.path(name);
        std::fs::create_dir_all(&self.0)
            .and_then(|()| tandem_drivers::files::write_durably(&path, bytes))
            .map_err(|e| format!("cannot write {}: {e}", path.display()))
    }
}
