//! Limits of the process that a script asks for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tandem_engine::node::Node;
use tandem_script::program::Setting;

/// Asks for memory in small pages. Transactions come and go all over the heap; with huge pages the
/// kernel clears two megabytes where a few kilobytes are used, which took a sixth of the time of
/// calls. A kernel that knows no huge pages refuses, which is as good.
pub(super) fn use_small_pages() {
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// Sets `open_files_limit` and `disable_core_dump`.
///
/// # Errors
/// What the system refuses, and what to do about it.
pub(super) fn set(node: &Node) -> Result<(), String> {
    let int = |name: &str| match node.program.global(name) {
        Some(Setting::Int(n)) => Some(*n),
        _ => None,
    };
    if let Some(files) = int("open_files_limit").and_then(|n| u64::try_from(n).ok()) {
        let now = getrlimit(Resource::Nofile);
        let hard = now.maximum.map_or(files, |max| max.max(files));
        let wanted = Rlimit { current: Some(files), maximum: now.maximum.map(|_| hard) };
        setrlimit(Resource::Nofile, wanted).map_err(|e| {
            format!(
                "tandem: open_files_limit={files} is refused: {e}; lower it, or raise the hard \
                 limit of the service (LimitNOFILE= of systemd)"
            )
        })?;
    }
    if int("disable_core_dump").is_some_and(|n| n != 0) {
        let none = Rlimit { current: Some(0), maximum: Some(0) };
        setrlimit(Resource::Core, none).map_err(|e| format!("tandem: disable_core_dump: {e}"))?;
    }
    Ok(())
}

/// Descriptors for everything but the connections of phones: sockets, databases, management, peers,
/// files.
const OTHER_FILES: u64 = 256;

/// How many connections of `wanted` may be open at the same time, and what is to be said if fewer.
/// When phones (or strangers) hold every descriptor, nothing else can be opened: no database, no
/// answer to a command, no link to a peer.
pub(super) fn connections(wanted: usize) -> (usize, Option<String>) {
    share(wanted, getrlimit(Resource::Nofile).current)
}

/// The connections' part of so many descriptors.
fn share(wanted: usize, files: Option<u64>) -> (usize, Option<String>) {
    let Some(files) = files else { return (wanted, None) };
    let most = files.saturating_sub(OTHER_FILES).max(files / 4);
    match usize::try_from(most) {
        Ok(most) if most < wanted => {
            let text = format!(
                "this process may open {files} files: at most {most} TCP connections are taken, \
                 and not {wanted}; raise its limit (LimitNOFILE= of systemd, open_files_limit), or \
                 lower tcp_max_connections"
            );
            (most, Some(text))
        }
        _ => (wanted, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_the_rest() {
        assert_eq!(share(2304, None), (2304, None));
        assert_eq!(share(2304, Some(2560)), (2304, None));
        let (most, said) = share(2304, Some(1024));
        assert_eq!(most, 768);
        assert!(said.is_some_and(|text| text.contains("1024") && text.contains("768")));
        assert_eq!(share(2304, Some(64)).0, 16);
    }
}
