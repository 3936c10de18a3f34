//! A folder of files that only grow, until they are removed.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Files kept open.
const OPEN_MAX: usize = 8;
/// The largest file that is read.
const BYTES_MAX: u64 = 16 << 20;

/// See the module. Everything but [`sync`] takes as long as the page cache does.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    open: BTreeMap<String, File>,
}

impl Spool {
    /// The folder is made with the first file.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), open: BTreeMap::new() }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Adds to the end of a file, all of it or nothing; the file, for [`sync`].
    ///
    /// # Errors
    /// Why nothing was added: the disk is full, the folder cannot be written.
    pub fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<&File> {
        if !self.open.contains_key(name) {
            let file = self.opened(name)?;
            while self.open.len() >= OPEN_MAX {
                self.open.pop_first();
            }
            self.open.insert(name.to_owned(), file);
        }
        let gone = || io::Error::other("the file is not open");
        let file = self.open.get_mut(name).ok_or_else(gone)?;
        if bytes.is_empty() {
            return Ok(file);
        }
        let before = file.metadata()?.len();
        if let Err(error) = file.write_all(bytes) {
            // Half a line would spoil the next one.
            file.set_len(before)?;
            return Err(error);
        }
        Ok(file)
    }

    /// The contents; `None`: there is no such file.
    ///
    /// # Errors
    /// As for any file.
    pub fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        crate::files::read(&self.path(name)?, BYTES_MAX)
    }

    /// Removes a file, which may be missing.
    ///
    /// # Errors
    /// As for any file.
    pub fn remove(&mut self, name: &str) -> io::Result<()> {
        self.open.remove(name);
        match fs::remove_file(self.path(name)?) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The names of all files, in no order.
    ///
    /// # Errors
    /// When the folder is there and cannot be read.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn opened(&self, name: &str) -> io::Result<File> {
        let path = self.path(name)?;
        fs::create_dir_all(&self.folder)?;
        OpenOptions::new().append(true).create(true).mode(0o600).open(path)
    }

    fn path(&self, name: &str) -> io::Result<PathBuf> {
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            let text = format!("`{name}` is no name of a file");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(self.folder.join(name))
    }
}

/// Waits until what was added to a file would survive a power cut, its name included.
///
/// # Errors
/// As for any file.
pub fn sync(file: &File, folder: &Path) -> io::Result<()> {
    file.sync_data()?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_grow_until_they_are_removed() {
        let name = format!("tandem-spool-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let mut spool = Spool::new(&folder);
        assert_eq!(spool.names().unwrap(), Vec::<String>::new());
        assert_eq!(spool.read("a").unwrap(), None);
        spool.append("a", b"one\n").unwrap();
        let file = spool.append("a", b"two\n").unwrap().try_clone().unwrap();
        sync(&file, &folder).unwrap();
        assert_eq!(Spool::new(&folder).read("a").unwrap().unwrap(), b"one\ntwo\n");
        assert_eq!(spool.names().unwrap(), ["a"]);
        spool.remove("a").unwrap();
        spool.remove("a").unwrap();
        spool.append("a", b"new").unwrap();
        assert_eq!(spool.read("a").unwrap().unwrap(), b"new");
        assert!(spool.append("../b", b"x").is_err());
        fs::remove_dir_all(folder).unwrap();
    }
}
