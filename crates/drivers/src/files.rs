//! State files: small files that must be there, whole, after a crash.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Replaces a file so that a crash at any moment leaves the old contents or the new ones, and
/// when this returns, the new ones: a temporary file beside it, fsync, rename, fsync of the
/// directory. Blocks on the disk. Two writers of one path must not run at the same time. The file
/// is readable by its owner only.
pub fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary_path(path)?;
    let written = write_new(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // What is left over is overwritten by the next attempt; removing it is only tidy.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    File::open(directory_of(path))?.sync_all()
}

/// The contents of a file of at most `bytes_max`, or None when there is no such file.
pub fn read(path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is too large"));
    }
    Ok(Some(bytes))
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn temporary_path(path: &Path) -> io::Result<PathBuf> {
    let no_name = || io::Error::new(io::ErrorKind::InvalidInput, "the path names no file");
    let mut name = OsString::from(".");
    name.push(path.file_name().ok_or_else(no_name)?);
    name.push(".new");
    Ok(path.with_file_name(name))
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("tandem-files-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("directory");
        path
    }

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_beside_it() {
        let directory = directory("replace");
        let path = directory.join("tags");
        assert_eq!(read(&path, 100).expect("read"), None);
        write_durably(&path, b"one, and longer").expect("write");
        write_durably(&path, b"two").expect("write");
        assert_eq!(read(&path, 100).expect("read").as_deref(), Some(&b"two"[..]));
        assert_eq!(fs::read_dir(&directory).expect("list").count(), 1);
        fs::remove_dir_all(directory).expect("clean up");
    }

    #[test]
    fn a_write_that_fails_keeps_the_old_file() {
        let directory = directory("fails");
        let path = directory.join("tags");
        fs::create_dir_all(path.join("inside")).expect("a directory is in the way");
        assert!(write_durably(&path, b"x").is_err());
        assert_eq!(fs::read_dir(&directory).expect("list").count(), 1);
        assert!(write_durably(&directory.join("missing/tags"), b"x").is_err());
        assert!(write_durably(Path::new("/"), b"x").is_err());
        fs::remove_dir_all(directory).expect("clean up");
    }

    #[test]
    fn a_file_over_the_limit_is_an_error() {
        let directory = directory("large");
        let path = directory.join("tags");
        write_durably(&path, &[0; 11]).expect("write");
        assert!(read(&path, 10).is_err());
        assert!(read(&path, 11).is_ok());
        fs::remove_dir_all(directory).expect("clean up");
    }
}
