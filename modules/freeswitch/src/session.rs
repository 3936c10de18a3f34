//! A conversation over one event socket: it asks for the password, gets it, is asked for its
//! HEARTBEATs and sends them.

use std::fmt::Write as _;

use bytes::Bytes;

use crate::frame::{Frame, Framer, event};
use crate::load::Load;
use crate::url::FsUrl;

/// Asks for the events; to ask again changes nothing, and is answered.
pub(crate) const SUBSCRIBE: &[u8] = b"event plain HEARTBEAT\n\n";
/// Letters of a text of the other side that are shown to people.
const SHOWN_MAX: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Greeting,
    Login,
    Subscribing,
    Up,
}

/// What comes of bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum News {
    Write(Bytes),
    /// It will send events.
    Up,
    Load(Load),
    /// A HEARTBEAT that cannot be understood.
    Odd(String),
    /// It is over.
    Failed(String),
}

#[derive(Debug)]
pub(crate) struct Session {
    framer: Framer,
    step: Step,
    login: String,
}

impl Session {
    pub(crate) fn new(url: &FsUrl) -> Self {
        Self { framer: Framer::default(), step: Step::Greeting, login: url.login() }
    }

    /// What it waits for, in words.
    pub(crate) fn waits_for(&self) -> &'static str {
        match self.step {
            Step::Greeting => "it says nothing: is an event socket there?",
            Step::Login => "it does not answer to the password",
            Step::Subscribing | Step::Up => "it does not answer any more",
        }
    }

    /// After [`News::Failed`] nothing more comes.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Vec<News> {
        self.framer.feed(bytes);
        let mut news = Vec::new();
        loop {
            match self.framer.next_frame() {
                Ok(Some(frame)) => news.extend(self.frame(&frame)),
                Ok(None) => return news,
                Err(why) => {
                    let why = format!("it does not speak the protocol of event sockets: {why}");
                    news.push(News::Failed(why));
                }
            }
            if matches!(news.last(), Some(News::Failed(_))) {
                return news;
            }
        }
    }

    fn frame(&mut self, frame: &Frame) -> Option<News> {
        let kind = frame.lines.get("Content-Type");
        match (kind, self.step) {
            (Some("auth/request"), Step::Greeting) => {
                self.step = Step::Login;
                Some(News::Write(std::mem::take(&mut self.login).into()))
            }
            (Some("command/reply"), _) => self.reply(frame.lines.get("Reply-Text")),
            (Some("text/event-plain" | "text/event-json"), Step::Subscribing | Step::Up) => {
                let Some(event) = event(frame) else {
                    return Some(News::Odd("it sends an event that is none".into()));
                };
                if event.get("Event-Name") != Some("HEARTBEAT") {
                    return None;
                }
                Some(match Load::of(&event) {
                    Ok(load) => News::Load(load),
                    Err(why) => News::Odd(format!("a HEARTBEAT cannot be understood: {why}")),
                })
            }
            (Some("text/disconnect-notice"), _) => {
                Some(News::Failed(format!("it ends the connection: {}", shown(&frame.body))))
            }
            (Some("text/rude-rejection"), _) => Some(News::Failed(format!(
                "it does not let this host in ({}): look at apply-inbound-acl in its \
                 event_socket.conf.xml",
                shown(&frame.body)
            ))),
            (_, Step::Greeting) => Some(News::Failed(
                "it does not ask for a password: is an event socket there?".into(),
            )),
            _ => None,
        }
    }

    fn reply(&mut self, text: Option<&str>) -> Option<News> {
        let text = text.unwrap_or_default();
        let is_ok = text.starts_with("+OK");
        let said = shown(text.as_bytes());
        match self.step {
            Step::Greeting => Some(News::Failed("it answers what nobody has asked".into())),
            Step::Login if is_ok => {
                self.step = Step::Subscribing;
                Some(News::Write(Bytes::from_static(SUBSCRIBE)))
            }
            Step::Login => Some(News::Failed(format!("it refuses the password: {said}"))),
            Step::Subscribing if is_ok => {
                self.step = Step::Up;
                Some(News::Up)
            }
            Step::Subscribing => {
                Some(News::Failed(format!("it does not tell of its HEARTBEATs: {said}")))
            }
            Step::Up => None,
        }
    }
}

/// The first line of a text of strangers.
fn shown(text: &[u8]) -> String {
    let line = text.split(|b| matches!(b, b'\n' | b'\r')).next().unwrap_or_default();
    let mut shown = String::new();
    for letter in String::from_utf8_lossy(line).chars().take(SHOWN_MAX) {
        let letter = if letter.is_control() { '?' } else { letter };
        let _ = shown.write_char(letter);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn session() -> Session {
        Session::new(&FsUrl::parse("fs://:ClueCon@h").unwrap())
    }

    fn reply(text: &str) -> String {
        format!("Content-Type: command/reply\nReply-Text: {text}\n\n")
    }

    fn why(news: &[News]) -> &str {
        match news.last() {
            Some(News::Failed(why) | News::Odd(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    fn up() -> Session {
        let mut session = session();
        let said = session.take(b"Content-Type: auth/request\n\n");
        assert_eq!(said, [News::Write("auth ClueCon\n\n".into())]);
        assert_eq!(session.take(reply("+OK accepted").as_bytes()), [News::Write(SUBSCRIBE.into())]);
        let said = session.take(reply("+OK event listener enabled plain").as_bytes());
        assert_eq!((said, session.step), (vec![News::Up], Step::Up));
        session
    }

    #[test]
    fn heartbeats_come_after_the_password() {
        let mut session = up();
        let body =
            "Event-Name: HEARTBEAT\nSession-Count: 7\nMax-Sessions: 1000\nIdle-CPU: 98.5\n\n";
        let text =
            format!("Content-Length: {}\nContent-Type: text/event-plain\n\n{body}", body.len());
        let load = News::Load(Load { sessions: 7, sessions_max: 1000, idle_cpu: 98.5 });
        assert_eq!(session.take(text.as_bytes()), [load]);
        // Another event, and the answer to a second question.
        let other = "Content-Length: 22\nContent-Type: text/event-plain\n\nEvent-Name: RELOADXML\n";
        assert_eq!(session.take(format!("{other}{}", reply("+OK")).as_bytes()), []);
        for lie in ["-1", "x", "99999999999", ""] {
            let body = body.replace("1000", lie);
            let (kind, len) = ("text/event-plain", body.len());
            let text = format!("Content-Length: {len}\nContent-Type: {kind}\n\n{body}");
            assert!(why(&session.take(text.as_bytes())).contains("Max-Sessions"), "{lie}");
        }
        let nan = "Content-Length: 50\nContent-Type: text/event-json\n\n\
                   {\"Event-Name\":\"HEARTBEAT\",\"Idle-CPU\":\"NaN\"}       ";
        assert!(why(&session.take(nan.as_bytes())).contains("Idle-CPU"));
    }

    #[test]
    fn a_refusal_says_why() {
        let mut refused = session();
        refused.take(b"Content-Type: auth/request\n\n");
        assert!(why(&refused.take(reply("-ERR invalid").as_bytes())).contains("-ERR invalid"));
        let acl =
            b"Content-Type: text/rude-rejection\nContent-Length: 24\n\nAccess Denied, go away.\n";
        assert!(why(&session().take(acl)).contains("apply-inbound-acl"));
        let notice =
            b"Content-Type: text/disconnect-notice\nContent-Length: 12\n\nGo\x07od bye.\nx";
        assert!(why(&up().take(notice)).ends_with("Go?od bye."));
        assert!(why(&session().take(b"HTTP/1.1 400 Bad Request\n\n")).contains("event socket"));
        assert!(why(&session().take(&[b'a'; 9000])).contains("blank line"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_no_password_comes_back(
            bytes in proptest::collection::vec(any::<u8>(), 0..300)
        ) {
            for news in session().take(&bytes) {
                if let News::Failed(why) | News::Odd(why) = news {
                    prop_assert!(!why.contains("ClueCon"));
                }
            }
        }
    }
}
