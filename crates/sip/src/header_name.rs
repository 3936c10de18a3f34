//! Header names: one byte each once they are known.

use std::fmt;

macro_rules! header_names {
    ($($variant:ident $name:literal $($compact:literal)?,)*) => {
        /// A header name from the registry of RFC 3261 and its extensions, or a widely used
        /// extension. Compact forms are the same name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum HeaderName {
            $(#[doc = $name] $variant,)*
            /// Any other name; its text is in the message.
            Other,
        }

        impl HeaderName {
            /// All known names, without `Other`.
            pub const KNOWN: &[Self] = &[$(Self::$variant),*];

            /// The name as it is usually written; empty for `Other`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Other => "",
                }
            }

            /// The one letter form, if there is one.
            #[must_use]
            pub const fn compact(self) -> Option<u8> {
                match self {
                    $($(Self::$variant => Some($compact),)?)*
                    _ => None,
                }
            }
        }
    };
}

header_names! {
    Accept "Accept",
    AcceptContact "Accept-Contact" b'a',
    AcceptEncoding "Accept-Encoding",
    AcceptLanguage "Accept-Language",
    AcceptResourcePriority "Accept-Resource-Priority",
    AlertInfo "Alert-Info",
    Allow "Allow",
    AllowEvents "Allow-Events" b'u',
    AnswerMode "Answer-Mode",
    AuthenticationInfo "Authentication-Info",
    Authorization "Authorization",
    CallId "Call-ID" b'i',
    CallInfo "Call-Info",
    Contact "Contact" b'm',
    ContentDisposition "Content-Disposition",
    ContentEncoding "Content-Encoding" b'e',
    ContentId "Content-ID",
    ContentLanguage "Content-Language",
    ContentLength "Content-Length" b'l',
    ContentTransferEncoding "Content-Transfer-Encoding",
    ContentType "Content-Type" b'c',
    CSeq "CSeq",
    Date "Date",
    Diversion "Diversion",
    Encryption "Encryption",
    ErrorInfo "Error-Info",
    Event "Event" b'o',
    Expires "Expires",
    FeatureCaps "Feature-Caps",
    FlowTimer "Flow-Timer",
    From "From" b'f',
    Geolocation "Geolocation",
    GeolocationError "Geolocation-Error",
    GeolocationRouting "Geolocation-Routing",
    Hide "Hide",
    HistoryInfo "History-Info",
    Identity "Identity" b'y',
    IdentityInfo "Identity-Info" b'n',
    InfoPackage "Info-Package",
    InReplyTo "In-Reply-To",
    Join "Join",
    MaxBreadth "Max-Breadth",
    MaxForwards "Max-Forwards",
    MimeVersion "MIME-Version",
    MinExpires "Min-Expires",
    MinSe "Min-SE",
    Organization "Organization",
    PAccessNetworkInfo "P-Access-Network-Info",
    PAnswerState "P-Answer-State",
    PAssertedIdentity "P-Asserted-Identity",
    PAssertedService "P-Asserted-Service",
    PAssociatedUri "P-Associated-URI",
    PCalledPartyId "P-Called-Party-ID",
    PChargingFunctionAddresses "P-Charging-Function-Addresses",
    PChargingVector "P-Charging-Vector",
    PEarlyMedia "P-Early-Media",
    PMediaAuthorization "P-Media-Authorization",
    PPreferredIdentity "P-Preferred-Identity",
    PPreferredService "P-Preferred-Service",
    PProfileKey "P-Profile-Key",
    PRefusedUriList "P-Refused-URI-List",
    PServedUser "P-Served-User",
    PUserDatabase "P-User-Database",
    PVisitedNetworkId "P-Visited-Network-ID",
    Path "Path",
    PermissionMissing "Permission-Missing",
    PolicyContact "Policy-Contact",
    PolicyId "Policy-ID",
    Priority "Priority",
    Privacy "Privacy",
    PrivAnswerMode "Priv-Answer-Mode",
    ProxyAuthenticate "Proxy-Authenticate",
    ProxyAuthenticationInfo "Proxy-Authentication-Info",
    ProxyAuthorization "Proxy-Authorization",
    ProxyRequire "Proxy-Require",
    RAck "RAck",
    Reason "Reason",
    RecordRoute "Record-Route",
    RecvInfo "Recv-Info",
    ReferEventsAt "Refer-Events-At",
    ReferSub "Refer-Sub",
    ReferTo "Refer-To" b'r',
    ReferredBy "Referred-By" b'b',
    RejectContact "Reject-Contact" b'j',
    RemotePartyId "Remote-Party-ID",
    Replaces "Replaces",
    ReplyTo "Reply-To",
    RequestDisposition "Request-Disposition" b'd',
    Require "Require",
    ResourcePriority "Resource-Priority",
    ResponseKey "Response-Key",
    ResponseSource "Response-Source",
    RetryAfter "Retry-After",
    Route "Route",
    RSeq "RSeq",
    SecurityClient "Security-Client",
    SecurityServer "Security-Server",
    SecurityVerify "Security-Verify",
    Server "Server",
    ServiceRoute "Service-Route",
    SessionExpires "Session-Expires" b'x',
    SessionId "Session-ID",
    SipEtag "SIP-ETag",
    SipIfMatch "SIP-If-Match",
    Subject "Subject" b's',
    SubscriptionState "Subscription-State",
    Supported "Supported" b'k',
    SuppressIfMatch "Suppress-If-Match",
    TargetDialog "Target-Dialog",
    Timestamp "Timestamp",
    To "To" b't',
    TriggerConsent "Trigger-Consent",
    Unsupported "Unsupported",
    UserAgent "User-Agent",
    UserToUser "User-to-User",
    Via "Via" b'v',
    Warning "Warning",
    WwwAuthenticate "WWW-Authenticate",
}

impl HeaderName {
    /// How many values the type has, `Other` included.
    pub(crate) const COUNT: usize = Self::KNOWN.len() + 1;

    /// By name or compact form, in any case; `Other` for everything that is not known.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        if let [letter] = name {
            return by_letter(*letter);
        }
        let mut slot = slot_of(name);
        // Bounded: the table is built with free slots, and never has long runs.
        for _ in 0..SLOTS {
            match NAMES.get(slot).copied().flatten() {
                Some(known) if is_same(known.as_str().as_bytes(), name) => return known,
                Some(_) => slot = (slot + 1) % SLOTS,
                None => break,
            }
        }
        Self::Other
    }

    /// `true` if the header may stand only once in a message: RFC 3261 7.3.1 and section 20.
    #[must_use]
    pub const fn is_single(self) -> bool {
        matches!(
            self,
            Self::CallId
                | Self::ContentLength
                | Self::ContentType
                | Self::CSeq
                | Self::Expires
                | Self::From
                | Self::MaxForwards
                | Self::To
        )
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name that a line begins with and its length, if it is one that messages mostly have,
/// written as the RFCs do, with its colon behind it: comparing a few bytes that are known costs
/// less than to look for the colon.
pub(crate) fn usual(line: &[u8]) -> Option<(HeaderName, usize)> {
    use HeaderName as Is;
    Some(match line.first()? {
        b'V' if line.starts_with(b"Via:") => (Is::Via, 3),
        b'T' if line.starts_with(b"To:") => (Is::To, 2),
        b'F' if line.starts_with(b"From:") => (Is::From, 4),
        b'C' if line.starts_with(b"Call-ID:") => (Is::CallId, 7),
        b'C' if line.starts_with(b"CSeq:") => (Is::CSeq, 4),
        b'C' if line.starts_with(b"Contact:") => (Is::Contact, 7),
        b'C' if line.starts_with(b"Content-Length:") => (Is::ContentLength, 14),
        b'C' if line.starts_with(b"Content-Type:") => (Is::ContentType, 12),
        b'M' if line.starts_with(b"Max-Forwards:") => (Is::MaxForwards, 12),
        b'R' if line.starts_with(b"Record-Route:") => (Is::RecordRoute, 12),
        b'R' if line.starts_with(b"Route:") => (Is::Route, 5),
        b'U' if line.starts_with(b"User-Agent:") => (Is::UserAgent, 10),
        b'E' if line.starts_with(b"Expires:") => (Is::Expires, 7),
        b'A' if line.starts_with(b"Allow:") => (Is::Allow, 5),
        b'A' if line.starts_with(b"Authorization:") => (Is::Authorization, 13),
        b'S' if line.starts_with(b"Supported:") => (Is::Supported, 9),
        _ => return None,
    })
}

/// Most senders write names as the RFCs do, and comparing bytes is cheaper than folding case.
fn is_same(known: &[u8], name: &[u8]) -> bool {
    known == name || known.eq_ignore_ascii_case(name)
}

const fn by_letter(letter: u8) -> HeaderName {
    match letter.to_ascii_lowercase() {
        b'a' => HeaderName::AcceptContact,
        b'b' => HeaderName::ReferredBy,
        b'c' => HeaderName::ContentType,
        b'd' => HeaderName::RequestDisposition,
        b'e' => HeaderName::ContentEncoding,
        b'f' => HeaderName::From,
        b'i' => HeaderName::CallId,
        b'j' => HeaderName::RejectContact,
        b'k' => HeaderName::Supported,
        b'l' => HeaderName::ContentLength,
        b'm' => HeaderName::Contact,
        b'n' => HeaderName::IdentityInfo,
        b'o' => HeaderName::Event,
        b'r' => HeaderName::ReferTo,
        b's' => HeaderName::Subject,
        b't' => HeaderName::To,
        b'u' => HeaderName::AllowEvents,
        b'v' => HeaderName::Via,
        b'x' => HeaderName::SessionExpires,
        b'y' => HeaderName::Identity,
        _ => HeaderName::Other,
    }
}

/// Slots of the table of names; a power of two, several times the number of names.
const SLOTS: usize = 1024;

/// Where to look first: from the length and the first, middle and last letters.
const fn slot_of(name: &[u8]) -> usize {
    // `| 32` folds the case of letters, and does no harm to the rest.
    let [first, .., last] = name else { return 0 };
    let (_, right) = name.split_at(name.len() / 2);
    let middle = match right {
        [middle, ..] => *middle,
        [] => 0,
    };
    let letters = (*first | 32) as usize * 33 + (middle | 32) as usize * 141;
    (letters + (*last | 32) as usize * 7 + name.len() * 59) % SLOTS
}

static NAMES: [Option<HeaderName>; SLOTS] = table_of_names();

#[allow(clippy::indexing_slicing)] // runs at compile time, where a wrong index is an error
const fn table_of_names() -> [Option<HeaderName>; SLOTS] {
    let mut table = [None; SLOTS];
    let mut i = 0;
    while i < HeaderName::KNOWN.len() {
        let name = HeaderName::KNOWN[i];
        let mut slot = slot_of(name.as_str().as_bytes());
        while table[slot].is_some() {
            slot = (slot + 1) % SLOTS;
        }
        table[slot] = Some(name);
        i += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_known_name_is_found_in_any_case_and_in_its_compact_form() {
        for name in HeaderName::KNOWN {
            assert_eq!(HeaderName::of(name.as_str().as_bytes()), *name);
            assert_eq!(HeaderName::of(name.as_str().to_lowercase().as_bytes()), *name);
            assert_eq!(HeaderName::of(name.as_str().to_uppercase().as_bytes()), *name);
            if let Some(letter) = name.compact() {
                assert_eq!(HeaderName::of(&[letter]), *name);
                assert_eq!(HeaderName::of(&[letter.to_ascii_uppercase()]), *name);
            }
        }
    }

    #[test]
    fn letters_name_only_what_declares_them() {
        for letter in 0..=255u8 {
            let name = HeaderName::of(&[letter]);
            if name != HeaderName::Other {
                assert_eq!(name.compact(), Some(letter.to_ascii_lowercase()));
            }
        }
    }

    #[test]
    fn look_up_needs_few_probes() {
        let probes = |name: &HeaderName| {
            let home = slot_of(name.as_str().as_bytes());
            (0..SLOTS).find(|i| NAMES[(home + i) % SLOTS] == Some(*name)).unwrap() + 1
        };
        assert!(HeaderName::KNOWN.iter().map(probes).max() <= Some(4));
    }

    #[test]
    fn usual_names_are_those_of_the_table() {
        let mut found = 0;
        for name in HeaderName::KNOWN {
            let line = format!("{name}: x");
            if let Some((usual, len)) = usual(line.as_bytes()) {
                assert_eq!((usual, len), (*name, name.as_str().len()));
                found += 1;
            }
        }
        assert_eq!((found, usual(b"Via : x"), usual(b"")), (16, None, None));
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(name: Vec<u8>) {
            let known = HeaderName::of(&name);
            if known != HeaderName::Other && name.len() > 1 {
                prop_assert!(known.as_str().as_bytes().eq_ignore_ascii_case(&name));
            }
        }
    }
}
