//! The nearest known name to a misspelt one.

/// The candidate with the least Damerau-Levenshtein distance (adjacent swaps count one), if it
/// is near enough to be a likely slip: a third of the length, at most 3. Case does not count.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_ascii_lowercase();
    if wanted.len() > 64 {
        return None;
    }
    let limit = (wanted.chars().count() / 3).clamp(1, 3);
    let near = candidates
        .filter(|c| c.len() <= 64)
        .map(|c| (distance(wanted.as_bytes(), c.to_ascii_lowercase().as_bytes()), c))
        .filter(|(d, _)| *d <= limit);
    near.min().map(|(_, c)| c)
}

fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut d = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i - 1] == *y && *x == b[j - 1] {
                d = d.min(before[j - 1] + 1);
            }
            row.push(d);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_their_name_and_strangers_do_not() {
        let names = ["lookup", "save", "t_relay", "record_route"];
        assert_eq!(nearest("lokup", names.iter().copied()), Some("lookup"));
        assert_eq!(nearest("t_realy", names.iter().copied()), Some("t_relay"));
        assert_eq!(nearest("recordroute", names.iter().copied()), Some("record_route"));
        assert_eq!(nearest("frobnicate", names.iter().copied()), None);
    }
}
