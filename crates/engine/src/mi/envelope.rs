//! The JSON-RPC 2.0 envelope as the field's clients use it.

use serde_json::{Map, Value as Json};

/// The longest request that is read, in bytes.
const REQUEST_BYTES_MAX: usize = 65_535;

/// A request that is well formed.
#[derive(Debug)]
pub struct Request {
    /// `None`: a notification, which gets no answer.
    pub id: Option<Json>,
    pub method: String,
    pub params: Params,
}

/// Parameters as they came.
#[derive(Debug, PartialEq)]
pub enum Params {
    None,
    Positional(Vec<Json>),
    Named(Map<String, Json>),
}

/// An error answer.
#[derive(Debug, Clone, PartialEq)]
pub struct RpcError {
    pub code: i64,
    pub message: String,
    /// Details for a person.
    pub data: Option<String>,
}

/// The code of what is no JSON (JSON-RPC 2.0 section 5.1).
pub const PARSE_ERROR: i64 = -32700;

impl RpcError {
    pub fn invalid_params(data: impl Into<String>) -> Self {
        Self { code: -32602, message: "Invalid params".into(), data: Some(data.into()) }
    }

    /// The command itself failed in a way that its own codes do not say.
    pub fn server_error(data: impl Into<String>) -> Self {
        Self { code: -32000, message: "Server error".into(), data: Some(data.into()) }
    }

    pub fn method_not_found() -> Self {
        Self { code: -32601, message: "Method not found".into(), data: None }
    }

    fn invalid_request() -> Self {
        Self { code: -32600, message: "Invalid Request".into(), data: None }
    }

    fn parse_error() -> Self {
        Self { code: PARSE_ERROR, message: "Parse error".into(), data: None }
    }
}

/// Reads a request; the error comes with the id to answer to.
pub fn parse_request(text: &[u8]) -> Result<Request, (Json, RpcError)> {
    if text.len() > REQUEST_BYTES_MAX {
        return Err((Json::Null, RpcError::parse_error()));
    }
    let json: Json =
        serde_json::from_slice(text).map_err(|_| (Json::Null, RpcError::parse_error()))?;
    let Json::Object(mut object) = json else {
        return Err((Json::Null, RpcError::invalid_request()));
    };
    let id = object.remove("id");
    let refuse = |id: &Option<Json>| {
        (id.clone().filter(is_id).unwrap_or(Json::Null), RpcError::invalid_request())
    };
    if object.get("jsonrpc").and_then(Json::as_str) != Some("2.0") || !id.iter().all(is_id) {
        return Err(refuse(&id));
    }
    let Some(Json::String(method)) = object.remove("method") else { return Err(refuse(&id)) };
    let params = match object.remove("params") {
        None => Params::None,
        Some(Json::Array(list)) if list.is_empty() => Params::None,
        Some(Json::Object(map)) if map.is_empty() => Params::None,
        Some(Json::Array(list)) => Params::Positional(list),
        Some(Json::Object(map)) => Params::Named(map),
        Some(_) => return Err(refuse(&id)),
    };
    Ok(Request { id, method, params })
}

fn is_id(id: &Json) -> bool {
    matches!(id, Json::Null | Json::Number(_) | Json::String(_))
}

/// `{"jsonrpc":"2.0","result":..,"id":..}`, members in this order.
pub fn reply_result(id: &Json, result: Json) -> String {
    let mut object = Map::new();
    object.insert("jsonrpc".into(), "2.0".into());
    object.insert("result".into(), result);
    object.insert("id".into(), id.clone());
    Json::Object(object).to_string()
}

/// `{"jsonrpc":"2.0","error":{"code":..,"message":..,"data":..},"id":..}`.
pub fn reply_error(id: &Json, error: &RpcError) -> String {
    let mut inner = Map::new();
    inner.insert("code".into(), error.code.into());
    inner.insert("message".into(), error.message.clone().into());
    if let Some(data) = &error.data {
        inner.insert("data".into(), data.clone().into());
    }
    let mut object = Map::new();
    object.insert("jsonrpc".into(), "2.0".into());
    object.insert("error".into(), Json::Object(inner));
    object.insert("id".into(), id.clone());
    Json::Object(object).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn members_come_in_the_order_of_the_field() {
        assert_eq!(
            reply_result(&Json::from(1), Json::from("OK")),
            r#"{"jsonrpc":"2.0","result":"OK","id":1}"#
        );
        let error = RpcError::invalid_params("Too few or too many parameters");
        assert_eq!(
            reply_error(&Json::from("x"), &error),
            r#"{"jsonrpc":"2.0","error":{"code":-32602,"message":"Invalid params","data":"Too few or too many parameters"},"id":"x"}"#
        );
    }

    #[test]
    fn what_is_no_request_is_refused_with_the_code_of_the_standard() {
        let code = |text: &str| parse_request(text.as_bytes()).unwrap_err().1.code;
        assert_eq!(code("{"), -32700);
        assert_eq!(code("[]"), -32600);
        assert_eq!(code(r#"{"jsonrpc":"1.0","method":"ps","id":1}"#), -32600);
        assert_eq!(code(r#"{"jsonrpc":"2.0","method":7,"id":1}"#), -32600);
        assert_eq!(code(r#"{"jsonrpc":"2.0","method":"ps","id":[]}"#), -32600);
        assert_eq!(code(r#"{"jsonrpc":"2.0","method":"ps","params":3,"id":1}"#), -32600);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_request(&text);
        }
    }
}
