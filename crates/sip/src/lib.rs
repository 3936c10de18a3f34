//! SIP messages: bytes in, views and edits out.
//!
//! A received [`Message`] is one immutable buffer and an index of its headers. Typed views
//! ([`Via`], [`NameAddr`], [`Contact`], [`Uri`]...) are parsed when asked for and borrow from the
//! buffer. What is to change on the way out is said in [`Edits`]; [`write()`] makes one pass, and
//! what nobody touched leaves byte for byte as it came. Requests and replies of our own are
//! built by [`build_reply`], [`build_ack`] and [`build_cancel`].
//!
//! No input makes anything here panic, and the work per message is linear in its length.

#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

mod auth;
mod contact;
mod cseq;
mod edits;
mod error;
mod glance;
mod hash;
mod header;
mod header_name;
mod host;
mod mandatory;
mod message;
mod method;
mod name_addr;
mod params;
mod parse;
mod reply;
mod request;
mod salvage;
mod scan;
mod span;
mod transport;
mod uri;
mod uri_compare;
mod validate;
mod via;
mod via_edits;
mod views;
mod write;

pub use auth::{Algorithm, AuthRole, Credentials, Hex, Response, hash_hex};
pub use contact::{Contact, ContactList};
pub use cseq::CSeq;
pub use edits::Edits;
pub use error::{Invalid, ParseError, ParseErrorKind, UriError, ValueError};
pub use glance::{Glance, glance, glance_branch};
pub use hash::{sip_hash, sip_hash_of};
pub use header::{Header, Headers, Value, Values};
pub use header_name::HeaderName;
pub use host::host_ip;
pub use message::Message;
pub use method::Method;
pub use name_addr::NameAddr;
pub use params::{Param, Params, ParamsIter, unquote};
pub use reply::{Received, ReplyOptions, build_reply, push_number, write_reply};
pub use request::{build_ack, build_cancel};
pub use span::Span;
pub use transport::Transport;
pub use uri::{Scheme, Uri, unescape};
pub use uri_compare::uris_equal;
pub use via::{BRANCH_COOKIE, Rport, Via, is_rfc3261_branch};
pub use via_edits::{ViaLine, add_via, mark_received, remove_top_via};
pub use write::write;

/// Longest message that is taken, in bytes: what RFC 3261 18.1.1 asks of every element.
pub const MESSAGE_BYTES_MAX: usize = 65_535;
/// Most header lines (folded ones count once) in one message.
pub const HEADERS_MAX: usize = 255;
/// Longest header, with its name, folds and line end, in bytes.
pub const HEADER_BYTES_MAX: usize = 32_768;
