//! Values, flags, profiles, routes and variables.

use serde_json::{Value as Json, json};
use tandem_engine::testing::TestNode;

use crate::common::*;

const CREATE: &str = "create_dialog();";

fn log(text: &str) -> String {
    format!("xlog(\"L_NOTICE\", \"{text}\");")
}

/// What the script says when the caller sends an INFO within a call.
fn told(node: &mut TestNode) -> Vec<String> {
    let phones = Phones::talk(node, "c");
    said(node);
    node.udp(CALLER, &phones.within("INFO", 8, ""));
    said(node)
}

pub(crate) fn values() {
    let initial = format!(
        "{CREATE} $dlg_val(a) = \"x\"; $dlg_val(n) = 7; $var(v) = \"stored\"; \
         store_dlg_value(\"s\", $var(v));"
    );
    let within = format!(
        "if ($rm == \"INFO\") {{ fetch_dlg_value(\"s\", $var(got)); {} $dlg_val(a) = null; \
         fetch_dlg_value(\"a\", $var(got)); {} }}",
        log("$dlg_val(a) $dlg_val(n) $(dlg_val(n){{s.len}}) $var(got)").replace("{{s.len}}", ""),
        log("$rc $dlg_val(a)"),
    );
    let mut node = node("", &initial, &within);
    assert_eq!(told(&mut node), ["x 7 7 stored", "-2 <null>"]);
    let context = node.mi("dialog:list_ctx", json!({"callid": "c"}));
    let context = &context["result"]["Dialog"]["context"]["values"];
    assert_eq!(*context, json!([{"s": "stored"}, {"n": 7}]), "newest first");
}

pub(crate) fn flags() {
    let initial = format!("{CREATE} set_dlg_flag(\"one\"); set_dlg_flag(\"two\");");
    let within = format!(
        "if ($rm == \"INFO\") {{ is_dlg_flag_set(\"one\"); $var(a) = $rc; \
         reset_dlg_flag(\"one\"); is_dlg_flag_set(\"one\"); $var(b) = $rc; \
         test_and_set_dlg_flag(\"two\", 1); $var(c) = $rc; test_and_set_dlg_flag(\"two\", 1); \
         $var(d) = $rc; $var(none) = $DLG_flags; $DLG_flags = \"one two\"; {} }}",
        log("$var(a) $var(b) $var(c) $var(d) [$var(none)] [$DLG_flags]"),
    );
    let mut node = node("", &initial, &within);
    assert_eq!(told(&mut node), ["1 -1 1 -1 [] [one two]"]);
    assert_eq!(listed(&mut node)["user_flags"], "one two");
    let many: String = (0..33).map(|n| format!("set_dlg_flag(\"f{n}\");")).collect();
    let error = TestNode::try_new(&script("", &many, ""), MODULES).err().unwrap();
    assert!(error.contains("33 dialog flags"), "{error}");
}

pub(crate) fn profiles() {
    let params = format!(
        "{}{}",
        set("profiles_with_value", "\"caller/b; gw\""),
        set("profiles_no_value", "\"inbound\"")
    );
    let initial = format!(
        "{CREATE} set_dlg_profile(\"caller/b\", \"$fU\"); set_dlg_profile(\"inbound\"); \
         set_dlg_profile(\"gw\", \"a\"); set_dlg_profile(\"gw\", \"b\"); \
         set_dlg_profile(\"caller\", \"x\"); $var(unknown) = $rc; {}",
        log("$var(unknown)")
    );
    let within = format!(
        "if ($rm == \"INFO\") {{ is_in_profile(\"caller/b\", \"alice\"); $var(a) = $rc; \
         is_in_profile(\"caller/b\", \"bob\"); $var(b) = $rc; get_profile_size(\"gw\",, $var(c)); \
         get_profile_size(\"gw\", \"a\", $var(d)); set_dlg_profile(\"gw\", \"c\", 1); \
         get_profile_size(\"gw\",, $var(e)); unset_dlg_profile(\"gw\", \"c\"); \
         unset_dlg_profile(\"gw\", \"c\"); $var(f) = $rc; get_profile_size(\"gw\",, $var(g)); {} }}",
        log("$var(a) $var(b) $var(c) $var(d) $var(e) $var(f) $var(g)"),
    );
    let mut node = node(&params, &initial, &within);
    assert_eq!(told(&mut node), ["1 -1 2 1 1 -1 0"]);
    let phones = Phones::talk(&mut node, "c2");
    let lines = said(&mut node);
    assert!(lines.iter().any(|line| line == "-1"), "the marker is a part of the name: {lines:?}");
    let size = |node: &mut TestNode| {
        let answer = node.mi("dialog:profile_get_size", json!(["inbound"]));
        answer["result"]["Profile"]["count"].clone()
    };
    assert_eq!(size(&mut node), 2);
    node.udp(CALLER, &phones.within("BYE", 9, ""));
    assert_eq!(size(&mut node), 1);
}

pub(crate) fn info() {
    let initial = format!(
        "if ($ci == \"ask\") {{ $var(want) = \"blue\"; \
         get_dialog_info(\"name\", $avp(names), \"color\", $var(want), $var(n)); {} \
         get_dialog_vals($avp(k), $avp(v), \"c1\"); {} \
         get_dialogs_by_val(\"color\", $var(want), $avp(json), $var(m)); \
         get_dialogs_by_profile(\"p\", \"x\", $avp(js), $var(o)); {} exit; }}\n\
         {CREATE} $dlg_val(color) = \"blue\"; $dlg_val(name) = $ci; set_dlg_profile(\"p\", \"x\");",
        log("$rc $var(n) $avp(names) $(avp(names)[1])"),
        log("$rc $avp(k)=$avp(v) $(avp(k)[1])=$(avp(v)[1])"),
        log("$var(m) $var(o) $(avp(json){s.len}) $avp(js)"),
    );
    let mut node = node(&set("profiles_with_value", "\"p\""), &initial, "");
    Phones::talk(&mut node, "c1");
    Phones::talk(&mut node, "c2");
    said(&mut node);
    node.udp(CALLER, &Phones::request("ask"));
    let lines = said(&mut node);
    assert!(lines[0] == "1 2 c1 c2" || lines[0] == "1 2 c2 c1", "{lines:?}");
    assert_eq!(lines[1], "1 color=blue name=c1");
    let (figures, text) = lines[2].split_once('{').unwrap();
    assert!(figures.starts_with("2 2 "));
    let entry: Json = serde_json::from_str(&format!("{{{text}")).unwrap();
    assert_eq!(entry["context"]["profiles"], json!([{"p": "x"}]));
}

pub(crate) fn tag() {
    let initial = format!("{CREATE} set_dlg_sharing_tag(\"service\"); {}", log("$rc"));
    let mut node = node("", &initial, "");
    Phones::talk(&mut node, "c");
    assert!(said(&mut node).iter().any(|line| line == "1"));
    let context = node.mi("dialog:list_ctx", json!({"callid": "c"}));
    let values = &context["result"]["Dialog"]["context"]["values"];
    assert_eq!(*values, json!([{"dlgX_shtag": "service"}]));
}

pub(crate) fn unloaded() {
    let within =
        format!("unload_dialog_ctx(); {} unload_dialog_ctx(); {}", log("$rc $DLG_did"), log("$rc"));
    let mut node = node("", CREATE, &format!("if ($rm == \"INFO\") {{ {within} }}"));
    assert_eq!(told(&mut node), ["1 <null>", "-1"]);
}

pub(crate) fn routes() {
    let lines = format!(
        "{}route[answered] {{ {} }}\nroute[late] {{ {} if ($dlg_val(more) == null) \
         {{ $dlg_val(more) = 1; $DLG_timeout = 5; }} }}\nroute[over] {{ {} }}\n",
        set("default_timeout", "10"),
        log("answered $DLG_status $rm $dlg_val(x)"),
        log("late $DLG_status"),
        log("over $DLG_status $DLG_end_reason"),
    );
    let initial = format!(
        "{CREATE} $dlg_val(x) = \"y\"; dlg_on_answer(\"answered\"); dlg_on_timeout(\"late\"); \
         dlg_on_hangup(\"over\");"
    );
    let mut node = node(&lines, &initial, "");
    Phones::talk(&mut node, "c");
    assert_eq!(said(&mut node), ["answered 3 INVITE y"]);
    node.advance_ms(12_000);
    assert_eq!((said(&mut node), state(&mut node)), (vec!["late 4".to_owned()], 4));
    node.advance_ms(6_000);
    assert_eq!(said(&mut node), ["late 4", "over 5 Lifetime Timeout"]);
    let wrong = script("", "dlg_on_answer(\"nowhere\");", "");
    assert!(TestNode::try_new(&wrong, MODULES).is_err());
}

pub(crate) fn variables() {
    let within = format!(
        "if ($rm == \"INFO\") {{ {} }} if ($rm == \"BYE\") {{ {} }}",
        log("$DLG_count $DLG_lifetime $(DLG_json{s.len}) $DLG_ctx_json"),
        log("$DLG_count $DLG_end_reason"),
    );
    let mut node = node("", CREATE, &within);
    let phones = Phones::talk(&mut node, "c");
    node.advance_ms(3_000);
    said(&mut node);
    node.udp(CALLER, &phones.within("INFO", 8, ""));
    let line = said(&mut node).remove(0);
    let (figures, json) = line.split_once('{').unwrap();
    assert!(figures.starts_with("1 3 "), "{line}");
    let entry: Json = serde_json::from_str(&format!("{{{json}")).unwrap();
    assert!(entry["callid"] == "c" && entry.get("context").is_some());
    node.udp(CALLEE, &phones.back("BYE", 1, ""));
    assert_eq!(said(&mut node), ["0 Upstream BYE"]);
}

pub(crate) fn timeout() {
    let initial = format!("$DLG_timeout = 60; {CREATE} {}", log("$DLG_timeout"));
    let within = format!("if ($rm == \"INFO\") {{ $DLG_timeout = 5; {} }}", log("$DLG_timeout"));
    let mut node = node("", &initial, &within);
    assert_eq!(told(&mut node), ["5"]);
    node.advance_ms(7_000);
    assert_eq!(state(&mut node), 5);
    assert_eq!(stat(&mut node, "expired_dialogs"), 1);
}

pub(crate) fn deletion() {
    let initial = format!("{CREATE} $DLG_del_delay = 60; {}", log("$DLG_del_delay"));
    let mut node = node("", &initial, "");
    let phones = Phones::talk(&mut node, "c");
    assert!(said(&mut node).contains(&"60".to_owned()));
    node.udp(CALLER, &phones.within("BYE", 8, ""));
    node.advance_ms(50_000);
    assert_eq!(state(&mut node), 5);
    node.advance_ms(12_000);
    assert_eq!(state(&mut node), 0);
}

fn counted(more: &str) -> TestNode {
    let params = format!(
        "loadmodule \"cachedb_local.so\"\n{}{}{}{more}",
        set("profiles_with_value", "\"gw/s\""),
        set("profiles_no_value", "\"all/s\""),
        set("cachedb_url", "\"local://\""),
    );
    let join = format!("{CREATE} set_dlg_profile(\"gw/s\", \"a\"); set_dlg_profile(\"all/s\");");
    node(&params, &join, "")
}

fn kept(node: &mut TestNode, key: &str) -> Json {
    node.mi("cache_fetch", json!(["local", key]))["result"]["value"].clone()
}

pub(crate) fn shared() {
    let own = format!(
        "{}{}{}",
        set("profile_value_prefix", "\"v_\""),
        set("profile_no_value_prefix", "\"n_\""),
        set("profile_size_prefix", "\"s_\""),
    );
    for (more, value, plain, size) in
        [("", "dlg_val_", "dlg_noval_", "dlg_size_"), (&own, "v_", "n_", "s_")]
    {
        let mut node = counted(more);
        let phones = Phones::talk(&mut node, "c1");
        Phones::talk(&mut node, "c2");
        let keys = [format!("{value}gw_a"), format!("{plain}all"), format!("{size}gw")];
        for key in &keys {
            assert_eq!(kept(&mut node, key), "2", "{key}");
        }
        // Another node has one more.
        node.mi("cache_store", json!(["local", keys[0], "3"]));
        let count = node.mi("dialog:profile_get_size", json!(["gw/s", "a"]));
        assert_eq!(count["result"]["Profile"]["count"], 3, "{count}");
        assert_eq!(count["result"]["Profile"]["shared"], "yes");
        node.udp(CALLER, &phones.within("BYE", 8, ""));
        assert_eq!(kept(&mut node, &keys[1]), "1");
    }
}

pub(crate) fn shared_ends() {
    let mut node = counted(&set("profile_timeout", "20"));
    Phones::talk(&mut node, "c1");
    assert_eq!(kept(&mut node, "dlg_size_gw"), "1");
    node.advance_ms(25_000);
    assert_ne!(kept(&mut node, "dlg_size_gw"), "1");
}
