//! From a URI to the key of an AoR.

use tandem_sip::{Scheme, Uri, unescape};

use crate::params::Params;

/// Why a URI gives no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AorError {
    #[error("the address of record cannot be read")]
    Unreadable,
    #[error("the address of record has no user")]
    NoUser,
    #[error("the address of record is too long")]
    TooLong,
}

/// The key of the AoR that a URI names: `user@domain`, or `user` where domains do not count.
/// The domain is in lower case and without the realm prefix, the user unescaped.
///
/// # Errors
/// See [`AorError`].
pub(crate) fn key_of(uri: &[u8], params: &Params) -> Result<Vec<u8>, AorError> {
    let parsed = Uri::parse(uri).map_err(|_| AorError::Unreadable)?;
    if !parsed.is_sip() && parsed.scheme != Scheme::Tel {
        return Err(AorError::Unreadable);
    }
    let user = unescape(parsed.user.unwrap_or_default());
    let domain = without_prefix(parsed.host, params.realm_prefix.as_bytes());
    if user.len() > params.max_username_len || domain.len() > params.max_domain_len {
        return Err(AorError::TooLong);
    }
    if user.is_empty() && !params.use_domain {
        return Err(AorError::NoUser);
    }
    let mut key = Vec::with_capacity(user.len() + 1 + domain.len());
    key.extend_from_slice(&user);
    if !params.case_sensitive {
        key.make_ascii_lowercase();
    }
    if params.use_domain && !domain.is_empty() {
        if !key.is_empty() {
            key.push(b'@');
        }
        key.extend(domain.iter().map(u8::to_ascii_lowercase));
    }
    match key.len() {
        0 => Err(AorError::NoUser),
        len if len > params.max_aor_len => Err(AorError::TooLong),
        _ => Ok(key),
    }
}

fn without_prefix<'a>(host: &'a [u8], prefix: &[u8]) -> &'a [u8] {
    match host.split_at_checked(prefix.len()) {
        Some((start, rest)) if !rest.is_empty() && start.eq_ignore_ascii_case(prefix) => rest,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(uri: &str, params: &Params) -> Result<String, AorError> {
        key_of(uri.as_bytes(), params).map(|k| String::from_utf8(k).unwrap())
    }

    #[test]
    fn the_key_has_the_domain_in_lower_case_and_the_user_as_configured() {
        let params = Params::default();
        assert_eq!(
            key("sip:Al%69ce@Sip.Example.ORG:5060;x=1", &params).unwrap(),
            "Alice@sip.example.org"
        );
        assert_eq!(key("sip:example.org", &params).unwrap(), "example.org");
        assert_eq!(key("tel:+4930123", &params).unwrap(), "+4930123");
        let params = Params { case_sensitive: false, use_domain: false, ..Params::default() };
        assert_eq!(key("sip:Alice@example.org", &params).unwrap(), "alice");
        let params = Params { realm_prefix: "sip.".into(), ..Params::default() };
        assert_eq!(key("sip:a@SIP.example.org", &params).unwrap(), "a@example.org");
    }

    #[test]
    fn what_is_too_long_or_no_address_is_refused() {
        let params = Params { max_username_len: 3, ..Params::default() };
        assert_eq!(key("sip:alice@h", &params), Err(AorError::TooLong));
        let params = Params { max_aor_len: 6, ..Params::default() };
        assert_eq!(key("sip:alice@host", &params), Err(AorError::TooLong));
        let params = Params { use_domain: false, ..Params::default() };
        assert_eq!(key("sip:host", &params), Err(AorError::NoUser));
        assert_eq!(key("urn:x:y", &params), Err(AorError::Unreadable));
        assert_eq!(key("nonsense", &params), Err(AorError::Unreadable));
    }
}
