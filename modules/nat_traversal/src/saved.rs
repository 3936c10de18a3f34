//! The file that keeps endpoints over a restart. Calls are not in it: their dialogs are kept
//! elsewhere, and name their endpoints.

use std::fmt::Write;

use bytes::Bytes;
use tandem_engine::log::Level;
use tandem_engine::module::Cx;

use crate::NatTraversal;
use crate::endpoints::{ENDPOINTS_MAX, Endpoint, Reason};

const HEAD: &str = "# Written by nat_traversal at the end of the node: URI, socket, end of the \
                    registration and of the subscription in Unix seconds.\n";
/// Whose a registration or subscription was is not in the file: the next one of anybody replaces
/// what nobody renewed when it ends.
const UNKNOWN: u64 = 0;

impl NatTraversal {
    pub(crate) fn read_saved(&self, cx: &mut Cx<'_>) {
        if !self.params.file.is_empty() {
            cx.read_file(&self.params.file, 0);
        }
    }

    pub(crate) fn restore(&self, cx: &mut Cx<'_>, result: Result<Option<Bytes>, String>) {
        let bytes = match result {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return,
            Err(why) => {
                let text = format!("keepalive_state_file: {why}: endpoints start afresh");
                return cx.log(Level::Warning, text);
            }
        };
        let (now_s, text) = (cx.now.unix_s(), String::from_utf8_lossy(&bytes));
        let mut endpoints = self.endpoints.lock();
        for line in text.lines().filter(|l| !l.starts_with('#')).take(ENDPOINTS_MAX) {
            let Some(saved) = parse(line) else { continue };
            let Some(socket) = cx.node.sockets.resolve(saved.socket) else { continue };
            let (registered_s, subscribed_s) = saved.until_s;
            if registered_s > now_s {
                let reason = Reason::Registered { who: UNKNOWN, until_s: registered_s };
                endpoints.note(saved.endpoint, socket, reason, now_s);
            }
            if subscribed_s > now_s {
                let reason = Reason::Subscribed { who: UNKNOWN, until_s: subscribed_s };
                endpoints.note(saved.endpoint, socket, reason, now_s);
            }
        }
    }

    pub(crate) fn save(&self, cx: &mut Cx<'_>) {
        if self.params.file.is_empty() {
            return;
        }
        let mut text = HEAD.to_owned();
        for (endpoint, entry) in self.endpoints.lock().iter() {
            let Some(socket) = cx.node.sockets.get(entry.socket) else { continue };
            let (registered_s, subscribed_s) = entry.until_s();
            if registered_s != 0 || subscribed_s != 0 {
                let (uri, socket) = (endpoint.uri(), socket.text());
                // Writing to memory cannot fail.
                let _ = writeln!(text, "{uri} {socket} {registered_s} {subscribed_s}");
            }
        }
        cx.write_file(&self.params.file, Bytes::from(text));
    }
}

struct Saved<'a> {
    endpoint: Endpoint,
    socket: &'a str,
    until_s: (u64, u64),
}

fn parse(line: &str) -> Option<Saved<'_>> {
    let mut words = line.split(' ');
    let endpoint = Endpoint::parse(words.next()?.as_bytes())?;
    let socket = words.next()?;
    let until_s = (words.next()?.trim().parse().ok()?, words.next()?.trim().parse().ok()?);
    Some(Saved { endpoint, socket, until_s })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_says_who_from_where_and_until_when() {
        let saved = parse("sip:203.0.113.7:4000;transport=tcp tcp:10.0.0.1:5060 17 0").unwrap();
        assert!(saved.endpoint.is_stream);
        assert_eq!((saved.socket, saved.until_s), ("tcp:10.0.0.1:5060", (17, 0)));
    }

    proptest! {
        #[test]
        fn no_line_panics(line in "\\PC*") {
            let _ = parse(&line);
        }
    }
}
