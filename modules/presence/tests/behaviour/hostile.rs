//! Phones that mean harm, or are broken.

use proptest::prelude::*;

use crate::common::*;

#[test]
fn a_flood_of_publications_of_one_presentity_is_bounded() {
    let mut node = node("");
    let mut refused = 0;
    for n in 1..2_000 {
        let reply = published(&mut node, &publish("bob", "presence", n, "", "open"));
        refused += u32::from(reply.starts_with("SIP/2.0 503"));
    }
    assert_eq!(refused, 1_999 - 64);
    let entry = &list(&mut node, "presence:phtable_list")[0];
    assert_eq!(entry["etag_count"], 64);
    // Others are not kept from publishing.
    assert!(published(&mut node, &publish("eve", "presence", 1, "", "x")).contains(" 200 "));
}

#[test]
fn lines_cannot_be_smuggled_into_a_notify() {
    let mut node = node("");
    let mut watcher = Watcher::new("w", "bob", "presence;id=\"a\r\nX: y\"");
    node.udp(WATCHER, &watcher.subscribe(""));
    for text in got(&mut node) {
        assert!(!text.contains("\r\nX: y"), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn no_request_harms_the_node(
        parts in proptest::collection::vec((0usize..9, "[ -~]{0,40}"), 0..6), publishes: bool
    ) {
        let mut node = node("");
        let names = [
            "Event", "Expires", "SIP-If-Match", "Contact", "From", "To", "Record-Route", "CSeq",
            "Content-Type",
        ];
        let mut text = if publishes {
            publish("bob", "presence", 1, "", "open")
        } else {
            Watcher::new("w", "bob", "presence").subscribe("")
        };
        for (n, value) in parts {
            let line = format!("{}: ", names[n]);
            let (head, body) = text.split_once("\n\n").unwrap();
            let mut lines: Vec<String> = head
                .lines()
                .filter(|l| !l.starts_with(&line))
                .map(str::to_owned)
                .collect();
            lines.push(format!("{line}{value}"));
            text = format!("{}\n\n{body}", lines.join("\n"));
        }
        node.udp(WATCHER, &text);
        node.advance_ms(3_000);
        got(&mut node);
        // It goes on serving.
        let reply = published(&mut node, &publish("eve", "presence", 2, "", "x"));
        prop_assert!(reply.starts_with("SIP/2.0 200"), "{}", reply);
    }
}
