//! How a list and a rule are written: `name/flag,flag : { (udp, 10.0.0.0/8, 5060, "x"), ... }`.

use super::{List, Net, Rule};
use crate::sockets::Proto;

/// The value of `dst_blacklist`.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse(text: &str) -> Result<List, String> {
    let (head, rules) = match text.find('{') {
        Some(at) => {
            let (head, rules) = text.split_at(at);
            let head = head.trim_end().strip_suffix(':').ok_or("a `:` stands before `{`")?;
            let inner = rules.trim().strip_prefix('{').and_then(|r| r.strip_suffix('}'));
            (head, inner.ok_or("the rules end with `}`")?)
        }
        None => (text, ""),
    };
    let (name, flags) = head.split_once('/').unwrap_or((head, ""));
    let name = name.trim();
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || !name.chars().all(good) {
        return Err(format!("`{name}` is no name of a blacklist"));
    }
    let mut list = List { name: name.to_owned(), owner: "core", ..List::default() };
    for flag in flags.split(',').map(str::trim).filter(|f| !f.is_empty()) {
        match flag {
            "expire" => list.expires = true,
            "default" => list.default = true,
            "read-only" | "readonly" => list.read_only = true,
            _ => return Err(format!("`{flag}` is no flag: expire, default or read-only")),
        }
    }
    let mut rest = rules.trim();
    while !rest.is_empty() {
        let end = end_of_rule(rest).ok_or("a rule ends with `)`")?;
        let (one, after) = rest.split_at(end);
        list.rules.push(rule(one)?);
        rest = after.trim_start().trim_start_matches(',').trim_start();
    }
    Ok(list)
}

/// Where the rule at the front of a text ends; brackets in quotes do not count.
fn end_of_rule(text: &str) -> Option<usize> {
    let mut quoted = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b')' if !quoted => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// A rule: `[!](proto, net, port, "pattern")`, or a shorter form: a net, a net and a port, a
/// transport before them. The brackets may be missing in a command.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn rule(text: &str) -> Result<Rule, String> {
    let text = text.trim();
    let (negated, text) = match text.strip_prefix('!') {
        Some(rest) => (true, rest.trim_start()),
        None => (false, text),
    };
    let inner = text.strip_prefix('(').map_or(Some(text), |t| t.strip_suffix(')'));
    let mut fields = split(inner.ok_or("a rule ends with `)`")?).into_iter().peekable();
    let mut proto = None;
    if let Some(word) = fields.next_if(|f| proto_of(f).is_some()) {
        proto = proto_of(&word).flatten();
    }
    let net = fields.next().unwrap_or_default();
    let net = Net::parse(&net).ok_or_else(|| format!("`{net}` is no address and no net"))?;
    let mut port = 0;
    if let Some(text) = fields.next_if(|f| f.parse::<u32>().is_ok() || f.is_empty()) {
        port = if text.is_empty() { 0 } else { text.parse().map_err(|_| "a port is too great")? };
    }
    let pattern = fields.next().unwrap_or_default();
    let pattern = pattern.trim_matches('"').to_owned();
    if fields.next().is_some() {
        return Err("a rule has four fields: transport, net, port, text".to_owned());
    }
    Ok(Rule { negated, proto, net, port, pattern, until: None })
}

/// A transport by its name; `Some(None)` is any.
pub(crate) fn proto_of(text: &str) -> Option<Option<Proto>> {
    match text.to_ascii_lowercase().as_str() {
        "any" | "all" => Some(None),
        "udp" => Some(Some(Proto::Udp)),
        "tcp" => Some(Some(Proto::Tcp)),
        _ => None,
    }
}

/// The fields of a rule; a comma in quotes parts nothing.
fn split(text: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        if c == '"' {
            quoted = !quoted;
        }
        match fields.last_mut() {
            Some(field) if quoted || c != ',' => field.push(c),
            _ => fields.push(String::new()),
        }
    }
    fields.into_iter().map(|f| f.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_are_read_with_flags_and_rules_of_every_length() {
        let list = parse(
            "gw/default,expire : { ( tcp , 192.168.2.200 , 5060 , \"\" ),
             !( any , 192.168.2.0/255.255.255.0 , 0 , \"*a, b)*\"), (10.0.0.0/8) , (10.1.1.1,5070) }",
        )
        .unwrap();
        assert_eq!((list.name.as_str(), list.default, list.expires), ("gw", true, true));
        assert_eq!(list.rules.len(), 4);
        assert_eq!((list.rules[0].proto, list.rules[0].port), (Some(Proto::Tcp), 5060));
        assert!(list.rules[1].negated && list.rules[1].pattern == "*a, b)*");
        assert_eq!((list.rules[2].net.bits, list.rules[3].port), (8, 5070));
        assert!(parse("empty").unwrap().rules.is_empty());
        assert!(parse("ro/read-only").unwrap().read_only);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, why) in [
            ("a b", "no name"),
            ("x/fast", "no flag"),
            ("x { (1.2.3.4) }", "`:`"),
            ("x : { (1.2.3.4 }", "`)`"),
            ("x : { (sctp, 1.2.3.4) }", "no address"),
            ("x : { (udp, 1.2.3.4, 99999) }", "too great"),
            ("x : { (udp, 1.2.3.4, 1, \"\", 5) }", "four fields"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_an_answer(text: String) {
            let _ = parse(&text);
            let _ = rule(&text);
        }
    }
}
