//! `t_write_req` and `t_write_unix`: a request is described to another program, which answers it
//! later with the command `tm:reply`. Meanwhile the transaction waits, `fr_inv_timeout` at most.
//!
//! The description is text: the line `tandem 1`, then `name: value` lines, those of `tw_append`
//! among them, an empty line, and the request as it was received.

use bytes::Bytes;
use tandem_engine::effect::Effect;
use tandem_engine::events::Destination;
use tandem_engine::log::Level;
use tandem_engine::module::Call;
use tandem_script::host::Called;
use tandem_transaction::Effects;

use crate::record::Leg;
use crate::tm::{Begun, Tm};

const OK: Called = Called::Returned(1);
const NO: Called = Called::Returned(-1);

/// A value of `tw_append`: a name, and what is added under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Append {
    name: String,
    /// Label and text with variables.
    elements: Vec<(String, String)>,
}

impl Append {
    /// `name:element;element`; an element is `[label=]$variable`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (name, rest) = text.split_once(':').ok_or("it is written name:element;element")?;
        let name = name.trim().to_owned();
        if name.is_empty() {
            return Err("a name stands before the `:`".to_owned());
        }
        let mut elements = Vec::new();
        for element in rest.split(';').map(str::trim).filter(|e| !e.is_empty()) {
            let at = element.find('$').ok_or_else(|| format!("`{element}` is no variable"))?;
            let (label, variable) = element.split_at(at);
            let label = label.trim().trim_end_matches('=').trim();
            let label = if label.is_empty() { variable } else { label };
            elements.push((label.to_owned(), variable.to_owned()));
        }
        Ok(Self { name, elements })
    }
}

pub(crate) fn t_write_req(call: &mut Call<'_, '_, '_>) -> Called {
    let path = String::from_utf8_lossy(&call.text(1)).into_owned();
    write(call, Destination::Fifo(path.into()))
}

pub(crate) fn t_write_unix(call: &mut Call<'_, '_, '_>) -> Called {
    let path = String::from_utf8_lossy(&call.text(1)).into_owned();
    write(call, Destination::Unix(path.into()))
}

fn write(call: &mut Call<'_, '_, '_>, to: Destination) -> Called {
    let Some(tm) = call.state::<Tm>() else { return NO };
    let info = String::from_utf8_lossy(&call.text(0)).into_owned();
    let (action, append) =
        info.split_once('/').map_or((info.as_str(), None), |(a, n)| (a, Some(n)));
    let found = append.map(|name| tm.params.appends.iter().find(|a| a.name == name).cloned());
    if let Some(None) = found {
        let text = format!("no tw_append has the name of {info}");
        return call.complain(Level::Error, text);
    }
    let tx = match tm.begin(call.cx, call.ctx) {
        Begun::New(tx) | Begun::Existing(tx) => tx,
        Begun::Retransmission | Begun::Refused => return Called::Returned(0),
        Begun::Failed => return NO,
    };
    let id = String::from_utf8_lossy(&tx.id.text()).into_owned();
    let payload = described(call, action, &id, found.flatten().as_ref());
    {
        let mut cell = tx.cell.lock();
        let mut fx = Effects::new();
        if cell.record.machine.wait_for_branches(call.cx.now, &mut fx).is_ok() {
            cell.record.legs.push(Leg::phony(call.ctx));
        }
        tm.finish_step(call.cx, &tx, &mut cell, fx, None);
    }
    call.cx.out.push(Effect::Notify { to, payload });
    OK
}

fn described(
    call: &mut Call<'_, '_, '_>,
    action: &str,
    id: &str,
    append: Option<&Append>,
) -> Bytes {
    let mut out = format!("tandem 1\naction: {action}\ntrans_id: {id}\n").into_bytes();
    let mut line = |name: &str, value: &[u8]| {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        // A value is one line, whatever it holds.
        out.extend(value.iter().map(|b| if matches!(b, b'\r' | b'\n') { b' ' } else { *b }));
        out.push(b'\n');
    };
    let msg = call.ctx.msg.clone();
    line("method", msg.method_bytes());
    line("uri", call.ctx.request_uri());
    line("next_hop", call.ctx.target.dst_uri.as_deref().unwrap_or_default());
    line("source", call.ctx.source.addr.to_string().as_bytes());
    for (label, variable) in append.map(|a| a.elements.clone()).unwrap_or_default() {
        let value = call.expand(variable.as_bytes()).unwrap_or_default();
        line(&label, &value);
    }
    out.push(b'\n');
    out.extend_from_slice(msg.as_bytes());
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_has_labels_or_its_own_name() {
        let append = Append::parse("test: ua=$hdr(User-Agent) ;$si; $avp(x)").unwrap();
        assert_eq!(append.name, "test");
        let elements: Vec<(&str, &str)> =
            append.elements.iter().map(|(l, v)| (l.as_str(), v.as_str())).collect();
        assert_eq!(elements, [("ua", "$hdr(User-Agent)"), ("$si", "$si"), ("$avp(x)", "$avp(x)")]);
        assert!(Append::parse("nothing").is_err() && Append::parse("x:avp").is_err());
    }
}
