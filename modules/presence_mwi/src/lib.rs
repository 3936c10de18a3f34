//! `presence_mwi`: messages that wait in a mailbox (`message-summary`, RFC 3842).

use std::sync::Arc;

use bytes::Bytes;
use tandem_engine::module::{BuildError, Module, ModuleDef};
use tandem_engine::table::needs;
use tandem_presence::{Package, Presence, Refusal};

/// The table of the module.
pub static MODULE: ModuleDef = ModuleDef {
    name: "presence_mwi",
    help: "The event message-summary: messages that wait.",
    dependencies: &[needs("presence")],
    params: &[],
    functions: &[],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build: |from| {
        let presence = from.module::<Presence>();
        let presence = presence.ok_or_else(|| BuildError::new("", "presence is not loaded"))?;
        presence.add_package(Arc::new(Summary));
        Ok(Arc::new(Mwi))
    },
};

struct Mwi;

impl Module for Mwi {}

/// The newest summary is the state; there is nothing to merge, and no rules.
struct Summary;

const TYPE: &str = "application/simple-message-summary";

impl Package for Summary {
    fn name(&self) -> &'static str {
        "message-summary"
    }

    fn content_type(&self) -> &'static str {
        TYPE
    }

    fn judge(&self, content_type: &[u8], body: &Bytes) -> Result<(), Refusal> {
        let kind = content_type.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        if !kind.is_empty() && !kind.eq_ignore_ascii_case(TYPE.as_bytes()) {
            return Err(Refusal::unsupported(self.content_type()));
        }
        match says_whether(body) {
            true => Ok(()),
            false => Err(Refusal::new(400, "Messages-Waiting Missing")),
        }
    }
}

/// Whether a summary begins as it has to: `Messages-Waiting: yes` (RFC 3842 5.2).
fn says_whether(body: &[u8]) -> bool {
    let first = body.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).find(|line| !line.is_empty());
    let Some(line) = first else { return false };
    let Some(colon) = line.iter().position(|b| *b == b':') else { return false };
    let (name, value) = line.split_at(colon);
    let value = value.get(1..).unwrap_or_default().trim_ascii();
    name.trim_ascii().eq_ignore_ascii_case(b"Messages-Waiting")
        && (value.eq_ignore_ascii_case(b"yes") || value.eq_ignore_ascii_case(b"no"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_summary_says_whether_messages_wait() {
        assert!(says_whether(b"Messages-Waiting: yes\r\nVoice-Message: 2/8 (0/2)\r\n"));
        assert!(says_whether(b"\r\nmessages-waiting : NO"));
        for bad in ["", "Messages-Waiting", "Messages-Waiting: maybe", "<xml/>"] {
            assert!(!says_whether(bad.as_bytes()), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = says_whether(&body);
        }
    }
}
