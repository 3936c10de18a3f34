//! Any datagram: what is taken is written as it came, and every view of it gives an answer.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tandem_sip::{
    AuthRole, Contact, Edits, HeaderName, Message, NameAddr, ReplyOptions, Uri, Via, build_reply,
    uris_equal, write,
};

fuzz_target!(|data: &[u8]| {
    let _ = Message::salvage(data);
    let Ok(msg) = Message::parse(Bytes::copy_from_slice(data)) else { return };
    let mut out = Vec::new();
    write(&msg, &Edits::new(), &mut out);
    assert_eq!(out, msg.as_bytes());
    let _ = (msg.validate(), msg.contact_list().is_ok(), msg.cseq().is_ok(), msg.to_tag());
    for role in [AuthRole::Server, AuthRole::Proxy] {
        msg.credentials(role).for_each(|found| drop(found.map(|f| f.is_complete())));
    }
    let mut edits = Edits::new();
    for header in msg.all_headers() {
        let _ = header.unfolded();
        for value in header.values() {
            assert_eq!(msg.slice(value.span), value.bytes);
            let _ = (Via::parse(value.bytes).is_ok(), Contact::parse(value.bytes).is_ok());
            if let Ok(addr) = NameAddr::parse(value.bytes)
                && let Ok(uri) = Uri::parse(addr.uri)
            {
                let _ = (uri.host_ip(), uris_equal(&uri, &uri));
            }
        }
        if header.name() == HeaderName::Other {
            edits.remove(header.span());
        }
    }
    edits.append_header(&msg, &b"X-Fuzz: 1\r\n"[..]);
    edits.set_body(&b"text/plain"[..], &b"x"[..]);
    let mut changed = Vec::new();
    write(&msg, &edits, &mut changed);
    let changed = Message::parse(Bytes::from(changed));
    assert!(changed.is_err() || changed.is_ok_and(|m| m.header_by_text(b"X-Fuzz").is_some()));
    if msg.is_request() {
        let reply = build_reply(&msg, 400, b"Bad", &ReplyOptions::default());
        let _ = Message::parse(reply.into());
    }
});
