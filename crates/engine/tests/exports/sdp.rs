//! The session description as variables.

use tandem_engine::testing::Check;

use super::{PHONE, node};

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\n\
    m=audio 4000 RTP/AVP 0 8\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=sendrecv\r\n\
    m=video 4002 RTP/AVP 99\r\na=rtpmap:99 H264/90000\r\n";

pub(super) const CHECKS: &[Check] = &[
    ("variable sdp", || {
        assert_eq!(said("", "$sdp"), SDP);
        assert_eq!(said("$sdp = \"v=0\";", "$sdp"), "v=0");
        assert_eq!(said("$sdp = NULL;", "$sdp"), "<null>");
        assert!(sent("$sdp = \"v=0\";").ends_with("\r\n\r\nv=0"));
    }),
    ("variable sdp.line", || {
        assert_eq!(said("", "$sdp.line(c=)"), "c=IN IP4 10.0.0.1");
        assert_eq!(said("", "$sdp.line(c=/2)"), "10.0.0.1");
        assert_eq!(said("", "$(sdp.line(a=rtpmap)[1])"), "a=rtpmap:8 PCMA/8000");
        assert_eq!(said("", "$(sdp.line(a=rtpmap)[-1])"), "a=rtpmap:99 H264/90000");
        assert_eq!(said("", "$sdp.line(b=)"), "<null>");
        let c = said("$sdp.line(c=/2) = \"192.0.2.1\";", "$sdp.line(c=)");
        assert_eq!(c, "c=IN IP4 192.0.2.1");
        let body = sent("$(sdp.line(a=rtpmap)[1]) = NULL; $sdp.line(b=) = \"b=AS:64\";");
        assert!(!body.contains("PCMA") && body.ends_with("H264/90000\r\nb=AS:64\r\n"), "{body}");
    }),
    ("variable sdp.session", || {
        assert_eq!(said("", "$sdp.session(t=)"), "t=0 0");
        assert_eq!(said("", "$sdp.session(a=rtpmap)"), "<null>", "that is of a stream");
        let body = sent("$sdp.session(b=) = \"b=CT:1\";");
        assert!(body.contains("t=0 0\r\nb=CT:1\r\nm=audio"), "{body}");
    }),
    ("variable sdp.stream", || {
        let video = "m=video 4002 RTP/AVP 99\r\na=rtpmap:99 H264/90000\r\n";
        assert_eq!(said("", "$sdp.stream(video)"), video);
        assert_eq!(said("", "$sdp.stream(audio/a=send)"), "a=sendrecv");
        assert_eq!(said("", "$sdp.stream(audio/m=/1)"), "4000");
        assert_eq!(said("", "$(sdp.stream(audio)[1])"), "<null>");
        let body = sent("$sdp.stream(audio/m=/1) = \"6000\"; $sdp.stream(video) = NULL;");
        assert!(body.contains("m=audio 6000 RTP") && !body.contains("video"), "{body}");
    }),
    ("variable sdp.stream.idx", || {
        assert_eq!(said("", "$sdp.stream.idx(video)"), "1");
        assert_eq!(said("", "$sdp.stream.idx(text)"), "<null>");
    }),
];

fn run(statements: &str) -> tandem_engine::testing::TestNode {
    let mut node = node("", statements);
    let request = format!(
        "INVITE sip:bob@127.0.0.8 SIP/2.0\nVia: SIP/2.0/UDP {PHONE};branch=z9hG4bKx\n\
         From: <sip:al@a.org>;tag=f\nTo: <sip:bo@b.org>\nCall-ID: c1\nCSeq: 7 INVITE\n\
         Content-Type: application/sdp\nContent-Length: {}\n\n",
        SDP.len()
    );
    let bytes = [request.replace('\n', "\r\n").as_bytes(), SDP.as_bytes()].concat();
    node.raw_udp(PHONE, bytes.into());
    node
}

fn said(statements: &str, text: &str) -> String {
    let mut node = run(&format!("{statements} xlog(\"L_NOTICE\", \"#{text}#\");"));
    let line = node.logs().pop().map(|l| l.1).unwrap_or_default();
    line.trim_matches('#').to_owned()
}

fn sent(statements: &str) -> String {
    let mut node = run(&format!("{statements} forward();"));
    node.sent().remove(0).1
}
