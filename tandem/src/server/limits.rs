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
