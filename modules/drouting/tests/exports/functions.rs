//! Functions.

use crate::world::{URL, called, node, request, said, tells};

pub(crate) fn do_routing() {
    let is = |call: &str, uri: &str, wanted: &str| {
        assert_eq!(called("", call, uri), wanted, "{call} {uri}");
    };
    is("do_routing(0)", "sip:4012345@here.test", "1 sip:9912345@127.0.1.21:5060");
    let phone = "sip:4012345@here.test;user=phone;transport=tcp";
    is("do_routing(0)", phone, "1 sip:9912345@127.0.1.21:5060;user=phone");
    is("do_routing(0)", "sip:40212345@here.test", "1 sip:40212345@127.0.1.24");
    is("do_routing(0)", "sip:33@here.test", "1 sip:33@127.0.1.22");
    is("do_routing(0)", "sip:+4012@here.test", "1 sip:+4012@127.0.1.22");
    is("do_routing(3)", "sip:33@here.test", "-1 sip:33@here.test");
    is("do_routing(0)", "sip:here.test", "-1 sip:here.test");
    is("do_routing(0, \"L\")", "sip:4012@here.test", "-1 sip:4012@here.test");
    is("do_routing(0, \"L\")", "sip:4021@here.test", "1 sip:4021@127.0.1.24");
    is("do_routing(0, \"C\")", "sip:4012@here.test", "1 sip:4012@here.test");
    is("do_routing(0, , \"gw2\")", "sip:4012@here.test", "1 sip:4012@127.0.1.22");
    is("do_routing(0, , \"#c1\")", "sip:4012@here.test", "-2 sip:4012@here.test");
    is("do_routing(0, , \"#c1\")", "sip:33@here.test", "1 sip:33@127.0.1.22");
    is("do_routing(8)", "sip:55@here.test", "1 sip:99@127.0.1.21:5060");
    is("do_routing(8)", "sip:66@here.test", "-1 sip:66@here.test");
    // The caller is in group 7.
    is("do_routing()", "sip:4012@here.test", "1 sip:9912@127.0.1.21:5060");
    is("do_routing()", "sip:33@here.test", "-1 sip:33@here.test");
    let attrs = "do_routing(0, , , $avp(r), $avp(g), $avp(c));";
    assert_eq!(tells("", attrs, "$avp(r) $avp(g) $avp(c)."), "rule 40 cost=1 .");
    assert_eq!(tells("", "$ru = \"sip:5@x\"; do_routing(8);", "$avp(ran)"), "yes");
    assert!(node(URL, "route { do_routing(0, \"X\"); }").is_err(), "an unknown flag");
    let socket = "$ru = \"sip:4021@x\"; do_routing(0);";
    assert_eq!(tells("", socket, "$fs"), "udp:127.0.0.1:5070");
}

pub(crate) fn to_carrier() {
    let is = |call: &str, wanted: &str| {
        assert_eq!(called("", call, "sip:12@here.test"), wanted, "{call}");
    };
    is("route_to_carrier(\"c1\")", "1 sip:12@127.0.1.22");
    is("route_to_carrier(\"c2\")", "1 sip:12@127.0.1.23:5080;transport=tcp");
    is("route_to_carrier(\"nosuch\")", "-1 sip:12@here.test");
    is("route_to_carrier(\"nosuch,c1\")", "1 sip:12@127.0.1.22");
    let attrs = "route_to_carrier(\"c1\", $avp(g), $avp(c));";
    assert_eq!(tells("", attrs, "$avp(g) $avp(c)"), "cost=2 of c1");
    // The flag of c2 keeps the first gateway only.
    let next = "route_to_carrier(\"c2\"); use_next_gw();";
    assert_eq!(tells("", next, "$rc"), "-1");
}

pub(crate) fn to_gateway() {
    let is = |call: &str, wanted: &str| {
        assert_eq!(called("", call, "sip:12345@here.test"), wanted, "{call}");
    };
    is("route_to_gw(\"gw1\")", "1 sip:99345@127.0.1.21:5060");
    is("route_to_gw(\"nosuch,gw2\")", "1 sip:12345@127.0.1.22");
    is("route_to_gw(\"nosuch\")", "-1 sip:12345@here.test");
    let both = "route_to_gw(\"gw1,gw2\", $avp(g)); use_next_gw();";
    assert_eq!(tells("", both, "$rc $ru $avp(g)"), "1 sip:4012345@127.0.1.22 cost=1");
}

pub(crate) fn next() {
    let next = "do_routing(0); use_next_gw($avp(r), $avp(g), $avp(c));";
    assert_eq!(tells("", next, "$rc $ru $avp(g)"), "1 sip:4012345@127.0.1.22 cost=2");
    // Attributes: of the rule, and of a carrier only if the gateway was listed through one.
    assert_eq!(tells("", next, "$avp(r)|$avp(c)|"), "rule 40||");
    let through = "route_to_carrier(\"c1\"); use_next_gw(, , $avp(c));";
    assert_eq!(tells("", through, "$avp(c)|"), "of c1|");
    // A gateway with a socket of its own leaves none to the next; one of the script stays.
    let own = "route_to_gw(\"gw4,gw2\"); use_next_gw();";
    assert_eq!(tells("", own, "$ru $fs"), "sip:4012345@127.0.1.22 <null>");
    let again = "$ru = \"sip:40210@x\"; do_routing(0, \"F\"); use_next_gw();";
    assert_eq!(tells("", again, "$ru $fs"), "sip:99210@127.0.1.21:5060 <null>");
    let of_script = "$fs = \"udp:127.0.0.1:5070\"; route_to_gw(\"gw1,gw2\"); use_next_gw();";
    assert_eq!(tells("", of_script, "$ru $fs"), "sip:4012345@127.0.1.22 udp:127.0.0.1:5070");
    let twice = "do_routing(0); use_next_gw(); use_next_gw();";
    assert_eq!(tells("", twice, "$rc $ru"), "-1 sip:4012345@127.0.1.22");
    assert_eq!(tells("", "use_next_gw();", "$rc"), "-1");
    // With F the shorter prefixes follow: gw4 by 4021, then gw1 and gw2 by 40, then c1.
    let route = "route { do_routing(0, \"F\"); xlog(\"L_NOTICE\", \"# $avp(___dr_gw_id__)\"); \
         while (use_next_gw($avp(r), $avp(g), $avp(c))) \
         xlog(\"L_NOTICE\", \"# $avp(___dr_gw_id__) $ru $avp(r)\"); }";
    let mut node = node(URL, route).unwrap();
    node.udp("127.0.0.9:5060", &request("sip:40210@here.test"));
    let wanted = [
        "gw4",
        "gw1 sip:99210@127.0.1.21:5060 rule 40",
        "gw2 sip:40210@127.0.1.22 rule 40",
        "gw2 sip:40210@127.0.1.22 rule",
        "gw3 sip:40210@127.0.1.23:5080;transport=tcp rule",
    ];
    assert_eq!(said(&mut node), wanted);
    // A gateway that went down meanwhile is passed over.
    node.mi("drouting:gw_status", serde_json::json!({"gw_id": "gw2", "status": 0}));
    node.udp("127.0.0.9:5060", &request("sip:4012@here.test"));
    assert_eq!(said(&mut node).len(), 2, "gw1 and gw3");
}

/// The answer of a function to a request from an address.
fn from(params: &str, call: &str, source: &str) -> String {
    let tell = "xlog(\"L_NOTICE\", \"# $rc $ru $avp(g) $avp(c) $avp(___dr_gw_id__)\");";
    let mut node = node(&format!("{URL}{params}"), &format!("route {{ {call}; {tell} }}")).unwrap();
    node.udp(source, &request("sip:4012@127.0.1.22"));
    said(&mut node).pop().unwrap()
}

pub(crate) fn from_gateway() {
    let ours = "127.0.1.21:5060";
    let ruri = "sip:4012@127.0.1.22";
    let is = |call: &str, source: &str, code: i32| {
        let told = from("", call, source);
        assert!(told.starts_with(&format!("{code} ")), "{call} {source}: {told}");
    };
    is("is_from_gw()", ours, 1);
    is("is_from_gw()", "127.0.1.29:5060", -1);
    is("is_from_gw()", "127.0.1.21:6000", -1);
    is("is_from_gw(, \"n\")", "127.0.1.21:6000", 1);
    is("is_from_gw()", "127.0.1.22:6000", 1);
    is("is_from_gw(1)", ours, 1);
    is("is_from_gw(2)", ours, -1);
    is("is_from_gw(-1)", ours, 1);
    is("is_from_gw()", "127.0.1.23:5080", 1);
    is("is_from_gw(, \"r\")", "127.0.1.23:5080", -1);
    let full = "is_from_gw(, \"spic\", $avp(g), $avp(c))";
    let carriers = crate::world::set("carrier_id_avp", "$avp(car)");
    assert_eq!(from(&carriers, full, ours), "1 sip:9912@127.0.1.22 cost=1  gw1");
    let of_c1 = from(&carriers, full, "127.0.1.22:1");
    assert_eq!(of_c1, format!("1 {ruri} cost=2 of c1 gw2"));
    assert!(node(URL, "route { is_from_gw(1, \"z\"); }").is_err());
}

pub(crate) fn to_known() {
    let told = |code: &str| tells("", code, "$rc");
    assert_eq!(told("goes_to_gw();"), "-1");
    assert_eq!(told("$ru = \"sip:1@127.0.1.21\"; goes_to_gw();"), "1");
    assert_eq!(told("$ru = \"sip:1@127.0.1.21:7\"; goes_to_gw();"), "-1");
    assert_eq!(told("$ru = \"sip:1@127.0.1.21:7\"; goes_to_gw(1, \"n\");"), "1");
    assert_eq!(told("$du = \"sip:127.0.1.22\"; goes_to_gw(1);"), "1");
    assert_eq!(told("$du = \"sip:127.0.1.22\"; goes_to_gw(2);"), "-1");
}

pub(crate) fn is_gateway() {
    let told = |code: &str| tells("", code, "$rc $avp(g)");
    assert_eq!(told("dr_is_gw(\"sip:x@127.0.1.21\", 1, , $avp(g));"), "1 cost=1");
    assert_eq!(told("dr_is_gw(\"sip:x@127.0.1.28\");"), "-1 <null>");
    assert_eq!(told("dr_is_gw(\"nonsense\");"), "-1 <null>");
    assert_eq!(told("dr_is_gw(\"sip:x@127.0.1.23:5080\", , \"r\");"), "-1 <null>");
    assert_eq!(told("dr_is_gw(\"sip:x@127.0.1.23:5080;transport=tcp\", , \"r\");"), "1 <null>");
}

pub(crate) fn disable() {
    let route = "route { do_routing(0); dr_disable(); xlog(\"L_NOTICE\", \"# $rc $ru\"); }\n\
         event_route[E_DROUTING_STATUS] { xlog(\"L_NOTICE\", \"# $param(partition) $param(gwid) \
         $param(address) $param(status) $param(reason)\"); }";
    let mut node = node(URL, route).unwrap();
    node.udp("127.0.0.9:5060", &request("sip:4012@here.test"));
    let told = said(&mut node);
    assert_eq!(told[0], "1 sip:9912@127.0.1.21:5060");
    assert_eq!(told[1], "Default gw1 127.0.1.21:5060 inactive dr_disable() in the script");
    node.udp("127.0.0.9:5060", &request("sip:4012@here.test"));
    assert_eq!(said(&mut node)[0], "1 sip:4012@127.0.1.22", "the next one");
    let on = serde_json::json!({"gw_id": "gw1", "status": 1});
    assert_eq!(node.mi("dr_gw_status", on)["result"], "OK");
    assert_eq!(said(&mut node), ["Default gw1 127.0.1.21:5060 active MI command"]);
    assert_eq!(tells("", "dr_disable();", "$rc"), "-1", "nothing was used");
    // A call that was on its way does not take a gateway out of an operator's hands.
    let route = "route { $avp(___dr_gw_id__) = \"gw1\"; dr_disable(); }";
    let mut node = self::node(URL, route).unwrap();
    node.mi("dr_gw_status", serde_json::json!({"gw_id": "gw1", "status": 0}));
    node.udp("127.0.0.9:5060", &request("sip:4012@here.test"));
    let told = node.mi("dr_gw_status", serde_json::json!({"gw_id": "gw1"}));
    assert_eq!(told["result"]["State"], "Disabled MI");
}

pub(crate) fn matches() {
    let told = |code: &str| tells("", code, "$rc $avp(r) $ru");
    let ruri = "sip:4012345@here.test";
    assert_eq!(told("dr_match(0, , \"4099\", $avp(r));"), format!("1 rule 40 {ruri}"));
    assert_eq!(told("dr_match(7, , \"33\", $avp(r));"), format!("-1 <null> {ruri}"));
    assert_eq!(told("dr_match(0, \"L\", \"40\", $avp(r));"), format!("1 rule 40 {ruri}"));
    assert_eq!(told("dr_match(0, \"L\", \"409\", $avp(r));"), format!("-1 <null> {ruri}"));
}
