//! The account of one transaction: what is marked, and the values of its fields. All contexts of
//! the transaction share it.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tandem_clock::Now;
use tandem_db::Name;
use tandem_dialog::DialogId;
use tandem_engine::context::Ctx;
use tandem_sip::Message;

use crate::fields::Values;
use crate::marks::Marks;

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
