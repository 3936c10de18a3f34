//! Push notifications (RFC 8599): which contacts have them, and what a reply says of it.

use std::io::Write;

use tandem_sip::Uri;
use tandem_usrloc::store::{Contact, FLAG_PUSH, Matching};

use crate::request::{Refusal, Wanted};

/// The parameters `pn_*`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Push {
    /// Names of push services that are taken.
    pub(crate) providers: Vec<Box<[u8]>>,
    /// URI parameters by which a contact is known again.
    pub(crate) match_params: Vec<Box<[u8]>>,
    pub(crate) pnsreg_interval_s: u32,
    pub(crate) trigger_interval_s: u32,
    /// A phone that registered within this time is awake; 0: none is.
    pub(crate) skip_interval_s: u32,
    /// How long a request waits for a phone.
    pub(crate) refresh_timeout_s: u32,
    pub(crate) gives_purr: bool,
}

/// What a contact says of push notifications.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PushUse {
    #[default]
    None,
    /// `pn-provider` without a value: which services are there? (RFC 8599 4.1.3)
    Asks,
    /// `pn-provider` with a value, but no `pn-prid`: what is there of this service?
    AsksOf,
    /// It is woken by them.
    Woken,
}

/// Sent where the service of a contact is none of ours (RFC 8599 5.3).
pub(crate) const UNSUPPORTED: Refusal = Refusal::new(555, "Unsupported push notification service");

impl Push {
    /// # Errors
    /// 555 if the contact names a service that is not taken.
    pub(crate) fn of_contact(&self, uri: &Uri<'_>) -> Result<PushUse, Refusal> {
        let provider = match uri.param(b"pn-provider") {
            None => return Ok(PushUse::None),
            Some(value) => value.unwrap_or_default(),
        };
        if provider.is_empty() {
            return Ok(PushUse::Asks);
        }
        if !self.providers.iter().any(|p| p.eq_ignore_ascii_case(provider)) {
            return Err(UNSUPPORTED);
        }
        let has_all = self.match_params.iter().all(|name| uri.param(name).is_some());
        Ok(match (has_all, uri.param(b"pn-prid")) {
            (true, _) => PushUse::Woken,
            (false, None) => PushUse::AsksOf,
            (false, Some(_)) => PushUse::None,
        })
    }

    /// Whether a contact has to be woken before it gets a request.
    pub(crate) fn must_wake(&self, contact: &Contact, now_s: u64) -> bool {
        let age_s = now_s.saturating_sub(contact.last_modified_s());
        contact.flags() & FLAG_PUSH != 0 && age_s >= u64::from(self.skip_interval_s)
    }

    /// How a contact that is woken finds the one it replaces.
    pub(crate) fn matching(&self) -> Matching {
        Matching::AllParams(self.match_params.clone())
    }

    /// The Feature-Caps lines of a reply to a REGISTER whose contacts use push like this.
    pub(crate) fn write_caps<'a>(
        &self,
        out: &mut Vec<u8>,
        wanted: &[Wanted<'_>],
        woken: impl Iterator<Item = &'a Contact>,
    ) {
        for provider in &self.providers {
            let is_asked = |wanted: &Wanted<'_>| match wanted.push {
                PushUse::Asks => true,
                PushUse::AsksOf => {
                    provider_of(wanted.uri).is_some_and(|p| p.eq_ignore_ascii_case(provider))
                }
                PushUse::None | PushUse::Woken => false,
            };
            if wanted.iter().any(is_asked) {
                self.write_line(out, provider, None);
            }
        }
        for contact in woken {
            if let Some(provider) = provider_of(contact.uri()) {
                self.write_line(out, provider, self.gives_purr.then_some(contact.id));
            }
        }
    }

    fn write_line(&self, out: &mut Vec<u8>, provider: &[u8], purr: Option<u64>) {
        out.extend_from_slice(b"Feature-Caps: *;+sip.pns=\"");
        out.extend_from_slice(provider);
        // Writing to memory cannot fail.
        let _ = write!(out, "\";+sip.pnsreg=\"{}\"", self.pnsreg_interval_s);
        if let Some(id) = purr {
            let _ = write!(out, ";+sip.pnspurr=\"{id:016x}\"");
        }
        out.extend_from_slice(b"\r\n");
    }
}

fn provider_of(uri: &[u8]) -> Option<&[u8]> {
    Uri::parse(uri).ok()?.param(b"pn-provider").flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contact_is_woken_asks_or_names_a_service_that_is_not_there() {
        let names = |list: &[&str]| list.iter().map(|n| n.as_bytes().into()).collect();
        let push = Push {
            providers: names(&["apns", "fcm"]),
            match_params: names(&["pn-provider", "pn-prid"]),
            ..Push::default()
        };
        let of = |uri: &str| push.of_contact(&Uri::parse(uri.as_bytes()).unwrap());
        assert_eq!(of("sip:a@h"), Ok(PushUse::None));
        assert_eq!(of("sip:a@h;pn-provider"), Ok(PushUse::Asks));
        assert_eq!(of("sip:a@h;pn-provider=FCM;pn-prid=x"), Ok(PushUse::Woken));
        assert_eq!(of("sip:a@h;pn-provider=fcm"), Ok(PushUse::AsksOf));
        assert_eq!(of("sip:a@h;pn-provider=other;pn-prid=x"), Err(UNSUPPORTED));
    }
}
