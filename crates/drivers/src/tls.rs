//! TLS of listeners: certificates from files, versions and ciphers from a priority string.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};

/// Reads what a listener of TLS needs. `priority` is written as for GnuTLS; `None`: what is good
/// today.
///
/// # Errors
/// A file that cannot be read or does not fit the other, or a priority string that leaves
/// nothing.
pub fn server_config(
    cert_file: &Path,
    key_file: &Path,
    priority: Option<&str>,
) -> Result<Arc<ServerConfig>, String> {
    let unread = |file: &Path, e: &dyn std::fmt::Display| format!("{}: {e}", file.display());
    let certs: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(cert_file).map_err(|e| unread(cert_file, &e))?.collect();
    let certs = certs.map_err(|e| unread(cert_file, &e))?;
    if certs.is_empty() {
        return Err(unread(cert_file, &"no certificate in it"));
    }
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|e| unread(key_file, &e))?;
    let Allowed { versions, suites } = allowed(priority)?;
    let mut provider = ring::default_provider();
    provider.cipher_suites = suites;
    let config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&versions)
        .map_err(|e| e.to_string())?
        .with_no_client_auth()
        .with_single_cert(certs, key)
        .map_err(|e| unread(cert_file, &e))?;
    Ok(Arc::new(config))
}

struct Allowed {
    versions: Vec<&'static SupportedProtocolVersion>,
    suites: Vec<SupportedCipherSuite>,
}

/// What a priority string allows of what there is.
fn allowed(priority: Option<&str>) -> Result<Allowed, String> {
    let mut versions: Vec<&'static SupportedProtocolVersion> = vec![&TLS12, &TLS13];
    let all = ring::default_provider().cipher_suites;
    let mut suites = all.clone();
    for word in priority.unwrap_or_default().split(':').filter(|w| !w.is_empty()) {
        let word = word.to_ascii_uppercase();
        let (adds, name) = match word.split_at_checked(1) {
            Some(("+", name)) => (true, name),
            Some(("-" | "!", name)) => (false, name),
            _ => (true, word.as_str()),
        };
        if let Some(version) = name.strip_prefix("VERS-") {
            set_versions(&mut versions, version, adds);
            continue;
        }
        let wanted: &dyn Fn(&str) -> bool = match name {
            "SECURE256" | "SECURE192" if word == name => {
                suites.retain(|s| is_256(&suite_name(s)));
                continue;
            }
            "NONE" => {
                suites.clear();
                versions.clear();
                continue;
            }
            "SECURE256" | "SECURE192" => &is_256,
            "NORMAL" | "PERFORMANCE" | "SECURE128" | "SECURE" | "PFS" => &|_| true,
            "AES-128-GCM" => &|s| s.contains("AES_128_GCM"),
            "AES-256-GCM" => &|s| s.contains("AES_256_GCM"),
            "CHACHA20-POLY1305" => &|s| s.contains("CHACHA20"),
            "CIPHER-ALL" => &|_| true,
            // Key exchanges, signatures and options have no choice here; other ciphers are
            // not there, whether they are added or taken away.
            _ => continue,
        };
        suites.retain(|s| adds || !wanted(&suite_name(s)));
        if adds {
            let missing = all.iter().filter(|s| wanted(&suite_name(s)) && !suites.contains(s));
            let missing: Vec<SupportedCipherSuite> = missing.copied().collect();
            suites.extend(missing);
        }
    }
    let fits = |s: &&SupportedCipherSuite| versions.contains(&s.version());
    if versions.is_empty() || !suites.iter().any(|s| fits(&s)) {
        let text = priority.unwrap_or_default();
        return Err(format!(
            "`{text}` allows nothing that there is: TLS 1.2 and 1.3 with AES-128-GCM, \
             AES-256-GCM and CHACHA20-POLY1305"
        ));
    }
    versions.retain(|v| suites.iter().any(|s| s.version() == *v));
    Ok(Allowed { versions, suites })
}

fn set_versions(versions: &mut Vec<&'static SupportedProtocolVersion>, version: &str, adds: bool) {
    let named: &[&'static SupportedProtocolVersion] = match version {
        "ALL" | "TLS-ALL" => &[&TLS12, &TLS13],
        "TLS1.2" => &[&TLS12],
        "TLS1.3" => &[&TLS13],
        _ => &[],
    };
    versions.retain(|v| !named.contains(v));
    if adds {
        versions.extend(named);
    }
}

fn suite_name(suite: &SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite())
}

fn is_256(name: &str) -> bool {
    name.contains("AES_256") || name.contains("CHACHA20")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(priority: &str) -> Result<(usize, usize), String> {
        let Allowed { versions, suites } = allowed(Some(priority))?;
        let weak = suites.iter().filter(|s| !is_256(&suite_name(s))).count();
        Ok((versions.len(), weak))
    }

    #[test]
    fn a_priority_string_chooses_versions_and_ciphers() {
        assert_eq!(allowed(None).map(|a| a.versions.len()), Ok(2));
        let field = "SECURE256:+SECURE192:-VERS-ALL:+VERS-TLS1.2";
        assert_eq!(shown(field), Ok((1, 0)));
        assert!(shown("NORMAL").unwrap().1 > 0);
        assert_eq!(shown("NORMAL:-AES-128-GCM"), Ok((2, 0)));
        assert_eq!(shown("NONE:+AES-256-GCM:+VERS-TLS1.3:+COMP-NULL"), Ok((1, 0)));
        let nothing = shown("NORMAL:-VERS-ALL:+VERS-TLS1.0").unwrap_err();
        assert!(nothing.contains("TLS 1.2 and 1.3"), "{nothing}");
        assert!(shown("NONE").is_err());
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let nowhere = Path::new("/nowhere/cert.pem");
        let error = server_config(nowhere, nowhere, None).unwrap_err();
        assert!(error.starts_with("/nowhere/cert.pem: "), "{error}");
    }
}
