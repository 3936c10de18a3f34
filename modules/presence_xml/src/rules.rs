//! Rules of a presentity about its watchers (RFC 5025, with the conditions of RFC 4745).
//!
//! Every rule whose conditions hold for a watcher gives permissions; they are combined, and of
//! several ways to treat a subscription the most generous one counts (RFC 4745 10.2).

use tandem_sip::Uri;
use tandem_xml::{Node, children, read, text};

use crate::dates;
use crate::view::View;

/// Rules of a document, at most; further ones are not looked at.
const RULES_MAX: usize = 500;

/// How a subscription is treated, in the order of generosity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Handling {
    Block,
    /// The presentity is to be asked.
    Confirm,
    /// The watcher is told that nobody is there.
    PoliteBlock,
    Allow,
}

/// Who asks, and when.
#[derive(Clone, Debug)]
pub struct Asker<'a> {
    /// URI of the watcher, without parameters.
    pub watcher: &'a str,
    /// The sphere that the presentity is in, if that is looked at.
    pub sphere: Option<&'a str>,
    pub unix_s: i64,
}

/// What the rules say for one watcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// `None`: no rule is about this watcher.
    pub handling: Option<Handling>,
    /// What of a document it sees.
    pub view: View,
}

/// Asks the rules.
///
/// # Errors
/// The document is none, or no set of rules.
pub fn decide(rules: &[u8], asker: &Asker<'_>) -> Result<Decision, String> {
    let document = read(rules).map_err(|e| e.to_string())?;
    let root = document.root_element();
    if root.tag_name().name() != "ruleset" {
        return Err("its root is no <ruleset>".into());
    }
    let all: Vec<Node<'_, '_>> = children(root, "rule").take(RULES_MAX).collect();
    let mut decision = Decision { handling: None, view: View::nothing() };
    let named = |rule: &Node<'_, '_>| {
        identities(*rule).is_some_and(|identity| is_named(identity, asker.watcher))
    };
    let is_named = all.iter().any(named);
    for rule in all {
        let conditions = children(rule, "conditions").next();
        let mut each = conditions.into_iter().flat_map(|c| c.children().filter(Node::is_element));
        if !each.all(|condition| holds(condition, asker, is_named)) {
            continue;
        }
        let handling = children(rule, "actions").next().and_then(handling_of);
        decision.handling = decision.handling.max(Some(handling.unwrap_or(Handling::Block)));
        match children(rule, "transformations").next() {
            Some(transformations) => decision.view.add(transformations),
            // Rules of phones that know no transformations mean the whole document.
            None if handling == Some(Handling::Allow) => decision.view = View::everything(),
            None => {}
        }
    }
    Ok(decision)
}

fn handling_of(actions: Node<'_, '_>) -> Option<Handling> {
    let action = children(actions, "sub-handling").next()?;
    Some(match text(action) {
        "allow" => Handling::Allow,
        "polite-block" => Handling::PoliteBlock,
        "confirm" => Handling::Confirm,
        // What is not known grants nothing (RFC 4745 10.2).
        _ => Handling::Block,
    })
}

fn identities<'a, 'i>(rule: Node<'a, 'i>) -> Option<Node<'a, 'i>> {
    let conditions =
        rule.children().find(|n| n.is_element() && n.tag_name().name() == "conditions")?;
    conditions.children().find(|n| n.is_element() && n.tag_name().name() == "identity")
}

/// Whether a condition holds; one that is not known does not.
fn holds(condition: Node<'_, '_>, asker: &Asker<'_>, is_named_somewhere: bool) -> bool {
    match condition.tag_name().name() {
        "identity" => is_named(condition, asker.watcher),
        "sphere" => {
            let values = condition.attribute("value").unwrap_or_default();
            asker.sphere.is_some_and(|now| values.split_ascii_whitespace().any(|v| v == now))
        }
        "validity" => is_valid(condition, asker.unix_s),
        // Two that phones write (OMA XDM Core): everybody else, and those who give no name.
        "other-identity" => !is_named_somewhere,
        "anonymous-request" => is_anonymous(asker.watcher),
        _ => false,
    }
}

fn is_anonymous(watcher: &str) -> bool {
    parts(watcher).is_some_and(|(_, host)| host.eq_ignore_ascii_case("anonymous.invalid"))
}

fn is_named(identity: Node<'_, '_>, watcher: &str) -> bool {
    let mut each = identity.children().filter(Node::is_element);
    each.any(|who| match who.tag_name().name() {
        "one" => who.attribute("id").is_some_and(|id| same(id, watcher)),
        "many" => is_of_many(who, watcher),
        _ => false,
    })
}

fn is_of_many(many: Node<'_, '_>, watcher: &str) -> bool {
    let Some((_, host)) = parts(watcher) else { return false };
    if is_anonymous(watcher) {
        return false;
    }
    let is_in = |domain: &str| host.eq_ignore_ascii_case(domain.trim());
    let except = |n: Node<'_, '_>| {
        n.attribute("domain").is_some_and(is_in)
            || n.attribute("id").is_some_and(|i| same(i, watcher))
    };
    many.attribute("domain").is_none_or(is_in) && !children(many, "except").any(except)
}

/// User and host of a URI of any scheme.
fn parts(uri: &str) -> Option<(&str, &str)> {
    let uri = uri.trim();
    let (scheme, rest) = uri.split_once(':')?;
    let known = ["sip", "sips", "pres", "im", "mailto"];
    if !known.iter().any(|k| k.eq_ignore_ascii_case(scheme)) {
        return None;
    }
    if let Ok(uri) = Uri::parse(uri.as_bytes()) {
        let user = std::str::from_utf8(uri.user.unwrap_or_default()).ok()?;
        return Some((user, std::str::from_utf8(uri.host).ok()?));
    }
    let rest = rest.split([';', '?']).next().unwrap_or(rest);
    Some(rest.rsplit_once('@').unwrap_or(("", rest)))
}

/// Whether two URIs name the same person: user as written, host in any case.
fn same(one: &str, other: &str) -> bool {
    match (parts(one), parts(other)) {
        (Some((user, host)), Some((u, h))) => user == u && host.eq_ignore_ascii_case(h),
        _ => one.trim() == other.trim(),
    }
}

fn is_valid(validity: Node<'_, '_>, unix_s: i64) -> bool {
    let time = |name: &'static str| {
        let all =
            validity.children().filter(move |n| n.is_element() && n.tag_name().name() == name);
        all.map(|n| dates::unix_s(text(n))).collect::<Vec<_>>()
    };
    let pairs = time("from").into_iter().zip(time("until"));
    pairs.into_iter().any(|(from, until)| match (from, until) {
        (Some(from), Some(until)) => from <= unix_s && unix_s < until,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(conditions: &str, handling: &str) -> String {
        format!(
            "<cr:rule id=\"r\"><cr:conditions>{conditions}</cr:conditions><cr:actions>\
             <pr:sub-handling>{handling}</pr:sub-handling></cr:actions></cr:rule>"
        )
    }

    fn ruleset(rules: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?><cr:ruleset xmlns:cr=\"urn:ietf:params:xml:ns:common-policy\" \
             xmlns:pr=\"urn:ietf:params:xml:ns:pres-rules\" \
             xmlns:ocp=\"urn:oma:xml:xdm:common-policy\">{rules}</cr:ruleset>"
        )
    }

    fn asked(rules: &str, watcher: &str, sphere: Option<&str>, unix_s: i64) -> Option<Handling> {
        let asker = Asker { watcher, sphere, unix_s };
        decide(ruleset(rules).as_bytes(), &asker).unwrap().handling
    }

    fn handling(rules: &str, watcher: &str) -> Option<Handling> {
        asked(rules, watcher, None, 0)
    }

    const BOB: &str = "sip:bob@example.com";

    #[test]
    fn the_most_generous_of_the_rules_that_apply_counts() {
        let one = "<cr:identity><cr:one id=\"sip:bob@EXAMPLE.com\"/></cr:identity>";
        let many = "<cr:identity><cr:many domain=\"example.com\"/></cr:identity>";
        let both = rule(one, "confirm") + &rule(many, "polite-block");
        assert_eq!(handling(&both, BOB), Some(Handling::PoliteBlock));
        assert_eq!(handling(&both, "sip:eve@example.com"), Some(Handling::PoliteBlock));
        assert_eq!(handling(&rule(one, "allow"), BOB), Some(Handling::Allow));
        assert_eq!(handling(&rule(one, "allow"), "sip:eve@example.com"), None);
        assert_eq!(handling(&rule(one, "nonsense"), BOB), Some(Handling::Block));
    }

    #[test]
    fn many_means_all_but_the_exceptions() {
        let many = "<cr:identity><cr:many><cr:except domain=\"evil.com\"/>\
                    <cr:except id=\"sip:bob@example.com\"/></cr:many></cr:identity>";
        let rules = rule(many, "allow");
        assert_eq!(handling(&rules, "sip:carol@example.com"), Some(Handling::Allow));
        for none in [BOB, "sip:x@evil.com", "sip:anonymous@anonymous.invalid"] {
            assert_eq!(handling(&rules, none), None, "{none}");
        }
    }

    #[test]
    fn every_condition_of_a_rule_must_hold() {
        let sphere = "<cr:sphere value=\"work office\"/>";
        let rules = rule(sphere, "allow");
        assert_eq!(asked(&rules, BOB, Some("work"), 0), Some(Handling::Allow));
        assert_eq!(asked(&rules, BOB, Some("home"), 0), None);
        assert_eq!(asked(&rules, BOB, None, 0), None);
        let time = "<cr:validity><cr:from>2003-12-24T17:00:00+01:00</cr:from>\
                    <cr:until>2003-12-24T19:00:00+01:00</cr:until></cr:validity>";
        let rules = rule(time, "allow");
        let noon = 1_072_281_600;
        assert_eq!(asked(&rules, BOB, None, noon - 1), None);
        assert_eq!(asked(&rules, BOB, None, noon), Some(Handling::Allow));
        assert_eq!(asked(&rules, BOB, None, noon + 7199), Some(Handling::Allow));
        assert_eq!(asked(&rules, BOB, None, noon + 7200), None);
        assert_eq!(handling(&rule("<x xmlns='urn:x'/>", "allow"), BOB), None);
        assert_eq!(handling(&rule("", "allow"), BOB), Some(Handling::Allow));
    }

    #[test]
    fn phones_speak_of_everybody_else() {
        let one = "<cr:identity><cr:one id=\"sip:bob@example.com\"/></cr:identity>";
        let rules = rule(one, "allow") + &rule("<ocp:other-identity/>", "confirm");
        assert_eq!(handling(&rules, BOB), Some(Handling::Allow));
        assert_eq!(handling(&rules, "sip:eve@example.com"), Some(Handling::Confirm));
        let rules = rule("<ocp:anonymous-request/>", "block");
        let nobody = "sip:anonymous@anonymous.invalid";
        assert_eq!(handling(&rules, nobody), Some(Handling::Block));
    }

    #[test]
    fn what_is_no_set_of_rules_is_refused() {
        let asker = Asker { watcher: BOB, sphere: None, unix_s: 0 };
        assert!(decide(b"<a/>", &asker).is_err() && decide(b"<a", &asker).is_err());
        assert!(decide(b"<!DOCTYPE ruleset><ruleset/>", &asker).is_err());
        let none = decide(b"<ruleset/>", &asker).unwrap();
        assert_eq!(none, Decision { handling: None, view: View::nothing() });
    }

    proptest! {
        #[test]
        fn no_rules_panic_and_the_same_rules_say_the_same(
            parts in proptest::collection::vec(
                "(<cr:identity>|</cr:identity>|<cr:one id='[a-z:@.]{0,9}'/>|<cr:many domain='[a-c.]\
                 {0,3}'/>|<cr:validity>|<cr:from>[0-9T:Z-]{0,9}</cr:from>|<cr:until/>|x)", 0..8),
            watcher in "[a-z:@.;%]{0,20}", unix_s in any::<i64>()
        ) {
            let text = ruleset(&rule(&parts.concat(), "allow"));
            let asker = Asker { watcher: &watcher, sphere: Some("x"), unix_s };
            let first = decide(text.as_bytes(), &asker);
            prop_assert_eq!(first, decide(text.as_bytes(), &asker));
        }
    }
}
