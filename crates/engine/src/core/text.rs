//! Functions that build texts, write lines and tell the time.

use tandem_script::host::Called;
use tandem_script::sig::{ArgKind, ArgSig, Routes};
use tandem_script::value::Value;
use tandem_sip::Uri;

use crate::log::Level;
use crate::module::{Call, FunctionDef};
use crate::table::{arg, function, optional};

const OK: Called = Called::Returned(1);

const PRINTF: &[ArgSig] = &[arg("var", ArgKind::Var), arg("fmt", ArgKind::Str)];
const URI: &[ArgSig] = &[
    arg("proto", ArgKind::Str),
    optional("user", ArgKind::Str),
    arg("domain", ArgKind::Str),
    optional("port", ArgKind::Str),
    optional("extra", ArgKind::Str),
    arg("result", ArgKind::Var),
];
const TIMESTAMP: &[ArgSig] = &[arg("sec", ArgKind::Var), arg("usec", ArgKind::Var)];

pub(super) const FUNCTIONS: &[FunctionDef] = &[
    function("pv_printf", PRINTF, Routes::ANY, "Writes a text into a variable.", |call| {
        let text = call.text(1);
        write(call, 0, Value::Str(text))
    }),
    function("avp_print", &[], Routes::ANY, "Writes every AVP to the log.", |call| {
        let lines: Vec<String> = call
            .ctx
            .avps
            .iter()
            .map(|(name, value)| {
                let text = value.text().unwrap_or_default();
                let text = String::from_utf8_lossy(&text).into_owned();
                format!("AVP {} = {text}", String::from_utf8_lossy(name))
            })
            .collect();
        for line in lines {
            call.cx.log(Level::Info, line);
        }
        OK
    }),
    function("construct_uri", URI, Routes::ANY, "Builds a SIP URI from its parts.", construct),
    function("get_timestamp", TIMESTAMP, Routes::ANY, "The time in s and µs.", |call| {
        let ms = call.cx.now.unix_ms;
        match write(call, 0, Value::Int((ms / 1000) as i32)) {
            Called::Returned(1) => write(call, 1, Value::Int((ms % 1000 * 1000) as i32)),
            failed => failed,
        }
    }),
];

fn write(call: &mut Call<'_, '_, '_>, arg: usize, value: Value) -> Called {
    match call.set_var(arg, value) {
        Ok(()) => OK,
        Err(why) => call.complain(Level::Error, why),
    }
}

fn construct(call: &mut Call<'_, '_, '_>) -> Called {
    let (proto, domain) = (call.text(0), call.text(2));
    let mut uri = [&proto[..], b":"].concat();
    if call.given(1) && !call.text(1).is_empty() {
        uri.extend_from_slice(&call.text(1));
        uri.push(b'@');
    }
    uri.extend_from_slice(&domain);
    if call.given(3) && !call.text(3).is_empty() {
        uri.push(b':');
        uri.extend_from_slice(&call.text(3));
    }
    let extra = call.text(4);
    if !extra.is_empty() {
        if !extra.starts_with(b";") {
            uri.push(b';');
        }
        uri.extend_from_slice(&extra);
    }
    if let Err(error) = Uri::parse(&uri) {
        let text = String::from_utf8_lossy(&uri).into_owned();
        return call.complain(Level::Error, format!("{text} is not a URI: {error}"));
    }
    write(call, 5, Value::str(uri))
}
