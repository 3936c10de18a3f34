//! Answers to management requests, word for word as the field gives them.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use bytes::Bytes;
use serde_json::Value as Json;
use tandem_engine::catalogue::Modules;
use tandem_engine::core::CORE;
use tandem_engine::effect::Input;
use tandem_engine::testing::TestNode;

static MODULES: Modules = &[&CORE, &tandem_proto_udp::MODULE];

/// Requests beside the answers that were recorded; both without their envelope.
const RECORDED: &[(&str, &str)] = &[
    (r#""method":"xlog_level""#, r#""result":{"xLog Level":3}"#),
    (r#""method":"core:xlog_level","params":["3"]"#, r#""result":{"New xLog level":3}"#),
    (r#""method":"log_level","params":[3]"#, r#""result":{"New global log level":3}"#),
    (
        r#""method":"which","params":["clusterer"]"#,
        r#""error":{"code":404,"message":"unknown MI command"}"#,
    ),
    (r#""method":"get_statistics","params":{"statistics":["nosuch"]}"#, r#""result":{}"#),
    (
        r#""method":"statistics:get","params":["all"]"#,
        r#""error":{"code":-32602,"message":"Invalid params","data":"Bad type for parameter 'statistics'"}"#,
    ),
    (
        r#""method":"statistics:list","params":[["rcv_requests"]]"#,
        r#""result":{"core:rcv_requests":"incremental"}"#,
    ),
    (
        r#""method":"statistics:list","params":[["timestamp"]]"#,
        r#""result":{"core:timestamp":"non-incremental"}"#,
    ),
    (
        r#""method":"statistics:reset","params":[["core:rcv_requests"]]"#,
        r#""error":{"code":404,"message":"Statistics Not Found"}"#,
    ),
    (r#""method":"statistics:reset","params":[["rcv_requests"]]"#, r#""result":"OK""#),
    (r#""method":"statistics:reset","params":[["timestamp"]]"#, r#""result":"OK""#),
    (r#""method":"blacklists:list""#, r#""result":{"Lists":[]}"#),
    (
        r#""method":"mem:shm_check""#,
        r#""error":{"code":-32000,"message":"Server error","data":"Command handler returned null"}"#,
    ),
    (
        r#""method":"status_report:get","params":["core"]"#,
        r#""result":{"Readiness":true,"Status":1,"Details":"running"}"#,
    ),
    (
        r#""method":"sr_get_status""#,
        r#""error":{"code":-32602,"message":"Invalid params","data":"Too few or too many parameters"}"#,
    ),
    (
        r#""method":"event_subscribe""#,
        r#""error":{"code":-32602,"message":"Invalid params","data":"Too few or too many parameters"}"#,
    ),
    (
        r#""method":"evi:subscribe","params":{"bad":1,"event":"x"}"#,
        r#""error":{"code":-32602,"message":"Invalid params","data":"Named parameters do not match"}"#,
    ),
    (
        r#""method":"evi:raise","params":["E_TEST"]"#,
        r#""error":{"code":404,"message":"Event not registered"}"#,
    ),
    (
        r#""method":"evi:raise","params":["E_CORE_SR_STATUS_CHANGED",{"a":1}]"#,
        r#""error":{"code":400,"message":"No Params"}"#,
    ),
    (r#""method":"list","params":[]"#, AMBIGUOUS),
];

/// The modules of the recorded node had more of them.
const AMBIGUOUS: &str = r#""error":{"code":-32001,"message":"Method ambiguous","data":"supported names: statistics:list, "#;

fn answer(node: &mut TestNode, request: &str) -> String {
    let input = Input::Mi { request: 7, text: Bytes::from(request.to_owned()) };
    node.step(input);
    node.mi_text(7).unwrap_or_default()
}

#[test]
fn answers_are_those_of_the_field() {
    let script = "xlog_level=3\nsocket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
        route { exit; }";
    let mut node = TestNode::new(script, MODULES);
    for (request, expected) in RECORDED {
        let text = answer(&mut node, &format!(r#"{{"jsonrpc":"2.0","id":5,{request}}}"#));
        let begin = format!(r#"{{"jsonrpc":"2.0",{expected}"#);
        assert!(text.starts_with(&begin), "{request}\n{text}\n{begin}");
        assert!(text.ends_with(r#","id":5}"#), "{text}");
    }
}

#[test]
fn what_is_no_request_gets_the_code_of_the_standard() {
    let script = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\nroute { exit; }";
    let mut node = TestNode::new(script, MODULES);
    let mut code = |text: &str| -> Json {
        let text = answer(&mut node, text);
        serde_json::from_str::<Json>(&text).map_or(Json::Null, |json| json["error"]["code"].clone())
    };
    assert_eq!(code("no json"), -32700);
    assert_eq!(code(r#"[{"jsonrpc":"2.0","id":1,"method":"ps"}]"#), -32600);
    assert_eq!(code(r#"{"jsonrpc":"2.0","id":1,"method":"nosuch"}"#), -32601);
    assert_eq!(code(r#"{"jsonrpc":"2.0","method":"ps"}"#), Json::Null, "a notification");
}
