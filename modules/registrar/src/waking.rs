//! Requests that wait for a phone (RFC 8599): it is woken by an event that a script turns into a
//! push notification, and registers again.
//!
//! A request of `lookup()` waits as a transaction to which the contact becomes a branch; one of
//! `pn_process_purr()` as a run of the script.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tandem_engine::log::Level;
use tandem_engine::module::{Call, Cx, Timer};
use tandem_script::host::Called;
use tandem_sip::Uri;
use tandem_tm::{Injected, Tm, TxRef, Waits};
use tandem_usrloc::Table;
use tandem_usrloc::store::{Contact, Contacts};

use crate::lookup::branch_of;
use crate::push::Push;
use crate::state::{Registrar, module_and_table};

/// Requests that wait, at most; further ones go on without.
const WAITS_MAX: usize = 100_000;
/// A transaction one of whose routes runs is tried again after this time.
const AGAIN_MS: u64 = 20;
/// The timers, by kind: a phone did not come in time; a branch could not be added yet.
const LATE: u32 = 0;
const AGAIN: u32 = 1;
/// `pn_process_purr()`: the phone did not come.
const TIMED_OUT: i32 = -2;
/// Events that say that a phone has registered.
const REGISTERED: [&str; 2] = ["E_UL_CONTACT_UPDATE", "E_UL_CONTACT_INSERT"];

/// One contact that is waited for.
struct Wait {
    table: String,
    aor: Vec<u8>,
    /// Values of the parameters by which it is known again.
    named: Vec<Option<Vec<u8>>>,
    what: What,
    /// It has registered, with this URI.
    came_as: Option<Vec<u8>>,
}

#[derive(Clone, Copy)]
enum What {
    Branch(TxRef),
    Run(u64),
}

/// Everything that waits.
#[derive(Default)]
pub(crate) struct Waiting {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    last: u64,
    by_id: BTreeMap<u64, Wait>,
    /// The waits of an AoR, by table and key.
    by_aor: BTreeMap<(String, Vec<u8>), Vec<u64>>,
}

impl Inner {
    fn remove(&mut self, id: u64) -> Option<Wait> {
        let wait = self.by_id.remove(&id)?;
        let key = (wait.table.clone(), wait.aor.clone());
        if let Some(ids) = self.by_aor.get_mut(&key) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_aor.remove(&key);
            }
        }
        Some(wait)
    }
}

/// The values of the parameters by which a push contact is known again.
fn named(push: &Push, uri: &[u8]) -> Vec<Option<Vec<u8>>> {
    let uri = Uri::parse(uri).ok();
    let value = |name: &[u8]| uri?.param(name)?.map(<[u8]>::to_vec);
    push.match_params.iter().map(|name| value(name)).collect()
}

/// Where the module `tm` is.
fn tm(cx: &Cx<'_>) -> Option<(u16, Arc<Tm>)> {
    cx.node.find::<Tm>()
}

impl Registrar {
    /// Wakes the contacts of a request, which waits for them. `None`: it cannot, and goes to them
    /// as they are. `only`: the request has no other target.
    pub(crate) fn wake(
        &self,
        call: &mut Call<'_, '_, '_>,
        table: &Table,
        (push, contacts): (&Push, &Contacts),
        only: bool,
    ) -> Option<Called> {
        let Some((slot, tm)) = tm(call.cx) else {
            call.complain(Level::Warning, "without the module tm no request waits for a phone");
            return None;
        };
        let count = u16::try_from(contacts.len()).unwrap_or(u16::MAX);
        let ctx = &mut *call.ctx;
        let waits = call.cx.for_slot(slot, |cx| tm.wait_for_branches(cx, ctx, Some(count)));
        let tx = match waits {
            Waits::For(tx) => tx,
            Waits::Handled => return Some(Called::Returned(0)),
            Waits::Failed => return None,
        };
        if only {
            tm.only_waits(slot, call.ctx);
        }
        let reason = format!("ini-{}", String::from_utf8_lossy(call.ctx.msg.method_bytes()));
        let call_id = call.ctx.msg.call_id().unwrap_or_default().to_vec();
        for contact in contacts {
            self.wait_for(call.cx, table, (push, contact), What::Branch(tx));
            self.usrloc.wake(call.cx, table, contact, &reason, &call_id);
        }
        Some(Called::Returned(if only { 2 } else { 1 }))
    }

    fn wait_for(
        &self,
        cx: &mut Cx<'_>,
        table: &Table,
        (push, contact): (&Push, &Contact),
        what: What,
    ) {
        let (table, aor) = (table.name().to_owned(), contact.aor().to_vec());
        let named = named(push, contact.uri());
        let id = {
            let inner = &mut *self.waiting.inner.lock();
            inner.last += 1;
            let id = inner.last;
            inner.by_aor.entry((table.clone(), aor.clone())).or_default().push(id);
            inner.by_id.insert(id, Wait { table, aor, named, what, came_as: None });
            id
        };
        cx.node.events.listen(1);
        let slot = self.slot;
        let at = cx.now.after_s(u64::from(push.refresh_timeout_s));
        cx.for_slot(slot, |cx| cx.set_timer(at, Timer { kind: LATE, id }));
        if self.waiting.inner.lock().by_id.len() > WAITS_MAX {
            self.give_up(cx, id);
        }
    }

    /// A contact has registered.
    pub(crate) fn registered(&self, cx: &mut Cx<'_>, event: &str, of: (&[u8], &[u8], &[u8])) {
        let (table, aor, uri) = of;
        let Some(push) = self.params.push.as_ref().filter(|_| REGISTERED.contains(&event)) else {
            return;
        };
        let came: Vec<u64> = {
            let inner = &mut *self.waiting.inner.lock();
            let key = (String::from_utf8_lossy(table).into_owned(), aor.to_vec());
            let Some(ids) = inner.by_aor.get(&key) else { return };
            let names = named(push, uri);
            let mut came = Vec::new();
            for id in ids {
                let wait = inner.by_id.get_mut(id);
                if let Some(wait) = wait.filter(|w| w.named == names && w.came_as.is_none()) {
                    wait.came_as = Some(uri.to_vec());
                    came.push(*id);
                }
            }
            came
        };
        for id in came {
            self.go_on(cx, id);
        }
    }

    /// The phone of a wait is there: its request goes on.
    fn go_on(&self, cx: &mut Cx<'_>, id: u64) {
        let found = {
            let inner = self.waiting.inner.lock();
            let wait = inner.by_id.get(&id);
            wait.and_then(|w| Some((w.what, w.table.clone(), w.aor.clone(), w.came_as.clone()?)))
        };
        let Some((what, table, aor, uri)) = found else { return };
        match what {
            What::Run(run) => cx.resume(run, 1),
            What::Branch(tx) => {
                let contact = self.usrloc.table(&table).and_then(|table| {
                    let live = self.usrloc.lookup(&table, &aor, cx.now);
                    let found = live.into_iter().find(|c| c.uri() == &uri[..]);
                    found.map(|contact| (table, contact))
                });
                let Some((slot, tm)) = tm(cx) else { return };
                let Some((table, contact)) = contact else { return self.give_up(cx, id) };
                let branch = branch_of(cx, self, (&table, &contact));
                let injected = cx.for_slot(slot, |cx| tm.inject(cx, tx, vec![branch]));
                if injected == Injected::Busy {
                    let at = cx.now.after_ms(AGAIN_MS);
                    let again = Timer { kind: AGAIN, id };
                    return cx.for_slot(self.slot, |cx| cx.set_timer(at, again));
                }
            }
        }
        if self.waiting.inner.lock().remove(id).is_some() {
            cx.node.events.listen(-1);
        }
    }

    /// Nobody comes any more.
    fn give_up(&self, cx: &mut Cx<'_>, id: u64) {
        let Some(wait) = self.waiting.inner.lock().remove(id) else { return };
        cx.node.events.listen(-1);
        match wait.what {
            What::Run(run) => cx.resume(run, TIMED_OUT),
            What::Branch(tx) => {
                if let Some((slot, tm)) = tm(cx) {
                    cx.for_slot(slot, |cx| tm.expect_fewer(cx, tx, 1));
                }
            }
        }
    }

    /// A timer of a wait.
    pub(crate) fn wait_timer(&self, cx: &mut Cx<'_>, timer: Timer) {
        match timer.kind {
            AGAIN => self.go_on(cx, timer.id),
            _ => self.give_up(cx, timer.id),
        }
    }
}

pub(crate) fn pn_process_purr(call: &mut Call<'_, '_, '_>) -> Called {
    let Some((registrar, table)) = module_and_table(call, 0) else { return Called::Returned(-1) };
    let Some(push) = registrar.params.push.as_ref().filter(|push| push.gives_purr) else {
        return call.complain(Level::Error, "pn_process_purr() needs pn_enable and pn_enable_purr");
    };
    let request = call.ctx.request.as_ref();
    let uri = request.map_or_else(|| call.ctx.request_uri(), |msg| msg.request_uri());
    let purr = Uri::parse(uri).ok().and_then(|uri| uri.param(b"pn-purr")).flatten();
    let Some(purr) = purr.map(|p| String::from_utf8_lossy(p).into_owned()) else {
        return Called::Returned(2);
    };
    let id = u64::from_str_radix(&purr, 16).ok();
    let Some(contact) = id.and_then(|id| table.domain.by_id(id)) else {
        return call.complain(Level::Notice, format!("no contact has the pn-purr {purr}"));
    };
    let now_s = call.cx.now.unix_s();
    if contact.is_expired(now_s) || !push.must_wake(&contact, now_s) {
        return Called::Returned(2);
    }
    let msg = call.ctx.request.as_ref().unwrap_or(&call.ctx.msg);
    let reason = format!("mid-{}", String::from_utf8_lossy(msg.method_bytes()));
    let call_id = msg.call_id().unwrap_or_default().to_vec();
    let run = call.suspend();
    registrar.wait_for(call.cx, &table, (push, &contact), What::Run(run));
    registrar.usrloc.wake(call.cx, &table, &contact, &reason, &call_id);
    Called::Suspended
}
