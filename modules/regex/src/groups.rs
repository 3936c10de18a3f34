//! The file of groups: `[0]` begins a group, then an expression a line.

use crate::pcre::{Flags, Pcre};

/// Limits of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) groups: usize,
    /// Of the lines of one group together.
    pub(crate) group_bytes: usize,
}

/// Reads the groups of a file; a number that is not there has no expression.
///
/// # Errors
/// The first thing that is wrong, with its line.
pub(crate) fn parse(text: &str, flags: Flags, limits: Limits) -> Result<Vec<Option<Pcre>>, String> {
    let mut lines: Vec<Vec<&str>> = Vec::new();
    let mut present: Option<usize> = None;
    for (number, line) in text.lines().enumerate() {
        let number = number + 1;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(group) = header(line) {
            if group >= limits.groups {
                let most = limits.groups;
                return Err(format!("line {number}: at most {most} groups are read (max_groups)"));
            }
            present = Some(group);
            if lines.len() <= group {
                lines.resize(group + 1, Vec::new());
            }
            continue;
        }
        let group = present.and_then(|group| lines.get_mut(group));
        let group = group.ok_or_else(|| format!("line {number}: it stands in no group"))?;
        group.push(line);
        if group.iter().map(|line| line.len() + 3).sum::<usize>() > limits.group_bytes {
            return Err(format!("line {number}: the group is too large (group_max_size)"));
        }
    }
    lines
        .into_iter()
        .enumerate()
        .map(|(group, lines)| {
            if lines.is_empty() {
                return Ok(None);
            }
            let joined = lines.iter().map(|line| format!("({line})")).collect::<Vec<_>>();
            let compiled = Pcre::compile(&joined.join("|"), flags);
            compiled.map(Some).map_err(|why| format!("group {group}: {why}"))
        })
        .collect()
}

fn header(line: &str) -> Option<usize> {
    line.strip_prefix('[')?.strip_suffix(']')?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { groups: 3, group_bytes: 40 };

    #[test]
    fn groups_are_alternatives() {
        let read = parse("# x\n[0]\n^a\n^b\n\n[2]\nz$\n", Flags::default(), LIMITS).unwrap();
        let has = |group: usize, text: &str| {
            read[group].as_ref().is_some_and(|re| re.is_match(text.as_bytes()).unwrap())
        };
        assert!(has(0, "ax") && has(0, "bx") && !has(0, "cx") && !has(1, "") && has(2, "z"));
        for wrong in ["a", "[3]\na", "[0]\n(", "[0]\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"] {
            assert!(parse(wrong, Flags::default(), LIMITS).is_err(), "{wrong}");
        }
    }
}
