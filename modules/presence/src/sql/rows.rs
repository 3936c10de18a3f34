//! Rows of `presentity`, `active_watchers` and `watchers`.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use tandem_db::{Cond, Op, Order, Query, Rows, Select, Value};

use crate::package::Status;
use crate::params::Params;
use crate::record::{
    BODY_BYTES_MAX, Key, Publication, ROUTES_BYTES_MAX, Sent, Stamp, SubId, Subscription, Text,
    uri_of,
};

use crate::request::{are_lines, is_keepable, is_one_line};

/// Rows that are read at a time.
pub(super) const ROWS_A_PAGE: u32 = 1_000;
/// Rows of one presentity or dialog that are read.
pub(super) const ROWS_OF_ONE: u32 = 200;
/// Numbers that are left out when a subscription is read: its row is written now and then.
const ROW_MARGIN: u32 = 1_000;
/// Seconds of a day.
const DAY_S: u64 = 24 * 3600;

const PUBLICATION: [&str; 10] = [
    "id",
    "username",
    "domain",
    "event",
    "etag",
    "expires",
    "received_time",
    "body",
    "extra_hdrs",
    "sender",
];

const SUBSCRIPTION: [&str; 22] = [
    "id",
    "presentity_uri",
    "event",
    "callid",
    "to_tag",
    "from_tag",
    "event_id",
    "watcher_username",
    "watcher_domain",
    "to_user",
    "to_domain",
    "local_cseq",
    "remote_cseq",
    "contact",
    "record_route",
    "expires",
    "status",
    "reason",
    "version",
    "socket_info",
    "local_contact",
    "sharing_tag",
];

/// The names of the tables, and how ends are stored.
#[derive(Debug)]
pub(super) struct Tables {
    presentity: String,
    active_watchers: String,
    watchers: String,
    expires_offset_s: i64,
}

fn text(bytes: &[u8]) -> Value {
    Value::Str(String::from_utf8_lossy(bytes).into_owned())
}

fn optional(bytes: &[u8]) -> Value {
    if bytes.is_empty() { Value::Null } else { text(bytes) }
}

fn name(column: &'static str) -> Cow<'static, str> {
    Cow::Borrowed(column)
}

/// The columns have numbers of different sizes: there is none that is before all of them.
fn behind(id: Option<i64>) -> Vec<Cond> {
    id.map(|id| Cond::new("id", Op::Gt, id)).into_iter().collect()
}

impl Tables {
    pub(super) fn new(params: &Params) -> Self {
        Self {
            presentity: params.presentity_table.clone(),
            active_watchers: params.active_watchers_table.clone(),
            watchers: params.watchers_table.clone(),
            expires_offset_s: params.expires_offset_s,
        }
    }

    fn presentity(&self) -> Cow<'static, str> {
        Cow::Owned(self.presentity.clone())
    }

    fn active_watchers(&self) -> Cow<'static, str> {
        Cow::Owned(self.active_watchers.clone())
    }

    fn stored(&self, expires_s: u32) -> Value {
        Value::Int(i64::from(expires_s).saturating_add(self.expires_offset_s))
    }

    fn read_end(&self, value: i64) -> u32 {
        u32::try_from(value.saturating_sub(self.expires_offset_s)).unwrap_or(0)
    }

    fn page(table: Cow<'static, str>, columns: &[&'static str], conds: Vec<Cond>) -> Query {
        Query::Select(Select {
            table,
            columns: columns.iter().map(|c| name(c)).collect(),
            conds,
            order: vec![Order { column: name("id"), descending: false }],
            limit: Some(ROWS_A_PAGE),
        })
    }

    /// Publications with a higher id, or from the first one on.
    pub(super) fn publications_behind(&self, id: Option<i64>) -> Query {
        Self::page(self.presentity(), &PUBLICATION, behind(id))
    }

    pub(super) fn subscriptions_behind(&self, id: Option<i64>) -> Query {
        Self::page(self.active_watchers(), &SUBSCRIPTION, behind(id))
    }

    /// Publications of a presentity.
    pub(super) fn publications_of(&self, key: &Key) -> Query {
        let (user, domain) = key.parts();
        let conds = vec![
            Cond::eq("username", text(user)),
            Cond::eq("domain", text(domain)),
            Cond::eq("event", text(&key.event)),
        ];
        Self::limited(Self::page(self.presentity(), &PUBLICATION, conds))
    }

    /// Subscriptions of a dialog.
    pub(super) fn subscriptions_of(&self, id: &SubId) -> Query {
        let conds = vec![
            Cond::eq("callid", text(&id.call_id)),
            Cond::eq("to_tag", text(&id.to_tag)),
            Cond::eq("from_tag", text(&id.from_tag)),
        ];
        Self::limited(Self::page(self.active_watchers(), &SUBSCRIPTION, conds))
    }

    fn limited(query: Query) -> Query {
        match query {
            Query::Select(select) => Query::Select(Select { limit: Some(ROWS_OF_ONE), ..select }),
            other => other,
        }
    }

    pub(super) fn write_publication(&self, key: &Key, p: &Publication) -> Query {
        let (user, domain) = key.parts();
        let body = if p.body.is_empty() { Value::Null } else { Value::Blob(p.body.clone()) };
        let extra = extra_of(p);
        let extra = if extra.is_empty() { Value::Null } else { Value::Blob(extra.into()) };
        Query::InsertOrUpdate {
            table: self.presentity(),
            keys: vec![
                (name("username"), text(user)),
                (name("domain"), text(domain)),
                (name("event"), text(&key.event)),
                (name("etag"), text(&p.etag)),
            ],
            set: vec![
                (name("expires"), self.stored(p.expires_s)),
                (name("received_time"), Value::Int(p.received_s.into())),
                (name("body"), body),
                (name("extra_hdrs"), extra),
                (name("sender"), optional(&p.sender)),
            ],
        }
    }

    pub(super) fn delete_publication(&self, key: &Key, etag: &[u8]) -> Query {
        let (user, domain) = key.parts();
        let conds = vec![
            Cond::eq("username", text(user)),
            Cond::eq("domain", text(domain)),
            Cond::eq("event", text(&key.event)),
            Cond::eq("etag", text(etag)),
        ];
        Query::Delete { table: self.presentity(), conds }
    }

    pub(super) fn write_subscription(&self, key: &Key, s: &Subscription) -> Query {
        let int = |n: u32| Value::Int(n.into());
        Query::InsertOrUpdate {
            table: self.active_watchers(),
            keys: vec![
                (name("presentity_uri"), text(&key.uri)),
                (name("callid"), text(&s.id.call_id)),
                (name("to_tag"), text(&s.id.to_tag)),
                (name("from_tag"), text(&s.id.from_tag)),
            ],
            set: vec![
                (name("event"), text(&key.event)),
                (name("event_id"), optional(&s.id.event_id)),
                (name("watcher_username"), text(&s.from_user)),
                (name("watcher_domain"), text(&s.from_domain)),
                (name("to_user"), text(&s.to_user)),
                (name("to_domain"), text(&s.to_domain)),
                (name("local_cseq"), int(s.sent.cseq)),
                (name("remote_cseq"), int(s.remote_cseq)),
                (name("contact"), text(&s.contact)),
                (name("record_route"), optional(&s.routes)),
                (name("expires"), self.stored(s.expires_s)),
                (name("status"), Value::Int(s.status as i64)),
                (name("reason"), optional(&s.reason)),
                (name("version"), int(s.sent.version)),
                (name("socket_info"), text(&s.socket)),
                (name("local_contact"), text(&s.local_contact)),
                (name("sharing_tag"), optional(&s.tag)),
            ],
        }
    }

    /// The same for one that has a row: if it knows of no later SUBSCRIBE.
    pub(super) fn change_subscription(&self, key: &Key, s: &Subscription) -> Query {
        let written = self.write_subscription(key, s);
        let Query::InsertOrUpdate { table, keys, set } = written else { return written };
        let mut conds: Vec<_> =
            keys.into_iter().map(|(column, value)| Cond { column, op: Op::Eq, value }).collect();
        let (column, value) = (name("remote_cseq"), Value::Int(s.remote_cseq.into()));
        conds.push(Cond { column, op: Op::Le, value });
        Query::Update { table, set, conds }
    }

    pub(super) fn delete_subscription(&self, key: &Key, id: &SubId) -> Query {
        let conds = vec![
            Cond::eq("presentity_uri", text(&key.uri)),
            Cond::eq("callid", text(&id.call_id)),
            Cond::eq("to_tag", text(&id.to_tag)),
            Cond::eq("from_tag", text(&id.from_tag)),
        ];
        Query::Delete { table: self.active_watchers(), conds }
    }

    pub(super) fn write_watcher(
        &self,
        key: &Key,
        s: &Subscription,
        (status, reason): (Status, &[u8]),
        now_s: u64,
    ) -> Query {
        Query::InsertOrUpdate {
            table: Cow::Owned(self.watchers.clone()),
            keys: vec![
                (name("presentity_uri"), text(&key.uri)),
                (name("watcher_username"), text(&s.from_user)),
                (name("watcher_domain"), text(&s.from_domain)),
                (name("event"), text(&key.event)),
            ],
            set: vec![
                (name("status"), Value::Int(status as i64)),
                (name("reason"), optional(reason)),
                (name("inserted_time"), Value::Int(now_s as i64)),
            ],
        }
    }

    /// Deletes what is over.
    pub(super) fn clean(&self, now_s: u64, waiting_days: u32) -> Vec<Query> {
        let over = || Cond::new("expires", Op::Lt, now_s as i64 + self.expires_offset_s);
        let old = now_s.saturating_sub(u64::from(waiting_days) * DAY_S) as i64;
        let undecided = |status: Status| Query::Delete {
            table: Cow::Owned(self.watchers.clone()),
            conds: vec![Cond::eq("status", status as i64), Cond::new("inserted_time", Op::Lt, old)],
        };
        vec![
            Query::Delete { table: self.presentity(), conds: vec![over()] },
            Query::Delete { table: self.active_watchers(), conds: vec![over()] },
            undecided(Status::Pending),
            undecided(Status::Waiting),
        ]
    }

    /// Reads one publication; `None`: it says nothing that can be used.
    pub(super) fn publication(&self, row: &[Value]) -> Option<(Key, Publication)> {
        let row = Cells(row);
        let etag = row.text(4)?;
        let (user, domain, event) = (row.text(1)?, row.text(2)?, row.text(3)?);
        let body = Bytes::copy_from_slice(row.bytes(7));
        let extra = row.bytes(8);
        if etag.is_empty()
            || body.len() > BODY_BYTES_MAX
            || extra.len() > ROUTES_BYTES_MAX
            || !are_lines(extra)
        {
            return None;
        }
        let received_s = row.number(6);
        // Several changes within a second are told apart by the last number of the ETag.
        let count = count_of(&etag).min(999_999);
        let (content_type, extra) = type_of(extra);
        let publication = Publication {
            id: id_of(&etag).into(),
            etag,
            content_type,
            body,
            extra,
            sender: row.text(9).unwrap_or_default(),
            received_s,
            expires_s: self.read_end(row.int(5)),
            // What a node says is newer than what a row says.
            stamp: Stamp { time_us: u64::from(received_s.max(1)) * 1_000_000 + count, node: 0 },
            ..Publication::default()
        };
        Some((Key::new(&uri_of(&user, &domain), &event), publication))
    }

    /// Reads one subscription.
    pub(super) fn subscription(&self, row: &[Value]) -> Option<(Key, Subscription)> {
        let row = Cells(row);
        let id = SubId {
            call_id: row.text(3)?,
            to_tag: row.text(4)?,
            from_tag: row.text(5)?,
            event_id: row.text(6).unwrap_or_default(),
        };
        let routes = row.bytes(14);
        let is_whole = !id.call_id.is_empty()
            && !id.to_tag.is_empty()
            && !row.bytes(13).is_empty()
            && routes.len() <= ROUTES_BYTES_MAX
            && is_one_line(routes);
        if !is_whole {
            return None;
        }
        let s = Subscription {
            id: Arc::new(id),
            from_user: row.text(7)?,
            from_domain: row.text(8)?,
            to_user: row.text(9)?,
            to_domain: row.text(10)?,
            contact: row.text(13)?,
            routes: row.bytes(14).into(),
            socket: row.text(19)?,
            local_contact: row.text(20)?,
            tag: row.text(21).unwrap_or_default(),
            reason: row.text(17).unwrap_or_default(),
            status: Status::from_number(row.int(16))?,
            expires_s: self.read_end(row.int(15)),
            remote_cseq: row.number(12),
            stamp: Stamp { time_us: 1, node: 0 },
            sent: Sent {
                cseq: row.number(11).saturating_add(ROW_MARGIN),
                version: row.number(18),
                ..Sent::default()
            },
            ..Subscription::default()
        };
        let (uri, event) = (row.text(1)?, row.text(2)?);
        Some((Key { uri, event }, s))
    }
}

/// What stands before the type of a body among its header lines: the table has no column for it,
/// and only a type that is not that of the package has to be kept.
const TYPE: &[u8] = b"Content-Type: ";

/// The column `extra_hdrs` of a publication.
fn extra_of(p: &Publication) -> Vec<u8> {
    if p.content_type.is_empty() || p.body.is_empty() {
        return p.extra.to_vec();
    }
    [TYPE, &p.content_type[..], b"\r\n", &p.extra].concat()
}

/// The type of the body, and the header lines, of such a column.
fn type_of(extra: &[u8]) -> (Text, Text) {
    let found = extra.strip_prefix(TYPE).and_then(|rest| {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        Some((rest.get(..end)?, rest.get(end + 2..)?))
    });
    match found {
        Some((kind, rest)) if is_keepable(kind) => (kind.into(), rest.into()),
        _ => (Text::default(), extra.into()),
    }
}

/// The id of the last row of a page, if there may be more.
pub(super) fn next_page(rows: &Rows) -> Option<i64> {
    let last = rows.rows.last()?.first()?.as_int()?;
    (rows.rows.len() == ROWS_A_PAGE as usize).then_some(last)
}

/// How often the publication of an ETag has changed: its last number.
pub(crate) fn count_of(etag: &[u8]) -> u64 {
    let last = etag.rsplit(|b| *b == b'.').next().and_then(|n| std::str::from_utf8(n).ok());
    last.and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// What an ETag is called for as long as its publication lives: without the count of changes.
pub(crate) fn id_of(etag: &[u8]) -> &[u8] {
    let is_number = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let parts = etag.iter().filter(|b| **b == b'.').count();
    match etag.iter().rposition(|b| *b == b'.') {
        Some(at) if parts >= 4 && etag.get(at + 1..).is_some_and(is_number) => {
            etag.get(..at).unwrap_or(etag)
        }
        _ => etag,
    }
}

/// The values of a row, by place.
struct Cells<'a>(&'a [Value]);

impl Cells<'_> {
    fn bytes(&self, at: usize) -> &[u8] {
        self.0.get(at).and_then(Value::as_bytes).unwrap_or_default()
    }

    /// `None`: it cannot be kept.
    fn text(&self, at: usize) -> Option<Text> {
        let bytes = self.bytes(at);
        is_keepable(bytes).then(|| bytes.into())
    }

    fn int(&self, at: usize) -> i64 {
        self.0.get(at).and_then(Value::as_int).unwrap_or(0)
    }

    fn number(&self, at: usize) -> u32 {
        u32::try_from(self.int(at)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_of_a_body_is_found_again_among_its_header_lines() {
        let text = |t: &str| Text::from(t.as_bytes());
        for (kind, extra) in [("", ""), ("a/b;c=d", ""), ("a/b", "X: 1\r\n"), ("", "X: 1\r\n")] {
            let body = Bytes::from_static(b"x");
            let (content_type, extra) = (text(kind), text(extra));
            let p = Publication { content_type, extra, body, ..Publication::default() };
            assert_eq!(type_of(&extra_of(&p)), (p.content_type, p.extra));
        }
    }

    #[test]
    fn an_etag_has_a_lasting_part() {
        assert_eq!(id_of(b"a.1.2.3.9"), b"a.1.2.3");
        assert_eq!(id_of(b"a.1.2.3"), b"a.1.2.3");
        assert_eq!(id_of(b"strange"), b"strange");
        assert_eq!(id_of(b"a.1.2.3.x"), b"a.1.2.3.x");
    }
}
