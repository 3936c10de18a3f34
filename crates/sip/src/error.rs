//! What can be wrong with a message, from "not SIP at all" to "one header says nonsense".

use thiserror::Error;

use crate::{HeaderName, Method};

/// Why bytes could not be taken for a SIP message at all. Such bytes cannot be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{kind} (at byte {offset})")]
pub struct ParseError {
    pub kind: ParseErrorKind,
    /// Where it went wrong, in bytes from the start of what was given to the parser.
    pub offset: u32,
}

/// The kinds of [`ParseError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ParseErrorKind {
    #[error("nothing but line ends")]
    Empty,
    #[error("longer than {} bytes", crate::MESSAGE_BYTES_MAX)]
    MessageTooLong,
    #[error("the first line is neither a SIP request nor a SIP status line")]
    FirstLine,
    #[error("the status code is not a number from 100 to 699")]
    StatusCode,
    #[error("a header line has no colon")]
    NoColon,
    #[error("a header name is empty or has characters that names cannot have")]
    HeaderName,
    #[error("more than {} header lines", crate::HEADERS_MAX)]
    TooManyHeaders,
    #[error("a header line is longer than {} bytes", crate::HEADER_BYTES_MAX)]
    HeaderTooLong,
    #[error("the headers do not end with an empty line")]
    Unfinished,
}

/// Why the value of a header cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ValueError {
    #[error("the header is missing")]
    Missing,
    #[error("the value is empty")]
    Empty,
    #[error("not a number in range")]
    Number,
    #[error("a quote is not closed")]
    Quote,
    #[error("a `<` is not closed")]
    Bracket,
    #[error("unexpected text behind the address")]
    Trailing,
    #[error("a URI with `?`, a quote or whitespace must stand in `<>`")]
    BareUri,
    #[error("not of the form `SIP/2.0/TRANSPORT host`")]
    SentBy,
    #[error("the host or port is malformed")]
    HostPort,
    #[error("not of the form `number METHOD`")]
    CSeq,
    #[error("`*` stands beside other contacts")]
    Star,
}

/// Why a URI cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UriError {
    #[error("no scheme")]
    Scheme,
    #[error("a character that a URI cannot have")]
    Character,
    #[error("an empty user part before the `@`")]
    User,
    #[error("the host is missing or malformed")]
    Host,
    #[error("the port is not a number from 1 to 65535")]
    Port,
}

/// Why a well-formed message must not be processed. A request with such a fault can be answered,
/// with [`Invalid::status`] as the code and the text of the error as the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Invalid {
    #[error("Version Not Supported")]
    Version,
    #[error("Missing {} header", .0.as_str())]
    Missing(HeaderName),
    #[error("Repeated {} header", .0.as_str())]
    Repeated(HeaderName),
    #[error("Bad {} header: {_1}", .0.as_str())]
    Header(HeaderName, ValueError),
    #[error("Bad Request-URI: {0}")]
    RequestUri(UriError),
    #[error("CSeq method does not match the request")]
    CSeqMethod(Method),
    #[error("Content-Length is {announced}, the body has {present} bytes")]
    BodyTooShort { announced: u32, present: u32 },
}

impl Invalid {
    /// The status code of the reply: 505 for another SIP version, else 400 (RFC 3261 8.2, 21.5.6).
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Version => 505,
            _ => 400,
        }
    }
}
