//! Requests that leave: PUBLISH (RFC 3903) and SUBSCRIBE (RFC 6665).

use std::sync::Arc;

use bytes::Bytes;
use tandem_engine::log::Level;
use tandem_engine::module::Cx;
use tandem_tm::{LocalRequest, Owner, Tm};

use crate::duty::Leave;
use crate::record::{
    BODY_BYTES_MAX, Event, FOREVER_S, Key, Publication, Record, Source, Stand, TEXT_BYTES_MAX,
    Text, Watch,
};
use crate::replies::tried;
use crate::state::Pua;
use crate::table::{Full, Sent, What};

impl Pua {
    /// Publishes, or ends what was published under this name.
    ///
    /// # Errors
    /// What of it is too long, or that there are too many records.
    pub fn publish(&self, cx: &mut Cx<'_>, key: &Key, wanted: &Publication) -> Result<(), String> {
        let texts = [&key.uri[..], &key.id, &wanted.extra, &wanted.next_hop, &wanted.content_type];
        if texts.iter().any(|text| text.len() > TEXT_BYTES_MAX)
            || wanted.body.len() > BODY_BYTES_MAX
        {
            return Err("what is to be published is too long".into());
        }
        let now_s = cx.now.unix_s();
        let ends = wanted.expires_s == Some(0);
        if ends && self.table.read(key, |r, _| r.stand == Stand::Ending) == Some(true) {
            // It is on its way: what ends twice would be published once more in between.
            return Ok(());
        }
        let bytes = |text: &Bytes| Text::from(&text[..]);
        let new = self.new_record(cx, key);
        self.wish(cx, key, |known| {
            let mut record = known.unwrap_or(new);
            record.stand = if ends { Stand::Ending } else { Stand::Wanted };
            record.desired_s = match wanted.expires_s {
                Some(seconds) => now_s + u64::from(seconds),
                None => FOREVER_S,
            };
            record.body = wanted.body.clone();
            record.content_type = bytes(&wanted.content_type);
            record.extra = bytes(&wanted.extra);
            record.next_hop = bytes(&wanted.next_hop);
            record
        })
    }

    /// Somebody wants something else of a record than before.
    fn wish(
        &self,
        cx: &mut Cx<'_>,
        key: &Key,
        change: impl FnOnce(Option<Record>) -> Record,
    ) -> Result<(), String> {
        let wished = self.update(cx, key, |known, local| {
            local.tries = 0;
            local.wish = local.wish.wrapping_add(1);
            (Some(change(known)), ())
        });
        wished.map_err(|Full| "there are too many records".to_owned())?;
        self.pump(cx, key, &Leave::Asked);
        Ok(())
    }

    /// Whether something is published under this name, as far as this node knows.
    pub fn is_published(&self, key: &Key) -> bool {
        self.table.read(key, |r, _| r.stand != Stand::Gone) == Some(true)
    }

    /// Subscribes in the name of `watcher`; the subscription is refreshed until `desired_s`.
    ///
    /// # Errors
    /// What of it is too long, or that there are too many records.
    pub fn subscribe(
        &self,
        cx: &mut Cx<'_>,
        key: &Key,
        expires_s: u32,
        contact: &[u8],
    ) -> Result<(), String> {
        if [&key.uri[..], &key.watcher, contact].iter().any(|t| t.len() > TEXT_BYTES_MAX) {
            return Err("what is to be subscribed to is too long".into());
        }
        let now_s = cx.now.unix_s();
        let mut watch = self.new_watch(cx, &key.uri);
        watch.contact = contact.into();
        let new = self.new_record(cx, key);
        self.wish(cx, key, |known| {
            let mut record = known.unwrap_or(new);
            record.stand = if expires_s == 0 { Stand::Ending } else { Stand::Wanted };
            record.desired_s = now_s + u64::from(expires_s);
            record.watch.get_or_insert_with(|| Box::new(watch));
            record
        })
    }

    /// A dialog that nobody has answered yet.
    pub(crate) fn new_watch(&self, cx: &mut Cx<'_>, to: &Text) -> Watch {
        let mut word = || format!("{:016x}", cx.worker.chance.u64()).into_bytes();
        Watch {
            to_uri: to.clone(),
            call_id: word().into(),
            from_tag: word().into(),
            ..Watch::default()
        }
    }

    fn new_record(&self, cx: &Cx<'_>, key: &Key) -> Record {
        Record {
            key: key.clone(),
            creator: cx.node.membership().node_id(),
            tag: self.params.tag.as_deref().unwrap_or_default().as_bytes().into(),
            ..Record::default()
        }
    }

    /// Sends what a record owes, if nothing of it is on its way.
    pub(crate) fn pump(&self, cx: &mut Cx<'_>, key: &Key, leave: &Leave<'_>) {
        let now_s = cx.now.unix_s();
        let token = self.table.token();
        let begun = self.update(cx, key, |known, local| {
            let Some(mut record) = known.filter(|_| local.sent.is_none()) else {
                return (None, None);
            };
            let Some(what) = owed(&record, now_s) else { return (Some(ended(record)), None) };
            local.sent = Some(Sent { wish: local.wish, token, what });
            let least_s = local.min_expires_s;
            let Some(watch) = record.watch.as_mut() else {
                return (None, Some((record, what, least_s)));
            };
            // The number is used up, whoever goes on.
            watch.cseq = watch.cseq.saturating_add(1);
            (Some(record.clone()), Some((record, what, least_s)))
        });
        let Ok(Some((record, what, least_s))) = begun else { return };
        let seconds = self.seconds(cx, &record, what, least_s);
        if let Err(why) = self.send(cx, record, what, seconds, token, leave) {
            self.failed(cx, token, &why);
        }
    }

    /// Sends one request. What comes of it is told to `replied`.
    fn send(
        &self,
        cx: &mut Cx<'_>,
        mut record: Record,
        what: What,
        seconds: u64,
        token: u64,
        _leave: &Leave<'_>,
    ) -> Result<(), String> {
        let (tm_slot, tm) = cx.node.find::<Tm>().ok_or("the module tm is not loaded")?;
        // Another node may have made it, with a server that died together with it.
        let own = self.next_hops.lock().get(&Source(record.key.source)).cloned();
        if let Some(own) = own.filter(|own| !own.is_empty()) {
            record.next_hop = own[..].into();
        }
        let request = match &record.watch {
            None => publish_request(&record, what, seconds, cx.now.unix_s()),
            Some(_) => subscribe_request(&record, seconds)?,
        };
        let owner = Owner::Module { slot: self.slot, token };
        let tm: Arc<Tm> = tm;
        cx.for_slot(tm_slot, |cx| tm.send_request(cx, &request, owner))
    }

    /// Seconds to ask for.
    fn seconds(&self, cx: &Cx<'_>, record: &Record, what: What, least_s: u32) -> u64 {
        let least = u64::from(self.params.min_expires_s.max(least_s));
        match what {
            What::End => 0,
            What::Farewell => least.max(1),
            What::Body | What::Refresh if record.desired_s == FOREVER_S => {
                u64::from(self.params.default_expires_s).max(least)
            }
            What::Body | What::Refresh => {
                record.desired_s.saturating_sub(cx.now.unix_s()).max(least).max(1)
            }
        }
    }

    /// A record has come to its end, unless it is not as it was any more when that was found.
    pub(crate) fn gone(&self, cx: &Cx<'_>, key: &Key, is_over: impl FnOnce(&Record) -> bool) {
        // There is room for the end of what is there.
        let _ = self.update(cx, key, |known, _| (known.filter(is_over).map(ended), ()));
    }

    /// A request could not be sent.
    fn failed(&self, cx: &mut Cx<'_>, token: u64, why: &str) {
        let Some(key) = self.table.of_token(token) else { return };
        let uri = String::from_utf8_lossy(&key.uri).into_owned();
        cx.log(Level::Error, format!("pua: nothing can be sent for {uri}: {why}"));
        self.came_to(cx, &key, token, |_, record, _, local| tried(record, local));
    }

    /// The usual next hop of a source, for records that come from a database.
    pub fn set_next_hop(&self, source: Source, next_hop: Bytes) {
        self.next_hops.lock().insert(source, next_hop);
    }
}

/// What is to be sent of a record; `None`: nothing, it is over.
fn owed(record: &Record, now_s: u64) -> Option<What> {
    let has_server = record.watch.is_some() || record.has_etag(now_s);
    let what = match record.stand {
        Stand::Wanted => What::Body,
        // What the server has forgotten cannot be prolonged.
        Stand::Told if has_server => What::Refresh,
        Stand::Told => What::Body,
        Stand::Ending if has_server => What::End,
        Stand::Ending => What::Farewell,
        Stand::Gone => return None,
    };
    // The body may have been in another node's memory.
    let needs_body = record.watch.is_none() && matches!(what, What::Body | What::Farewell);
    (!needs_body || !record.body.is_empty()).then_some(what)
}

/// A record at its end: only its name and when it ended are remembered.
pub(crate) fn ended(record: Record) -> Record {
    Record {
        key: record.key,
        stand: Stand::Gone,
        creator: record.creator,
        expires_s: record.expires_s,
        ..Record::default()
    }
}

fn event_line(event: Option<Event>) -> String {
    format!("Event: {}\r\n", event.map_or("presence", Event::name))
}

fn around(uri: &[u8]) -> Bytes {
    Bytes::from([b"<", uri, b">"].concat())
}

fn next_hop(record: &Record) -> Option<Bytes> {
    (!record.next_hop.is_empty()).then(|| Bytes::copy_from_slice(&record.next_hop))
}

fn publish_request(record: &Record, what: What, seconds: u64, now_s: u64) -> LocalRequest {
    let mut headers = event_line(record.key.event()).into_bytes();
    headers.extend_from_slice(format!("Expires: {seconds}\r\n").as_bytes());
    if record.has_etag(now_s) && what != What::Farewell {
        headers.extend_from_slice(&[b"SIP-If-Match: ", &record.etag[..], b"\r\n"].concat());
    }
    headers.extend_from_slice(&record.extra);
    let body = if what == What::Refresh { Bytes::new() } else { record.body.clone() };
    if !body.is_empty() {
        headers.extend_from_slice(&[b"Content-Type: ", &record.content_type[..], b"\r\n"].concat());
    }
    LocalRequest {
        method: Bytes::from_static(b"PUBLISH"),
        uri: Bytes::copy_from_slice(&record.key.uri),
        from: around(&record.key.uri),
        to: around(&record.key.uri),
        headers: headers.into(),
        body,
        next_hop: next_hop(record),
        ..LocalRequest::default()
    }
}

fn subscribe_request(record: &Record, seconds: u64) -> Result<LocalRequest, String> {
    let watch = record.watch.as_ref().ok_or("it is no subscription")?;
    let mut headers = event_line(record.key.event()).into_bytes();
    headers.extend_from_slice(format!("Expires: {seconds}\r\n").as_bytes());
    let contact = if watch.contact.is_empty() { &record.key.watcher } else { &watch.contact };
    headers.extend_from_slice(&[b"Contact: <", &contact[..], b">\r\n"].concat());
    if !watch.routes.is_empty() {
        headers.extend_from_slice(&[b"Route: ", &watch.routes[..], b"\r\n"].concat());
    }
    headers.extend_from_slice(&record.extra);
    let to = match watch.to_tag.is_empty() {
        true => around(&watch.to_uri),
        false => [b"<", &watch.to_uri[..], b">;tag=", &watch.to_tag].concat().into(),
    };
    let target =
        if watch.remote_contact.is_empty() { &record.key.uri } else { &watch.remote_contact };
    Ok(LocalRequest {
        method: Bytes::from_static(b"SUBSCRIBE"),
        uri: Bytes::copy_from_slice(target),
        from: [b"<", &record.key.watcher[..], b">;tag=", &watch.from_tag].concat().into(),
        to,
        call_id: Bytes::copy_from_slice(&watch.call_id),
        cseq: watch.cseq,
        headers: headers.into(),
        next_hop: next_hop(record).filter(|_| watch.routes.is_empty()),
        ..LocalRequest::default()
    })
}
