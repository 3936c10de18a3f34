//! Waiting: for a time, or for a lock that another run holds. A run that waits is parked; the
//! worker goes on with other messages.

use std::collections::{BTreeMap, VecDeque};

use ahash::RandomState;
use bytes::Bytes;
use parking_lot::Mutex;
use tandem_clock::HashKey;
use tandem_engine::context::Ctx;
use tandem_engine::effect::Effect;
use tandem_engine::log::Level;
use tandem_engine::module::{Call, Cx, FunctionDef, Timer};
use tandem_engine::table::{arg, function};
use tandem_script::host::Called;
use tandem_script::sig::{ArgKind, ArgSig, AsyncUse};

use crate::{CfgUtils, FAILED, OK, ROUTES};

/// Runs that wait for one lock.
const WAITING_MAX: usize = 10_000;
/// Static locks of one script.
const STATIC_MAX: usize = 10_000;

const SECONDS: &[ArgSig] = &[arg("seconds", ArgKind::Int)];
const MICROSECONDS: &[ArgSig] = &[arg("us", ArgKind::Int)];
const KEY: &[ArgSig] = &[arg("key", ArgKind::Str)];
const KEYS: &[ArgSig] = &[arg("key", ArgKind::Str), arg("key2", ArgKind::Str)];

const fn waits(mut def: FunctionDef) -> FunctionDef {
    def.sig.async_use = AsyncUse::Both;
    def
}

pub(crate) const FUNCTIONS: &[FunctionDef] = &[
    waits(function("sleep", SECONDS, ROUTES, "Waits for some seconds.", |call| {
        sleep(call, 1_000_000_000)
    })),
    waits(function("usleep", MICROSECONDS, ROUTES, "Waits for some microseconds.", |call| {
        sleep(call, 1_000)
    })),
    function("abort", &[], ROUTES, "Ends the server as if it had failed.", |call| {
        call.cx.out.push(Effect::Stop { failed: true });
        Called::Returned(0)
    }),
    function("pkg_status", &[], ROUTES, "Writes the memory of the process to the log.", memory),
    function("shm_status", &[], ROUTES, "Writes the memory of the process to the log.", memory),
    function("get_static_lock", KEY, ROUTES, "Takes a lock, and waits until it is free.", |call| {
        let key = Key::Static(call.text(0));
        lock(call, key)
    }),
    function("release_static_lock", KEY, ROUTES, "Gives a lock back.", |call| {
        let key = Key::Static(call.text(0));
        unlock(call, key)
    }),
    function(
        "get_dynamic_lock",
        KEY,
        ROUTES,
        "Takes the lock of a key, which other keys may share, and waits until it is free.",
        |call| match dynamic(call, 0) {
            Some(key) => lock(call, key),
            None => FAILED,
        },
    ),
    function("release_dynamic_lock", KEY, ROUTES, "Gives the lock of a key back.", |call| {
        match dynamic(call, 0) {
            Some(key) => unlock(call, key),
            None => FAILED,
        }
    }),
    function("strings_share_lock", KEYS, ROUTES, "Whether two keys have one lock.", |call| {
        let (one, two) = (dynamic(call, 0), dynamic(call, 1));
        if one.is_some() && one == two { OK } else { FAILED }
    }),
];

fn sleep(call: &mut Call<'_, '_, '_>, unit_ns: u64) -> Called {
    let n = u64::try_from(call.int(0).unwrap_or(0)).unwrap_or(0);
    if n == 0 {
        return OK;
    }
    let run = call.suspend();
    let at = call.cx.now.mono_ns.saturating_add(n.saturating_mul(unit_ns));
    call.cx.set_timer(at, Timer { kind: 0, id: run });
    Called::Suspended
}

fn memory(call: &mut Call<'_, '_, '_>) -> Called {
    let memory = &call.cx.node.memory;
    let text = format!("memory: {} bytes in use of {}", memory.used(), memory.total());
    call.cx.log(Level::Notice, text);
    OK
}

/// What a lock goes by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Static(Bytes),
    /// One of the pool.
    Dynamic(usize),
}

/// A lock that is taken; the runs that wait for it, the first first.
type Waiting = VecDeque<u64>;

/// All locks of a node. One that is free has no entry.
pub(crate) struct Locks {
    pool: usize,
    hasher: RandomState,
    taken: Mutex<BTreeMap<Key, Waiting>>,
}

/// The locks that a run holds or waits for.
#[derive(Default)]
struct Held(Vec<Key>);

impl Locks {
    pub(crate) fn new(pool: usize, key: HashKey) -> Self {
        Self { pool, hasher: key.state(), taken: Mutex::default() }
    }

    /// Frees a lock, or hands it to the run that has waited longest.
    fn release(&self, cx: &mut Cx<'_>, key: &Key) {
        let mut taken = self.taken.lock();
        let next = match taken.get_mut(key) {
            None => return,
            Some(waiting) => waiting.pop_front(),
        };
        match next {
            Some(run) => {
                drop(taken);
                cx.resume(run, 1);
            }
            None => {
                taken.remove(key);
            }
        }
    }

    /// Frees what the run of a context still holds.
    pub(crate) fn release_all(&self, cx: &mut Cx<'_>, ctx: &mut Ctx, slot: u16) {
        if ctx.section::<Held>(slot).is_none() {
            return;
        }
        for key in std::mem::take(&mut ctx.section_mut::<Held>(slot).0) {
            self.release(cx, &key);
        }
    }
}

fn dynamic(call: &Call<'_, '_, '_>, arg: usize) -> Option<Key> {
    let state = call.state::<CfgUtils>()?;
    let hash = state.locks.hasher.hash_one(call.text(arg).as_ref());
    Some(Key::Dynamic((hash % state.locks.pool as u64) as usize))
}

fn lock(call: &mut Call<'_, '_, '_>, key: Key) -> Called {
    let Some(state) = call.state::<CfgUtils>() else { return FAILED };
    let held = &mut call.ctx.section_mut::<Held>(state.slot).0;
    if held.contains(&key) {
        // A run that waited for itself would wait for ever.
        return OK;
    }
    let mut taken = state.locks.taken.lock();
    if let Some(waiting) = taken.get_mut(&key) {
        if waiting.len() >= WAITING_MAX {
            drop(taken);
            let text = format!("more than {WAITING_MAX} runs wait for this lock");
            return call.complain(Level::Error, text);
        }
        held.push(key);
        let run = call.suspend();
        waiting.push_back(run);
        return Called::Suspended;
    }
    if taken.len() >= STATIC_MAX + state.locks.pool {
        drop(taken);
        return call.complain(Level::Error, "there are too many locks");
    }
    held.push(key.clone());
    taken.insert(key, VecDeque::new());
    OK
}

fn unlock(call: &mut Call<'_, '_, '_>, key: Key) -> Called {
    let Some(state) = call.state::<CfgUtils>() else { return FAILED };
    let held = &mut call.ctx.section_mut::<Held>(state.slot).0;
    if let Some(at) = held.iter().position(|k| *k == key) {
        held.swap_remove(at);
        state.locks.release(call.cx, &key);
    }
    OK
}
