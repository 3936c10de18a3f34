//! Records for a RADIUS server: RFC 2866, with the attributes that SIP servers tell.
//!
//! On its way a record is like one for a database: attributes are its columns. Which numbers they
//! have is looked up when it is sent.

use std::sync::Arc;

use bytes::Bytes;
use tandem_aaa_radius::{AaaRadius, Asker, Avp, DoorId, Kind as Ask, Outcome};
use tandem_db::{Name, Value};
use tandem_engine::log::Level;
use tandem_engine::module::{Build, BuildError, Cx};

use crate::cdr::{Cdr, CdrId};
use crate::fields::{Fields, Values};
use crate::ledger::{CallRef, Entry, Misses, timer};
use crate::marks::Backend;
use crate::params::{Params, uses};
use crate::record::{Kind, Record};

/// Bytes of all attributes, at most, so that they fit into a packet with those that say who we are.
const BYTES_MAX: usize = 3_600;
/// What every record has.
const NEEDED: [&str; 8] = [
    "Acct-Status-Type",
    "Service-Type",
    "Sip-Response-Code",
    "Sip-Method",
    "Event-Timestamp",
    "Sip-From-Tag",
    "Sip-To-Tag",
    "Acct-Session-Id",
];
/// Where a dictionary does not name them: RFC 2866 5.1, and what SIP servers take.
const STATUS: [(&str, u64); 4] = [("Start", 1), ("Stop", 2), ("Interim-Update", 3), ("Failed", 15)];
const SIP_SESSION: u64 = 15;
const METHODS: [(&str, u64); 14] = [
    ("INVITE", 1),
    ("CANCEL", 2),
    ("ACK", 4),
    ("BYE", 8),
    ("INFO", 16),
    ("OPTIONS", 32),
    ("UPDATE", 64),
    ("REGISTER", 128),
    ("MESSAGE", 256),
    ("SUBSCRIBE", 512),
    ("NOTIFY", 1024),
    ("PRACK", 2048),
    ("REFER", 4096),
    ("PUBLISH", 8192),
];
/// A record that is older says so: RFC 2866 5.2.
const DELAY_S_MIN: u64 = 2;

/// See the module.
pub(crate) struct Radius {
    module: Arc<AaaRadius>,
    door: DoorId,
    slot: u16,
    service_type: Option<u64>,
}

/// The attributes of a record, in their order.
type Attributes = Vec<(Name, Value)>;

/// Extra fields with their values, and those of the legs.
type More<'a> = ((&'a Fields, &'a Values), (&'a Fields, &'a [Values]));

impl Radius {
    pub(crate) fn build(build: &Build<'_>, params: &Params) -> Result<Option<Self>, BuildError> {
        let Some((module, door)) = AaaRadius::wanted(build, "aaa_url")? else {
            if uses(build, Backend::Aaa, "acc_aaa_request") {
                let why = "the script accounts to a RADIUS server, and there is none";
                let help = "set aaa_url of acc: \"radius:/etc/radcli/radiusclient.conf\"";
                return Err(BuildError::new("aaa_url", why).help(help));
            }
            return Ok(None);
        };
        module.need(door, "the type aaa of acc", &NEEDED);
        for (param, fields) in [("extra_fields", &params.extra), ("leg_fields", &params.legs)] {
            let names: Vec<&str> = fields.of(Backend::Aaa).iter().map(|(_, n)| &**n).collect();
            module.need(door, &format!("{param} of acc"), &names);
        }
        let service_type = build.int("service_type").and_then(|n| u64::try_from(n).ok());
        Ok(Some(Self { module, door, slot: build.slot, service_type }))
    }

    /// A record of a transaction.
    pub(crate) fn record(
        &self,
        id: CdrId,
        (kind, record): (Kind, &Record),
        more: More<'_>,
    ) -> Entry {
        let status = status(kind, record);
        let all = self.attributes(status, record, record.time_s(), more);
        self.entry(id, all, None)
    }

    /// The record of a whole call.
    pub(crate) fn cdr(
        &self,
        cdr: &Cdr,
        extra: &Fields,
        legs: &Fields,
        call: Option<CallRef>,
    ) -> Entry {
        let more = ((extra, &cdr.extra), (legs, cdr.legs.as_slice()));
        let mut all = self.attributes("Stop", &cdr.core, cdr.ended_ms / 1000, more);
        let figures = [
            ("Acct-Session-Time", cdr.duration_s()),
            ("Sip-Call-Duration", cdr.duration_s()),
            ("Sip-Call-MSDuration", cdr.duration_ms()),
            ("Sip-Call-Setuptime", cdr.setup_s()),
            ("Sip-Call-Created", cdr.created_s()),
        ];
        for (name, number) in figures {
            if self.knows(name) {
                all.push((name.into(), Value::Int(number as i64)));
            }
        }
        self.entry(cdr.id(), all, call)
    }

    fn attributes(
        &self,
        status: &str,
        record: &Record,
        time_s: u64,
        ((extra, values), (legs, all_legs)): More<'_>,
    ) -> Attributes {
        let text = |bytes: &Bytes| Value::Str(String::from_utf8_lossy(bytes).into_owned());
        let code = std::str::from_utf8(&record.code).ok().and_then(|code| code.parse().ok());
        let service_type = self
            .service_type
            .unwrap_or_else(|| self.value("Service-Type", "Sip-Session").unwrap_or(SIP_SESSION));
        let number = |number: u64| Value::Int(number as i64);
        let mut all: Attributes = vec![
            ("Acct-Status-Type".into(), number(self.status_number(status))),
            ("Service-Type".into(), number(service_type)),
            ("Sip-Response-Code".into(), Value::Int(code.unwrap_or(0))),
            ("Sip-Method".into(), self.method(&record.method)),
            ("Event-Timestamp".into(), number(time_s)),
            ("Sip-From-Tag".into(), text(&record.from_tag)),
            ("Sip-To-Tag".into(), text(&record.to_tag)),
            ("Acct-Session-Id".into(), text(&record.call_id)),
        ];
        let mut add = |fields: &Fields, values: &Values| {
            let given = fields.of(Backend::Aaa).iter().filter_map(|(at, name)| {
                values.get(*at).filter(|value| !value.is_empty()).map(|v| (name.clone(), text(v)))
            });
            all.extend(given);
        };
        add(extra, values);
        all_legs.iter().for_each(|leg| add(legs, leg));
        all
    }

    fn entry(&self, id: CdrId, mut all: Attributes, call: Option<CallRef>) -> Entry {
        // For servers that want to tell a record that comes twice.
        if self.knows("Tandem-Cdr-Id") {
            all.push(("Tandem-Cdr-Id".into(), id.text().into()));
        }
        let (columns, row): (Vec<Name>, Vec<Value>) = all.into_iter().unzip();
        Entry {
            id,
            table: "radius".into(),
            columns: columns.into(),
            rows: vec![row],
            call,
            segment: 0,
            misses: Misses::default(),
        }
    }

    /// Whether the dictionary is read: a record must not go without what it lacks until then.
    pub(crate) fn is_ready(&self) -> bool {
        self.module.dictionary(self.door).is_some()
    }

    fn knows(&self, name: &str) -> bool {
        let dictionary = self.module.dictionary(self.door);
        dictionary.is_some_and(|d| d.attribute_named(name).is_some_and(|a| a.number.is_some()))
    }

    fn value(&self, attribute: &str, name: &str) -> Option<u64> {
        self.module.dictionary(self.door)?.value(attribute, name)
    }

    fn status_number(&self, status: &str) -> u64 {
        let standard = STATUS.into_iter().find(|(name, _)| *name == status);
        let named = self.value("Acct-Status-Type", status);
        named.or(standard.map(|(_, number)| number)).unwrap_or(0)
    }

    /// A number, or the name where that is what the dictionary wants.
    fn method(&self, method: &[u8]) -> Value {
        let name = String::from_utf8_lossy(method).into_owned();
        let is_text = self.module.dictionary(self.door).is_some_and(|d| {
            let found = d.attribute_named("Sip-Method");
            found.is_some_and(|attribute| attribute.kind.is_text())
        });
        if is_text {
            return Value::Str(name);
        }
        let known = METHODS.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(&name));
        let number = self.value("Sip-Method", &name).or(known.map(|(_, number)| number));
        Value::Int(number.unwrap_or(0) as i64)
    }

    /// Sends a record; `token` comes back with [`Radius::take`].
    pub(crate) fn send(&self, cx: &mut Cx<'_>, entry: &Entry, token: u64) {
        let row = entry.rows.first().map(Vec::as_slice).unwrap_or_default();
        let (mut avps, mut bytes) = (Vec::new(), 0);
        for (name, value) in entry.columns.iter().zip(row) {
            let value = match value {
                Value::Int(number) => number.to_string(),
                Value::Str(text) => text.clone(),
                _ => continue,
            };
            let made = self.avp(name, value.as_bytes()).and_then(|avp| {
                bytes += avp.value.len() + 8;
                let is_room = bytes <= BYTES_MAX;
                is_room.then_some(avp).ok_or_else(|| "the packet would be too long".to_owned())
            });
            match made {
                Ok(avp) => avps.push(avp),
                Err(why) => {
                    let id = entry.id.text();
                    let text = format!("the record {id} for RADIUS goes without {name}: {why}");
                    cx.log(Level::Warning, text);
                }
            }
        }
        avps.extend(self.delay(cx, entry));
        let asker = Asker { slot: self.slot, timer: timer::RADIUS };
        self.module.ask(cx, self.door, (Ask::Acct, avps), (asker, token));
    }

    /// Texts are cut to what an attribute may have: better so than without.
    fn avp(&self, name: &str, value: &[u8]) -> Result<Avp, String> {
        let cut = |bytes: usize| value.get(..bytes.min(value.len())).unwrap_or(value);
        let made = self.module.avp(self.door, name, value);
        if made.is_ok() || value.len() <= 128 {
            return made;
        }
        [253, 247, 128]
            .into_iter()
            .find_map(|n| self.module.avp(self.door, name, cut(n)).ok())
            .map_or(made, Ok)
    }

    /// How long ago it was, if that is long.
    fn delay(&self, cx: &Cx<'_>, entry: &Entry) -> Option<Avp> {
        let at = entry.columns.iter().position(|name| &**name == "Event-Timestamp")?;
        let time_s = u64::try_from(entry.rows.first()?.get(at)?.as_int()?).ok()?;
        let delay_s = cx.now.unix_s().saturating_sub(time_s);
        if delay_s < DELAY_S_MIN || !self.knows("Acct-Delay-Time") {
            return None;
        }
        let delay = delay_s.min(u64::from(u32::MAX)).to_string();
        self.module.avp(self.door, "Acct-Delay-Time", delay.as_bytes()).ok()
    }

    /// The answer that a timer tells of, and whose it is.
    pub(crate) fn take(&self, number: u64) -> Option<(u64, Result<(), String>)> {
        let (token, outcome) = self.module.take(number)?;
        let result = match outcome {
            Outcome::Accepted(_) => Ok(()),
            Outcome::Rejected(_) => Err("it was refused".to_owned()),
            Outcome::Failed(why) => Err(why),
        };
        Some((token, result))
    }
}

/// What a record tells of a session: RFC 2866 5.1. What neither begins nor ends one is news of it.
fn status(kind: Kind, record: &Record) -> &'static str {
    let first = record.code.first().copied().unwrap_or(b'0');
    match (&record.method[..], first) {
        _ if kind == Kind::Missed => "Failed",
        (b"INVITE", b'2') => "Start",
        (b"BYE" | b"CANCEL", _) => "Stop",
        (_, b'3'..) => "Failed",
        _ => "Interim-Update",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_begin_and_end() {
        let of = |method: &'static str, code: &'static str| {
            let record = Record { method: method.into(), code: code.into(), ..Record::default() };
            status(Kind::Answered, &record)
        };
        assert_eq!((of("INVITE", "200"), of("INVITE", "486")), ("Start", "Failed"));
        assert_eq!(
            (of("BYE", "200"), of("BYE", "481"), of("CANCEL", "200")),
            ("Stop", "Stop", "Stop")
        );
        assert_eq!(
            (of("INVITE", "183"), of("MESSAGE", "202")),
            ("Interim-Update", "Interim-Update")
        );
        assert_eq!((of("MESSAGE", "404"), of("MESSAGE", "")), ("Failed", "Interim-Update"));
    }
}
