//! Request methods.

use std::fmt;

macro_rules! methods {
    ($($variant:ident $name:literal $doc:literal,)*) => {
        /// A request method. Names are case sensitive: RFC 3261 7.1.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Method {
            $(#[doc = $doc] $variant,)*
            /// Any other token; its text is in the message.
            Other,
        }

        impl Method {
            /// All known methods, without `Other`.
            pub const KNOWN: &[Self] = &[$(Self::$variant),*];

            /// By its exact name; `Other` for everything that is not known.
            #[must_use]
            pub fn of(name: &[u8]) -> Self {
                match name {
                    $(n if n == $name.as_bytes() => Self::$variant,)*
                    _ => Self::Other,
                }
            }

            /// The name; `OTHER` for a method that is not known.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Other => "OTHER",
                }
            }
        }
    };
}

methods! {
    Invite "INVITE" "RFC 3261",
    Ack "ACK" "RFC 3261",
    Bye "BYE" "RFC 3261",
    Cancel "CANCEL" "RFC 3261",
    Options "OPTIONS" "RFC 3261",
    Register "REGISTER" "RFC 3261",
    Prack "PRACK" "RFC 3262",
    Subscribe "SUBSCRIBE" "RFC 6665",
    Notify "NOTIFY" "RFC 6665",
    Publish "PUBLISH" "RFC 3903",
    Info "INFO" "RFC 6086",
    Refer "REFER" "RFC 3515",
    Message "MESSAGE" "RFC 3428",
    Update "UPDATE" "RFC 3311",
}

impl Method {
    /// `true` if a 101 to 299 reply to it can create a dialog, and so must carry the route back:
    /// RFC 3261 12.1.1, RFC 6665 4.4.1, RFC 3515 2.4.4.
    #[must_use]
    pub const fn creates_dialog(self) -> bool {
        matches!(self, Self::Invite | Self::Subscribe | Self::Refer | Self::Notify)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Method;

    #[test]
    fn every_known_name_is_found_and_case_matters() {
        assert_eq!(Method::KNOWN.len(), 14);
        for method in Method::KNOWN {
            assert_eq!(Method::of(method.as_str().as_bytes()), *method);
        }
        assert_eq!(Method::of(b"invite"), Method::Other);
        assert_eq!(Method::of(b"OTHER"), Method::Other);
    }
}
