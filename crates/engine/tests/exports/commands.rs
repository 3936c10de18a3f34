//! Commands of the core.

use serde_json::{Value as Json, json};
use tandem_engine::testing::Check;

use super::statistics::{count, counters};
use super::{PHONE, REQUEST, ask, node};

pub(super) const CHECKS: &[Check] = &[
    ("mi statistics:get", counters),
    ("mi statistics:list", || {
        let list = ask(&mut node("", "exit;"), "statistics:list", json!([["core:rcv_requests"]]));
        assert_eq!(list, json!({"core:rcv_requests": "incremental"}));
    }),
    ("mi statistics:reset", || {
        let mut node = node("", "exit;");
        node.udp(PHONE, REQUEST);
        let refused = ask(&mut node, "statistics:reset", json!([["core:rcv_requests"]]));
        assert_eq!(refused, json!({"code": 404, "message": "Statistics Not Found"}));
        assert_eq!(ask(&mut node, "statistics:reset", json!([["rcv_requests"]])), "OK");
        assert_eq!(count(&mut node, "rcv_requests"), 0);
    }),
    ("mi statistics:reset_all", || {
        let mut node = node("", "exit;");
        node.udp(PHONE, REQUEST);
        assert_eq!(ask(&mut node, "reset_all_statistics", Json::Null), "OK");
        assert_eq!(count(&mut node, "rcv_requests"), 0);
    }),
    ("mi core:uptime", || {
        let mut node = node("", "exit;");
        node.advance_ms(3_000);
        assert_eq!(ask(&mut node, "uptime", Json::Null)["Up time"], "3 [sec]");
    }),
    ("mi core:version", || {
        let version = ask(&mut node("", "exit;"), "version", Json::Null);
        assert!(version["Server"].as_str().unwrap().starts_with("Tandem ("));
        let built = ask(&mut node("", "exit;"), "version", json!(["revision"]));
        assert!(built["git"].is_string() && built["Server"] == version["Server"]);
    }),
    ("mi core:arg", || {
        assert_eq!(
            ask(&mut node("", "exit;"), "arg", Json::Null),
            json!(["tandem", "-f", "test.cfg", "-o", "site=here"])
        )
    }),
    ("mi core:which", || {
        let mut node = node("", "exit;");
        let all = ask(&mut node, "which", Json::Null);
        assert!(all.as_array().unwrap().contains(&json!("core:which")));
        assert_eq!(ask(&mut node, "which", json!(["uptime"])), json!(["core:uptime"]));
        let group = ask(&mut node, "which", json!(["evi:"]));
        assert_eq!(group, json!(["evi:subscribe", "evi:list", "evi:subscribers", "evi:raise"]));
        assert_eq!(ask(&mut node, "which", json!(["evi"]))["code"], 404);
    }),
    ("mi core:reload_routes", || {
        let mut node = node("", "xlog(\"old\");");
        node.script = node.script.replace("old", "new");
        assert_eq!(ask(&mut node, "core:reload_routes", Json::Null), "OK");
        node.logs();
        node.udp(PHONE, REQUEST);
        assert_eq!(node.logs().pop().unwrap().1, "new");
    }),
    ("mi core:help", || {
        let help = ask(&mut node("", "exit;"), "help", json!(["uptime"]));
        assert_eq!(help["Exported by"], "core");
    }),
    ("mi core:log_level", || {
        let mut node = node("log_level=3", "exit;");
        node.node().set_pid(77);
        let all = ask(&mut node, "log_level", Json::Null);
        let row = json!({"PID": 77, "Log level": 3, "Type": "attendant"});
        assert_eq!(all["Processes"][0], row);
        let set = ask(&mut node, "log_level", json!([4]));
        assert_eq!(set, json!({"New global log level": 4}));
        assert_eq!(ask(&mut node, "log_level", json!([1, 77])), json!({"Log level": 1}));
        assert_eq!(ask(&mut node, "log_level", json!([1, 78]))["code"], -32602);
        assert_eq!(node.node().log_level(), 1);
    }),
    ("mi core:xlog_level", || {
        let mut node = node("xlog_level=3", "xlog(\"L_INFO\", \"x\");");
        assert_eq!(ask(&mut node, "xlog_level", Json::Null), json!({"xLog Level": 3}));
        let set = ask(&mut node, "core:xlog_level", json!([2]));
        assert_eq!(set, json!({"New xLog level": 2}));
        node.udp(PHONE, REQUEST);
        assert!(node.logs().is_empty());
    }),
    ("mi core:pwd", || {
        let mut node = node("", "exit;");
        node.node().set_folder("/run/x");
        assert_eq!(ask(&mut node, "pwd", Json::Null), json!({"WD": "/run/x"}));
    }),
    ("mi core:ps", || {
        let mut node = node("", "exit;");
        node.node().set_pid(77);
        let row = json!({"ID": 0, "PID": 77, "Type": "attendant"});
        assert_eq!(ask(&mut node, "ps", Json::Null), json!({"Processes": [row]}));
    }),
    ("mi core:kill", || {
        let mut node = node("", "exit;");
        assert_eq!(node.stopped(), None);
        assert_eq!(ask(&mut node, "kill", Json::Null), "OK");
        assert_eq!(node.stopped(), Some(false));
    }),
    ("mi mem:shm_check", || {
        let error = ask(&mut node("", "exit;"), "mem_shm_check", Json::Null);
        let data = "Command handler returned null";
        assert_eq!(error, json!({"code": -32000, "message": "Server error", "data": data}));
    }),
    ("mi mem:pkg_dump", || {
        let mut node = node("", "exit;");
        node.node().set_pid(77);
        assert_eq!(ask(&mut node, "mem_pkg_dump", json!([77, 1])), "OK");
        assert!(node.logs()[0].1.starts_with("memory: 0 bytes in use"));
        assert_eq!(ask(&mut node, "mem_pkg_dump", json!([78]))["message"], "Process not found");
    }),
    ("mi mem:shm_dump", || {
        let mut node = node("", "exit;");
        node.node().memory.set_used(5);
        assert_eq!(ask(&mut node, "mem_shm_dump", json!([1])), "OK");
        assert!(node.logs()[0].1.starts_with("memory: 5 bytes in use"));
    }),
    ("mi mem:rpm_dump", || {
        let mut node = node("", "exit;");
        assert_eq!(ask(&mut node, "mem_rpm_dump", json!([1])), "OK");
        assert!(node.logs()[0].1.contains("none outlives a restart"));
    }),
    ("mi status_report:get", || {
        let mut node = node("", "exit;");
        let running = json!({"Readiness": true, "Status": 1, "Details": "running"});
        assert_eq!(ask(&mut node, "sr_get_status", json!(["core"])), running);
        assert_eq!(ask(&mut node, "status_report:get", json!(["core", "main"])), running);
        let error = |text: &str| json!({"code": 404, "message": text});
        assert_eq!(ask(&mut node, "sr_get_status", json!(["x"])), error("Group not found"));
        let none = ask(&mut node, "sr_get_status", json!(["core", "x"]));
        assert_eq!(none, error("Identity not found"));
    }),
    ("mi status_report:status", || {
        let mut node = node("", "exit;");
        let main = json!({"Name": "main", "Readiness": true, "Status": 1, "Details": "running"});
        assert_eq!(ask(&mut node, "sr_list_status", json!(["core"])), json!([main]));
        let all = ask(&mut node, "status_report:status", Json::Null);
        assert_eq!(all, json!([{"Name": "core", "Identifiers": [main]}]));
    }),
    ("mi status_report:reports", || {
        let mut node = node("", "exit;");
        let (now, at) = (node.now(), node.now().unix_s());
        node.node().reports.add(now, "core", "main", "said");
        let line = json!({"Timestamp": at, "Date": "Fri Jan 15 08:00:00 2027", "Log": "said"});
        let main = json!({"Name": "main", "Reports": [line]});
        assert_eq!(ask(&mut node, "sr_list_reports", json!(["core"])), json!([main]));
        let all = ask(&mut node, "status_report:reports", Json::Null);
        assert_eq!(all, json!([{"Name": "core", "Identifiers": [main]}]));
        let none = ask(&mut node, "sr_list_reports", json!(["core", "x"]));
        assert_eq!(none["message"], "Identifier not found");
    }),
    ("mi status_report:identifiers", || {
        let mut node = node("", "exit;");
        let core = json!({"Group": "core", "Identifiers": ["main"]});
        assert_eq!(ask(&mut node, "sr_list_identifiers", json!(["core"])), core);
        assert_eq!(ask(&mut node, "status_report:identifiers", Json::Null), json!([core]));
    }),
    ("mi evi:subscribe", || {
        let refused = ask(&mut node("", "exit;"), "event_subscribe", json!(["E_X", "udp:h:1"]));
        assert_eq!(refused, json!({"code": 400, "message": "Bad parameter value"}));
        // What succeeds is checked beside the module that carries events out.
    }),
    ("mi evi:list", || {
        let list = ask(&mut node("", "exit;"), "events_list", Json::Null);
        assert_eq!(list["Events"][0], json!({"name": "E_CORE_SR_STATUS_CHANGED", "id": 0}));
    }),
    ("mi evi:subscribers", || {
        let mut node = node("", "exit; }\nevent_route[E_MINE] { exit;");
        let mine = json!({"socket": "route:E_MINE", "expire": "never"});
        let event = json!({"name": "E_MINE", "id": 9, "Subscribers": [mine]});
        let all = ask(&mut node, "subscribers_list", Json::Null);
        assert_eq!(all, json!({"Events": [event]}));
        let one = ask(&mut node, "evi:subscribers", json!(["E_MINE"]));
        assert_eq!(one, json!({"Event": event}));
        let none = ask(&mut node, "evi:subscribers", json!(["E_MINE", "route:E_X"]));
        assert_eq!(none, json!({"code": 404, "message": "Subscriber does not exist"}));
        let none = ask(&mut node, "evi:subscribers", json!(["E_X"]));
        assert_eq!(none, json!({"code": 404, "message": "Event not published"}));
    }),
    ("mi evi:raise", || {
        let line = "xlog(\"L_NOTICE\", \"$param(k) $param(1)\");";
        let mut node = node("", &format!("exit; }}\nevent_route[E_MINE] {{ {line}"));
        let mut raise = |params: Json| {
            let answer = ask(&mut node, "raise_event", params);
            (answer, node.logs().pop().map(|l| l.1).unwrap_or_default())
        };
        let said = |text: &str| (json!("OK"), text.to_owned());
        let failed =
            |code: i32, text: &str| (json!({"code": code, "message": text}), String::new());
        assert_eq!(raise(json!(["E_MINE", ["a", "b"]])), said("<null> a"));
        assert_eq!(raise(json!(["E_MINE", "{\"k\":7}"])), said("7 7"));
        assert_eq!(raise(json!(["E_MINE", {"k": 7}])), failed(400, "No Params"));
        assert_eq!(raise(json!(["E_MINE", "k"])), failed(400, "Bad Params"));
        assert_eq!(raise(json!(["E_OTHER"])), failed(404, "Event not registered"));
        let nobody = raise(json!(["E_CORE_SR_STATUS_CHANGED"]));
        assert_eq!(nobody, failed(480, "Temporarily Unavailable"));
    }),
    ("mi tandem:status", || {
        let status = ask(&mut node("", "exit;"), "tandem:status", Json::Null);
        assert_eq!((&status["node"], &status["ready"]), (&json!(0), &json!("yes")));
        assert_eq!(status["sockets"][0]["socket"], "udp:127.0.0.1:5060");
    }),
];
