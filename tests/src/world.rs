//! A world of its own for a test that uses well-known places: its own network, /tmp and /var/lib.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{is_root, program, repository};

/// Says to the process that it lives in such a world.
const INSIDE: &str = "TANDEM_TEST_WORLD";

/// What is done in a fresh world before the test starts in it. The words before `--` are folders
/// that have to stay where they are, also under /tmp.
const SET_UP: &str = r#"set -e
ip link set lo up
keep=3
for folder; do
	[ "$folder" = -- ] && break
	case $folder in /tmp/*) eval "exec $keep<\"\$folder\"" ;; esac
	keep=$((keep + 1))
done
mount -t tmpfs tandem /tmp
mount -t tmpfs tandem /var/lib
mkdir /var/lib/opensips
keep=3
while [ "$1" != -- ]; do
	case $1 in /tmp/*)
		mkdir -p "$1"
		mount --no-canonicalize --bind "/proc/self/fd/$keep" "$1" ;;
	esac
	keep=$((keep + 1))
	shift
done
shift
exec "$@"
"#;

/// Whether this process lives in a world of its own. If not, the test with this name is run
/// again in one, and the caller has nothing left to do.
///
/// # Panics
/// If the test fails there, or namespaces cannot be made: that takes root.
#[must_use]
pub fn in_own_world(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    assert!(is_root(), "{test}: only root can make namespaces");
    let own = std::env::current_exe().expect("a test knows its program");
    let folder = |path: &Path| path.parent().map_or(PathBuf::from("/"), Path::to_path_buf);
    let mut keep = vec![repository().to_path_buf(), folder(&own), folder(&program())];
    // What lies within another of them stays with it.
    keep.sort();
    keep.dedup_by(|inner, outer| inner.starts_with(&*outer));
    let ended = Command::new("unshare")
        .args(["--net", "--mount", "--", "sh", "-c", SET_UP, "world"])
        .args(keep)
        .arg("--")
        .arg(&own)
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .status()
        .expect("unshare is part of util-linux");
    assert!(ended.success(), "{test}, in a world of its own: {ended}");
    false
}
