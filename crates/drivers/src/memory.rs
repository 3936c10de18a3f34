//! How much memory the process uses, and how much the host has.

/// Bytes of the process that are in memory now.
pub fn resident() -> Option<u64> {
    kib_of("/proc/self/status", "VmRSS:")
}

/// Bytes that wait in the receive buffers of the UDP sockets on these ports.
pub fn waiting_udp(ports: &[u16]) -> u64 {
    waiting(["/proc/net/udp", "/proc/net/udp6"], ports)
}

/// Bytes that wait in the connections to these ports.
pub fn waiting_tcp(ports: &[u16]) -> u64 {
    waiting(["/proc/net/tcp", "/proc/net/tcp6"], ports)
}

fn waiting(files: [&str; 2], ports: &[u16]) -> u64 {
    if ports.is_empty() {
        return 0;
    }
    let texts = files.iter().filter_map(|file| std::fs::read_to_string(file).ok());
    texts.map(|text| text.lines().filter_map(|line| waiting_of(line, ports)).sum::<u64>()).sum()
}

/// Of one line: `sl local_address rem_address st tx_queue:rx_queue ...`, all in hex.
fn waiting_of(line: &str, ports: &[u16]) -> Option<u64> {
    let mut fields = line.split_whitespace().skip(1);
    let (_, port) = fields.next()?.rsplit_once(':')?;
    let (_, waiting) = fields.nth(2)?.split_once(':')?;
    let is_ours = ports.contains(&u16::from_str_radix(port, 16).ok()?);
    is_ours.then(|| u64::from_str_radix(waiting, 16).ok())?
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
    fn what_waits_in_a_socket_is_seen() {
        let line = "  25: 0100007F:13C4 00000000:0000 07 00000000:00000A00 00:00000000 00000000 0";
        assert_eq!(waiting_of(line, &[5060]), Some(0xa00));
        assert_eq!(waiting_of(line, &[5061]), None);
        assert_eq!(
            waiting_of("  sl  local_address rem_address   st tx_queue rx_queue", &[1]),
            None
        );
    }

    #[test]
    fn a_process_uses_memory_and_less_than_the_host_has() {
        let (used, all) = (resident().unwrap(), installed().unwrap());
        assert!(used > 100_000 && used < all, "{used} of {all}");
    }
}
