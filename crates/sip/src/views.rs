//! Typed views of the headers that routing needs.

use crate::scan::parse_u32;
use crate::{CSeq, ContactList, HeaderName, Message, NameAddr, Uri, UriError, ValueError, Via};

impl Message {
    fn number(&self, name: HeaderName) -> Result<Option<u32>, ValueError> {
        match self.header(name) {
            None => Ok(None),
            Some(h) => parse_u32(h.value()).map(Some).ok_or(ValueError::Number),
        }
    }

    /// The topmost Via.
    ///
    /// # Errors
    /// [`ValueError::Missing`], or as [`Via::parse`].
    pub fn top_via(&self) -> Result<Via<'_>, ValueError> {
        self.mandatory().via.map(|via| via.view(self.as_bytes()))
    }

    /// All Vias, the topmost first.
    pub fn vias(&self) -> impl Iterator<Item = Result<Via<'_>, ValueError>> {
        self.values(HeaderName::Via).map(|v| Via::parse(v.bytes))
    }

    /// # Errors
    /// [`ValueError::Missing`], or as [`NameAddr::parse`].
    pub fn from(&self) -> Result<NameAddr<'_>, ValueError> {
        self.mandatory().from.map(|addr| addr.view(self.as_bytes()))
    }

    /// # Errors
    /// [`ValueError::Missing`], or as [`NameAddr::parse`].
    pub fn to(&self) -> Result<NameAddr<'_>, ValueError> {
        self.mandatory().to.map(|addr| addr.view(self.as_bytes()))
    }

    /// The tag of From, if it can be read.
    #[must_use]
    pub fn from_tag(&self) -> Option<&[u8]> {
        self.mandatory().from.ok()?.tag(self.as_bytes())
    }

    /// The tag of To, if it can be read.
    #[must_use]
    pub fn to_tag(&self) -> Option<&[u8]> {
        self.mandatory().to.ok()?.tag(self.as_bytes())
    }

    /// # Errors
    /// [`ValueError::Missing`], or as [`CSeq::parse`].
    pub fn cseq(&self) -> Result<CSeq<'_>, ValueError> {
        self.mandatory().cseq.map(|cseq| cseq.view(self.as_bytes()))
    }

    /// The Call-ID; `None` if it is missing or empty.
    #[must_use]
    pub fn call_id(&self) -> Option<&[u8]> {
        self.header(HeaderName::CallId).map(|h| h.value()).filter(|v| !v.is_empty())
    }

    /// # Errors
    /// If it is there and not a number of 32 bits.
    pub fn max_forwards(&self) -> Result<Option<u32>, ValueError> {
        self.number(HeaderName::MaxForwards)
    }

    /// The Expires header in seconds.
    ///
    /// # Errors
    /// If it is there and not a number of 32 bits.
    pub fn expires(&self) -> Result<Option<u32>, ValueError> {
        self.number(HeaderName::Expires)
    }

    /// # Errors
    /// If it is there and not a number of 32 bits.
    pub fn content_length(&self) -> Result<Option<u32>, ValueError> {
        self.number(HeaderName::ContentLength)
    }

    /// The Content-Type as it is written.
    #[must_use]
    pub fn content_type(&self) -> Option<&[u8]> {
        self.header(HeaderName::ContentType).map(|h| h.value())
    }

    /// The User-Agent as it is written.
    #[must_use]
    pub fn user_agent(&self) -> Option<&[u8]> {
        self.header(HeaderName::UserAgent).map(|h| h.value())
    }

    /// All contacts.
    ///
    /// # Errors
    /// If one of them cannot be read, or `*` is not alone.
    pub fn contact_list(&self) -> Result<ContactList<'_>, ValueError> {
        ContactList::collect(self.values(HeaderName::Contact).map(|v| v.bytes))
    }

    /// The addresses of a list header: Route, Record-Route, Path, Service-Route, Contact without
    /// `*`, P-Asserted-Identity...
    pub fn addrs(
        &self,
        name: HeaderName,
    ) -> impl Iterator<Item = Result<NameAddr<'_>, ValueError>> {
        self.values(name).map(|v| NameAddr::parse(v.bytes))
    }

    /// The Route set that the request still has to visit, the next first.
    pub fn routes(&self) -> impl Iterator<Item = Result<NameAddr<'_>, ValueError>> {
        self.addrs(HeaderName::Route)
    }

    /// The Record-Route set, the latest first.
    pub fn record_routes(&self) -> impl Iterator<Item = Result<NameAddr<'_>, ValueError>> {
        self.addrs(HeaderName::RecordRoute)
    }

    /// The Path of a REGISTER, nearest to us first (RFC 3327).
    pub fn paths(&self) -> impl Iterator<Item = Result<NameAddr<'_>, ValueError>> {
        self.addrs(HeaderName::Path)
    }

    /// The Request-URI in its parts.
    ///
    /// # Errors
    /// As [`Uri::parse`]; always for a reply.
    pub fn parse_request_uri(&self) -> Result<Uri<'_>, UriError> {
        Uri::parse(self.request_uri())
    }
}
