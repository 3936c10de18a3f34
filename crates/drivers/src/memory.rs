//! How much memory the process uses, and how much the host has.

/// Bytes of the process that are in memory now.
pub fn resident() -> Option<u64> {
    kib_of("/proc/self/status", "VmRSS:")
}

/// Bytes that the host has.
pub fn installed() -> Option<u64> {
    kib_of("/proc/meminfo", "MemTotal:")
}

/// A line `NAME: NUMBER kB` of proc(5), in bytes.
fn kib_of(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix(name))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_uses_memory_and_less_than_the_host_has() {
        let (used, all) = (resident().unwrap(), installed().unwrap());
        assert!(used > 100_000 && used < all, "{used} of {all}");
    }
}
