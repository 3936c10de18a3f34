//! Looking through bytes: character classes, trimming, quotes. Nothing here allocates or panics.

use memchr::{memchr2, memchr3};

/// Whitespace inside a header value. CR and LF count, since a folded value keeps them.
#[inline]
pub(crate) const fn is_lws(b: u8) -> bool {
    // Nearly every byte is decided by the first comparison.
    b <= b' ' && matches!(b, b' ' | b'\t' | b'\r' | b'\n')
}

/// `token` characters of RFC 3261 25.1.
#[inline]
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
#[inline]
pub(crate) fn is_token(s: &[u8]) -> bool {
    !s.is_empty() && s.iter().all(|&b| is_token_byte(b))
}

/// `s[from..to]`, empty where the range does not exist.
#[inline]
pub(crate) fn slice(s: &[u8], from: usize, to: usize) -> &[u8] {
    s.get(from..to).unwrap_or_default()
}

/// `s[from..]`, empty where the range does not exist.
#[inline]
pub(crate) fn tail(s: &[u8], from: usize) -> &[u8] {
    s.get(from..).unwrap_or_default()
}

#[inline]
pub(crate) fn trim_start(mut s: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = s
        && is_lws(*first)
    {
        s = rest;
    }
    s
}

#[inline]
pub(crate) fn trim_end(mut s: &[u8]) -> &[u8] {
    while let [rest @ .., last] = s
        && is_lws(*last)
    {
        s = rest;
    }
    s
}

/// `s` without whitespace at both ends. The result still points into `s`, also when it is empty.
#[inline]
pub(crate) fn trim(s: &[u8]) -> &[u8] {
    trim_end(trim_start(s))
}

/// Decimal digits only; `None` if empty, something else, or above `u32::MAX`.
#[inline]
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
#[inline]
pub(crate) fn find_near(s: &[u8], wanted: u8) -> Option<usize> {
    s.iter().position(|b| *b == wanted)
}

/// As `memchr`, where the byte is expected within the length of a line: eight bytes at a time,
/// without the setting up that pays only for more.
#[inline]
pub(crate) fn find_soon(s: &[u8], wanted: u8) -> Option<usize> {
    const SOON: usize = 96;
    let (words, rest) = slice_upto(s, SOON).as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        if let Some(at) = first_in_word(u64::from_le_bytes(*word), wanted) {
            return Some(i * 8 + at);
        }
    }
    let far = words.len() * 8;
    if s.len() <= SOON {
        return find_near(rest, wanted).map(|at| far + at);
    }
    memchr::memchr(wanted, tail(s, far)).map(|at| far + at)
}

/// The first byte of a little-endian word that is `wanted`.
fn first_in_word(word: u64, wanted: u8) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGHS: u64 = u64::from_le_bytes([0x80; 8]);
    // A byte becomes 0 where it is the wanted one; the lowest high bit that this sets is true,
    // those above it may be carries.
    let zeroed = word ^ (ONES * wanted as u64);
    let found = zeroed.wrapping_sub(ONES) & !zeroed & HIGHS;
    (found != 0).then(|| (found.trailing_zeros() / 8) as usize)
}

/// The first `most` bytes, or all there are.
fn slice_upto(s: &[u8], most: usize) -> &[u8] {
    s.get(..most).unwrap_or(s)
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
    // Mostly there is none, or nothing before it that could hide it.
    let first = find_soon(s, wanted)?;
    if memchr2(b'"', b'<', slice(s, 0, first)).is_none() {
        return Some(first);
    }
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
        assert_eq!(quoted_end(br#""\""#), None);
    }

    proptest! {
        #[test]
        fn what_comes_soon_is_found_where_memchr_finds_it(
            s in proptest::collection::vec(0u8..4, 0..300), wanted in 0u8..5,
        ) {
            prop_assert_eq!(find_soon(&s, wanted), memchr::memchr(wanted, &s));
            let wide: Vec<u8> = s.iter().map(|b| b.wrapping_sub(1)).collect();
            let wanted = wanted.wrapping_sub(1);
            prop_assert_eq!(find_soon(&wide, wanted), memchr::memchr(wanted, &wide));
        }

        #[test]
        fn searches_never_panic_and_point_at_what_was_wanted(
            s: Vec<u8>,
            wanted in proptest::sample::select(vec![b',', b';', b'=']),
        ) {
            if let Some(found) = find_outside(&s, wanted) {
                prop_assert_eq!(s.get(found), Some(&wanted));
            }
            let t = trim(&s);
            prop_assert!(t.first().is_none_or(|b| !is_lws(*b)));
            prop_assert!(t.last().is_none_or(|b| !is_lws(*b)));
        }
    }
}
