//! GRUUs: RFC 5627.

use tandem_engine::testing::TestNode;

use super::common::*;

const BODY: &str = "if ($rm == \"REGISTER\") save(\"location\");\n\
                    else { lookup(\"location\"); $var(rc) = $rc; xlog(\"rc=$var(rc) ru=$ru\\n\"); probe(); }";
const ON: &str = "modparam(\"registrar\", \"disable_gruu\", 0)\n";
const INSTANCE: &str = "+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-00000000000A>\"";

fn phone(port: u16, instance: &str) -> String {
    format!("Contact: <sip:a@10.0.0.9:{port}>;{instance}\n")
}

/// The value of a parameter of the first Contact that has it.
fn value(reply: &str, name: &str) -> Option<String> {
    let (_, rest) = reply.split_once(&format!(";{name}=\""))?;
    rest.split('"').next().map(str::to_owned)
}

fn looked_up(node: &mut TestNode, uri: &str) -> String {
    node.logs();
    let text = invite("").replacen("sip:alice@example.org", uri, 1);
    node.udp(PHONE, &text);
    let logs = node.logs();
    logs.iter().map(|(_, l)| l.trim()).collect::<Vec<_>>().join(" ")
}

pub(super) fn gruus_are_given_out_where_they_are_enabled() {
    let mut off = node("", BODY);
    let reply = ask(&mut off, &register("c", 1, &phone(1, INSTANCE)));
    assert!(!reply.contains("gruu"), "{reply}");
    let mut node = node(ON, BODY);
    let reply = ask(&mut node, &register("c", 1, &phone(1, INSTANCE)));
    let other = INSTANCE.replace("0A", "0B");
    ask(&mut node, &register("d", 1, &phone(2, &other)));
    let plain = ask(&mut node, &register("e", 1, "Contact: <sip:a@10.0.0.9:3>\n"));
    assert_eq!(plain.matches("pub-gruu").count(), 2, "who has no instance has no GRUU: {plain}");
    let public = "sip:alice@example.org;gr=urn:uuid:00000000-0000-1000-8000-00000000000A";
    assert_eq!(value(&reply, "pub-gruu").as_deref(), Some(public));
    assert!(reply.contains(INSTANCE), "{reply}");
    let temporary = value(&reply, "temp-gruu").unwrap();
    assert!(temporary.ends_with("@example.org;gr") && !temporary.contains("alice"), "{temporary}");
    for uri in [public, &temporary] {
        let found = looked_up(&mut node, uri);
        assert!(found.contains("ru=sip:a@10.0.0.9:1 br="), "{uri}: {found}");
        assert!(found.ends_with("br="), "one instance alone: {found}");
    }
    let all = looked_up(&mut node, "sip:alice@example.org");
    assert!(all.contains(":1") && all.contains(":2") && all.contains(":3"), "{all}");
    let changed = temporary.replacen("@example", "A@example", 1);
    for stranger in [
        "sip:alice@example.org;gr=urn:uuid:00000000-0000-1000-8000-00000000000C",
        "sip:alice@example.org;gr",
        &changed,
    ] {
        let found = looked_up(&mut node, stranger);
        assert!(found.contains("rc=-1"), "{stranger}: {found}");
    }
    // Each refresh gives another one, and all work until the Call-ID changes (RFC 5627 3.2).
    let again = ask(&mut node, &register("c", 2, &phone(1, INSTANCE)));
    let newer = value(&again, "temp-gruu").unwrap();
    assert_ne!(newer, temporary);
    assert!(looked_up(&mut node, &temporary).contains("10.0.0.9:1"));
    ask(&mut node, &register("new", 1, &phone(1, INSTANCE)));
    assert!(looked_up(&mut node, &temporary).contains("rc=-1"), "another registration");
    assert!(looked_up(&mut node, public).contains("10.0.0.9:1"));
    let own = format!("Contact: <{public}>;{INSTANCE}\n");
    assert_eq!(code(&ask(&mut node, &register("x", 1, &own))), 403, "a circle");
}

pub(super) fn a_secret_makes_gruus_that_another_node_reads() {
    let secret = |text: &str| format!("{ON}modparam(\"registrar\", \"gruu_secret\", \"{text}\")");
    let mut one = node(&secret("s"), BODY);
    let reply = ask(&mut one, &register("c", 1, &phone(1, INSTANCE)));
    let temporary = value(&reply, "temp-gruu").unwrap();
    for (setup, expected) in
        [(secret("s"), "10.0.0.9:1"), (secret("t"), "rc=-1"), (ON.to_owned(), "rc=-1")]
    {
        let mut two = node(&setup, BODY);
        ask(&mut two, &register("c", 1, &phone(1, INSTANCE)));
        let found = looked_up(&mut two, &temporary);
        assert!(found.contains(expected), "{setup}: {found}");
    }
}

#[test]
fn without_a_secret_a_restarted_node_reads_its_own() {
    let mut old = node(ON, BODY);
    let reply = ask(&mut old, &register("c", 1, &phone(1, INSTANCE)));
    let temporary = value(&reply, "temp-gruu").unwrap();
    let key = old.file("key").unwrap();
    let mut new = TestNode::with_files(&script(ON, BODY), MODULES, &[("key", &key)]).unwrap();
    ask(&mut new, &register("c", 1, &phone(1, INSTANCE)));
    assert!(looked_up(&mut new, &temporary).contains("10.0.0.9:1"));
}
