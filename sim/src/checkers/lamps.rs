//! After quiet a lamp is on where a call is up, and nowhere else.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::watching::Seen;

/// Name in findings.
pub const NAME: &str = "lamps";

/// Users with a call that was answered and is not over, by the result of `dialog:list_ctx`.
pub fn on_the_phone(list: &Json) -> BTreeSet<String> {
    let all = list.get("Dialogs").and_then(Json::as_array).into_iter().flatten();
    let up = all.filter(|call| matches!(call["state"].as_u64(), Some(3 | 4)));
    let user = |uri: &Json| {
        let (_, rest) = uri.as_str()?.split_once(':')?;
        Some(rest.split_once('@')?.0.to_owned())
    };
    up.flat_map(|call| [user(&call["from_uri"]), user(&call["to_uri"])]).flatten().collect()
}

/// What is wrong; empty if nothing is.
pub fn findings(all: &[Seen], up: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    for seen in all {
        let Some((of, told)) = &seen.watches else { continue };
        let is_on = told.contains("<state>confirmed</state>");
        let user = &seen.user;
        match (is_on, up.contains(of)) {
            (true, false) => found.push(format!("{user} sees the lamp of {of}, who has no call")),
            (false, true) => found.push(format!("{user} sees no lamp of {of}, who has a call")),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_lamp_is_on_exactly_where_a_call_is_up() {
        let call = |state: u32, from: &str, to: &str| {
            json!({"state": state, "from_uri": format!("sip:{from}@x"),
                   "to_uri": format!("sip:{to}@x")})
        };
        let list = json!({"Dialogs": [call(4, "a", "b"), call(2, "c", "d"), call(5, "e", "f")]});
        let up = on_the_phone(&list);
        assert_eq!(up.iter().map(String::as_str).collect::<Vec<_>>(), ["a", "b"]);
        let seen = |of: &str, state: &str| Seen {
            user: "w".into(),
            published: None,
            watches: Some((of.into(), format!("<state>{state}</state>"))),
        };
        assert!(findings(&[seen("a", "confirmed"), seen("c", "early")], &up).is_empty());
        let bad = [seen("a", "terminated"), seen("c", "confirmed")];
        assert_eq!(findings(&bad, &up).len(), 2);
    }
}
