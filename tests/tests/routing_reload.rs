//! Tables that are read again while calls are made: each call finds its gateway.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::Value as Json;
use tandem_tests::routes::{Router, at, gateway, rule};
use tandem_tests::{Phone, Site, mi};

/// Rules beside the one that calls go by.
const RULES: u32 = 3_000;
const CALLS: u32 = 60;

#[test]
fn a_reload_under_calls_loses_none() {
    let site = Site::bare("routing-reload");
    let mut rows = vec![gateway("gw", &at(site.net.ip(21)), 0), rule("40", "gw")];
    rows.extend((0..RULES).map(|n| rule(&format!("9{n:05}"), "gw")));
    let site = site.filled(rows);
    let router = Router::new(&site, 1);
    let _node = router.start(&site);
    let (alice, phone) =
        (Phone::new("alice", (site.net.ip(10), 5060)), Phone::new("gw", (site.net.ip(21), 5060)));
    let (over, reloads) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let answer = mi(&router.fifo(&site), "drouting:reload", Json::Null);
                assert_eq!(answer["result"], "OK", "{answer}");
                reloads.fetch_add(1, Ordering::Relaxed);
            }
        });
        for n in 0..CALLS {
            let call = alice.call(router.sip(&site), &format!("40{n}"));
            assert_eq!(phone.requests("INVITE", &call.call_id).len(), 1, "call {n}");
        }
        over.store(true, Ordering::Relaxed);
    });
    let reloads = reloads.load(Ordering::Relaxed);
    assert!(reloads >= 2, "{reloads} reloads");
    let told = router.ctl(&site, &["routes", "refused"]);
    assert!(told.contains(&format!("Rules: {}", RULES + 1)), "{told}");
}
