//! A request gets one final answer (RFC 3261 16.7): what a node has said to a caller it says again
//! or not at all, but for further 2xx to an INVITE.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use tandem_sip::{Message, Method};

use crate::world::Life;

/// Name in findings.
pub const NAME: &str = "answers";

/// Requests whose answers are remembered; the oldest keys go first.
const REQUESTS_MAX: usize = 20_000;

/// A request as its answers name it: the life of the node, the caller, branch and CSeq.
type Asked = (Life, SocketAddr, Vec<u8>, u32, Vec<u8>);

/// The final answers so far.
#[derive(Debug, Default)]
pub(crate) struct Answers(BTreeMap<Asked, u16>);

impl Answers {
    /// A datagram left a node; what is wrong with it.
    pub(crate) fn sent(&mut self, of: Life, to: SocketAddr, payload: &Bytes) -> Option<String> {
        if !payload.starts_with(b"SIP/2.0 ") {
            return None;
        }
        let msg = Message::parse(payload.clone()).ok()?;
        let (code, cseq) = (msg.status(), msg.cseq().ok()?);
        if code < 200 {
            return None;
        }
        let branch = msg.top_via().ok()?.branch?.to_vec();
        let key = (of, to, branch, cseq.number, cseq.method_bytes.to_vec());
        while self.0.len() >= REQUESTS_MAX {
            self.0.pop_first();
        }
        let first = *self.0.entry(key).or_insert(code);
        let another_2xx = msg.method() == Method::Invite && (200..300).contains(&code);
        let call_id = String::from_utf8_lossy(msg.call_id().unwrap_or_default()).into_owned();
        (first != code && !another_2xx).then(|| {
            let method = String::from_utf8_lossy(msg.method_bytes()).into_owned();
            format!("node {} answers {method} of {call_id} with {first} and {code}", of.node)
        })
    }
}
