//! SIP messages as far as a test phone needs them; independent of the parser under test.

/// A received message.
#[derive(Debug, Clone)]
pub struct Message {
    /// The first line.
    pub start: String,
    headers: Vec<(String, String)>,
    /// What follows the empty line.
    pub body: String,
}

impl Message {
    /// Reads a datagram; `None` if it is not a SIP message.
    #[must_use]
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(datagram).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let start = lines.next()?.to_owned();
        let headers = lines.map(header).collect::<Option<Vec<_>>>()?;
        start.contains("SIP/2.0").then(|| Self { start, headers, body: body.to_owned() })
    }

    /// The method of a request.
    #[must_use]
    pub fn method(&self) -> Option<&str> {
        let method = self.start.split(' ').next()?;
        (method != "SIP/2.0").then_some(method)
    }

    /// The code of a reply.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.split(' ').next()?.parse().ok()
    }

    /// The first header of this name (long form).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name))?;
        Some(&found.1)
    }

    /// The first header of this name.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn want(&self, name: &str) -> &str {
        self.header(name).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    /// Every line of a header, whole.
    #[must_use]
    pub fn lines(&self, name: &str) -> Vec<&str> {
        let lines = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        lines.map(|(_, value)| value.as_str()).collect()
    }

    /// Every value of a header, those of one line separated by commas included.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<String> {
        let lines = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        lines.flat_map(|(_, value)| split_values(value)).collect()
    }

    /// The headers of a reply that are copied from its request.
    #[must_use]
    pub fn copied(&self) -> String {
        let names = ["Via", "Record-Route", "From", "Call-ID", "CSeq"];
        let lines = self.headers.iter().filter(|(n, _)| names.contains(&n.as_str()));
        lines.map(|(name, value)| format!("{name}: {value}\r\n")).collect()
    }

    /// Whether this is a reply to the request with this Call-ID and CSeq.
    #[must_use]
    pub fn answers(&self, call_id: &str, cseq: &str) -> bool {
        self.code().is_some()
            && self.header("Call-ID") == Some(call_id)
            && self.header("CSeq") == Some(cseq)
    }
}

fn header(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    let name = name.trim();
    let long = match name.to_ascii_lowercase().as_str() {
        "v" | "via" => "Via",
        "f" | "from" => "From",
        "t" | "to" => "To",
        "i" | "call-id" => "Call-ID",
        "m" | "contact" => "Contact",
        "cseq" => "CSeq",
        "record-route" => "Record-Route",
        _ => name,
    };
    Some((long.to_owned(), value.trim().to_owned()))
}

/// Splits at commas that are not within `<>` or quotes.
fn split_values(value: &str) -> Vec<String> {
    let (mut depth, mut quoted) = (0_i32, false);
    let parts = value.split(|c: char| {
        match c {
            '"' => quoted = !quoted,
            '<' if !quoted => depth += 1,
            '>' if !quoted => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0 && !quoted
    });
    parts.map(|p| p.trim().to_owned()).collect()
}

/// The URI of a name-addr or addr-spec.
#[must_use]
pub(crate) fn uri_of(value: &str) -> &str {
    match value.split_once('<') {
        Some((_, rest)) => rest.split('>').next().unwrap_or(rest),
        None => value.split(';').next().unwrap_or(value),
    }
}

/// The tag parameter of a From or To.
#[must_use]
pub(crate) fn tag_of(value: &str) -> Option<&str> {
    value.split(';').find_map(|p| p.trim().strip_prefix("tag="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_on_one_line_and_on_many_are_the_same() {
        let text = "SIP/2.0 200 OK\r\nRecord-Route: <sip:a;lr>, \"x, y\" <sip:b,c;lr>\r\n\
                    record-route: <sip:d>\r\ni: 1\r\n\r\nbody";
        let message = Message::parse(text.as_bytes()).unwrap();
        assert_eq!(message.all("Record-Route"), ["<sip:a;lr>", "\"x, y\" <sip:b,c;lr>", "<sip:d>"]);
        assert_eq!((message.code(), message.method()), (Some(200), None));
        assert_eq!((message.want("Call-ID"), message.body.as_str()), ("1", "body"));
        assert_eq!(uri_of("\"x\" <sip:b;lr>;tag=1"), "sip:b;lr");
    }
}
