//! A record: the standard fields, taken from a request and what answered it.

use bytes::Bytes;
use tandem_clock::Now;
use tandem_engine::attached::Written;
use tandem_sip::Message;

use crate::account::{Account, part};

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A transaction has its final reply.
    Answered,
    /// Nobody answered a call.
    Missed,
    /// A script asked for it.
    Requested,
}

/// The standard fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) method: Bytes,
    pub(crate) from_tag: Bytes,
    pub(crate) to_tag: Bytes,
    pub(crate) call_id: Bytes,
    /// A text: empty where there is none.
    pub(crate) code: Bytes,
    pub(crate) reason: Bytes,
    /// Unix milliseconds of the moment.
    pub(crate) time_ms: u64,
    /// Unix milliseconds of the request; 0: nobody looked at the clock.
    pub(crate) created_ms: u64,
}

/// What answered a request.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    /// `None`: this node came to the result by itself.
    pub(crate) reply: Option<Message>,
}

impl Answer {
    /// A reply as it left or came; an empty one is of no message.
    pub(crate) fn of(code: u16, reply: &Written) -> Self {
        Self { code, reply: reply.message().cloned() }
    }

    fn reason(&self) -> Bytes {
        match &self.reply {
            Some(reply) => part(reply, Some(reply.reason())),
            None => Bytes::from_static(own_reason(self.code).as_bytes()),
        }
    }
}

impl Record {
    /// The record of a transaction that was answered.
    pub(crate) fn answered(now: Now, account: &Account, answer: &Answer) -> Self {
        let mut record = Self::of(now, account);
        let digit = |by: u16| b'0' + (answer.code / by % 10) as u8;
        record.code = Bytes::copy_from_slice(&[digit(100), digit(10), digit(1)]);
        record.reason = answer.reason();
        let tag = answer.reply.as_ref().and_then(|r| Some(part(r, Some(r.to_tag()?))));
        record.to_tag = tag.unwrap_or_else(|| part(&account.request, account.request.to_tag()));
        record.directed(account)
    }

    /// The record that a script asks for: `404 Not found`.
    pub(crate) fn requested(now: Now, account: &Account, comment: &[u8]) -> Self {
        let mut record = Self::of(now, account);
        let comment = comment.trim_ascii();
        let digits = comment.iter().take_while(|b| b.is_ascii_digit()).count();
        let (code, rest) = match digits {
            3 => comment.split_at(3),
            _ => (&b""[..], comment),
        };
        record.code = Bytes::copy_from_slice(code);
        record.reason = Bytes::copy_from_slice(rest.trim_ascii());
        record.to_tag = part(&account.request, account.request.to_tag());
        record.directed(account)
    }

    fn of(now: Now, account: &Account) -> Self {
        let request = &account.request;
        Self {
            method: part(request, Some(request.method_bytes())),
            from_tag: part(request, request.from_tag()),
            call_id: part(request, request.call_id()),
            time_ms: now.unix_ms,
            created_ms: account.state.lock().created_ms,
            ..Self::default()
        }
    }

    /// Records read in the direction of the call (`detect_direction`).
    fn directed(mut self, account: &Account) -> Self {
        if account.state.lock().is_upstream {
            std::mem::swap(&mut self.from_tag, &mut self.to_tag);
        }
        self
    }

    pub(crate) fn time_s(&self) -> u64 {
        self.time_ms / 1000
    }

    pub(crate) fn created_s(&self) -> u64 {
        self.created_ms / 1000
    }

    /// When the request came; who asked without do_accounting() has just begun.
    pub(crate) fn began_s(&self) -> u64 {
        if self.created_ms == 0 { self.time_s() } else { self.created_s() }
    }

    /// Seconds from the request to the moment.
    pub(crate) fn setup_s(&self) -> u64 {
        self.time_s().saturating_sub(self.created_s())
    }
}

/// The reason phrases of results that a node comes to by itself.
fn own_reason(code: u16) -> &'static str {
    match code {
        200 => "canceling",
        408 => "Request Timeout",
        477 => "Send failed (477/TM)",
        480 => "Temporarily Unavailable",
        487 => "Request Terminated",
        500 => "Server Internal Error",
        503 => "Service Unavailable",
        _ => "",
    }
}
