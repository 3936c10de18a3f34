//! Looking through bytes: character classes, trimming, quotes. Nothing here allocates or panics.

use memchr::{memchr2, memchr3};

/// Whitespace inside a header value. CR and LF count, since a folded value keeps them.
pub(crate) const fn is_lws(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | b'\n')
}

/// `token` characters of RFC 3261 25.1.
#[expect(clippy::indexing_slicing, reason = "the table has a place for each byte")]
pub(crate) const fn is_token_byte(b: u8) -> bool {
    TOKEN[b as usize]
}

/// Looked up, because every message has some hundred of them.
#[expect(clippy::indexing_slicing, reason = "the table has a place for each byte")]
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0u8;
    loop {
        table[b as usize] = b.is_ascii_alphanumeric()
            || matches!(b, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~');
        if b == u8::MAX {
            break table;
        }
        b += 1;
    }
};

/// `true` for a `token`: at least one character and all of them token characters.
pub(crate) fn is_token(s: &[u8]) -> bool {
    !s.is_empty() && s.iter().all(|&b| is_token_byte(b))
}

/// `s[from..to]`, empty where the range does not exist.
pub(crate) fn slice(s: &[u8], from: usize, to: usize) -> &[u8] {
    s.get(from..to).unwrap_or_default()
}

/// `s[from..]`, empty where the range does not exist.
pub(crate) fn tail(s: &[u8], from: usize) -> &[u8] {
    s.get(from..).unwrap_or_default()
}

pub(crate) fn trim_start(mut s: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = s
        && is_lws(*first)
    {
        s = rest;
    }
    s
}

pub(crate) fn trim_end(mut s: &[u8]) -> &[u8] {
    while let [rest @ .., last] = s
        && is_lws(*last)
    {
        s = rest;
    }
    s
}

/// `s` without whitespace at both ends. The result still points into `s`, also when it is empty.
pub(crate) fn trim(s: &[u8]) -> &[u8] {
    trim_end(trim_start(s))
}

/// Decimal digits only; `None` if empty, something else, or above `u32::MAX`.
pub(crate) fn parse_u32(s: &[u8]) -> Option<u32> {
    if s.is_empty() {
        return None;
    }
    s.iter().try_fold(0u32, |n, &b| {
        let digit = b.is_ascii_digit().then(|| u32::from(b - b'0'))?;
        n.checked_mul(10)?.checked_add(digit)
    })
}

/// As `memchr`, for texts of a few bytes, where setting that up costs more than looking.
pub(crate) fn find_near(s: &[u8], wanted: u8) -> Option<usize> {
    s.iter().position(|b| *b == wanted)
}

/// Offset just behind the quote that closes the quoted string starting at `s[0]`.
pub(crate) fn quoted_end(s: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        let found = at + memchr2(b'"', b'\\', s.get(at..)?)?;
        match s.get(found)? {
            b'"' => return Some(found + 1),
            _ => at = found + 2,
        }
    }
}

/// First `wanted` byte outside of quoted strings and `<...>`. An unclosed quote or bracket hides
/// everything behind it.
pub(crate) fn find_outside(s: &[u8], wanted: u8) -> Option<usize> {
    let mut at = 0;
    loop {
        let rest = s.get(at..)?;
        let found = memchr3(wanted, b'"', b'<', rest)?;
        let from = rest.get(found..)?;
        match from.first()? {
            b'"' => at += found + quoted_end(from)?,
            b'<' => at += found + memchr::memchr(b'>', from)? + 1,
            _ => return Some(at + found),
        }
    }
}

/// First `wanted` byte outside of quoted strings.
pub(crate) fn find_unquoted(s: &[u8], wanted: u8) -> Option<usize> {
    let mut at = 0;
    loop {
        let rest = s.get(at..)?;
        let found = memchr2(wanted, b'"', rest)?;
        let from = rest.get(found..)?;
        if from.first() == Some(&wanted) {
            return Some(at + found);
        }
        at += found + quoted_end(from)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_digits_that_fit() {
        assert_eq!(parse_u32(b"4294967295"), Some(u32::MAX));
        for wrong in [&b""[..], b"4294967296", b"-1", b"+1", b"1a", b" 1"] {
            assert_eq!(parse_u32(wrong), None);
        }
    }

    #[test]
    fn quotes_and_brackets_hide_separators() {
        assert_eq!(find_outside(br#""a\",b" <x,y>,z"#, b','), Some(13));
        assert_eq!(find_outside(b"\"a,b", b','), None);
        assert_eq!(find_outside(b"<a,b", b','), None);
        assert_eq!(find_unquoted(br#"a=";";b"#, b';'), Some(5));
        assert_eq!(quoted_end(br#""\""#), None);
    }

    proptest! {
        #[test]
        fn searches_never_panic_and_point_at_what_was_wanted(
            s: Vec<u8>,
            wanted in proptest::sample::select(vec![b',', b';', b'=']),
        ) {
            let all = [find_outside(&s, wanted), find_unquoted(&s, wanted)];
            for found in all.into_iter().flatten() {
                prop_assert_eq!(s.get(found), Some(&wanted));
            }
            let t = trim(&s);
            prop_assert!(t.first().is_none_or(|b| !is_lws(*b)));
            prop_assert!(t.last().is_none_or(|b| !is_lws(*b)));
        }
    }
}
