//! What a message must have before anyone acts on it.

use crate::{HeaderName, Invalid, Message, ValueError, Via};

const MANDATORY: [HeaderName; 5] =
    [HeaderName::Via, HeaderName::From, HeaderName::To, HeaderName::CallId, HeaderName::CSeq];

impl Message {
    /// Checks what every element must check (RFC 3261 8.1.1, 16.3, 18.3): the version, the
    /// mandatory headers and that they can be read, that single headers are single, that CSeq
    /// and Request-URI make sense, that the body is all there.
    ///
    /// A request that fails can be answered: [`crate::build_reply`] copies whatever is there.
    ///
    /// # Errors
    /// The first fault found.
    pub fn validate(&self) -> Result<(), Invalid> {
        if !self.version().eq_ignore_ascii_case(b"SIP/2.0") {
            return Err(Invalid::Version);
        }
        if let Some(missing) = MANDATORY.into_iter().find(|name| self.header(*name).is_none()) {
            return Err(Invalid::Missing(missing));
        }
        if let Some(repeated) = self.repeated() {
            return Err(Invalid::Repeated(repeated));
        }
        self.validate_mandatory()?;
        self.validate_body()?;
        if self.is_request() {
            self.parse_request_uri().map_err(Invalid::RequestUri)?;
        }
        Ok(())
    }

    fn validate_mandatory(&self) -> Result<(), Invalid> {
        let bad = |name| move |e| Invalid::Header(name, e);
        let read = self.mandatory();
        self.validate_top_vias().map_err(bad(HeaderName::Via))?;
        read.from.map_err(bad(HeaderName::From))?;
        read.to.map_err(bad(HeaderName::To))?;
        let cseq = self.cseq().map_err(bad(HeaderName::CSeq))?;
        if self.call_id().is_none() {
            return Err(Invalid::Header(HeaderName::CallId, ValueError::Empty));
        }
        if self.is_request() && cseq.method_bytes != self.method_bytes() {
            return Err(Invalid::CSeqMethod(cseq.method));
        }
        Ok(())
    }

    /// All Vias of the first header line: the topmost one is ours to answer to, and what stands
    /// beside it shows whether it was read right.
    fn validate_top_vias(&self) -> Result<(), ValueError> {
        if !self.mandatory().via?.has_more {
            return Ok(());
        }
        let header = self.header(HeaderName::Via).ok_or(ValueError::Missing)?;
        header.values().skip(1).try_for_each(|via| Via::parse(via.bytes).map(drop))
    }

    fn validate_body(&self) -> Result<(), Invalid> {
        let length =
            self.content_length().map_err(|e| Invalid::Header(HeaderName::ContentLength, e))?;
        let present = self.body_span().len();
        match length {
            Some(announced) if announced > present => {
                Err(Invalid::BodyTooShort { announced, present })
            }
            _ => Ok(()),
        }
    }
}
