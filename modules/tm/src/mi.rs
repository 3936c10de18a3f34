//! Management commands.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value as Json, json};
use tandem_engine::mi::{MiCall, MiDef, MiOutcome, MiParam};
use tandem_engine::own_reply::own_reply_tagged;
use tandem_engine::table::{mi_int, mi_text};
use tandem_script::sig::Routes;
use tandem_sip::{HeaderName, Message, Uri};

use crate::local::{LocalRequest, Owner};
use crate::record::Event;
use crate::tm::Tm;
use crate::via_branch::TxId;

const METHOD: MiParam = mi_text("method");
const RURI: MiParam = mi_text("ruri");
const HEADERS: MiParam = mi_text("headers");
const NEXT_HOP: MiParam = mi_text("next_hop");
const SOCKET: MiParam = mi_text("socket");
const BODY: MiParam = mi_text("body");
const CODE: MiParam = mi_int("code");
const REASON: MiParam = mi_text("reason");
const TRANS: MiParam = mi_text("trans_id");
const TAG: MiParam = mi_text("to_tag");
const NEW: MiParam = mi_text("new_headers");

pub(crate) const COMMANDS: &[MiDef] = &[
    MiDef {
        name: "tm:uac_dlg",
        old_names: &["t_uac_dlg"],
        param_sets: &[
            &[METHOD, RURI, HEADERS],
            &[METHOD, RURI, HEADERS, NEXT_HOP],
            &[METHOD, RURI, HEADERS, SOCKET],
            &[METHOD, RURI, HEADERS, BODY],
            &[METHOD, RURI, HEADERS, NEXT_HOP, SOCKET],
            &[METHOD, RURI, HEADERS, NEXT_HOP, BODY],
            &[METHOD, RURI, HEADERS, SOCKET, BODY],
            &[METHOD, RURI, HEADERS, NEXT_HOP, SOCKET, BODY],
        ],
        help: "Sends a request; the answer is its final reply.",
        run: uac_dlg,
    },
    MiDef {
        name: "tm:uac_cancel",
        old_names: &["t_uac_cancel"],
        param_sets: &[&[mi_text("callid"), mi_text("cseq")]],
        help: "Cancels a pending INVITE.",
        run: uac_cancel,
    },
    MiDef {
        name: "tm:hash",
        old_names: &["t_hash"],
        param_sets: &[&[]],
        help: "Transactions in each part of the table, now and since the start.",
        run: hash,
    },
    MiDef {
        name: "tm:reply",
        old_names: &["t_reply"],
        param_sets: &[
            &[CODE, REASON, TRANS, TAG],
            &[CODE, REASON, TRANS, TAG, NEW],
            &[CODE, REASON, TRANS, TAG, BODY],
            &[CODE, REASON, TRANS, TAG, NEW, BODY],
        ],
        help: "Answers the request of a transaction.",
        run: reply,
    },
];

fn refused(code: i64, text: &str) -> MiOutcome {
    MiOutcome::failed(code, text)
}

fn uac_dlg(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let slot = call.cx.slot;
    let Some(tm) = call.cx.node.module::<Tm>(slot) else {
        return refused(500, "MI/UAC failed");
    };
    let request = match request_of(call) {
        Ok(request) => request,
        Err(refusal) => return refusal,
    };
    let owner = Owner::Command {
        request: call.request,
        uri: request.uri.clone(),
        next_hop: request.next_hop.clone().unwrap_or_else(|| request.uri.clone()),
    };
    match tm.send_request(call.cx, &request, owner) {
        Ok(()) => MiOutcome::Later,
        Err(_) => refused(500, "MI/UAC failed"),
    }
}

/// The request that the parameters of `tm:uac_dlg` describe.
fn request_of(call: &MiCall<'_, '_>) -> Result<LocalRequest, MiOutcome> {
    let bytes = |name: &str| Bytes::from(call.text(name).unwrap_or_default());
    let optional = |name: &str| call.text(name).filter(|t| !t.is_empty() && t != ".");
    let (method, uri, body) = (bytes("method"), bytes("ruri"), optional("body"));
    Uri::parse(&uri).map_err(|_| refused(400, "Invalid ruri"))?;
    let next_hop = optional("next_hop").map(Bytes::from);
    if next_hop.as_ref().is_some_and(|hop| Uri::parse(hop).is_err()) {
        return Err(refused(400, "Invalid next_hop"));
    }
    let socket = match optional("socket") {
        None => None,
        Some(text) => {
            let found = call.cx.node.sockets.named(&text);
            let bare = || call.cx.node.sockets.named(&format!("udp:{text}"));
            let found = found.or_else(bare);
            Some(found.ok_or_else(|| refused(404, "Local socket not found"))?)
        }
    };
    let headers = call.text("headers").unwrap_or_default();
    let fields = Fields::parse(&headers).ok_or_else(|| refused(400, "Bad headers"))?;
    if fields.has_length {
        return Err(refused(400, "Content-Length disallowed"));
    }
    if body.is_some() && !fields.has_type {
        return Err(refused(400, "Content-Type missing"));
    }
    let to = fields.to.ok_or_else(|| refused(400, "To missing"))?;
    let from = fields.from.ok_or_else(|| refused(400, "From missing"))?;
    if tandem_sip::NameAddr::parse(&from).is_err() {
        return Err(refused(400, "Error in From"));
    }
    let cseq = match fields.cseq {
        None => 0,
        Some(text) => {
            let mut words = text.split_ascii_whitespace();
            let number = words.next().and_then(|n| n.parse().ok());
            let number = number.ok_or_else(|| refused(400, "Bad CSeq number"))?;
            if words.next().is_some_and(|m| m.as_bytes() != &method[..]) {
                return Err(refused(400, "CSeq method mismatch"));
            }
            number
        }
    };
    Ok(LocalRequest {
        max_forwards: None,
        attached: Default::default(),
        method,
        uri,
        from,
        to,
        call_id: fields.call_id,
        cseq,
        headers: Bytes::from(fields.others),
        body: Bytes::from(body.unwrap_or_default()),
        next_hop,
        socket,
        context: None,
        is_plain: false,
    })
}

/// Header lines, those that the request is built from apart.
#[derive(Default)]
struct Fields {
    from: Option<Bytes>,
    to: Option<Bytes>,
    call_id: Bytes,
    cseq: Option<String>,
    has_length: bool,
    has_type: bool,
    others: String,
}

impl Fields {
    fn parse(text: &str) -> Option<Self> {
        let mut fields = Self::default();
        // A shell may hand in the two characters `\r` for one.
        let text = text.replace("\\r\\n", "\r\n").replace("\r\n", "\n");
        for line in text.lines().filter(|l| !l.trim().is_empty()) {
            let (name, value) = line.split_once(':')?;
            let (name, value) = (name.trim(), value.trim());
            let bytes = Bytes::copy_from_slice(value.as_bytes());
            match HeaderName::of(name.as_bytes()) {
                HeaderName::From => fields.from = Some(bytes),
                HeaderName::To => fields.to = Some(bytes),
                HeaderName::CallId => fields.call_id = bytes,
                HeaderName::CSeq => fields.cseq = Some(value.to_owned()),
                HeaderName::Via => {}
                HeaderName::ContentLength => fields.has_length = true,
                known => {
                    fields.has_type |= known == HeaderName::ContentType;
                    fields.others.push_str(&format!("{name}: {value}\r\n"));
                }
            }
        }
        Some(fields)
    }
}

/// What `tm:uac_dlg` answers in the end. `reply` is the reply as it came, or one of our own.
pub(crate) fn sent_answer(code: u16, reply: &Bytes, uri: &[u8], next_hop: &[u8]) -> Json {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let whole = text(reply);
    let (first, rest) = whole.split_once("\r\n").unwrap_or((&whole, ""));
    let status = first.strip_prefix("SIP/2.0 ").unwrap_or(first);
    let parsed = Message::parse(reply.clone()).ok();
    let contact = parsed.as_ref().and_then(|msg| {
        let header = msg.header(HeaderName::Contact)?;
        let value = header.values().next()?;
        Some(text(tandem_sip::NameAddr::parse(value.bytes).ok()?.uri))
    });
    let status = if status.is_empty() { code.to_string() } else { status.to_owned() };
    json!({
        "Status": status,
        "RURI": contact.unwrap_or_else(|| text(uri)),
        "Next-hop": text(next_hop),
        "Message": rest,
    })
}

fn uac_cancel(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let slot = call.cx.slot;
    let (call_id, cseq) = (call.text("callid"), call.text("cseq"));
    let number = cseq
        .and_then(|text| text.split_ascii_whitespace().next().and_then(|n| n.parse::<u32>().ok()));
    let found = call.cx.node.module::<Tm>(slot).and_then(|tm| {
        let tx = tm.by_call(call_id?.as_bytes(), number)?;
        Some((tm, tx))
    });
    let Some((tm, tx)) = found else { return refused(481, "No such transaction") };
    tm.deliver(call.cx, &tx, Event::Cancel { reason: Bytes::new() });
    MiOutcome::ok()
}

fn hash(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let slot = call.cx.slot;
    let Some(tm) = call.cx.node.module::<Tm>(slot) else {
        return refused(500, "Internal error");
    };
    let mut parts: BTreeMap<usize, (usize, u64)> = BTreeMap::new();
    for (index, now, total) in tm.table.counts().into_iter().chain(tm.plains.counts()) {
        let part = parts.entry(index).or_default();
        *part = (part.0 + now, part.1 + total);
    }
    let rows = parts
        .into_iter()
        .map(|(index, (now, total))| json!({"index": index, "Current": now, "Total": total}));
    MiOutcome::Done(rows.collect())
}

/// `index:label` in decimals, as it was once written, or what `$T_id` shows.
fn trans_id(text: &str) -> Result<TxId, MiOutcome> {
    if let Some((index, label)) = text.split_once(':') {
        let index = index.parse().map_err(|_| refused(400, "Invalid index in old trans_id"))?;
        let label = label.parse().map_err(|_| refused(400, "Invalid label in old trans_id"))?;
        return Ok(TxId { index, label });
    }
    let Some((_, label)) = text.split_once('.') else {
        return Err(refused(400, "Invalid trans_id"));
    };
    let whole = format!("z9hG4bK{text}.0");
    let id = TxId::parse(whole.as_bytes()).map(|(id, _)| id);
    let bad = if label.is_empty() { "Invalid trans_id" } else { "Invalid label in trans_id" };
    id.ok_or_else(|| refused(400, bad))
}

fn reply(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let slot = call.cx.slot;
    let code = call.int("code").and_then(|c| u16::try_from(c).ok());
    let Some(code) = code.filter(|c| (100..=699).contains(c)) else {
        return refused(400, "Invalid reply code");
    };
    let id = match trans_id(&call.text("trans_id").unwrap_or_default()) {
        Ok(id) => id,
        Err(refusal) => return refusal,
    };
    let found = call.cx.node.module::<Tm>(slot).and_then(|tm| Some((tm.table.by_id(id)?, tm)));
    let Some((tx, tm)) = found else { return refused(404, "Transaction not found") };
    let (tag, reason) = (call.text("to_tag"), call.text("reason").unwrap_or_default());
    let lines = |text: String| text.replace("\\r\\n", "\r\n").replace("\r\n", "\n");
    let mut headers = String::new();
    for line in lines(call.text("new_headers").unwrap_or_default()).lines() {
        if !line.trim().is_empty() {
            headers.push_str(&format!("{line}\r\n"));
        }
    }
    let bytes = {
        let cell = tx.cell.lock();
        let mut ctx = cell.record.saved.context(Routes::REQUEST);
        ctx.reply_body = call.text("body").unwrap_or_default().into_bytes();
        let tag = tag.unwrap_or_default();
        let status = (code, reason.as_bytes());
        own_reply_tagged(call.cx.node, &ctx, status, headers.as_bytes(), tag.as_bytes())
    };
    let open = tx.cell.lock().record.machine.last_code() < 200;
    if !open {
        return refused(500, "Reply failed");
    }
    tm.deliver(call.cx, &tx, Event::Local { code, bytes });
    MiOutcome::ok()
}
