//! Takes transactions from one node to another.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use tandem_engine::mi::{MiCall, MiDef, MiOutcome};
use tandem_engine::module::{Module, ModuleDef};
use tandem_engine::testing::TestNode;
use tandem_tm::{Tm, TxSnapshot};

thread_local! {
    static ON_THE_WAY: RefCell<Vec<Bytes>> = const { RefCell::new(Vec::new()) };
}

/// A module whose commands pack the transactions of a node, and unpack them.
pub(crate) static MOVE: ModuleDef = ModuleDef {
    name: "move",
    help: "",
    dependencies: &[],
    params: &[],
    functions: &[],
    variables: &[],
    mi: &[
        MiDef { name: "move:pack", old_names: &[], param_sets: &[&[]], help: "", run: pack },
        MiDef { name: "move:offer", old_names: &[], param_sets: &[&[]], help: "", run: offered },
        MiDef { name: "move:unpack", old_names: &[], param_sets: &[&[]], help: "", run: unpack },
    ],
    statistics: &[],
    events: &[],
    build: |_| Ok(Arc::new(Move)),
};

struct Move;

impl Module for Move {}

fn pack(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let (slot, tm) = call.cx.node.find::<Tm>().unwrap();
    call.cx.for_slot(slot, |cx| {
        let all = tm.all();
        let packed: Vec<_> =
            all.iter().filter_map(|tx| Some(tm.snapshot(cx, *tx)?.to_bytes())).collect();
        let left = all.len() - packed.len();
        ON_THE_WAY.set(packed);
        MiOutcome::Done(json!(left))
    })
}

fn unpack(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let (slot, tm) = call.cx.node.find::<Tm>().unwrap();
    call.cx.for_slot(slot, |cx| {
        for bytes in ON_THE_WAY.take() {
            tm.restore(cx, TxSnapshot::parse(&bytes).unwrap()).unwrap();
        }
        MiOutcome::ok()
    })
}

/// Gives all transactions of a node to another one as well; `false`: one has a route that waits.
pub(crate) fn copy(from: &mut TestNode, to: &mut TestNode) -> bool {
    if from.mi("move:pack", json!([]))["result"] != json!(0) {
        return false;
    }
    assert_eq!(to.mi("move:unpack", json!([]))["result"], json!("OK"));
    true
}

/// What a peer would be told of the transactions of a node.
pub(crate) fn bytes(from: &mut TestNode) -> Vec<Bytes> {
    from.mi("move:pack", json!([]));
    ON_THE_WAY.take()
}

/// A node is told of a transaction whose node is gone.
pub(crate) fn offer(to: &mut TestNode, bytes: Bytes) {
    ON_THE_WAY.set(vec![bytes]);
    assert_eq!(to.mi("move:offer", json!([]))["result"], json!("OK"));
}

fn offered(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let (slot, tm) = call.cx.node.find::<Tm>().unwrap();
    call.cx.for_slot(slot, |cx| {
        for bytes in ON_THE_WAY.take() {
            let _ = tm.take_over(cx, &bytes, 1_000_000_000);
        }
        MiOutcome::ok()
    })
}
