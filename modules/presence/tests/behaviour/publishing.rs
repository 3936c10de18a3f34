//! PUBLISH.

use crate::common::*;

#[test]
fn a_publication_gets_an_etag_and_its_watcher_the_state() {
    let mut node = node("");
    let (_, first) = Watcher::watch(&mut node, "w", "bob", "presence");
    assert_eq!(header(&first, "Subscription-State"), "active;expires=600");
    assert_eq!((body(&first), header(&first, "Content-Length")), ("", "0"));
    let reply = published(&mut node, &publish("bob", "presence", 1, "Expires: 60\n", "open"));
    assert_eq!(header(&reply, "Expires"), "60");
    let tag = etag(&reply);
    assert!(tag.starts_with("a.") && tag.split('.').count() == 5, "{tag}");
    let notifies = told(&mut node);
    assert_eq!(notifies.len(), 1, "{notifies:?}");
    assert_eq!(body(&notifies[0]), "open");
    assert_eq!(header(&notifies[0], "Content-Type"), "text/plain");
    assert_eq!(header(&notifies[0], "Event"), "presence");
    assert_eq!(header(&notifies[0], "CSeq"), "2 NOTIFY");
    assert!(notifies[0].starts_with("NOTIFY sip:w@127.0.0.9:5060 SIP/2.0"));
    assert_eq!(header(&notifies[0], "Contact"), "<sip:presence@127.0.0.1:5060>");
}

#[test]
fn a_publication_is_changed_prolonged_and_removed_by_its_etag() {
    let mut node = node("");
    Watcher::watch(&mut node, "w", "bob", "presence");
    let first = etag(&published(&mut node, &publish("bob", "presence", 1, "", "open")));
    assert_eq!(told(&mut node).len(), 1);
    let change = format!("SIP-If-Match: {first}\n");
    let second = etag(&published(&mut node, &publish("bob", "presence", 2, &change, "away")));
    assert_ne!(first, second);
    assert_eq!(body(&told(&mut node)[0]), "away");
    // What was is gone.
    let refused = published(&mut node, &publish("bob", "presence", 3, &change, "x"));
    assert!(refused.starts_with("SIP/2.0 412 Conditional request failed"), "{refused}");
    let prolong = format!("SIP-If-Match: {second}\nExpires: 90\n");
    let third = etag(&published(&mut node, &publish("bob", "presence", 4, &prolong, "")));
    assert!(told(&mut node).is_empty(), "nothing is new");
    let remove = format!("SIP-If-Match: {third}\nExpires: 0\n");
    let removed = published(&mut node, &publish("bob", "presence", 5, &remove, ""));
    assert!(removed.starts_with("SIP/2.0 200") && header(&removed, "Expires") == "0");
    assert_eq!(body(&told(&mut node)[0]), "after away");
    assert!(list(&mut node, "presence:phtable_list").is_empty());
}

#[test]
fn publications_of_several_phones_are_one_state_the_newest_first() {
    let mut node = node("");
    published(&mut node, &publish("bob", "presence", 1, "", "desk"));
    let reply = published(&mut node, &publish("bob", "presence", 2, "Expires: 5\n", "mobile"));
    etag(&reply);
    let (_, first) = Watcher::watch(&mut node, "w", "bob", "presence");
    assert_eq!(body(&first), "mobile+desk");
    node.advance_ms(7_000);
    let notifies = told(&mut node);
    assert_eq!(notifies.len(), 1, "{notifies:?}");
    assert_eq!(body(&notifies[0]), "desk");
}

#[test]
fn to_prolong_says_nothing_new_and_to_say_it_again_does() {
    let mut node = node("");
    let old = etag(&published(&mut node, &publish("bob", "presence", 1, "", "desk")));
    published(&mut node, &publish("bob", "presence", 2, "", "mobile"));
    let (_, first) = Watcher::watch(&mut node, "w", "bob", "presence");
    assert_eq!(body(&first), "mobile+desk");
    let prolong = format!("SIP-If-Match: {old}\n");
    let old = etag(&published(&mut node, &publish("bob", "presence", 3, &prolong, "")));
    // One that comes and goes has everything put together once more.
    let other = etag(&published(&mut node, &publish("bob", "presence", 4, "", "x")));
    let remove = format!("SIP-If-Match: {other}\nExpires: 0\n");
    published(&mut node, &publish("bob", "presence", 5, &remove, ""));
    let notifies = told(&mut node);
    assert_eq!(notifies.last().map(|text| body(text)), Some("mobile+desk"), "{notifies:?}");
    // The same body again, as a change, is the newest word.
    let change = format!("SIP-If-Match: {old}\n");
    published(&mut node, &publish("bob", "presence", 6, &change, "desk"));
    let notifies = told(&mut node);
    assert_eq!(notifies.last().map(|text| body(text)), Some("desk+mobile"), "{notifies:?}");
}

#[test]
fn what_cannot_be_published_is_refused_with_the_reason() {
    let mut node = node("");
    let mut code = |text: &str| published(&mut node, text)[8..11].to_owned();
    assert_eq!(code(&publish("bob", "weather", 1, "", "x")), "489");
    assert_eq!(code(&publish("bob", "presence.winfo", 1, "", "x")), "489", "nobody's to say");
    assert_eq!(code(&publish("bob", "presence", 2, "", "")), "400");
    assert_eq!(code(&publish("bob", "presence", 3, "", "bad")), "415");
    assert_eq!(code(&publish("bob", "presence", 4, "SIP-If-Match: nope\n", "x")), "412");
    assert_eq!(code(&publish("bob", "presence", 5, "Expires: soon\n", "x")), "400");
    assert_eq!(code(&publish("bob", "presence", 6, "", &"x".repeat(50_000))), "413");
    let no_event = publish("bob", "presence", 7, "", "x").replace("Event: presence\n", "");
    assert_eq!(code(&no_event), "489");
    let reply = published(&mut node, &publish("bob", "weather", 8, "", "x"));
    let events = "presence, presence.winfo, dialog, dialog;sla";
    assert_eq!(header(&reply, "Allow-Events"), events);
}

#[test]
fn a_request_with_conditions_that_are_none_is_refused() {
    let mut node = node("");
    let tag = etag(&published(&mut node, &publish("bob", "presence", 1, "", "open")));
    let mut reply =
        |n: u32, extra: &str| published(&mut node, &publish("bob", "presence", n, extra, "away"));
    // RFC 3903 6, step 3: exactly one.
    let two =
        [format!("SIP-If-Match: {tag}, x\n"), format!("SIP-If-Match: {tag}\nSIP-If-Match: x\n")];
    assert!(reply(2, &two[0]).starts_with("SIP/2.0 400 "));
    assert!(reply(3, &two[1]).starts_with("SIP/2.0 400 "));
    assert!(reply(4, "SIP-If-Match:\n").starts_with("SIP/2.0 400 "));
    let encoded = reply(5, "Content-Encoding: gzip\n");
    assert!(encoded.starts_with("SIP/2.0 415 "), "{encoded}");
    assert_eq!(header(&encoded, "Accept-Encoding"), "identity");
    let required = reply(6, "Require: foo\n");
    assert!(required.starts_with("SIP/2.0 420 "), "{required}");
    assert_eq!(header(&required, "Unsupported"), "foo");
    assert!(reply(7, "Content-Encoding: identity\n").starts_with("SIP/2.0 200 "));
}

#[test]
fn a_repetition_is_answered_as_before() {
    let mut node = node("");
    Watcher::watch(&mut node, "w", "bob", "presence");
    let request = publish("bob", "presence", 1, "", "open");
    let first = etag(&published(&mut node, &request));
    assert_eq!(etag(&published(&mut node, &request)), first);
    let change = publish("bob", "presence", 2, &format!("SIP-If-Match: {first}\n"), "away");
    let second = etag(&published(&mut node, &change));
    assert_eq!(etag(&published(&mut node, &change)), second);
    assert_eq!(told(&mut node).len(), 2);
    assert_eq!(list(&mut node, "presence:phtable_list")[0]["etag_count"], 1);
}

#[test]
fn a_removal_that_comes_once_more_gets_the_same_answer() {
    let mut node = node("");
    let tag = etag(&published(&mut node, &publish("bob", "presence", 1, "", "open")));
    let removal = publish("bob", "presence", 2, &format!("SIP-If-Match: {tag}\nExpires: 0\n"), "");
    let first = published(&mut node, &removal);
    assert!(first.starts_with("SIP/2.0 200"), "{first}");
    let second = published(&mut node, &removal);
    assert_eq!(header(&second, "SIP-ETag"), header(&first, "SIP-ETag"));
    assert!(second.starts_with("SIP/2.0 200"), "{second}");
    let other = removal.replace("p-bob-2", "p-bob-3");
    assert!(published(&mut node, &other).starts_with("SIP/2.0 412"));
}
