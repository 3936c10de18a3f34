//! Those who use the service: phones that register and call, and gateways that answer probes. They know nothing of the nodes but
//! their SIP addresses, and keep their own transactions (RFC 3261 17), independent of the
//! production code.

mod call;
mod client;
pub mod gateway;
pub(crate) mod message;
pub(crate) mod phone;
pub(crate) mod watch;

use std::net::SocketAddr;

use bytes::Bytes;
use tandem_clock::Mono;

/// End of every Call-ID that a phone makes: what a node sends with another one, nobody asked for.
pub(crate) const CALL_ID_END: &str = "@phones.example";

/// A registration as a phone knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Registered {
    pub(crate) aor: String,
    pub(crate) contact: String,
    pub(crate) call_id: String,
    pub(crate) cseq: u32,
    /// Seconds that were granted.
    pub(crate) granted_s: u64,
}

/// What a phone wants done, and what it has to say.
#[derive(Debug)]
pub(crate) enum Act {
    Send {
        to: SocketAddr,
        payload: Bytes,
    },
    Timer {
        at: Mono,
        number: u64,
    },
    /// A 200 said that this contact is registered.
    Acknowledged(Registered),
    /// The phone asks to be forgotten under this contact: from now on nobody owes it anything.
    Leaving {
        aor: String,
        contact: String,
    },
    /// A call has come so far.
    Call {
        call_id: String,
        step: Step,
    },
    /// A 200 to REGISTER that does not list the contact it is about.
    Nonsense(String),
    Completed(Completed),
    Say(String),
}

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The caller asks for it.
    Begins,
    /// The one who is called says 200.
    Accepts,
    /// The caller has the 200.
    IsAnswered,
    /// Somebody says BYE: a phone, or a node to a phone.
    Ends,
    /// The BYE of a phone was answered.
    IsEnded,
    /// It was not, or not with a 200.
    IsLeft,
}

/// What a phone has brought to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Completed {
    Registration,
    /// Set up, and hung up in order.
    Call,
    Failure,
}
