//! What a server gives up when its sockets are open: the rights of root.

use std::io;
use std::path::Path;

use nix::unistd::{Gid, Group, Uid, User};

/// A user and a group to become. Either may be a name or a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// For the groups a user is also in.
    name: Option<String>,
}

impl Identity {
    /// Looks both up. A user without a group given brings its own.
    ///
    /// # Errors
    /// A name that the system does not know.
    pub fn find(user: Option<&str>, group: Option<&str>) -> Result<Self, String> {
        let user = user.map(find_user).transpose()?;
        let gid = match (group.map(find_group).transpose()?, &user) {
            (Some(gid), _) => Some(gid),
            (None, Some((_, own, _))) => *own,
            (None, None) => None,
        };
        let uid = user.as_ref().map(|u| u.0);
        Ok(Self { uid, gid, name: user.and_then(|u| u.2) })
    }

    /// Becomes it, for good. The group first: afterwards there is no right to change it.
    ///
    /// # Errors
    /// What the system refuses, mostly because the process is not root.
    pub fn assume(&self) -> io::Result<()> {
        if let Some(gid) = self.gid {
            if let (Some(name), true) = (&self.name, Uid::effective().is_root()) {
                let name = std::ffi::CString::new(name.as_str())?;
                nix::unistd::initgroups(&name, Gid::from_raw(gid))?;
            }
            nix::unistd::setgid(Gid::from_raw(gid))?;
        }
        if let Some(uid) = self.uid {
            nix::unistd::setuid(Uid::from_raw(uid))?;
        }
        Ok(())
    }
}

fn find_user(text: &str) -> Result<(u32, Option<u32>, Option<String>), String> {
    let found = match text.parse() {
        Ok(uid) => match User::from_uid(Uid::from_raw(uid)).ok().flatten() {
            Some(user) => Some(user),
            None => return Ok((uid, None, None)),
        },
        Err(_) => User::from_name(text).ok().flatten(),
    };
    let user = found.ok_or_else(|| format!("there is no user `{text}`"))?;
    Ok((user.uid.as_raw(), Some(user.gid.as_raw()), Some(user.name)))
}

fn find_group(text: &str) -> Result<u32, String> {
    if let Ok(gid) = text.parse() {
        return Ok(gid);
    }
    let group = Group::from_name(text).ok().flatten();
    group.map(|g| g.gid.as_raw()).ok_or_else(|| format!("there is no group `{text}`"))
}

/// Makes `dir` the root folder of this process.
///
/// # Errors
/// What the system refuses.
pub fn change_root(dir: &Path) -> io::Result<()> {
    nix::unistd::chroot(dir)?;
    std::env::set_current_dir("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_found_and_strangers_are_not() {
        let root = Identity::find(Some("root"), None).unwrap();
        assert_eq!((root.uid, root.gid), (Some(0), Some(0)));
        let numbers = Identity::find(Some("65000"), Some("65001")).unwrap();
        assert_eq!((numbers.uid, numbers.gid), (Some(65000), Some(65001)));
        assert!(Identity::find(Some("no-such-user"), None).unwrap_err().contains("no-such-user"));
        assert!(Identity::find(None, Some("no-such-group")).is_err());
    }
}
