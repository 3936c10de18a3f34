//! The account of one transaction: what is marked, and the values of its fields. All contexts of
//! the transaction share it.

use std::sync::Arc;

use bytes::{BufMut, Bytes};
use parking_lot::Mutex;
use tandem_clock::Now;
use tandem_db::Name;
use tandem_dialog::DialogId;
use tandem_engine::context::Ctx;
use tandem_sip::Message;

use crate::fields::{FIELDS_MAX, Values};
use crate::marks::{Backend, Marks};
use crate::pack::{Reader, put_text};

/// Legs of one call, at most.
pub(crate) const LEGS_MAX: usize = 64;

/// See the module.
pub(crate) struct Account {
    /// The request of the transaction.
    pub(crate) request: Message,
    pub(crate) state: Mutex<State>,
    /// The account of the dialog, between `acc_load_ctx_from_dlg()` and its counterpart.
    loaded: Mutex<Option<Arc<Self>>>,
}

/// What changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) marks: Marks,
    /// The table that the script named.
    pub(crate) table: Option<Name>,
    pub(crate) extra: Values,
    pub(crate) legs: Vec<Values>,
    /// Unix milliseconds of the first `do_accounting()`; 0: there was none.
    pub(crate) created_ms: u64,
    /// The fields are those of this dialog, which keeps what changes in them.
    pub(crate) dialog: Option<DialogId>,
    /// The dialog that the request makes, if it was there when this was asked: a call that comes by
    /// twice has one for each time.
    pub(crate) call: Option<DialogId>,
    /// The callee sent the request, and records are to read as the caller sees the call.
    pub(crate) is_upstream: bool,
}

impl Account {
    /// The account of the message of a context.
    pub(crate) fn find(slot: u16, ctx: &Ctx) -> Option<Arc<Self>> {
        ctx.attached.get(slot)
    }

    /// The same, made if it is missing. `None`: there is no request that it could be about.
    pub(crate) fn of(slot: u16, ctx: &mut Ctx) -> Option<Arc<Self>> {
        if let Some(found) = Self::find(slot, ctx) {
            return Some(found);
        }
        let request = match ctx.msg.is_request() {
            true => ctx.msg.clone(),
            false => ctx.request.clone()?,
        };
        let account = Arc::new(Self::with(request, State::default()));
        ctx.attached.put(slot, Arc::clone(&account) as _);
        Some(account)
    }

    pub(crate) fn with(request: Message, state: State) -> Self {
        Self { request, state: Mutex::new(state), loaded: Mutex::default() }
    }

    /// The account whose fields a script sees.
    pub(crate) fn shown(self: &Arc<Self>) -> Arc<Self> {
        self.loaded.lock().clone().unwrap_or_else(|| Arc::clone(self))
    }

    /// Shows the fields of another account, or its own again; what was shown.
    pub(crate) fn show(&self, other: Option<Arc<Self>>) -> Option<Arc<Self>> {
        std::mem::replace(&mut *self.loaded.lock(), other)
    }
}

impl Account {
    /// As it goes with its transaction to another node; see [`Account::read`].
    pub(crate) fn bytes(&self) -> Bytes {
        let state = self.state.lock();
        // Who knows version 1 alone reads what has no mark for RADIUS.
        let has_aaa = state.marks.of(Backend::Aaa) != 0;
        let version = if has_aaa { WITH_AAA } else { VERSION };
        let mut out = vec![version, u8::from(state.is_upstream)];
        let backends = Backend::ALL.into_iter().filter(|b| has_aaa || *b != Backend::Aaa);
        out.extend(backends.map(|backend| state.marks.of(backend)));
        out.put_u64_le(state.created_ms);
        put_text(&mut out, state.table.as_deref().unwrap_or_default().as_bytes());
        put_values(&mut out, &state.extra);
        out.put_u16_le(state.legs.len() as u16);
        state.legs.iter().for_each(|leg| put_values(&mut out, leg));
        out.extend_from_slice(self.request.as_bytes());
        out.into()
    }

    /// Reads [`Account::bytes`]: version 1 has direction, flags of each type, Unix milliseconds of
    /// the request, table, extra fields, legs, and the request; version 2 has the flags of aaa behind
    /// those of the other types. `None`: it cannot be read.
    pub(crate) fn read(bytes: &Bytes) -> Option<Self> {
        let (&[version @ (VERSION | WITH_AAA), is_upstream], rest) = bytes.split_first_chunk()?
        else {
            return None;
        };
        let mut reader = Reader(rest);
        let mut state = State { is_upstream: is_upstream != 0, ..State::default() };
        let has_aaa = version == WITH_AAA;
        for backend in Backend::ALL.into_iter().filter(|b| has_aaa || *b != Backend::Aaa) {
            state.marks.add(backend, *reader.take(1)?.first()?);
        }
        state.created_ms = reader.u64()?;
        let table = std::str::from_utf8(reader.text()?).ok()?;
        let is_table = tandem_db::check_name(table).is_ok();
        state.table = is_table.then(|| table.to_owned().into());
        state.extra = values(&mut reader)?;
        let legs = usize::from(reader.u16()?).min(LEGS_MAX);
        state.legs = (0..legs).map(|_| values(&mut reader)).collect::<Option<_>>()?;
        let request = Message::parse(bytes.slice_ref(reader.0)).ok()?;
        request.is_request().then(|| Self::with(request, state))
    }
}

const VERSION: u8 = 1;
const WITH_AAA: u8 = 2;

fn put_values(out: &mut Vec<u8>, values: &Values) {
    out.put_u16_le(values.len() as u16);
    (0..values.len()).for_each(|at| put_text(out, values.text(at)));
}

/// Empty ones are not there: both are shown alike in a record.
fn values(reader: &mut Reader<'_>) -> Option<Values> {
    let mut values = Values::default();
    for at in 0..usize::from(reader.u16()?).min(FIELDS_MAX) {
        let text = reader.text()?;
        values.set(at, (!text.is_empty()).then(|| Bytes::copy_from_slice(text)));
    }
    Some(values)
}

impl State {
    /// The first `do_accounting()` starts the clock.
    pub(crate) fn begin(&mut self, now: Now) {
        if self.created_ms == 0 {
            self.created_ms = now.unix_ms;
        }
    }

    /// The current leg; the first one is made by its first use.
    pub(crate) fn leg_mut(&mut self, at: Option<usize>) -> Option<&mut Values> {
        if self.legs.is_empty() {
            self.legs.push(Values::default());
        }
        match at {
            Some(at) => self.legs.get_mut(at),
            None => self.legs.last_mut(),
        }
    }

    /// Adds a leg; false when there are too many.
    pub(crate) fn add_leg(&mut self) -> bool {
        let room = self.legs.len() < LEGS_MAX;
        if room {
            self.legs.push(Values::default());
        }
        room
    }
}

/// A part of a message that goes on after it, without a copy.
pub(crate) fn part(msg: &Message, bytes: Option<&[u8]>) -> Bytes {
    match bytes {
        Some(bytes) if msg.span_of(bytes).is_some() => msg.bytes().slice_ref(bytes),
        Some(bytes) => Bytes::copy_from_slice(bytes),
        None => Bytes::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn account() -> Account {
        let text = "INVITE sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n\
             From: <sip:a@h>;tag=f\r\nTo: <sip:b@h>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n\r\n";
        let request = Message::parse(Bytes::from(text)).unwrap();
        let mut state = State { created_ms: 5, is_upstream: true, ..State::default() };
        state.marks.add(Backend::Evi, 7);
        state.table = Some("calls".into());
        state.extra.set(1, Some(Bytes::from_static(b"x")));
        state.add_leg();
        state.add_leg();
        Account::with(request, state)
    }

    #[test]
    fn an_account_goes_to_another_node_whole() {
        for (aaa, version) in [(0, VERSION), (3, WITH_AAA)] {
            let account = account();
            account.state.lock().marks.add(Backend::Aaa, aaa);
            let bytes = account.bytes();
            assert_eq!(bytes[0], version, "older nodes read what they know");
            let again = Account::read(&bytes).unwrap();
            assert_eq!(again.request.as_bytes(), account.request.as_bytes());
            let (a, b) = (account.state.lock(), again.state.lock());
            assert_eq!((a.marks, &a.table, a.created_ms), (b.marks, &b.table, b.created_ms));
            assert_eq!((&a.extra, a.legs.len(), a.is_upstream), (&b.extra, b.legs.len(), true));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(
            cut in 0usize..400,
            bytes in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let whole = account().bytes();
            let _ = Account::read(&whole.slice(..cut.min(whole.len())));
            let _ = Account::read(&bytes.into());
        }
    }
}
