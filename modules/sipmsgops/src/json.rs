//! A message as JSON.

use serde_json::{Map, Value as Json};
use tandem_engine::log::Level;
use tandem_engine::module::Call;
use tandem_script::host::Called;
use tandem_script::value::Value;
use tandem_sip::Message;

use crate::YES;

pub(crate) fn sip_to_json(call: &mut Call<'_, '_, '_>) -> Called {
    let text = object(&call.ctx.msg).to_string();
    match call.set_var(0, Value::str(text)) {
        Ok(()) => YES,
        Err(why) => call.complain(Level::Error, why),
    }
}

/// `{"first_line": text, "headers": {name: [texts]}, "body": text}`; the body only if there is
/// one.
fn object(msg: &Message) -> Json {
    let text = |bytes: &[u8]| Json::String(String::from_utf8_lossy(bytes).into_owned());
    let mut headers = Map::new();
    for header in msg.all_headers() {
        let name = String::from_utf8_lossy(header.name_bytes()).into_owned();
        let known = headers.keys().find(|k| k.eq_ignore_ascii_case(&name)).cloned();
        let values = headers.entry(known.unwrap_or(name)).or_insert_with(|| Json::Array(vec![]));
        if let Json::Array(values) = values {
            values.push(text(&header.unfolded()));
        }
    }
    let mut object = Map::new();
    object.insert("first_line".into(), text(msg.first_line()));
    object.insert("headers".into(), Json::Object(headers));
    if !msg.body().is_empty() {
        object.insert("body".into(), text(msg.body()));
    }
    Json::Object(object)
}
