//! What `-V` and `-I` print.

use std::fmt::Write as _;

/// Version and build; with `internals` also the limits and choices that are fixed at build time.
pub fn text(internals: bool) -> String {
    let (arch, os) = (std::env::consts::ARCH, std::env::consts::OS);
    let version = env!("CARGO_PKG_VERSION");
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let mut text = format!("version: tandem {version} ({arch}/{os})\n");
    let _ = writeln!(text, "build: {profile}, {} modules", crate::modules().len());
    if internals {
        let allocator = if cfg!(feature = "mimalloc") { "mimalloc" } else { "system" };
        let _ = writeln!(text, "allocator: {allocator}");
        let _ = writeln!(text, "poll method: epoll, batches by recvmmsg and sendmmsg");
        let names: Vec<&str> = crate::modules().iter().map(|m| m.name).collect();
        let _ = writeln!(text, "modules: {}", names.join(" "));
    }
    text
}
