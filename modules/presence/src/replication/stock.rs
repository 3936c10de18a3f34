//! Publications in the words of the stock protocol.

use bytes::Bytes;
use tandem_bin::presence::Publish;
use tandem_clock::Now;

use crate::record::{BODY_BYTES_MAX, Key, Publication, ROUTES_BYTES_MAX, Stamp, uri_of};
use crate::request::{are_lines, is_keepable};
use crate::sql::id_of;
use crate::table::Told;

/// The packet about a change; `None`: stock nodes are not told.
pub(crate) fn packet(key: &Key, told: &Told<'_>, now: Now) -> Option<Publish> {
    match told {
        Told::Publication { publication, old_etag } => {
            (!publication.foreign).then(|| publish(key, publication, old_etag, now))
        }
        Told::Gone { publication: Some(gone), body, .. } if !gone.foreign => {
            Some(removed(key, gone, body, now))
        }
        _ => None,
    }
}

/// A publication as it is.
pub(crate) fn publish(key: &Key, p: &Publication, old_etag: &[u8], now: Now) -> Publish {
    let left_s = u64::from(p.expires_s).saturating_sub(now.unix_s());
    Publish {
        new_etag: Bytes::copy_from_slice(&p.etag),
        expires_s: i32::try_from(left_s).unwrap_or(i32::MAX),
        body: p.body.clone(),
        ..outline(key, p, old_etag, now)
    }
}

fn removed(key: &Key, p: &Publication, body: &Bytes, now: Now) -> Publish {
    Publish { body: body.clone(), ..outline(key, p, &p.etag, now) }
}

fn outline(key: &Key, p: &Publication, old_etag: &[u8], now: Now) -> Publish {
    let (user, domain) = key.parts();
    let bytes = Bytes::copy_from_slice;
    Publish {
        user: bytes(user),
        domain: bytes(domain),
        event: bytes(&key.event),
        old_etag: bytes(old_etag),
        received_s: now.unix_s() as i32,
        sender: bytes(&p.sender),
        extra_headers: bytes(&p.extra),
        sphere: bytes(&p.sphere),
        ..Publish::default()
    }
}

/// The presentity of a packet; `None`: it cannot be one.
pub(crate) fn key(p: &Publish) -> Option<Key> {
    let names = [&p.user, &p.domain, &p.event];
    let fits = !p.domain.is_empty()
        && p.user.len() + p.domain.len() <= 255
        && !p.event.is_empty()
        && names.iter().all(|name| is_keepable(name));
    fits.then(|| Key::new(&uri_of(&p.user, &p.domain), &crate::request::package_key(&p.event)))
}

/// The publication of a packet; `None`: it cannot be one, or it is over.
pub(crate) fn publication(p: &Publish, now: Now) -> Option<Publication> {
    let seconds = u64::try_from(p.expires_s).ok().filter(|s| *s > 0)?;
    let texts = [&p.new_etag, &p.sender, &p.sphere];
    let fits = texts.iter().all(|text| is_keepable(text))
        && p.extra_headers.len() <= ROUTES_BYTES_MAX
        && are_lines(&p.extra_headers)
        && p.body.len() <= BODY_BYTES_MAX
        && !p.new_etag.is_empty();
    fits.then(|| Publication {
        id: id_of(&p.new_etag).into(),
        etag: p.new_etag[..].into(),
        body: Bytes::copy_from_slice(&p.body),
        extra: p.extra_headers[..].into(),
        sender: p.sender[..].into(),
        sphere: p.sphere[..].into(),
        received_s: u32::try_from(p.received_s).unwrap_or(0),
        expires_s: u32::try_from(now.unix_s() + seconds).unwrap_or(u32::MAX),
        stamp: Stamp::default(),
        foreign: true,
        ..Publication::default()
    })
}
