//! Records as log lines.

use tandem_db::Name;

use crate::cdr::Cdr;
use crate::fields::{Fields, Values};
use crate::marks::Backend;
use crate::record::{Kind, Record};

/// The line of a record.
pub(crate) fn record_line(
    kind: Kind,
    record: &Record,
    fields: (&Fields, &Values),
    legs: (&Fields, &[Values]),
) -> String {
    let mut line = Line(Vec::with_capacity(256));
    line.0.extend_from_slice(match kind {
        Kind::Answered => b"ACC: transaction answered: ",
        Kind::Missed => b"ACC: call missed: ",
        Kind::Requested => b"ACC: request accounted: ",
    });
    line.number("timestamp", record.time_s());
    if record.created_ms != 0 {
        line.number("created", record.created_s());
        line.number("setuptime", record.setup_s());
    }
    line.core(record);
    line.more(fields, legs);
    line.text_of()
}

/// The line of a call that has ended.
pub(crate) fn cdr_line(cdr: &Cdr, fields: &Fields, legs: &Fields) -> String {
    let mut line = Line(Vec::with_capacity(320));
    line.0.extend_from_slice(b"ACC: call ended: ");
    line.number("created", cdr.created_s());
    line.number("call_start_time", cdr.answered_ms / 1000);
    line.number("duration", cdr.duration_s());
    line.number("ms_duration", cdr.duration_ms());
    line.number("setuptime", cdr.setup_s());
    line.core(&cdr.core);
    line.more((fields, &cdr.extra), (legs, &cdr.legs));
    line.text_of()
}

struct Line(Vec<u8>);

impl Line {
    fn name(&mut self, name: &str) {
        if !self.0.ends_with(b" ") {
            self.0.push(b';');
        }
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b'=');
    }

    fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        match u32::try_from(value) {
            Ok(value) => tandem_sip::push_number(&mut self.0, value),
            Err(_) => self.0.extend_from_slice(value.to_string().as_bytes()),
        }
    }

    fn value(&mut self, name: &str, value: &[u8]) {
        // A value that ends with a blank does not begin the line anew.
        self.0.push(b';');
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b'=');
        self.0.extend_from_slice(value);
    }

    fn core(&mut self, record: &Record) {
        self.value("method", &record.method);
        self.value("from_tag", &record.from_tag);
        self.value("to_tag", &record.to_tag);
        self.value("call_id", &record.call_id);
        self.value("code", &record.code);
        self.value("reason", &record.reason);
    }

    fn more(&mut self, (fields, values): (&Fields, &Values), (legs, all): (&Fields, &[Values])) {
        self.values(fields.of(Backend::Log), values);
        for leg in all {
            self.values(legs.of(Backend::Log), leg);
        }
    }

    fn values(&mut self, fields: &[(usize, Name)], values: &Values) {
        for (at, printed) in fields {
            self.value(printed, values.text(*at));
        }
    }

    /// A value must not begin a line of its own in the log.
    fn text_of(self) -> String {
        // Without an end before the last byte, so that many are looked at together.
        let is_plain = self.0.iter().fold(true, |plain, b| plain & (b' '..0x7f).contains(b));
        let text = match String::from_utf8(self.0) {
            Ok(text) if is_plain => return text,
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        };
        if text.contains(char::is_control) {
            return text.replace(char::is_control, " ");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn record() -> Record {
        Record {
            method: Bytes::from_static(b"INVITE"),
            from_tag: Bytes::from_static(b"f"),
            to_tag: Bytes::from_static(b"t"),
            call_id: Bytes::from_static(b"c"),
            code: Bytes::from_static(b"200"),
            reason: Bytes::from_static(b"OK"),
            time_ms: 9_900,
            created_ms: 4_200,
        }
    }

    #[test]
    fn a_line_has_its_fields_in_order() {
        let mut fields = Fields::default();
        fields.declare("log: src; gw->gateway").unwrap();
        let mut legs = Fields::default();
        legs.declare("log: to").unwrap();
        let (mut extra, mut leg) = (Values::default(), Values::default());
        extra.set(0, Some(Bytes::from_static(b"1.2.3.4\r\nx ")));
        leg.set(0, Some(Bytes::from_static(b"bob")));
        let all = [leg, Values::default()];
        let line = record_line(Kind::Answered, &record(), (&fields, &extra), (&legs, &all));
        assert_eq!(
            line,
            "ACC: transaction answered: timestamp=9;created=4;setuptime=5;method=INVITE;\
             from_tag=f;to_tag=t;call_id=c;code=200;reason=OK;src=1.2.3.4  x ;gateway=;to=bob;to="
        );
        let plain = Record { created_ms: 0, ..record() };
        let none = (&Fields::default(), &Values::default());
        let line = record_line(Kind::Requested, &plain, none, (&Fields::default(), &[]));
        assert_eq!(
            line,
            "ACC: request accounted: timestamp=9;method=INVITE;from_tag=f;to_tag=t;call_id=c;\
             code=200;reason=OK"
        );
    }

    #[test]
    fn the_line_of_a_call() {
        let cdr = Cdr {
            core: record(),
            extra: Values::default(),
            legs: Vec::new(),
            created_ms: 4_200,
            answered_ms: 9_900,
            ended_ms: 20_221,
            hops: 0,
        };
        let line = cdr_line(&cdr, &Fields::default(), &Fields::default());
        assert_eq!(
            line,
            "ACC: call ended: created=4;call_start_time=9;duration=11;ms_duration=10321;\
             setuptime=5;method=INVITE;from_tag=f;to_tag=t;call_id=c;code=200;reason=OK"
        );
    }
}
