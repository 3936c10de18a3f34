//! A small disk, which can be full.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use crate::ctl::run;

/// A file system of a few megabytes in memory. It is unmounted at the end.
#[derive(Debug)]
pub(super) struct Small {
    at: PathBuf,
}

impl Small {
    /// Mounts one at a folder, which is made.
    pub(super) fn mount(at: PathBuf, megabytes: u32) -> Self {
        std::fs::create_dir_all(&at).unwrap_or_else(|e| panic!("{}: {e}", at.display()));
        let size = format!("size={megabytes}m");
        let words = ["-t", "tmpfs", "-o", &size, "small"];
        let done = run(Command::new("mount").args(words).arg(&at));
        assert_eq!(done.status, 0, "mount: {}", done.stderr);
        Self { at }
    }

    /// Fills it to the last byte, or makes room again.
    pub(super) fn fill(&self, fill: bool) {
        let file = self.at.join("filled");
        if !fill {
            let _ = std::fs::remove_file(file);
            return;
        }
        let opened = File::options().create(true).append(true).open(&file);
        let mut file = opened.unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        for bytes in [65_536, 4_096, 1] {
            while file.write_all(&vec![0; bytes]).is_ok() {}
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}
