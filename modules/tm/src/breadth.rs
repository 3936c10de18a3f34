//! How far a request may fork that comes by again (RFC 5393).
//!
//! Two users who are registered at each other's address of record make a tree of every call, which
//! doubles each time it comes by, until hops run out. A fork that may be part of such a tree gets a
//! Max-Breadth, which branches divide among themselves; one that has come by often forks no more.
//! Other requests carry no such header, and one that a caller has sent is always heeded.

use tandem_engine::context::Ctx;
use tandem_engine::sockets::Sockets;
use tandem_sip::Message;

use crate::draft::{Draft, Way};
use crate::relay::Failure;

const HEADER: &[u8] = b"Max-Breadth";
/// What a request may fork into that says nothing of it (RFC 5393 5.3.3.1).
const BREADTH: usize = 60;
/// A request that has come by so often is not forked any more; calls that are forwarded from one
/// user to the next come by a few times.
const PASSES_MAX: usize = 6;

const LOOP: Failure = Failure { result: -1, code: 482, reason: "Loop Detected" };
const EXCEEDED: Failure = Failure { result: -1, code: 440, reason: "Max-Breadth Exceeded" };

/// Divides the breadth of a request among its branches.
///
/// # Errors
/// Why it may not fork like that.
pub(crate) fn limit(sockets: &Sockets, ctx: &Ctx, drafts: &mut [Draft]) -> Result<(), Failure> {
    let count = drafts.len();
    if count < 2 {
        return Ok(());
    }
    let msg = ctx.msg.clone();
    let header = msg.headers_by_text(HEADER).next();
    let passes = passes(sockets, &msg);
    if passes >= PASSES_MAX {
        return Err(LOOP);
    }
    if header.is_none() && passes == 0 && !drafts.iter().any(|d| comes_back(sockets, d)) {
        return Ok(());
    }
    let given = header.map(|h| h.value().trim_ascii().to_vec());
    let given = given.and_then(|text| std::str::from_utf8(&text).ok()?.parse().ok());
    let shares = shares(given.unwrap_or(BREADTH), count).ok_or(EXCEEDED)?;
    for (draft, share) in drafts.iter_mut().zip(shares) {
        let edits = &mut draft.ctx.edits;
        match header {
            Some(header) => edits.replace(header.value_span(), share.to_string()),
            None => edits.append_header(&msg, format!("Max-Breadth: {share}\r\n")),
        }
    }
    Ok(())
}

/// What each of so many branches gets; `None`: it is not enough for all.
fn shares(breadth: usize, branches: usize) -> Option<impl Iterator<Item = usize>> {
    let (each, more) = (breadth.checked_div(branches)?, breadth.checked_rem(branches)?);
    (each > 0).then(|| (0..branches).map(move |n| each + usize::from(n < more)))
}

/// How often a request has come by: Vias that name this node.
fn passes(sockets: &Sockets, msg: &Message) -> usize {
    let own =
        |via: &tandem_sip::Via<'_>| sockets.is_myself(via.host, Some(via.port.unwrap_or(5060)));
    msg.vias().flatten().filter(own).count()
}

/// Whether a branch goes to this very node.
fn comes_back(sockets: &Sockets, draft: &Draft) -> bool {
    match &draft.way {
        Way::Known(hops) => hops.iter().any(|hop| sockets.is_own(hop.proto, hop.addr)),
        Way::Named(_) | Way::Lost(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_divide_what_there_is() {
        let of = |breadth, branches| shares(breadth, branches).map(Iterator::collect::<Vec<_>>);
        assert_eq!(of(60, 2), Some(vec![30, 30]));
        assert_eq!(of(7, 3), Some(vec![3, 2, 2]));
        assert_eq!(of(2, 2), Some(vec![1, 1]));
        assert_eq!((of(1, 2), of(0, 1), of(5, 0)), (None, None, None));
    }
}
