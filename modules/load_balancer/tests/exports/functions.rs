//! Functions.

use std::collections::BTreeSet;

use serde_json::json;

use crate::world::{URIS, call, destinations, enabled, invite, loads, node, said, saying, tells};

const SAYS: &str = "$rc $du";

pub(crate) fn start() {
    let told = |code: &str| tells(code, SAYS);
    assert_eq!(told("lb_start(1, \"pstn\");"), format!("1 {}", URIS[1]), "10 are free");
    assert_eq!(told("lb_start(1, \"transcoding\");"), format!("1 {}", URIS[2]));
    assert_eq!(told("lb_start(1, \"pstn;transcoding\");"), format!("1 {}", URIS[2]));
    assert_eq!(told("lb_start(1, \"nosuch\");"), "-4 <null>");
    assert_eq!(told("$var(r) = \";\"; lb_start(1, $var(r));"), "-4 <null>");
    assert_eq!(told("lb_start(9, \"pstn\");"), "-3 <null>");
    assert_eq!(told("lb_start(2, \"pstn\");"), "-3 <null>", "none there has it");
    assert_eq!(
        told("lb_start(1, \"pstn\", \"r\");"),
        format!("1 {}", URIS[0]),
        "all of it is free"
    );
    let attrs = tells("lb_start(1, \"transcoding\", , $avp(a));", "$avp(a)");
    assert_eq!(attrs, "third");
    for wrong in ["lb_start(1, \"pstn\", \"x\");", "lb_start(1, \";\");"] {
        assert!(node("", &saying(wrong, "")).is_err(), "{wrong}");
    }
    full();
    random();
    let mut options = node("", &saying("lb_start(1, \"pstn\");", SAYS)).unwrap();
    options.udp("127.0.0.9:5060", &invite("c").replace("INVITE", "OPTIONS"));
    assert_eq!(said(&mut options), ["-1 <null>"], "only a call is counted");
}

fn full() {
    let route = "route { lb_start(2, \"conf\"); $var(rc) = $rc; \
         xlog(\"L_NOTICE\", \"# $var(rc)\"); \
         if ($var(rc) == -2) { lb_start(2, \"conf\", \"n\"); \
         xlog(\"L_NOTICE\", \"# $rc $du\"); } }";
    let mut node = node("", route).unwrap();
    call(&mut node, "a");
    call(&mut node, "b");
    assert_eq!(said(&mut node), ["1".to_owned(), "-2".into(), format!("1 {}", URIS[3])]);
    assert_eq!(loads(&mut node, "conf"), [2]);
}

fn random() {
    let code = |flags: &str| format!("lb_start(1, \"pstn\", \"{flags}\");");
    let chosen = |flags: &str| {
        let route = saying(&code(flags), "$du").replace(" }", " lb_reset(); }");
        let mut node = node("", &route).unwrap();
        (0..30).for_each(|n| call(&mut node, &format!("c{n}")));
        said(&mut node).into_iter().collect::<BTreeSet<_>>().len()
    };
    assert_eq!((chosen("r"), chosen("rs")), (1, 3));
}

pub(crate) fn next() {
    let told = |code: &str| tells(code, SAYS);
    let once = "lb_start(1, \"pstn\"); lb_next();";
    assert_eq!(told(once), format!("1 {}", URIS[2]));
    assert_eq!(told(&format!("{once} lb_next();")), format!("1 {}", URIS[0]));
    assert!(told(&format!("{once} lb_next(); lb_next();")).starts_with("-3 "));
    assert!(told("lb_next();").starts_with("-1 "));
    assert_eq!(tells(&format!("{once} lb_next($avp(a));"), "$avp(a)"), "first");
    // The call is counted where it went last.
    let mut moved = node("", &saying(once, SAYS)).unwrap();
    call(&mut moved, "c");
    assert_eq!(loads(&mut moved, "pstn"), [0, 0, 1]);
    let mut full = node("", &saying("lb_start(1, \"transcoding\"); lb_next();", SAYS)).unwrap();
    full.mi("lb_resize", json!([1, "transcoding", 0]));
    call(&mut full, "c");
    assert!(said(&mut full)[0].starts_with("-2 "));
    assert_eq!(loads(&mut full, "transcoding"), [0, 0], "it is nowhere now");
}

pub(crate) fn start_or_next() {
    let once = "lb_start_or_next(1, \"pstn\");";
    assert_eq!(tells(once, SAYS), format!("1 {}", URIS[1]));
    assert_eq!(tells(&format!("{once}{once}"), SAYS), format!("1 {}", URIS[2]));
    let old = "load_balance(1, \"pstn\");";
    assert_eq!(tells(&format!("{old}{old}"), SAYS), format!("1 {}", URIS[2]));
    let attrs = "lb_start_or_next(1, \"pstn\", \"n\", $avp(a));";
    assert_eq!(tells(&format!("{once}{attrs}"), "$avp(a)"), "third");
}

pub(crate) fn reset() {
    let code = "$avp(a) = lb_is_started(); lb_start(1, \"pstn\"); lb_is_started(); \
         $avp(b) = $rc; lb_reset(); $avp(c) = $rc; lb_is_started(); $avp(d) = $rc; lb_reset();";
    let code = code.replace("$avp(a) = lb_is_started();", "lb_is_started(); $avp(a) = $rc;");
    let mut node = node("", &saying(&code, "$avp(a) $avp(b) $avp(c) $avp(d) $rc")).unwrap();
    call(&mut node, "c");
    assert_eq!(said(&mut node), ["-1 1 1 -1 -1"]);
    assert_eq!(loads(&mut node, "pstn"), [0, 0, 0]);
}

pub(crate) fn disable() {
    let route = "route { lb_start(1, \"pstn\"); lb_disable_dst(); xlog(\"L_NOTICE\", \"# $rc\"); \
         lb_next(); xlog(\"L_NOTICE\", \"# $du\"); }\n\
         event_route[E_LOAD_BALANCER_STATUS] { \
         xlog(\"L_NOTICE\", \"# $param(group) $param(uri) $param(status)\"); }";
    let mut node = node("", route).unwrap();
    call(&mut node, "c");
    let event = format!("1 {} disabled", URIS[1]);
    assert_eq!(said(&mut node), ["1".to_owned(), URIS[2].to_owned(), event]);
    assert_eq!(enabled(&mut node), ["yes", "no", "yes", "yes"]);
    assert_eq!(destinations(&mut node)[1]["auto-reenable"], "on");
    node.mi("lb_status", json!([2, 1]));
    assert_eq!(said(&mut node), [format!("1 {} enabled", URIS[1])]);
    assert_eq!(tells("lb_disable_dst();", "$rc"), "-1");
}

pub(crate) fn is_destination() {
    let told = |args: &str| tells(&format!("lb_is_destination({args});"), "$rc $avp(a)");
    assert_eq!(told("\"127.0.2.1\", 5080"), "1 <null>");
    assert_eq!(told("\"127.0.2.1\", 0, , , $avp(a)"), "1 first");
    for wrong in ["\"127.0.2.1\", 9", "\"127.0.2.9\", 0", "\"127.0.2.1\", 0, 2", "\"x\", 0"] {
        assert_eq!(told(wrong), "-1 <null>", "{wrong}");
    }
    assert_eq!(told("\"127.0.2.4\", 0, 2"), "1 <null>");
    assert_eq!(told("\"127.0.2.4\", 5061, -1"), "1 <null>", "it has no port");
    let down = |active: u8| {
        let code = format!(
            "lb_start(1, \"pstn\"); lb_disable_dst(); \
             lb_is_destination(\"127.0.2.2\", 0, 1, {active});"
        );
        tells(&code, "$rc")
    };
    assert_eq!((down(0), down(1)), ("1".into(), "-1".into()));
}

pub(crate) fn count_call() {
    let after = |code: &str| {
        let mut node = node("", &saying(code, "$rc")).unwrap();
        call(&mut node, "c");
        (said(&mut node).pop().unwrap(), loads(&mut node, "pstn"))
    };
    let count = "lb_count_call(\"127.0.2.1\", 5080, 1, \"pstn;transcoding\");";
    assert_eq!(after(count), ("1".into(), vec![1, 0, 0]));
    let undo = count.replace(");", ", 1);");
    assert_eq!(after(&format!("{count}{undo}")), ("1".into(), vec![0, 0, 0]));
    assert_eq!(after(&undo).0, "-1", "it was not counted");
    assert_eq!(after(&count.replace("5080, 1", "0, -1")).1, [1, 0, 0]);
    for wrong in [count.replace("5080", "9"), count.replace("pstn", "conf")] {
        assert_eq!(after(&wrong), ("-1".into(), vec![0, 0, 0]), "{wrong}");
    }
    // Beside the destination that was chosen.
    let both = format!("{count} lb_start(1, \"pstn\");");
    assert_eq!(after(&both), ("1".into(), vec![1, 1, 0]));
}
