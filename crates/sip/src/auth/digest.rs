//! The hashes: HA1, HA2 and the response (RFC 2617 3.2.2, RFC 7616 3.4, RFC 8760).

use md5::Md5;
use sha2::digest::Digest;
use sha2::{Sha256, Sha512_256};

/// A digest algorithm; `Sess` binds HA1 to the nonce and the client's nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    Md5,
    Md5Sess,
    Sha256,
    Sha256Sess,
    Sha512_256,
    Sha512_256Sess,
}

impl Algorithm {
    pub const ALL: [Self; 6] = [
        Self::Md5,
        Self::Md5Sess,
        Self::Sha256,
        Self::Sha256Sess,
        Self::Sha512_256,
        Self::Sha512_256Sess,
    ];

    /// By its token, in any case; an empty one is MD5 (RFC 2617 3.2.1).
    #[must_use]
    pub fn of(token: &[u8]) -> Option<Self> {
        if token.is_empty() {
            return Some(Self::Md5);
        }
        Self::ALL.into_iter().find(|a| a.as_str().as_bytes().eq_ignore_ascii_case(token))
    }

    /// The token as RFC 8760 writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Md5Sess => "MD5-sess",
            Self::Sha256 => "SHA-256",
            Self::Sha256Sess => "SHA-256-sess",
            Self::Sha512_256 => "SHA-512-256",
            Self::Sha512_256Sess => "SHA-512-256-sess",
        }
    }

    #[must_use]
    pub const fn is_session(self) -> bool {
        matches!(self, Self::Md5Sess | Self::Sha256Sess | Self::Sha512_256Sess)
    }

    /// The algorithm without `-sess`: the one that hashes.
    #[must_use]
    pub const fn base(self) -> Self {
        match self {
            Self::Md5 | Self::Md5Sess => Self::Md5,
            Self::Sha256 | Self::Sha256Sess => Self::Sha256,
            Self::Sha512_256 | Self::Sha512_256Sess => Self::Sha512_256,
        }
    }

    /// How many hex digits a hash of it has.
    #[must_use]
    pub const fn hex_len(self) -> usize {
        match self.base() {
            Self::Md5 => 32,
            _ => 64,
        }
    }

    /// `H(user:realm:password)`, which is what databases keep.
    #[must_use]
    pub fn ha1(self, user: &[u8], realm: &[u8], password: &[u8]) -> Hex {
        hash_hex(self, &[user, b":", realm, b":", password])
    }
}

/// A hash in lower case hex, without an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hex {
    digits: [u8; 64],
    len: u8,
}

impl Hex {
    fn of(hash: &[u8]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |n: u8| DIGITS.get(usize::from(n)).copied().unwrap_or(b'0');
        let mut digits = [0; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(hash) {
            if let [high, low] = pair {
                (*high, *low) = (digit(byte >> 4), digit(byte & 15));
            }
        }
        Self { digits, len: (hash.len() * 2).min(64) as u8 }
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.digits.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// The hash of some pieces of text, one behind the other.
#[must_use]
pub fn hash_hex(algorithm: Algorithm, parts: &[&[u8]]) -> Hex {
    fn run<D: Digest>(parts: &[&[u8]]) -> Hex {
        let mut hash = D::new();
        parts.iter().for_each(|part| hash.update(part));
        Hex::of(&hash.finalize())
    }
    match algorithm.base() {
        Algorithm::Sha256 => run::<Sha256>(parts),
        Algorithm::Sha512_256 => run::<Sha512_256>(parts),
        _ => run::<Md5>(parts),
    }
}

/// What a response is computed from, besides HA1.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    pub algorithm: Algorithm,
    pub method: &'a [u8],
    pub uri: &'a [u8],
    pub nonce: &'a [u8],
    /// Empty: as RFC 2069 had it, without the client's nonce.
    pub qop: &'a [u8],
    pub nc: &'a [u8],
    pub cnonce: &'a [u8],
    /// Enters the hash with qop `auth-int`.
    pub body: &'a [u8],
}

impl Response<'_> {
    /// The response of who knows `ha1` (in hex, as [`Algorithm::ha1`] gives it).
    #[must_use]
    pub fn compute(&self, ha1: &[u8]) -> Hex {
        let ha2 = self.ha2();
        let session;
        let ha1 = if self.algorithm.is_session() {
            let parts = [ha1, b":", self.nonce, b":", self.cnonce];
            session = hash_hex(self.algorithm, &parts);
            session.as_bytes()
        } else {
            ha1
        };
        let ha2 = ha2.as_bytes();
        if self.qop.is_empty() {
            return hash_hex(self.algorithm, &[ha1, b":", self.nonce, b":", ha2]);
        }
        let (nonce, nc, cnonce, qop) = (self.nonce, self.nc, self.cnonce, self.qop);
        let parts = [ha1, b":", nonce, b":", nc, b":", cnonce, b":", qop, b":", ha2];
        hash_hex(self.algorithm, &parts)
    }

    fn ha2(&self) -> Hex {
        if !self.qop.eq_ignore_ascii_case(b"auth-int") {
            return hash_hex(self.algorithm, &[self.method, b":", self.uri]);
        }
        let body = hash_hex(self.algorithm, &[self.body]);
        hash_hex(self.algorithm, &[self.method, b":", self.uri, b":", body.as_bytes()])
    }

    /// Whether `given` is the response of who knows `ha1`. Takes the same time wherever the
    /// first difference is.
    #[must_use]
    pub fn matches(&self, ha1: &[u8], given: &[u8]) -> bool {
        let wanted = self.compute(ha1);
        let wanted = wanted.as_bytes();
        let differences =
            wanted.iter().zip(given).fold(0, |all, (a, b)| all | (a ^ b.to_ascii_lowercase()));
        wanted.len() == given.len() && differences == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(hex: Hex) -> String {
        String::from_utf8(hex.as_bytes().to_vec()).unwrap()
    }

    /// The example of RFC 2617 3.5.
    #[test]
    fn md5_with_qop_as_in_rfc_2617() {
        let ha1 = Algorithm::Md5.ha1(b"Mufasa", b"testrealm@host.com", b"Circle Of Life");
        assert_eq!(text(ha1), "939e7578ed9e3c518a452acee763bce9");
        let response = Response {
            algorithm: Algorithm::Md5,
            method: b"GET",
            uri: b"/dir/index.html",
            nonce: b"dcd98b7102dd2f0e8b11d0f600bfb0c093",
            qop: b"auth",
            nc: b"00000001",
            cnonce: b"0a4f113b",
            body: b"",
        };
        let wanted = "6629fae49393a05397450978507c4ef1";
        assert_eq!(text(response.compute(ha1.as_bytes())), wanted);
        assert!(response.matches(ha1.as_bytes(), wanted.to_uppercase().as_bytes()));
        assert!(!response.matches(ha1.as_bytes(), b"6629fae49393a05397450978507c4ef2"));
        assert!(!response.matches(ha1.as_bytes(), b""));
        let old = Response { qop: b"", ..response };
        assert_eq!(text(old.compute(ha1.as_bytes())), "670fd8c2df070c60b045671b8b24ff02");
    }

    /// The examples of RFC 7616 3.9.1; 3.9.2 with the erratum for SHA-512/256.
    #[test]
    fn sha_as_in_rfc_7616() {
        let response = Response {
            algorithm: Algorithm::Sha256,
            method: b"GET",
            uri: b"/dir/index.html",
            nonce: b"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
            qop: b"auth",
            nc: b"00000001",
            cnonce: b"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
            body: b"",
        };
        let ha1 = |a: Algorithm| a.ha1(b"Mufasa", b"http-auth@example.org", b"Circle of Life");
        assert_eq!(
            text(response.compute(ha1(Algorithm::Sha256).as_bytes())),
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
        );
        let md5 = Response { algorithm: Algorithm::Md5, ..response };
        assert_eq!(
            text(md5.compute(ha1(Algorithm::Md5).as_bytes())),
            "8ca523f5e9506fed4657c9700eebdbec"
        );
        let empty = hash_hex(Algorithm::Sha512_256, &[]);
        assert_eq!(text(empty), "c672b8d1ef56ed28ab87c3622c5114069bdd3ad7b8f9737498d0c01ecef0967a");
    }

    #[test]
    fn a_session_and_the_body_enter_the_hash() {
        let base = Response {
            algorithm: Algorithm::Md5,
            method: b"INVITE",
            uri: b"sip:a",
            nonce: b"n",
            qop: b"auth-int",
            nc: b"1",
            cnonce: b"c",
            body: b"v=0",
        };
        let other_body = Response { body: b"v=1", ..base };
        assert_ne!(base.compute(b"h"), other_body.compute(b"h"));
        let session = Response { algorithm: Algorithm::Md5Sess, ..base };
        let bound = hash_hex(Algorithm::Md5, &[b"h:n:c"]);
        assert_eq!(session.compute(b"h"), base.compute(bound.as_bytes()));
    }

    #[test]
    fn algorithms_have_their_tokens_in_any_case() {
        for algorithm in Algorithm::ALL {
            let token = algorithm.as_str().to_lowercase();
            assert_eq!(Algorithm::of(token.as_bytes()), Some(algorithm));
            let hex = algorithm.ha1(b"a", b"b", b"c");
            assert_eq!(hex.as_bytes().len(), algorithm.hex_len());
        }
        assert_eq!(Algorithm::of(b""), Some(Algorithm::Md5));
        assert_eq!(Algorithm::of(b"MD4"), None);
    }
}
