//! Accept of a SUBSCRIBE: whether the watcher reads what his NOTIFYs would hold.

use tandem_engine::module::Call;
use tandem_sip::{HeaderName, Params};

/// Whether a request admits bodies of a type; where it says nothing of types, those of its package
/// (RFC 6665 4.1.2.1). A header that the script has taken out does not count.
pub(crate) fn admits(call: &Call<'_, '_, '_>, kind: &str) -> bool {
    let (msg, edits) = (&call.ctx.msg, &call.ctx.edits);
    let mut headers =
        msg.headers(HeaderName::Accept).filter(|h| !edits.touches(h.span())).peekable();
    headers.peek().is_none() || lists(headers.flat_map(|h| h.values()).map(|v| v.bytes), kind)
}

/// Whether a list of types has this one: what names it most closely counts, and nothing with a q
/// of 0 (RFC 3261 20.1, RFC 2616 14.1).
fn lists<'a>(ranges: impl Iterator<Item = &'a [u8]>, kind: &str) -> bool {
    let Some((group, _)) = kind.split_once('/') else { return true };
    let group = format!("{group}/*");
    let closeness = |range: &[u8]| match range {
        range if range.eq_ignore_ascii_case(kind.as_bytes()) => Some(2),
        range if range.eq_ignore_ascii_case(group.as_bytes()) => Some(1),
        b"*/*" => Some(0),
        _ => None,
    };
    let named = ranges.filter_map(|value| {
        let end = value.iter().position(|b| *b == b';').unwrap_or(value.len());
        let (range, params) = value.split_at_checked(end)?;
        let q = Params::new(params).value(b"q").unwrap_or(b"1");
        let is_wanted = q.iter().any(|b| (b'1'..=b'9').contains(b));
        Some((closeness(range.trim_ascii())?, is_wanted))
    });
    named.max().is_some_and(|(_, is_wanted)| is_wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_closest_range_counts() {
        let pidf = "application/pidf+xml";
        let has = |list: &str| lists(list.split(',').map(str::as_bytes), pidf);
        for list in [
            "application/pidf+xml",
            "text/plain, Application/PIDF+XML ; charset=utf-8",
            "*/*",
            "application/* ;q=0.1",
            "*/*;q=0,application/*",
        ] {
            assert!(has(list), "{list}");
        }
        for list in [
            "",
            "text/plain",
            "application/pidf",
            "application/pidf+xml;q=0",
            "*/*, application/pidf+xml;q=0.0",
            "text/*",
            "*",
        ] {
            assert!(!has(list), "{list}");
        }
    }

    proptest! {
        #[test]
        fn no_list_panics(value in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = lists(std::iter::once(&value[..]), "application/pidf+xml");
        }
    }
}
