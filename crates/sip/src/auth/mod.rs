//! HTTP Digest as SIP uses it: RFC 3261 22, RFC 2617, RFC 7616, RFC 8760.

mod credentials;
mod digest;

pub use credentials::Credentials;
pub use digest::{Algorithm, Hex, Response, hash_hex};

use crate::{HeaderName, Message, ValueError};

/// Which of the two pairs of headers: a registrar and a UAS speak with `WWW-Authenticate`, a
/// proxy with `Proxy-Authenticate` (RFC 3261 22.2, 22.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthRole {
    Server,
    Proxy,
}

impl AuthRole {
    /// The header with which a client answers.
    #[must_use]
    pub const fn credentials_header(self) -> HeaderName {
        match self {
            Self::Server => HeaderName::Authorization,
            Self::Proxy => HeaderName::ProxyAuthorization,
        }
    }

    /// The header with which the other side asks.
    #[must_use]
    pub const fn challenge_header(self) -> HeaderName {
        match self {
            Self::Server => HeaderName::WwwAuthenticate,
            Self::Proxy => HeaderName::ProxyAuthenticate,
        }
    }

    /// The status code of a challenge.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Server => 401,
            Self::Proxy => 407,
        }
    }
}

impl Message {
    /// The digest credentials for one role, in order. Other schemes are skipped.
    pub fn credentials(
        &self,
        role: AuthRole,
    ) -> impl Iterator<Item = Result<Credentials<'_>, ValueError>> {
        self.headers(role.credentials_header())
            .map(|header| Credentials::parse(header.value()))
            .filter(|parsed| parsed.as_ref().map_or(true, Credentials::is_digest))
    }
}
