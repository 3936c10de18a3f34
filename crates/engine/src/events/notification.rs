//! The text that a subscriber gets.

use bytes::Bytes;
use serde_json::{Map, Value as Json};
use tandem_script::value::Value;

/// `{"jsonrpc":"2.0","method":"E_NAME","params":{..}}`; values without names become an array.
pub fn notification(event: &str, params: &[(Bytes, Value)]) -> Bytes {
    let mut object = Map::new();
    object.insert("jsonrpc".into(), "2.0".into());
    object.insert("method".into(), event.into());
    if !params.is_empty() {
        object.insert("params".into(), json_params(params));
    }
    Bytes::from(Json::Object(object).to_string())
}

fn json_params(params: &[(Bytes, Value)]) -> Json {
    if params.iter().any(|(name, _)| name.is_empty()) {
        return params.iter().map(|(_, value)| json(value)).collect();
    }
    let named = params.iter();
    Json::Object(named.map(|(n, v)| (String::from_utf8_lossy(n).into(), json(v))).collect())
}

/// A script value as JSON.
pub(crate) fn json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Int(i) | Value::Both(i, _) => Json::from(*i),
        Value::Str(text) => Json::from(String::from_utf8_lossy(text).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_make_an_object_and_their_absence_an_array() {
        let value = |n: &'static str, v| (Bytes::from_static(n.as_bytes()), v);
        let named = [value("k", Value::str("v")), value("n", Value::Int(3))];
        assert_eq!(
            notification("E_X", &named),
            &br#"{"jsonrpc":"2.0","method":"E_X","params":{"k":"v","n":3}}"#[..]
        );
        let plain = [value("", Value::str("a")), value("", Value::Null)];
        assert_eq!(
            notification("E_X", &plain),
            &br#"{"jsonrpc":"2.0","method":"E_X","params":["a",null]}"#[..]
        );
        assert_eq!(notification("E_X", &[]), &br#"{"jsonrpc":"2.0","method":"E_X"}"#[..]);
    }
}
