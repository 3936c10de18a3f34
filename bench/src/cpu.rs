//! Processor time and memory of a server: of its process, all its threads and all its children.

use std::fs;

/// Processor time in ns that the process, its threads and its descendants have used so far.
///
/// The scheduler's own account (`/proc/PID/task/*/schedstat`, in ns, user and system together) is
/// read; where the kernel does not keep it, `/proc/PID/stat` in ticks of 10 ms.
pub(crate) fn time_ns(pid: u32) -> u64 {
    family(pid).into_iter().map(|p| scheduled_ns(p).unwrap_or_else(|| ticks_ns(p))).sum()
}

/// Memory in bytes that the process and its descendants hold; what they share counts once.
pub(crate) fn memory_bytes(pid: u32) -> u64 {
    family(pid).into_iter().filter_map(proportional_bytes).sum()
}

fn proportional_bytes(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    Some(line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()? * 1024)
}

/// The process and its descendants.
fn family(root: u32) -> Vec<u32> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    let parents: Vec<(u32, u32)> = pids.filter_map(|p| Some((p, parent(p)?))).collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(parents.iter().filter(|(_, p)| *p == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found
}

fn parent(pid: u32) -> Option<u32> {
    stat_fields(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?).nth(1)?.parse().ok()
}

/// Fields from the third (the state) on; the name before may contain anything.
fn stat_fields(stat: &str) -> impl Iterator<Item = &str> {
    stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace()
}

fn scheduled_ns(pid: u32) -> Option<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        // A thread may end between the listing and the reading.
        let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else { continue };
        sum += text.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    (sum > 0).then_some(sum)
}

fn ticks_ns(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    parse_ticks(&stat).unwrap_or_default() * 10_000_000
}

/// utime + stime, fields 14 and 15.
fn parse_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat_fields(stat).skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_system_time_are_found_behind_any_name() {
        let stat = "42 (a) b 7) S 1 42 42 0 -1 4194560 1 2 3 4 250 130 0 0 20 0 1 0 9";
        assert_eq!(parse_ticks(stat), Some(380));
        assert_eq!(parse_ticks(""), None);
        assert_eq!(stat_fields(stat).nth(1), Some("1"));
    }
}
