//! The folder of the node's own state.

use std::path::PathBuf;

use tandem_engine::node::Node;

/// The largest state file that is read.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Where state files are: `--state-dir`, the global `state_dir`, `$STATE_DIRECTORY`, else
/// `/var/lib/tandem`; a folder per node id below it.
pub(super) struct StateDir(PathBuf);

impl StateDir {
    pub(super) fn choose(node: &Node, given: Option<PathBuf>) -> Self {
        let global = match node.program.global("state_dir") {
            Some(tandem_script::program::Setting::Str(dir)) => Some(PathBuf::from(dir)),
            _ => None,
        };
        let environment = || {
            let value = std::env::var_os("STATE_DIRECTORY")?;
            // systemd may name several folders, separated by colons.
            value.to_str()?.split(':').next().filter(|s| !s.is_empty()).map(PathBuf::from)
        };
        let base = given
            .or(global)
            .or_else(environment)
            .unwrap_or_else(|| PathBuf::from("/var/lib/tandem"));
        Self(base.join(format!("node-{}", node.membership().node_id())))
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
